"""R2D2+: on Gaussian data everything is known in closed form: the clean image, the score, the loss, the samples."""

import itertools
import math

import pytest
import torch

from s2s.methods import make
from s2s.methods.base import SPECKLE
from s2s.methods.r2d2 import LEAST, MOST
from s2s.methods.regression import MIDDLE, SPREAD
from usim.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


def method(**settings):
    """A method whose network is zero still, so that it is exact for white Gaussian images of our middle and spread."""
    return make("r2d2+", "toy", width=4, depth=1, **settings)


@torch.no_grad()
@pytest.mark.parametrize("sigma", [LEAST, 0.1, MOST])
def test_score_of_gaussian_data_is_the_known_one(sigma):
    v = MIDDLE + torch.randn(2, 1, 16, 24, dtype=torch.float64)
    clean = method().double().clean(v, torch.full((2, 1, 1, 1), sigma, dtype=torch.float64))
    score = (clean - v) / sigma**2
    torch.testing.assert_close(score, -(v - MIDDLE) / (SPREAD**2 + sigma**2), rtol=1e-6, atol=1e-9)


@torch.no_grad()
def test_loss_of_the_exact_network_is_one():
    torch.manual_seed(0)
    x = MIDDLE + SPREAD * torch.randn(64, 1, 64, 64)
    assert float(method().loss({"x": x, "y": x}, 0.5)) == pytest.approx(1.0, rel=0.02)


@torch.no_grad()
def test_samples_of_gaussian_data_have_the_law_of_clean_images_given_the_noisy_one():
    torch.manual_seed(1)
    sampler = method(steps=60, samples=6, hold=0.0, start=2.0)
    sigma = 2.0 * SPECKLE
    y = MIDDLE + math.hypot(SPREAD, sigma) * torch.randn(1, 1, 128, 128)
    drawn = sampler.draw(y)
    share = SPREAD**2 / (SPREAD**2 + sigma**2)
    wanted = math.sqrt(share) * sigma
    assert float(drawn.std(0).square().mean().sqrt()) == pytest.approx(wanted, rel=0.05)
    left = drawn.mean(0) - (MIDDLE + share * (y - MIDDLE))
    assert float(left.std()) == pytest.approx(wanted / math.sqrt(6), rel=0.07)
    assert float(left.mean()) == pytest.approx(0.0, abs=4 * wanted / math.sqrt(6 * 128 * 128))


@torch.no_grad()
def test_low_frequencies_are_held_to_those_of_the_image():
    torch.manual_seed(2)
    y = MIDDLE + 0.5 * SPREAD * torch.randn(1, 1, 64, 64)
    free, held = (method(hold=hold, samples=1) for hold in (0.0, 1.0))
    off = [float((one._low(one.draw(y)[0]) - one._low(y)).square().mean()) for one in (free, held)]
    assert off[1] < 0.2 * off[0]


@torch.no_grad()
def test_it_tells_where_samples_disagree_and_is_the_same_for_the_same_image():
    torch.manual_seed(3)
    y = MIDDLE + 0.1 * torch.randn(2, 1, 24, 32)
    sampler = method(samples=3, steps=4)
    told = sampler.extras(y)
    assert list(told) == ["spread_db", "sample0", "sample1", "sample2"]
    assert all(image.shape == y.shape for image in told.values())
    assert float(told["spread_db"].min()) > 0.0
    mean = (told["sample0"] + told["sample1"] + told["sample2"]) / 3
    torch.testing.assert_close(sampler.infer(y), 1.0 + mean / 60.0)
    torch.testing.assert_close(sampler.draw(y), sampler.draw(y), rtol=0.0, atol=0.0)


def test_strengths_fall_by_equal_factors_to_the_least():
    strengths = method(steps=5).strengths()
    assert strengths[0] == pytest.approx(2.0 * SPECKLE)
    assert strengths[-1] == pytest.approx(LEAST)
    factors = [b / a for a, b in itertools.pairwise(strengths)]
    assert max(factors) - min(factors) < 1e-9


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"steps": 0}, "steps is 0; allowed is a whole number from 1 to 1000"),
        ({"samples": 0}, "samples is 0"),
        ({"start": 10.0, "strength": 5.0}, "start 10.0 and strength 5.0: noise of 4.64; learned are 0.01 to 1"),
    ],
)
def test_samplers_that_can_not_begin_are_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        make("r2d2+", **settings)
