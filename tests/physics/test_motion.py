"""Sequences: speckle moves by the displacement in the file, streams renew themselves, and the truth stays true.

Displacement is found by block matching: the shift at which the envelope in a block of a later image correlates best
with the first one's, refined by a parabola through the peak of the correlation coefficient.
"""

import numpy as np
import pytest
from scenes import looks, scene
from scipy.signal import correlate

from usim.phantom import deform
from usim.phantom.load import load_phantom
from usim.phantom.moving import draw_moving
from usim.phantom.views import View
from usim.phantom.world import World
from usim.pipeline import Renderer

IMAGE = "{x: [-4 mm, 4 mm], z: [14 mm, 26 mm], pixels: [96, 256]}"
CLOUD = "{model: plane, per_cell: 12}"
CHANNEL = "{name: lumen, shape: rectangle, center: [0 mm, 20 mm], width: 60 mm, height: 5 mm, echogenicity: 0 dB}"
HALF_BLOCK = (16, 9)  # pixels along z and x: 1.5 mm squared


def moving(motions, times=6, rate="20 Hz", **changes):
    return scene(
        **{"image": IMAGE, "scatterers": CLOUD, **changes},
        sequence=f"{{times: {times}, rate: {rate}, motions: [{motions}]}}",
    )


def tracked(first, later, place, half, most):
    """Displacement (dz, dx) in pixels of the envelope's block about `place` between two images, by correlation."""
    (row, column), (a, b), (up, side) = place, half, most
    block = later[row - a : row + a + 1, column - b : column + b + 1].astype(float)
    area = first[row - a - up : row + a + up + 1, column - b - side : column + b + side + 1].astype(float)
    ones = np.ones(block.shape)
    variance = correlate(area**2, ones, mode="valid") - correlate(area, ones, mode="valid") ** 2 / block.size
    match = correlate(area, block - block.mean(), mode="valid") / np.sqrt(variance)
    i, j = np.unravel_index(match.argmax(), match.shape)
    i, j = min(max(i, 1), match.shape[0] - 2), min(max(j, 1), match.shape[1] - 2)

    def vertex(before, middle, after):
        return 0.5 * (before - after) / (before - 2.0 * middle + after)

    fine = i + vertex(*match[i - 1 : i + 2, j]), j + vertex(*match[i, j - 1 : j + 2])
    return up - fine[0], side - fine[1]


def field(renderer, time, looks=1, half=HALF_BLOCK, rows=None, most=(26, 12)):
    """True and tracked displacement (..., 2) in metres, (dx, dz), over a lattice of blocks at a time."""
    found, wanted = [], []
    for look in range(looks):
        first, later = renderer.render(0, look=look), renderer.render(0, look=look, time=time)
        x, z = first.axes.x, first.axes.z
        step = np.array([x[1] - x[0], z[1] - z[0]])
        edge = half[0] + most[0] + 1, half[1] + most[1] + 1
        for row in range(edge[0], len(z) - edge[0], 2 * half[0]) if rows is None else rows:
            for column in range(edge[1], len(x) - edge[1], half[1]):
                dz, dx = tracked(first.envelope, later.envelope, (row, column), half, most)
                found.append(np.array([dx, dz]) * step)
                wanted.append(later.truth.displacement[row, column])
    return np.array(found), np.array(wanted)


MOTIONS = {
    "translation": "{type: translation, velocity: [-2 mm/s, 3 mm/s]}",
    "to and fro": "{type: translation, amplitude: [0.7 mm, 0.5 mm], frequency: 1 Hz}",
    "rotation": "{type: rotation, center: [0 mm, 1 mm], rate: 10 deg/s}",
    "shear": "{type: shear, center: [0 mm, 10 mm], rate: 0.2 1/s}",
    "strain": "{type: strain, center: [0 mm, 5 mm], rate: -0.2 1/s}",
    "breathing": "{type: breathing, amplitude: 1 mm, period: 0.8 s, angle: 60 deg}",
    "cross-section": "{type: pulsation, center: [0 mm, 26 mm], radius: 4 mm, amplitude: 12 %}",
    "lengthwise": "{type: pulsation, axis: [[-4 mm, 27 mm], [4 mm, 26 mm]], radius: 4 mm, amplitude: 12 %}",
    "two": "{type: rotation, center: [0 mm, 20 mm], rate: 8 deg/s}, {type: breathing, amplitude: 1 mm, period: 0.8 s}",
}


