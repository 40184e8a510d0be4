"""The methods that learn: they build, learn, clean images of any size, and see nothing that they must not see."""

import functools
import re

import numpy as np
import pytest
import torch
from torch import nn

import s2s.denoise
import usim.stage
from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.data import Simulation
from s2s.denoise import Denoiser, load
from s2s.domain import SPECKLE_DB, from_scale, to_scale
from s2s.methods import METHODS, make, method_class
from s2s.methods.base import KEYS, SPECKLE, Filter, Training
from s2s.methods.bright import keep_bright
from s2s.methods.descent import Descent
from s2s.methods.regression import Regression
from s2s.methods.speckle2self import multi_scale
from s2s.toy import toy_clean, toy_looks, toy_scene
from usim.errors import ConfigError
from usim.phantom.load import phantom_from_dict

#: Those that hold one image are in test_fitting.py.
LEARNED = [name for name in METHODS if method_class(name).needs and not method_class(name).holds_image]
REGRESSIONS = [name for name in LEARNED if issubclass(method_class(name), Regression)]
#: Every preset, small where a method can be.
BUILDS = [(name, preset) for name in LEARNED for preset in method_class(name).PRESETS]
SMALL = {name: {"width": 8} for name in REGRESSIONS} | {"inpaint": {"width": 8, "depth": 2}}
SMALL |= {"r2d2+": {"width": 8, "steps": 3, "samples": 2}}
SMALL |= {"poisson2sparse": {"atoms": 8, "rounds": 3}, "noise2vst": {}, "dna-net": {"width": 8, "stages": 2}}
SMALL |= {"danet": {"width": 8, "maker": 4, "critic": 8}, "cosdd": {"width": 8, "code": 8, "samples": 2}}
SMALL |= {"pngan": {"width": 8, "maker": 4, "groups": 1, "critic": 4}}
#: A diffusion and a code draw their noise for the whole image, and an unfolding is steered by all of it.
LOCAL = [name for name in LEARNED if name not in ("r2d2+", "cosdd", "dna-net")]
#: Presets that differ, when small, in more than how they are trained.
DISTINCT = {
    (name, str({**method_class(name).PRESETS[preset], **SMALL.get(name, {})})): preset for name, preset in BUILDS
}
#: What learns from neighbours of a pixel; where they share its noise there is next to nothing to learn.
NEED_WHITE_NOISE = ("noise2void", "noise2self", "neighbor2neighbor", "zs-n2n", "poisson2sparse", "noise2vst")
#: Half-size images hold a quarter of the pixels.
RATES = {"neighbor2neighbor": 3e-3, "noise2vst": 1e-2}
#: Where in a training its denoiser learns, if not halfway; and what is left of a loss, where little can be learned.
PROGRESS = {"pngan": 0.2}
LEFT = {"noise2vst": 0.998}
SCALES = (1.0, 0.5, 0.25)

pytestmark = pytest.mark.usefixtures("one_thread")
every = pytest.mark.parametrize(("name", "preset"), [(name, preset) for (name, _), preset in DISTINCT.items()])


def sample(seed, shape=(64, 64), clip=True, iid=False):
    """Looks at a toy scene and its truth, in dB."""
    generator = np.random.default_rng(seed)
    scene = toy_scene(generator, shape)
    y, y2 = toy_looks(scene, generator, looks=2, clip=clip, iid=iid)
    return {"y": y, "y2": y2, "others": y2, "next": y2, "x": toy_clean(scene, clip=clip, iid=iid)}


def batch_of(method, samples):
    """What a pool hands to the method: its keys alone, scaled and prepared."""
    found = []
    for one in samples:
        on_scale = {key: to_scale(one[key], method.domain).astype(np.float32) for key in method.needs}
        scaled = {key: torch.from_numpy(values) for key, values in on_scale.items()}
        found.append(method.prepare(scaled))
    return {key: torch.stack([one[key] for one in found])[:, None] for key in found[0]}


def images(method, count=2, shape=(64, 64), seed=50):
    """Noisy toy images (count, 1, H, W) on the method's scale."""
    noisy = np.stack([sample(seed + k, shape)["y"] for k in range(count)])
    return torch.from_numpy(to_scale(noisy, method.domain).astype(np.float32))[:, None]


