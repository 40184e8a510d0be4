"""Whatever a phantom file holds, loading it yields a phantom or a ConfigError with its line, soon."""

import contextlib
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from surroundings import PATIENCE

from usim.errors import ConfigError, UsimError
from usim.phantom.draw import draw
from usim.phantom.load import load_phantom, phantom_from_text
from usim.phantom.strict_yaml import read_yaml

MINIMAL = "probe: L7-4\nimage: {x: [-1 cm, 1 cm], z: [5 mm, 4 cm], pixels: [8, 8]}\nbackground: {echogenicity: 0}\n"
BOMB = "a: &a [1, 1]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))

# (name, text, line of the error, words of the message)
TRAPS = [
    ("bomb", BOMB, 1, "anchors and aliases"),
    ("alias", MINIMAL + "noise: *n\n", 4, "anchors and aliases"),
    ("5,000 deep", MINIMAL + "noise: " + "[" * 5000, 4, "nested deeper than 32"),
    ("5,000 deep in blocks", "".join(f"{' ' * i}a:\n" for i in range(500)), 33, "nested deeper than 32"),
    ("too long", MINIMAL + "# " + "x" * 1_000_000, 1, "more than 1000000 bytes"),
    ("many nodes", MINIMAL + "points: [" + "1," * 60_000 + "1]", 4, "more than 50000 values"),
    ("duplicate", MINIMAL + "seed: 1\nseed: 2\n", 5, "duplicate key, first on line 4"),
    ("nested duplicate", MINIMAL + "noise: {snr: 1, snr: 2}\n", 4, "noise.snr: duplicate key"),
    ("python tag", MINIMAL + "noise: !!python/object/apply:os.system ['true']\n", 4, "tags are not allowed"),
    ("own tag", MINIMAL + "noise: !x 3\n", 4, "tags are not allowed"),
    ("string tag", MINIMAL + "seed: !!int '3'\n", 4, "tags are not allowed"),
    ("nan", MINIMAL + "noise: {snr: .nan}\n", 4, "noise.snr: must be finite, got nan"),
    ("inf", MINIMAL + "noise: {snr: -.inf}\n", 4, "noise.snr: must be finite, got -inf"),
    ("no", MINIMAL + "noise: no\n", 4, "noise: expected a mapping of keys, got no"),
    ("yes", MINIMAL + "frames: yes\n", 4, "frames: expected a whole number from 1 to 1000000000, got yes"),
    ("true", MINIMAL + "frames: true\n", 4, "got true"),
    ("sexagesimal", MINIMAL + "seed: 1:30\n", 4, "got 1:30"),
    ("tabs", MINIMAL + "noise:\n\tsnr: 3\n", 5, "tabs can't indent YAML"),
    ("tab in flow", MINIMAL + "\tnoise: {snr: 3}\n", 4, "tabs can't indent YAML"),
    ("empty", "", 1, "is empty"),
    ("only a comment", "# nothing\n", 1, "is empty"),
    ("a list", "- probe\n", 1, "expected a mapping with probe, image and background"),
    ("a word", "cyst\n", 1, "expected a mapping"),
    ("two documents", MINIMAL + "---\nseed: 3\n", 4, "a second document"),
    ("control character", MINIMAL + "noise: \x01\n", 4, "not YAML"),
    ("open bracket", MINIMAL + "noise: {snr: 3\n", 5, "not YAML"),
    ("open quote", MINIMAL + "description: 'a\n", 5, "not YAML"),
    ("mapping as key", MINIMAL + "? {a: 1}\n: 2\n", 4, "a key must be a word"),
    ("merge key", MINIMAL + "<<: {seed: 3}\n", 4, "<<: unknown key"),
    ("huge integer", MINIMAL + f"seed: {'9' * 5000}\n", 4, "seed: expected a whole number"),
    ("half a surrogate", MINIMAL + "description: \ud800\n", 1, "surrogate"),
]


@pytest.mark.parametrize(("text", "line", "message"), [trap[1:] for trap in TRAPS], ids=[trap[0] for trap in TRAPS])
def test_traps_are_refused_with_their_line(text, line, message):
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        phantom_from_text(text, "p.yaml")
    seconds = time.process_time() - start
    assert message in str(caught.value)
    assert re.match(rf"p\.yaml:{line}:\d+: ", str(caught.value)), str(caught.value)
    # Each takes below 0.1 s (60,000 nodes: 0.09 s, the others below 0.01 s): what unfolds a trap takes for ever.
    assert seconds < PATIENCE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e6", 5e6),
        ("5.0e6", 5e6),
        ("300e-6", 300e-6),
        (".5", 0.5),
        ("-1.", -1.0),
        ("017", 17),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("'5e6'", "5e6"),
        ("2026-11-22", "2026-11-22"),
        ("~", None),
        ("null", None),
        ("True", True),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    read = read_yaml(f"a: {text}", "p.yaml").data["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), lambda t: t + "\n\n"])
def test_a_byte_order_mark_and_other_line_ends_are_fine(tmp_path, change):
    path = tmp_path / "p.yaml"
    path.write_bytes(change(MINIMAL).encode("utf-8"))
    assert load_phantom(path).document == phantom_from_text(MINIMAL).document


def test_lines_are_counted_with_any_line_end():
    with pytest.raises(ConfigError, match=r"^p\.yaml:5:1: sed: unknown key"):
        phantom_from_text((MINIMAL + "\nsed: 3\n").replace("\n", "\r\n"), "p.yaml")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"probe: L7-4\nimage: \xff\xfe\n", "p.yaml:2:8: not UTF-8"),
        (MINIMAL.encode("utf-16"), "p.yaml:1:1: not UTF-8"),
        (b"x" * 1_000_001, "p.yaml:1:1: more than 1000000 bytes"),
        (b"\x00" * 100, "p.yaml:1:1: not YAML"),
        (bytes(range(256)), "not UTF-8"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path, raw, message):
    (tmp_path / "p.yaml").write_bytes(raw)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_phantom(tmp_path / "p.yaml")


