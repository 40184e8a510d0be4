"""The scanner's display: its curves and their inverse, its gains, and what it shows on average."""

import numpy as np
import pytest

import usim
from usim.display import Screen, gain_error_db, level_of
from usim.errors import ConfigError, DataError
from usim.generate import generate
from usim.info import describe
from usim.intensity import LOOKS, drop_db, looks_of_drop, rice_survival, sparse_place, sparse_survival
from usim.io.packing import bytes_per_frame
from usim.phantom.draw import draw
from usim.phantom.load import phantom_from_text
from usim.phantom.screen import Display
from usim.pipeline import Renderer

LOG = {"type": "log", "dynamic_range": 60.0, "white": -5.0}
POWER = {"type": "power", "exponent": 0.4, "black": -48.0, "white": -3.0}
CURVES = {
    "log": LOG,
    "power": POWER,
    "steep power": {**POWER, "exponent": 1.5, "black": -150.0},
    "nearly log": {**POWER, "exponent": 0.05},
}
DEPTH = np.linspace(5e-3, 45e-3, 64)
BASE = """
probe: L11-5v
transmit: {type: focused, depth: 15 mm}
image: {x: [-4 mm, 4 mm], z: [8 mm, 20 mm], pixels: [40, 60]}
scatterers: {model: field}
background: {echogenicity: 0 dB}
"""


def drawn(law, count, seed=1):
    """`count` draws of intensity of unit mean: (ratio K, nu, looks)."""
    generator = np.random.default_rng(seed)
    ratio, nu, looks = law
    total = np.zeros(count)
    for _ in range(looks):
        tau = 1.0 if np.isinf(nu) else generator.gamma(nu, 1.0 / nu, count)
        noise = generator.standard_normal(count) + 1j * generator.standard_normal(count)
        total += np.abs(np.sqrt(ratio) + np.sqrt(tau / 2.0) * noise) ** 2
    return total / looks / (1.0 + ratio)


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_the_inverse_recovers_decibels(curve, gamma):
    """To 1e-6 dB inside the limits, and with 8 bits to half a step of the curve there."""
    error = {"sliders": [0.0, 3.0, -2.0]}
    screen = Screen.of({"curve": curve, "gamma": gamma, "gain": 4.0, "bits": 32, "tgc_error": error}, DEPTH)
    low, high = (level_of(np.array(grey), screen.display) for grey in (0.02, 0.98))
    level = np.linspace(low, high, 50)[None, :] - screen.gain_db
    assert np.abs(screen.to_db(screen.grey(10.0 ** (level / 10.0))) - level).max() < 1e-6
    eight = Screen.of({"curve": curve, "gamma": gamma, "gain": 4.0, "tgc_error": error}, DEPTH)
    stored = eight.show(10.0 ** (level / 10.0))
    assert stored.dtype == np.uint8
    around = [np.clip((stored + shift) / 255.0, 0.0, 1.0) for shift in (-0.5, 0.5)]
    bottom, top = (level_of(grey, eight.display) - eight.gain_db for grey in around)
    assert (bottom - 1e-9 <= level).all()
    assert (level <= top + 1e-9).all()
    assert np.abs(eight.to_db(stored) - level).max() <= np.max(top - bottom)


def test_grey_is_the_documented_formula():
    power = np.array([[1e-9, 3e-5, 1e-3, 0.2, 4.0]])
    level = 10.0 * np.log10(power)
    log = Screen.of({"curve": LOG, "bits": 32}, DEPTH[:1]).grey(power)
    assert log == pytest.approx(np.clip(1.0 + (level + 5.0) / 60.0, 0.0, 1.0), abs=1e-12)
    bright, dark = 10.0 ** (-0.3 * 0.2), 10.0 ** (-4.8 * 0.2)
    powered = Screen.of({"curve": POWER, "bits": 32, "gamma": 2.0}, DEPTH[:1]).grey(power)
    assert powered == pytest.approx(np.clip((power**0.2 - dark) / (bright - dark), 0.0, 1.0) ** 2, abs=1e-12)


