"""Speckle2Self's choices: what each setting does to the copies and the network, and what the hidden cell can't leak."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.domain import LOG_BIAS_DB, RANGE_DB, SPECKLE_DB, to_scale
from s2s.methods import make
from s2s.methods.base import SPECKLE
from s2s.methods.bright import brighter_than_speckle
from s2s.methods.speckle2self import Speckle2Self, multi_scale
from s2s.nets.branches import Decoder, Encoder
from s2s.nets.surroundings import Surroundings, blurred
from s2s.toy import toy_looks

pytestmark = pytest.mark.usefixtures("one_thread")


def surroundings(hidden, **settings):
    """A small network of random weights, in double precision."""
    torch.manual_seed(0)
    net = Surroundings(hidden, width=4, **{"depth": 2, **settings}).double()
    nn.init.normal_(net.join[-1].weight)
    return net


@pytest.mark.parametrize("hidden", [(1, 1), (3, 11), (5, 9), (9, 3)])
@pytest.mark.parametrize("pixel", [(0, 0), (19, 20), (20, 19), (47, 6), (3, 47)])
def test_a_pixel_depends_on_all_around_its_cell_and_on_nothing_in_it(hidden, pixel):
    x = torch.randn(1, 1, 48, 48, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(surroundings(hidden)(x)[0, 0][pixel], x)
    seen = gradient[0, 0].abs() > 1e-12  # sums of boxes leave a rounding error of 1e-17 inside
    rows, columns = (torch.arange(48) - centre for centre in pixel)
    inside = (rows.abs() <= hidden[0] // 2)[:, None] & (columns.abs() <= hidden[1] // 2)
    frame = (rows.abs() <= hidden[0] // 2 + 1)[:, None] & (columns.abs() <= hidden[1] // 2 + 1) & ~inside
    assert not seen[inside].any()
    assert seen[frame].all()


def test_before_it_has_learnt_a_pixel_is_the_mean_of_a_frame_around_it():
    net = Surroundings((3, 5), width=4).double().requires_grad_(False)
    x = torch.randn(2, 1, 32, 40, dtype=torch.float64)
    frame = x[0, 0, 10 - 3 : 10 + 4, 20 - 5 : 20 + 6].clone()  # the cell is 3 x 5, the frame 7 x 11
    frame[2:5, 3:8] = float("nan")
    assert float(net(x)[0, 0, 10, 20]) == pytest.approx(float(frame.nanmean()))
    torch.testing.assert_close(net(torch.full_like(x, 0.3)), torch.full_like(x, 0.3))


def test_white_noise_can_not_be_learnt():
    """The loss of a hidden pixel stays at the variance of its noise; that of a visible one would go to zero."""
    torch.manual_seed(0)
    method = make("speckle2self", target="hidden", hidden=(1, 1), width=8, depth=1)
    optimizer = torch.optim.Adam(method.parameters(), 3e-3)
    noise = torch.randn(30, 4, 1, 32, 32)
    for batch in noise:
        optimizer.zero_grad()
        method.loss({"scale0": batch}, 0.0).backward()
        optimizer.step()
    unseen = torch.randn(4, 1, 32, 32)
    floor = (0.25 / SPECKLE) ** 2  # an image on the network's scale has unit variance here
    with torch.no_grad():
        assert 0.97 < float(method.loss({"scale0": unseen}, 0.0)) / (floor * float(unseen.var())) < 1.2


def test_the_loss_of_the_truth_is_the_variance_of_speckle():
    """A flat scene whose level the network has found: its loss is one, in units of speckle's variance."""
    (y,) = toy_looks(np.full((192, 192), -10.0), np.random.default_rng(4), clip=False)
    method = make("speckle2self", target="hidden", hidden=(31, 63), width=4, depth=1)
    image = method.prepare({"y": torch.from_numpy(to_scale(y, "db").astype(np.float32))})["scale0"]
    loss = method.loss({"scale0": image[None, None]}, 0.0).detach()
    assert float(loss) == pytest.approx((y.std() / SPECKLE_DB) ** 2, rel=0.05)


def test_what_speckle_can_not_be_is_kept_and_the_rest_is_replaced():
    """One pixel of 40 dB stays; of speckle, one pixel in ten thousand is above 12 dB."""
    excess = torch.linspace(-60.0, 60.0, 481)
    sure = brighter_than_speckle(excess, 12.0)
    assert (sure.diff() >= 0.0).all()
    assert float(brighter_than_speckle(torch.tensor(12.0), 12.0)) == pytest.approx(0.5)
    assert (sure[excess < 8.0] < 0.02).all()
    assert (sure[excess > 15.0] > 0.99).all()
    intensity = torch.from_numpy(np.random.default_rng(0).exponential(size=1_000_000))
    decibel = 10.0 * intensity.log10() + LOG_BIAS_DB
    assert float((decibel > 12.0).double().mean()) == pytest.approx(
        np.exp(-(10 ** ((12.0 - LOG_BIAS_DB) / 10))), rel=0.3
    )
    method = make("speckle2self", target="hidden", width=4)
    y = torch.full((1, 1, 64, 64), 0.2)
    y[..., 30, 30] += 40.0 / RANGE_DB
    assert float(method.denoise(y)[..., 30, 30]) == pytest.approx(0.2 + 40.0 / RANGE_DB, abs=1e-3)
    without = make("speckle2self", target="hidden", width=4, keep=0.0)
    assert float(without.denoise(y)[..., 30, 30]) == pytest.approx(0.2, abs=1e-3)


