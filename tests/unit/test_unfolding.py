"""DNA-Net: its stages are the formulas they are said to be, and attention is that of the pixels it is said to be of."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from s2s.methods import make
from s2s.methods.base import SPECKLE, Training
from s2s.methods.descent import Descent
from s2s.methods.dna_net import soft
from s2s.nets.attention import BLOCK, WINDOW, AttentionBlock, UTransformer, WindowAttention
from usim.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


def small(**settings):
    torch.manual_seed(0)
    return make("dna-net", "toy", **{"width": 4, **settings})


class Steered(nn.Module):
    """The same numbers for every image and stage."""

    def __init__(self, mu, beta, theta, stages):
        super().__init__()
        self.said = torch.tensor([[mu, beta, theta]] * stages)[None, :, :, None, None, None]

    def forward(self, image):
        return self.said.expand(len(image), -1, -1, -1, -1, -1)


@torch.no_grad()
@pytest.mark.parametrize("stages", [1, 3, 5])
def test_a_prior_that_changes_nothing_returns_the_image(stages):
    """The transformer begins as the identity, and nothing is an outlier of itself."""
    y = torch.rand(2, 1, 32, 64)
    clean, outliers = small(stages=stages).solved(y)
    torch.testing.assert_close(clean, y, rtol=0.0, atol=1e-6)
    assert not outliers.any()


@torch.no_grad()
def test_one_stage_without_coupling_is_the_prior():
    method = small(stages=1)
    nn.init.normal_(method.prior.last.weight, std=0.1)
    method.steer = Steered(0.0, 0.7, 1e6, 1)
    y = torch.rand(2, 1, 32, 32)
    expected = method.denoised(y, torch.full((2, 1, 1, 1), 0.7), 0)
    assert not torch.equal(expected, y)
    torch.testing.assert_close(method.infer(y), expected)


@torch.no_grad()
def test_stages_are_the_formulas():
    method = small(stages=2)
    mu, theta, shift = 0.5, 20.0, 0.6
    method.steer = Steered(mu, 1.0, theta, 2)
    method.denoised = lambda x, beta, stage: x - shift
    y = torch.rand(1, 1, 32, 32)
    threshold = SPECKLE * (3.0 + 0.05 * theta)
    z = y - shift
    s = soft(y - z, torch.tensor(threshold))
    assert float(s.max()) == pytest.approx(shift - threshold, abs=1e-6)
    z = (y - s + mu * z) / (1.0 + mu) - shift
    clean, outliers = method.solved(y)
    torch.testing.assert_close(clean, z)
    torch.testing.assert_close(outliers, soft(y - z, torch.tensor(threshold)))


def test_values_within_the_threshold_are_zero_and_others_come_nearer():
    values = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])
    assert soft(values, torch.tensor(0.75)).tolist() == [-1.25, 0.0, 0.0, 0.0, 1.25]


def test_impulses_are_told_as_outliers_after_a_short_training():
    """One pixel in a hundred is white, on a smooth image with noise: what is told holds those and little else."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.linspace(0.0, math.pi, 64)
    x = (0.35 + 0.1 * torch.sin(rows)[:, None] * torch.cos(rows)[None, :]).expand(4, 1, 64, 64)
    noisy = x + 0.05 * torch.randn(x.shape, generator=generator)
    struck = torch.rand(x.shape, generator=generator) < 0.01
    batch = {"y": torch.where(struck, torch.ones(()), noisy), "x": x}
    method = small(stages=2)
    optimizers = method.optimizers(Training(rate=3e-3))
    for _ in range(60):
        method.step([batch], 0.5, optimizers, Descent(clip=1.0))
    told = method.tell(batch["y"])["outliers_db"]
    assert float((told[struck] > 0.0).float().mean()) > 0.95
    assert float((told[~struck] != 0.0).float().mean()) < 0.01


# Attention.