def test_gains_are_added_in_decibels_at_their_depth():
    flat = Screen.of({"curve": LOG, "bits": 32}, DEPTH)
    steps = {"sliders": ["-2 dB", "6 dB", "0 dB"]}
    tuned = Screen.of({"curve": LOG, "bits": 32, "gain": "1 dB", "tgc_error": steps}, DEPTH)
    wanted = 1.0 + np.interp(DEPTH, [5e-3, 25e-3, 45e-3], [-2.0, 6.0, 0.0])
    power = np.full((64, 3), 1e-3)
    assert (tuned.grey(power) - flat.grey(power)) * 60.0 == pytest.approx(np.tile(wanted[:, None], 3), abs=1e-9)


def test_a_drifting_gain_has_its_spread_and_correlation():
    """Over 400 seeds: std within 5 %, autocorrelation 1/e at its length within 0.06; the same for any image depths."""
    depth = np.linspace(10e-3, 50e-3, 81)
    drift = np.array([gain_error_db(_drift(seed), depth) for seed in range(400)])
    assert drift.std() == pytest.approx(3.0, rel=0.05)
    lag = round(8e-3 / (depth[1] - depth[0]))
    assert (drift[:, lag:] * drift[:, :-lag]).mean() / 9.0 == pytest.approx(np.exp(-1.0), abs=0.06)
    part = gain_error_db(_drift(7), depth[20:60])
    assert part == pytest.approx(drift[7, 20:60], abs=1e-9)


def _drift(seed):
    return Display(tgc_error={"std": 3.0, "correlation": 8e-3, "seed": seed})


LAWS = {
    "speckle": (0.0, np.inf, 1),
    "fixed echo": (3.0, np.inf, 1),
    "strong fixed echo": (300.0, np.inf, 1),
    "few scatterers": (0.0, 2.0, 1),
    "very few scatterers": (0.0, 0.3, 1),
    "fixed echo and few scatterers": (1.5, 3.0, 1),
    "four looks": (0.0, np.inf, 4),
}


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_truth_equals_the_mean_of_draws_of_the_law(law, bits):
    """600000 draws, all curves, black to white: within 1e-3 of full scale and 3 standard errors, few mixed 2e-3."""
    ratio, nu, looks = law
    sample = drawn(law, 600_000)[None]
    place = np.full((1, 1), LOOKS.index(float(looks)), float)
    for curve in CURVES.values():
        screen = Screen.of({"curve": curve, "bits": bits}, DEPTH[:1])
        for mean_db in (-70.0, -45.0, -25.0, -8.0, 3.0):
            mean = np.full((1, 1), 10.0 ** (mean_db / 10.0))
            shown = screen.show(sample * mean) / screen.full_scale
            diffuse = mean / (1.0 + ratio)
            found = screen.mean(diffuse, mean - diffuse, 2.0 * diffuse**2 / nu, place)[0, 0] / screen.full_scale
            error = 3.0 * shown.std() / np.sqrt(shown.size) + (2e-3 if ratio and np.isfinite(nu) else 3e-4)
            assert found == pytest.approx(shown.mean(), abs=error), (curve, mean_db)


def test_a_certain_echo_is_shown_as_it_is():
    screen = Screen.of({"curve": LOG}, DEPTH[:1])
    fixed, none = np.full((1, 1), 10.0**-2.03), np.zeros((1, 1))
    assert screen.mean(1e-9 * fixed, fixed, none)[0, 0] == screen.show(fixed)[0, 0]


def test_rounding_is_in_the_truth():
    """Just below the first step 8 bits are black, whatever the curve says on average."""
    curve = {"type": "log", "dynamic_range": 150.0, "white": 0.0}
    fixed = np.full((1, 1), 10.0 ** ((-150.0 + 0.25 * 150.0 / 255.0) / 10.0))
    zero = np.zeros((1, 1))
    coarse, fine = (Screen.of({"curve": curve, "bits": bits}, DEPTH[:1]) for bits in (8, 32))
    level = 10.0 * np.log10(fixed)
    assert coarse.mean_of(level, np.full((1, 1), 5e3), zero)[0, 0] < 0.1
    assert fine.mean_of(level, np.full((1, 1), 5e3), zero)[0, 0] * 255.0 == pytest.approx(0.25, abs=0.02)


