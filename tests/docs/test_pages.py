"""The pages hold what is true: snippets load, links lead somewhere, generated parts are fresh, commands exist."""

import importlib.util
import itertools
import re
import shlex
import sys
import tomllib
from pathlib import Path

import click
import numpy as np
import PIL.Image
import pytest
import yaml

import s2s.cli
import usim
import usim.cli
from usim.phantom import load
from usim.phantom.draw import draw
from usim.phantom.load import load_phantom

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]


def script(name):
    """Import a script of docs/ by its path."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    return sys.modules[name]


PICTURES = script("make_pictures")
SECTIONS = PICTURES.sections(PICTURES.PAGE.read_text())
OTHERS = ("channel-", "rf-", "speckle2self-")  # pictures of other pages, drawn by scripts of their own


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def anchors(path):
    """The anchors that a forge gives to headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.key)
def test_every_snippet_of_the_language_loads_and_draws(section, tmp_path):
    for document in PICTURES.documents(section, SECTIONS[0].variants[0]):
        phantom = load_phantom(PICTURES.write_phantom(document, tmp_path))
        scene = draw(phantom, index=2)
        assert scene.image.pixels
    named = section.key.rpartition(".")[2]
    if section.key != "base":
        assert all(named in variant for variant in section.variants), f"the snippet does not show {named}"


def test_every_key_of_the_language_has_a_section_and_a_picture():
    shown = {section.key for section in SECTIONS}
    assert not set(PICTURES.keys()) - shown
    assert not [section.key for section in SECTIONS if not section.picture.is_file()]
    files = {path.stem for path in PICTURES.PICTURES.glob("*.png") if not path.stem.startswith(OTHERS)}
    assert files == shown | {"cyst"}
    assert sum(path.stat().st_size for path in PICTURES.PICTURES.glob("*.png")) < 6e6
    assert (PICTURES.PICTURES / "cyst.png").stat().st_size < 300e3


def test_units_defaults_and_limits_on_the_page_are_those_of_the_code():
    page = PICTURES.PAGE.read_text()
    assert PICTURES.refresh(page) == page, "run: python docs/make_pictures.py --facts"


def test_the_shipped_map_is_what_its_script_draws():
    maps = script("make_maps")
    with PIL.Image.open(maps.TARGET) as shipped:
        assert (np.asarray(shipped) == maps.section()).all(), "run: python docs/make_maps.py"
    assert maps.TARGET.stat().st_size < 20e3


def test_generated_parts_are_fresh():
    for path, text in script("make_reference").pages().items():
        assert path.read_text() == text, "run: python docs/make_reference.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.is_file(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


GROUPS = {"usim": usim.cli.cli, "s2s": s2s.cli.cli}


def commands():
    """Every `usim ...` and `s2s ...` line of the pages."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                for part in line.split("&&"):
                    words = shlex.split(part, comments=True)
                    program = words[0].rpartition("/")[2] if words else ""
                    if program in GROUPS:
                        yield page.name, program, list(itertools.dropwhile(lambda word: word[0] == "-", words[1:]))


def test_commands_on_the_pages_parse():
    found = list(commands())
    assert len(found) > 12
    for page, program, words in found:
        command = GROUPS[program].commands[words[0]]
        try:
            command.make_context(words[0], words[1:])
        except click.ClickException as error:
            pytest.fail(f"{page}: {program} {' '.join(words)}: {error.format_message()}")


def test_make_targets_on_the_pages_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"^(?:\s*|.*`)make (\w+)", page.read_text(), re.MULTILINE)}
    assert {"demo", "test"} <= named
    assert named <= targets


def test_phantoms_and_python_of_the_readme_work(tmp_path, monkeypatch):
    readme = ROOT / "README.md"
    for text in blocks(readme, "yaml"):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        assert draw(load_phantom(path), index=1).regions
    for text in blocks(readme, "python"):
        monkeypatch.chdir(tmp_path)
        exec(compile(text, str(readme), "exec"), {})
        lines = [line for line in text.splitlines() if line.strip()]
        assert len(lines) <= 6


def test_constraints_pin_every_requirement_once():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.partition("==") for line in lines if line and not line.startswith("#")]
    names = [re.sub(r"[-_.]+", "-", name.lower()) for name, _, _ in pins]
    assert all(sign and version for _, sign, version in pins)
    assert len(names) == len(set(names))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    asked = {re.match(r"[\w.-]+", line)[0].lower() for line in wanted}
    assert not {re.sub(r"[-_.]+", "-", name) for name in asked} - set(names)


def test_the_citation_names_this_version():
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == usim.__version__
    assert f"## {usim.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_gallery_shows_every_phantom():
    gallery = script("make_gallery")
    assert gallery.PAGE.read_text() == gallery.page(), "run: python docs/make_gallery.py"
    pictures = {gallery.picture_of(name) for name in load.shipped_phantoms()}
    assert set(gallery.PICTURES.glob("*.png")) == pictures
    assert sum(path.stat().st_size for path in pictures) < 3e6
