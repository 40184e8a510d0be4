"""VDN: its bound in closed form, where it must be zero, and what it says of the noise."""

import numpy as np
import pytest
import torch

from s2s.methods import make
from s2s.methods.vdn import image_divergence, likelihood, noise_divergence
from usim.errors import ConfigError

SHAPE = (2, 1, 5, 7)


def test_divergences_are_zero_where_the_laws_are_the_same():
    zero = torch.zeros(SHAPE)
    near, a, b = 1e-3, 59.5, torch.rand(SHAPE) + 0.5
    assert float(image_divergence(zero, zero + np.log(near), near)) == pytest.approx(0.0, abs=1e-6)
    assert float(noise_divergence(zero + np.log(a), b.log(), a, b)) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_divergences_are_those_of_torch(seed):
    """Of the Gaussian by torch.distributions; of the inverse Gamma law by that of the Gamma law of 1 / x."""
    torch.manual_seed(seed)
    error, spread, near = torch.rand(SHAPE), torch.rand(SHAPE) + 0.1, 0.3
    laws = [
        torch.distributions.Normal(m, s) for m, s in ((error.sqrt(), spread.sqrt()), (torch.zeros(SHAPE), near**0.5))
    ]
    wanted = torch.distributions.kl_divergence(*laws).mean()
    assert float(image_divergence(error, spread.log(), near)) == pytest.approx(float(wanted), rel=1e-4)
    alpha, beta, a, b = torch.rand(SHAPE) + 2.0, torch.rand(SHAPE) + 1.0, 3.5, torch.rand(SHAPE) + 1.0
    laws = [torch.distributions.Gamma(alpha, beta), torch.distributions.Gamma(torch.full(SHAPE, a), b)]
    wanted = torch.distributions.kl_divergence(*laws).mean()
    assert float(noise_divergence(alpha.log(), beta.log(), a, b)) == pytest.approx(float(wanted), rel=1e-3, abs=1e-5)


def test_likelihood_is_that_of_the_law_drawn_from():
    """Against the mean over draws of the variance, for one pixel of known alpha, beta and rest."""
    generator = np.random.default_rng(0)
    alpha, beta, left, spread = 6.0, 4.0, 1.3, 0.2
    variances = beta / generator.gamma(alpha, size=400_000)
    drawn = 0.5 * np.log(2 * np.pi * variances) + (left + spread) / (2 * variances)
    one = torch.ones(1, 1, 1, 1)
    found = likelihood(left * one, spread * one, np.log(alpha) * one, np.log(beta) * one)
    assert float(found) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / np.sqrt(drawn.size))


@pytest.mark.parametrize("fold", [1, 2])
def test_it_begins_with_the_image_and_the_noise_of_speckle(fold):
    method = make("vdn", "toy", width=8, fold=fold)
    y = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        mean, spread = method.image_law(y)
        noise = method.extras(y)["noise_db"]
    torch.testing.assert_close(mean, y)
    torch.testing.assert_close(spread.exp(), torch.full_like(y, 1e-3), rtol=1e-4, atol=0.0)
    half = method.half
    torch.testing.assert_close(noise, torch.full_like(y, 5.57 * (half / (half - 2.0)) ** 0.5), rtol=1e-3, atol=0.0)


def test_what_makes_no_law_is_refused():
    with pytest.raises(ConfigError, match="vdn: against 'looks': allowed are truth, look"):
        make("vdn", against="looks")
    with pytest.raises(ConfigError, match=r"window .* 3 pixels tell no variance"):
        make("vdn", window=(1, 3))
    assert make("vdn", "toy", against="look").needs == ("y", "y2")
