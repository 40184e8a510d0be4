"""Noise2VST and its backbone: the curve has an inverse, nobody sees what is hidden, and a missing denoiser is named."""

import numpy as np
import pytest
import torch
from torch import nn

import s2s
from s2s.checkpoint import save_checkpoint
from s2s.cli import main
from s2s.denoise import Denoiser
from s2s.domain import RANGE_DB
from s2s.methods import make
from s2s.methods.base import Training
from s2s.methods.descent import Descent
from s2s.methods.masks import donut, phase
from s2s.methods.noise2vst import Spline
from s2s.metrics.fidelity import psnr
from s2s.toy import toy_clean, toy_looks, toy_scene
from usim.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


def curve(knots=128, spread=1.0, seed=0):
    """A curve in double precision that is far from the identity."""
    spline = Spline(knots).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        spline.t += spread * torch.randn(knots, generator=generator, dtype=torch.float64)
    return spline


@pytest.mark.parametrize("knots", [2, 3, 128])
@torch.no_grad()
def test_a_curve_has_an_inverse_and_begins_as_the_identity(knots):
    v = torch.linspace(-0.5, 1.5, 4001, dtype=torch.float64)
    torch.testing.assert_close(Spline(knots).double()(v), v, rtol=0.0, atol=1e-6)
    bent = curve(knots)
    assert float((bent(v) - v).abs().max()) > 0.1
    torch.testing.assert_close(bent.inverse(bent(v)), v, rtol=0.0, atol=1e-6)


def test_a_curve_rises_whatever_it_learns():
    spline = curve(16, spread=0.0)
    optimizer = torch.optim.Adam(spline.parameters(), lr=1.0)
    v = torch.linspace(0.0, 1.0, 200, dtype=torch.float64)
    for _ in range(20):
        optimizer.zero_grad()
        (spline(v) + v).square().sum().backward()  # would like to fall
        optimizer.step()
        assert bool((spline.ordinates().diff() > 0.0).all())
        assert bool((spline(v).diff() > 0.0).all())


def test_gradients_reach_the_curve_through_the_denoiser_and_nothing_else_learns():
    torch.manual_seed(0)
    method = make("noise2vst", "toy")
    y = torch.rand(2, 1, 32, 32)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizers = method.optimizers(Training(rate=1e-2))
    for _ in range(2):
        method.step([{"y": y}], 0.5, optimizers, Descent())
    changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"curve.t", "tilt", "offset"}


def test_what_is_hidden_has_no_say_in_what_is_foretold_of_it():
    method = make("noise2vst", "toy").double().requires_grad_(False)
    y = torch.rand(1, 1, 16, 16, dtype=torch.float64).requires_grad_(True)
    hidden = phase(y, 4, 5)
    given = torch.where(hidden, donut(y), y)
    (gradient,) = torch.autograd.grad(method.infer(given)[0, 0, 5, 5], y)
    assert bool(hidden[5, 5])
    assert gradient[0, 0, 5, 5] == 0.0
    assert gradient.abs().sum() > 0.0


@torch.no_grad()
@pytest.mark.parametrize(("scale", "shift"), [(0.25, 0.4), (3.0, -1.0)])
def test_scale_and_offset_of_a_curve_do_not_matter(scale, shift):
    torch.manual_seed(1)
    method = make("noise2vst", "toy").double()
    method.curve = curve(seed=3, spread=0.3)
    y = torch.rand(1, 1, 24, 24, dtype=torch.float64)
    before = method.infer(y)
    ordinates = method.curve.ordinates()

    class Moved(nn.Module):
        def ordinates(self):
            return shift + scale * ordinates

        forward, inverse = Spline.forward, Spline.inverse

    method.curve = Moved()
    # The noise that the denoiser is told of is that of the curve's own scale.
    told = method.denoiser.clean
    method.denoiser.clean = lambda v, sigma: told(v, sigma * scale)
    torch.testing.assert_close(method.infer(y), before, rtol=0.0, atol=1e-6)


# What they reach.


def gains(method, iid, fits=True):
    """dB of PSNR gained on a toy scene that no training saw."""
    generator = np.random.default_rng(12345)
    scene = toy_scene(generator)
    noisy, clean = toy_looks(scene, generator, iid=iid)[0], toy_clean(scene, iid=iid)
    output = Denoiser(method, fits=fits).denoise(noisy, "db")
    return psnr(output, clean, RANGE_DB) - psnr(noisy, clean, RANGE_DB)


def test_a_curve_adds_to_a_denoiser_where_noise_is_white():
    """15.8 dB here, and 15.5 of the denoiser alone, which never saw speckle."""
    alone = gains(s2s.load("awgn").method, iid=True, fits=False)
    under = gains(make("noise2vst", "toy"), iid=True)
    assert alone > 14.0
    assert under > alone + 0.1


def test_neighbours_that_share_their_noise_give_it_away_and_phases_hide_it():
    """2.8, falling as it learns, and 10.0 dB here; the denoiser alone has 4.6."""
    assert gains(make("noise2vst", "toy", fit=60), iid=False) < 4.0
    assert gains(make("polyphase(4):noise2vst", "toy", fit=20), iid=False) > 8.0


def test_the_backbone_knows_noise_of_every_strength():
    method = s2s.load("awgn").method
    clean = torch.from_numpy(1.0 + toy_clean(toy_scene(np.random.default_rng(2))) / RANGE_DB).float()[None, None]
    for sigma in (0.02, 0.1, 0.2):
        torch.manual_seed(3)
        noisy = clean + sigma * torch.randn_like(clean)
        with torch.no_grad():
            left = (method.clean(noisy, torch.full((1, 1, 1, 1), sigma)) - clean).square().mean().sqrt()
        assert float(left) < 0.5 * sigma


# Bad input.


@pytest.mark.parametrize(
    ("backbone", "text"),
    [
        ("runs/nothing", "no such weights; train some, s2s train --sim --method awgn -o runs/mine, and give backbone="),
        ("default", "weights of noise2true; those of a method such as awgn are needed"),
    ],
)
def test_a_backbone_that_is_not_there_is_named_with_the_cure(backbone, text):
    with pytest.raises(ConfigError, match=f"^noise2vst: backbone '{backbone}': {text}"):
        make("noise2vst", backbone=backbone)


def test_a_damaged_backbone_is_named(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"backbone .*best.pt: not an s2s checkpoint"):
        make("noise2vst", backbone=str(tmp_path))


def test_a_missing_backbone_ends_a_command_before_it_begins(tmp_path, capsys):
    words = ["train", "--sim", "--method", "noise2vst", "--set", "backbone=no", "-o", str(tmp_path / "out")]
    assert main(words) == 2
    assert "backbone 'no': no such weights" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_backbone_of_ones_own_is_taken(tmp_path):
    own = make("awgn", "toy", width=4)
    save_checkpoint(tmp_path / "best.pt", own, {})
    method = make("noise2vst", backbone=str(tmp_path))
    assert method.denoiser.settings["width"] == 4
    assert method.multiple == own.multiple
