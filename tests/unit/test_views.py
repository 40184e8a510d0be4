"""Several images of one scene: how they are counted, what they share, and what is refused."""

import math

import numpy as np
import pytest

import usim
from usim.errors import ConfigError
from usim.generate import generate
from usim.phantom.load import phantom_from_dict, phantom_from_text
from usim.phantom.views import View, view_of
from usim.pipeline import Renderer, simulate

BASE = """
probe: L11-5v
image: {x: [-4 mm, 4 mm], z: [10 mm, 16 mm], pixels: [48, 64]}
background: {echogenicity: 0 dB}
noise: {snr: 20 dB}
"""
VOLUME = "scatterers: {model: volume, per_cell: 2}\n"
PLANE = "transmit: {type: plane}\n"


def phantom(extra, base=BASE):
    return phantom_from_text(base + extra)


def test_views_are_counted_with_time_fastest():
    shape = View(look=2, slice=3, angle=1, time=4)
    places = [view_of(number, shape) for number in range(2 * math.prod(shape))]
    assert len(set(places)) == 48
    assert places[:5] == [(0, View(time=t)) for t in range(4)] + [(0, View(slice=1))]
    assert places[12] == (0, View(look=1))
    assert places[24] == (1, View())


@pytest.mark.parametrize(
    ("extra", "shape", "frames"),
    [
        ("", (1, 1, 1, 1), 1),
        ("looks: 3\n", (3, 1, 1, 1), 3),
        (VOLUME + "sweep: {slices: 4, step: 0.2 mm}\n", (1, 4, 1, 1), 4),
        (PLANE + "angles: [-5 deg, 5 deg]\nlooks: 2\n", (2, 1, 2, 1), 4),
        ("sequence: {times: 5, rate: 10 Hz}\nframes: 10\n", (1, 1, 1, 5), 10),
        ("compound: {frequencies: [6 MHz, 8 MHz]}\n", (1, 1, 1, 1), 1),
    ],
)
def test_frames_are_those_of_one_scene_unless_given(extra, shape, frames):
    found = phantom(extra)
    assert found.views == shape
    assert found.frames == frames


def test_looks_share_the_scene_and_nothing_else():
    one, two, other = (Renderer(phantom("looks: 2\n")).frame(k) for k in range(3))
    np.testing.assert_array_equal(one.truth.bmode, two.truth.bmode)
    assert (one.params["look"], two.params["look"], other.params["look"]) == (0, 1, 0)
    assert (one.params["index"], two.params["index"], other.params["index"]) == (0, 0, 1)
    assert abs(np.corrcoef(one.bmode.ravel(), two.bmode.ravel())[0, 1]) < 0.1


def test_angles_and_slices_share_their_scatterers():
    for extra, name in ((PLANE + "angles: [-2 deg, 2 deg]\n", "angle"), (VOLUME + SWEEP, "slice")):
        renderer = Renderer(phantom(extra))
        frames = [renderer.frame(k) for k in range(2)]
        assert [frame.params[name] for frame in frames] == [0, 1]
        np.testing.assert_array_equal(frames[0].scatterers.position, frames[1].scatterers.position)
        alike = np.abs((frames[0].iq * frames[1].iq.conj()).sum()) / np.sqrt(
            (np.abs(frames[0].iq) ** 2).sum() * (np.abs(frames[1].iq) ** 2).sum()
        )
        assert 0.75 < alike < 0.999, name  # noise is not shared


SWEEP = "sweep: {slices: 3, step: 0.1 mm}\n"


def test_a_frame_is_the_same_whatever_was_made_before():
    text = PLANE + "angles: [-5 deg, 0 deg, 5 deg]\nlooks: 2\n"
    used = Renderer(phantom(text))
    for number in (5, 0, 3):
        used.frame(number)
    again, fresh = used.frame(4), Renderer(phantom(text)).frame(4)
    np.testing.assert_array_equal(again.iq, fresh.iq)
    np.testing.assert_array_equal(again.truth.bmode, fresh.truth.bmode)


