"""Which frames of a dataset a picture shows: those asked for, and otherwise those that show its axes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from views import dataset, level_of, views

import usim.view.choice as choice
from usim.errors import ConfigError
from usim.info import describe
from usim.io.layout import AXES
from usim.view.choice import Request, _running, _sheet, draw


@pytest.fixture
def drawn(monkeypatch):
    """What `draw` hands to the three kinds of pictures: their name and the places of their frames."""
    calls = []

    def place(frame):
        return tuple(frame.params[name] for name in ("index", "look", "slice", "angle", "time"))

    for name in ("contact_sheet", "movie", "volume_sheet"):

        def record(frames, target, *, name=name, **options):
            calls.append((name, [place(frame) for frame in frames]))
            return 1.0

        monkeypatch.setattr(choice, name, record)
    return calls


def ask(data, target, **request):
    return draw(data, target, Request(**request), "data")


def test_places_are_those_of_the_frames(tmp_path, make_frame):
    frames = views(make_frame, scenes=2, looks=2, slices=3, times=2)
    data = dataset(tmp_path / "data", frames)
    places = data.places()
    for row, frame in enumerate(frames):
        assert [places[name][row] for name in ("scene", "look", "slice", "angle", "time")] == [
            frame.params[name] for name in ("index", "look", "slice", "angle", "time")
        ]
    some = data.choose([5, 2])
    assert [int(t) for t in some.places()["slice"]] == [int(places["slice"][5]), int(places["slice"][2])]
    assert some[1].bmode[0, 0] == frames[2].bmode[0, 0]
    assert len(some[:1]) == 1


def test_a_sequence_is_a_movie_of_one_scene_and_a_sheet_of_some_times(tmp_path, make_frame, drawn):
    data = dataset(tmp_path / "data", views(make_frame, scenes=2, looks=2, times=7))
    assert (
        ask(data, tmp_path / "a.gif") == f"{tmp_path}/a.gif: 7 frames, 1 per second, 0.04 of the sequence's own speed"
    )
    ask(data, tmp_path / "a.gif", only={"scene": (1,), "look": (1,)})
    ask(data, tmp_path / "a.gif", only={"scene": (1, 0)})
    ask(data, tmp_path / "a.png")
    ask(data, tmp_path / "a.png", only={"time": (2,), "scene": (1,)})
    ask(data, tmp_path / "a.gif", frames=(3, -1))
    assert drawn == [
        ("movie", [(0, 0, 0, 0, t) for t in range(7)]),
        ("movie", [(1, 1, 0, 0, t) for t in range(7)]),
        ("movie", [(s, 0, 0, 0, t) for s in range(2) for t in range(7)]),
        ("contact_sheet", [(0, 0, 0, 0, t) for t in (0, 2, 4, 6)]),
        ("contact_sheet", [(1, 0, 0, 0, 2), (1, 1, 0, 0, 2)]),
        ("movie", [(0, 0, 0, 0, 3), (1, 1, 0, 0, 6)]),
    ]


def test_a_sweep_is_a_volume_and_a_movie_of_its_slices(tmp_path, make_frame, drawn):
    data = dataset(tmp_path / "data", views(make_frame, scenes=2, slices=5))
    ask(data, tmp_path / "a.png", depth=10e-3)
    ask(data, tmp_path / "a.gif", only={"scene": (1,)})
    ask(data, tmp_path / "a.png", frames=(0, 1))
    ask(data, tmp_path / "a.png", only={"slice": (2,)})
    assert drawn == [
        ("volume_sheet", [(0, 0, s, 0, 0) for s in range(5)]),
        ("movie", [(1, 0, s, 0, 0) for s in range(5)]),
        ("contact_sheet", [(0, 0, 0, 0, 0), (0, 0, 1, 0, 0)]),
        ("contact_sheet", [(0, 0, 2, 0, 0), (1, 0, 2, 0, 0)]),
    ]


def test_a_moving_volume_runs_through_time_at_its_middle_slice(tmp_path, make_frame, drawn):
    data = dataset(tmp_path / "data", views(make_frame, slices=3, times=4))
    ask(data, tmp_path / "a.gif")
    ask(data, tmp_path / "a.gif", only={"time": (2,)})
    ask(data, tmp_path / "a.png")
    assert drawn == [
        ("movie", [(0, 0, 1, 0, t) for t in range(4)]),
        ("movie", [(0, 0, s, 0, 2) for s in range(3)]),
        ("volume_sheet", [(0, 0, s, 0, 0) for s in range(3)]),
    ]


def test_scenes_looks_and_angles(tmp_path, make_frame, drawn):
    ask(dataset(tmp_path / "plain", views(make_frame, scenes=5)), tmp_path / "a.png")
    ask(dataset(tmp_path / "looks", views(make_frame, scenes=2, looks=4)), tmp_path / "a.gif")
    ask(dataset(tmp_path / "angles", views(make_frame, looks=2, angles=6)), tmp_path / "a.png")
    assert drawn == [
        ("contact_sheet", [(s, 0, 0, 0, 0) for s in range(3)]),
        ("movie", [(s, k, 0, 0, 0) for s in range(2) for k in range(4)]),
        ("contact_sheet", [(0, 0, 0, a, 0) for a in (0, 2, 3, 5)]),
    ]


@pytest.mark.parametrize(
    ("target", "request_", "text"),
    [
        ("a.png", {"only": {"scene": (9,)}}, r"--scene: data has no scene 9; it has 0 to 1"),
        ("a.gif", {"only": {"look": (1,)}}, r"--look: data has no look 1; it has 0 alone"),
        ("a.png", {"frames": (6,)}, r"--frames: 6 is not one of the 6 frames of data \(0 to 5\)"),
        ("a.png", {"frames": (0,), "only": {"time": (1,)}}, "--frames and --time both choose frames"),
        ("a.png", {"fps": 5.0}, "does not move; write .gif or .mp4"),
        ("a.png", {"depth": 0.01}, "shows no volume here"),
        ("a.gif", {"depth": 0.01}, "shows no x-y cut"),
        ("a.avi", {}, r"use \.png, \.jpg, \.pdf, \.svg, \.gif or \.mp4"),
        ("a", {}, "without an ending"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, make_frame, target, request_, text):
    data = dataset(tmp_path / "data", views(make_frame, scenes=2, times=3))
    with pytest.raises(ConfigError, match=text):
        ask(data, tmp_path / target, **request_)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_numbers_that_no_frame_has_at_once(tmp_path, make_frame):
    frames = [frame for frame in views(make_frame, scenes=2, times=3) if frame.params["index"] == frame.params["time"]]
    data = dataset(tmp_path / "data", frames)
    with pytest.raises(ConfigError, match="no frame is at once --scene 0, --time 1"):
        ask(data, tmp_path / "a.png", only={"scene": (0,), "time": (1,)})


def test_a_source_without_frames_is_refused(tmp_path, make_frame):
    data = dataset(tmp_path / "data", views(make_frame))
    with pytest.raises(ConfigError, match="data: there are no frames to draw"):
        ask(data[:0], tmp_path / "a.gif")


def test_info_tells_how_the_frame_axis_divides(tmp_path, make_frame):
    dataset(tmp_path / "data", views(make_frame, scenes=2, looks=2, slices=3, angles=3, times=2))
    line = next(line for line in describe(tmp_path / "data").splitlines() if line.startswith("index"))
    assert line.split(maxsplit=1)[1] == (
        "2 scenes x 2 looks x 3 slices (0.5 mm apart) x 3 angles (-10, 0, 10 degrees) x 2 times"
    )
    dataset(tmp_path / "part", views(make_frame, scenes=3, looks=4)[:-3])
    assert "3 scenes x 4 looks x 1 slice x 1 angle x 1 time; 3 of these are not there" in describe(tmp_path / "part")


@given(st.tuples(*[st.integers(1, 4)] * 5), st.randoms())
def test_a_movie_runs_along_one_axis_of_whatever_there_is(shape, random):
    rows = list(itertools.product(*map(range, shape)))
    random.shuffle(rows)
    index = dict(zip(AXES, np.array(rows).T, strict=True))
    played = [rows[row] for row in _running(index, list(range(len(rows))), Request())]
    slices, times = shape[2], shape[4]
    if times > 1:
        assert played == [(0, 0, slices // 2, 0, time) for time in range(times)]
    elif slices > 1:
        assert played == [(0, 0, slice, 0, 0) for slice in range(slices)]
    else:
        assert played == rows
    drawn = [rows[row] for row in _sheet(index, list(range(len(rows))), Request())]
    assert 1 <= len(set(drawn)) == len(drawn) <= 4
    if times > 1:
        assert {place[:4] for place in drawn} == {(0, 0, slices // 2, 0)}


def test_levels_of_crafted_frames_differ():
    levels = [level_of(0, 0, 0, 0, time) for time in range(9)]
    assert np.all(np.diff(levels) > 2)
