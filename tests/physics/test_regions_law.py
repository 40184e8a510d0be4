"""The law of speckle where regions differ: Rayleigh or K by density, and means of looks that converge to the truth."""

import numpy as np
import pytest
from scenes import looks, scene
from scipy import stats
from scipy.special import gammaln, kve

from usim.phantom.load import phantom_from_text
from usim.pipeline import Renderer

BASE = """
probe: L11-5v
medium: {attenuation: 0 dB/cm/MHz}
transmit: {type: focused, depth: 20 mm, f_number: 2.5}
receive: {f_number: 1.5, apodization: hann}
image: {x: [-8 mm, 8 mm], z: [18.8 mm, 21.2 mm], pixels: [96, 96]}
background: {echogenicity: 0 dB}
"""


def k_cdf(nu):
    """Distribution function of the K law's intensity over its mean, tabulated; Jakeman and Pusey 1976."""
    x = np.concatenate(([0.0], np.geomspace(1e-8, 200.0, 20_000)))
    root = 2.0 * np.sqrt(nu * x[1:])
    log = np.log(2.0) + (nu / 2.0) * np.log(nu * x[1:]) - gammaln(nu) + np.log(kve(nu, root)) - root
    return lambda value: 1.0 - np.interp(value, x, np.concatenate(([1.0], np.exp(log))))


def samples(text, half, count=24, first=0):
    """Intensities, each more than a resolution cell from the others, near the focus; half: of x."""
    renderer = Renderer(phantom_from_text(BASE + text))
    found = []
    for look in range(first, first + count):
        frame = renderer.render(0, look)
        x, z = frame.axes.x, frame.axes.z
        rows = [int(np.argmin(np.abs(z - at))) for at in (19.2e-3, 20e-3, 20.8e-3)]
        columns = np.nonzero(half(x))[0][::7]  # 1.2 mm apart: a cell is 0.3 mm wide
        found.append(frame.envelope[np.ix_(rows, columns)].astype(np.float64) ** 2)
    return np.concatenate([part.ravel() for part in found])


SPARSE = """
scatterers: {{model: plane, per_cell: 40}}
regions:
  - {{shape: rectangle, center: [10 mm, 20 mm], width: 20 mm, height: 9 mm, echogenicity: 0, per_cell: {}}}
"""


@pytest.mark.parametrize("per_cell", [2.0, 5.0])
def test_dense_tissue_is_rayleigh_and_a_sparse_region_beside_it_is_k_distributed(per_cell):
    """432 independent places at the focus: KS against the exponential law left, and K with nu = 2 per_cell right."""
    text = SPARSE.format(per_cell)
    dense, sparse = samples(text, lambda x: x < -1.2e-3), samples(text, lambda x: x > 1.2e-3)
    to_rayleigh = stats.kstest(dense / dense.mean(), "expon")
    to_k = stats.kstest(sparse / sparse.mean(), k_cdf(2.0 * per_cell))
    print(f"per_cell {per_cell:g}: dense {to_rayleigh}, sparse {to_k}")
    assert to_rayleigh.pvalue > 0.01
    assert to_k.pvalue > 0.01


@pytest.mark.parametrize("per_cell", [0.25, 0.5, 1.0])
def test_very_sparse_regions_have_the_second_moment_of_k(per_cell):
    """<I^2> / <I>^2 = 2 (1 + 1 / nu), nu = 2 per_cell; far from Rayleigh, and nearer to K than to it.

    The law itself is that of a Poisson cloud, which leaves K's below nu = 4: gaps between scatterers are darker.
    """
    sparse = samples(SPARSE.format(per_cell), lambda x: x > 1.2e-3, 36)
    ratio = (sparse**2).mean() / sparse.mean() ** 2
    sparse = sparse / sparse.mean()
    to_rayleigh, to_k = stats.kstest(sparse, "expon"), stats.kstest(sparse, k_cdf(2.0 * per_cell))
    print(f"per_cell {per_cell:g}: {ratio:.2f} for {2 + 1 / per_cell:.2f}", to_rayleigh.statistic, to_k.statistic)
    assert to_rayleigh.pvalue < 1e-3
    assert to_k.statistic < to_rayleigh.statistic
    assert ratio == pytest.approx(2.0 + 1.0 / per_cell, rel=0.3)


