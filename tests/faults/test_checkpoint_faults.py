"""Checkpoints that are damaged, foreign or hostile, disks that are full, and calls of s2s train that make no sense."""

import errno
import hashlib
import io
import os
import pickle
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch

from s2s.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from s2s.cli import main
from s2s.methods import make
from s2s.request import Request
from s2s.run import Run
from usim.errors import ConfigError, DataError, ResourceError

PHANTOM = """\
probe: L11-5v
image: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [32, 32]}
scatterers: {model: field}
background: {echogenicity: 0 dB}
"""
SURROUNDINGS = {"workers": 0, "device": "cpu", "say": lambda text: None}
MARK = b"s2s-sha2"


@pytest.fixture
def good(tmp_path):
    """A checkpoint of a small method."""
    torch.manual_seed(0)
    path = tmp_path / "good.pt"
    save_checkpoint(path, make("noise2true", "toy", width=4, depth=1), {"note": "a"})
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a training of four steps, and the phantom that it learnt from."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(PHANTOM)
    request = Request(
        method="noise2true", preset="toy", settings={"width": 4, "depth": 1}, phantom=str(folder / "small.yaml"),
        steps=4, changes={"batch": 2, "crop": 16}, held_out=1,
    )  # fmt: skip
    Run.new(request, folder / "run", **SURROUNDINGS).train(lambda: None)
    return folder


def sealed(path, payload):
    """Write a payload with the footer that belongs to it, as anybody can who knows the format."""
    path.write_bytes(payload + hashlib.sha256(payload).digest() + MARK)
    return path


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def changed(path, change):
    """Write a checkpoint again after a change to its content."""
    content = torch.load(path, weights_only=True)
    return sealed(path, saved(change(content) or content))


