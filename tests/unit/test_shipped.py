"""Every phantom that comes with usim: what was drawn, as the file stores it, makes the same frame again."""

import json

import numpy as np
import pytest

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