@torch.no_grad()
@pytest.mark.parametrize("spacing", [1, 2, 4])
def test_attention_is_that_of_the_pixels_of_a_window(spacing):
    torch.manual_seed(1)
    layer = WindowAttention(32, spacing).double()
    nn.init.normal_(layer.bias)
    assert layer.heads == 2
    x = torch.randn(2, 32, 64, 32, dtype=torch.float64)
    found = layer(x)
    asked, keys, values = layer.ask(x).chunk(3, 1)
    size = WINDOW * spacing
    for image, row, column in ((0, 0, 0), (1, 37, 21), (0, 63, 31)):
        top, left = row // size * size + row % spacing, column // size * size + column % spacing
        window = [(r, c) for r in range(top, top + size, spacing) for c in range(left, left + size, spacing)]
        here = WINDOW * ((row - top) // spacing) + (column - left) // spacing
        heads = []
        for head in range(2):
            part = slice(16 * head, 16 * head + 16)
            products = [(asked[image, part, row, column] * keys[image, part, r, c]).sum() / 4.0 for r, c in window]
            weights = (torch.stack(products) + layer.bias[head, layer.offsets[here]]).softmax(0)
            heads.append(sum(w * values[image, part, r, c] for w, (r, c) in zip(weights, window, strict=True)))
        expected = layer.answer.weight[:, :, 0, 0] @ torch.cat(heads) + layer.answer.bias
        torch.testing.assert_close(found[image, :, row, column], expected)


@torch.no_grad()
def test_windows_begin_where_they_are_told_to():
    torch.manual_seed(1)
    layer, x = WindowAttention(8, 1), torch.randn(1, 8, 16, 16)
    other = x.clone()
    other[..., 7, 0] += 1.0
    for start, seen in ((0, range(8)), (3, (3, 4, 5, 6, 7, 8, 9, 10)), (8, range(8))):
        changed = (layer(other, start) != layer(x, start)).any(1)[0].any(1)
        assert changed.nonzero().flatten().tolist() == list(seen), start


@torch.no_grad()
def test_borders_of_windows_lie_elsewhere_in_each_pass():
    net, starts = UTransformer(2, 1, width=8), []
    for module in net.modules():
        if isinstance(module, AttentionBlock):
            module.register_forward_pre_hook(lambda block, given: starts.append((given[0].shape[-1], given[1])))
    for stage in range(3):
        net(torch.randn(1, 2, 32, 32), stage)
    assert len(starts) == 15
    for side in (32, 16):
        found = [start % WINDOW for size, start in starts if size == side]
        assert len(found) == 6
        assert max(map(found.count, found)) <= 2


def test_a_bias_says_how_far_apart_two_pixels_are():
    layer = WindowAttention(8, 1)
    side = 2 * WINDOW - 1
    for here, there in ((0, 0), (0, 63), (63, 0), (9, 10), (8, 0)):
        row, column = here // WINDOW - there // WINDOW, here % WINDOW - there % WINDOW
        assert int(layer.offsets[here, there]) == (row + WINDOW - 1) * side + column + WINDOW - 1


@torch.no_grad()
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_block_takes_multiples_of_its_share_of_a_block_of_pixels(level):
    side = BLOCK // 2**level
    x = torch.randn(1, 8, side, 2 * side)
    assert AttentionBlock(8, level)(x).shape == x.shape


@pytest.mark.parametrize("width", [3, 28, 48])
@torch.no_grad()
def test_a_transformer_of_any_width_changes_nothing_at_first(width):
    net = UTransformer(2, 1, width=width)
    assert net.multiple == BLOCK
    assert not net(torch.randn(1, 2, 32, 64)).any()


def test_everything_of_it_learns():
    method = small()
    nn.init.normal_(method.prior.last.weight, std=0.1)
    y = torch.from_numpy(np.random.default_rng(0).random((2, 1, 32, 32), dtype=np.float32))
    method.loss({"y": y, "x": y.flip(-1)}, 0.5).backward()
    missing = [name for name, one in method.named_parameters() if one.grad is None or not one.grad.any()]
    assert missing in ([], ["steer.say.2.bias"])


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"against": "nothing"}, "against 'nothing': allowed are truth, look"), ({"stages": 0}, "stages is 0")],
)
def test_bad_settings_are_refused(settings, text):
    with pytest.raises(ConfigError, match=f"^dna-net: {text}"):
        make("dna-net", **settings)