def test_sparse_survival_is_the_k_distribution():
    """P(I > r) = 2 / Gamma(nu) (nu r)^(nu/2) K_nu(2 sqrt(nu r)) at the rows' own nu: 1e-5."""
    from scipy.special import gammaln, kv

    level = 10.0 ** (np.arange(-400, 200) / 100.0)
    table = sparse_survival(1.0)[:, 600:1200]
    for nu in (0.2, 1.0, 3.0, 8.0):
        place = float(sparse_place(np.array(1.0 / nu)))
        row = int(place)
        found = table[row] + (place - row) * (table[row + 1] - table[row])
        wanted = 2.0 * np.exp(0.5 * nu * np.log(nu * level) - gammaln(nu)) * kv(nu, 2.0 * np.sqrt(nu * level))
        assert found == pytest.approx(wanted, abs=4e-4)
    assert rice_survival(1.0)[0, 600:1200] == pytest.approx(np.exp(-level), abs=1e-12)


def test_looks_are_found_again_from_their_logarithm():
    ratio, place = np.array([0.0, 0.5, 4.0]), np.array([0.7, 3.2, 7.9])
    assert looks_of_drop(drop_db(place, ratio), ratio) == pytest.approx(place, abs=1e-6)
    gamma_l = drop_db(np.array([2.0]), np.array([0.0]))
    assert gamma_l == pytest.approx(10.0 / np.log(10.0) * (1.0 - np.euler_gamma - np.log(2.0)), abs=1e-3)


def test_bmode_does_not_know_of_the_display():
    plain, shown = (Renderer(phantom_from_text(BASE + more)).render(0) for more in ("", "display: {gain: 9 dB}\n"))
    assert np.array_equal(plain.bmode, shown.bmode)
    assert np.array_equal(plain.truth.bmode, shown.truth.bmode)
    assert plain.display is None
    assert plain.truth.display is None
    assert shown.display.dtype == np.uint8
    assert shown.truth.display.dtype == np.float32


def test_a_stored_scene_shows_the_same_again():
    text = BASE + "display: {gain: {uniform: [-3 dB, 3 dB]}, tgc_error: {std: 2 dB}, curve: {type: power}}\n"
    frame = Renderer(phantom_from_text(text)).render(2)
    error = frame.params["scene"]["display"]["tgc_error"]
    assert error["seed"] > 0
    assert frame.params["scene"]["display"]["gain"] != 0.0
    screen = Screen.of_frame(frame)
    assert np.array_equal(screen.show(frame.envelope.astype(np.float64) ** 2), frame.display)
    other = draw(phantom_from_text(text), index=3).display
    assert other.tgc_error.seed != error["seed"]


