"""Every phantom that comes with usim: what was drawn, as the file stores it, makes the same frame again."""

import json

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from usim.display import Screen
from usim.phantom.load import load_phantom, phantom_from_dict, shipped_phantoms
from usim.pipeline import Renderer

NAMES = [name for name in shipped_phantoms() if not name.startswith("evaluation/")]


@pytest.mark.parametrize("name", NAMES)
def test_stored_parameters_make_the_frame_again(name):
    phantom = load_phantom(name)
    frame = Renderer(phantom).frame(1)
    params = json.loads(json.dumps(frame.params))
    place = {key: params[key] for key in ("look", "slice", "angle", "time")}
    stored = phantom_from_dict(params["scene"], base=phantom.base)
    again = Renderer(stored, seed=params["seed"]).render(params["index"], **place)
    np.testing.assert_array_equal(again.envelope, frame.envelope)
    np.testing.assert_array_equal(again.truth.bmode, frame.truth.bmode)
    np.testing.assert_array_equal(again.truth.labels, frame.truth.labels)
    if frame.display is not None:
        np.testing.assert_array_equal(again.display, frame.display)
    assert np.isfinite(frame.truth.bmode).all()


@pytest.mark.parametrize(("name", "wanted"), [("paper-s1", 0.32), ("paper-s2", 0.32), ("paper-s3", 0.60)])
def test_sets_like_the_papers_are_as_hard(name, wanted):
    """SSIM in 8 bits of what is shown against the displayed echogenicity, two frames."""
    renderer, found = Renderer(load_phantom(name)), []
    for index in range(2):
        frame = renderer.frame(index)
        level = frame.truth.echogenicity_db - frame.params["scene"]["image"]["headroom"]
        clean = Screen.of_frame(frame).show(10.0 ** (level / 10.0))
        found.append(structural_similarity(frame.display, clean, data_range=255))
    print(name, found)
    assert np.mean(found) == pytest.approx(wanted, abs=0.03)
