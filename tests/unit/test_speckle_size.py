"""The size of a speckle cell, measured on pictures whose field correlation is known."""

import numpy as np
import pytest

from usim.errors import DataError
from usim.speckle_size import cell_size, coherence

SHAPE = (256, 256)


def speckle(size, seed):
    """Intensity (Z, X) of circular Gaussian IQ whose |rho|^2 is a Gaussian of FWHM `size` in pixels."""
    generator = np.random.default_rng(seed)
    big = [n + 64 for n in SHAPE]
    white = generator.standard_normal(big) + 1j * generator.standard_normal(big)
    f = np.fft.fftfreq(big[0])[:, None], np.fft.fftfreq(big[1])[None, :]
    # |rho|^2 of variance v comes from a filter whose amplitude has variance v
    v = [width**2 / (8.0 * np.log(2.0)) for width in size]
    shape = np.exp(-2.0 * np.pi**2 * (v[0] * f[0] ** 2 + v[1] * f[1] ** 2))
    return np.abs(np.fft.ifft2(np.fft.fft2(white) * shape)[: SHAPE[0], : SHAPE[1]]) ** 2


def compressed(intensity, exponent):
    return intensity**exponent if exponent else 10.0 * np.log10(intensity)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.2, 0.0])
@pytest.mark.parametrize("size", [(2.4, 4.5), (5.0, 12.0), (1.7, 1.7)])
def test_known_cells_come_out_whatever_the_compression(size, exponent):
    """Within 4 %: mean of 6 pictures, of which each scatters by some 2 % (400 to 20000 cells)."""
    found = np.mean([cell_size(compressed(speckle(size, s), exponent), exponent=exponent) for s in range(6)], axis=0)
    assert found == pytest.approx(size, rel=0.04)


def test_scale_and_offset_do_not_matter():
    picture = speckle((3.0, 5.0), 1) ** 0.3
    assert cell_size(70.0 * picture - 12.0, exponent=0.3) == pytest.approx(cell_size(picture, exponent=0.3), rel=1e-6)


def test_slow_brightness_and_layers_disturb_little():
    """A 12 dB ripple and layers of 10 dB, 50 pixels thick: within 15 % of a cell of 2.4 x 4.5 pixels."""
    z = np.arange(SHAPE[0])[:, None]
    level = 6.0 * np.sin(z / 20.0) - 10.0 * ((z // 50) % 2)
    picture = 10.0 * np.log10(speckle((2.4, 4.5), 3)) + level
    assert cell_size(picture, exponent=0.0) == pytest.approx((2.4, 4.5), rel=0.15)


def test_a_mask_leaves_structure_out():
    picture = speckle((2.4, 4.5), 4)
    mask = np.ones(SHAPE, bool)
    mask[100:160, 60:200] = False
    picture[~mask] = np.nan
    assert cell_size(picture, mask) == pytest.approx((2.4, 4.5), rel=0.05)
    assert cell_size(picture) == cell_size(picture, mask)


@pytest.mark.parametrize("exponent", [0.0, 0.15, 0.5, 2.0])
def test_coherence_inverts_the_covariance_of_draws(exponent):
    """Against two correlated intensities: correlation of I^a within 0.005 (10^6 draws)."""
    generator = np.random.default_rng(7)
    a, b = (generator.standard_normal(10**6) + 1j * generator.standard_normal(10**6) for _ in range(2))
    rho = np.sqrt(0.6)
    one, two = (compressed(np.abs(u) ** 2, exponent) for u in (a, rho * a + np.sqrt(1 - rho**2) * b))
    assert coherence(np.corrcoef(one, two)[0, 1], exponent) == pytest.approx(0.6, abs=0.006)


def test_pictures_without_speckle_are_refused():
    with pytest.raises(DataError, match="constant where the mask is true"):
        cell_size(np.full(SHAPE, 3.0))
    with pytest.raises(DataError, match=r"at least 16 pixels a side, got shape \(256, 8\)"):
        cell_size(np.zeros((256, 8)))
    with pytest.raises(DataError, match=r"the mask has shape \(3, 3\)"):
        cell_size(speckle((2.0, 2.0), 0), np.ones((3, 3)))
    with pytest.raises(DataError, match="does not fall to a half"):
        cell_size(np.add.outer(np.arange(40.0) ** 2, np.arange(40.0)))