@pytest.mark.parametrize("name", MOTIONS)
def test_speckle_moves_by_the_stated_displacement(name):
    """Medians over 7 looks within 5 % of the displacement's rms over the image, after a fifth of a second."""
    found, wanted = (each.reshape(7, -1, 2) for each in field(moving(MOTIONS[name]), 4, looks=7))
    found, wanted = np.median(found, axis=0), wanted[0]
    error = np.sqrt(((found - wanted) ** 2).sum(axis=1).mean() / (wanted**2).sum(axis=1).mean())
    size = np.sqrt((wanted**2).sum(axis=1).mean())
    print(f"{name}: {100 * error:.2f} % of {size * 1e3:.3f} mm, {len(found)} blocks")
    assert size > 0.2e-3
    assert error < 0.05


def test_stream_moves_by_its_profile():
    """A parabola of 0.6 mm per image between the walls, within 5 % of the peak; the tissue around it rests."""
    flow = "{type: flow, region: lumen, velocity: 12 mm/s}"
    renderer = moving(flow, regions=f"[{CHANNEL}]")
    z = renderer.stage(0).setting.plan.grid.z
    depths = np.array([18.2, 19.0, 20.0, 20.8, 21.8]) * 1e-3
    rows = np.searchsorted(z, depths)
    found, wanted = field(renderer, 1, looks=4, half=(4, 12), rows=rows, most=(3, 12))
    profile = found.reshape(4, len(rows), -1, 2).mean(axis=(0, 2))
    parabola = 0.6e-3 * (1 - ((z[rows] - 20e-3) / 2.5e-3) ** 2)
    print(np.round(profile[:, 0] * 1e3, 4), np.round(parabola * 1e3, 4))
    np.testing.assert_allclose(wanted.reshape(4, len(rows), -1, 2)[0, :, 0, 0], parabola, atol=5e-6)
    assert np.abs(profile[:, 0] - parabola).max() < 0.05 * 0.6e-3
    assert np.abs(profile[:, 1]).max() < 0.02e-3
    rest, _ = field(renderer, 1, half=(8, 12), rows=np.searchsorted(z, [15.5e-3, 24.5e-3]), most=(3, 12))
    assert np.abs(rest).max() < 5e-6


@pytest.mark.parametrize("law", ["unit", "gaussian"])
def test_stream_forgets_at_its_rate(law):
    """Correlation of IQ in the lumen against exp(-t / 100 ms), within 0.06 over 5 looks (600 cells each): 3 errors."""
    flow = "{type: flow, region: lumen, velocity: 0 mm/s, decorrelation: 100 ms}"
    cloud = f"{{model: plane, per_cell: 12, amplitude: {law}}}"
    renderer = moving(flow, scatterers=cloud, regions=f"[{CHANNEL}]")
    z = renderer.stage(0).setting.plan.grid.z
    inside = (z > 18e-3) & (z < 22e-3)
    for time in (1, 2, 4):
        cross, power = 0.0, 0.0
        for look in range(5):
            images = [renderer.render(0, look=look, time=t).iq for t in (0, time)]
            a, b = (image[inside].astype(complex) for image in images)
            cross, power = cross + np.vdot(a, b), power + np.sqrt(np.vdot(a, a).real * np.vdot(b, b).real)
            tissue = [image[z < 16e-3] for image in images]
        print(f"{law}: {abs(cross) / power:.3f} at {time * 50} ms, {np.exp(-time / 2):.3f} expected")
        assert abs(abs(cross) / power - np.exp(-time / 2)) < 0.06
        np.testing.assert_allclose(tissue[1], tissue[0], atol=2e-4 * np.abs(tissue[0]).max())


BUSY = (
    "{type: pulsation, center: [1 mm, 20 mm], radius: 2.5 mm, amplitude: 20 %, heart_rate: 1.3 Hz},"
    "{type: flow, region: lumen, velocity: 30 mm/s, angle: 20 deg, decorrelation: 60 ms},"
    "{type: strain, center: [0 mm, 14 mm], rate: -0.1 1/s},"
    "{type: breathing, amplitude: 3 mm, period: 2 s, angle: 70 deg}"
)
VESSEL = "{name: lumen, shape: circle, center: [1 mm, 20 mm], radius: 2.5 mm, echogenicity: -10 dB}"


