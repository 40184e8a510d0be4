"""What is judged was not trained on, by construction: seeds, probes, speckle cells and shapes."""

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import usim
from s2s.evaluation.cases import OTHER_PROBE, SUITES, Simulated, Stored, Suite, cases_of, suites_of
from s2s.metrics.judged import IMAGE, LOOK, PROBE, SHAM
from s2s.seeds import held_out_seed, judged_seed, training_seed, tuning_seed
from usim.engines.cell import axial_cell, lateral_cell
from usim.engines.sector import beam_of
from usim.generate import generate
from usim.phantom.draw import draw
from usim.phantom.load import load_phantom, phantom_from_dict, phantom_from_text, shipped_phantoms
from usim.pipeline import Renderer

TRAINED = ("training", "training-wide")
VALIDATION = "evaluation/validation"
JUDGED = (*(suite.phantom for suite in SUITES), VALIDATION)
USERS = st.integers(0, 2**63 - 1)


# Seeds.


@given(st.lists(USERS, min_size=4, max_size=4))
def test_no_two_purposes_share_a_seed(seeds):
    """Not one in 2^64, but never: the purpose stands in bits of its own."""
    purposes = (training_seed, held_out_seed, judged_seed, tuning_seed)
    derived = [derive(seed) for derive, seed in zip(purposes, seeds, strict=True)]
    assert [seed >> 64 for seed in (*seeds, *derived)] == [0, 0, 0, 0, 0, 0, 1, 2]


def test_seeds_of_trainings_and_of_users_hardly_meet():
    seeds = [derive(seed) for seed in (*range(2000), 2**63 - 1) for derive in (training_seed, held_out_seed)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) > 2**32
    assert not {judged_seed(seed) for seed in range(100)} & {load_phantom(name).seed for name in shipped_phantoms()}


def test_seeds_of_trainings_stay_what_checkpoints_have():
    assert training_seed(0) == 15955056042715220471
    assert held_out_seed(0) == 9247094174113649103


@pytest.mark.parametrize("purpose", [0, 1, 2, 3])
def test_streams_of_the_same_hash_differ_by_purpose_alone(purpose):
    """Bits from 64 on change what the simulator draws: equal low bits make independent streams."""
    low = training_seed(0)
    first, second = (np.random.SeedSequence(seed, spawn_key=(0, purpose, 0)) for seed in (low, 1 << 64 | low))
    one, two = (np.random.Generator(np.random.Philox(sequence)).normal(size=100_000) for sequence in (first, second))
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / np.sqrt(one.size)


# Scenes.


@cache
def drawn(name, count=40):
    phantom = load_phantom(name)
    return [draw(phantom, 1, index) for index in range(count if phantom.is_random else 1)]


def probes_of(*names):
    return {scene.probe.name for name in names for scene in drawn(name)}


def shapes_of(*names):
    """Kinds of shapes, layers by what bends them."""
    found = set()
    for region in (region for name in names for scene in drawn(name) for region in scene.regions):
        bent = [key for key in ("wave", "roughness") if getattr(region, key, None)]
        found.add(" with ".join([region.shape, *bent]))
    return found


def cells_of(scene):
    """Axial and lateral size in mm of a speckle cell near the top, at the transmit focus and near the bottom (3, 2)."""
    beam = beam_of(scene.probe, scene.transmit, scene.receive, scene.medium, scene.image)
    top, bottom = scene.image.z
    depths = (top + 3e-3, scene.transmit.depth, bottom - 2e-3)
    return 1e3 * np.array([(axial_cell(beam, depth), lateral_cell(beam, depth)) for depth in depths])


def pixel_of(scene):
    """Height in mm of a pixel."""
    return 1e3 * (scene.image.z[1] - scene.image.z[0]) / (scene.image.pixels[1] - 1)


@cache
def trained_cells():
    """Largest axial cell of training in mm and in pixels."""
    scenes = [scene for name in TRAINED for scene in drawn(name)]
    axial = [cells_of(scene)[:, 0].max() for scene in scenes]
    return max(axial), max(cell / pixel_of(scene) for cell, scene in zip(axial, scenes, strict=True))


@pytest.mark.parametrize("name", JUDGED)
def test_the_probe_is_absent_from_training(name):
    assert not probes_of(name) & probes_of(*TRAINED)


@pytest.mark.parametrize("name", JUDGED)
def test_the_speckle_cell_is_absent_from_training(name):
    """Longer along depth than the longest of training, everywhere in the image, in mm and in pixels."""
    longest, in_pixels = trained_cells()
    for scene in drawn(name)[:8]:
        shortest = cells_of(scene)[:, 0].min()
        print(name, shortest, longest, shortest / pixel_of(scene), in_pixels)
        assert shortest > 1.1 * longest
        assert shortest / pixel_of(scene) > in_pixels


def test_the_other_probe_is_absent_too_and_coarser_still():
    (suite,) = [suite for suite in SUITES if suite.probe]
    phantom = load_phantom(suite.phantom)
    other = draw(phantom_from_dict({**phantom.document, "probe": suite.probe}, base=phantom.base), 1, 0)
    assert other.probe.name not in probes_of(*TRAINED, *JUDGED)
    assert (cells_of(other).min(axis=0) > cells_of(drawn(suite.phantom)[0]).min(axis=0)).all()
    assert cells_of(other)[:, 0].min() > 1.3 * trained_cells()[0]