def teach(method, steps, batch, rate=1e-3, progress=0.5):
    """Train on one batch, at one point of a training and with what is drawn drawn once, and return the losses."""
    optimizers = method.optimizers(Training(rate=rate))
    method.train()
    losses = []
    for _ in range(steps):
        torch.manual_seed(2)
        losses.append(method.step([batch], progress, optimizers, Descent(clip=0.2))["loss"])
    return losses


@functools.cache
def taught(name, preset="toy"):
    """A method after 20 steps, ready to denoise, and the losses of these steps."""
    torch.manual_seed(1)
    method = make(name, preset, **SMALL.get(name, {}))
    samples = [sample(seed, iid=name in NEED_WHITE_NOISE) for seed in (0, 1)]
    losses = teach(method, 20, batch_of(method, samples), RATES.get(name, 1e-3), PROGRESS.get(name, 0.5))
    return method.eval().requires_grad_(False), losses


@pytest.mark.parametrize(("name", "preset"), BUILDS)
def test_every_preset_builds_and_says_what_it_needs(name, preset):
    method = make(name, preset)
    kind = method_class(name)
    assert kind.TRAINING.keys() == kind.PRESETS.keys() >= {"default", "toy", "paper"}
    assert not isinstance(method, Filter)
    assert {"y", "x"} & set(method.needs)
    assert set(method.needs) <= KEYS.keys()
    assert method.settings.keys() >= kind.PRESETS[preset].keys()
    assert method.halo is None or method.halo > 0
    optimizers = method.optimizers(Training()).values()
    learning = [one for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]]
    assert {id(one) for one in learning} == {id(one) for one in method.parameters() if one.requires_grad}
    training = kind.TRAINING[preset]
    assert training.crop % method.multiple == 0


@every
def test_twenty_steps_lower_the_loss_of_a_batch(name, preset):
    _, losses = taught(name, preset)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < LEFT.get(name, 0.97) * losses[0]


@every
def test_any_size_is_kept_and_nothing_is_random(name, preset):
    method, _ = taught(name, preset)
    for shape in ((37, 53), (64, 32), (17, 48)):
        y = images(method, shape=shape)
        clean = method.denoise(y)
        assert clean.shape == y.shape
        assert torch.isfinite(clean).all()
        assert not torch.equal(clean, y)
        assert torch.equal(method.denoise(y), clean)


@every
def test_images_of_a_batch_do_not_meet(name, preset):
    method, _ = taught(name, preset)
    y = images(method, shape=(37, 53))
    together = method.denoise(y)
    for k in range(2):
        torch.testing.assert_close(method.denoise(y[k : k + 1]), together[k : k + 1], rtol=0.0, atol=1e-3)


@every
def test_a_checkpoint_gives_the_same_image(tmp_path, name, preset):
    method, _ = taught(name, preset)
    y = images(method, shape=(37, 53))
    path = tmp_path / "a.pt"
    told = save_checkpoint(path, method, {"note": [1, "two"]})
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.method.denoise(y), method.denoise(y))
    assert (loaded.sha256, loaded.about, loaded.resume) == (told, {"note": [1, "two"]}, None)
    assert (loaded.method.name, loaded.method.preset) == (name, preset)
    assert dict(loaded.method.settings) == dict(method.settings)
    stored = torch.load(path, weights_only=True)["weights"]
    assert stored.keys() == method.inference_state().keys()
    grey = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
    clean = load(path).denoise(grey, domain="log")
    assert clean.shape == grey.shape
    # One grey level in a hundred thousand: convolutions may round differently from call to call.
    np.testing.assert_allclose(clean, Denoiser(method).denoise(grey, domain="log"), atol=255e-5)


