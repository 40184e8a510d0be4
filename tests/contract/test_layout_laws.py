"""The laws of the house, read off the source: who imports whom, what stays cheap, how long things may get."""

import ast
import io
import sys
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for package in ("usim", "s2s") for path in sorted((ROOT / package).rglob("*.py"))]

#: Floors of the house, top first: s2s stands on usim. A module may import from its own floor or below.
FLOORS = (
    ("s2s.cli", "s2s.__main__"),
    ("s2s.progress", "s2s.export", "s2s.benchmark_command", "s2s.evaluate_command", "s2s.synthesise_command"),
    ("s2s.benchmark",),
    (
        "s2s.ask",
        "s2s.adapt",
        "s2s.board",
        "s2s.recipes",
        "s2s.publish",
        "s2s.evaluation",
        "s2s.report",
        "s2s.run",
        "s2s.request",
        "s2s.files",
        "s2s.folders",
        "s2s.listing",
        "s2s.synthesise",
    ),
    ("s2s.course",),
    ("s2s.denoise", "s2s.fitting", "s2s.train", "s2s.held_out"),
    ("s2s.methods.backbone", "s2s.methods.noise2vst", "s2s.methods.pngan"),  # which work with weights of others
    (
        "s2s.data",
        "s2s.pool",
        "s2s.alike",
        "s2s.recordings",
        "s2s.toy",
        "s2s.checkpoint",
        "s2s.published",
        "s2s.images",
        "s2s.metrics",
    ),
    ("s2s.methods",),
    ("s2s.nets",),
    ("s2s.domain", "s2s.seeds", "s2s.ranks"),
    ("usim.cli", "usim.__main__"),
    ("usim.console", "usim.generate_command"),
    (
        "usim.generate",
        "usim.streams",
        "usim.batched",
        "usim.view",
        "usim.validation",
        "usim.validation_view",
        "usim.match",
        "usim.match_view",
        "usim.info",
        "usim.export",
    ),
    ("usim.resume",),
    ("usim.prepared", "usim.feed", "usim.cluster"),
    ("usim.cluster_worker",),
    ("usim.estimate",),
    ("usim.sizing", "usim.workers", "usim.progress", "usim.interrupts"),
    ("usim.pipeline",),
    ("usim.compounding",),
    ("usim.stage",),
    ("usim.targets",),
    ("usim.rf",),
    ("usim.io",),
    (
        "usim.engines",
        "usim.beamforming",
        "usim._das_numba",
        "usim.process",
        "usim.scan_convert",
        "usim.speckle",
        "usim.speckle_size",
        "usim.phantom",
        "usim.display",
        "usim.intensity",
        "usim._cloud_torch",
    ),
    ("usim.frame",),
    ("usim.scatterers", "usim.elements", "usim.png"),
    ("usim.probe", "usim.medium", "usim.transmit", "usim.scan", "usim.events"),
    ("usim.description",),
    ("usim.units", "usim.splits", "usim.memory"),
    ("usim.errors",),
)
HEAVY = {"numpy", "h5py", "rich", "pydantic", "yaml", "numba", "scipy", "torch", "matplotlib"}
FILES_BELONG_TO = {
    "usim.cli",
    "usim.generate_command",
    "usim.generate",
    "usim.sizing",
    "usim.estimate",
    "usim.view",
    "usim.info",
    "usim.streams",
    "usim",
}
FILES_BELONG_TO |= {"usim.match", "usim.resume", "usim.export", "usim.cluster_worker"}
FILES_BELONG_TO |= {
    "s2s.benchmark",
    "s2s.evaluation",
    "s2s.report",
    "s2s.run",
    "s2s.files",
    "s2s.folders",
    "s2s.export",
    "s2s.alike",
    "s2s.recordings",
    "s2s.checkpoint",
    "s2s.published",
    "s2s.publish",
    "s2s.synthesise",
    "s2s.images",
}
MATPLOTLIB_BELONGS_TO = {"usim.view", "usim.validation_view", "usim.match_view"}
TORCH_BELONGS_TO = {
    "s2s.nets",
    "s2s.methods",
    "s2s.train",
    "s2s.data",
    "s2s.pool",
    "s2s.held_out",
    "s2s.fitting",
    "s2s.run",
    "s2s.ask",
    "s2s.board",
    "s2s.ranks",
    "s2s.checkpoint",
    "s2s.published",
    "s2s.denoise",
    "s2s.export",
    "s2s.synthesise",
    "usim.batched",
    "usim.feed",
}
CHEAP = ["__init__.py", "__main__.py", "cli.py"]
FILE_LINES, FUNCTION_LINES = 400, 60


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path):
    return ast.parse(path.read_text())