def test_a_dense_region_in_sparse_tissue_is_rayleigh():
    """The cloud is drawn at the region's density and thinned around it."""
    text = SPARSE.replace("per_cell: 40", "per_cell: 0.5").format(40)
    sparse, dense = samples(text, lambda x: x < -1.2e-3), samples(text, lambda x: x > 1.2e-3)
    assert stats.kstest(dense / dense.mean(), "expon").pvalue > 0.01
    assert stats.kstest(sparse / sparse.mean(), "expon").pvalue < 1e-3
    assert dense.mean() == pytest.approx(sparse.mean(), rel=0.35)


SCENES = {
    "soft edge": "{shape: circle, center: [0 mm, 20 mm], radius: 2.5 mm, echogenicity: anechoic, edge: 1.5 mm}",
    "soft lesion": "{shape: ellipse, center: [0 mm, 20 mm], radii: [3 mm, 2 mm], echogenicity: 12 dB, edge: 1 mm}",
    "fibres": "{shape: circle, center: [0 mm, 20 mm], radius: 4 mm, echogenicity: 3 dB, "
    "texture: {type: fibres, std: 5 dB, correlation: 0.5 mm, direction: 30 deg, aspect: 6}}",
    "clusters": "{shape: circle, center: [0 mm, 20 mm], radius: 4 mm, echogenicity: 3 dB, "
    "texture: {type: clusters, density: 3 /mm^2, size: 0.8 mm}}",
    "vessel": "{shape: tube, path: [[-6 mm, 19 mm], [0 mm, 21 mm], [6 mm, 19 mm]], radius: 1.5 mm, "
    "echogenicity: -30 dB, wall: {thickness: 0.6 mm, echogenicity: 9 dB, edge: 0.3 mm}}",
}


@pytest.mark.parametrize("name", SCENES)
def test_looks_converge_to_the_truth(name):
    """80 looks: rms z below 1.25, largest below 6, mean bias below 0.2 dB over the whole of each picture."""
    averages = looks(scene(regions=f"[{SCENES[name]}]", noise="{snr: 40 dB}"), 80)
    score = averages.z_score
    rms, worst, bias = np.sqrt((score**2).mean()), np.abs(score).max(), averages.bias_db.mean()
    print(f"{name}: rms z {rms:.3f}, largest {worst:.2f}, mean bias {bias:+.4f} dB")
    assert rms < 1.25
    assert worst < 6.0
    assert abs(bias) < 0.2


@pytest.mark.parametrize("edge", ["0 mm", "1.5 mm"])
def test_looks_of_sparse_regions_converge_to_the_truth(edge):
    """per_cell 3 in the region, 20 around: within 0.3 dB in the region (nu = 6 at the focus), 0.2 dB outside.

    Without the local density the region's truth would be 0.37 dB too bright. 150 looks of some 60 cells: 0.06 dB.
    """
    region = f"{{shape: circle, center: [0 mm, 20 mm], radius: 3 mm, echogenicity: 6 dB, per_cell: 3, edge: {edge}}}"
    renderer = scene(regions=f"[{region}]", scatterers="{model: plane, per_cell: 20}")
    averages = looks(renderer, 150)
    grid = renderer.stage(0).setting.plan.grid
    distance = np.hypot(*np.broadcast_arrays(grid.x[None, :], grid.z[:, None] - 20e-3)) - 3e-3
    inside, across = averages.bias_db[distance < -0.8e-3].mean(), averages.bias_db[np.abs(distance) < 0.8e-3].mean()
    outside = averages.bias_db[distance > 0.8e-3].mean()
    print(f"edge {edge}: inside {inside:+.3f}, across {across:+.3f}, outside {outside:+.3f} dB")
    assert abs(inside) < 0.25
    assert abs(across) < 0.25
    assert abs(outside) < 0.15


