"""The classical filters: what their formulas promise, what all of them must survive, what they gain on toy scenes."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.restoration import denoise_nl_means

from s2s.domain import LOG_BIAS_DB, from_scale, to_scale
from s2s.methods import METHODS, make, method_class
from s2s.methods.base import SPECKLE, Filter
from s2s.methods.intensity import local_statistics
from s2s.methods.median import MEDIAN_BIAS_DB
from s2s.methods.obnlm import Obnlm
from s2s.methods.srad import diffuse
from s2s.toy import toy_clean, toy_looks, toy_scene
from usim.errors import ConfigError

INTENSITY = ("lee", "kuan", "frost", "srad")
FILTERS = ("gaussian", "median", *INTENSITY, "nlm", "obnlm")
#: What one comes out as when nothing is there to be averaged, in dB.
BIAS = {"median": -MEDIAN_BIAS_DB, **dict.fromkeys(INTENSITY, -LOG_BIAS_DB)}


def denoise(name, decibel, preset="default", **settings):
    """Images (H, W) or (B, H, W) in dB through a filter, in double precision."""
    method = make(name, preset, **settings)
    values = torch.from_numpy(to_scale(np.atleast_3d(decibel.T).T.copy(), method.domain))
    return from_scale(method.denoise(values[:, None])[:, 0].numpy(), method.domain).reshape(decibel.shape)


def speckle(shape=(48, 56), seed=0, looks=1, level=-20.0):
    """Noisy images of a uniform scene in dB, not clipped."""
    images = toy_looks(np.full(shape, level + 15.0), np.random.default_rng(seed), looks, clip=False)
    return images[0] if looks == 1 else np.stack(images)


def toy(seed):
    generator = np.random.default_rng(seed)
    scene = toy_scene(generator)
    return toy_looks(scene, generator)[0], toy_clean(scene)


every = pytest.mark.parametrize("name", FILTERS)


def test_these_are_the_filters_of_the_registry():
    """And bm3d, which has tests of its own."""
    assert {name for name in METHODS if issubclass(method_class(name), Filter)} == {*FILTERS, "bm3d"}


@every
def test_every_preset_builds_and_has_no_weights(name):
    for preset in method_class(name).PRESETS:
        method = make(name, preset)
        assert not list(method.parameters())
        assert method.needs == ()
        assert method.settings.keys() >= method.PRESETS[preset].keys()


@pytest.mark.parametrize(
    ("name", "setting", "value", "allowed"),
    [
        ("gaussian", "sigma", 0.0, "from 0.1 to 100 pixels"),
        ("gaussian", "sigma", float("nan"), "from 0.1"),
        ("gaussian", "sigma", "wide", "from 0.1"),
        ("median", "window", 8, "odd number from 3 to 101"),
        ("median", "window", 9.0, "odd number"),
        ("lee", "window", True, "odd number"),
        ("lee", "looks", "few", "or auto"),
        ("kuan", "looks", 0, "from 0.1 to 1000"),
        ("frost", "damping", -1.0, "from 0 to 100"),
        ("srad", "iterations", 0, "whole number from 1"),
        ("srad", "step", 1.5, "from 0.001 to 1"),
        ("srad", "q0", "paper", "or auto or decay"),
        ("nlm", "distance", 0.5, "whole number from 1 to 50"),
        ("nlm", "h", 0.0, "from 0.01"),
        ("obnlm", "block", 1, "odd number from 3"),
        ("obnlm", "offset", 0.0, "from 0.001"),
    ],
)
def test_a_bad_setting_is_refused_with_what_is_allowed(name, setting, value, allowed):
    with pytest.raises(ConfigError, match=rf"{name}: {setting} is .*{allowed}"):
        make(name, **{setting: value})


@every
@pytest.mark.parametrize("shape", [(8, 8), (9, 17), (31, 24)])
def test_any_size_is_kept_and_images_of_a_batch_do_not_meet(name, shape):
    images = speckle(shape, looks=2)
    clean = denoise(name, images)
    assert clean.shape == images.shape
    assert np.isfinite(clean).all()
    assert np.array_equal(denoise(name, images[1]), clean[1])


@every
def test_single_precision_in_single_precision_out(name):
    method = make(name)
    y = torch.from_numpy(to_scale(speckle((16, 16)), method.domain))[None, None].float()
    assert method.denoise(y).dtype == torch.float32


@every
def test_a_constant_image_stays_up_to_the_bias_of_speckle(name):
    for level in (-45.0, -12.0):
        assert denoise(name, np.full((17, 20), level)) == pytest.approx(level + BIAS.get(name, 0.0), abs=1e-6)


@every
def test_speckle_comes_out_at_the_mean_of_its_decibels(name):
    image = speckle((96, 96), seed=5)
    clean = denoise(name, image)
    assert clean.std() < 0.5 * image.std()
    assert clean.mean() == pytest.approx(image.mean(), abs=0.45)


@pytest.mark.parametrize("name", [name for name in FILTERS if name != "obnlm"])
def test_gain_is_only_gain(name):
    image, _ = toy(1)
    image = image[:40, :40]
    assert denoise(name, image + 6.0) == pytest.approx(denoise(name, image) + 6.0, abs=1e-3)


@pytest.mark.parametrize("name", [name for name in FILTERS if name not in ("srad", "nlm")])
def test_left_and_right_are_alike(name):
    image = speckle((24, 31))
    assert denoise(name, image[:, ::-1]) == pytest.approx(denoise(name, image)[:, ::-1], abs=1e-6)


@every
@pytest.mark.parametrize("black", [-60.0, -400.0])
def test_black_pixels_do_no_harm(name, black):
    image = speckle((32, 32))
    image[5:9, 10:20] = image[20, 3] = black
    image[:, 28:] = black
    clean = denoise(name, image)
    assert np.isfinite(clean).all()
    assert clean.max() < image.max() + 1e-6
    assert np.isfinite(denoise(name, np.full((12, 12), black))).all()


@every
def test_nothing_beyond_the_halo_is_seen(name):
    method = make(name, looks=1.0) if name in ("lee", "kuan") else make(name)
    if name == "srad":
        assert method.halo is None
        return
    image = to_scale(speckle((24, 90)), method.domain)
    other = image.copy()
    other[:, -1] *= 0.7
    changed = np.abs(method.filter(other) - method.filter(image)).max(axis=0) > 1e-9
    assert changed[89]
    assert not changed[: 89 - method.halo].any()


def test_looks_that_are_read_off_the_image_depend_on_all_of_it():
    assert make("lee").halo is None
    assert make("kuan", looks=2).halo == 5


@pytest.mark.parametrize("name", [name for name in FILTERS if name != "gaussian"])
def test_an_edge_stays_steeper_than_under_a_blur_that_is_as_smooth(name):
    scene = np.full((96, 96), -8.0)
    scene[:, 48:] = 8.0
    images = np.stack(toy_looks(scene, np.random.default_rng(5), looks=3, clip=False))

    def roughness_and_rise(clean):
        profile = clean.mean(axis=(0, 1))
        return clean[:, :, 4:32].std(), np.max(profile[3:] - profile[:-3])

    roughness, rise = roughness_and_rise(denoise(name, images))
    blurs = np.array([roughness_and_rise(denoise("gaussian", images, sigma=s)) for s in (6, 5, 4, 3, 2)])
    assert rise > 1.1 * np.interp(roughness, *blurs.T)


@pytest.mark.parametrize("name", ["lee", "kuan"])
def test_white_speckle_of_known_looks_becomes_its_local_mean(name):
    intensity = np.random.default_rng(0).gamma(1.0, size=(200, 200))
    method = make(name, window=9, looks=1.0)
    mean, _ = local_statistics(intensity, 9)
    clean = method.mean_intensity(intensity)
    assert np.std(clean - mean) < 0.25 * np.std(intensity - mean)
    assert np.all(method.weight(np.array([0.0, 0.2, 1.0]), 1.0) == 0.0)


def test_huge_contrast_is_left_alone_by_lee_and_halved_by_kuan():
    point = np.full((21, 21), 1e-6)
    point[10, 10] = 1.0
    lee, kuan = (make(name, window=9, looks=1.0).mean_intensity(point)[10, 10] for name in ("lee", "kuan"))
    assert lee == pytest.approx(1.0, abs=0.02)
    assert kuan == pytest.approx(0.5, abs=0.02)


def test_looks_are_read_off_the_speckle_and_not_off_black_borders():
    image = speckle((128, 128))
    framed = np.full((128, 768), -150.0)
    framed[:, 320:448] = image
    alone, inside = (clean[:, 20:108].std() for clean in (denoise("lee", image), denoise("lee", framed)[:, 320:448]))
    assert inside == pytest.approx(alone, rel=0.1)
    assert alone < 0.35 * image.std()


def test_frost_is_its_formula_and_without_damping_the_mean():
    intensity = np.random.default_rng(1).gamma(1.0, size=(15, 15))
    method = make("frost", window=7, damping=0.4)
    _, variation = local_statistics(intensity, 7)
    down, right = np.mgrid[-3:4, -3:4]
    kernel = np.exp(-0.4 * variation[7, 8] * np.hypot(down, right))
    expected = np.sum(kernel * intensity[4:11, 5:12]) / kernel.sum()
    assert method.mean_intensity(intensity)[7, 8] == pytest.approx(expected)
    plain = make("frost", window=7, damping=0.0).mean_intensity(intensity)
    assert plain == pytest.approx(ndimage.uniform_filter(intensity, 7, mode="reflect"))


def test_diffusion_is_its_definition():
    """Pixel by pixel, as the formula says; a flux is braked by the lower or right one of its two pixels."""
    image, q0 = np.random.default_rng(3).gamma(2.0, size=(7, 7)) + 0.1, 0.6

    def differences(i, j):
        return np.array([image[i + 1, j], image[i - 1, j], image[i, j + 1], image[i, j - 1]]) - image[i, j]

    def brake(i, j):
        gradient, laplacian = np.sum(differences(i, j) ** 2) / image[i, j] ** 2, differences(i, j).sum() / image[i, j]
        q = np.sqrt((gradient / 2 - (laplacian / 4) ** 2) / (1 + laplacian / 4) ** 2)
        return np.clip(1 / (1 + (q**2 - q0**2) / (q0**2 * (1 + q0**2))), 0, 1)

    brakes = np.array([brake(4, 3), brake(3, 3), brake(3, 4), brake(3, 3)])
    expected = image[3, 3] + 0.3 / 4 * np.sum(brakes * differences(3, 3))
    assert diffuse(image, q0**2, 0.3)[3, 3] == pytest.approx(expected)


def test_diffusion_keeps_the_mean_and_makes_no_new_extremes():
    intensity = np.random.default_rng(2).gamma(1.0, size=(40, 33)) + 1e-9
    for step in (0.05, 1.0):
        after = diffuse(intensity, 0.5, step)
        assert after.sum() == pytest.approx(intensity.sum(), rel=1e-12)
        assert intensity.min() <= after.min() <= after.max() <= intensity.max()
        assert after.std() < intensity.std()


def test_diffusion_stops_at_an_edge_and_not_in_speckle():
    edge = np.where(np.arange(32) < 16, 1.0, 100.0) * np.ones((8, 1))
    across = (diffuse(edge, 0.01, 1.0) - edge)[:, 15]
    assert np.all(across < 0.02 * 99.0 / 4.0)  # of what flows without a brake
    ripple = 1.0 + 0.05 * (-1.0) ** np.arange(32) * np.ones((8, 1))
    assert diffuse(ripple, 0.5, 0.2).std() < 0.95 * ripple.std()


def test_laws_of_q0():
    image = speckle((64, 64))
    rough = [denoise("srad", image, q0=q0, iterations=50).std() for q0 in (0.05, 0.5, "decay", "auto")]
    assert rough[0] > 2.0 * max(rough[1:])


def test_nlm_is_that_of_scikit_image():
    image = to_scale(speckle((32, 40)), "db")
    expected = denoise_nl_means(image, patch_size=5, patch_distance=6, h=1.1 * SPECKLE, fast_mode=True)
    assert np.array_equal(make("nlm", patch=5, distance=6, h=1.1).filter(image), expected)


def test_obnlm_is_its_definition():
    """Block by block, pixel by pixel, as the formula says; borders apart."""
    block, distance, h, gamma, offset = 3, 2, 0.3, 0.5, 0.1
    image = to_scale(speckle((18, 18), level=-30.0), "db").clip(0.0)
    grey = image + offset
    total, count = np.zeros_like(grey), np.zeros_like(grey)
    for i in range(3, 15):
        for j in range(3, 15):
            own, estimate, weights = grey[i - 1 : i + 2, j - 1 : j + 2], 0.0, 0.0
            for k in range(i - distance, i + distance + 1):
                for m in range(j - distance, j + distance + 1):
                    other = grey[k - 1 : k + 2, m - 1 : m + 2]
                    weight = np.exp(-np.mean((own - other) ** 2 / other ** (2 * gamma)) / h**2)
                    estimate, weights = estimate + weight * other, weights + weight
            total[i - 1 : i + 2, j - 1 : j + 2] += estimate / weights
            count[i - 1 : i + 2, j - 1 : j + 2] += 1.0
    clean = Obnlm(block=block, distance=distance, h=h, gamma=gamma, offset=offset).filter(image)
    inner = (slice(4, 14), slice(4, 14))
    assert (count[inner] == 9).all()
    assert clean[inner] == pytest.approx(total[inner] / 9.0 - offset)


def test_obnlm_weights_are_one_for_itself_and_forgive_bright_blocks_more():
    grey = np.full((12, 12), 0.2)
    grey[:, 6:] = 0.8
    grey[2, 2] += 0.1
    grey[2, 9] += 0.1
    weights = [weight for weight, _ in Obnlm(block=3, distance=2).weights(grey)]
    assert len(weights) == 25
    assert all((weight > 0.0).all() and (weight <= 1.0).all() for weight in weights)
    assert (weights[12] == 1.0).all()
    left_of_dark, left_of_bright = weights[11][2, 2], weights[11][2, 9]
    assert left_of_dark < left_of_bright < 1.0


#: Mean PSNR in dB of the toy presets on the scenes 0, 1 and 2, as measured.
TOY = {
    "gaussian": 29.1,
    "median": 29.6,
    "lee": 28.7,
    "kuan": 27.8,
    "frost": 28.8,
    "srad": 28.8,
    "nlm": 31.0,
    "obnlm": 29.8,
}


@every
def test_toy_scenes_gain_what_was_measured(name):
    scores = []
    for noisy, clean in map(toy, range(3)):
        found = denoise(name, noisy, "toy").clip(-60.0, 0.0)
        scores.append(-10.0 * np.log10(np.mean((found - clean) ** 2) / 60.0**2))
    assert np.mean(scores) > TOY[name] - 0.5
