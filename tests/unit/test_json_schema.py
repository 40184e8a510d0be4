"""The shipped JSON Schema is current, accepts what loads, and refuses what editors should mark."""

import json
from pathlib import Path

import jsonschema
import pytest

from usim.phantom.json_schema import json_schema, schema_text
from usim.phantom.load import load_phantom, shipped_phantoms

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_the_shipped_schema_is_current():
    shipped = (ROOT / "phantoms" / "schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(), "write usim.phantom.json_schema.schema_text() to phantoms/schema.json"


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("name", [*shipped_phantoms(), "tests/data/cyst.yaml", "tests/data/training.yaml"])
def test_what_loads_is_accepted(name):
    phantom = load_phantom(ROOT / name if name.endswith(".yaml") else name)
    assert [error.message for error in VALIDATOR.iter_errors(phantom.document)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"probe": "L11"},
        {"probe": {"elements": 128}},
        {"frames": {"integer": [1, 2]}},
        {"frames": 0},
        {"noise": {"snr": "50 mm"}},
        {"noise": {"snr": {"uniform": [1, 2, 3]}}},
        {"receive": {"apodization": "han"}},
        {"regions": [{"shape": "circle", "center": [0, 0.01], "radus": 1, "echogenicity": 0}]},
        {"image": {"x": [0, 0.01], "z": [0.01, 0.02], "pixels": [{"integer": [2, 8]}, 8]}},
        {"nois": {"snr": 50}},
    ],
)
def test_mistakes_are_marked(change):
    assert not VALIDATOR.is_valid({**load_phantom("cyst").document, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"probe": {"preset": "L11-5v", "pitch": {"uniform": ["0.27 mm", "0.3 mm"]}}},
        {"noise": {"choice": [{"snr": 50}, {"snr": 30}]}},
        {"points": [{"repeat": {"integer": [0, 3]}, "position": [0, "1 cm"], "amplitude": {"normal": [20, 1]}}]},
        {"tgc": {"choice": ["auto", "1 dB/cm"]}},
        {"scatterers": {"file": "cloud.npz"}},
    ],
)
def test_ranges_presets_and_repeats_are_accepted(change):
    assert [e.message for e in VALIDATOR.iter_errors({**load_phantom("cyst").document, **change})] == []
