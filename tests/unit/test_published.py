"""Published weights: what comes back is what was written, whatever the size of the numbers; recipes; model cards."""

import json

import numpy as np
import pytest
import torch

import s2s
from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.cli import main
from s2s.methods import make, method_class
from s2s.published import FOLDER, published, read_weights, weights_of, write_weights
from s2s.recipes import read_recipe, recipes
from s2s.request import training_of
from usim.errors import ConfigError, DataError
from usim.phantom.load import load_phantom


@pytest.fixture
def method():
    """A small network whose weights are no round numbers."""
    torch.manual_seed(1)
    small = make("noise2true", "toy", width=4, depth=1, fold=2)
    with torch.no_grad():
        for weight in small.parameters():
            weight.normal_()
    return small


@pytest.fixture
def speckle():
    return np.random.default_rng(0).normal(-30.0, 5.0, (40, 48)).clip(-60.0, 0.0)


def test_weights_come_back_as_they_were(method, speckle, tmp_path):
    path = tmp_path / "small.safetensors"
    digest = write_weights(path, method, {"note": "a"})
    back = load_checkpoint(path)
    assert (back.sha256, back.about, back.method.name) == (digest, {"note": "a"}, "noise2true")
    assert dict(back.method.settings) == dict(method.settings)
    for name, value in method.state_dict().items():
        assert torch.equal(back.method.state_dict()[name], value)
    assert s2s.load(path).checkpoint == digest
    clean = s2s.load(path).denoise(speckle, "db")
    # the layout of weights in memory changes the order of sums
    own = s2s.denoise.Denoiser(method).denoise(speckle, "db")
    np.testing.assert_allclose(clean, own, rtol=0.0, atol=1e-5 * np.abs(own).max())


def test_half_precision_halves_the_file_and_rounds_to_eleven_bits(method, tmp_path):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    write_weights(whole, method, {})
    write_weights(half, method, {}, half=True)
    tensors = sum(4 * value.numel() for value in method.state_dict().values())
    assert abs(whole.stat().st_size - half.stat().st_size - tensors // 2) <= 64  # the header names places
    for name, value in load_checkpoint(half).method.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, method.state_dict()[name], rtol=2.0**-11, atol=1e-7)


def test_equal_weights_have_equal_bytes_and_other_words_another_sha256(method, tmp_path):
    one, two, other = (tmp_path / f"{name}.safetensors" for name in ("one", "two", "other"))
    assert write_weights(one, method, {"a": 1}) == write_weights(two, method, {"a": 1})
    assert one.read_bytes() == two.read_bytes()
    assert write_weights(other, method, {"a": 2}) != write_weights(one, method, {"a": 1})


def test_a_weight_that_half_precision_cannot_hold_is_refused(method, tmp_path):
    with torch.no_grad():
        method.net.last.bias[0] = 1e6
    with pytest.raises(DataError, match="beyond half precision"):
        write_weights(tmp_path / "a.safetensors", method, {}, half=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [9, 200, -1, -200])
def test_a_flipped_bit_is_noticed(method, tmp_path, place):
    path = tmp_path / "small.safetensors"
    write_weights(path, method, {"note": "some words that make the header longer"})
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="small"):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0, 5, 100, 2000])
def test_a_file_that_was_cut_is_one_clear_error(method, tmp_path, length):
    path = tmp_path / "small.safetensors"
    write_weights(path, method, {})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match="damaged"):
        read_weights(path)