def test_points_fade_beside_their_plane():
    text = VOLUME + "sweep: {slices: 5, step: 0.5 mm}\npoints: [{position: [0 mm, 13 mm], amplitude: 30 dB}]\n"
    renderer = Renderer(phantom(text))
    peaks = [20 * np.log10(np.abs(renderer.stage(0, View(slice=k)).coherent).max()) for k in range(5)]
    assert peaks[0] == pytest.approx(peaks[4], abs=0.01)
    assert peaks[2] > peaks[1] + 1.0 > peaks[0] + 2.0


def test_the_file_says_which_image_is_which(tmp_path):
    generate(phantom(PLANE + "angles: [-5 deg, 5 deg]\nlooks: 2\n"), tmp_path / "out", workers=1)
    import h5py

    with h5py.File(tmp_path / "out" / "shard-00000.h5") as file:
        index = {name: file[f"index/{name}"][()].tolist() for name in ("scene", "look", "slice", "angle", "time")}
    data = usim.open(tmp_path / "out")
    assert len(data) == 4
    assert index["scene"][0] == index["slice"][0] == index["time"][0] == 0
    assert [frame.params["angle"] for frame in data] == [0, 1, 0, 1]
    assert [frame.params["look"] for frame in data] == [0, 0, 1, 1]
    assert np.shape(data[3].params["rho"]["angles"]) == (2, 2)


def test_compounded_images_are_stored_with_their_looks(tmp_path):
    generate(phantom("compound: {frequencies: [6 MHz, 8 MHz]}\nframes: 2\n"), tmp_path / "out", workers=1)
    frame = usim.open(tmp_path / "out")[1]
    made = Renderer(phantom("compound: {frequencies: [6 MHz, 8 MHz]}\nframes: 2\n")).frame(1)
    np.testing.assert_array_equal(frame.truth.looks, made.truth.looks)
    np.testing.assert_array_equal(frame.bmode, made.bmode)
    assert frame.iq is None
    assert made.iq is None
    assert 1.0 < frame.truth.looks.mean() < 2.0


def test_iq_of_compounds_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match="leave iq out"):
        generate(phantom("compound: {frequencies: [6 MHz, 8 MHz]}\n"), tmp_path / "out", store=["iq"])
    assert not (tmp_path / "out").exists()


def test_drawn_parameters_make_the_frame_again():
    text = "compound: {frequencies: [{uniform: [5 MHz, 6 MHz]}, 8 MHz]}\nlooks: 2\nseed: 3\n"
    frame = Renderer(phantom(text)).frame(5)
    params = frame.params
    place = {name: params[name] for name in ("seed", "index", "look")}
    again = simulate(phantom_from_dict(params["scene"]), **place)
    np.testing.assert_array_equal(again.bmode, frame.bmode)
    np.testing.assert_array_equal(again.truth.bmode, frame.truth.bmode)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("sweep: {slices: 4, step: 0.2 mm}\n", "model: volume"),
        ("angles: [-5 deg, 5 deg]\ntransmit: {type: focused, depth: 12 mm}\n", "transmit: {type: plane}"),
        (PLANE + "angles: [-5 deg, 5 deg]\nscatterers: {model: field}\n", "model: field has none"),
        ("compound: {mean: power}\n", "either angles or frequencies"),
        ("compound: {angles: [0 deg, 1 deg], frequencies: [6 MHz, 8 MHz]}\n", "either angles or frequencies"),
        (PLANE + "angles: [0 deg, 1 deg]\ncompound: {angles: [0 deg, 1 deg]}\n", "exclude each other"),
        ("looks: {integer: [1, 3]}\n", "as many images"),
        (VOLUME + "sweep: {slices: {integer: [2, 3]}, step: 1 mm}\n", "as many images"),
        ("looks: 0\n", "looks"),
    ],
)
def test_what_can_not_be_is_refused(extra, message):
    with pytest.raises(ConfigError, match="phantom:") as error:
        phantom(extra)
    assert message in str(error.value)


def test_a_view_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="angle: 2; phantom has 1"):
        simulate(phantom(""), angle=2)
