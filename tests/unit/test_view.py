"""Contact sheets: one grey scale, millimetres, equal aspect, readable names."""

import os

import numpy as np
import pytest

from usim.errors import ConfigError, ResourceError
from usim.view import contact_sheet
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


def test_equal_frames_give_equal_pictures_and_errors_are_named(tmp_path, make_frame, monkeypatch):
    contact_sheet([make_frame()], tmp_path / "a.png")
    contact_sheet([make_frame()], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(ConfigError, match="no frames"):
        contact_sheet([], tmp_path / "c.png")
    with pytest.raises(ConfigError, match=r"use \.png"):
        contact_sheet([make_frame()], tmp_path / "c.nonsense")
    with pytest.raises(ResourceError, match=r"gone/c\.png: cannot write"):
        contact_sheet([make_frame()], tmp_path / "gone" / "c.png")
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]
