"""The closed forms of usim/speckle.py against scipy, quadrature and random draws."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import digamma, exp1

from usim.speckle import FLOOR_DB, digamma_minus_log, log_plus_e1, mean_bmode, mean_clipped_db

DB = 10.0 / np.log(10.0)


def test_log_plus_e1_is_scipys():
    """Ln K + E1(K) over 20 decades, across the switch of series at 2: 3e-9."""
    k = np.concatenate((np.geomspace(1e-12, 1e8, 4001), [2.0 - 1e-12, 2.0, 2.0 + 1e-12]))
    np.testing.assert_allclose(log_plus_e1(k), np.log(k) + exp1(k), rtol=3e-9, atol=3e-9)


def test_log_plus_e1_at_zero_and_far_out():
    """-gamma without a fixed echo; ln K for a strong one, no overflow."""
    found = log_plus_e1(np.array([0.0, 1e300]))
    assert found == pytest.approx([-np.euler_gamma, np.log(1e300)], abs=1e-12)


def test_digamma_minus_log_is_scipys():
    """Digamma(nu) - ln nu from 1e-3 to 1e9: 1e-8 of the value (1e-9 absolute where it vanishes)."""
    nu = np.geomspace(1e-3, 1e9, 2001)
    np.testing.assert_allclose(digamma_minus_log(nu), digamma(nu) - np.log(nu), rtol=1e-8, atol=1e-9)


def test_arrays_keep_their_type_and_shape():
    """float32 in, float32 out, any shape: the same lines run on other array libraries."""
    k = np.geomspace(0.01, 30, 12, dtype=np.float32).reshape(3, 4)
    for found in (log_plus_e1(k), digamma_minus_log(k), mean_bmode(k, k, 0 * k)):
        assert found.dtype == np.float32
        assert found.shape == (3, 4)


def test_rayleigh_mean():
    """No fixed echo, many scatterers: 10 log10 m - 2.507 dB."""
    m = np.array([1e-9, 0.3, 1.0, 40.0])
    np.testing.assert_allclose(mean_bmode(m, 0 * m, 0 * m), 10 * np.log10(m) - 2.50682, atol=1e-4)


@pytest.mark.parametrize("k", [0.01, 0.3, 1.0, 3.0, 20.0])
def test_rician_mean_against_draws(k):
    """E[10 log10 I] of a fixed echo in speckle: 400 000 draws, four standard errors."""
    rng = np.random.default_rng(1)
    field = np.sqrt(k) + (rng.standard_normal(400_000) + 1j * rng.standard_normal(400_000)) * np.sqrt(0.5)
    draws = 20.0 * np.log10(np.abs(field)) + 7.0
    level = np.array([10.0**0.7])
    found = mean_bmode(level, k * level, 0 * level)[0]
    assert found == pytest.approx(draws.mean(), abs=4.0 * draws.std() / np.sqrt(draws.size))


@pytest.mark.parametrize("nu", [1.0, 3.0, 10.0, 40.0])
def test_k_distributed_mean_against_draws(nu):
    """K-distributed intensity is a gamma-distributed mean times an exponential: exact for every nu."""
    rng = np.random.default_rng(2)
    draws = 10.0 * np.log10(rng.gamma(nu, 1.0 / nu, 400_000) * rng.standard_exponential(400_000))
    found = mean_bmode(np.ones(1), np.zeros(1), np.full(1, 2.0 / nu))[0]
    assert found == pytest.approx(draws.mean(), abs=4.0 * draws.std() / np.sqrt(draws.size))


@pytest.mark.parametrize("nu", [8.0, 20.0])
@pytest.mark.parametrize("k", [0.2, 1.0, 4.0])
def test_fixed_echo_among_few_scatterers_against_draws(nu, k):
    """First order in 1/nu with a fixed echo: within 0.1 dB at nu = 8, 0.05 dB at nu = 20."""
    rng = np.random.default_rng(3)
    spread = np.sqrt(rng.gamma(nu, 1.0 / nu, 400_000) * 0.5)
    field = np.sqrt(k) + spread * (rng.standard_normal(400_000) + 1j * rng.standard_normal(400_000))
    draws = 20.0 * np.log10(np.abs(field))
    found = mean_bmode(np.ones(1), np.full(1, k), np.full(1, 2.0 / nu))[0]
    assert found == pytest.approx(draws.mean(), abs=0.1 if nu == 8.0 else 0.05)


def test_fixed_echo_without_speckle():
    """No diffuse echo at all: the fixed echo's own level, and the floor where there is nothing."""
    nothing = np.zeros(3)
    found = mean_bmode(nothing, np.array([1.0, 1e-6, 0.0]), nothing)
    assert found == pytest.approx([0.0, -60.0, FLOOR_DB], abs=1e-6)


def test_strong_echoes_hide_the_sparse_correction():
    """The correction for few scatterers vanishes where the fixed echo dominates, however few they are."""
    one = np.ones(1)
    assert mean_bmode(one, 300.0 * one, 2.0 * one)[0] == pytest.approx(10 * np.log10(300.0), abs=1e-3)


@pytest.mark.parametrize("mean", [1e-8, 1e-4, 0.02, 0.7, 30.0])
def test_clipped_mean_against_quadrature(mean):
    """E[10 log10 clip(I, 1e-6, 1)] of exponential intensity by one-dimensional quadrature: 1e-6 dB."""
    low, high = 1e-6, 1.0

    def integrand(t):  # over t = ln I
        return t * np.exp(t - np.log(mean) - np.exp(t) / mean)

    inside = quad(integrand, np.log(low), np.log(high), epsabs=1e-13, epsrel=1e-12, limit=400)[0]
    wanted = DB * (inside - np.expm1(-low / mean) * np.log(low) + np.exp(-high / mean) * np.log(high))
    assert mean_clipped_db(np.array([mean]), low, high)[0] == pytest.approx(wanted, abs=1e-6)


def test_clipped_mean_is_between_its_limits():
    """Far below and far above the clipped range the limits themselves."""
    found = mean_clipped_db(np.array([1e-14, 1e9]), 1e-6, 1.0)
    assert found == pytest.approx([-60.0, 0.0], abs=1e-4)
