"""DANet, PNGAN and their parts: critics, penalties, made speckle, and what is told of whom."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

import s2s
from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.cli import main
from s2s.domain import RANGE_DB, SPECKLE_DB
from s2s.methods import make, method_class
from s2s.methods.base import SPECKLE, Training
from s2s.methods.danet import pair_of
from s2s.methods.descent import Descent
from s2s.nets.critics import ImageCritic, PixelCritic, gradient_penalty, relativistic
from s2s.nets.generators import LAGS, SMNet, Speckle, moments
from usim.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {
    "danet": {"width": 4, "depth": 1, "maker": 4, "critic": 4},
    "pngan": {"width": 4, "depth": 1, "maker": 4, "groups": 1, "critic": 4},
}
both = pytest.mark.parametrize("name", ["danet", "pngan"])


def small(name, **settings):
    torch.manual_seed(0)
    return make(name, "toy", **{**SMALL[name], **settings})


def batch(count=2, side=32, seed=1):
    """A flat clean image and white noise of speckle's deviation on it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((count, 1, side, side), 0.6)
    return {"x": x, "y": x + SPECKLE * torch.randn(x.shape, generator=generator)}


# Critics.


def test_the_penalty_of_a_linear_critic_is_the_distance_of_its_norm_from_one():
    torch.manual_seed(0)
    weights = torch.randn(2, 8, 8, dtype=torch.float64)
    weights /= weights.norm()
    real, made = torch.randn(2, 3, 2, 8, 8, dtype=torch.float64)
    for norm in (1.0, 0.25, 3.0):
        penalty = gradient_penalty(lambda image, norm=norm: norm * (image * weights).sum((1, 2, 3)), real, made)
        assert float(penalty) == pytest.approx((norm - 1.0) ** 2, abs=1e-12)


def test_the_penalty_teaches_a_critic():
    torch.manual_seed(0)
    critic = ImageCritic(2, width=4)
    real, made = torch.randn(2, 2, 2, 32, 32)
    gradient_penalty(critic, real, made).backward()
    assert all(one.grad is not None and bool(torch.isfinite(one.grad).all()) for one in critic.body.parameters())


def test_a_critic_that_can_not_tell_has_a_loss_of_two_logarithms_of_two():
    same = torch.zeros(2, 1, 4, 4)
    assert float(relativistic(same, same)) == pytest.approx(2.0 * math.log(2.0))
    assert float(relativistic(same + 5.0, same - 5.0)) < 0.01
    assert float(relativistic(same - 5.0, same + 5.0)) > 10.0


@torch.no_grad()
def test_critics_take_any_size_and_one_of_pixels_sees_seventeen_columns():
    for shape in ((16, 16), (37, 53)):
        image = torch.randn(2, 1, *shape)
        assert ImageCritic(1, width=4)(image).shape == (2,)
        assert PixelCritic(1, width=4)(image).shape == image.shape
    critic, image = PixelCritic(1, width=4).double(), torch.zeros(1, 1, 1, 41, dtype=torch.float64)
    for parameter in critic.parameters():
        parameter.abs_().add_(0.1)
    other = image.clone()
    other[..., 20] = 1.0
    changed = (critic(other) != critic(image)).flatten().nonzero().flatten()
    assert (int(changed.min()), int(changed.max())) == (12, 28)


# Made noise.


@torch.no_grad()
@pytest.mark.parametrize("widths", [(0.3, 0.3), (1.2, 2.2)])
def test_made_speckle_has_the_law_and_the_correlation_of_speckle(widths):
    """5.57 dB and a mean of zero whatever the cell is; its correlation is that of the field seen by a Gaussian."""
    torch.manual_seed(0)
    speckle = Speckle(cell=(13, 21), widths=widths)
    like = torch.zeros(2, 1, 256, 256)
    decibel = RANGE_DB * speckle(speckle.white(like))
    assert decibel.shape == like.shape
    assert float(decibel.std()) == pytest.approx(SPECKLE_DB, rel=0.03)
    assert float(decibel.mean()) == pytest.approx(0.0, abs=0.15)
    field = np.random.default_rng(0).standard_normal((2, 512, 512))
    known = 10.0 * np.log10(sum(ndimage.gaussian_filter(part, widths) ** 2 for part in field))
    for row, column in ((1, 0), (0, 1), (0, 3)):
        found = np.corrcoef(*(one.ravel() for one in _apart(decibel.numpy()[:, 0], row, column)))[0, 1]
        expected = np.corrcoef(*(one.ravel() for one in _apart(known[None], row, column)))[0, 1]
        assert found == pytest.approx(expected, abs=0.03)


