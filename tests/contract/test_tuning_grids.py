"""The grids of `s2s tune`: every filter has one, all of it can be made, and the strength really rises."""

import numpy as np
import pytest

from s2s.domain import SPECKLE_DB, from_scale, to_scale
from s2s.methods import METHODS, make, method_class, settings_of
from s2s.methods.base import Filter
from s2s.toy import toy_looks

FILTERS = [n for n in METHODS if issubclass(method_class(n), Filter) and not method_class(n).lacking()]
LEARNED = [name for name in METHODS if not issubclass(method_class(name), Filter)]

every = pytest.mark.parametrize("name", FILTERS)


@every
def test_every_filter_says_what_is_worth_trying(name):
    kind = method_class(name)
    strength, *others = kind.TUNING
    assert 6 <= len(kind.TUNING[strength]) <= 10
    assert len(others) <= 2
    assert kind.TUNING.keys() <= settings_of(kind).keys()
    for key, values in kind.TUNING.items():
        assert len(set(values)) == len(values) > 1
        for value in values:
            assert make(name, **{key: value}).settings[key] == value


@every
def test_the_default_lies_inside_its_grid(name):
    kind = method_class(name)
    values, default = next(iter(kind.TUNING.values())), settings_of(kind)[next(iter(kind.TUNING))]
    assert min(values) < default < max(values)


@pytest.mark.parametrize("name", LEARNED)
def test_what_learns_has_no_grid(name):
    assert method_class(name).TUNING == {}


@every
def test_the_first_setting_is_the_strength_and_rises(name):
    kind = method_class(name)
    strength, values = next(iter(kind.TUNING.items()))
    image = toy_looks(np.full((80, 88), -8.0), np.random.default_rng(3), 1, clip=False)[0]
    left = []
    for value in values:
        method = make(name, **{strength: value})
        clean = from_scale(method.filter(np.asarray(to_scale(image, method.domain), np.float64)), method.domain)
        left.append(float(clean.std()) / SPECKLE_DB)
    assert np.all(np.diff(left) < 0.0), dict(zip(values, left, strict=True))
    assert left[0] > 1.3 * left[-1]
