"""Envelope, dB and gain."""

import numpy as np
import pytest

from usim.process import envelope, log_compress, tgc_gain


def test_envelope_is_the_magnitude():
    """|3 + 4i| = 5, float32 for complex64."""
    found = envelope(np.array([[3 + 4j, 0, -2j]], np.complex64))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[5, 0, 2]])


def test_log_compress_clips_to_its_range():
    """20 log10 within [-150, 0] dB; zero is the floor and warns of nothing."""
    found = log_compress(np.array([0.0, 1e-30, 1e-3, 0.5, 1.0, 40.0]))
    np.testing.assert_allclose(found, [-150, -150, -60, -6.0206, 0, 0], atol=1e-4)


def test_no_gain():
    """`none` leaves the echoes."""
    np.testing.assert_array_equal(tgc_gain("none", np.linspace(0, 0.04, 5), None, 1.0), np.ones(5))


def test_auto_gain_undoes_tissue_up_to_sixty_decibels():
    """Reference over tissue, at most 1e6 in power, also where nothing comes back."""
    tissue = np.array([4.0, 1.0, 1e-3, 1e-9, 0.0])
    np.testing.assert_allclose(tgc_gain("auto", np.linspace(0, 0.04, 5), tissue, 2.0), [0.5, 2.0, 2e3, 1e6, 1e6])


def test_slope_is_decibels_per_centimetre():
    """3 dB/cm at 2 cm is 6 dB of power."""
    assert tgc_gain(3.0, np.array([0.0, 0.02]), None, 1.0) == pytest.approx([1.0, 10**0.6])
