"""A folder to which anything may happen, in any order: verify never lies, resume gives an uninterrupted run's bytes.

hypothesis chooses what happens and shrinks what goes wrong to the shortest story.
"""

import contextlib
import json
import os
import shutil

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from usim.errors import ConfigError, DataError, UsimError
from usim.generate import generate
from usim.info import describe
from usim.io.folder import LOCK
from usim.io.provenance import MANIFEST, RUN, read_manifest
from usim.io.verify import verify
from usim.phantom.load import load_phantom

PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [16, 24]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
frames: 4
"""
#: What is asked for: the folder of one of these is that of another run for the others.
ASKED = ({"seed": 3}, {"seed": 4}, {"seed": 3, "compress": True})
SHARDS = [f"shard-{number:05d}.h5" for number in range(4)]
#: Beside a dataset: the first two are nobody's business, shards that nobody lists are.
FOREIGN = ("thesis.txt", ".thesis.txt.part", "other.h5", ".other.h5.part.node-7")


class Killed(BaseException):
    """What a process does not hear of."""


class Mortal:
    """System calls that write, of which the nth is the last: it is half done, and none after it does anything."""

    def __init__(self, n):
        self.left = n

    def call(self, name):
        original = getattr(os, name)

        def mortal(*arguments, **options):
            self.left -= 1
            if self.left > 0:
                return original(*arguments, **options)
            if self.left == 0:
                if name == "write":
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise Killed
            raise OSError("the process is dead")

        return mortal


class Dataset(RuleBasedStateMachine):
    def __init__(self, phantom, wholes, folder):
        super().__init__()
        self.phantom, self.wholes, self.folder = phantom, wholes, folder
        shutil.rmtree(folder, ignore_errors=True)

    def there(self):
        """What lies there; a lock without a holder is nothing."""
        paths = self.folder.iterdir() if self.folder.exists() else ()
        return {path.name: path.read_bytes() for path in paths if path.name != LOCK}

    def data(self):
        """What an uninterrupted run decides: not when and where, and nothing that is no part of the dataset."""
        return {name: data for name, data in self.there().items() if name not in (RUN, *FOREIGN[:2])}

    def run(self, which, **options):
        return generate(self.phantom, self.folder, workers=1, shard_size=1, **ASKED[which], **options)

    def must_resume(self, which):
        try:
            return not read_manifest(self.folder).differences(self.wholes[which][1])
        except DataError:
            return self.data().items() <= self.wholes[which][0].items() and not set(FOREIGN) & set(self.there())

    @rule(which=st.integers(0, 2))
    def begin(self, which):
        before = self.there()
        try:
            self.run(which)
        except ConfigError:
            assert before
            assert self.there() == before
        else:
            assert not before
            assert self.data() == self.wholes[which][0]

    @rule(which=st.sampled_from([0, 0, 0, 1, 2]))
    def resume(self, which):
        before, must = self.there(), self.must_resume(which)
        try:
            result = self.run(which, resume=True)
        except (ConfigError, DataError):
            assert not must
            assert self.there() == before
        else:
            whole = self.wholes[which][0]
            kept = sum(before.get(name) == whole[name] for name in SHARDS)
            assert result.kept <= kept
            assert result.rendered == 4 - result.kept
            assert {name: data for name, data in self.data().items() if name not in FOREIGN} == whole
            assert all(self.there()[name] == before[name] for name in FOREIGN if name in before)

    @rule(which=st.sampled_from([0, 0, 0, 1, 2]), after=st.integers(0, 12))
    def interrupt(self, which, after):
        before, states = self.there(), []

        def listen(state):
            states.append(state)
            if len(states) > after:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt, ConfigError, DataError):
            self.run(which, resume=True, progress=listen)
        assert not any(".part" in name for name in self.there().keys() - before)

    @rule(which=st.sampled_from([0, 0, 0, 1, 2]), n=st.integers(1, 50))
    def kill(self, which, n):
        mortal = Mortal(n)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", "write", "replace", "unlink", "rmdir"):
                patch.setattr(os, name, mortal.call(name))
            with contextlib.suppress(Killed, ConfigError, DataError):
                self.run(which, resume=True)

    @rule(name=st.sampled_from([*SHARDS, MANIFEST, RUN]))
    def delete(self, name):
        (self.folder / name).unlink(missing_ok=True)

    def change(self, name, change):
        if (self.folder / name).exists():
            (self.folder / name).write_bytes(change((self.folder / name).read_bytes()))

    @rule(name=st.sampled_from([*SHARDS, MANIFEST]), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def flip(self, name, place, bit):
        def flipped(data):
            data = bytearray(data)
            if data:
                data[int(place * len(data))] ^= 1 << bit
            return bytes(data)

        self.change(name, flipped)

    @rule(name=st.sampled_from([*SHARDS, MANIFEST]), share=st.floats(0, 1, exclude_max=True))
    def truncate(self, name, share):
        self.change(name, lambda data: data[: int(share * len(data))])

    @rule(
        key=st.sampled_from(["seed", "frames", "name", "store", "dtype", "versions", "shards", "sha256", "complete"]),
        value=st.sampled_from([None, 0, 4, "x", [], {}, True]),
    )
    def edit(self, key, value):
        def edited(data):
            try:
                content = {**json.loads(data), key: value}
            except (ValueError, TypeError):
                return data
            return (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()

        self.change(MANIFEST, edited)

    @rule(name=st.sampled_from(SHARDS), other=st.sampled_from(SHARDS), which=st.integers(0, 2))
    def put_another(self, name, other, which):
        """A shard of another run, or of another place, under this name."""
        if self.folder.exists():
            (self.folder / name).write_bytes(self.wholes[which][0][other])

    @rule(name=st.sampled_from([*FOREIGN, f".{SHARDS[1]}.part.node-7", f".{MANIFEST}.part", LOCK]))
    def add(self, name):
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(b"mine")

    @rule()
    def clear(self):
        for name in FOREIGN:
            (self.folder / name).unlink(missing_ok=True)

    @invariant()
    def verify_never_lies(self):
        data, damages = self.data(), verify(self.folder).damages
        is_whole = any(data == whole for whole, _ in self.wholes)
        assert bool(damages) != is_whole, [str(damage) for damage in damages]
        assert all("\n" not in str(damage) for damage in damages)

    @invariant()
    def info_says_something_or_why_not(self):
        with contextlib.suppress(UsimError):
            describe(self.folder)

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.parametrize(("stories", "steps"), [(25, 12), pytest.param(100, 25, marks=pytest.mark.slow)])
def test_verify_never_lies_and_resume_completes(tmp_path, fake_renderer, monkeypatch, stories, steps):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut here
    (tmp_path / "small.yaml").write_text(PHANTOM)
    phantom, wholes = load_phantom(tmp_path / "small.yaml"), []
    for number, asked in enumerate(ASKED):
        folder = tmp_path / f"whole-{number}"
        manifest = generate(phantom, folder, workers=1, shard_size=1, **asked).manifest
        wholes.append(({path.name: path.read_bytes() for path in folder.iterdir() if path.name != RUN}, manifest))
    run_state_machine_as_test(
        lambda: Dataset(phantom, wholes, tmp_path / "out"),
        settings=settings(max_examples=stories, stateful_step_count=steps, deadline=None, derandomize=stories < 100),
    )
