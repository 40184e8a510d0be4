"""Quantities: exact conversion, refusals that name the cure."""

import math

import pytest

from usim.units import UNITS, Count, Quantity, parse_quantity, split_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("7.6 MHz", "frequency", 7.6e6),
        ("7600 kHz", "frequency", 7.6e6),
        ("0.3 mm", "length", 0.3e-3),
        ("300 um", "length", 0.3e-3),
        ("300 µm", "length", 0.3e-3),
        ("4cm", "length", 0.04),
        ("-19 mm", "length", -0.019),
        ("1.54 mm/us", "speed", 1540.0),
        ("0.5 dB/cm/MHz", "attenuation", 0.5),
        ("0.00005 dB/m/Hz", "attenuation", 0.5),
        ("180 deg", "angle", math.pi),
        ("77 %", "fraction", 0.77),
        ("-12 dB", "level", -12.0),
        ("1 dB/mm", "level slope", 10.0),
        ("5e6", "frequency", 5e6),
        (0.04, "length", 0.04),
        (3, "number", 3.0),
    ],
)
def test_quantity_is_the_float_a_person_writes(text, dimension, value):
    assert parse_quantity(text, dimension) == value


@pytest.mark.parametrize("millimetres", ["0.1", "0.3", "0.7", "1.1", "2.3", "29", "41.7"])
def test_a_decimal_shift_is_exact(millimetres):
    """0.3 * 1e-3 is 0.00029999999999999997; a file must hold the float that 0.3e-3 is."""
    assert parse_quantity(f"{millimetres} mm", "length") == float(f"{millimetres}e-3")


@pytest.mark.parametrize("dimension", UNITS)
def test_every_unit_has_one_dimension(dimension):
    for unit in filter(None, UNITS[dimension]):
        assert split_quantity(f"1 {unit}")[1] == dimension


@pytest.mark.parametrize(
    ("value", "dimension", "message"),
    [
        ("20 MHz", "length", "is a frequency, not a length"),
        ("20 mhz", "frequency", "did you mean 'MHz'"),
        ("20 furlong", "length", "a length: m, mm, cm, um"),
        ("mm", "length", "expected a number"),
        ("1 2 mm", "length", "expected a number"),
        ("", "length", "expected a number"),
        (True, "length", "got true"),
        (None, "number", "got null"),
        ([1], "number", "a list of 1"),
        ("nan", "length", "expected a number"),
        (math.inf, "length", "must be finite"),
        ("1" * 200, "number", "expected a number"),
        ("1e999 mm", "length", "must be finite"),
        ("3 mm", "number", "a plain number"),
    ],
)
def test_what_is_no_quantity_is_refused(value, dimension, message):
    with pytest.raises(ValueError, match=message):
        parse_quantity(value, dimension)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (40, "40 m is beyond 0.5 m; did you mean 40 mm"),
        ("40", "40 m is beyond 0.5 m; did you mean 40 mm"),
        ("40 m", "40 m is beyond 0.5 m; did you mean 40 mm"),
        (0, r"must be greater than 0 \(got 0 m\)"),
        ("-3 mm", r"must be greater than 0 \(got -3 mm\)"),
    ],
)
def test_a_limit_is_named_with_the_unit_that_was_meant(value, message):
    with pytest.raises(ValueError, match=message):
        Quantity("length", above=0, most=0.5).check(value)


def test_words_stand_beside_numbers():
    mark = Quantity("level", least=-90, most=60, words=("anechoic",))
    assert mark.check("anechoic") == "anechoic"
    assert mark.check("-12 dB") == -12.0
    with pytest.raises(ValueError, match="did you mean 'anechoic'"):
        mark.check("anecoic")


@pytest.mark.parametrize("value", [1.5, True, "3", None, 0, 11, math.nan, math.inf, 1e30])
def test_a_count_is_a_whole_number_within_limits(value):
    with pytest.raises(ValueError, match="whole number from 1 to 10"):
        Count(1, 10).check(value)


def test_a_count_accepts_a_float_without_fraction():
    assert Count(1, 10).check(1e1) == 10


def test_refusals_speak_english():
    with pytest.raises(ValueError, match=r"1 Hz is a frequency, not an angular rate \(an angular rate: rad/s, deg/s\)"):
        parse_quantity("1 Hz", "angular rate")
