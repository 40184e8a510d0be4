"""Settings that no weight depends on are others where trained weights are used; the rest is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from s2s import load
from s2s.checkpoint import in_use, save_checkpoint
from s2s.cli import main
from s2s.evaluation.files import load_denoisers
from s2s.methods import METHODS, make, method_class, settings_of
from usim.errors import ConfigError, DataError

SMALL = {"width": 4, "depth": 1}
IMAGE = np.random.default_rng(1).uniform(-50.0, 0.0, (32, 32))
WITH = [name for name in METHODS if method_class(name).IN_USE]


@pytest.fixture
def diffusion(tmp_path):
    torch.manual_seed(0)
    method = make("r2d2+", "toy", **SMALL, steps=4, samples=1, cut=1.0)
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / "best.pt", method, {})
    return tmp_path / "run"


def another(value):
    """A value that a setting may have instead."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else 0.8 * value or 3.0


@pytest.mark.parametrize("name", WITH)
def test_no_weight_depends_on_them(name):
    kind = method_class(name)
    assert set(kind.IN_USE) <= set(settings_of(kind))
    method = make(name, "toy")
    for key in kind.IN_USE:
        other = in_use(method, {key: another(method.settings[key])})
        assert other.settings == {**method.settings, key: another(method.settings[key])}
        for weight, own in zip(other.state_dict().values(), method.state_dict().values(), strict=True):
            torch.testing.assert_close(weight, own, equal_nan=True)


def test_they_stand_behind_the_path(diffusion):
    first, more = load(diffusion), load(f"{diffusion}:steps=8,samples=3")
    assert (more.method.steps, more.method.samples) == (8, 3)
    assert more.checkpoint == first.checkpoint
    assert '"samples": 3' in more.describe()["settings"]
    one, three = (made.denoise(IMAGE, "db") for made in (first, more))
    assert np.abs(one - three).max() > 0.01
    again = load(f"{diffusion / 'best.pt'}:steps=4,samples=1").denoise(IMAGE, "db")
    np.testing.assert_array_equal(again, one)


def test_weights_in_the_box_take_them_too():
    usual, none = load("default"), load("default:keep=0")
    assert (usual.method.keep, none.method.keep) == (12.0, 0.0)
    assert usual.checkpoint == none.checkpoint


def test_noise_that_the_box_is_told_of_may_be_stronger():
    little, much = (load(f"awgn:sigma={sigma}").denoise(IMAGE, "db") for sigma in (2, 12))
    assert much.std() < little.std() < IMAGE.std()


def test_phases_pass_them_on(tmp_path):
    save_checkpoint(tmp_path / "one.pt", make("polyphase(2):cosdd", "toy", **SMALL, samples=2, levels=4), {})
    assert load(f"{tmp_path / 'one.pt'}:samples=5").method.inner.samples == 5


def test_a_comparison_holds_both(diffusion):
    assert len(load_denoisers([f"{diffusion}:samples=1", f"{diffusion}:samples=2"])) == 2


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ("width=8", "r2d2\\+: setting 'width' belongs to its training; in use may be changed keep, start"),
        ("nonsense=8", r"setting 'nonsense' is unknown"),
        ("steps=0", "r2d2\\+: steps is 0; allowed is a whole number from 1"),
        ("samples=0", "r2d2\\+: samples is 0"),
        ("steps", None),
        ("samples=2,steps", "'steps' is no setting"),
    ],
)
def test_others_are_refused(diffusion, settings, text, capsys):
    error = ConfigError if text else DataError
    with pytest.raises(error, match=text or "no such checkpoint"):
        load(f"{diffusion}:{settings}")
    code = main(["denoise", f"{diffusion}/none.png", "-m", f"{diffusion}:{settings}"])
    assert code == (2 if text else 3)
    assert "Traceback" not in capsys.readouterr().err


def test_a_name_with_a_colon_is_a_name(diffusion):
    odd = Path(f"{diffusion}:samples=9")
    odd.mkdir()
    (odd / "best.pt").write_bytes((diffusion / "best.pt").read_bytes())
    assert load(odd).method.samples == load(f"{odd}").method.samples == 1


def test_what_belongs_to_the_training_of_weights_in_the_box_is_refused():
    with pytest.raises(ConfigError, match=r"'width' belongs to its training"):
        load("awgn:width=9")