def test_the_shapes_of_the_random_scenes_are_absent_from_training_and_tuning():
    assert shapes_of("evaluation/scenes") == {"spline", "annulus", "layer with roughness"}
    assert not shapes_of("evaluation/scenes") & shapes_of(*TRAINED, VALIDATION)


def test_settings_are_chosen_on_the_machine_of_the_suites_but_not_on_them():
    one, other = (load_phantom(name).document for name in ("evaluation/scenes", VALIDATION))
    for key in ("probe", "medium", "transmit", "receive", "image", "scatterers", "noise", "background"):
        assert one[key] == other[key], key
    assert one["regions"] != other["regions"]
    assert VALIDATION not in {suite.phantom for suite in suites_of("evaluation")}


def test_random_scenes_can_be_drawn_without_end():
    """`apart` finds room in every scene, whatever the seed."""
    for name in ("evaluation/scenes", VALIDATION):
        phantom = load_phantom(name)
        for seed, index in itertools.product((judged_seed(0), tuning_seed(0)), range(60)):
            assert len(draw(phantom, seed, index).regions) >= 2


def test_the_measured_cell_is_the_computed_one():
    frame = Renderer(load_phantom("evaluation/speckle-only"), seed=judged_seed(0)).render(0)
    near = slice(96, 160)  # rows about the transmit focus
    axial, lateral = usim.cell_size(frame.bmode[near], exponent=0.0)
    scene = drawn("evaluation/speckle-only")[0]
    wanted = cells_of(scene)[1] / pixel_of(scene)
    assert (axial, lateral) == pytest.approx(tuple(wanted), rel=0.15)


# Cases.


SMALL = """
probe: L7-4
transmit: {type: focused, depth: 12 mm, f_number: 3}
image: {x: [-8 mm, 8 mm], z: [5 mm, 21 mm], pixels: [64, 64]}
scatterers: {model: plane, per_cell: 10}
background: {name: tissue, echogenicity: 0 dB}
regions:
  - {name: cyst, shape: circle, center: [{uniform: [-3 mm, 3 mm]}, 12 mm], radius: 2.5 mm, echogenicity: -15 dB}
seed: 1
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "small.yaml"
    path.write_text(SMALL)
    return path


def test_further_images_show_the_same_scene_with_other_speckle(small):
    suite = Suite(str(small), sham=True, looks=2, probe=OTHER_PROBE)
    (case,) = cases_of(Simulated((suite,), scenes=1))
    frames = case.frames
    assert list(frames) == [IMAGE, SHAM, PROBE, f"{LOOK}1", f"{LOOK}2"]
    first = frames[IMAGE]
    for role, frame in frames.items():
        np.testing.assert_array_equal(frame.truth.labels, first.truth.labels)
        if role != IMAGE:
            rest = [one.bmode - one.truth.bmode for one in (frame, first)]
            assert abs(np.corrcoef(np.ravel(rest[0]), np.ravel(rest[1]))[0, 1]) < 0.15
    for look in (f"{LOOK}1", f"{LOOK}2"):
        np.testing.assert_array_equal(frames[look].truth.bmode, first.truth.bmode)
    assert np.ptp(frames[SHAM].truth.echogenicity_db) == 0
    assert frames[PROBE].params["scene"]["probe"]["name"] == OTHER_PROBE["name"]
    assert frames[PROBE].truth.resolved_db.std() < first.truth.resolved_db.std(), "coarser speckle resolves less"


def test_scenes_are_the_same_for_any_number_of_them(small):
    one, three = (list(cases_of(Simulated((Suite(str(small)),), scenes=n, seed=4))) for n in (1, 3))
    np.testing.assert_array_equal(one[0].frames[IMAGE].bmode, three[0].frames[IMAGE].bmode)
    other = next(cases_of(Simulated((Suite(str(small)),), scenes=1, seed=5)))
    assert not np.array_equal(other.frames[IMAGE].truth.labels, one[0].frames[IMAGE].truth.labels)


def test_stored_frames_of_a_scene_are_its_looks(tmp_path, small):
    text = small.read_text() + "looks: 3\n"
    generate(phantom_from_text(text, "looks.yaml", tmp_path), tmp_path / "data", frames=7, workers=1)
    cases = list(cases_of(Stored(tmp_path / "data")))
    assert [list(case.frames) for case in cases] == [[IMAGE, f"{LOOK}1", f"{LOOK}2"]] * 2 + [[IMAGE]]
    for case in cases:
        places = {(frame.params["index"]) for frame in case.frames.values()}
        assert places == {case.scene}
        assert [frame.params["look"] for frame in case.frames.values()] == list(range(len(case.frames)))
    assert [len(case.frames) for case in cases_of(Stored(tmp_path / "data", 1))] == [3]


def test_runs_with_equal_places_are_not_looks_of_one_scene(tmp_path, small):
    """Two datasets copied into one folder: frame 0 of both is scene 0, look 0."""
    (tmp_path / "both").mkdir()
    for seed in (1, 2):
        folder = tmp_path / f"seed {seed}"
        generate(load_phantom(small), folder, frames=2, workers=1, seed=seed)
        for shard in folder.glob("*.h5"):
            shard.rename(tmp_path / "both" / f"{seed}-{shard.name}")
    cases = list(cases_of(Stored(tmp_path / "both")))
    assert [list(case.frames) for case in cases] == [[IMAGE]] * 4
    assert len({case.frames[IMAGE].params["seed"] for case in cases}) == 2


def test_every_suite_exists_with_the_exact_engine():
    """Each is read and planned with it, its further images too."""
    assert callable(Simulated(engine="sir").open())