def refusal(path, load=load_checkpoint):
    """What is said about a file that is refused: one line that names it."""
    with pytest.raises(DataError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert caught.value.exit_code == 3
    return message


# Damage.


def flips(path, count):
    data, random = path.read_bytes(), np.random.default_rng(1)
    places = {*range(8), *range(len(data) - 44, len(data)), *random.integers(len(data), size=count)}
    for place in list(places)[: count + 52]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        assert "sha256 does not match" in (said := refusal(path)) or "not an s2s checkpoint" in said
    path.write_bytes(data)
    load_checkpoint(path)


def test_flipped_bits_are_noticed(good):
    flips(good, 300)


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_noticed(trained, tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes((trained / "run/last.pt").read_bytes())
    flips(path, 1000)


def test_truncated_files_are_refused(good):
    data = good.read_bytes()
    for end in np.unique(np.linspace(0, len(data) - 1, 60).astype(int)):
        good.write_bytes(data[:end])
        assert "not an s2s checkpoint, or cut short" in refusal(good)
    for longer in (data + b"more", data + MARK, data + data[-40:]):
        good.write_bytes(longer)
        refusal(good)


def test_torch_reads_what_stands_before_the_footer(good):
    content = torch.load(good, weights_only=True)
    assert content["format"] == FORMAT
    assert content["weights"].keys() == make("noise2true", "toy", width=4, depth=1).state_dict().keys()
    with zipfile.ZipFile(good) as archive:
        assert archive.testzip() is None


# Files of another kind.


@pytest.mark.parametrize("kind", ["plain", "zip", "empty", "text", "mark", "folder", "gone", "picture", "pickle"])
def test_files_of_another_kind_are_refused(tmp_path, kind):
    path = tmp_path / f"{kind}.pt"
    if kind == "plain":
        torch.save(make("noise2true", width=4, depth=1).state_dict(), path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "a")
    elif kind == "folder":
        path.mkdir()
    elif kind == "picture":
        PIL.Image.fromarray(np.zeros((20, 20), np.uint8)).save(path, "png")
    elif kind != "gone":
        path.write_bytes({"empty": b"", "text": b"weights", "mark": MARK, "pickle": pickle.dumps([1])}[kind])
    said = {"folder": "cannot be read", "gone": "cannot be read", "mark": "damaged"}.get(kind, "not an s2s checkpoint")
    assert said in refusal(path)


class Payload:
    """What runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def as_legacy(content):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("wrap", [saved, as_legacy, pickle.dumps, lambda content: pickle.dumps(content, protocol=0)])
@pytest.mark.parametrize("place", ["", "weights", "about", "resume", "settings", "extra"])
def test_a_payload_is_never_executed(good, tmp_path, wrap, place):
    content = torch.load(good, weights_only=True)
    payload = Payload(tmp_path / "executed")
    sealed(good, wrap(payload if not place else {**content, place: payload}))
    said = refusal(good)
    assert "it was not loaded" in said or "not a readable checkpoint" in said
    assert not (tmp_path / "executed").exists()


def test_the_payload_would_work(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("payload", [b"", b"PK\x03\x04", b"\x80\x02.", pickle.dumps([1]), saved([1, 2]), saved({}),
                                     saved(torch.zeros(2)), saved({"format": ["s2s-1"]})])  # fmt: skip
def test_sealed_nonsense_is_refused(tmp_path, payload):
    refusal(sealed(tmp_path / "a.pt", payload))


def mutations(path, count):
    """Sealed checkpoints whose pickle has random bytes in it: refused, or what is loaded is usable."""
    random = np.random.default_rng(2)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in parts if name.endswith("data.pkl"))
    refused = []
    for _ in range(count):
        damaged = bytearray(parts[pickled])
        for place in random.integers(len(damaged), size=random.integers(1, 4)):
            damaged[place] = random.integers(256)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, bytes(damaged) if name == pickled else data)
        try:
            method = load_checkpoint(sealed(path, buffer.getvalue())).method
        except DataError as error:
            refused.append(str(error))
        else:
            assert torch.isfinite(method.denoise(torch.zeros(1, 1, 16, 16))).all()
    assert len(refused) > count / 3
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in refused)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_hostile_pickle_ends_in_an_error_or_a_method(good):
    mutations(good, 200)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_many_hostile_pickles_end_in_an_error_or_a_method(good):
    mutations(good, 5000)


# Content that does not fit.


def first_weight(content):
    return next(iter(content["weights"]))


def without(*keys):
    """A change that takes away what lies under the keys."""

    def change(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def put(key, value):
    return lambda content: content.__setitem__(key, value)


def setting(key, value):
    return lambda content: content["settings"].__setitem__(key, value)


def weight(change):
    return lambda content: content["weights"].__setitem__(first_weight(content), change(content["weights"]))


def first(weights):
    return next(iter(weights.values()))


def poke(value):
    def change(weights):
        weights = first(weights).clone()
        weights.view(-1)[3] = value
        return weights

    return change


def of_another_method(content):
    content["method"], content["settings"], content["preset"] = "speckle2self", {}, "default"


CHANGES = {
    "another method": (of_another_method, "not those of speckle2self"),
    "missing weight": (without("weights", "net.last.bias"), r"not those of noise2true: net\.last\.bias"),
    "name that is a number": (lambda content: content["weights"].update({3: torch.zeros(2)}), "does not fit|true: 3"),
    "name of two lines": (lambda content: content["weights"].update({"a\nb": torch.zeros(2)}), r"noise2true: a\\nb"),
    "extra weight": (lambda content: content["weights"].update(more=torch.zeros(2)), "noise2true: more"),
    "other shape": (weight(lambda weights: first(weights)[:-1]), "size mismatch|loading state_dict"),
    "double": (weight(lambda weights: first(weights).double()), r"net\.down\.0\.0\.weight"),
    "half": (weight(lambda weights: first(weights).half()), r"net\.down\.0\.0\.weight"),
    "whole numbers": (weight(lambda weights: first(weights).long()), r"net\.down\.0\.0\.weight"),
    "nan": (weight(poke(torch.nan)), "some weights are not numbers"),
    "inf": (weight(poke(torch.inf)), "some weights are not numbers"),
    "no tensor": (weight(lambda weights: [1.0, 2.0]), "does not fit"),
    "no weights": (put("weights", [1]), "does not fit"),
    "unknown method": (put("method", "noise2nothing"), "method: 'noise2nothing' is unknown"),
    "method that is no name": (put("method", ["noise2true"]), "does not fit"),
    "unknown setting": (setting("wide", 3), "setting 'wide' is unknown"),
    "bad setting": (setting("width", -3), "width is -3"),
    "huge setting": (setting("width", 10**9), "width is 1000000000"),
    "settings that are none": (put("settings", 3), "does not fit"),
    "unknown preset": (put("preset", "large"), "preset 'large' is unknown"),
    "other domain": (put("domain", "env"), "made for the domain 'env'"),
    "newer format": (put("format", "s2s-2"), f"not a checkpoint of format '{FORMAT}'"),
    **{f"no {key}": (without(key), "does not fit|not a checkpoint")
       for key in ("format", "method", "preset", "settings", "domain", "weights", "about")},
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_refused(good, change):
    alter, text = CHANGES[change]
    with pytest.raises(DataError, match=text):
        load_checkpoint(changed(good, alter))
    refusal(good)


RESUMES = {
    "no training": (put("resume", None), "holds no training to go on with"),
    "nothing told": (put("about", {}), "does not fit"),
    "no request": (without("about", "request"), "does not fit"),
    "newer request": (lambda content: content["about"]["request"].update(more=1), "does not fit"),
    "no phantom": (without("about", "phantom", "text"), "does not fit"),
    **{f"no {key}": (without("resume", key), "does not fit")
       for key in ("weights", "optimizers", "step", "elapsed", "scene_shape")},
    "other optimiser": (lambda content: content["resume"].update(optimizers={"main": {}}), "does not fit"),
    "other weights": (lambda content: content["resume"].update(weights={}), "does not fit"),
}  # fmt: skip


@pytest.mark.parametrize("change", RESUMES)
def test_a_training_that_does_not_fit_is_not_resumed(trained, tmp_path, change):
    alter, text = RESUMES[change]
    (tmp_path / "last.pt").write_bytes((trained / "run/last.pt").read_bytes())
    changed(tmp_path / "last.pt", alter)
    with pytest.raises(DataError, match=text) as caught:
        Run.resumed(tmp_path, **SURROUNDINGS)
    assert "\n" not in str(caught.value)


def test_commands_say_so_in_one_line(trained, good, tmp_path, capsys):
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "run").mkdir()
    data = bytearray((trained / "run/last.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "run/last.pt").write_bytes(data)
    good.write_bytes(good.read_bytes()[:-1])
    for arguments, named in (
        (["denoise", str(tmp_path / "a.png"), "-m", str(good)], good),
        (["train", "--resume", "-o", str(tmp_path / "run")], tmp_path / "run/last.pt"),
        (["train", "--resume", "-o", str(tmp_path)], tmp_path),
    ):
        assert main(["-q", *arguments]) == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"error: {named}: ")
        assert err.count("\n") == 1
    assert not list(tmp_path.glob("*denoised*"))


# Disks and folders.


def failing(call, code, after):
    """A system call that fails from the call number `after` on."""
    original, left = getattr(os, call), after

    def fails(*arguments, **options):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(code, os.strerror(code))
        return original(*arguments, **options)

    return fails


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_save_that_fails_leaves_the_checkpoint_before_it(good, monkeypatch, call, code):
    before = good.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(call, code, 0))
        with pytest.raises(ResourceError, match=r"good\.pt: cannot write: .* bytes are needed"):
            save_checkpoint(good, make("noise2true", "toy", width=4, depth=1), {})
    assert good.read_bytes() == before
    assert [path.name for path in good.parent.iterdir()] == ["good.pt"]


def arguments(trained, *more):
    return ["-q", "train", "--sim", str(trained / "small.yaml"), "--method", "noise2true", "--preset", "toy",
            "--set", "width=4", "--set", "depth=1", "--batch", "2", "--crop", "16", "--device", "cpu",
            "--workers", "0", "--steps", "4", *more]  # fmt: skip


@pytest.mark.parametrize("writes", [0, 1, 4])
def test_a_disk_that_fills_up_ends_a_training_and_keeps_its_checkpoints(trained, tmp_path, monkeypatch, capsys, writes):
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing("write", errno.ENOSPC, writes))
        assert main(arguments(trained, "-o", str(tmp_path / "out"))) == 4
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert err.count("\n") == 1
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left <= {"last.pt", "best.pt", "metrics.jsonl"}
    assert ("last.pt" in left) == (writes > 0)
    for name in left & {"last.pt", "best.pt"}:
        load_checkpoint(tmp_path / "out" / name)
    if writes:
        assert main(["-q", "train", "--resume", "-o", str(tmp_path / "out"), "--workers", "0", "--device", "cpu"]) == 0
        steps = [line.split(",")[0] for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
        assert steps == [f'{{"step": {step}' for step in (1, 2, 3, 4)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_under_the_metrics_is_no_traceback(trained, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/metrics.jsonl").symlink_to("/dev/full")
    assert main(arguments(trained, "-o", str(tmp_path / "out"))) == 4
    err = capsys.readouterr().err
    assert "metrics.jsonl: cannot write: No space left on device" in err
    assert err.count("\n") == 1
    load_checkpoint(tmp_path / "out/last.pt")


@pytest.mark.parametrize("kind", ["denied", "read-only", "a file", "below a file"])
def test_folders_that_can_not_be_made_are_refused(trained, tmp_path, monkeypatch, capsys, kind):
    (tmp_path / "file").write_text("precious")
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file/out"}.get(kind, tmp_path / "shut/out")
    if kind == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        (tmp_path / "shut").mkdir(mode=0o500)
    with monkeypatch.context() as patch:
        if kind == "denied":
            patch.setattr(os, "mkdir", failing("mkdir", errno.EACCES, 0))
        code = main(arguments(trained, "-o", str(folder)))
    out, err = capsys.readouterr()
    assert (code, out) == (4, "")
    assert f"{folder}: cannot make this folder" in err
    assert err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "precious"


# Calls that make no sense.

SIM = ["--sim", "small.yaml"]
TINY = ["--method", "noise2true", "--preset", "toy"]


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ([], 2, "--sim [PHANTOM] or --data PATH"),
        ([*SIM, "--data", "pictures"], 2, "--sim [PHANTOM] or --data PATH"),
        ([*SIM, "--steps", "5", "--minutes", "1"], 2, "--steps and --minutes: one of them"),
        ([*SIM, "--steps", "0"], 2, "--steps"),
        ([*SIM, "--minutes", "0"], 2, "minutes: 0 is not allowed"),
        ([*SIM, "--minutes", "nan"], 2, "minutes: nan is not allowed"),
        ([*SIM, "--method", "noise2tru"], 2, "did you mean 'noise2true'"),
        ([*SIM, "--method", "lee"], 2, "lee: a filter has nothing to learn"),
        ([*SIM, "--preset", "larg"], 2, "preset 'larg' is unknown; allowed are default, toy, paper"),
        ([*SIM, *TINY, "--set", "widht=8"], 2, "did you mean 'width'"),
        ([*SIM, *TINY, "--set", "width"], 2, "'width' is no setting; write KEY=VALUE"),
        ([*SIM, *TINY, "--set", "width=wide"], 2, "width is 'wide'; allowed is a whole number"),
        ([*SIM, *TINY, "--set", "residual=maybe"], 2, "residual is 'maybe'; allowed is true or false"),
        ([*SIM, *TINY, "--crop", "30"], 2, "crop: 30 pixels; noise2true needs multiples of 8"),
        ([*SIM, "--preset", "paper", "--crop", "24"], 2, "crop: 24 pixels; speckle2self needs multiples of 16"),
        ([*SIM, "--crop", "-16"], 2, "crop: -16 is not allowed"),
        ([*SIM, *TINY, "--crop", "64"], 2, "crop: images of 32 x 32 pixels are smaller than crops of 64"),
        ([*SIM, "--batch", "0"], 2, "batch: 0 is not allowed"),
        ([*SIM, "--rate", "-0.001"], 2, "rate: -0.001 is not allowed; choose from 0 to 1"),
        ([*SIM, "--rate", "nan"], 2, "rate: nan is not allowed"),
        ([*SIM, "--reuse", "0"], 2, "--reuse"),
        ([*SIM, "--reuse", "nan"], 2, "reuse: nan is not allowed"),
        ([*SIM, "--seed", "-1"], 2, "--seed"),
        ([*SIM, "--seed", str(2**64)], 2, "seed: "),
        ([*SIM, "--device", "nonsense"], 2, "device: 'nonsense' can't be used here"),
        ([*SIM, "--judge", "uniforms"], 2, "uniforms"),
        ([*SIM, "--domain", "db"], 2, "--domain belongs to --data"),
        (["--sim", "gone.yaml"], 2, "gone.yaml: no such file"),
        (["--sim", "typo.yaml"], 2, "typo.yaml:2:64: image.dynamic_rang: unknown key; did you mean 'dynamic_range'"),
        (["--data", "pictures", "--judge", "typo.yaml"], 2, "typo.yaml:2:64: "),
        (["--data", "pictures", "--method", "noise2noise"], 2, "no frame comes with a second, independent look"),
        (["--data", "pictures", "--method", "noise2true"], 2, "has no truth to learn from"),
        (["--data", "empty"], 3, "no images in this folder"),
        (["--data", "gone"], 3, "gone: cannot read"),
        (["--data", "notes.txt"], 3, "notes.txt: a file of another kind"),
        (["--resume"], 3, "out: holds no training to go on with; leave out --resume"),
        (["--resume", "--steps", "3"], 2, "leave out --steps"),
        (["nonsense"], 2, "unexpected extra argument"),
    ],
)
def test_bad_calls_get_their_code_and_leave_nothing(trained, tmp_path, monkeypatch, capsys, options, code, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(PHANTOM)
    (tmp_path / "typo.yaml").write_text(PHANTOM.replace("[32, 32]", "[32, 32], dynamic_rang: 60 dB"))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    grey = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    PIL.Image.fromarray(grey).save("pictures/a.png")
    given = ["--device", "cpu"] if "--device" not in options else []
    assert main(["-q", "train", *options, *given, "--workers", "0", "-o", "out"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert text in err
    assert err.count("\n") == (3 if ".yaml:" in text and "no such" not in text else 1)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("wrong", [["--sim", "gone.yaml"], ["--sim", "small.yaml", "--set", "widht=8"]])
def test_what_was_chosen_is_told_of_good_calls_only(tmp_path, monkeypatch, capsys, wrong):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(PHANTOM)
    call = ["train", "--method", "noise2true", "--preset", "toy", "--workers", "0", "--steps", "1", "--held-out", "1"]
    assert main([*call, *wrong]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert main([*call, "--sim", "small.yaml", "--set", "width=4", "--crop", "16"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("training on ")
    assert told[1].startswith("precision ")


def test_a_request_is_checked_like_a_call(trained, tmp_path):
    for wrong in ({"looks": 0}, {"held_out": 0}, {"reuse": 0.0}, {"seed": -1}, {"changes": {"steps": 0}}):
        request = Request(method="noise2true", phantom=str(trained / "small.yaml"), **wrong)
        with pytest.raises(ConfigError, match="is not allowed; choose from"):
            Run.new(request, tmp_path, **SURROUNDINGS)