def reach(method, width):
    """How many columns away a pixel has an influence; weights are positive, so that no path is hidden by a ReLU."""
    method = method.double().eval().requires_grad_(False)
    for parameter in method.parameters():
        parameter.abs_().add_(0.05).div_(parameter.sum().clamp_min(1.0) if parameter.dim() == 1 else 1.0)
    farthest = 0
    plain = torch.full((1, 1, method.multiple, width), 10.0, dtype=torch.float64)
    before = method.infer(plain)
    for column in range(width // 2, width // 2 + method.multiple):
        other = plain.clone()
        other[..., column] += 1e6
        changed = (method.infer(other) != before).any(dim=-2).flatten().nonzero().flatten()
        farthest = max(farthest, int((changed - column).abs().max()))
    return farthest


@every
def test_nothing_beyond_the_halo_is_seen(name, preset):
    torch.manual_seed(2)
    method = make(name, preset, **SMALL.get(name, {}))
    if method.halo is None:
        pytest.skip("depends on the whole image")
    width = -(-(2 * method.halo + 64) // method.multiple) * method.multiple
    assert method.halo / 3 < reach(method, width) <= method.halo


@pytest.mark.parametrize("name", LOCAL)
def test_tiles_do_not_show(monkeypatch, name):
    method, _ = taught(name)
    image = sample(7, (19, 2 * method.halo + 60))["y"]
    whole = Denoiser(method).denoise(image, "db")
    monkeypatch.setattr(s2s.denoise, "_TILED_ABOVE", 1000)
    monkeypatch.setattr(s2s.denoise, "_TILE", method.halo)
    np.testing.assert_allclose(Denoiser(method).denoise(image, "db"), whole, atol=1e-3)


@pytest.mark.parametrize("name", LOCAL)
def test_a_video_that_pans_keeps_its_pixels(name):
    """What a pixel becomes depends on its surroundings, not on where in the frame they are."""
    method, _ = taught(name)
    y = images(method, 1, (16, 2 * method.halo + 96))
    first, later = method.denoise(y), method.denoise(y[..., 16:])
    inside = slice(method.halo, -method.halo)
    assert later[..., inside].shape[-1] == 80
    torch.testing.assert_close(later[..., inside], first[..., 16:][..., inside], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "setting", "value", "text"),
    [
        *((name, "width", value, "whole number") for name in REGRESSIONS for value in (0, 3.5, True, "wide", 10**9)),
        *((name, "depth", value, "whole number from 1 to 6") for name in REGRESSIONS for value in (0, 7)),
        *((name, "residual", value, "true or false") for name in REGRESSIONS for value in ("nope", 1)),
        ("inpaint", "cell", (4, 9), "odd number from 1 to 63"),
        ("inpaint", "every", (2, 2), "leave nothing between them; choose"),
        ("inpaint", "middle", 3, "two whole numbers"),
        ("structn2v", "cell", (3,), "two odd numbers"),
        ("noise2void", "box", 1, "whole number from 2 to 64"),
        ("noise2self", "invariant", "yes", "true or false"),
        ("neighbor2neighbor", "weight", -1, "number from 0 to 100"),
        ("speckle2self", "target", "truth", "target 'truth': allowed are own, others, hidden"),
        ("speckle2self", "interpolation", "cubic", "interpolation 'cubic'"),
        ("speckle2self", "antialias", 1, "true or false"),
        ("speckle2self", "skips", (2, 3), "2, 4 and 8"),
        ("speckle2self", "hidden", (3, 4), "hidden is 4; allowed is an odd number from 1 to 63"),
        ("speckle2self", "hidden", (3,), "two odd numbers"),
        ("speckle2self", "hidden", 3, "two odd numbers"),
        ("speckle2self", "smooth", 2.0, "two numbers of pixels"),
        ("speckle2self", "smooth", (1.0, 99.0), "allowed is a number from 0 to 8"),
        ("speckle2self", "keep", -1.0, "none may be negative"),
        ("speckle2self", "width", 0, "whole number"),
        ("speckle2self", "norm", "layer", "norm 'layer'"),
        ("speckle2self", "head", "relu", "head 'relu'"),
        ("speckle2self", "scaling", "log", "scaling 'log'"),
        ("speckle2self", "scales", (0.5, 1.0), "the first of them 1"),
        ("speckle2self", "scales", (1.0,), "two or more"),
    ],
)
def test_a_bad_setting_is_refused_with_what_is_allowed(name, setting, value, text):
    with pytest.raises(ConfigError, match=rf"^{re.escape(name)}: .*{text}"):
        make(name, **{setting: value})


# Regression on the truth or on another look.


@pytest.mark.parametrize(("name", "expected"), [("noise2true", 1.0), ("noise2noise", 2.0)])
def test_a_loss_of_one_is_the_variance_of_speckle(name, expected):
    """A method that changes nothing is wrong by the speckle of its input, and of the other look beside it."""
    generator = np.random.default_rng(4)
    scene = np.full((192, 192), -10.0)
    y, y2 = toy_looks(scene, generator, looks=2, clip=False)
    method = make(name, **SMALL[name])
    batch = batch_of(method, [{"y": y, "y2": y2, "x": toy_clean(scene, clip=False)}])
    assert torch.equal(method.infer(batch["y"]), batch["y"])
    assert float(method.loss(batch, 0.0).detach()) == pytest.approx(expected, rel=0.05)
    assert y.std() == pytest.approx(SPECKLE_DB, rel=0.03)


@pytest.mark.parametrize(("name", "target"), [("noise2true", "x"), ("noise2noise", "y2")])
def test_the_gradient_is_that_of_squared_error(name, target):
    torch.manual_seed(0)
    method = make(name, width=4, depth=1)
    nn.init.normal_(method.net.last.weight)
    batch = batch_of(method, [sample(0), sample(1)])
    method.loss(batch, 0.0).backward()
    found = [parameter.grad.clone() for parameter in method.parameters()]
    clean = method.infer(batch["y"])
    by_hand = 2.0 * (clean - batch[target]).detach() / clean.numel() / SPECKLE**2
    expected = torch.autograd.grad(clean, list(method.parameters()), by_hand)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("residual", [True, False])
def test_a_fresh_regression_changes_nothing_or_says_mid_grey(residual):
    method = make("noise2true", width=4, residual=residual)
    y = images(method, 1)
    clean = method.denoise(y)
    assert torch.equal(clean, y) if residual else (clean == 0.5).all()


# Speckle2Self.


def test_the_published_network_has_the_published_size():
    method = make("speckle2self", "paper")
    assert (method.parameter_count(), sum(one.numel() for one in method.parameters())) == (3_910_785, 7_821_825)


def test_the_published_head_forces_a_share_of_every_image_to_its_minimum():
    """An instance norm before a ReLU: half of all values are negative, whatever the network has learnt."""
    fresh = make("speckle2self", "paper")
    for method in (fresh, taught("speckle2self", "paper")[0]):
        y = images(method)
        clean = from_scale(method.denoise(y), "db")
        assert clean.max() <= 1e-4
        for noisy, image in zip(from_scale(y, "db"), clean, strict=True):
            assert image.min() >= noisy.min() - 1e-3
            assert float((image < noisy.min() + 1e-3).float().mean()) > 0.1


@pytest.mark.parametrize(("target", "copies"), [("own", 3), ("others", 3), ("hidden", 1)])
def test_it_asks_for_noisy_images_alone_and_a_batch_holds_their_copies_alone(target, copies):
    method = make("speckle2self", target=target)
    assert method.needs == ("y",)
    clean = {"x": np.zeros((64, 64)), "y2": np.zeros((64, 64))}
    batch = batch_of(method, [{**sample(0), **clean}])
    assert batch.keys() == {f"scale{k}" for k in range(copies)}


@pytest.mark.parametrize("target", ["own", "others", "hidden"])
def test_a_clean_image_in_the_batch_changes_nothing(target):
    torch.manual_seed(0)
    method = make("speckle2self", target=target).eval()
    batch = batch_of(method, [sample(0, (32, 32))])
    clean = torch.zeros_like(batch["scale0"])
    with torch.no_grad():
        losses = [method.loss({**batch, "x": clean + level, "y2": clean - level}, 0.5) for level in (0.0, 0.3, np.nan)]
        assert losses == [method.loss(batch, 0.5)] * 3


def test_its_data_are_made_without_ever_looking_at_the_truth(monkeypatch):
    phantom = phantom_from_dict({
        "probe": "L11-5v",
        "image": {"x": ["-3 mm", "3 mm"], "z": ["10 mm", "16 mm"], "pixels": [32, 32]},
        "scatterers": {"model": "field"},
        "background": {"echogenicity": "0 dB"},
    })  # fmt: skip

    def refuse(self):
        raise AssertionError("somebody looked at the truth")

    monkeypatch.setattr(usim.stage.Stage, "truth", property(refuse))
    for needs in (method_class("speckle2self").needs, ("y", "y2")):
        looks = Simulation(phantom, 3, needs).open()(0)
        assert [look.keys() for look in looks] == [set(needs)] * 2
    with pytest.raises(AssertionError, match="looked at the truth"):
        Simulation(phantom, 3, ("y", "x")).open()(0)


@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (16, 130)])
def test_copies_keep_the_shape_and_the_first_is_the_image(shape):
    y = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    copies = multi_scale(y, SCALES)
    assert [copy.shape for copy in copies] == [y.shape] * 3
    assert torch.equal(copies[0], y)
    assert not torch.equal(copies[1], y)
    for copy in multi_scale(torch.full_like(y, 0.3), SCALES):
        torch.testing.assert_close(copy, torch.full_like(y, 0.3))


