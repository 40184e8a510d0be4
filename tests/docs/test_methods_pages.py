"""The methods' pages: fresh, complete, with commands that work, and a picture of every filter."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from s2s.data import Simulation
from s2s.denoise import load
from s2s.methods import METHODS, method_class, settings_of
from s2s.methods.base import Method
from s2s.published import published
from s2s.recipes import read_recipe
from s2s.request import training_of
from usim.phantom.load import load_phantom

DOCS = Path(__file__).parents[2] / "docs"


def script():
    spec = importlib.util.spec_from_file_location("make_methods", DOCS / "make_methods.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = script()
FILTERS = [name for name in METHODS if not method_class(name).needs]
every = pytest.mark.parametrize("name", METHODS)


def test_pages_are_fresh_and_no_page_is_left_over():
    pages = MAKER.pages()
    for path, text in pages.items():
        assert path.read_text() == text, "run: python docs/make_methods.py"
    assert set((DOCS / "methods").glob("*.md")) == set(pages) - {DOCS / "methods.md"}


@every
def test_the_list_leads_to_the_page(name):
    index = (DOCS / "methods.md").read_text()
    assert f"| [{name}](methods/{name}.md) |" in index
    assert f"\nmethods/{name}\n" in index


@every
def test_every_setting_has_a_meaning(name):
    kind = method_class(name)
    missing = set(settings_of(kind)) - {key for key, meaning in MAKER.meanings(kind).items() if meaning}
    assert not missing, f"{kind.__name__}: write 'NAME: meaning' in the class's docstring"


@every
def test_a_page_says_what_is_assumed_what_fails_and_a_command(name):
    text = (DOCS / "methods" / f"{name}.md").read_text()
    assert "**Assumes**" in text
    assert "**Fails**" in text
    assert re.search(r"^    s2s (denoise|train) .*" + name, text, re.MULTILINE)


@every
def test_a_recipe_on_a_page_is_one(name, tmp_path):
    kind, text = method_class(name), (DOCS / "methods" / f"{name}.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == bool(kind.needs and not kind.fit_steps and not kind.holds_image)
    for block in blocks:
        (tmp_path / "mine.yaml").write_text(block)
        request = read_recipe(f"{tmp_path}/mine.yaml").request
        assert request.method == name
        assert training_of(kind, request) == kind.TRAINING["default"]
        Simulation(load_phantom(request.phantom), 0, kind.needs).refuse_single_images()


@every
def test_a_page_has_what_the_results_say(name):
    text = (DOCS / "methods" / f"{name}.md").read_text()
    own = r"^\| (?:polyphase\(4\):)?" + re.escape(name) + r"(?: \(.*?\))? \| .*$"
    for line in re.findall(own, text, re.MULTILINE):
        figure = line.split("|")[3].strip()
        assert figure in (DOCS / "results.md").read_text()
        assert re.fullmatch(r"\d+\.\d\d \[.*\]", figure)
    assert "../results.md" in text


@pytest.mark.parametrize("name", FILTERS)
def test_commands_of_filters_name_settings_that_exist(name):
    if method_class(name).lacking():
        pytest.skip(method_class(name).lacking())
    text = (DOCS / "methods" / f"{name}.md").read_text()
    for line in re.findall(r"^    (s2s denoise .*)$", text, re.MULTILINE):
        words = shlex.split(line)
        assert load(words[words.index("-m") + 1]).name == name


def test_every_filter_has_a_small_picture_and_every_picture_a_method_or_weights():
    files = {path.stem: path.stat().st_size for path in MAKER.PICTURES.glob("*.png")}
    assert set(FILTERS) <= set(files) <= {*METHODS, *published()}
    assert max(files.values()) < 120e3


@every
def test_links_of_a_page_lead_somewhere(name):
    page = DOCS / "methods" / f"{name}.md"
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).is_file(), target


def test_meanings_are_found_however_they_are_written():
    class Base(Method):
        """A base.

        width, depth: of the network.
        """

    class Mine(Base):
        """Some method: with a colon.

        rate: per step.  width: of the window,
        in pixels; never | this.

        Not part of it.
        """

        def __init__(self, rate=1.0, width=3, depth=2):
            super().__init__()

    assert MAKER.meanings(Mine) == {
        "rate": "per step",
        "width": r"of the window, in pixels; never \| this",
        "depth": "of the network",
    }
