"""Contact sheets: one grey scale, millimetres, equal aspect, readable names."""

import os
from dataclasses import replace

import numpy as np
import pytest
from views import views

from usim.errors import ConfigError, ResourceError
from usim.view import contact_sheet
from usim.view.movie import rasters
from usim.view.panels import name_of
from usim.view.sheet import draw_frames


def test_one_grey_scale_millimetres_and_equal_aspect(make_frame):
    frames = [make_frame(i) for i in range(2)]
    frames[0].params["scene"]["image"]["headroom"] = 20.0
    figure = draw_frames(frames)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [p.get_title() for p in panels[:5]] == [
        "image",
        "truth: bmode",
        "truth: resolved",
        "truth: echogenicity",
        "labels",
    ]
    assert len(panels) == 10
    for panel in (p for p in panels if p.get_title() != "labels"):
        assert panel.get_images()[0].get_clim() == (-60, 0)
    for panel in panels:
        assert panel.get_aspect() == 1
        left, right, bottom, top = panel.get_images()[0].get_extent()
        assert left < -10
        assert right > 10
        assert bottom > 30
        assert top < 2
    echogenicity = panels[3].get_images()[0].get_array()
    np.testing.assert_allclose(echogenicity, frames[0].truth.echogenicity_db - 20)
    assert [text.get_text() for text in panels[4].get_legend().get_texts()] == ["tissue", "cyst"]
    assert figure.axes[-1].get_ylabel() == "dB"


def test_what_was_not_scanned_is_black_everywhere(make_frame):
    frame = make_frame()
    mask = np.ones(frame.bmode.shape, np.uint8)
    mask[:8, :5] = 0
    labels = frame.truth.labels.copy()
    labels[:8, :5] = 1
    labels[8:] = 0  # the cyst lies outside alone: nothing of it is to be seen, and its name is not listed
    way = np.full((*mask.shape, 2), 1e-3, np.float32)
    way[:8, :5] = 1.0
    frame = replace(frame, truth=replace(frame.truth, mask=mask, labels=labels, displacement=way))
    panels = [axes for axes in draw_frames([frame]).axes if axes.get_title()]
    assert panels[4].get_title() == "displacement, 0 to 1.41 mm"
    for panel in panels[:4]:
        values = panel.get_images()[0].get_array()
        assert (values[mask == 0] == -60).all()
    np.testing.assert_array_equal(panels[0].get_images()[0].get_array()[mask > 0], frame.bmode[mask > 0])
    assert (panels[4].get_images()[0].get_array().mask == (mask == 0)).all()
    assert panels[4].get_facecolor()[:3] == (0, 0, 0)
    assert (panels[5].get_images()[0].get_array()[mask == 0] == (0, 0, 0, 1)).all()
    assert [text.get_text() for text in panels[5].get_legend().get_texts()] == ["tissue"]
    for raster in rasters([frame, frame]):
        assert raster[60:80, 75:100].max() == 0


@pytest.mark.parametrize(("kind", "white"), [(np.uint8, 255), (np.float32, 1)])
def test_the_display_stands_beside_its_truth_on_its_own_scale(make_frame, kind, white):
    frame = make_frame()
    shown = (np.linspace(0, white, frame.bmode.size).reshape(frame.bmode.shape)).astype(kind)
    mean = np.full(shown.shape, 0.4 * white, np.float32)
    frame = replace(frame, display=shown, truth=replace(frame.truth, display=mean))
    panels = [axes for axes in draw_frames([frame]).axes if axes.get_title()]
    assert [panel.get_title() for panel in panels[4:]] == [f"display, 0 to {white}", "truth: display", "labels"]
    for panel, values in zip(panels[4:6], (shown, mean), strict=True):
        np.testing.assert_array_equal(panel.get_images()[0].get_array(), values)
        assert panel.get_images()[0].get_clim() == (0, white)
    raster = next(iter(rasters([frame])))
    high, wide = raster.shape
    assert np.median(raster[high // 3 : 2 * high // 3, int(0.85 * wide) : int(0.95 * wide)]) == pytest.approx(
        102, abs=2
    )


def test_rows_are_called_what_they_are(make_frame):
    frames = views(make_frame, scenes=2, looks=2, slices=3, angles=3, times=3, rate=40.0)
    assert name_of(frames[-1]) == "scene 1, look 1, y = 0.5 mm, angle 10°, t = 50 ms"
    assert name_of(views(make_frame, scenes=4, looks=2)[7]) == "scene 3, look 1"
    assert name_of(views(make_frame, scenes=4)[3]) == "scene 3"
    figure = draw_frames(views(make_frame, scenes=4, looks=2)[6:8])
    assert figure.axes[0].get_ylabel() == "scene 3, look 0\ndepth [mm]"
    assert figure.axes[5].get_ylabel() == "scene 3, look 1\ndepth [mm]"


def test_equal_frames_give_equal_pictures_and_errors_are_named(tmp_path, make_frame, monkeypatch):
    contact_sheet([make_frame()], tmp_path / "a.png")
    contact_sheet([make_frame()], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(ConfigError, match="51 frames, a sheet has at most 50 rows; choose some with --frames"):
        contact_sheet([make_frame()] * 51, tmp_path / "c.png")
    with pytest.raises(ConfigError, match="no frames"):
        contact_sheet([], tmp_path / "c.png")
    with pytest.raises(ConfigError, match=r"use \.png"):
        contact_sheet([make_frame()], tmp_path / "c.nonsense")
    with pytest.raises(ResourceError, match=r"gone/c\.png: cannot write"):
        contact_sheet([make_frame()], tmp_path / "gone" / "c.png")
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]
