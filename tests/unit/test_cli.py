"""The command line: help at once, exit codes, one-line errors, and every command on real files."""

import subprocess
import sys

import pytest

from usim.cli import cli, main

HEAVY = ["numpy", "h5py", "rich", "pydantic", "yaml", "numba", "scipy", "matplotlib", "torch"]
PHANTOM = """\
description: A cyst for tests
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [48, 40]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
regions:
  - {name: cyst, shape: circle, center: [0 mm, 15 mm], radius: 2 mm, echogenicity: anechoic}
frames: 4
seed: 3
"""


@pytest.fixture
def phantom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM)
    return path


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_help_loads_click_alone_and_ends_with_an_example(command):
    arguments = [*command.split(), "--help"]
    code = f"import sys; from usim.cli import main; main({arguments}); print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.endswith("[]\n")
    assert "Example:\n    usim " in out


def test_help_loads_click_alone():
    """Help must appear at once: nothing heavy is loaded for it."""
    script = (
        "import sys\nfrom usim.cli import main\ncode = main(['generate', '--help'])\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(code, sorted(loaded & {'numpy', 'h5py', 'pydantic', 'yaml', 'numba', 'scipy', 'torch', 'PIL', 'rich'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, "usim 0.1.0\n")
    code, out, _ = run(capsys, "--version", "-v")
    assert code == 0
    assert "numpy 2." in out
    assert "cpu: " in out


def test_generate_info_view(capsys, phantom, tmp_path):
    code, out, err = run(capsys, "generate", phantom, "--workers", 1, "--store", "iq, scatterers", "--shard-size", 3)
    assert code == 0, err
    assert out.startswith("small: 4 frames in 2 shards")
    assert "4/4 frames" in err
    assert sorted(p.name for p in (tmp_path / "small").iterdir()) == [
        "manifest.json",
        "run.json",
        "shard-00000.h5",
        "shard-00001.h5",
    ]
    code, out, _ = run(capsys, "info", "small")
    assert code == 0
    for text in ("A cyst for tests", "40 x 48", "L11-5v", "tissue, cyst", "mm, step", "iq", "dB"):
        assert text in out
    code, out, _ = run(capsys, "view", "small", "--frames", "0,3")
    assert (code, out) == (0, "small.png\n")
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")
    assert run(capsys, "view", "small/shard-00001.h5", "-o", "one.png")[0] == 0


def test_quiet_says_nothing(capsys, phantom):
    assert run(capsys, "-q", "generate", phantom, "--frames", 1) == (0, "", "")


def test_preview_makes_a_picture_and_no_data(capsys, phantom, tmp_path):
    code, out, _ = run(capsys, "generate", phantom, "--preview", "x.png")
    assert (code, out) == (0, "x.png\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.yaml", "x.png"]


def test_previews_of_several_images_simulate_what_they_show(capsys, phantom, tmp_path, monkeypatch):
    from usim.pipeline import Renderer

    made, frame = [], Renderer.frame
    monkeypatch.setattr(Renderer, "frame", lambda self, number: made.append(number) or frame(self, number))
    cloud = "\nscatterers: {model: plane, per_cell: 4}\n"
    phantom.write_text(PHANTOM.replace("\nscatterers: {model: field}\n", cloud) + "sequence: {times: 9, rate: 20 Hz}\n")
    assert run(capsys, "generate", phantom, "--preview", "x.png")[:2] == (0, "x.png\n")
    assert made == [0, 3, 5, 8]
    made.clear()
    assert run(capsys, "generate", phantom, "--preview", "x.gif")[:2] == (0, "x.gif: 9 frames, 20 per second\n")
    assert made == list(range(9))
    assert run(capsys, "generate", phantom, "--preview", "x.gif", "--frames", 2)[1].startswith("x.gif: 2 frames")
    phantom.write_text(PHANTOM)
    assert run(capsys, "generate", phantom, "--preview", "y.gif")[:2] == (0, "y.gif: 4 frames, 10 per second\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.yaml", "x.gif", "x.png", "y.gif"]


def test_dry_run_is_right_within_a_fifth_and_makes_no_data(capsys, phantom, tmp_path):
    code, out, _ = run(capsys, "generate", phantom, "--frames", 12, "--dry-run", "--store", "iq")
    assert code == 0
    assert not (tmp_path / "small").exists()
    said = {line.split()[0]: line.split()[1] for line in out.splitlines()}
    assert set(said) == {"folder", "frames", "shards", "workers", "bytes", "memory", "minutes"}
    run(capsys, "generate", phantom, "--frames", 12, "--store", "iq", "--workers", 1)
    size = sum(path.stat().st_size for path in (tmp_path / "small").glob("*.h5"))
    assert abs(int(said["bytes"]) / size - 1) < 0.2


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["generate", "gone.yaml"], 2, "gone.yaml"),
        (["generate", "small.yaml", "--frames", "0"], 2, "--frames"),
        (["generate", "small.yaml", "--store", "rf"], 2, "allowed are iq, scatterers"),
        (["generate"], 2, "PHANTOM"),
        (["nonsense"], 2, "nonsense"),
        (["generate", "small.yaml", "--nonsense"], 2, "--nonsense"),
        (["generate", "small.yaml", "--frames", "1000000000000"], 4, "bytes are needed"),
        (["generate", "small.yaml", "--frames", "1000000000000", "--dry-run"], 4, "bytes are needed"),
        (["info", "gone"], 3, "gone"),
        (["view", "gone"], 3, "gone"),
        (["info", "."], 3, "name a folder that usim wrote"),
        (["generate", "small.yaml", "-o", "."], 2, "holds something else: small.yaml"),
        (["generate", "small.yaml", "-o", "small.yaml"], 2, "a file is in the way"),
        (["generate", "small.yaml", "--preview", "gone/x.png"], 4, "cannot write"),
        (["generate", "small.yaml", "--preview", "x.nonsense"], 2, "use .png"),
        (["generate", "small.yaml", "--preview", "x.png", "--store", "iq"], 2, "leave --store out"),
        (["generate", "small.yaml", "--preview", "x.png", "--dry-run"], 2, "leave --dry-run out"),
        (["generate", "small.yaml", "--preview", "x.png", "-o", "x"], 2, "leave --output out"),
    ],
)
def test_bad_calls_get_one_line_and_their_code(capsys, phantom, tmp_path, arguments, code, text):
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert text in error
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["small.yaml"]


def test_view_names_the_frames_there_are(capsys, phantom):
    run(capsys, "generate", phantom, "--frames", 2)
    assert run(capsys, "view", "small", "--frames", "0,2")[::2] == (
        2,
        "error: --frames: 2 is not one of the 2 frames of small (0 to 1)\n",
    )
    assert run(capsys, "view", "small", "--frames", "a")[0] == 2
    assert run(capsys, "view", "small", "--scene", "1", "-o", "b.gif")[:2] == (0, "b.gif: 1 frame, 10 per second\n")
    assert run(capsys, "view", "small", "--look", "1")[::2] == (
        2,
        "error: --look: small has no look 1; it has 0 alone\n",
    )
    assert "unknown unit 'furlong'" in run(capsys, "view", "small", "--depth", "3 furlong")[2]


def test_shipped_phantoms_are_listed(capsys):
    code, out, _ = run(capsys, "phantoms")
    assert code == 0
    assert {"cyst", "layers", "training", "uniform", "wires", "gradient"} <= {
        line.split()[0] for line in out.splitlines()
    }


def test_schema_is_json(capsys):
    import json

    code, out, _ = run(capsys, "schema")
    assert code == 0
    assert "properties" in json.loads(out)
