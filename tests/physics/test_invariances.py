"""What must not change an image: order, threads, place along the array, mirror, and what was rendered before."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from scenes import nrmse_db, scene

from usim.engines import psf
from usim.pipeline import Renderer
from usim.scatterers import Scatterers

FLOAT32_DB = -120.0  # a few hundred float32 roundings, added in energy

TRANSMITS = ["{type: focused, depth: 20 mm, f_number: 2.5}", "{type: plane, angle: 7 deg}"]


@pytest.fixture(scope="module", params=TRANSMITS, ids=["focused", "plane"])
def plan(request):
    """A plan over the near field, the focus and the far field."""
    renderer = scene(transmit=request.param, image="{x: [-5 mm, 5 mm], z: [4 mm, 30 mm], pixels: [96, 160]}")
    return renderer.stage(0).setting.plan


def cloud(count=3000, seed=0):
    """A random cloud over that image and beyond it, within 1 mm of the image plane."""
    rng = np.random.default_rng(seed)
    position = np.stack([rng.uniform(*limits, count) for limits in ((-7, 7), (-1, 1), (1, 33))], axis=1)
    return Scatterers(position * 1e-3, rng.standard_normal(count))


def test_linear_in_the_amplitudes(plan):
    """Three times the amplitudes, three times the image, to float32 precision."""
    one = cloud()
    assert nrmse_db(psf.run(plan, Scatterers(one.position, 3.0 * one.amplitude)), 3.0 * psf.run(plan, one)) < FLOAT32_DB


def test_superposition(plan):
    """Two clouds together are the sum of their images, to float32 precision."""
    a, b = cloud(seed=1), cloud(seed=2)
    both = Scatterers(np.concatenate((a.position, b.position)), np.concatenate((a.amplitude, b.amplitude)))
    assert nrmse_db(psf.run(plan, both), psf.run(plan, a) + psf.run(plan, b)) < FLOAT32_DB


def test_order_does_not_matter(plan):
    """Shuffled scatterers change the order of summation only: float32 rounding."""
    one, shuffle = cloud(), np.random.default_rng(3).permutation(3000)
    shuffled = Scatterers(one.position[shuffle], one.amplitude[shuffle])
    assert nrmse_db(psf.run(plan, shuffled), psf.run(plan, one)) < FLOAT32_DB


def test_no_scatterers_no_image(plan):
    """An empty cloud is a black image of the right shape."""
    image = psf.run(plan, Scatterers(np.empty((0, 3)), np.empty(0)))
    assert image.shape == (160, 96)
    assert not image.any()


def test_scatterers_out_of_reach_do_not_count(plan):
    """Scatterers above the probe's surface, far below and far to the side add nothing, and break nothing."""
    far = np.array([[0, 0, -5.0], [0, 0, 0], [0, 0, 300], [150, 0, 20], [-150, 0, 20], [0, 0, 1e-6]]) * 1e-3
    assert not psf.run(plan, Scatterers(far, np.full(6, 1e3))).any()


def test_lateral_translation():
    """Phantom and image shifted along the array by 1.2345 mm, away from its ends: float32 precision."""
    images = []
    for shift in (0.0, 1.2345):
        box = f"{{x: [{shift - 2:.4f} mm, {shift + 2:.4f} mm], z: [14 mm, 24 mm], pixels: [64, 96]}}"
        plan = scene(image=box).stage(0).setting.plan
        one = cloud()
        moved = Scatterers(one.position * [0.4, 1.0, 1.0] + [shift * 1e-3, 0.0, 0.0], one.amplitude)
        images.append(psf.run(plan, moved))
    reached = nrmse_db(images[1], images[0])
    print(f"{reached:.1f} dB")
    assert reached < -100.0


def test_mirror_symmetry():
    """Mirrored scatterers make the mirrored image; a steered plane wave steers the other way. Float32 precision."""
    one = cloud()
    mirrored = Scatterers(one.position * [-1.0, 1.0, 1.0], one.amplitude)
    for transmit, other in ((TRANSMITS[0], TRANSMITS[0]), (TRANSMITS[1], "{type: plane, angle: -7 deg}")):
        image = "{x: [-18 mm, 18 mm], z: [4 mm, 24 mm], pixels: [96, 96]}"
        plans = [scene(transmit=t, image=image).stage(0).setting.plan for t in (transmit, other)]
        reached = nrmse_db(psf.run(plans[1], mirrored)[:, ::-1], psf.run(plans[0], one))
        print(f"{reached:.1f} dB")
        assert reached < -100.0


