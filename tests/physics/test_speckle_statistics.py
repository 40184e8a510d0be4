"""First-order statistics of speckle: Rayleigh, K-distributed, and how well two regions can be told apart."""

import numpy as np
import pytest
from scenes import looks, scene
from scipy.special import gammaln

from usim.engines import psf
from usim.scatterers import Scatterers


def k_distribution_snr(nu):
    """SNR of a K-distributed envelope, [4 nu G(nu)^2 / (pi G(nu + 1/2)^2) - 1]^(-1/2)."""
    return (4.0 * nu * np.exp(2.0 * gammaln(nu) - 2.0 * gammaln(nu + 0.5)) / np.pi - 1.0) ** -0.5


def snr(averages):
    """Mean over the root of the mean variance of the envelope, pooled over pixels scaled to equal mean power."""
    scale = np.sqrt(averages.intensity.mean(axis=1, keepdims=True))
    mean = (averages.amplitude / scale).mean()
    return mean / np.sqrt((averages.intensity / scale**2).mean() - mean**2)


@pytest.fixture(scope="module")
def rayleigh():
    """200 looks of uniform tissue of the `field` model."""
    return looks(scene(), 200)


def test_envelope_snr_of_full_speckle(rayleigh):
    """sqrt(pi/(4 - pi)) = 1.913 within 2 %."""
    found = snr(rayleigh)
    print(f"SNR {found:.4f}")
    assert found == pytest.approx(np.sqrt(np.pi / (4.0 - np.pi)), rel=0.02)


def test_standard_deviation_of_decibels(rayleigh):
    """pi/sqrt(6) * 4.343 = 5.57 dB within 2 %."""
    found = float(np.sqrt(rayleigh.var_db.mean()))
    print(f"{found:.3f} dB")
    assert found == pytest.approx(np.pi / np.sqrt(6.0) * 10.0 / np.log(10.0), rel=0.02)


def test_dense_cloud_is_full_speckle():
    """A cloud with nu = 2 per_cell = 80: 1.913 within 2 % (PHYSICS: nu >= 30 suffices)."""
    renderer = scene(
        scatterers="{model: plane, per_cell: 40}",
        image="{x: [-4 mm, 4 mm], z: [19 mm, 21 mm], pixels: [96, 24]}",
    )
    found = snr(looks(renderer, 80))
    print(f"SNR {found:.4f}")
    assert found == pytest.approx(1.913, rel=0.02)


def compound_poisson_snr(nu, generator, draws=60_000):
    """SNR of |sum of a Poisson number of echoes at random places with random phases|, weighed by one imaged scatterer.

    The PSF is the image of a single scatterer; density and nu are tied by 2/nu = kappa4/m^2 on that very image.
    """
    plan = scene(image="{x: [-1.6 mm, 1.6 mm], z: [19.4 mm, 20.6 mm], pixels: [81, 61]}").stage(0).setting.plan
    point = Scatterers(np.array([[0.0, 0.0, 20e-3]]), np.ones(1))
    weight = np.abs(psf.run(plan, point, elevation=False).astype(np.complex128).ravel())
    cell = (weight**2).sum() ** 2 / (weight**4).sum()  # pixels
    expected = nu / 2.0 / cell * weight.size
    amplitude = np.empty(draws)
    for start in range(0, draws, 5000):
        number = generator.poisson(expected, 5000)
        echo = weight[generator.integers(weight.size, size=number.sum())]
        echo = echo * np.exp(2j * np.pi * generator.random(len(echo)))
        edges = np.concatenate(([0], np.cumsum(number)))
        running = np.concatenate(([0.0], np.cumsum(echo)))
        amplitude[start : start + 5000] = np.abs(running[edges[1:]] - running[edges[:-1]])
    return amplitude.mean() / amplitude.std()