def test_weights_of_another_method_and_of_no_method_are_refused(method, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(DataError, match="no weights of format"):
        load_checkpoint(path)
    stranger = make("noise2true", "toy", width=4, depth=1)
    stranger.settings = {**stranger.settings, "width": 8}
    write_weights(path, stranger, {})
    with pytest.raises(DataError, match="does not fit"):
        load_checkpoint(path)


def test_the_other_kind_of_weights_is_named_by_its_ending(method, tmp_path):
    write_weights(tmp_path / "a.safetensors", method, {})
    save_checkpoint(tmp_path / "b.pt", method, {})
    (tmp_path / "a.safetensors").rename(tmp_path / "a.pt")
    (tmp_path / "b.pt").rename(tmp_path / "b.safetensors")
    with pytest.raises(DataError, match=r"a\.pt: holds safetensors, .*name it a\.safetensors"):
        s2s.load(tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"b\.safetensors: holds a checkpoint, .*name it b\.pt"):
        s2s.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize(("name", "why"), [("default", "are published weights already"), ("runs/x", "no such file")])
def test_what_is_no_training_is_not_published(tmp_path, monkeypatch, capsys, name, why):
    monkeypatch.chdir(tmp_path)
    assert main(["publish", name, "-o", "out.safetensors"]) == 3
    error = capsys.readouterr().err
    assert why in error
    assert "name the folder of a training, or a checkpoint in it" in error
    assert not list(tmp_path.iterdir())


def test_a_missing_file_names_what_there_is(tmp_path, capsys):
    assert main(["denoise", "x.png", "-m", str(tmp_path / "no.safetensors")]) == 3
    assert "no.safetensors: no such checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("name", published())
def test_weights_in_the_box_have_a_recipe_and_a_card_and_denoise(name, speckle):
    checkpoint = load_checkpoint(weights_of(name))
    recipe = read_recipe(name)
    assert checkpoint.method.name == recipe.request.method
    for key, value in recipe.request.settings.items():
        assert checkpoint.method.settings[key] == (tuple(value) if isinstance(value, list) else value)
    card = (FOLDER / f"{name}.md").read_text()
    assert checkpoint.sha256 in card
    assert "not for diagnosis" in card
    assert f"s2s train --recipe {name}" in card
    if name != "awgn":  # which takes noise for white
        assert s2s.load(name).denoise(speckle, "db").std() < 0.5 * speckle.std()


def test_weights_in_the_box_take_eight_megabytes_at_most():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) <= 8_000_000


@pytest.mark.parametrize("name", recipes())
def test_recipes_are_trainings_that_can_be_done(name):
    recipe = read_recipe(name)
    training = training_of(method_class(recipe.request.method), recipe.request)
    assert training.batch == recipe.request.changes.get("batch", training.batch)
    assert recipe.description
    assert recipe.limits
    load_phantom(recipe.request.phantom)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("metod: nlm", "mine.yaml:1:1: 'metod' is unknown; did you mean 'method'?"),
        ("method: [a]", "mine.yaml:1:9: method"),
        ("seed: many", "mine.yaml:1:7: seed"),
        ("limits: {a: b}", "limits"),
        ("- a", "expected a mapping"),
        ("method: noise2true\nsteps: 2\nchanges: {bach: 4}", "'bach' is unknown; did you mean 'batch'?"),
    ],
)
def test_a_wrong_recipe_is_one_clear_error(tmp_path, text, where, capsys):
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["train", "--recipe", str(tmp_path / "mine.yaml"), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert where in error
    assert not (tmp_path / "run").exists()


def test_a_recipe_stands_alone():
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        read_recipe("defualt")
    assert main(["train", "--recipe", "default", "--steps", "3"]) == 2


def test_publishing_writes_weights_and_a_card_with_their_scores_only(tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(
        "probe: L11-5v\nimage: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [32, 32]}\nscatterers: {model: field}\n"
        "background: {echogenicity: 0 dB}\n"
    )
    (tmp_path / "tiny.yaml").write_text(
        f"description: A small one.\nlimits: [It is small.]\nmethod: noise2noise\npreset: toy\nheld_out: 1\nsteps: 4\n"
        f"settings: {{width: 4, depth: 1}}\nphantom: {tmp_path / 'small.yaml'}\nchanges: {{batch: 2, crop: 16}}\n"
    )
    run, weights = tmp_path / "run", tmp_path / "tiny.safetensors"
    assert main(["train", "--recipe", str(tmp_path / "tiny.yaml"), "-o", str(run), "--workers", "0"]) == 0
    assert main(["publish", str(run), "-o", str(weights), "--half"]) == 0
    card = (tmp_path / "tiny.md").read_text()
    assert s2s.load(weights).checkpoint in card
    assert "4 of 2 crops of 16 x 16 pixels" in card
    assert "| learnt from | noisy images and a second, independent look at each scene |" in card
    assert str(tmp_path) not in card
    about = {"frames": "2 of x", "method": {"tiny": {"checkpoint_sha256": s2s.load(weights).checkpoint}}}
    scores = {
        "about": about,
        "methods": [{"name": "tiny", "control": False, "metrics": {"psnr": {"mean": 31.234}}}],
        "rows": [{"method": "tiny", "suite": "evaluation/edges", "scores": {"psnr": 31.234}}],
    }
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    assert main(["publish", str(run), "-o", str(weights), "--half", "--scores", str(tmp_path / "scores.json")]) == 0
    card = (tmp_path / "tiny.md").read_text()
    assert "\n\n## Scores: 2 of x\n\n|" in card
    assert "| **tiny** | 31.23 |" in card
    about["method"]["tiny"]["checkpoint_sha256"] = "other"
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    assert main(["publish", str(run), "-o", str(weights), "--half", "--scores", str(tmp_path / "scores.json")]) == 3
    assert "judges other weights" in capsys.readouterr().err
