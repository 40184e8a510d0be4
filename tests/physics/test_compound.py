"""Compounded images: the law of a mean of correlated intensities, and the truth that follows from it."""

import numpy as np
import pytest
from scenes import level, looks, scene
from scipy.special import digamma

from usim.compounding import mean_log
from usim.speckle import log_plus_e1

PLANE = {"transmit": "{type: plane}", "scatterers": "{model: plane, per_cell: 25}", "noise": "{snr: 30 dB}"}
CYST = "[{shape: circle, center: [0 mm, 20 mm], radius: 2.5 mm, echogenicity: -15 dB}]"
WIRE = "[{position: [2.6 mm, 24 mm], amplitude: 14 dB}]"
COMPOUNDS = {
    "angles": PLANE | {"compound": "{angles: [-6 deg, 0 deg, 6 deg]}"},
    "frequencies": {"scatterers": "{model: plane, per_cell: 25}", "compound": "{frequencies: [6 MHz, 8 MHz, 9 MHz]}"},
    "dB": PLANE | {"compound": "{angles: [-6 deg, 0 deg, 6 deg], mean: dB}"},
    "volume": PLANE
    | {
        "compound": "{angles: [-6 deg, 6 deg]}",
        "scatterers": "{model: volume, per_cell: 12}",
        "image": "{x: [-2 mm, 2 mm], z: [18.5 mm, 21.5 mm], pixels: [48, 48]}",
    },
}


def test_mean_of_independent_looks_is_that_of_a_gamma_law():
    """K equal eigenvalues: E ln I = digamma(K) - ln K."""
    for count in (1, 2, 5, 16):
        found = mean_log(np.full((1, count), 1.0 / count), np.zeros((1, count)))[0]
        assert found == pytest.approx(digamma(count) - np.log(count), abs=1e-7)


def test_one_look_about_a_fixed_echo_is_the_rician_law():
    k = np.geomspace(1e-3, 1e3, 40)
    np.testing.assert_allclose(mean_log(np.ones((40, 1)), k[:, None]), log_plus_e1(k), atol=1e-6)


def test_unequal_eigenvalues_have_the_closed_form_of_partial_fractions():
    """E ln I = sum_k w_k (ln l_k - gamma),  w_k = prod_j l_k / (l_k - l_j), of distinct eigenvalues without echo."""
    value = np.array([1.0, 0.37, 0.052])
    weight = [np.prod([a / (a - b) for b in value if b != a]) for a in value]
    wanted = sum(w * (np.log(a) - np.euler_gamma) for w, a in zip(weight, value, strict=True))
    assert mean_log(value[None], np.zeros((1, 3)))[0] == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("name", COMPOUNDS)
def test_looks_converge_to_the_truth(name):
    """60 looks: mean bias below 0.15 dB, z-scores of chance; inside a lesion, across its edge and a wire too."""
    regions = {} if name == "volume" else {"regions": CYST, "points": WIRE}
    renderer = scene(**COMPOUNDS[name] | regions)
    averages = looks(renderer, 60)
    rms = float(np.sqrt((averages.z_score**2).mean()))
    print(f"{name}: mean bias {averages.bias_db.mean():+.3f} dB, rms z {rms:.3f}")
    assert abs(averages.bias_db.mean()) < 0.15
    assert rms < 1.25
    if regions:
        grid = renderer.stage(0).members[0].setting.plan.grid
        x, z = np.broadcast_arrays(grid.x[None, :], grid.z[:, None])
        inside = np.hypot(x, z - 20e-3) < 1.8e-3
        assert abs(averages.bias_db[inside].mean()) < 0.3


def test_equivalent_looks_are_those_of_the_images():
    """truth/looks against mean^2 / variance of the intensity over 120 looks, pooled over a uniform image: 6 %."""
    renderer = scene(**COMPOUNDS["angles"] | {"scatterers": "{model: plane, per_cell: 60}"})
    power = np.stack([renderer.render(0, look=k).envelope.astype(np.float64) ** 2 for k in range(120)])
    found = 1.0 / (power.var(axis=0) / power.mean(axis=0) ** 2).mean()
    wanted = float(1.0 / (1.0 / renderer.render(0).truth.looks).mean())
    print(f"{found:.3f} looks found, {wanted:.3f} in the truth")
    assert found == pytest.approx(wanted, rel=0.06)
    assert 1.2 < wanted < 3.0


def test_speckle_of_a_compound_is_calmer():
    """The deviation in dB falls from 5.57 to about that of the equivalent number of looks."""
    renderer = scene(**COMPOUNDS["frequencies"])
    values = np.stack([level(renderer.render(0, look=k)) for k in range(40)])
    wanted = renderer.render(0).truth.looks.mean()
    assert values.std(axis=0).mean() < 5.57 / np.sqrt(wanted) * 1.15
