"""The toy scene: its speckle is what theory says, and its clean image is the mean of its looks in dB."""

import numpy as np
import pytest

from s2s.domain import SPECKLE_DB
from s2s.toy import toy_clean, toy_looks, toy_scene


@pytest.fixture(scope="module")
def flat():
    """Speckle of a uniform scene, in dB, without its mean."""
    generator = np.random.default_rng(3)
    images = np.stack(toy_looks(np.zeros((256, 256)), generator, looks=4, clip=False))
    return images - images.mean()


def autocorrelation(images, axis, lag):
    images = np.moveaxis(images, axis, -1)
    return np.mean(images[..., lag:] * images[..., :-lag]) / np.mean(images**2)


def test_speckle_is_fully_developed(flat):
    assert flat.std() == pytest.approx(SPECKLE_DB, abs=0.1)
    skewness = np.mean(flat**3) / flat.std() ** 3
    assert skewness == pytest.approx(-1.14, abs=0.1)  # of the logarithm of an exponential variable


@pytest.mark.parametrize(
    ("axis", "expected"), [(1, (0.55, 0.16, 0.03)), (2, (0.79, 0.50, 0.27, 0.12, 0.04))], ids=["axial", "lateral"]
)
def test_grains_have_the_width_of_the_cell(flat, axis, expected):
    found = [autocorrelation(flat, axis, lag) for lag in range(1, len(expected) + 1)]
    assert found == pytest.approx(expected, abs=0.025)


def test_iid_speckle_is_white():
    (image,) = toy_looks(np.zeros((256, 256)), np.random.default_rng(1), iid=True, clip=False)
    image = image - image.mean()
    assert image.std() == pytest.approx(SPECKLE_DB, abs=0.1)
    assert [autocorrelation(image, axis, 1) for axis in (0, 1)] == pytest.approx([0.0, 0.0], abs=0.02)


@pytest.mark.parametrize("iid", [False, True])
def test_the_clean_image_is_the_mean_of_many_looks(iid):
    generator = np.random.default_rng(4)
    scene = toy_scene(generator, (64, 48))
    looks = 400
    error = np.mean(toy_looks(scene, generator, looks, iid=iid, clip=False), axis=0) - toy_clean(
        scene, iid=iid, clip=False
    )
    inner = error[8:-8, 8:-8]  # reflected borders add what belongs together, so that the closed form ends there
    assert abs(inner.mean()) < 0.1
    assert np.sqrt(np.mean(inner**2)) == pytest.approx(SPECKLE_DB / np.sqrt(looks), rel=0.15)


def test_scenes_are_reproducible_of_any_shape_and_within_their_range():
    first, again = (toy_scene(np.random.default_rng(9), (33, 70)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == (33, 70)
    assert -25.0 <= first.min() <= first.max() <= 15.0


def test_clipping_is_that_of_a_b_mode():
    generator = np.random.default_rng(2)
    scene = toy_scene(generator)
    (image,) = toy_looks(scene, generator)
    assert image.min() >= -60.0
    assert image.max() <= 0.0
    assert toy_clean(scene).max() <= 0.0


def test_noisy_images_score_what_was_measured_when_the_scene_was_made():
    scores = []
    for seed in range(12):
        generator = np.random.default_rng(seed)
        scene = toy_scene(generator)
        (noisy,) = toy_looks(scene, generator)
        scores.append(-10.0 * np.log10(np.mean((noisy - toy_clean(scene)) ** 2 / 60.0**2)))
    assert np.mean(scores) == pytest.approx(20.6, abs=0.15)
