"""Descriptions: frozen, hashable, from units or SI, and never impossible."""

import math

import numpy as np
import pytest

from usim.errors import ConfigError
from usim.medium import Medium
from usim.phantom.schema import CloudFile, CloudSpec, Scene
from usim.probe import PRESETS, Probe
from usim.scan import Image
from usim.transmit import FocusedScan, PlaneScan

IMAGE = {"x": ["-19 mm", "19 mm"], "z": ["2 mm", "42 mm"], "pixels": [8, 4]}
MINIMAL = {"probe": "L11-5v", "image": IMAGE, "background": {"echogenicity": 0}}


def test_defaults_are_the_documented_ones():
    scene = Scene(**MINIMAL)
    assert scene.medium == Medium(sound_speed=1540.0, attenuation=0.5)
    assert scene.transmit == PlaneScan(angle=0.0, cycles=1.0)
    assert (scene.receive.f_number, scene.receive.apodization) == (1.5, "hann")
    assert scene.scatterers == CloudSpec(model="plane", per_cell=10.0, amplitude="unit")
    assert (scene.noise, scene.tgc, scene.frames, scene.seed, scene.engine) == (None, "auto", None, 0, "psf")
    assert (scene.image.headroom, scene.image.dynamic_range) == (25.0, 60.0)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_consistent(name):
    probe = Probe.preset(name)
    assert probe.name == name
    assert 0 < probe.kerf < probe.pitch
    if probe.is_linear:
        assert probe.aperture == pytest.approx(probe.elements * probe.pitch - probe.kerf)
    assert Probe.model_validate(name) == Probe(preset=name) == probe


def test_a_preset_can_be_changed():
    probe = Scene(**{**MINIMAL, "probe": {"preset": "L11-5v", "elements": 192}}).probe
    assert probe == Probe.preset("L11-5v").model_copy(update={"elements": 192, "name": "L11-5v (changed)"})


def test_elements_do_not_overlap():
    with pytest.raises(ConfigError, match=r"element_width 0\.27 mm exceeds pitch 0\.2 mm"):
        Probe(preset="L11-5v", pitch="0.2 mm")


def test_descriptions_are_frozen_and_hashable():
    scene = Scene(**MINIMAL)
    assert hash(scene) == hash(Scene(**MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        scene.seed = 3


def test_python_errors_are_ours_and_complete():
    with pytest.raises(ConfigError) as caught:
        Scene(**{**MINIMAL, "medium": {"sound_speed": 1.54, "atenuation": 1}, "noise": {}})
    text = str(caught.value)
    assert "Scene.medium.sound_speed: must be at least" in text
    assert "Scene.medium.atenuation: unknown key; did you mean 'attenuation'?" in text
    assert "Scene.noise.snr: this key is required and missing" in text


def test_axes_include_both_ends():
    image = Image(**IMAGE)
    assert image.x_axis().dtype == np.float64
    assert image.x_axis().tolist() == np.linspace(-0.019, 0.019, 8).tolist()
    assert (image.z_axis()[0], image.z_axis()[-1], len(image.z_axis())) == (0.002, 0.042, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": [0.01, 0.01]}, "x: the end 10 mm must lie beyond the start 10 mm"),
        ({"z": [0, 0.01]}, "greater than 0"),
        ({"pixels": [8193, 8]}, "8193 is beyond 8192"),
        ({"pixels": [8, 1]}, "1 is below 2"),
        ({"pixels": [8.5, 8]}, "whole number from 2 to 8192"),
        ({"x": [0.01]}, "value 2 of the list is missing"),
        ({"x": [0, 0.01, 0.02]}, "at most 2 values, got 3"),
    ],
)
def test_impossible_images_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Image(**{**IMAGE, **change})


def test_unions_are_told_apart():
    assert isinstance(Scene(**MINIMAL, transmit={"type": "focused", "depth": "20 mm"}).transmit, FocusedScan)
    assert isinstance(Scene(**MINIMAL, scatterers={"file": "cloud.npz"}).scatterers, CloudFile)
    with pytest.raises(ConfigError, match=r"transmit\.type: 'focussed' is none of focused, plane; did you mean"):
        Scene(**MINIMAL, transmit={"type": "focussed"})
    with pytest.raises(ConfigError, match=r"transmit\.type: this key is required and missing"):
        Scene(**MINIMAL, transmit={"depth": "20 mm"})


def test_plane_waves_steer_at_most_30_degrees():
    assert PlaneScan(angle="30 deg").angle == pytest.approx(math.pi / 6)
    with pytest.raises(ConfigError, match="did you mean 10 deg"):
        PlaneScan(angle=10)


def test_a_texture_too_fine_for_the_image_is_refused_before_it_is_drawn():
    background = {"echogenicity": 0, "texture": {"std": 1, "correlation": "0.1 mm"}}
    wide = {**IMAGE, "x": [-0.2, 0.2], "z": [0.001, 0.5]}
    with pytest.raises(ConfigError, match="too fine for an image"):
        Scene(probe="L7-4", image=wide, background=background)