@pytest.mark.parametrize("model", ["plane", "volume"])
def test_density_and_strength_stay_those_of_the_scene(model):
    """Late in a busy sequence the cloud's sum of a^2 over a box is echogenicity times strength times its volume.

    Twelve draws of some thousand scatterers per box: within four standard errors, in the tissue and in the stream.
    """
    per_cell = {"plane": 12, "volume": 2}[model]
    cloud = f"{{model: {model}, per_cell: {per_cell}}}"
    renderer = moving(BUSY, times=24, scatterers=cloud, regions=f"[{VESSEL}]")
    stage = renderer.stage(0, View(time=19))
    depth = np.linspace(13e-3, 28e-3, 64)
    lateral = np.full(64, -5e-3), np.full(64, 5e-3)
    density, strength = np.linspace(1.0, 1.5, 64) * 2e8, np.linspace(3.0, 2.0, 64)
    slab = None if model == "plane" else np.linspace(1e-3, 2e-3, 64)
    if slab is not None:
        density = density / 2e-3
    world = World(stage.scene, stage.time)
    x, z = (np.arange(-5, 5, 0.05) + 0.025)[None, :] * 1e-3, (np.arange(13, 28, 0.05) + 0.025)[:, None] * 1e-3
    power = world.cover(x, z).echogenicity() * np.interp(z, depth, strength) * 0.05e-3**2
    if slab is not None:
        power *= 2.0 * np.interp(z, depth, slab)
    lumen = world.cover(x, z).labels() == 1
    sums = {"lumen": [], "tissue": []}
    for draw in range(12):
        seed = np.random.SeedSequence(draw, spawn_key=(1,))
        found = draw_moving(world, depth, lateral, density, strength, slab, np.random.Generator(np.random.Philox(seed)))
        within = world.cover(found.x, found.z).labels() == 1
        for name, chosen in (("lumen", within), ("tissue", ~within)):
            sums[name].append((found.amplitude[chosen] ** 2).sum())
    for name, mask in (("lumen", lumen), ("tissue", ~lumen)):
        wanted = power[mask].sum()
        mean, error = np.mean(sums[name]), np.std(sums[name], ddof=1) / np.sqrt(12)
        print(f"{model} {name}: {mean / wanted:.4f} +- {error / wanted:.4f} of what the scene says")
        assert abs(mean - wanted) < 4.0 * error + 0.002 * wanted
        assert error < 0.02 * wanted


def test_streams_come_round_without_gaps():
    """After going round several times scatterers lie evenly along the stream: chi-square of 20 bins below 50."""
    flow = "{type: flow, region: lumen, velocity: 1 m/s}"
    renderer = moving(flow, times=24, regions=f"[{CHANNEL}]")
    stage = renderer.stage(0, View(time=23))
    seed = np.random.SeedSequence(3, spawn_key=(1,))
    cloud = stage.scatterers(np.random.Generator(np.random.Philox(seed)))
    chosen = np.abs(cloud.z - 20e-3) < 2.5e-3
    for across in (cloud.z[chosen] < 20e-3, cloud.z[chosen] >= 20e-3):
        counts, _ = np.histogram(cloud.x[chosen][across], 20, range=(-4e-3, 4e-3))
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 50.0


class At:
    """A renderer of one time of a sequence."""

    def __init__(self, renderer, time):
        self.renderer, self.time = renderer, time

    def render(self, index, look):
        return self.renderer.render(index, look, time=self.time)


def test_looks_converge_to_the_truth_of_the_deformed_scene():
    """80 looks late in a busy sequence: rms z below 1.25, mean bias below 0.2 dB, in lumen, edge and tissue."""
    small = "{x: [-4 mm, 4 mm], z: [14 mm, 26 mm], pixels: [64, 96]}"
    wire = "{position: [-2.5 mm, 17 mm], amplitude: 20 dB}"
    changes = {"image": small, "regions": f"[{VESSEL}]", "points": f"[{wire}]", "noise": "{snr: 40 dB}"}
    renderer = moving(BUSY, times=24, **changes)
    averages = looks(At(renderer, 19), 80)
    stage = renderer.stage(0, View(time=19))
    grid = stage.setting.plan.grid
    x, z = np.broadcast_arrays(grid.x[None, :], grid.z[:, None])
    at_zero = deform.inverse(stage.scene, stage.time, x, z)
    distance = np.hypot(at_zero[0] - 1e-3, at_zero[1] - 20e-3) - 2.5e-3
    masks = {"lumen": distance < -0.7e-3, "edge": np.abs(distance) <= 0.7e-3, "tissue": distance > 0.7e-3}
    assert (averages.truth.labels == (distance <= 0)).mean() > 0.999
    for name, mask in masks.items():
        score, bias = averages.z_score[mask], averages.bias_db[mask].mean()
        print(f"{name}: rms z {np.sqrt((score**2).mean()):.3f}, mean bias {bias:+.3f} dB")
        assert np.sqrt((score**2).mean()) < 1.25
        assert np.abs(score).max() < 6.0
        assert abs(bias) < 0.2
    (point,) = renderer.render(0, time=19).params["points"]
    moved = deform.forward(stage.scene, stage.time, -2.5e-3, 17e-3)
    np.testing.assert_allclose(point["position"], moved, atol=1e-12)
    row, column = np.abs(grid.z - moved[1]).argmin(), np.abs(grid.x - moved[0]).argmin()
    near = averages.truth.bmode[row - 3 : row + 4, column - 3 : column + 4]
    assert near.max() > averages.truth.bmode[row + 20, column] + 12.0