def is_type_checking(node):
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def imports(path, *, at_import_only=False):
    """Yield the full names of imported modules; names behind TYPE_CHECKING are never imported."""

    def walk(node):
        if is_type_checking(node) or (at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return list(walk(tree_of(path)))


def floor_of(module):
    for number, floor in enumerate(FLOORS):
        if any(module == home or module.startswith(home + ".") for home in floor):
            return number
    return None


def belongs(module, homes):
    """True when the module is one of the homes or lies in one; the packages themselves only when they are named."""
    return module in homes or any(module.startswith(home + ".") for home in homes - {"usim"})


def by_name(paths):
    return pytest.mark.parametrize("path", paths, ids=name_of)


@by_name(SOURCES)
def test_every_module_has_a_floor_and_imports_downward_only(path):
    module = name_of(path)
    if module in ("usim", "s2s"):
        return
    assert floor_of(module) is not None, f"{module} stands on no floor: add it to FLOORS"
    for target in imports(path):
        if module.startswith("usim."):
            assert not target.startswith("s2s"), f"{module} imports {target}: usim never imports s2s"
        if target.startswith(("usim.", "s2s.")) and floor_of(target) is not None:
            assert floor_of(target) >= floor_of(module), f"{module} imports upward: {target}"


@by_name([path for path in SOURCES if path.stem.endswith(("_numba", "_torch"))])
def test_kernel_files_import_their_library_only(path):
    allowed = {"numpy", "numba"} if path.stem.endswith("_numba") else {"torch"}
    assert {target.split(".")[0] for target in imports(path)} - sys.stdlib_module_names <= allowed


@by_name(SOURCES)
def test_only_the_top_floors_touch_files_and_pictures(path):
    module = name_of(path)
    targets = imports(path)
    if not belongs(module, FILES_BELONG_TO | {"usim.io"}):
        assert not [t for t in targets if t.startswith("usim.io")], f"{module} must not know files"
    if not belongs(module, MATPLOTLIB_BELONGS_TO):
        assert not [t for t in targets if t.split(".")[0] == "matplotlib"], f"{module} must not draw"


@by_name(
    [ROOT / "usim" / name for name in (*CHEAP, "console.py", "errors.py")]
    + [ROOT / "s2s" / name for name in (*CHEAP, "domain.py", "methods/__init__.py")]
)
def test_what_help_needs_stays_cheap(path):
    assert not {target.split(".")[0] for target in imports(path, at_import_only=True)} & HEAVY


def test_matplotlib_and_torch_wait_until_they_are_needed():
    for path in SOURCES:
        early = {target.split(".")[0] for target in imports(path, at_import_only=True)}
        assert "matplotlib" not in early, path
        home = belongs(name_of(path), TORCH_BELONGS_TO) and name_of(path) != "s2s.methods"
        assert "torch" not in early or home or path.stem.endswith("_torch"), path


def code_lines(path):
    """Return the numbers of the lines that hold code: no comments, no blank lines, no docstrings."""
    lines = set()
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type not in skip:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return lines


@by_name(SOURCES)
def test_files_and_functions_are_short(path):
    lines = code_lines(path)
    assert len(lines) <= FILE_LINES, f"{path}: {len(lines)} lines of code"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = len(lines & set(range(node.lineno, node.end_lineno + 1)))
            assert length <= FUNCTION_LINES, f"{path}:{node.lineno}: {node.name} has {length} lines of code"


@by_name(SOURCES)
def test_no_globals_and_no_drawers_for_everything(path):
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    assert not [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Global)], f"{path}: global state"