KEYS = st.sampled_from(
    ["probe", "image", "background", "regions", "points", "noise", "snr", "shape", "center", "size", "x", "z", "pixels",
     "repeat", "uniform", "log_uniform", "normal", "integer", "choice", "echogenicity", "texture", "std", "correlation",
     "transmit", "type", "depth", "scatterers", "per_cell", "tgc", "seed", "frames", "vertices", "preset", "medium"]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["L11-5v", "3 mm", "-2 dB", "anechoic", "circle", "polygon", "layer", "focused", "hann"]),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=5),
        st.builds(lambda key, value: {key: value}, st.sampled_from(["uniform", "integer", "choice"]), st.lists(inner)),
    ),
    max_leaves=25,
)


def flow(node) -> str:
    """Write a tree as YAML flow, with plain scalars, so that the reader has to resolve them."""
    if isinstance(node, dict):
        return "{" + ", ".join(f"{key}: {flow(value)}" for key, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(flow, node)) + "]"
    return str(node)


def loads_or_refuses(text: str) -> None:
    refusal = ""
    try:
        phantom = phantom_from_text(text, "p.yaml")
    except ConfigError as error:
        refusal = str(error)
    else:
        with contextlib.suppress(ConfigError):
            draw(phantom, index=1)
    assert not refusal or re.match(r"p\.yaml:\d+:\d+: ", refusal)


DOCUMENTS = st.one_of(
    st.text(max_size=60),
    TREES.map(flow),
    st.builds(lambda key, tree: f"{MINIMAL}{key}: {flow(tree)}\n", KEYS, TREES),
)
RELAXED = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


@settings(max_examples=200, **RELAXED)
@given(DOCUMENTS)
def test_any_document_loads_or_is_refused(text):
    loads_or_refuses(text)


@pytest.mark.slow
@settings(max_examples=10_000, **RELAXED)
@given(DOCUMENTS)
def test_10000_documents_load_or_are_refused(text):
    loads_or_refuses(text)


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ("image: {x: [0, 1 cm], z: [2 cm, 1 cm], pixels: [8, 8]}", "[2 cm, 1 cm]", "image.z: the end"),
        ("interfaces: [{path: [[0, 1 cm], [0, 1 cm]], amplitude: 0}]", "[[0, 1 cm]", "interfaces.0.path: points 1 and"),
        ("sweep: {slices: 3, step: 1 mm}", "{slices", "sweep: needs scatterers in three dimensions"),
        ("transmit: {type: focused, depth: 2 cm}\nangles: [0, 5 deg]", "[0, 5", "angles: only plane waves are steered"),
        ("scatterers: {model: field}\nengine: sir", "sir", "engine: sir needs scatterers"),
        (
            "sequence: {times: 3, rate: 1 Hz, motions: [{type: strain, center: [0, 1 cm], rate: 1}]}",
            "{type: strain",
            "sequence.motions.0: the strain reaches 200 %",
        ),
        (
            "regions: [{name: a, shape: circle, center: [0, 1 cm], radius: 1 mm, echogenicity: 0}]\n"
            "sequence: {times: 2, rate: 9 Hz, motions: [{type: flow, region: a, velocity: 0}, "
            "{type: flow, region: a , velocity: 1 mm/s}]}",
            "a , velocity",
            "sequence.motions.1.region: 'a' has a flow already, motion 0",
        ),
        ("scatterers: {file: .}", ".}", "scatterers.file: "),
    ],
)
def test_what_does_not_fit_is_shown_where_it_is_written(text, value, message):
    """Checks of several keys together name one of them, and the caret stands below its value."""
    whole = "".join(line for line in MINIMAL.splitlines(True) if not text.startswith(line.split(":")[0])) + text
    with pytest.raises(UsimError) as caught:
        phantom_from_text(whole)
    found = str(caught.value)
    before = whole[: whole.index(value)]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    assert found.startswith(f"phantom:{line}:{column}: {message}"), found
