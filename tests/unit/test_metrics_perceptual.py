"""LPIPS: measured where package and weights are, else missing with a cure; nothing is downloaded."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from judging import smooth, speckle, view_of
from scipy import ndimage

from s2s.metrics import perceptual
from s2s.metrics.battery import METRICS, judged, score

#: A stand-in for the package: it needs no weights, and tells what it was given.
PACKAGE = '''
import torch

class LPIPS(torch.nn.Module):
    """Mean square, of colour images in [-1, 1] with a leading axis."""

    def __init__(self, net, verbose):
        super().__init__()
        assert (net, verbose) == ("alex", False)

    def forward(self, one, two):
        assert one.shape == two.shape and one.shape[:2] == (1, 3) and one.dtype == torch.float32
        assert -1 <= min(one.min(), two.min()) and max(one.max(), two.max()) <= 1
        assert (one[:, :1] == one).all()
        return ((one - two) ** 2).mean()[None, None, None, None]
'''


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub of torch, and no network that was built before."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    perceptual._network.cache_clear()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    yield folder
    perceptual._network.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package lpips that can be imported."""
    monkeypatch.delitem(__import__("sys").modules, "lpips", raising=False)
    (tmp_path / "lpips.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)


def scene(size=64, **others):
    truth, axis = smooth(1, size), np.arange(size) * 1e-4
    return view_of(truth, np.zeros(truth.shape, np.uint16), ("tissue",), axis, axis, **others)


@pytest.mark.usefixtures("package")
def test_without_weights_it_is_missing_and_says_how_to_get_them(hub):
    view = scene()
    assert perceptual.weights_file() is None
    assert math.isnan(score(judged(view.truth_db, view))["lpips"])
    assert "pip install" in METRICS["lpips"].needs
    assert not list(hub.iterdir())


@pytest.mark.skipif(find_spec("lpips") is not None, reason="the package lpips is installed here")
def test_without_the_package_it_is_missing(hub):
    (hub / perceptual.WEIGHTS).touch()
    assert perceptual.weights_file() is None


@pytest.mark.usefixtures("package")
def test_with_weights_it_sees_both_images_as_a_screen_shows_them(hub):
    (hub / perceptual.WEIGHTS).touch()
    view = scene()
    assert perceptual.measure(judged(view.truth_db, view)) == {"lpips": 0.0}
    offset = perceptual.measure(judged(view.truth_db + 6.0, view))["lpips"]
    assert offset == pytest.approx((2 * 6 / 60) ** 2, rel=1e-4)
    noisy = view.truth_db + speckle(2, view.truth_db.shape)
    values = [perceptual.measure(judged(image, view))["lpips"] for image in (noisy, ndimage.gaussian_filter(noisy, 2))]
    assert values[0] > values[1] > 0


@pytest.mark.usefixtures("package")
def test_what_is_outside_the_insonified_area_never_counts(hub):
    (hub / perceptual.WEIGHTS).touch()
    inside = np.tri(64, dtype=bool)
    view = scene(insonified=inside)
    assert perceptual.measure(judged(np.where(inside, view.truth_db, 0.0), view)) == {"lpips": 0.0}


@pytest.mark.usefixtures("package")
def test_an_image_smaller_than_the_network_reads_is_not_measured(hub):
    (hub / perceptual.WEIGHTS).touch()
    view = scene(31)
    assert math.isnan(perceptual.measure(judged(view.truth_db, view))["lpips"])


@pytest.mark.skipif(perceptual.weights_file() is None, reason="the package lpips, or AlexNet's weights, are not here")
def test_the_real_network_knows_equal_images_and_prefers_less_noise():
    truth = (smooth(1, 128) + 60) / 60
    noise = speckle(3, truth.shape) / 60
    near, far = (perceptual.lpips(np.clip(truth + share * noise, 0, 1), truth) for share in (0.2, 1.0))
    assert perceptual.lpips(truth, truth) == pytest.approx(0.0, abs=1e-6)
    assert 0 < near < far
    assert not torch.is_inference_mode_enabled()