@pytest.fixture(scope="module")
def sparse_snr():
    """SNR measured in 100 looks, by (model, nu); each is made once."""
    found = {}

    def measure(model, nu):
        if (model, nu) not in found:
            renderer = scene(
                scatterers=f"{{model: {model}, per_cell: {nu / 2.0:g}}}",
                image="{x: [-6 mm, 6 mm], z: [19.5 mm, 20.5 mm], pixels: [96, 16]}",
            )
            expected = renderer.stage(0).expectation
            assert np.allclose(2.0 * expected.mean**2 / expected.fourth, nu, rtol=0.06)
            found[model, nu] = snr(looks(renderer, 100))
        return found[model, nu]

    return measure


@pytest.mark.parametrize(("nu", "table"), [(1.0, 1.27), (2.0, 1.51), (5.0, 1.72), (10.0, 1.81)])
def test_table_of_the_k_distribution(nu, table):
    """The formula gives PHYSICS's table; nu is that of 2/nu = kappa4/m^2, since E[I^2] = 2 m^2 (1 + 1/nu)."""
    assert k_distribution_snr(nu) == pytest.approx(table, abs=0.006)


@pytest.mark.parametrize(("model", "nu"), [("plane", 5.0), ("plane", 10.0), ("volume", 5.0)])
def test_sparse_clouds_are_k_distributed(sparse_snr, model, nu):
    """SNR of Poisson clouds at matched nu (per_cell = nu/2) from nu = 5 on: the K-distribution's within 3 %."""
    found = sparse_snr(model, nu)
    print(f"{model}, nu {nu:g}: SNR {found:.3f}, K-distribution {k_distribution_snr(nu):.3f}")
    assert found == pytest.approx(k_distribution_snr(nu), rel=0.03)


@pytest.mark.parametrize("nu", [1.0, 2.0, 5.0])
def test_sparse_clouds_are_compound_poisson(sparse_snr, nu):
    """Below nu = 5 Poisson clouds are more heterogeneous than K: SNR of a sum over random places, 4 %."""
    found, wanted = sparse_snr("plane", nu), compound_poisson_snr(nu, np.random.default_rng(5))
    print(f"nu {nu:g}: SNR {found:.3f}, compound Poisson {wanted:.3f}, K-distribution {k_distribution_snr(nu):.3f}")
    assert found == pytest.approx(wanted, rel=0.04)


def overlap(first, second, bins=200):
    """1 - gCNR: overlap of two histograms of positive values over quantiles of both."""
    edges = np.unique(np.quantile(np.concatenate((first, second)), np.linspace(0.0, 1.0, bins + 1)))
    counts = [np.histogram(part, edges)[0] / part.size for part in (first, second)]
    return np.minimum(*counts).sum()


@pytest.mark.parametrize(("step_db", "table"), [(3, 0.249), (6, 0.471), (10, 0.697), (20, 0.945)])
def test_gcnr_of_two_rayleigh_regions(step_db, table):
    """GCNR r^(-1/(r-1)) - r^(-r/(r-1)) of two regions of power ratio r, measured away from their edge: 0.02."""
    renderer = scene(
        image="{x: [-5 mm, 5 mm], z: [19 mm, 21 mm], pixels: [100, 24]}",
        regions="[{shape: rectangle, center: [10 mm, 20 mm], width: 20 mm, height: 20 mm, "
        f"echogenicity: -{step_db:g} dB}}]",
    )
    left, right = [], []
    for k in range(60):
        power = renderer.render(0, look=k).envelope.astype(np.float64) ** 2
        left.append(power[:, :35].ravel())
        right.append(power[:, 65:].ravel())
    found = 1.0 - overlap(np.concatenate(left), np.concatenate(right))
    r = 10.0 ** (step_db / 10.0)
    formula = r ** (-1.0 / (r - 1.0)) - r ** (-r / (r - 1.0))
    print(f"{step_db} dB: gCNR {found:.4f}, formula {formula:.4f}")
    assert formula == pytest.approx(table, abs=0.001)
    assert found == pytest.approx(formula, abs=0.02)
