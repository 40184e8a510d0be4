"""Changes of an image and their undoing, and what they cost a method."""

import math
from dataclasses import replace

import numpy as np
import pytest
from judging import view_of
from scipy import ndimage

from s2s.evaluation.cases import Case, Simulated, Suite, cases_of
from s2s.evaluation.robustness import BORDER, SHIFT, changed_images, resized
from s2s.evaluation.run import judge
from s2s.metrics import robustness
from s2s.metrics.judged import CHANGED, IMAGE, PROBE, Judged
from s2s.metrics.robustness import OTHER_PROBE, TILE
from usim.errors import DataError

SIZE = 128
AXIS = np.arange(SIZE) * 0.2e-3
NAMES = [
    "gain -6 dB", "gain +6 dB", "gamma 0.7", "gamma 1.5", "range 45 dB", "range 75 dB", "pixels x 0.7",
    "pixels x 1.5", TILE,
]  # fmt: skip


def smooth(seed, low=-34.0, high=-22.0):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIZE, SIZE)), 8)
    return low + (high - low) * (values - values.min()) / np.ptp(values)


def speckled(truth, seed):
    """The truth with correlated log-compressed speckle."""
    random = np.random.default_rng(seed)
    real, imaginary = (ndimage.gaussian_filter(random.normal(size=truth.shape), 1.2) for _ in range(2))
    power = real**2 + imaginary**2
    return truth + 10 * np.log10(power / power.mean()) + 2.507


@pytest.fixture(scope="module")
def scene():
    """The view of a grey scene, and its image before it is clipped."""
    truth = smooth(0)
    image = speckled(truth, 1)
    labels = np.zeros(truth.shape, int)
    return view_of(truth, labels, ("tissue",), AXIS, AXIS, noisy_db=np.clip(image, -60, 0)), image


def lost(scene, denoise, look=lambda task: True):
    """The group's scores of a method."""
    view, image = scene
    changed = [one for one in changed_images(image, view) if look(one)]
    images = {IMAGE: denoise(view.noisy_db)} | {CHANGED + one.name: one.undo(denoise(one.given)) for one in changed}
    return robustness.measure(Judged(images, {IMAGE: view} | {CHANGED + one.name: one.view for one in changed}))


def blur(image):
    return ndimage.gaussian_filter(image, 3)


def test_undoing_brings_back_a_grey_image(scene):
    """Within the scale every change is reversed; the tile's new borders are lost, and say so."""
    view, _ = scene
    names = []
    for one in changed_images(view.truth_db, view):
        names.append(one.name)
        assert one.given.dtype == np.float32
        assert one.given.min() >= -60
        assert one.given.max() <= 0
        back = one.undo(one.given)
        assert back.shape == view.truth_db.shape
        inside = one.view.insonified
        np.testing.assert_allclose(back[inside], view.truth_db[inside], atol=0.05)
        assert inside.mean() > (0.5 if one.name == TILE else 0.9)
        assert one.view.truth_db is view.truth_db
    assert names == NAMES


def test_each_change_is_what_its_name_says(scene):
    view, image = scene
    given = {one.name: one.given for one in changed_images(image, view)}
    np.testing.assert_allclose(given["gain +6 dB"], np.clip(image + 6, -60, 0), atol=1e-5)
    np.testing.assert_allclose(given["gamma 1.5"], 60 * ((1 + view.noisy_db / 60) ** 1.5 - 1), atol=1e-4)
    np.testing.assert_allclose(given["range 45 dB"], 60 / 45 * np.clip(image, -45, 0), atol=1e-4)
    np.testing.assert_allclose(given["range 75 dB"], 60 / 75 * np.clip(image, -75, 0), atol=1e-4)
    assert given["pixels x 0.7"].shape == (90, 90)
    assert given["pixels x 1.5"].shape == (192, 192)
    np.testing.assert_allclose(given[TILE], view.noisy_db[SHIFT:, SHIFT:], atol=1e-5)
    # Speckle is as strong as before, and its cells have another number of pixels.
    for name in ("pixels x 0.7", "pixels x 1.5"):
        assert np.std(given[name]) == pytest.approx(np.std(view.noisy_db), rel=0.05)


def test_what_a_change_hides_is_not_compared():
    truth = np.repeat(np.linspace(-58, -2, SIZE)[:, None], SIZE, axis=1)
    view = view_of(truth, np.zeros(truth.shape, int), ("tissue",), AXIS, AXIS)
    areas = {one.name: one.view.insonified for one in changed_images(truth, view)}
    for name, low, high in (("gain -6 dB", -44, -2), ("gain +6 dB", -58, -16), ("range 45 dB", -35, -2)):
        held = truth[areas[name]]
        assert (held.min(), held.max()) == pytest.approx((low, high), abs=1.0)
    assert not areas[TILE][: SHIFT + BORDER].any()
    assert not areas[TILE][:, : SHIFT + BORDER].any()
    assert areas[TILE][SHIFT + BORDER :, SHIFT + BORDER :].all()


def test_no_change_is_charged_to_the_untouched_image(scene):
    scores = lost(scene, np.copy)
    assert set(scores) == {f"robust/{name}" for name in NAMES} | {"robust", "robust_psnr", "tile_db"}
    for name in NAMES:
        # Resampling rounds off the nulls of speckle.
        assert abs(scores[f"robust/{name}"]) < (0.3 if "pixels" in name else 0.02)
    assert scores["tile_db"] < 1e-4
    assert scores["robust"] > -0.3


def test_a_linear_filter_knows_no_gain_and_no_range_but_sizes(scene):
    scores = lost(scene, blur)
    for name in ("gain -6 dB", "gain +6 dB", "range 75 dB"):
        assert scores[f"robust/{name}"] == pytest.approx(0, abs=0.03)
    assert scores["robust/pixels x 1.5"] < -0.5 < 0.1 < scores["robust/pixels x 0.7"]
    assert scores["robust"] == scores["robust/pixels x 1.5"]
    assert scores["tile_db"] < 1e-3