def test_frames_are_pure_functions_of_their_time():
    """The same bits in any order of rendering; scatterers and noise differ between looks, noise between times."""
    text = {"motions": BUSY, "times": 8, "regions": f"[{VESSEL}]", "noise": "{snr: 10 dB}"}
    renderer = moving(**text)
    forwards = [renderer.render(0, time=t).iq for t in (0, 3, 7)]
    backwards = [renderer.render(0, time=t).iq for t in (7, 3, 0)][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(a, b)
    still = moving("{type: translation, velocity: [0 mm/s, 0 mm/s]}", noise="{snr: 10 dB}")
    first, later = (still.render(0, time=t).iq for t in (0, 1))
    assert 0.02 < np.mean(np.abs(first - later) ** 2) / np.mean(np.abs(first) ** 2) < 0.6


def test_given_clouds_move_with_tissue(tmp_path):
    """The same scatterers, each where the motion has carried it, and none of them louder."""
    random = np.random.default_rng(2)
    position = np.stack((random.uniform(-5e-3, 5e-3, 500), np.zeros(500), random.uniform(13e-3, 27e-3, 500)), axis=1)
    np.savez(tmp_path / "cloud.npz", position=position, amplitude=np.ones(500))
    text = (
        f"probe: L11-5v\nimage: {IMAGE}\nbackground: {{echogenicity: 0 dB}}\nscatterers: {{file: cloud.npz}}\n"
        "sequence: {times: 6, rate: 20 Hz, motions: [{type: rotation, center: [0 mm, 20 mm], rate: 60 deg/s}]}\n"
    )
    (tmp_path / "phantom.yaml").write_text(text)
    renderer = Renderer(load_phantom(tmp_path / "phantom.yaml"))
    first, later = renderer.render(0), renderer.render(0, time=5)
    cos, sin = np.cos(np.deg2rad(15)), np.sin(np.deg2rad(15))
    dx, dz = position[:, 0], position[:, 2] - 20e-3
    wanted = np.stack((cos * dx - sin * dz, np.zeros(500), 20e-3 + sin * dx + cos * dz), axis=1)
    np.testing.assert_allclose(first.scatterers.position, position, atol=1e-12)
    np.testing.assert_allclose(later.scatterers.position, wanted, atol=1e-12)
    np.testing.assert_allclose(later.scatterers.amplitude, first.scatterers.amplitude)


def test_slices_of_a_moving_volume_share_their_scatterers():
    """A sweep of a sequence: two slices at one time are correlated, both move by the displacement."""
    small = {"image": "{x: [-2 mm, 2 mm], z: [17 mm, 22 mm], pixels: [48, 128]}"}
    cloud = {"scatterers": "{model: volume, per_cell: 2}", "sweep": "{slices: 2, step: 0.1 mm}"}
    renderer = moving("{type: translation, velocity: [0 mm/s, 10 mm/s]}", times=3, **small, **cloud)
    for number in (0, 1):
        first, later = (renderer.render(0, slice=number, time=time) for time in (0, 1))
        dz, _ = tracked(first.envelope, later.envelope, (64, 24), (36, 18), (16, 4))
        assert dz * (5e-3 / 127) == pytest.approx(0.5e-3, rel=0.05)
    a, b = (renderer.render(0, slice=number, time=1).iq.astype(complex) for number in (0, 1))
    assert abs(np.vdot(a, b)) / np.sqrt(np.vdot(a, a).real * np.vdot(b, b).real) > 0.7


def test_exact_engine_has_sequences():
    """engine: sir follows the same motion: 0.4 mm down, within 5 %, and its truth moves along."""
    small = {"image": "{x: [-1.5 mm, 1.5 mm], z: [17 mm, 21 mm], pixels: [24, 96]}", "engine": "sir"}
    region = "{shape: circle, center: [0 mm, 18.5 mm], radius: 1 mm, echogenicity: 10 dB}"
    renderer = moving("{type: translation, velocity: [0 mm/s, 8 mm/s]}", **small, regions=f"[{region}]")
    first, later = renderer.render(0), renderer.render(0, time=1)
    dz, dx = tracked(first.envelope, later.envelope, (48, 12), (24, 7), (14, 3))
    assert dz * (4e-3 / 95) == pytest.approx(0.4e-3, rel=0.05)
    assert abs(dx) * (3e-3 / 23) < 0.02e-3
    np.testing.assert_allclose(later.truth.displacement, np.broadcast_to([0.0, 0.4e-3], (96, 24, 2)), atol=1e-9)
    assert first.truth.labels.any()
    shift = round(0.4e-3 / (4e-3 / 95))
    agree = later.truth.labels[shift:] == first.truth.labels[:-shift]
    assert agree.mean() > 0.98