def _apart(images, row, column):
    height, width = images.shape[-2:]
    return images[:, : height - row, : width - column], images[:, row:, column:]


@torch.no_grad()
def test_moments_are_mean_and_covariances():
    noise = torch.randn(2, 1, 40, 50, dtype=torch.float64)
    found = moments(noise)[:, 0]
    torch.testing.assert_close(found, noise.mean((1, 2, 3)))
    for number, (row, column) in enumerate(LAGS):
        here, there = _apart(noise[1], row, column)
        assert float(moments(noise)[1, 1 + number]) == pytest.approx(float((here * there).mean()))


@torch.no_grad()
def test_generators_with_weights_of_zero_change_nothing():
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(SMNet(width=4, groups=1)(x), x)
    method = small("danet")
    for parameter in (method.loudness, *method.maker.parameters()):
        parameter.zero_()
    assert torch.equal(method.made(x), x)


@both
@torch.no_grad()
def test_synthesis_keeps_any_size_and_is_the_same_for_the_same_seed(name):
    method = small(name)
    x = torch.rand(2, 1, 37, 53)
    made = method.synthesise(x, seed=1)
    assert made.shape == x.shape
    assert bool(((made >= 0.0) & (made <= 1.0)).all())
    assert torch.equal(method.synthesise(x, seed=1), made)
    assert not torch.equal(method.synthesise(x, seed=2), made)
    x = x[..., :32, :48]
    told = method.tell(x)
    assert list(told) == ["synthetic_db"]
    torch.testing.assert_close(told["synthetic_db"], RANGE_DB * (method.synthesise(method.denoise(x)) - 1.0))


# Who learns when.


def learned(method, progress):
    """Which parts changed in a step at some point of a training."""
    before = {name: value.clone() for name, value in method.named_parameters()}
    logs = method.step([batch()], progress, method.optimizers(Training(rate=1e-2)), Descent(clip=1.0))
    assert all(np.isfinite(value) for value in logs.values())
    changed = {name for name, value in method.named_parameters() if not torch.equal(value, before[name])}
    return {name.split(".")[0] for name in changed}


def test_danet_teaches_all_three_and_in_the_end_the_denoiser_alone():
    assert learned(small("danet"), 0.1) == {"net", "loudness", "speckle", "maker", "critic"}
    assert learned(small("danet"), 0.9) == {"net"}


def test_pngan_teaches_the_denoiser_then_the_generator_then_the_denoiser_again():
    for progress, parts in ((0.1, {"net"}), (0.6, {"maker", "critic"}), (0.9, {"net"})):
        assert learned(small("pngan"), progress) == parts


@both
def test_generators_learn_the_moments_of_the_noise(name):
    """A batch of white Gaussian noise, which is not what either begins with."""
    method, given = small(name), batch(4)
    optimizers = method.optimizers(Training(rate=3e-3))
    progress, wanted = 0.6, moments((given["y"] - given["x"]) / SPECKLE)

    def apart():
        torch.manual_seed(5)
        with torch.no_grad():
            return float((moments((method.made(given["x"]) - given["x"]) / SPECKLE) - wanted).abs().mean())

    before = apart()
    for _ in range(40):
        method.step([given], progress, optimizers, Descent(clip=1.0))
    assert apart() < 0.6 * before