def test_sparse_regions_are_flagged_and_correct_the_truth():
    """per_cell 1: nu = 2 at the focus, where the truth lies 4.343 (digamma(2) - ln 2) = -1.17 dB below tissue's."""
    text = BASE + SPARSE.format(1.0)
    truth = Renderer(phantom_from_text(text)).stage(0).truth
    plain = Renderer(phantom_from_text(BASE + SPARSE.format(1000))).stage(0).truth
    row, right, left = 48, slice(70, 90), slice(6, 26)
    assert truth.few_scatterers[row, right].all()
    assert not truth.few_scatterers[row, left].any()
    assert np.mean((truth.bmode - plain.bmode)[row, right]) == pytest.approx(-1.17, abs=0.15)
    assert np.abs((truth.bmode - plain.bmode)[row, left]).max() < 1e-4
    np.testing.assert_array_equal(truth.resolved_db, plain.resolved_db)


def test_the_truth_of_dark_sparse_tissue_is_that_of_bright_tissue_lowered():
    """80 dB less echogenicity is 80 dB less of everything, the number of scatterers that the truth counts included."""
    text = BASE.replace("echogenicity: 0 dB", "echogenicity: %g") + "scatterers: {per_cell: 1}\n"
    bright, dark = (Renderer(phantom_from_text(text % level)).stage(0).truth for level in (0.0, -80.0))
    np.testing.assert_allclose(dark.bmode + 80.0, bright.bmode, atol=1e-3)


@pytest.mark.parametrize("model", ["plane", "volume"])
def test_thinning_keeps_the_mean_and_thins_the_number(model):
    """Counts in and out of the region go as the densities, mean powers are the same."""
    image = "image: {x: [-3 mm, 3 mm], z: [18.5 mm, 21.5 mm], pixels: [32, 32]}"
    region = "{shape: rectangle, center: [10 mm, 20 mm], width: 20 mm, height: 60 mm, echogenicity: 0, per_cell: 0.5}"
    lines = [line for line in BASE.splitlines() if not line.startswith("image")]
    text = "\n".join([*lines, image, f"scatterers: {{model: {model}, per_cell: 5}}", f"regions: [{region}]"])
    renderer = Renderer(phantom_from_text(text))
    left, right, powers = 0, 0, np.zeros(2)
    for look in range(6):
        cloud = renderer.render(0, look).scatterers
        side = cloud.x > 0
        left, right = left + (~side).sum(), right + side.sum()
        powers += [(cloud.amplitude[~side] ** 2).sum(), (cloud.amplitude[side] ** 2).sum()]
    assert right / left == pytest.approx(0.1, abs=4 * 0.1 / np.sqrt(right))
    assert powers[1] / powers[0] == pytest.approx(1.0, abs=5 / np.sqrt(right))


def test_both_engines_image_the_same_sparse_and_soft_regions():
    """Means of looks in bands of depth, across a soft edge into sparser tissue, lie where the truth does."""
    text = """
probe: P4-2v
transmit: {type: plane}
image: {x: [-8 mm, 8 mm], z: [25 mm, 35 mm], pixels: [24, 48]}
background: {echogenicity: 0 dB}
scatterers: {per_cell: 8}
regions:
  - {shape: layer, z: [30 mm, 60 mm], echogenicity: 12 dB, edge: 3 mm, per_cell: 2}
"""
    frames = [Renderer(phantom_from_text(text + f"engine: {engine}\n")) for engine in ("psf", "sir")]
    means = []
    for renderer in frames:
        shots = [renderer.render(0, look) for look in range(24)]
        level = np.mean([20 * np.log10(np.maximum(shot.envelope, 1e-8)) for shot in shots], axis=0)
        means.append((level - shots[0].truth.bmode).reshape(6, 8, -1).mean(axis=(1, 2)))
    print(np.round(means, 2))
    assert np.abs(means).max() < 0.8
