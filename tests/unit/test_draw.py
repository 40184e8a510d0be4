"""Drawing: reproducible, addressed, and distributed as written."""

import math

import numpy as np
import pytest

from usim.errors import ConfigError
from usim.phantom.draw import NOISE, PARAMETERS, SCATTERERS, draw, substream
from usim.phantom.load import load_phantom, phantom_from_dict
from usim.phantom.schema import Scene

BASE = {
    "probe": "L7-4",
    "image": {"x": ["-1 cm", "1 cm"], "z": ["5 mm", "4 cm"], "pixels": [8, 8]},
    "background": {"echogenicity": 0},
}


def drawn(snr, count=2000):
    phantom = phantom_from_dict({**BASE, "noise": {"snr": snr}})
    return np.array([draw(phantom, index=i).noise.snr for i in range(count)])


def test_a_scene_depends_on_seed_and_index_alone():
    training = load_phantom("training")
    scenes = [draw(training, index=i) for i in range(6)]
    assert [draw(training, index=i) for i in reversed(range(6))] == scenes[::-1]
    assert draw(training, seed=1, index=2) == scenes[2]
    assert len(set(scenes)) == 6
    assert draw(training, seed=2, index=2) != scenes[2]


def test_substreams_are_apart():
    addresses = [(7, 0, PARAMETERS, 0), (7, 0, SCATTERERS, 0), (7, 0, NOISE, 0), (7, 0, NOISE, 1), (7, 1, NOISE, 0)]
    assert len({substream(*address).random() for address in addresses}) == len(addresses)


def test_the_stream_is_pinned():
    """A change of these numbers changes every dataset ever made: it needs a new major version."""
    assert substream(7, 3, SCATTERERS, 1).integers(2**32, size=2).tolist() == [2613227454, 4190141443]


@pytest.mark.parametrize("name", ["cyst", "training"])
def test_scenes_survive_json(name):
    for index in range(10):
        scene = draw(load_phantom(name), index=index)
        assert Scene.model_validate(scene.model_dump(mode="json")) == scene


def test_uniform():
    values = drawn({"uniform": ["10 dB", "30 dB"]})
    assert 10 <= values.min() < 10.1 < 29.9 < values.max() <= 30
    assert values.mean() == pytest.approx(20, abs=4 * 20 / math.sqrt(12 * 2000))


def test_log_uniform():
    logs = np.log(drawn({"log_uniform": [1, 100]}))
    assert 0 <= logs.min() < logs.max() <= math.log(100) + 1e-12
    assert logs.mean() == pytest.approx(math.log(10), abs=4 * math.log(100) / math.sqrt(12 * 2000))


def test_normal():
    values = drawn({"normal": ["30 dB", "5 dB"]})
    assert np.abs(values - 30).max() <= 20
    assert values.mean() == pytest.approx(30, abs=4 * 5 / math.sqrt(2000))
    assert values.std() == pytest.approx(5, rel=4 / math.sqrt(4000))


def test_integer_and_choice():
    counts = np.bincount(drawn({"integer": [2, 4]}).astype(int), minlength=5)
    assert counts[:2].tolist() == [0, 0]
    assert np.abs(counts[2:] - 2000 / 3).max() < 4 * math.sqrt(2000 * 2 / 9)
    values = drawn({"choice": [1, {"uniform": [5, 6]}]})
    assert np.abs((values == 1).sum() - 1000) < 4 * math.sqrt(500)
    assert ((values == 1) | ((values >= 5) & (values <= 6))).all()


def test_repeat_draws_each_copy_by_itself():
    item = {"repeat": {"integer": [0, 3]}, "position": [{"uniform": ["-1 cm", "1 cm"]}, "2 cm"], "amplitude": 20}
    phantom = phantom_from_dict({**BASE, "points": [item, {**item, "repeat": 2}]})
    scenes = [draw(phantom, index=i) for i in range(60)]
    assert {len(scene.points) for scene in scenes} == {2, 3, 4, 5}
    assert all(len({point.position for point in scene.points}) == len(scene.points) for scene in scenes)


def test_an_option_may_be_a_mapping():
    options = [{"type": "plane"}, {"type": "focused", "depth": {"uniform": ["1 cm", "3 cm"]}}]
    phantom = phantom_from_dict({**BASE, "transmit": {"choice": options}})
    assert {draw(phantom, index=i).transmit.type for i in range(20)} == {"plane", "focused"}


def test_texture_is_drawn_only_when_the_phantom_is_random():
    texture = {"echogenicity": 0, "texture": {"std": 2, "correlation": "2 mm"}}
    still = phantom_from_dict({**BASE, "background": texture})
    assert not still.is_random
    assert draw(still, index=0) == draw(still, index=9)
    assert draw(still).background.texture.seed == 0
    moving = phantom_from_dict({**BASE, "background": texture, "noise": {"snr": {"uniform": [20, 40]}}})
    assert len({draw(moving, index=i).background.texture.seed for i in range(5)}) == 5


def test_draws_that_do_not_fit_together_are_named():
    image = {**BASE["image"], "x": [{"uniform": [-0.02, 0.01]}, {"uniform": [0.0, 0.02]}]}
    phantom = phantom_from_dict({**BASE, "image": image})
    message = r"frame \d+ of seed 0 draws values that do not fit together(.|\n)*image\.x:"
    with pytest.raises(ConfigError, match=message):
        [draw(phantom, index=index) for index in range(100)]
