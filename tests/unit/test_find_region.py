"""The ultrasound in a picture: found, with nothing of it lost, and nothing written around or over it touched."""

import io

import numpy as np
import PIL.Image
import pytest
from made_scans import scan
from made_screens import DISPLAY, bare, screen
from scipy import ndimage

from s2s.domain import Domain
from s2s.images.find import Overview, find_region
from s2s.images.overlay import coloured
from usim.errors import DataError

GREY = Domain("log", 60.0, 255.0)
KINDS = ("linear", "convex", "phased")


def luma(picture):
    return np.asarray(PIL.Image.fromarray(picture).convert("L"))


def as_jpeg(picture):
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "JPEG", quality=88)
    return np.asarray(PIL.Image.open(buffer))


def shares(mask, made):
    """Of the scan: share lost away from its marks. Of the picture around: pixels of marks touched, and of black added.
    Of the marks over the scan: share kept."""
    free = made.area & ~ndimage.binary_dilation(made.inside, iterations=3)
    lost = (free & ~mask).sum() / free.sum()
    added = (mask & ~made.area).sum() / made.area.sum()
    return lost, int((mask & made.outside).sum()), added, (made.inside & ~mask).sum() / max(made.inside.sum(), 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", [True, False])
def test_screen_without_losses(kind, colour):
    made = screen(kind, 1, colour=colour)
    mask = find_region([luma(made.picture)], GREY, coloured=coloured(made.picture))
    lost, touched, added, kept = shares(mask, made)
    assert lost < 5e-4
    assert touched == 0
    assert added < 0.002
    # white letters on bright tissue, as on the linear scan, are partly tissue to a look at one frame
    assert kept > (0.97 if colour else 0.6 if kind == "linear" else 0.9)


@pytest.mark.parametrize("kind", KINDS)
def test_screen_through_jpeg(kind):
    made = screen(kind, 2)
    picture = as_jpeg(made.picture)
    mask = find_region([luma(picture)], GREY, coloured=coloured(picture, lossy=True), lossy=True)
    lost, touched, added, kept = shares(mask, made)
    assert lost < 2e-3
    assert touched == 0
    assert added < 0.05
    assert kept > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_clip_what_moves_is_found_though_half_of_each_frame_is_dark(kind):
    """A dark half is no tissue to a look at one frame; over a clip it moves, and what is written stands still."""
    made = screen(kind, 3, colour=False)
    marks = made.inside | made.outside
    dark = np.linspace(1.0, 0.02, made.area.shape[1]) ** 2
    frames = []
    for seed in range(6):
        levels, _ = bare(kind, seed)
        frames.append(np.where(marks, luma(made.picture), np.rint(levels * dark)).astype(np.uint8))
    mask = find_region(frames, GREY)
    _, touched, added, kept = shares(mask, made)
    lit = made.area & (np.max(frames, axis=0) > 8)
    assert (lit & ~mask & ~ndimage.binary_dilation(made.inside, iterations=3)).sum() / lit.sum() < 1e-3
    assert touched == 0
    assert added < 0.01
    assert kept > 0.9


def test_scan_that_fills_its_picture_is_taken_whole():
    assert find_region([scan(DISPLAY, seed=4)], GREY) is None
    cropped = np.pad(scan(DISPLAY, seed=4), 2)
    assert find_region([cropped], GREY) is None


def test_where_no_scan_is_found_all_of_it_is():
    z, x = np.mgrid[:120, :160]
    few = 90 * np.exp(-((z - 50) ** 2 + (x - 80) ** 2) / 40.0)
    assert find_region([few], GREY) is None


def test_lone_reflectors_are_no_letters():
    z, x = np.mgrid[:300, :300]
    points = sum(np.exp(-((z - a) ** 2 + (x - b) ** 2) / 4.0) for a in range(40, 300, 60) for b in range(40, 300, 60))
    made = np.maximum(scan(DISPLAY, shape=(300, 300), seed=7, patches=()) - 60, 0.0)
    assert find_region([np.maximum(made, 250 * points)], GREY) is None


def test_both_scans_of_a_dual_image_are_found_and_a_flat_panel_is_not():
    picture = np.zeros((400, 760), np.uint8)
    truth = np.zeros(picture.shape, bool)
    for left, seed in ((30, 5), (290, 6)):
        picture[40:360, left : left + 220] = scan(DISPLAY, shape=(320, 220), seed=seed)
        truth[40:360, left : left + 220] = True
    picture[20:380, 600:740] = 70
    mask = find_region([picture], GREY)
    assert (truth & ~mask).sum() == 0
    assert not mask[:, 590:].any()


def test_large_picture_is_searched_small():
    made = screen("convex", 1)
    large = np.kron(luma(made.picture), np.ones((3, 3), np.uint8))
    mask = find_region([large], GREY)
    truth = np.kron(made.area, np.ones((3, 3), bool))
    inside = np.kron(ndimage.binary_dilation(made.inside, iterations=3), np.ones((3, 3), bool))
    assert mask.shape == large.shape
    assert (truth & ~inside & ~mask).sum() / truth.sum() < 1e-3
    assert (mask & np.kron(made.outside, np.ones((3, 3), bool))).sum() == 0


@pytest.mark.parametrize(("domain", "convert"), [
    (Domain("envelope", 60.0, 1.0), lambda grey: 10.0 ** (60.0 * (grey / 255.0 - 1.0) / 20.0)),
    (Domain("db", 60.0), lambda grey: 60.0 * (grey / 255.0 - 1.0)),
    (Domain("log", 60.0, 65535.0), lambda grey: grey * 257.0),
])  # fmt: skip
def test_region_is_that_of_the_screen_on_every_scale(domain, convert):
    grey = luma(screen("phased", 1).picture).astype(np.float64)
    expected = find_region([grey], GREY)
    found = find_region([convert(grey)], domain)
    assert np.mean(expected != found) < 1e-3


def test_frames_of_two_sizes_are_refused():
    overview = Overview(GREY)
    overview.add(np.ones((20, 20)))
    with pytest.raises(DataError, match="frame 1"):
        overview.add(np.ones((20, 21)))


def test_grey_has_no_colour_and_colour_takes_its_soft_edge_along():
    grey = np.full((9, 9, 3), 90, np.uint8)
    assert not coloured(grey).any()
    grey[4, 4] = 200, 200, 30
    grey[4, 5] = 120, 120, 105
    grey[7, 7] = 120, 120, 105
    assert [tuple(place) for place in np.argwhere(coloured(grey))] == [(4, 4), (4, 5)]
