"""Displacement in pictures: magnitudes where they lie, arrows that point where tissue has gone, on one scale."""

from dataclasses import replace

import numpy as np
import pytest
from views import dataset, views

from usim.view.motion import add_arrows, arrows_of, farthest
from usim.view.movie import rasters
from usim.view.sheet import draw_frames


@pytest.fixture
def moving(make_frame):
    """Five times at which tissue turns and comes back: the farthest way is at the middle one, 1 mm at the corners."""
    frames = []
    for frame, part in zip(views(make_frame, times=5), (0.0, 0.5, 1.0, 0.5, 0.0), strict=True):
        x, z = frame.axes.x[None, :] / 1e-2, (frame.axes.z[:, None] - 16e-3) / 14e-3
        way = np.stack(np.broadcast_arrays(-z, x), axis=-1) * part * 1e-3 / np.sqrt(2.0)
        frames.append(replace(frame, truth=replace(frame.truth, displacement=way.astype(np.float32))))
    return frames


def test_a_sheet_has_the_displacement_in_colours_on_one_scale(moving):
    figure = draw_frames(moving[:3])
    panels = [axes for axes in figure.axes if axes.get_title() == "displacement, 0 to 1 mm"]
    assert len(panels) == 3
    for panel, frame in zip(panels, moving, strict=False):
        image = panel.get_images()[0]
        np.testing.assert_allclose(image.get_array(), np.hypot(*np.moveaxis(frame.truth.displacement, -1, 0)))
        assert image.get_clim() == pytest.approx((0, 1e-3))
    assert [axes.get_title() for axes in figure.axes[:6]] == [
        "image", "truth: bmode", "truth: resolved", "truth: echogenicity", "displacement, 0 to 1 mm", "labels",
    ]  # fmt: skip


def test_arrows_end_at_their_pixel_and_point_where_it_went(moving):
    from matplotlib.figure import Figure

    frame, panel = moving[2], Figure().subplots()
    arrows = add_arrows(panel, frame, farthest(moving))
    assert farthest(moving) == pytest.approx(1e-3)
    assert arrows.pivot == "tip"
    across, down = arrows_of(frame)
    x, z = np.asarray(arrows.X).reshape(across.shape) * 1e-3, np.asarray(arrows.Y).reshape(across.shape) * 1e-3
    np.testing.assert_allclose(across, -(z - 16e-3) / 14e-3 / np.sqrt(2.0), atol=1e-6)
    np.testing.assert_allclose(down, x / 1e-2 / np.sqrt(2.0), atol=1e-6)
    assert {len(np.unique(x)), len(np.unique(z))} == {8, 11}


def test_a_movie_has_arrows_over_the_truth_alone(moving):
    plain = [replace(frame, truth=replace(frame.truth, displacement=None)) for frame in moving]
    different = [a != b for a, b in zip(rasters(moving), rasters(plain), strict=True)]
    middle = different[0].shape[1] // 2
    below_titles = slice(60, None)
    assert not any(change[below_titles, : middle - 40].any() for change in different)
    changed = [int(change[below_titles, middle:].sum()) for change in different]
    assert changed[2] > changed[1] > changed[0]
    assert changed[1] == changed[3]


def test_no_motion_draws_no_arrows(moving):
    still = [replace(frame, truth=replace(frame.truth, displacement=0 * frame.truth.displacement)) for frame in moving]
    plain = [replace(frame, truth=replace(frame.truth, displacement=None)) for frame in moving]
    for one, other in zip(rasters(still), rasters(plain), strict=True):
        np.testing.assert_array_equal(one, other)
    assert farthest(plain) == 0.0


def test_a_stored_sequence_looks_like_the_one_in_memory(tmp_path, moving):
    data = dataset(tmp_path / "data", moving, per_shard=2)
    for one, other in zip(rasters(data), rasters(moving), strict=True):
        np.testing.assert_array_equal(one, other)