def test_persistence_averages_what_came_before():
    """Three of five times, whatever is made first; noise makes the times differ; the mean is of greys not rounded."""
    text = BASE.replace("{model: field}", "{per_cell: 5}") + "noise: {snr: 3 dB}\nsequence: {times: 5, rate: 10 Hz}\n"
    one = Renderer(phantom_from_text(text + "display: {bits: 32}\n"))
    three = Renderer(phantom_from_text(text + "display: {bits: 32, persistence: 3}\n"))
    single = [one.render(0, time=t) for t in range(5)]
    late = three.render(0, time=4)
    assert late.display == pytest.approx(np.mean([frame.display for frame in single[2:]], axis=0), abs=1e-6)
    assert late.truth.display == pytest.approx(np.mean([f.truth.display for f in single[2:]], axis=0), abs=2e-4)
    early = three.render(0, time=1)
    assert early.display == pytest.approx(np.mean([frame.display for frame in single[:2]], axis=0), abs=1e-6)
    again = Renderer(three.phantom)
    assert all(np.array_equal(again.frame(t).display, three.render(0, time=t).display) for t in range(5))
    assert np.array_equal(late.bmode, single[4].bmode)


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (32, np.float32)])
def test_files_hold_the_display_as_it_is(bits, kind, tmp_path):
    """With its own type, and only where there is one; the size is foreseen, and `info` lists it."""
    phantom = phantom_from_text(BASE + f"display: {{bits: {bits}}}\nframes: 2\n")
    generate(phantom, tmp_path / "shown", workers=1)
    made = Renderer(phantom).frame(1)
    found = usim.open(tmp_path / "shown")[1]
    assert found.display.dtype == kind
    assert np.array_equal(found.display, made.display)
    assert np.array_equal(found.truth.display, made.truth.display)
    assert Screen.of_frame(found).to_db(found.display).shape == (60, 40)
    assert "display" in describe(tmp_path / "shown").partition("datasets")[2].splitlines()[0]
    assert bytes_per_frame((40, 60), ("display",)) == bytes_per_frame((40, 60)) + 8 * 40 * 60
    generate(phantom_from_text(BASE), tmp_path / "plain", workers=1)
    plain = usim.open(tmp_path / "plain")[0]
    assert plain.display is None
    with pytest.raises(DataError, match="needs the key `display`"):
        Screen.of_frame(plain)


SECTOR = """
probe: P4-2v
transmit: {type: focused, depth: 50 mm}
image: {angle: [-30 deg, 30 deg], depth: [20 mm, 80 mm], lines: 48, samples: 96, pixels: [60, 50]}
scatterers: {model: field}
background: {echogenicity: 0 dB}
"""


def test_a_sector_is_displayed_line_by_line():
    """Truth and mean of 60 looks agree; gains follow the range; the inverse finds the level where lines are uniform."""
    display = "display: {bits: 32, tgc_error: {sliders: [8 dB, -8 dB]}, curve: {type: log, white: 5 dB}}\n"
    renderer = Renderer(phantom_from_text(SECTOR + display))
    frames = [renderer.render(0, look) for look in range(60)]
    inside, truth = frames[0].truth.mask == 1, frames[0].truth.display
    error = np.mean([frame.display for frame in frames], axis=0) - truth
    spread = np.std([frame.display for frame in frames], axis=0) / np.sqrt(60) + 1e-3
    assert np.abs(error[inside].mean()) < 5e-3
    assert np.sqrt(((error / spread)[inside] ** 2).mean()) < 1.2
    assert not truth[~inside].any()
    assert not frames[0].display[~inside].any()
    # the expectation of a log curve that never clips is the truth in dB, and undoing it gives that back
    found = Screen.of_frame(frames[0]).to_db(truth)
    clear = inside & (truth > 0.2) & (truth < 0.8)
    assert clear.mean() > 0.3
    assert found[clear] == pytest.approx(frames[0].truth.bmode[clear], abs=0.1)


@pytest.mark.parametrize(
    ("display", "message"),
    [
        ("{bits: 16}", "display.bits: expected 8 .* or 32 .*, got 16"),
        ("{curve: {type: power, black: 0 dB, white: 0 dB}}", "black 0 dB must lie 1 dB or more below white 0 dB"),
        ("{curve: {type: gamma}}", "'gamma' is none of log, power"),
        ("{tgc_error: {sliders: [1 dB]}}", "display.tgc_error.sliders: expected at least 2 values, got 1"),
        ("{tgc_error: {std: 2 dB, corelation: 4 mm}}", "did you mean 'correlation'"),
        ("{persistence: 4}", "display.persistence: 4 pictures are averaged over time"),
        ("{choice: [{}, null]}", "display: can't be drawn: all frames are displayed or none is"),
        ("{bits: {choice: [8, 32]}}", "all frames have the same bits"),
        ("{gain: 70 dB}", "70 dB is beyond 60 dB"),
    ],
)
def test_mistakes_are_located(display, message):
    with pytest.raises(ConfigError, match=message) as caught:
        phantom_from_text(BASE + f"display: {display}\n")
    assert "phantom:7:" in str(caught.value)