def test_who_learnt_one_gain_or_one_place_by_heart_loses(scene):
    """A method that denoises at the mean it was made for, and one that knows where it is in the image."""
    view, _ = scene
    mean = view.noisy_db.mean()

    def one_gain(image):
        return blur(image) if abs(image.mean() - mean) < 1.5 else image

    scores = lost(scene, one_gain)
    assert scores["robust/gain +6 dB"] < -3
    assert scores["robust/gain -6 dB"] < -3
    assert scores["robust"] <= scores["robust/gain +6 dB"]
    assert scores[f"robust/{TILE}"] == pytest.approx(0, abs=0.01)

    def blocks(image):
        """Means of blocks of 16 pixels from the corner on."""
        high, wide = (-(-side // 16) * 16 for side in image.shape)
        padded = np.pad(image, ((0, high - image.shape[0]), (0, wide - image.shape[1])), mode="edge")
        means = padded.reshape(high // 16, 16, wide // 16, 16).mean(axis=(1, 3))
        return np.kron(means, np.ones((16, 16)))[: image.shape[0], : image.shape[1]]

    assert lost(scene, blocks)["tile_db"] > 0.3


def test_a_display_curve_costs_nothing(scene):
    """A darker picture is as robust as the same picture before."""
    plain = lost(scene, blur)
    dark = lost(scene, lambda image: 60 * (np.clip(1 + blur(image) / 60, 0, 1) ** 2 - 1))
    for name in NAMES:
        if name != TILE:
            assert dark[f"robust/{name}"] == pytest.approx(plain[f"robust/{name}"], abs=0.02)


def test_the_worst_change_of_a_bad_image_is_still_bad(scene):
    """Who has nothing to lose is robust; the PSNR after the worst change says what that is worth."""
    bad, good = lost(scene, np.copy), lost(scene, blur)
    assert bad["robust"] > good["robust"]
    assert bad["robust_psnr"] < good["robust_psnr"] - 2


def test_the_truth_loses_nothing(scene):
    view, image = scene
    changed = list(changed_images(image, view))
    images = {IMAGE: view.truth_db} | {CHANGED + one.name: view.truth_db for one in changed}
    views = {IMAGE: view} | {CHANGED + one.name: one.view for one in changed}
    scores = robustness.measure(Judged(images, views))
    assert {scores[f"robust/{name}"] for name in NAMES} == {0.0}
    assert scores["robust_psnr"] == math.inf
    assert scores["robust"] == scores["tile_db"] == 0.0


def test_nothing_changed_nothing_said(scene):
    view, image = scene
    assert robustness.measure(Judged({IMAGE: image}, {IMAGE: view})) == {}
    dark = replace(view, insonified=np.zeros(image.shape, bool))
    role = CHANGED + NAMES[0]
    assert math.isnan(
        robustness.measure(Judged({IMAGE: image, role: image}, {IMAGE: view, role: dark}))["robust/" + NAMES[0]]
    )


def test_who_fails_at_a_change_has_no_worst_one():
    """A refusal is no way round the change that would have cost most."""
    case = next(iter(cases_of(Simulated((Suite("evaluation/edges", changed=1),), 1))))

    def picky(image):
        if image.shape != case.frames[IMAGE].bmode.shape:
            raise DataError("not my size")
        return blur(image)

    found = judge({"picky": picky}, case, False, {})
    scores = found.rows[0].scores
    assert {failure.role for failure in found.failures} == {CHANGED + name for name in NAMES[-3:]}
    assert set(scores) & {f"robust/{name}" for name in NAMES} == {f"robust/{name}" for name in NAMES[:-3]}
    assert math.isnan(scores["robust"])
    assert math.isnan(scores["robust_psnr"])


def test_another_probe_is_compared_with_its_own_truth(scene):
    view, _ = scene
    other = smooth(5)
    seen = replace(view, truth_db=other)
    worse = other + np.random.default_rng(0).normal(0, 4, other.shape)
    better = view.truth_db + np.random.default_rng(0).normal(0, 2, other.shape)
    scores = robustness.measure(Judged({IMAGE: better, PROBE: worse}, {IMAGE: view, PROBE: seen}))
    assert set(scores) == {f"robust/{OTHER_PROBE}"}
    assert -6 < scores[f"robust/{OTHER_PROBE}"] < -1


@pytest.mark.parametrize("shape", [(179, 90), (40, 31), (256, 256)])
def test_resizing_keeps_corners_and_planes(shape):
    image = np.add.outer(np.linspace(-50, -10, 128), np.linspace(0, 5, 60))
    there = resized(image, shape)
    assert there.shape == shape
    np.testing.assert_allclose(
        there, np.add.outer(np.linspace(-50, -10, shape[0]), np.linspace(0, 5, shape[1])), atol=0.05
    )


def test_only_the_first_scenes_of_a_suite_are_changed():
    suite = Suite("evaluation/edges", changed=1, looks=1)
    first, second = cases_of(Simulated((suite,), 2))
    roles = [task.role for task in first.tasks()]
    assert roles == [IMAGE, *(CHANGED + name for name in NAMES), "look 1"]
    assert [task.role for task in second.tasks()] == [IMAGE, "look 1"]
    # The frame is not clipped: more gain brings up what was black.
    case = Case("edges", 0, {IMAGE: first.frames[IMAGE]}, changed=True)
    found = judge({"half": lambda image: image / 2}, case, False, {})
    assert abs(found.rows[0].scores["robust/gain +6 dB"]) < 0.01
    assert not found.failures