def test_copies_are_sampled_and_not_averaged():
    """Bilinear sampling at a quarter sees two of four rows and columns: an impulse beside them vanishes."""
    y = torch.zeros(1, 1, 32, 32)
    y[..., 12, 16] = y[..., 15, 9] = 1.0
    assert not multi_scale(y, SCALES)[2].any()
    y[..., 13, 17] = 1.0
    assert multi_scale(y, SCALES)[2].any()
    y = torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(1))
    for scale, first, second in ((0.5, 0, 1), (0.25, 1, 2)):
        step = round(1 / scale)
        rows = (y[..., first::step, :] + y[..., second::step, :]) / 2.0
        small = (rows[..., first::step] + rows[..., second::step]) / 2.0
        expected = nn.functional.interpolate(small, size=(32, 48), mode="bilinear", align_corners=False)
        torch.testing.assert_close(multi_scale(y, (1.0, scale))[1], expected)


def test_copies_differ_in_their_speckle_as_the_paper_says():
    """Correlations of .88, .61 and .75 are those of one published panel; speckle of other cells has others."""
    scene = np.full((128, 128), -10.0)
    y = torch.from_numpy(np.stack(toy_looks(scene, np.random.default_rng(6), looks=4)))[:, None]
    full, half, quarter = (copy.flatten().numpy() for copy in multi_scale(y, SCALES))
    near, far, between = (np.corrcoef(a, b)[0, 1] for a, b in ((full, half), (full, quarter), (half, quarter)))
    assert far < between < near
    assert 0.75 < near < 0.98
    assert 0.3 < far < 0.75
    assert 0.5 < between < 0.9


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_speckle2self_takes_images_smaller_than_its_bottleneck(preset):
    """InstanceNorm has no statistics of the single pixel that 16 x 16 images left it."""
    y = torch.rand(1, 1, 16, 17)
    clean = make("speckle2self", preset).denoise(y)
    assert clean.shape == y.shape
    assert torch.isfinite(clean).all()


