"""NS-N2N: what it takes for the same tissue, and where its loss must be zero."""

import pytest
import torch

from s2s.methods import make
from s2s.methods.ns_n2n import box_mean
from usim.errors import ConfigError


def method(**settings):
    return make("ns-n2n", "toy", width=8, **settings)


def test_pixels_are_matched_where_means_differ_by_tau_at_most():
    first = torch.full((40, 60), 0.5)
    second = first.clone()
    second[:, 30:] += 0.1  # 6 dB
    made = method(tau=3.6, guide=(5, 9)).prepare({"y": first, "next": second})
    matched = made["matched"]
    assert matched.shape == (40, 60)
    assert set(matched.unique().tolist()) == {0.0, 1.0}
    # Means over nine columns: 5 of those about column 30 lie on the brighter side, 3.3 dB, and 6 of those about 31.
    columns = matched.mean(0)
    assert columns[:31].tolist() == [1.0] * 31
    assert columns[31:].tolist() == [0.0] * 29
    assert method(tau=6.1).prepare({"y": first, "next": second})["matched"].min() == 1.0


@torch.no_grad()
def test_equal_slices_cost_nothing_and_a_linear_network_does_not_bend():
    one, other = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    matched = torch.ones_like(one)
    identity = method()  # a residual network whose last layer is zero returns what it is given
    assert float(identity.loss({"y": one, "next": one, "matched": matched}, 0.5)) == pytest.approx(0.0, abs=1e-10)
    only_bend = method(consistency=0.0)
    loss = only_bend.loss({"y": one, "next": other, "matched": torch.zeros_like(one)}, 0.5)
    assert float(loss) == pytest.approx(0.0, abs=1e-9)


@torch.no_grad()
def test_what_is_not_matched_is_not_learned_from():
    one, other = torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32)
    matched = torch.zeros_like(one)
    matched[..., :16] = 1.0
    half = method(consistency=0.0, continuity=0.0)
    changed = other.clone()
    changed[..., 16:] = 0.0
    losses = [float(half.loss({"y": one, "next": b, "matched": matched}, 0.5)) for b in (other, changed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # the identity looks at no other pixel


def test_box_means_repeat_the_border():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    torch.testing.assert_close(box_mean(torch.ones(1, 1, 9, 9), (5, 3)), torch.ones(1, 1, 9, 9))
    assert float(box_mean(image, (1, 3))[0, 0, 0, 0]) == pytest.approx(1.0 / 3.0)


def test_looks_are_for_noise2noise():
    with pytest.raises(ConfigError, match=r"ns-n2n: pair 'look': .*use noise2noise"):
        make("ns-n2n", pair="look")
    assert make("ns-n2n", "toy", pair="angle").needs == ("y", "steered")
