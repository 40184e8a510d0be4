"""Any document of the language is drawn and simulated, or refused where it is written."""

import contextlib
import json
import re

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from language import documents

from usim.errors import ConfigError, UsimError
from usim.phantom.draw import draw
from usim.phantom.load import phantom_from_dict
from usim.phantom.schema import Scene
from usim.phantom.truth import echogenicity_db_at, label_at, label_names
from usim.pipeline import simulate

RELAXED = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}
MORE = ("looks", "sweep", "angles", "compound", "sequence")
ENOUGH = 4
X, Z = np.linspace(-14e-3, 14e-3, 15)[None, :], np.linspace(2e-3, 30e-3, 16)[:, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that documents name."""
    home = tmp_path_factory.mktemp("language")
    labels = (np.arange(600).reshape(20, 30) // 100).astype(np.uint8)
    PIL.Image.fromarray(labels).save(home / "map.png")
    np.save(home / "map.npy", np.stack([labels, labels + 1, labels * 20]).astype(np.uint8))
    place = np.random.default_rng(1).uniform([-0.01, -1e-3, 5e-3], [0.01, 1e-3, 0.03], (200, 3))
    np.savez(home / "cloud.npz", position=place, amplitude=np.ones(200))
    return home


def drawn_or_refused(document, folder):
    """Return whether a document is a phantom; every scene that it draws can be evaluated and stored."""
    refusal = "phantom:1:1: "
    try:
        phantom = phantom_from_dict(document, base=folder)
    except UsimError as error:
        refusal = str(error)
        phantom = None
    assert re.match(r"phantom:\d+:\d+: ", refusal), refusal
    for index in range(2) if phantom else ():
        try:
            scene = draw(phantom, index=index)
        except ConfigError as error:
            assert re.match(rf"phantom: frame {index} of seed {phantom.seed}\b", str(error)), str(error)  # noqa: PT017
            continue
        assert Scene.model_validate(json.loads(json.dumps(scene.model_dump(mode="json")))) == scene
        assert draw(phantom, index=index) == scene
        level, labels = echogenicity_db_at(scene, X, Z), label_at(scene, X, Z)
        assert level.shape == labels.shape == (16, 15)
        assert np.isfinite(level).all()
        assert labels.max() < len(label_names(scene))
    return phantom is not None


def test_any_document_of_the_language_is_drawn_or_refused(folder):
    seen = []

    @settings(max_examples=120, **RELAXED)
    @given(documents())
    def check(document):
        seen.append(drawn_or_refused(document, folder))

    check()
    # Neither side may be empty, or the test says nothing about it.
    assert 0.05 < np.mean(seen) < 0.95, np.mean(seen)


def test_a_few_documents_of_the_language_are_simulated(folder):
    """One image each, without the looks, slices and times that make more of the same."""
    shown = []

    @settings(max_examples=60, **RELAXED)
    @given(documents())
    def check(document):
        kept = {key: value for key, value in document.items() if key not in MORE}
        if len(shown) < ENOUGH and drawn_or_refused(kept | {"scatterers": {"model": "field"}}, folder):
            phantom = phantom_from_dict(kept | {"scatterers": {"model": "field"}}, base=folder)
            with contextlib.suppress(UsimError):
                frame = simulate(phantom)
                assert np.isfinite(frame.truth.bmode).all()
                assert frame.bmode.shape == frame.truth.labels.shape == (16, 12)
                shown.append(frame)

    check()
    assert len(shown) == ENOUGH


@pytest.mark.slow
@settings(max_examples=1500, **RELAXED)
@given(documents())
def test_1500_documents_of_the_language_are_drawn_or_refused(folder, document):
    drawn_or_refused(document, folder)
