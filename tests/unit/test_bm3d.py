"""BM3D by the package of its authors: what it is given, and what is said when it is not there."""

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

import s2s
from s2s.cli import main
from s2s.domain import RANGE_DB, to_scale
from s2s.evaluation.files import filters
from s2s.methods.base import SPECKLE
from s2s.methods.bm3d import correlation, spectrum_of
from s2s.metrics.fidelity import psnr
from s2s.toy import toy_clean, toy_looks, toy_scene
from usim.errors import ConfigError

INSTALLED = importlib.util.find_spec("bm3d") is not None


@pytest.fixture
def absent(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "bm3d", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bm3d" else real(name))


@pytest.fixture
def calls(monkeypatch):
    """What a package of that name is called with."""
    package, heard = ModuleType("bm3d"), []

    def bm3d(image, noise):
        heard.append((image, noise))
        return ndimage.gaussian_filter(image, 2.0)

    package.bm3d = bm3d
    monkeypatch.setitem(sys.modules, "bm3d", package)
    return heard


def speckle(shape=(128, 160), seed=0, iid=False):
    return toy_looks(np.zeros(shape), np.random.default_rng(seed), clip=False, iid=iid)[0] - 15.0


def test_the_correlation_is_that_of_the_speckle():
    """As measured when the toy scene was made, whatever lies under the speckle."""
    generator = np.random.default_rng(1)
    scene = toy_scene(generator, (256, 256))
    for image, tolerance in ((speckle((256, 256)), 0.06), (toy_looks(scene, generator, clip=False)[0], 0.1)):
        found = correlation(image, (8, 24))
        assert found.shape == (17, 49)
        assert found[8, 24] == 1.0
        np.testing.assert_allclose(found, found[::-1, ::-1], atol=1e-9)
        assert found[9:11, 24] == pytest.approx([0.55, 0.16], abs=tolerance)
        assert found[8, 25:28] == pytest.approx([0.79, 0.50, 0.27], abs=tolerance)
        assert abs(found[12:, 24]).max() < 0.1
    white = correlation(speckle((256, 256), iid=True), (8, 24))
    white[8, 24] = 0.0
    assert abs(white).max() < 0.1


def test_the_spectrum_is_the_power_of_such_noise():
    """The mean of |FFT|^2 over many images of noise whose correlation is known."""
    generator, shape = np.random.default_rng(2), (48, 64)
    kernel = np.outer([0.25, 0.5, 0.25], [0.1, 0.2, 0.4, 0.2, 0.1])
    noise = ndimage.convolve(generator.normal(size=(3000, *shape)), kernel[None], mode="wrap")
    noise /= np.sqrt((kernel**2).sum())
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(0)
    full = np.zeros((9, 13))
    full[3:6, 4:9] = kernel
    found = ndimage.correlate(full, kernel, mode="constant")
    np.testing.assert_allclose(spectrum_of(found / found.max(), shape), power, rtol=0.12, atol=0.02 * power.max())
    assert spectrum_of(found / found.max(), shape).mean() == pytest.approx(48 * 64)


def test_the_package_is_given_the_image_and_the_noise(calls):
    image = speckle((40, 60))
    clean = s2s.load("bm3d:strength=1.5").denoise(image, "db")
    ((given, noise),) = calls
    np.testing.assert_allclose(given, to_scale(image.clip(-60.0, 0.0), "db"), atol=1e-6)
    assert noise.shape == image.shape
    assert noise.min() > 0
    assert noise.mean() / noise.size == pytest.approx(1.5 * SPECKLE**2)
    assert noise.max() > 5 * noise.mean() > 25 * noise[20, 30]  # coarse, not fine
    assert clean.std() < 0.7 * image.std()
    s2s.load("bm3d:strength=4,spectrum=white").denoise(image, "db")
    assert calls[1][1] == pytest.approx(2.0 * SPECKLE)


@pytest.mark.parametrize(
    ("setting", "text"),
    [("spectrum=pink", "allowed are speckle, white"), ("strength=0", "0.01 to 100"), ("reach=3", "two")],
)
def test_bad_settings_are_refused(calls, setting, text):
    with pytest.raises(ConfigError, match=f"bm3d: .*{text}"):
        s2s.load(f"bm3d:{setting}")


def test_without_the_package_its_licence_is_told_and_the_rest_goes_on(absent, capsys, tmp_path):
    with pytest.raises(ConfigError, match=r"package bm3d is not installed; its licence allows non-commercial use only"):
        s2s.load("bm3d")
    assert "bm3d" not in filters()
    assert main(["tune", "--sim", "cyst", "--frames", "0"]) == 2
    capsys.readouterr()
    assert main(["evaluate", "--sim", "evaluation/wires", "--frames", "0"]) == 2
    assert main(["methods"]) == 0
    assert "bm3d" in capsys.readouterr().out
    assert main(["denoise", "x.png", "-m", "bm3d"]) == 2
    assert "non-commercial" in capsys.readouterr().err


@pytest.mark.skipif(not INSTALLED, reason="the package bm3d is not installed (non-commercial licence)")
def test_given_the_spectrum_it_removes_speckle_and_given_none_it_does_not():
    generator = np.random.default_rng(5)
    scene = toy_scene(generator)
    image, clean = toy_looks(scene, generator)[0], toy_clean(scene)
    gains = [
        psnr(s2s.load(spec).denoise(image, "db"), clean, RANGE_DB) - psnr(image, clean, RANGE_DB)
        for spec in ("bm3d:preset=toy", "bm3d:spectrum=white,strength=1")
    ]
    assert gains[0] > 8.5
    assert gains[1] < 4.5
