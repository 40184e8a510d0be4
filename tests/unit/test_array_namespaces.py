"""What follows the engine is written once: torch tensors get the numbers that NumPy arrays get."""

import numpy as np
import pytest
import torch

from usim.display import Screen
from usim.process import envelope, log_compress, tgc_gain
from usim.speckle import Law

SHAPE = (3, 20, 30)
DEPTH = np.linspace(3e-3, 40e-3, SHAPE[1])


def drawn_law(seed=0):
    """A law in which every case of the formulas occurs: dark, bright, fixed, sparse and given clouds, and no echo."""
    generator = np.random.default_rng(seed)
    mean = 10.0 ** generator.uniform(-14.0, 0.0, SHAPE)
    mean[0, :3] = 0.0
    fixed = np.sqrt(mean * 10.0 ** generator.uniform(-6.0, 5.0, SHAPE)) * np.exp(2j * np.pi * generator.random(SHAPE))
    fixed[1, 5:] = 0.0
    fourth = 2.0 * mean**2 / 10.0 ** generator.uniform(-1.0, 6.0, SHAPE)
    fourth[2, 4:8] = -0.9 * mean[2, 4:8] ** 2
    return mean, 1e-6 * generator.random((SHAPE[1], 1)), fixed, fourth, 10.0 ** generator.uniform(-1, 1, (SHAPE[1], 1))


def both(*arrays):
    return arrays, tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def test_the_truth_of_batches_is_that_of_arrays():
    arrays, tensors = both(*drawn_law())
    there, here = Law.amplified(*tensors), Law.amplified(*arrays)
    assert isinstance(there.bmode, torch.Tensor)
    assert np.abs(there.bmode.numpy() - here.bmode).max() < 1e-9
    assert here.bmode.min() < -100.0
    assert here.bmode.max() > 0.0
    alone = Law.amplified(*(array[1] if array.ndim == 3 else array for array in arrays))
    np.testing.assert_array_equal(alone.bmode, here.bmode[1])


def test_single_precision_is_enough_for_decibels():
    """A law in float32, as engines on devices may give, is within 1e-3 dB where 1 / nu is not astronomically small."""
    arrays = drawn_law()
    single = [torch.from_numpy(a.astype(np.complex64 if np.iscomplexobj(a) else np.float32)) for a in arrays]
    there, here = Law.amplified(*single).bmode, Law.amplified(*arrays).bmode
    assert there.dtype == torch.float32
    assert np.abs(there.numpy() - here).max() < 1e-3


DISPLAYS = {
    "log, 8 bits": {"curve": {"type": "log", "dynamic_range": 55.0}},
    "power, 8 bits, wrong gain": {
        "curve": {"type": "power", "exponent": 0.4, "black": -48.0},
        "gain": 3.0,
        "tgc_error": {"std": 2.0, "seed": 4},
    },
    "log, gamma, not rounded": {"curve": {"type": "log", "dynamic_range": 60.0}, "gamma": 1.8, "bits": 32},
}


@pytest.mark.parametrize("display", DISPLAYS.values(), ids=DISPLAYS)
def test_displays_show_tensors_as_they_show_arrays(display):
    screen, law = Screen.of(display, DEPTH), Law.amplified(*drawn_law())
    arrays, tensors = both(*law.moments)
    here, there = screen.mean(*arrays), screen.mean(*tensors)
    assert there.dtype == torch.float32
    assert np.ptp(here) > 0.9 * screen.full_scale
    assert np.abs(there.numpy() - here).max() < 1e-5 * screen.full_scale
    power = np.random.default_rng(1).exponential(arrays[0])
    shown, seen = screen.show(power), screen.show(torch.from_numpy(power))
    assert str(seen.dtype) == f"torch.{shown.dtype}"
    assert np.abs(seen.numpy().astype(float) - shown).max() <= (0 if screen.full_scale > 1 else 1e-7)


def test_several_looks_are_shown_alike():
    screen, moments = Screen.of(DISPLAYS["log, 8 bits"], DEPTH), Law.amplified(*drawn_law()).moments
    looks = np.random.default_rng(2).uniform(0.0, 1.0, SHAPE)
    arrays, tensors = both(*moments, looks)
    assert np.abs(screen.mean(*tensors).numpy() - screen.mean(*arrays)).max() < 1e-5 * screen.full_scale


@pytest.mark.parametrize("setting", ["auto", "none", 1.5])
def test_detection_and_gain_of_tensors(setting):
    generator = np.random.default_rng(3)
    iq = (generator.normal(size=SHAPE) + 1j * generator.normal(size=SHAPE)).astype(np.complex64)
    iq *= (10.0 ** generator.uniform(-9, 1, SHAPE)).astype(np.float32)
    (array,), (tensor,) = both(iq)
    there = log_compress(envelope(tensor))
    assert there.dtype == torch.float32
    assert np.abs(there.numpy() - log_compress(envelope(array))).max() < 1e-4
    (depth, tissue), on_torch = both(DEPTH, np.exp(-400.0 * DEPTH))
    there = tgc_gain(setting, *on_torch, 0.1)
    assert np.abs(there.numpy() / tgc_gain(setting, depth, tissue, 0.1) - 1.0).max() < 1e-12
