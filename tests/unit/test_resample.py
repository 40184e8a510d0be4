"""Resampling filters: what they claim as their error is what signals suffer."""

import numpy as np
import pytest

from usim.engines.resample import cell_filter, coarsest_step, interpolation_error, interpolator

FREQUENCY = np.linspace(-1.0, 1.0, 201)  # cycles per metre
POWER = np.cos(np.pi * FREQUENCY / 2.0) ** 2 + 1e-12


def spline(t):
    """The cubic B-spline."""
    t = np.abs(t)
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))


@pytest.mark.parametrize("place", [0.0, 0.137, 0.5])
def test_splatted_scatterer_keeps_its_spectrum(place):
    """One scatterer, spread with splines and filtered to every second cell: its spectrum within the claimed error."""
    fine, half = 0.2, 10
    taps, error = cell_filter(FREQUENCY, POWER, fine, half, stride=2, spline=True)
    cells = np.arange(-40, 41)
    filtered = np.convolve(spline(cells - place), taps)[half:-half][::2]
    position = (cells[::2]) * fine
    spectrum = np.exp(-2j * np.pi * FREQUENCY[:, None] * position) @ filtered
    wanted = np.exp(-2j * np.pi * FREQUENCY * place * fine)
    found = (POWER * np.abs(spectrum - wanted) ** 2).sum() / POWER.sum()
    assert found < 8.0 * error + 1e-12


def test_filters_are_symmetric_and_better_on_finer_cells():
    """Linear phase; halving the cells takes the error down."""
    coarse, fine = (cell_filter(FREQUENCY, POWER, step, 10, stride=2, spline=True) for step in (0.22, 0.11))
    np.testing.assert_allclose(coarse[0], coarse[0][::-1], rtol=1e-12)
    assert fine[1] < 0.1 * coarse[1]


def test_noise_filter_passes_white_noise():
    """Filled with white noise instead of splines, it is flat over the band and stops the images: claimed error."""
    taps, error = cell_filter(FREQUENCY, POWER, 0.2, 10, stride=2, spline=False)
    k = np.arange(-10, 11)
    passed = np.exp(2j * np.pi * FREQUENCY[:, None] * 0.2 * k) @ taps / 2.0
    image = np.exp(2j * np.pi * (FREQUENCY[:, None] + 2.5) * 0.2 * k) @ taps / 2.0
    found = (POWER * (np.abs(passed - 1.0) ** 2 + np.abs(image) ** 2)).sum() / POWER.sum()
    assert found == pytest.approx(error, rel=1e-6)


def test_coarsest_step_meets_its_error():
    """The step chosen meets -61 dB and a step 10 % larger does not."""
    step = coarsest_step(FREQUENCY, POWER, 10, -61.0)
    errors = [cell_filter(FREQUENCY, POWER, s / 2, 10, stride=2, spline=True)[1] for s in (step, 1.1 * step)]
    reached = 10 * np.log10(errors)
    assert reached[0] <= -61.0 < reached[1]


def test_interpolator_reads_band_limited_signals():
    """A sum of waves within the band, read between samples: an error of the claimed size."""
    rng = np.random.default_rng(0)
    step = 0.3  # metres per sample
    wave, phase = rng.uniform(-0.9, 0.9, 40), rng.uniform(0, 2 * np.pi, 40)
    amplitude = np.cos(np.pi * wave / 2)

    def signal(t):
        return (amplitude * np.exp(1j * (2 * np.pi * wave * step * np.asarray(t)[..., None] + phase))).sum(-1)

    position = rng.uniform(20, 80, 200)
    first, weight = interpolator(FREQUENCY * step, POWER, position, 8)
    found = (weight * signal(first + np.arange(8)[:, None])).sum(axis=0)
    claimed = np.mean([
        interpolation_error(FREQUENCY * step, POWER, p, int(f), w)
        for p, f, w in zip(position, first, weight.T, strict=True)
    ])  # fmt: skip
    reached = (np.abs(found - signal(position)) ** 2).sum() / (np.abs(signal(position)) ** 2).sum()
    assert reached < 10.0 * claimed + 1e-12
    assert reached < 1e-3
