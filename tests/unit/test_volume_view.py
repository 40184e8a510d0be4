"""Cuts through a volume show the numbers that lie there, at their place in millimetres."""

import numpy as np
import pytest
from views import views

from usim.errors import ConfigError, DataError
from usim.view import volume_sheet
from usim.view.volume import draw_volume


@pytest.fixture
def volume(make_frame):
    frames = views(make_frame, slices=9)
    random = np.random.default_rng(1)
    for frame in frames:
        frame.bmode[:] = random.uniform(-60, 0, frame.bmode.shape)
        frame.truth.bmode[:] = random.uniform(-60, 0, frame.bmode.shape)
    return frames


def panels_of(figure):
    return [axes for axes in figure.axes if axes.get_images() and axes.get_visible()]


def test_cuts_are_the_data_in_millimetres(volume):
    order = np.random.default_rng(2).permutation(9)
    depth = volume[0].axes.z[13]
    figure = draw_volume([volume[k] for k in order], depth=depth + 1e-5)
    panels = panels_of(figure)
    assert [p.get_title() for p in panels[:8]] == [
        f"slice {k}, y = {(k - 4) * 0.5:.2f} mm" for k in (0, 1, 2, 3, 5, 6, 7, 8)
    ]
    for panel, k in zip(panels, (0, 1, 2, 3, 5, 6, 7, 8), strict=False):
        np.testing.assert_array_equal(panel.get_images()[0].get_array(), volume[k].bmode)
    for three, stack in (
        (panels[8:11], np.stack([frame.bmode for frame in volume])),
        (panels[11:14], np.stack([frame.truth.bmode for frame in volume])),
    ):
        cuts = [panel.get_images()[0].get_array() for panel in three]
        np.testing.assert_array_equal(cuts[0], stack[:, 13])
        np.testing.assert_array_equal(cuts[1], stack[4])
        np.testing.assert_array_equal(cuts[2], stack[:, :, 16].T)
        elevation = three[0].get_images()[0].get_extent()[2:]
        np.testing.assert_allclose(sorted(elevation), [-2.25, 2.25])
        np.testing.assert_allclose(three[2].get_images()[0].get_extent()[:2], [-2.25, 2.25])
    assert all(panel.get_images()[0].get_clim() == (-60, 0) for panel in panels)
    assert len(panels) == 14


def test_two_slices_are_enough_and_one_is_not(tmp_path, volume, make_frame):
    volume_sheet(volume[:2], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="at least two slices, not 1"):
        volume_sheet(volume[:1], tmp_path / "b.png")
    with pytest.raises(ConfigError, match=r"--depth: 50 mm is not in the image, which has 2 to 30 mm"):
        volume_sheet(volume, tmp_path / "b.png", depth=50e-3)
    with pytest.raises(DataError, match="differ in size"):
        volume_sheet([*volume, *views(make_frame, slices=9, shape=(24, 16))], tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