def test_a_deep_network_reflects_small_images_as_often_as_it_takes():
    y = torch.rand(1, 1, 20, 16)
    method = make("noise2true", depth=6, width=2, residual=True)
    assert torch.equal(method.denoise(y), y), "a fresh residual network changes nothing"


def test_keeping_bright_pixels_hardly_brings_speckle_back():
    intensity = torch.from_numpy(np.random.default_rng(0).exponential(size=200_000))
    speckle = 1.0 + (10.0 * torch.log10(intensity) - 30.0) / 60.0
    mean = torch.full_like(speckle, 1.0 + (-2.5068 - 30.0) / 60.0)
    assert 60.0 * (keep_bright(mean, speckle, 12.0) - mean).square().mean().sqrt() < 0.2  # dB, of 5.57


def test_keeping_bright_pixels_changes_neither_the_loss_nor_the_rest():
    torch.manual_seed(0)
    small = {"width": 4, "depth": 1, "residual": False}
    plain, keeping = (make("noise2true", "toy", keep=keep, **small) for keep in (0, 12))
    y = torch.full((1, 1, 16, 16), 0.5)
    y[..., 8, 8] = 1.0
    batch = {"y": y, "x": torch.full_like(y, 0.5)}
    assert plain.loss(batch, 0.0) == keeping.loss(batch, 0.0)
    with torch.no_grad():  # untrained, they take everything for the middle grey
        assert (plain.infer(y) == 0.5).all()
        kept = keeping.infer(y)
    assert float(kept[..., 8, 8]) == pytest.approx(1.0, abs=1e-3)
    kept[..., 8, 8] = 0.5
    assert (kept == 0.5).all()
