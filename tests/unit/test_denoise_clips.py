"""Clips and large images: one scaling for all frames, no flicker, seams below a grey level, bounded memory."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import s2s.denoise
import usim
from s2s.denoise import Denoiser, TooLarge, load
from s2s.domain import Domain
from s2s.files import denoise_files
from s2s.images import Stated
from s2s.methods import METHODS, make, method_class
from usim.errors import ResourceError

FILTERS = [name for name in METHODS if not method_class(name).needs and not method_class(name).lacking()]
#: One grey level of 255 over 60 dB.
LEVEL_DB = 60 / 255


def speckle(shape, seed):
    """Correlated speckle in dB around -25."""
    field = np.random.default_rng(seed).standard_normal((2, *shape))
    field = np.stack([gaussian_filter(part, 1.2, mode="wrap") for part in field])
    decibel = 10 * np.log10((field**2).sum(axis=0))
    return np.clip(decibel - decibel.mean() - 25, -60, 0)


def network(name, **settings):
    """A network whose weights are not those of the start, and whose BatchNorm has seen images."""
    torch.manual_seed(1)
    method = make(name, settings.pop("preset", "default"), **settings)
    for parameter in method.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
        else:
            torch.nn.init.kaiming_normal_(parameter)
    method.train()
    with torch.no_grad():
        for seed in range(4):
            method.infer(torch.from_numpy(1 + speckle((64, 64), seed) / 60).float()[None, None])
    return Denoiser(method)


@pytest.mark.parametrize("spec", [*FILTERS, "paper"])
def test_equal_frames_give_equal_results(spec):
    method = network("speckle2self", preset="paper") if spec == "paper" else load(spec)
    still = speckle((48, 64), 1)
    clean = method.denoise(np.stack([still, still, still]), "db")
    np.testing.assert_array_equal(clean[0], clean[1])
    np.testing.assert_array_equal(clean[0], clean[2])
    if spec != "paper":
        np.testing.assert_array_equal(clean[0], method.denoise(still, "db"))


SCENE = """
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [15 mm, 25 mm], pixels: [96, 96]}
background: {name: tissue, echogenicity: -10 dB}
regions:
  - {name: cyst, shape: circle, center: [0 mm, 20 mm], size: 4 mm, echogenicity: anechoic}