def test_elevation_is_symmetric(plan):
    """Scatterers mirrored at the image plane (y to -y) make the same image."""
    one = cloud()
    mirrored = Scatterers(one.position * [1.0, -1.0, 1.0], one.amplitude)
    assert nrmse_db(psf.run(plan, mirrored), psf.run(plan, one)) < FLOAT32_DB


CHANGING = (
    "probe: L11-5v\ntransmit: {type: focused, depth: 20 mm, f_number: {uniform: [2, 4]}}\n"
    "image: {x: [-4 mm, 4 mm], z: [14 mm, 26 mm], pixels: [48, 64]}\nscatterers: {model: plane, per_cell: 2}\n"
    "noise: {snr: {uniform: [20 dB, 40 dB]}}\nbackground: {echogenicity: 0 dB}\n"
)


def test_frames_do_not_depend_on_earlier_ones():
    """Frame 2, look 1 rendered first, after others, or by another renderer: the same bytes."""
    from usim.phantom.load import phantom_from_text

    phantom = phantom_from_text(CHANGING)
    fresh = Renderer(phantom).render(2, look=1)
    used = Renderer(phantom)
    for index, look in ((0, 0), (2, 0), (1, 1)):
        used.render(index, look=look)
    again = used.render(2, look=1)
    for name in ("iq", "bmode", "envelope"):
        assert getattr(fresh, name).tobytes() == getattr(again, name).tobytes()
    assert fresh.truth.bmode.tobytes() == again.truth.bmode.tobytes()
    assert fresh.params == again.params


def test_looks_differ_and_scenes_stay():
    """Two looks have equal truths in arrays of their own, and no speckle in common: correlation below 0.1."""
    renderer = scene(noise="{snr: 50 dB}")
    first = renderer.render(0, look=0)
    truth = first.truth.bmode.copy()
    first.truth.bmode[:] += 100.0
    second = renderer.render(0, look=1)
    assert np.array_equal(second.truth.bmode, truth)
    correlation = np.corrcoef(first.envelope.ravel() ** 2, second.envelope.ravel() ** 2)[0, 1]
    assert abs(correlation) < 0.1


THREADS = """
import hashlib, sys, numba
from usim.phantom.load import phantom_from_text
from usim.pipeline import Renderer
text = sys.stdin.read()
for threads in (1, 2, 4):
    numba.set_num_threads(threads)
    digest = hashlib.sha256()
    for model in ("field", "plane", "volume"):
        frame = Renderer(phantom_from_text(text.replace("MODEL", model))).render(0)
        for part in (frame.iq, frame.bmode, frame.truth.bmode, frame.truth.resolved_db):
            digest.update(part.tobytes())
    print(threads, digest.hexdigest())
"""


def test_threads_do_not_change_a_bit():
    """1, 2 and 4 kernel threads: bit-identical frames and truths in all models, with noise, a cyst and a point."""
    text = (
        "probe: L11-5v\ntransmit: {type: focused, depth: 20 mm, f_number: 2.5}\n"
        "image: {x: [-15 mm, 19 mm], z: [6 mm, 26 mm], pixels: [96, 128]}\nscatterers: {model: MODEL, per_cell: 1}\n"
        "noise: {snr: 30 dB}\nbackground: {echogenicity: 0 dB}\npoints: [{position: [1 mm, 20 mm], amplitude: 20 dB}]\n"
        "regions: [{shape: circle, center: [0 mm, 15 mm], radius: 3 mm, echogenicity: anechoic}]\n"
    )
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", THREADS], input=text, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [threads for threads, _ in lines] == ["1", "2", "4"]
    assert len({digest for _, digest in lines}) == 1
    assert len(lines[0][1]) == len(hashlib.sha256().hexdigest())
