"""Wires, interfaces, reverberation and haze in a phantom file: what is accepted, drawn, refused and written down."""

import json

import pytest

from usim.errors import ConfigError, ResourceError
from usim.phantom.draw import draw
from usim.phantom.load import phantom_from_text
from usim.phantom.views import View
from usim.pipeline import Renderer

BASE = """probe: L11-5v
image: {x: [-2 mm, 2 mm], z: [8 mm, 12 mm], pixels: [24, 48]}
scatterers: {model: field}
background: {echogenicity: 0 dB}
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("wires: [{position: [0 mm, 0 mm], amplitude: 3 dB}]", "greater than 0"),
        ("wires: [{position: [0 mm, 9 mm]}]", "wires.0.amplitude: this key is required"),
        ("wires: [{repeat: 70000, position: [0 mm, 9 mm], amplitude: 3 dB}]", "4096"),
        ("interfaces: [{path: [[0 mm, 9 mm]], amplitude: 3 dB}]", "expected at least 2 values, got 1"),
        ("interfaces: [{path: [[0 mm, 9 mm], [0 mm, 9 mm]], amplitude: 3 dB}]", "points 1 and 2 are the same"),
        ("interfaces: [{path: [[0 mm, 9 mm], [1 mm, 9 mm]], amplitude: 3 dB, roughness: 2 mm}]", "1 mm"),
        ("interfaces: [{path: [[0, 9 mm], [1 mm, 9 mm]], amplitude: 3 dB, rough: 2 um}]", "did you mean 'roughness'"),
        (
            "interfaces: [{path: [[0 mm, 9 mm], [1 mm, 9 mm]], amplitude: 3 dB, reverberation: {count: 0}}]",
            "interfaces.0.reverberation.count",
        ),
        ("reverberation: {spacing: 0.1 mm}", "reverberation.spacing"),
        ("reverberation: {spacing: 3 mm, x: [2 mm, -2 mm]}", "the end -2 mm must lie beyond the start 2 mm"),
        ("haze: {depth: 3 mm}", "haze.level: this key is required"),
        ("haze: {level: 3 dB, depth: 0.2 mm}", "haze.depth"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(line, message):
    with pytest.raises(ConfigError, match=message) as refused:
        phantom_from_text(BASE + line)
    assert "phantom:5:" in str(refused.value)


def test_too_many_interfaces_are_counted_with_their_repeats():
    item = "{repeat: 900, path: [[0 mm, 9 mm], [1 mm, 9 mm]], amplitude: 3 dB}"
    with pytest.raises(ConfigError, match="1800 interfaces with all repeats, at most 1024 are allowed"):
        phantom_from_text(BASE + f"interfaces: [{item}, {item}]")


def test_surfaces_without_end_are_refused():
    path = ", ".join(f"[{x} mm, {z} mm]" for _ in range(8) for x, z in ((-200, 1), (200, 500), (199, 1), (-199, 500)))
    phantom = phantom_from_text(BASE + f"interfaces: [{{repeat: 1000, path: [{path}], amplitude: 3 dB}}]")
    with pytest.raises(ResourceError, match=r"interfaces: .* ask for .* scatterers, at most 3e\+06 are allowed"):
        Renderer(phantom).image(0)


def test_repeats_and_ranges_are_drawn_one_by_one():
    text = BASE + (
        "wires: [{repeat: {integer: [3, 3]}, position: [{uniform: [-2 mm, 2 mm]}, 10 mm], amplitude: 20 dB}]\n"
        "interfaces: [{repeat: 4, path: [[-2 mm, {uniform: [8 mm, 12 mm]}], [2 mm, 10 mm]], amplitude: 10 dB,"
        " roughness: {log_uniform: [1 um, 30 um]}}]\n"
        "haze: {level: {uniform: [-30 dB, -10 dB]}}\nreverberation: {spacing: {uniform: [1 mm, 2 mm]}}"
    )
    one, other = (draw(phantom_from_text(text), index=i) for i in (0, 1))
    assert len(one.wires) == 3
    assert len(one.interfaces) == 4
    assert len({w.position[0] for w in one.wires}) == 3
    assert len({i.path[0][1] for i in one.interfaces} | {i.roughness for i in one.interfaces}) == 8
    assert one.haze.level != other.haze.level
    assert one.reverberation.spacing != other.reverberation.spacing


def test_what_was_placed_is_in_the_parameters():
    text = BASE + (
        "wires: [{name: nylon, position: [1 mm, 10 mm], amplitude: 20 dB}]\n"
        "interfaces: [{name: wall, path: [[-2 mm, 9 mm], [2 mm, 9.5 mm]], amplitude: 15 dB}]\n"
    )
    params = json.loads(json.dumps(Renderer(phantom_from_text(text)).render(0).params))
    (wire,), (wall,) = params["wires"], params["interfaces"]
    assert (wire["name"], wire["position"], wire["amplitude_db"]) == ("nylon", [1e-3, 10e-3], 20.0)
    assert wire["scattering_amplitude"] > 0.0
    assert wall == {"name": "wall", "path": [[-2e-3, 9e-3], [2e-3, 9.5e-3]], "amplitude_db": 15.0}
    assert params["points"] == []


def test_structure_outside_the_image_and_above_the_first_wavelength_leaves_no_trace():
    far = BASE + (
        "interfaces: [{path: [[-2 mm, 60 mm], [2 mm, 60 mm]], amplitude: 15 dB},"
        " {path: [[-2 mm, 0.01 mm], [2 mm, 0.02 mm]], amplitude: 15 dB}]\n"
        "wires: [{position: [80 mm, 10 mm], amplitude: 20 dB}]\n"
    )
    stage = Renderer(phantom_from_text(far)).stage(0)
    assert abs(stage.coherent).max() < 1e-4 * stage.setting.reference.tissue**0.5


def test_an_interface_moves_with_the_tissue():
    text = BASE.replace("{model: field}", "{model: plane, per_cell: 2}") + (
        "sequence: {times: 2, rate: 10 Hz, motions: [{type: translation, velocity: [0 mm/s, 8 mm/s]}]}\n"
        "interfaces: [{path: [[-2 mm, 9 mm], [2 mm, 9 mm]], amplitude: 30 dB, reverberation: {count: 1}}]\n"
        "wires: [{position: [1 mm, 11 mm], amplitude: 20 dB}]\n"
    )
    renderer = Renderer(phantom_from_text(text))
    first, later = (renderer.stage(0, View(time=t)).targets for t in (0, 1))
    assert later.mirrors.z - first.mirrors.z == pytest.approx(0.8e-3, abs=1e-6)
    assert later.wires.z - first.wires.z == pytest.approx(0.8e-3, abs=1e-6)
    assert later.repeats.z - first.repeats.z == pytest.approx(1.6e-3, abs=2e-6)
