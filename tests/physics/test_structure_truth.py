"""Strong structure and clutter in the truth: the mean of looks converges to truth/bmode across all of it."""

import re

import numpy as np
import pytest
from scenes import decibel, looks, scene

from usim.phantom.load import phantom_from_text
from usim.phantom.truth import label_names
from usim.phantom.views import View
from usim.pipeline import Renderer
from usim.stage import Stage

IMAGE = {"image": "{x: [-4 mm, 4 mm], z: [14 mm, 26 mm], pixels: [96, 128]}", "noise": "{snr: 40 dB}"}
STONE = "{shape: circle, center: [-1.5 mm, 16 mm], radius: 1 mm, echogenicity: 12 dB, attenuation: 5 dB/cm/MHz}"
FLUID = "{shape: circle, center: [2 mm, 18 mm], radius: 1.5 mm, echogenicity: anechoic, attenuation: 0 dB/cm/MHz}"
WALLS = (
    "[{path: [[-3 mm, 16 mm], [3 mm, 16.3 mm]], amplitude: 8 dB},"
    " {path: [[-3.5 mm, 20 mm], [0 mm, 21 mm], [3.5 mm, 20 mm]], amplitude: 18 dB, roughness: 12 um},"
    " {path: [[-3 mm, 24 mm], [3 mm, 24 mm]], amplitude: 12 dB, roughness: 40 um}]"
)
SCENES = {
    "walls": {"interfaces": WALLS, "wires": "[{position: [2.6 mm, 18 mm], amplitude: 12 dB}]"},
    "shadow": {
        "regions": f"[{STONE}, {FLUID}]",
        "wires": "[{position: [-1.5 mm, 22 mm], amplitude: 12 dB}]",
        "interfaces": "[{path: [[-3.5 mm, 24 mm], [3.5 mm, 24 mm]], amplitude: 10 dB}]",
    },
    "clutter": {
        "regions": "[{shape: circle, center: [0 mm, 20 mm], radius: 3 mm, echogenicity: anechoic}]",
        "haze": "{level: -3 dB, depth: 9 mm}",
        "reverberation": "{spacing: 6 mm, level: 0 dB, decay: 2 dB, count: 4}",
    },
    "steered clutter": {
        "transmit": "{type: plane, angle: 6 deg}",
        "haze": "{level: -3 dB}",
        "regions": f"[{STONE}]",
        "interfaces": "[{path: [[-3 mm, 21.2 mm], [3 mm, 20.9 mm]], amplitude: 10 dB}]",
    },
    "plane cloud": {
        "scatterers": "{model: plane, per_cell: 20}",
        "regions": f"[{STONE}, {FLUID}]",
        "haze": "{level: -20 dB}",
        "interfaces": WALLS,
    },
}


def parts(name, renderer):
    """Masks (Z, X) of the places that are judged apart."""
    grid = renderer.stage(0).setting.plan.grid
    x, z = (a * 1e3 for a in np.broadcast_arrays(grid.x[None, :], grid.z[:, None]))
    whole = {"everywhere": np.ones(x.shape, dtype=bool)}
    if name == "walls":
        rows = {"mirror": np.abs(z - 16.15) < 0.5, "both": np.abs(z - 20.5) < 0.8, "rough": np.abs(z - 24) < 0.4}
        return whole | rows | {"wire": np.hypot(x - 2.6, z - 18) < 0.7}
    if name == "shadow":
        return whole | {
            "shadow": (np.abs(x + 1.5) < 0.8) & (z > 17.5) & (z < 21),
            "enhancement": (np.abs(x - 2) < 1) & (z > 20) & (z < 23),
            "wire": np.hypot(x + 1.5, z - 22) < 0.7,
        }
    if name == "clutter":
        return whole | {"inside": np.hypot(x, z - 20) < 2, "line": np.abs(z - 18) < 0.3}
    return whole


