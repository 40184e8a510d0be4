"""Poisson2Sparse: the laws of the noise, the search for codes, and what it does to white and to wide speckle."""

import math

import numpy as np
import pytest
import torch

from s2s.domain import LOG_BIAS_DB, RANGE_DB
from s2s.methods import make
from s2s.methods.poisson2sparse import largest_eigenvalue
from usim.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


def method(**settings):
    torch.manual_seed(0)
    return make("poisson2sparse", "toy", **settings)


def gradient(likelihood, mean, seen):
    mean = mean.clone().requires_grad_(True)
    method(likelihood=likelihood).law(mean, seen).backward()
    return mean.grad


def test_the_laws_of_intensity_and_of_its_logarithm_are_one():
    torch.manual_seed(1)
    seen = 0.5 + 0.1 * torch.randn(1, 1, 40, 40, dtype=torch.float64)
    mean = seen + 0.05 * torch.randn_like(seen)
    torch.testing.assert_close(gradient("gamma", mean, seen), gradient("fisher-tippett", mean, seen))
    assert float(method(likelihood="none").law(mean, seen)) == 0.0


def test_speckle_is_likeliest_about_its_mean_in_decibels():
    """Of fully developed speckle, from which the image lies 2.507 dB below the logarithm of the mean intensity."""
    random = np.random.default_rng(0)
    level_db = -30.0
    image_db = level_db + 10.0 * np.log10(random.exponential(size=200_000))
    seen = torch.from_numpy(1.0 + image_db / RANGE_DB).reshape(1, 1, -1, 1)
    tried = np.linspace(-1.0, 1.0, 41)
    made = method()
    costs = [
        float(made.law(torch.full_like(seen, 1.0 + (level_db - LOG_BIAS_DB + shift) / RANGE_DB), seen))
        for shift in tried
    ]
    assert abs(tried[int(np.argmin(costs))]) <= 0.1
    assert float(np.mean(image_db)) == pytest.approx(level_db - LOG_BIAS_DB, abs=0.05)


def test_counts_are_likeliest_about_their_mean():
    seen = torch.from_numpy(np.random.default_rng(0).poisson(40.0, 100_000) / 100.0).reshape(1, 1, -1, 1)
    tried = np.linspace(0.3, 0.5, 41)
    made = method(likelihood="poisson")
    costs = [float(made.law(torch.full_like(seen, mean), seen)) for mean in tried]
    assert tried[int(np.argmin(costs))] == pytest.approx(0.4, abs=0.0051)


def test_filters_begin_so_that_the_search_for_codes_converges():
    """The eigenvalue by power iterations against that of the whole matrix; it is 1 at the start."""
    filters = torch.randn(6, 1, 3, 3, generator=torch.Generator().manual_seed(3))
    side = 8
    basis = torch.eye(side * side).reshape(-1, 1, side, side)
    codes = torch.nn.functional.conv2d(basis, filters, padding=1).reshape(side * side, -1)
    wanted = torch.linalg.eigvalsh(codes @ codes.T).max()
    assert largest_eigenvalue(filters, side, rounds=300) == pytest.approx(float(wanted), rel=1e-3)
    made = method()
    assert largest_eigenvalue(made.encode.weight.detach()) == pytest.approx(1.0, rel=1e-3)


@torch.no_grad()
def test_decoding_is_the_adjoint_of_encoding_and_shrinking_is_soft():
    made = method()
    image, codes = torch.randn(1, 1, 12, 9), torch.randn(1, 16, 12, 9)
    inner = [float((made.encode(image) * codes).sum()), float((image * made.decode(codes)).sum())]
    assert inner[0] == pytest.approx(inner[1], rel=1e-4)
    shrunk = made._shrunk(codes)
    torch.testing.assert_close(shrunk, codes.sign() * (codes.abs() - 0.01).clamp_min(0.0))


@torch.no_grad()
def test_no_pixel_depends_on_one_beyond_the_halo():
    made = method(rounds=2)
    y = torch.rand(1, 1, 40, 40)
    changed = y.clone()
    changed[..., 20, 20] += 1.0
    rows, columns = torch.nonzero((made.infer(changed) - made.infer(y))[0, 0], as_tuple=True)
    reached = max(int((rows - 20).abs().max()), int((columns - 20).abs().max()))
    assert 2 < reached <= made.halo


def test_an_unknown_law_is_refused():
    with pytest.raises(ConfigError, match="likelihood 'rayleigh': allowed are poisson, gamma, fisher-tippett, none"):
        make("poisson2sparse", likelihood="rayleigh")


def test_far_from_the_image_the_law_is_followed_by_its_tangent():
    seen = torch.full((1, 1, 1, 1), 1.0, requires_grad=False)
    for far in (0.5, 1.0):
        found = gradient("fisher-tippett", seen - far, seen)
        assert torch.isfinite(found).all()
        assert abs(float(found)) <= RANGE_DB * math.log(10.0) / 10.0 * (math.exp(4.0) + 1.0)
