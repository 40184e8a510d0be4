"""Methods on the phases of an image: what they see, how they are named, and what phases rescue."""

import numpy as np
import pytest
import torch

import s2s
from s2s.cli import main
from s2s.methods import is_method, make, method_class, settings_of, split_spec
from s2s.methods.base import Training
from s2s.methods.descent import Descent
from s2s.methods.polyphase import polyphase
from usim.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def noisy():
    return np.random.default_rng(0).uniform(-60.0, 0.0, (37, 53)).astype(np.float32)


@pytest.mark.parametrize("phases", [(2, 4), (3, 1), (4, 4)])
def test_phases_are_every_kth_pixel_of_every_kth_row_and_are_put_back(phases):
    method = make("polyphase({},{}):gaussian".format(*phases))
    rows, columns = phases
    y = torch.rand(2, 1, 3 * rows, 5 * columns)
    parts = method.apart(y)
    assert parts.shape == (2 * rows * columns, 1, 3, 5)
    for image in range(2):
        for row in range(rows):
            for column in range(columns):
                found = parts[(image * rows + row) * columns + column, 0]
                assert torch.equal(found, y[image, 0, row::rows, column::columns])
    assert torch.equal(method.together(parts), y)


def test_a_filter_sees_one_phase_after_the_other(noisy):
    noisy = noisy[:36, :52]
    clean = s2s.load("polyphase(1,2):median:window=3").denoise(noisy, domain="db")
    for column in range(2):
        phase = np.ascontiguousarray(noisy[:, column::2])
        expected = s2s.load("median:window=3").denoise(phase, domain="db")
        np.testing.assert_allclose(clean[:, column::2], expected, atol=1e-4)


def test_any_size_is_kept(noisy):
    for name in ("polyphase(4):nlm", "polyphase(3,5):gaussian:sigma=1"):
        clean = s2s.load(name).denoise(noisy, domain="db")
        assert clean.shape == noisy.shape
        assert clean.std() < noisy.std()


def test_settings_and_presets_are_those_of_the_method():
    kind = method_class("polyphase(4):noise2void")
    assert kind is method_class("polyphase(4,4):noise2void")
    assert settings_of(kind) == settings_of(method_class("noise2void"))
    assert kind.PRESETS == method_class("noise2void").PRESETS
    method = make("polyphase(4):noise2void", "toy", width=4)
    assert (method.name, method.settings["width"]) == ("polyphase(4):noise2void", 4)
    assert method.needs == ("y",)
    for training in kind.TRAINING.values():
        assert training.crop % method.multiple == 0
        assert training.crop // 4 >= 32
    with pytest.raises(ConfigError, match=r"^polyphase\(4\):noise2void: setting 'widht' is unknown; did you mean"):
        make("polyphase(4):noise2void", widht=3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("polyphase(1):nlm", "allowed are 1 to 16"),
        ("polyphase(0,3):nlm", "allowed are 1 to 16"),
        ("polyphase(99):nlm", "allowed are 1 to 16"),
        ("polyphase(4):nml", "'nml' is unknown; did you mean 'nlm'"),
        ("polyphase(4)", r"method: 'polyphase\(4\)' is unknown"),
        ("polyphase(4):polyphase(2):nlm", "once"),
    ],
)
def test_what_is_no_phase_or_method_is_refused(name, text):
    with pytest.raises(ConfigError, match=text):
        make(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nlm", ("nlm", "")),
        ("nlm:patch=7,h=2", ("nlm", "patch=7,h=2")),
        ("polyphase(4):nlm", ("polyphase(4):nlm", "")),
        ("polyphase( 2, 4 ):nlm:h=2", ("polyphase( 2, 4 ):nlm", "h=2")),
        ("polyphase(x):nlm", ("polyphase(x)", "nlm")),
    ],
)
def test_names_and_settings_are_told_apart(text, expected):
    assert split_spec(text) == expected
    assert is_method(expected[0]) == ("x" not in expected[0])


def test_a_loss_is_that_of_the_phases():
    torch.manual_seed(0)
    method = make("polyphase(2,4):neighbor2neighbor", "toy", width=4, depth=1)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    y = torch.rand(2, 1, 32, 64)
    torch.manual_seed(3)
    found = method.loss({"y": y}, 0.5).detach()
    torch.manual_seed(3)
    assert found == method.inner.loss({"y": method.apart(y)}, 0.5).detach()
    optimizers = method.optimizers(Training(rate=1e-3))
    before = [parameter.clone() for parameter in method.parameters()]
    torch.manual_seed(3)
    assert method.step([{"y": y}], 0.5, optimizers, Descent())["loss"] == pytest.approx(float(found))
    assert not all(torch.equal(one, other) for one, other in zip(before, method.parameters(), strict=True))


def test_what_a_method_prepares_it_prepares_of_each_phase():
    method = make("polyphase(2):speckle2self", "paper")
    y = torch.rand(41, 34)
    found = method.prepare({"y": y})
    assert all(values.shape == y.shape for values in found.values())
    for row in range(2):
        for column in range(2):
            rows = torch.cat([y[row::2], y[-1:]])[:21, column::2]  # 41 rows are 42, the last of them twice
            expected = method.inner.prepare({"y": rows})
            for key, values in found.items():
                part = values[row::2, column::2]
                torch.testing.assert_close(part, expected[key][: len(part)])
    assert method.parameter_count() == method.inner.parameter_count()
    assert method.inference_state().keys() == {f"inner.{key}" for key in method.inner.inference_state()}


def test_it_learns_is_stored_and_cleans_by_its_name(tmp_path, noisy, capsys):
    (tmp_path / "small.yaml").write_text(
        "probe: L11-5v\nimage: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [64, 64]}\n"
        "scatterers: {model: field}\nbackground: {echogenicity: 0 dB}\n"
    )
    name, out = "polyphase(2):noise2self", tmp_path / "out"
    asked = ["train", "--sim", str(tmp_path / "small.yaml"), "--method", name, "--preset", "toy", "--set", "width=4",
             "--steps", "3", "--batch", "2", "--crop", "64", "--held-out", "1", "--workers", "0", "--device", "cpu",
             "-o", str(out)]  # fmt: skip
    assert main(asked) == 0, capsys.readouterr().err
    denoiser = s2s.load(out)
    assert denoiser.name == name
    assert denoiser.denoise(noisy, domain="db").shape == noisy.shape


def test_phases_rescue_what_needs_white_noise():
    from test_toy_training import gain, trained

    assert gain(trained("polyphase(4):noise2void", 150, width=8)) > 4.5
    assert issubclass(method_class("polyphase(4):noise2void"), polyphase(method_class("noise2void"), 4, 4))