def test_what_is_predicted_is_blurred_by_a_gaussian():
    x = torch.zeros(1, 1, 33, 41, dtype=torch.float64)
    x[..., 16, 20] = 1.0
    found = blurred(x, (1.2, 2.5))
    expected = ndimage.gaussian_filter(x[0, 0].numpy(), (1.2, 2.5), mode="nearest", radius=(4, 8))
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-12)
    assert torch.equal(blurred(x, (0.0, 0.0)), x)
    torch.testing.assert_close(blurred(torch.full_like(x, 0.3), (2.0, 0.5)), torch.full_like(x, 0.3))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "area", "nearest"])
def test_every_interpolation_gives_copies_of_a_flat_image_that_are_it(interpolation):
    y = torch.full((1, 1, 32, 48), 0.3)
    for copy in multi_scale(y, (1.0, 0.5, 0.25), interpolation):
        torch.testing.assert_close(copy, y)


def test_antialiased_copies_average_what_sampled_ones_leave_out():
    y = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    sampled, smooth = (multi_scale(y, (1.0, 0.25), antialias=antialias)[1] for antialias in (False, True))
    assert smooth.var() < 0.6 * sampled.var()
    averaged = multi_scale(y, (1.0, 0.25), "area")[1]
    torch.testing.assert_close(
        averaged[0, 0, ::4, ::4], nn.functional.avg_pool2d(y, 4)[0, 0]
    )  # what area means: boxes of 4 x 4


@pytest.mark.parametrize("skips", [(), (8,), (2, 4, 8)])
def test_skips_are_added_where_the_decoder_has_their_stride(skips):
    torch.manual_seed(0)
    encoder, decoder = Encoder("none"), Decoder("none")
    levels = encoder.levels(torch.randn(1, 1, 32, 32))
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2]
    plain = decoder(levels[-1])
    assert torch.equal(decoder.join(levels, ()), plain)
    for number, stride in enumerate((2, 4, 8)):
        changed = [level + 1.0 if k == number else level for k, level in enumerate(levels)]
        assert torch.equal(decoder.join(changed, skips), decoder.join(levels, skips)) == (stride not in skips)


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
def test_tiles_are_allowed_where_a_pixel_sees_no_statistics_of_the_image(norm):
    method = Speckle2Self(norm=norm)
    assert (method.halo is None) == (norm in ("instance", "group"))
    assert Speckle2Self(norm=norm, scaling="minmax").halo is None


def test_targets_are_the_own_copy_or_the_others():
    torch.manual_seed(0)
    copies = torch.rand(3, 1, 1, 32, 32)
    batch = {f"scale{k}": copy for k, copy in enumerate(copies)}
    crossed = [(i, j) for i in range(3) for j in range(3) if i != j]
    for target, pairs in (("own", [(0, 0), (1, 1), (2, 2)]), ("others", crossed)):
        method = make("speckle2self", target=target, norm="none").requires_grad_(False)
        codes = [encoder.levels(copy) for encoder, copy in zip((method.encoder, *method.coarse), copies, strict=True)]
        seen = [method.decoder(levels[-1]) for levels in codes]
        errors = sum((seen[i] - copies[j]).square().mean() for i, j in pairs)
        agreement = sum((seen[i] - seen[j]).abs().mean() for i, j in ((0, 1), (0, 2), (1, 2)))
        torch.testing.assert_close(method.loss(batch, 0.0), errors + agreement)


def test_a_checkpoint_from_before_a_setting_existed_means_what_it_meant(tmp_path):
    """The published loss was the default once; a preset that changed since then does not change its checkpoints."""
    torch.manual_seed(0)
    method = make("speckle2self", target="own")
    method.preset = "default"
    names = ("norm", "head", "scaling", "compression", "scales", "agreement")
    method.settings = {name: method.settings[name] for name in names}
    save_checkpoint(tmp_path / "old.pt", method, {})
    loaded = load_checkpoint(tmp_path / "old.pt").method
    y = torch.rand(1, 1, 32, 48)
    assert torch.equal(loaded.denoise(y), method.denoise(y))
    assert loaded.settings["target"] == "own"