def test_the_adversarial_gradient_of_danet_is_felt():
    """The error has a weight of 400: a critic that has learnt must not be nothing beside it (about 0.1 on scenes)."""
    method, given = small("danet"), batch()
    nn.init.normal_(method.net.last.weight, std=0.1)
    optimizers = method.optimizers(Training(rate=3e-3))
    for _ in range(30):
        Descent(clip=1.0)(method.critic_loss, [given], 0.1, optimizers["critic"])
    gradients = []
    for alpha in (0.5, 1.0):  # with 1 the critic has no say in the denoiser
        method.alpha = alpha
        method.zero_grad()
        method.loss(given, 0.1).backward()
        gradients.append(torch.cat([one.grad.flatten() for one in method.net.parameters()]))
    assert float((gradients[0] - gradients[1]).norm()) > 0.01 * float(gradients[1].norm())


def test_a_quarter_of_what_danet_sees_in_the_end_was_made():
    method, given = small("danet"), batch(8)
    seen = []
    method.estimate = lambda y: seen.append(y) or y
    torch.manual_seed(0)
    method.loss(given, 0.9)
    same = [torch.equal(one, other) for one, other in zip(seen[0], given["y"], strict=True)]
    assert same == [False, False] + [True] * 6


def test_a_critic_sees_brightness_and_noise():
    given = batch()
    pair = pair_of(given["x"], given["y"])
    assert pair.shape == (2, 2, 32, 32)
    torch.testing.assert_close(pair[:, 1:], (given["y"] - given["x"]) / SPECKLE)


# A backbone in place of the truth.


def test_pngan_learns_from_noisy_images_alone_what_a_backbone_takes_for_clean():
    method = small("pngan", backbone="default")
    assert method.needs == ("y",)
    assert small("pngan").needs == method_class("pngan").needs == ("y", "x")
    given = {"y": batch()["y"]}
    before = {name: value.clone() for name, value in method.state_dict().items()}
    for progress in (0.1, 0.6, 0.9):
        assert float(method.taught) == (progress > 0.6)
        method.step([given], progress, method.optimizers(Training(rate=1e-2)), Descent())
    changed = {
        name.split(".")[0] for name, value in method.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"net", "maker", "critic", "taught"}
    assert not any(name.startswith("backbone") for name in method.inference_state())
    clean = s2s.load("default").method.denoise(given["y"])
    errors = []
    method.loss, loss = (lambda batch, progress: errors.append(batch["x"]) or loss(batch, progress)), method.loss
    method.step([given], 0.1, method.optimizers(Training()), Descent())
    torch.testing.assert_close(errors[0], clean)


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("pngan", {"maker": 0}, "maker is 0; allowed is a whole number from 1 to 256"),
        ("pngan", {"match": -1.0}, "match is -1.0"),
        ("danet", {"alpha": 2.0}, "alpha is 2.0; allowed is a number from 0 to 1"),
        ("danet", {"plus": "late"}, "plus is 'late'"),
    ],
)
def test_bad_settings_are_refused(name, settings, text):
    with pytest.raises(ConfigError, match=f"^{name}: {text}"):
        make(name, **settings)


def test_a_backbone_is_needed_for_training_alone(tmp_path):
    with pytest.raises(ConfigError, match=r"^pngan: backbone 'nothing': no such weights; train some"):
        small("pngan", backbone="nothing").optimizers(Training())
    with pytest.raises(ConfigError, match=r"^pngan: backbone 'awgn': awgn leaves most of the speckle"):
        small("pngan", backbone="awgn").optimizers(Training())
    save_checkpoint(tmp_path / "mine.pt", small("pngan", backbone="nothing"), {})
    y = torch.rand(1, 1, 32, 32)
    assert load_checkpoint(tmp_path / "mine.pt").method.denoise(y).shape == y.shape
    words = ["train", "--sim", "--method", "pngan", "--set", "backbone=nothing", "-o", str(tmp_path / "out")]
    assert main(words) == 2
    assert not (tmp_path / "out").exists()


def test_what_learns_in_stages_is_not_brought_to_an_early_end(tmp_path, capsys):
    words = ["train", "--sim", "--method", "pngan", "--until-converged", "4", "-o", str(tmp_path / "out")]
    assert main(words) == 2
    assert "until-converged: pngan learns in stages" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["danet", "pngan", "cosdd"])
def test_sides_fit_all_networks_of_a_method(name):
    method = make(name, "toy", width=4, depth=1, fold=3)
    y = torch.rand(1, 1, 37, 41)
    assert method.denoise(y).shape == y.shape