# Regions of some 50 to 100 speckle cells: see test_truth_convergence.py.
@pytest.mark.parametrize("name", SCENES)
def test_looks_converge_to_the_truth(name):
    """50 looks: rms z below 1.3, largest below 7 (few looks, skewed), mean bias of each region below 0.3."""
    judge(name, 50, first=0, most_rms=1.3, most_bias=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_many_looks_converge_to_the_truth(name):
    judge(name, 600, first=1000, most_rms=1.35, most_bias=0.12)


def judge(name, count, first, *, most_rms, most_bias):
    renderer = scene(**IMAGE | SCENES[name])
    averages = looks(renderer, count, first)
    moving = averages.var_db > 1e-4  # a strong mirror hardly changes
    assert np.abs(averages.bias_db[~moving]).max(initial=0.0) < 0.05
    for region, mask in parts(name, renderer).items():
        score, bias = averages.z_score[mask & moving], float(averages.bias_db[mask].mean())
        rms, worst = float(np.sqrt((score**2).mean())), float(np.abs(score).max())
        print(f"{name}, {region}: rms z {rms:.3f}, largest {worst:.2f}, mean bias {bias:+.3f} dB, {score.size} pixels")
        assert rms < most_rms, region
        assert worst < 7.0, region
        assert abs(bias) < most_bias, region


def test_shadow_and_enhancement_are_in_bmode_alone():
    bare = [re.sub(", attenuation: [^}]*", "", region) for region in (STONE, FLUID)]
    shaded = scene(**IMAGE, regions=f"[{STONE}, {FLUID}]").stage(0).truth
    plain = scene(**IMAGE, regions=f"[{', '.join(bare)}]").stage(0).truth
    assert np.array_equal(shaded.resolved_db, plain.resolved_db)
    assert np.array_equal(shaded.echogenicity_db, plain.echogenicity_db)
    assert np.array_equal(shaded.labels, plain.labels)
    change = shaded.bmode - plain.bmode
    assert change.min() < -9.0
    assert 1.0 < change.max() < 5.0


def test_labels_and_resolved_know_nothing_of_structure_and_clutter():
    plain = scene(**IMAGE).stage(0)
    full = scene(**IMAGE, interfaces=WALLS, haze="{level: -3 dB}", reverberation="{spacing: 6 mm}").stage(0)
    assert np.array_equal(full.truth.labels, plain.truth.labels)
    assert np.allclose(full.truth.resolved_db, plain.truth.resolved_db, atol=1e-5)
    assert label_names(full.scene) == label_names(plain.scene)


def test_clutter_disturbs_no_other_stream():
    """What haze and rough walls add is independent of scatterers and noise, which stay what they were."""
    plain, hazy = scene(**IMAGE), scene(**IMAGE, haze="{level: 3 dB}")
    rough = scene(**IMAGE, interfaces=WALLS)
    base, veil = plain.render(0).iq, hazy.render(0).iq - plain.render(0).iq
    stage = hazy.stage(0)
    mean = (stage.haze_mean * (stage.gain / stage.scale)[:, None]).mean()
    assert decibel((np.abs(veil) ** 2).mean() / mean) == pytest.approx(0.0, abs=0.6)
    assert abs(np.vdot(veil, base)) < 0.15 * np.linalg.norm(veil) * np.linalg.norm(base)
    assert not np.allclose(hazy.render(0, look=1).iq - plain.render(0, look=1).iq, veil)
    walls = rough.render(0).iq - base
    assert np.abs(walls[-1]).max() < 0.05 * np.abs(base[-1]).mean()
    assert np.array_equal(rough.render(0).iq, rough.render(0).iq)


EXACT = {
    "engine": "sir",
    "image": "{x: [-1.5 mm, 1.5 mm], z: [17 mm, 21 mm], pixels: [24, 96]}",
    "scatterers": "{model: plane, per_cell: 8}",
    "noise": "{snr: 40 dB}",
    "haze": "{level: -6 dB}",
    "regions": "[{shape: circle, center: [0.3 mm, 18 mm], radius: 0.5 mm, echogenicity: 9, attenuation: 6 dB/cm/MHz}]",
    "wires": "[{position: [-1 mm, 18.5 mm], amplitude: 12 dB}]",
    "interfaces": "[{path: [[-3 mm, 20 mm], [3 mm, 20.2 mm]], amplitude: 12 dB, roughness: 10 um}]",
}


def test_looks_of_the_exact_engine_converge_to_its_truth():
    averages = looks(scene(**EXACT), 16)
    score = averages.z_score
    print(np.sqrt((score**2).mean()), np.abs(score).max(), averages.bias_db.mean())
    assert np.sqrt((score**2).mean()) < 1.35
    assert np.abs(score).max() < 6.0
    assert abs(averages.bias_db.mean()) < 0.5


FAN = """
probe: C5-2v
transmit: {type: focused, depth: 50 mm, f_number: 3}
image: {angle: [-12 deg, 12 deg], depth: [35 mm, 65 mm], lines: 64, samples: 160, pixels: [64, 64]}
scatterers: {model: field}
noise: {snr: 40 dB}
background: {echogenicity: 0 dB}
regions:
  - {shape: circle, center: [-8 mm, 42 mm], radius: 3 mm, echogenicity: 12 dB, attenuation: 3 dB/cm/MHz}
  - {shape: circle, center: [9 mm, 48 mm], radius: 5 mm, echogenicity: anechoic, attenuation: 0 dB/cm/MHz}
interfaces: [{path: [[-14 mm, 60 mm], [14 mm, 60 mm]], amplitude: 10 dB, roughness: 15 um}]
reverberation: {spacing: 20 mm, level: 6 dB, decay: 0 dB, count: 3}
haze: {level: -12 dB, depth: 60 mm}
"""
STEERED = """
probe: L11-5v
transmit: {type: plane}
image: {x: [-3 mm, 3 mm], z: [15 mm, 23 mm], pixels: [48, 96]}
compound: {angles: [-6 deg, 0 deg, 6 deg]}
scatterers: {model: plane, per_cell: 20}
noise: {snr: 40 dB}
background: {echogenicity: 0 dB}
regions: [{shape: circle, center: [0 mm, 17 mm], radius: 1 mm, echogenicity: 9 dB, attenuation: 4 dB/cm/MHz}]
interfaces: [{path: [[-3 mm, 21 mm], [3 mm, 21 mm]], amplitude: 10 dB, roughness: 10 um}]
haze: {level: -10 dB}
"""


@pytest.mark.parametrize("text", [FAN, STEERED], ids=["sector", "compound"])
def test_sectors_and_compounded_images_converge_too(text):
    """The lines of a sector, before they are converted to pixels; haze is as new in every member as noise is."""
    renderer, count = Renderer(phantom_from_text(text)), 40
    stage = renderer.stage(0)
    levels = []
    for look in range(count):
        if isinstance(stage, Stage):
            power = np.abs(stage.iq(renderer._streams(0, View(look)))[0].astype(complex)) ** 2
        else:
            power = renderer.render(0, look).envelope.astype(float) ** 2
        levels.append(10 * np.log10(np.maximum(power, 1e-15)))
    deviation = np.std(levels, axis=0, ddof=1)
    bias = np.mean(levels, axis=0) - stage.truth.bmode
    score = (bias / deviation * count**0.5)[deviation > 1e-2]
    print(f"rms z {np.sqrt((score**2).mean()):.3f}, largest {np.abs(score).max():.2f}, mean bias {bias.mean():+.3f} dB")
    assert np.sqrt((score**2).mean()) < 1.3
    assert abs(bias.mean()) < 0.2
