"""Regions that can't be: refused where they are written, with what is allowed."""

import pytest

from usim.errors import ConfigError
from usim.phantom.load import phantom_from_text

BASE = """probe: L11-5v
image: {x: [-10 mm, 10 mm], z: [5 mm, 30 mm], pixels: [16, 16]}
background: {echogenicity: 0 dB}
"""
PLACE = "center: [0 mm, 20 mm], echogenicity: 0"


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (f"shape: annulus, {PLACE}, inner: 3 mm, outer: 2 mm", "inner: 3 mm must be smaller than outer, 2 mm"),
        (f"shape: annulus, {PLACE}, inner: 3 mm", "needs outer beside inner 0.003"),
        (f"shape: annulus, {PLACE}", "needs inner and outer, or size"),
        (f"shape: annulus, {PLACE}, inner: 1 mm, outer: 2 mm, size: 3 mm", "exclude each other"),
        (
            f"shape: circle, {PLACE}, radius: 3 mm, wall: {{thickness: 30 mm, echogenicity: 0}}",
            "wall.thickness: 30 mm is beyond 2 cm",
        ),
        (f"shape: circle, {PLACE}, radius: 3 mm, wall: {{thickness: 1 mm}}", "wall.echogenicity: this key is required"),
        (f"shape: annulus, {PLACE}, size: 3 mm, wall: {{thickness: 1 mm}}", "wall: unknown key"),
        (f"shape: circle, {PLACE}, radius: 3 mm, edge: -1 mm", "edge: must be at least 0"),
        (f"shape: circle, {PLACE}, radius: 3 mm, edge: 1", "edge: 1 m is beyond 2 cm"),
        (f"shape: circle, {PLACE}, radius: 3 mm, per_cell: 0.01", "per_cell: must be at least 0.05"),
        ("shape: tube, path: [[0 mm, 9 mm]], radius: 1 mm, echogenicity: 0", "path: expected at least 2 values"),
        (
            "shape: tube, path: [[0 mm, 9 mm], [1 mm, 9 mm], [1 mm, 9 mm]], radius: 1 mm, echogenicity: 0",
            "path.2: lies within 1 um of the point before it",
        ),
        ("shape: tube, path: [[0 mm, 9 mm], [1 mm, 9 mm]], echogenicity: 0", "radius: this key is required"),
        (
            "shape: spline, vertices: [[0 mm, 9 mm], [5 mm, 9 mm], [3 mm, 12 mm], [0 mm, 9 mm]], echogenicity: 0",
            "vertices.0: lies within 1 um of the point before it",
        ),
        ("shape: spline, vertices: [[0 mm, 9 mm], [5 mm, 9 mm], [7 mm, 9 mm]], echogenicity: 0", "lie on one line"),
        ("shape: spline, vertices: [[0 mm, 9 mm], [5 mm, 9 mm]], echogenicity: 0", "expected at least 3 values"),
        (
            "shape: layer, z: [9 mm, 12 mm], echogenicity: 0, wave: {amplitude: 1 mm, wavelength: 0.1 mm}",
            "wave.wavelength: must be at least 0.5 mm",
        ),
        (
            "shape: layer, z: [9 mm, 12 mm], echogenicity: 0, roughness: {std: 0, correlation: 1 mm}",
            "roughness.std: must be greater than 0",
        ),
        (f"shape: circle, {PLACE}, size: 3 mm, wave: {{amplitude: 1 mm, wavelength: 3 mm}}", "wave: unknown key"),
    ],
)
def test_what_no_region_can_be_is_refused_in_its_place(region, message):
    with pytest.raises(ConfigError) as caught:
        phantom_from_text(f"{BASE}regions:\n  - {{{region}}}\n")
    text = str(caught.value)
    assert message in text
    assert text.startswith("phantom:5:"), text
    assert "regions.0" in text


@pytest.mark.parametrize("scatterers", ["{model: field}", "{file: cloud.npz}"])
def test_only_drawn_clouds_are_sparse_in_places(scatterers):
    region = f"- {{shape: circle, {PLACE}, size: 3 mm, wall: {{thickness: 1 mm, echogenicity: 0, per_cell: 2}}}}"
    with pytest.raises(ConfigError, match=r"regions\.0\.wall\.per_cell: needs scatterers that are drawn"):
        phantom_from_text(f"{BASE}scatterers: {scatterers}\nregions:\n  {region}\n")
    region = f"- {{shape: circle, {PLACE}, size: 3 mm, per_cell: 2}}"
    with pytest.raises(ConfigError, match=r"regions\.0\.per_cell: needs scatterers that are drawn"):
        phantom_from_text(f"{BASE}scatterers: {scatterers}\nregions:\n  {region}\n")


def test_both_ends_of_a_range_are_looked_at():
    region = f"- {{shape: annulus, {PLACE}, inner: {{uniform: [1 mm, 3 mm]}}, outer: 2 mm}}"
    with pytest.raises(ConfigError, match=r"inner\.uniform\.1: 3 mm must be smaller than outer, 2 mm"):
        phantom_from_text(f"{BASE}regions:\n  {region}\n")


def test_walls_and_textures_may_be_drawn():
    region = (
        f"- {{shape: {{choice: [circle, ellipse]}}, {PLACE}, size: 3 mm, edge: {{uniform: [0 mm, 1 mm]}}, "
        "per_cell: {log_uniform: [0.1, 20]}, texture: {choice: [{type: clusters, density: 2 /mm^2, size: 1 mm}, "
        "{std: {uniform: [1 dB, 4 dB]}, correlation: 1 mm}]}, "
        "wall: {thickness: {normal: [1 mm, 0.1 mm]}, echogenicity: 3}}"
    )
    assert phantom_from_text(f"{BASE}regions:\n  {region}\n").is_random