"""


@pytest.fixture(scope="module")
def still_scene(tmp_path_factory):
    """Eight looks at one simulated scene, each with speckle and noise of its own, in dB as a screen shows them."""
    path = tmp_path_factory.mktemp("scene") / "still.yaml"
    path.write_text(SCENE)
    return np.stack([np.maximum(usim.simulate(path, seed=seed).bmode, -60.0) for seed in range(8)])


@pytest.mark.parametrize("spec", FILTERS)
def test_a_still_scene_flickers_less_than_its_speckle(still_scene, spec):
    """Between frames, pixels vary at most 0.3 times as much as before, and the mean of a frame no more."""
    clean = load(spec).denoise(still_scene, "db")
    assert np.median(clean.std(axis=0)) < 0.3 * np.median(still_scene.std(axis=0))
    assert clean.mean(axis=(1, 2)).std() < 1.2 * still_scene.mean(axis=(1, 2)).std()


def test_white_of_an_envelope_is_that_of_the_whole_clip(tmp_path):
    """One bright frame must not change what the others are, in arrays and in files."""
    clip = 10 ** (np.stack([speckle((40, 40), k) for k in range(3)]) / 20)
    clip[1] *= 30
    method = load("gaussian:sigma=1")
    clean = method.denoise(clip, "envelope", 90.0)
    domain = Domain("envelope", 90.0, clip.max())
    for frame, result in zip(clip, clean, strict=True):
        np.testing.assert_array_equal(method.denoise(frame, domain), result)
    np.save(tmp_path / "a.npy", clip)
    list(denoise_files([tmp_path / "a.npy"], method, stated=Stated("envelope", 90.0)))
    np.testing.assert_allclose(np.load(tmp_path / "a.denoised.npy"), clean, rtol=1e-12)


def test_a_method_that_scales_by_extremes_takes_those_of_the_clip(tmp_path):
    """A bright dot that comes and goes leaves pixels far away as they are, up to the InstanceNorm of the network."""
    still = np.clip(speckle((64, 64), 3), -40, -18)
    blink = still.copy()
    blink[2:4, 2:4] = 0.0
    method = network("speckle2self", preset="paper")
    shares = []
    for clip in (np.stack([still, blink]), np.stack([still, still])):
        extremes = method.extremes(clip, Domain("db"))
        shares.append(extremes)
        frame = method.denoise_frame(clip[0], Domain("db"), extremes=extremes)
        np.testing.assert_array_equal(method.denoise(clip, "db")[0], frame)
    assert shares[0] == pytest.approx((1 - 40 / 60, 1.0))
    assert shares[1] == pytest.approx((1 - 40 / 60, 1 - 18 / 60))
    alone = method.denoise_frame(still, Domain("db"), extremes=shares[1])
    np.testing.assert_allclose(method.denoise(still, "db"), alone, atol=1e-3)
    np.save(tmp_path / "a.npy", np.stack([still, blink]))
    list(denoise_files([tmp_path / "a.npy"], method, stated=Stated()))
    np.testing.assert_allclose(
        np.load(tmp_path / "a.denoised.npy"), method.denoise(np.stack([still, blink]), "db"), atol=1e-6
    )
    assert network("noise2true", width=4).extremes(iter(()), Domain("db")) is None


TILED = {
    **{name: lambda name=name: load(name) for name in FILTERS},
    "lee, looks": lambda: load("lee:looks=1"),
    "kuan, looks": lambda: load("kuan:looks=1"),
    "U-Net": lambda: network("noise2true", width=4, depth=2),
    "deep U-Net": lambda: network("noise2noise", width=2, depth=4),
    "BatchNorm": lambda: network("speckle2self", target="own"),
    "surroundings": lambda: network("speckle2self", width=4, depth=2, hidden=(3, 5)),
}


@pytest.mark.parametrize("case", TILED)
def test_seams_are_far_below_a_grey_level(monkeypatch, case):
    """Sides that are no multiples of the stride, more than one tile in both directions, not square."""
    method = TILED[case]()
    if method.method.halo is None:
        pytest.skip("sees the whole image")
    image = speckle((83, 2 * min(method.method.halo, 60) + 107), 5)
    whole = method.denoise(image, "db")
    seen = []
    inner = method.method.denoise
    monkeypatch.setattr(method.method, "denoise", lambda y, *more: seen.append(y.shape) or inner(y, *more))
    monkeypatch.setattr(s2s.denoise, "_TILED_ABOVE", 1000)
    monkeypatch.setattr(s2s.denoise, "_TILE", 48)
    tiled = method.denoise(image, "db")
    assert len(seen) >= 6
    assert np.abs(tiled - whole).max() < 0.01 * LEVEL_DB


def test_what_sees_the_whole_image_refuses_what_memory_can_not_hold(monkeypatch):
    monkeypatch.setattr(s2s.denoise, "_free_bytes", lambda: 1e6)
    image = speckle((80, 90), 1)
    for spec in ("srad", "lee"):
        with pytest.raises(TooLarge, match=rf"{spec}: sees 80 x 90 pixels at once, .* 0\.0 GB are free; cut the image"):
            load(spec).denoise(image, "db")
    assert issubclass(TooLarge, ResourceError)
    load("nlm").denoise(image, "db")


def peak_bytes(code):
    """Peak memory of a fresh process on top of what it had when `start()` was called in it."""
    text = f"""
import resource, sys
import numpy as np, torch
from pathlib import Path
torch.set_num_threads(1)
from s2s.denoise import Denoiser
from s2s.files import denoise_files
from s2s.images import Stated
from s2s.methods import make
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
network = Denoiser(make("noise2true", width=4))
network.denoise(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8), "log")
before = peak()
{code}
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024)


def large(tmp_path, side):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8))
    return peak_bytes(f"list(denoise_files([Path({str(tmp_path / 'a.npy')!r})], network, stated=Stated()))")


def test_memory_for_a_large_image_is_that_of_its_tiles(tmp_path):
    """Sixteen bytes per pixel for input, result and rounding, and what one tile takes."""
    assert large(tmp_path, 2000) < 16 * 2000**2 + 300e6


@pytest.mark.slow
def test_ten_thousand_pixels_a_side(tmp_path):
    assert large(tmp_path, 10_000) < 16 * 10_000**2 + 300e6
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 3e9
