"""Nothing opens a connection unless it is asked to: the commands run where every socket of the internet is refused."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from surroundings import environment

PHANTOM = """\
probe: L11-5v
image: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [32, 32]}
scatterers: {model: field}
background: {echogenicity: 0 dB}
frames: 4
"""
#: Python runs this in every process before anything else; what a library hides from its caller is in the file.
GUARD = r"""
import socket, sys

def refuse(event, arguments):
    if not event.startswith("socket.") or event == "socket.gethostname":
        return
    family = arguments[1] if event == "socket.__new__" else getattr(arguments[0], "family", None)
    if family not in (socket.AF_UNIX, -1):  # processes of one machine speak through those
        with open("sockets.txt", "a") as file:
            file.write(f"{event} {arguments}\n")
        raise OSError(f"no network here: {event}")

sys.addaudithook(refuse)
"""


@pytest.fixture
def offline(tmp_path):
    """Runs a command without a network, and says which sockets it wanted."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard/sitecustomize.py").write_text(GUARD)
    (tmp_path / "small.yaml").write_text(PHANTOM)
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)).save(
        tmp_path / "scan.png"
    )
    beside = environment(tmp_path / "guard")

    def run(*words, python=sys.executable, path=beside["PYTHONPATH"]):
        done = subprocess.run(
            [str(python), *words],
            cwd=tmp_path,
            env={**beside, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )
        wanted = tmp_path / "sockets.txt"
        return done.returncode, done.stderr, wanted.read_text() if wanted.exists() else ""

    return run


def test_the_guard_would_notice(offline):
    code, error, wanted = offline("-c", "import socket; socket.socket()")
    assert code == 1
    assert "no network here" in error
    assert wanted
    asked = "import urllib.request as r\ntry: r.urlopen('http://127.0.0.1:9')\nexcept OSError: pass"
    assert "getaddrinfo" in offline("-c", asked)[2]


COMMANDS = {
    "generate": ["usim", "generate", "small.yaml", "-o", "data", "--workers", "2"],
    "verify": ["usim", "verify", "data"],
    "export": ["usim", "export", "data", "--format", "npy"],
    "train": ["s2s", "train", "--method", "noise2true", "--preset", "toy", "--data", "data", "--steps", "2", "-o",
              "run", "--batch", "2", "--crop", "16", "--set", "width=4", "--set", "depth=1", "--held-out", "1"],
    "denoise": ["s2s", "denoise", "scan.png", "-o", "clean.png"],
}  # fmt: skip


def test_commands_open_no_connection(offline):
    for name, words in COMMANDS.items():
        code, error, wanted = offline("-m", *words)
        assert wanted == "", name
        assert code == 0, f"{name}: {error}"


def test_the_wheel_works_in_an_environment_of_its_own(offline, tmp_path):
    """Nothing of the source tree is within reach, and the libraries are those of this environment."""
    pip = ["-m", "pip", "--disable-pip-version-check", "-q"]
    tree = Path(__file__).parents[2]
    built = subprocess.run(
        [sys.executable, *pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", "wheels", str(tree)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "wheels").iterdir()
    venv.create(tmp_path / "clean")
    (packages,) = (tmp_path / "clean/lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python, guard = tmp_path / "clean/bin/python", str(tmp_path / "guard")
    script = "import usim, s2s; print(usim.__file__, s2s.__file__, sep='\\n', file=__import__('sys').stderr)"
    code, said, _ = offline("-c", script, python=python, path=guard)
    assert code == 0, said
    assert all(line.startswith(str(packages)) for line in said.splitlines()), said
    shipped = {"shipped": ["usim", "generate", "cyst", "--frames", "1", "--workers", "1", "-o", "shipped"]}
    for name, words in (COMMANDS | shipped).items():
        code, error, wanted = offline("-m", *words, python=python, path=guard)
        assert wanted == "", name
        assert code == 0, f"{name}: {error}"
