"""The part of an image that is ultrasound: only it is denoised, and its edge does not show."""

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

import s2s.images
from s2s.denoise import Denoiser, load
from s2s.domain import Domain
from s2s.files import denoise_files
from s2s.images import Image, Stated, open_image
from s2s.images.region import Region
from s2s.methods import make
from usim.errors import DataError

SHAPE = (150, 170)


def fan(shape=SHAPE, angle=0.6, inner=12, outer=135):
    """The mask of a sector whose tip lies above the image."""
    z, x = np.indices(shape)
    z, x = z + 8.0, x - shape[1] / 2
    radius, direction = np.hypot(z, x), np.arctan2(x, z)
    return (radius > inner) & (radius < outer) & (np.abs(direction) < angle)


def speckle(shape, seed, level=-25.0):
    """Correlated, fully developed speckle in dB with the mean `level`."""
    field = np.random.default_rng(seed).standard_normal((2, *shape))
    field = np.stack([gaussian_filter(part, 1.2) for part in field])
    decibel = 10 * np.log10((field**2).sum(axis=0))
    return decibel - decibel.mean() + level


def test_the_mirror_image_at_a_straight_edge():
    mask = np.zeros((6, 9), bool)
    mask[:, 4:] = True
    mask[0, 0] = True  # keeps the box open to the left
    frame = np.tile(np.arange(9.0), (6, 1))
    filled = Region(mask, least=1).cut(frame)
    # The edge is column 4: columns 3, 2, 1 show 5, 6, 7.
    np.testing.assert_array_equal(filled[3:, 1:], np.tile([7, 6, 5, 4, 5, 6, 7, 8], (3, 1)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40), st.floats(0.02, 1.0))
def test_what_stands_in_comes_from_inside_and_what_is_outside_comes_back(seed, height, width, share):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < share
    if not mask.any():
        with pytest.raises(DataError, match="no ultrasound"):
            Region(mask, least=1)
        return
    region = Region(mask, least=1)
    frame = np.where(mask, rng.integers(1, 256, mask.shape), 0).astype(np.uint8)
    filled = region.cut(frame)
    assert filled.min() > 0
    rows, columns = np.nonzero(mask)
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    assert region.box == box
    assert set(np.unique(filled)) <= set(np.unique(frame[mask]))
    whole = region.paste(frame, filled + 0.25)
    np.testing.assert_array_equal(whole[mask], frame[mask] + 0.25)
    np.testing.assert_array_equal(whole[~mask], frame[~mask])


@pytest.mark.parametrize("spec", ["gaussian:sigma=3", "median", "nlm", "srad", "lee"])
def test_the_edge_of_a_fan_is_not_darker_than_its_middle(spec):
    """Mean over six images, near the edge and far from it; filled with black, a Gaussian would lose more than 5 dB."""
    mask, domain, denoiser = fan(), Domain("db"), load(spec)
    region = Region(mask, least=16)
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    edge, middle = mask & (depth <= 3), mask & (depth > 12)
    differences = []
    for seed in range(6):
        frame = np.where(mask, speckle(SHAPE, seed), -60.0)
        clean = region.paste(frame, denoiser.denoise_frame(region.cut(frame), domain))
        differences.append(clean[edge].mean() - clean[middle].mean())
    assert abs(np.mean(differences)) < 0.5
    if spec.startswith("gaussian"):
        black = denoiser.denoise_frame(frame, domain)
        assert black[edge].mean() - black[middle].mean() < -5


def test_a_pixel_far_from_the_edge_does_not_know_of_the_fill():
    """A network of limited reach gives the same pixels as on an image that goes on outside the mask."""
    torch.manual_seed(2)
    method = make("noise2true", "toy", width=4, depth=1)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    denoiser, mask = Denoiser(method), fan()
    everywhere, region = speckle(SHAPE, 1), Region(fan(), least=16)
    cut = region.cut(np.where(mask, everywhere, -60.0))
    there = denoiser.denoise_frame(cut, Domain("db"))
    reference = denoiser.denoise_frame(everywhere[region.box], Domain("db"))
    inner = binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=method.halo + 2)[1:-1, 1:-1][region.box]
    inner[: method.halo] = inner[-method.halo :] = False  # the box's own padding
    assert inner.sum() > 500
    np.testing.assert_allclose(there[inner], reference[inner], atol=1e-3)


@pytest.fixture
def masked_png(tmp_path, monkeypatch):
    """A PNG reader that finds a fan, with text beside it."""
    mask = fan()
    frame = np.where(mask, np.clip(255 * (1 + speckle(SHAPE, 3) / 60), 0, 255), 7).astype(np.uint8)
    frame[:10, :40] = np.random.default_rng(1).integers(0, 256, (10, 40))
    mask[:10, :40] = False
    PIL.Image.fromarray(frame).save(tmp_path / "a.png")

    def read(path, stated):
        def write(target, frames, about):
            (whole,) = frames
            PIL.Image.fromarray(np.rint(whole).astype(np.uint8)).save(target)

        return Image([frame], Domain("log", 60.0, 255.0), "", ".png", write, mask)

    monkeypatch.setattr(s2s.images, "read_fan", read, raising=False)
    monkeypatch.setitem(s2s.images.READERS, ".png", "s2s.images:read_fan")
    return tmp_path / "a.png", frame, mask


def test_outside_the_mask_a_file_keeps_its_bits(masked_png):
    path, frame, mask = masked_png
    ((target, line),) = denoise_files([path], load("gaussian:sigma=2"), stated=Stated())
    clean = np.asarray(PIL.Image.open(target))
    np.testing.assert_array_equal(clean[~mask], frame[~mask])
    assert (clean[mask] != frame[mask]).mean() > 0.9
    assert clean[mask].std() < 0.6 * frame[mask].std()
    assert line.startswith("0.02 Mpixel")  # of the box that was denoised, not of the picture


@pytest.mark.parametrize(("rows", "text"), [(0, "no ultrasound was found"), (9, "has 9 x 20 pixels; 16 x 16")])
def test_a_mask_that_holds_too_little_is_refused(masked_png, rows, text):
    path, _, mask = masked_png
    mask[:] = False
    mask[:rows, :20] = True
    with pytest.raises(DataError, match=rf"a\.png: .*{text}"):
        open_image(path, Stated())
