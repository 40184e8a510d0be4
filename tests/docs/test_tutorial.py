"""The tutorial runs, block by block, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def shell(text, folder, tmp_path):
    """Run shell lines as the reader would, with `usim` and `s2s` being this interpreter's packages."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("usim", "s2s"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(PAGE.parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    done = subprocess.run(["sh", "-e", "-c", text], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_the_tutorial_runs(tmp_path, monkeypatch):
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    found = re.findall(r"^```([\w-]+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) >= 10
    for language, text in found:
        if language == "yaml":
            (folder / re.match(r"# (\S+)", text)[1]).write_text(text)
        elif language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
        elif language == "sh":
            code, said = shell(text, folder, tmp_path)
            assert code == 0, said
        elif language == "sh-fails":
            code, said = shell(text, folder, tmp_path)
            assert code == 2, said
            assert "did you mean 'radius'" in said
        else:
            raise AssertionError(f"a block in {language} is not run")
    made = {path.name for path in folder.iterdir()}
    assert {
        "cyst.png",
        "preview.png",
        "moving.gif",
        "moving.png",
        "sweep.png",
        "sweep.gif",
        "data",
        "clean.png",
        "denoised.h5",
        "report.html",
    } <= made
