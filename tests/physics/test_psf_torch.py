"""The image engine's tensors answer to the same definition: the NumPy generators' numbers through both give one image,
to 1e-4 of its peak."""

import numpy as np
import pytest
from scenes import nrmse_db, scene
from test_definition import scattered, thinned

from usim.engines import psf
from usim.engines.expect import expect
from usim.engines.psf_device import DeviceNoise, DevicePlan, DevicePower
from usim.errors import ConfigError
from usim.scatterers import Scatterers, joined

torch = pytest.importorskip("torch")
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]
BOTH = 1e-4  # of the peak, between the back ends; 6e-6 was measured
SETTINGS = {
    "both zones": {},
    "end of the array": {"image": "{x: [14 mm, 18 mm], z: [12 mm, 20 mm], pixels: [40, 70]}"},
    "plane wave": {
        "transmit": "{type: plane, angle: 12 deg}",
        "image": "{x: [-18 mm, -15 mm], z: [9 mm, 12 mm], pixels: [30, 48]}",
    },
    "boxcar": {
        "receive": "{f_number: 2, apodization: boxcar}",
        "image": "{x: [-2 mm, 2 mm], z: [14 mm, 18 mm], pixels: [40, 50]}",
    },
    "three terms": {"psf": "calibrated", "image": "{x: [-1 mm, 1 mm], z: [19 mm, 20.5 mm], pixels: [16, 24]}"},
    "phased": {
        "probe": "P4-2v",
        "transmit": "{type: focused, depth: 40 mm, f_number: 3}",
        "image": "{angle: [-20 deg, 20 deg], depth: [30 mm, 45 mm], lines: 41, samples: 60, pixels: [40, 40]}",
    },
    "convex": {
        "probe": "C5-2v",
        "transmit": "{type: focused, depth: 40 mm, f_number: 3}",
        "image": "{angle: [10 deg, 34 deg], depth: [30 mm, 45 mm], lines: 41, samples: 60, pixels: [40, 40]}",
    },
}
settings = pytest.mark.parametrize("name", SETTINGS)


def test_the_settings_have_what_they_are_for():
    """Zones of both strides, columns with kernels of their own, plans of three terms."""
    plans = {name: stage_of(name).setting.plan for name in SETTINGS}
    assert [zone.stride for zone in plans["both zones"].grid.zones] == [1, 2]
    assert [len(plan.terms) for plan in plans.values()] == [3 if name == "three terms" else 1 for name in plans]
    (near, _), (plane,) = plans["end of the array"].banks, plans["plane wave"].banks
    assert (near.high > 0).any()
    assert (near.high < len(plans["end of the array"].grid.column)).all()
    assert (plane.low > 0).any()


def stage_of(name):
    return scene(**SETTINGS[name]).stage(0)


def off(found, wanted):
    """Largest error over the largest value."""
    found = found.cpu().numpy() if torch.is_tensor(found) else found
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def complex_tensor(planes, device="cpu"):
    return torch.complex(*map(torch.as_tensor, planes)).to(device)


def cloud_of(plan, count, seed=0):
    """Scatterers everywhere in the plan's extent and somewhat beyond."""
    rng = np.random.default_rng(seed)
    (v0, v1), (r0, r1) = plan.extent
    v, r = rng.uniform(1.05 * v0, 1.05 * v1, count), rng.uniform(0.9 * r0, 1.02 * r1, count)
    x, z = plan.geometry.to_space(v, r)
    return Scatterers(np.stack((x, rng.uniform(-1e-3, 1e-3, count), z), axis=1), rng.standard_normal(count))


@settings
@pytest.mark.parametrize("device", DEVICES)
def test_field_of_the_same_noise(name, device):
    stage = stage_of(name)
    plan = stage.setting.plan
    fine = psf.white_noise(np.random.default_rng(1), stage.field_amplitude.shape) * stage.field_amplitude
    wanted = psf.run_field(plan, stage.field_amplitude, np.random.default_rng(1))
    found = DevicePlan.of(plan, device).image(complex_tensor(fine, device)[None])
    assert found.dtype == torch.complex64
    assert off(found[0], wanted) < BOTH


@settings
@pytest.mark.parametrize("device", DEVICES)
def test_clouds_of_different_size_are_one_batch(name, device):
    plan = stage_of(name).setting.plan
    clouds = [cloud_of(plan, 900, 1), cloud_of(plan, 300, 2), Scatterers(np.empty((0, 3)), np.empty(0))]
    found = {whole: DevicePlan.of(plan, device).run(clouds, elevation=whole) for whole in (False, True)}
    for whole, images in found.items():
        assert not images[2].any()
        for image, cloud in zip(images, clouds[:2], strict=False):
            assert off(image, psf.run(plan, cloud, elevation=whole)) < BOTH


@settings
@pytest.mark.parametrize("device", DEVICES)
def test_noise_of_the_same_white_noise(name, device):
    noise = stage_of(name).setting.noise
    white = psf.white_noise(np.random.default_rng(3), noise.cells)
    found = DeviceNoise.of(noise, device).image(complex_tensor(white, device)[None])
    assert off(found[0], noise.draw(np.random.default_rng(3))) < BOTH


@settings
@pytest.mark.parametrize("device", DEVICES)
def test_expectation_is_the_truths(name, device):
    """Mean and fourth cumulant in every pixel to 1e-4 of that pixel, for tissue that ranges over 60 dB."""
    stage = stage_of(name)
    power, rng = stage.setting.power, np.random.default_rng(4)
    shape = len(power.row_z), len(power.cell_x)
    cells = (10.0 ** rng.uniform(-6.0, 0.0, shape)).astype(np.float32)
    cells[:, : shape[1] // 3] *= 1e-6
    wanted = expect(power, cells, cells**2, 3e10, 3.0)
    both = torch.as_tensor(np.stack((cells, 7.0 * cells)), device=device)
    mean, fourth = DevicePower.of(power, device).expect(both, both.square(), [1e-10, 1.0])
    np.testing.assert_allclose(mean[0].cpu(), wanted.mean, rtol=1e-4)
    np.testing.assert_allclose(fourth[0].cpu(), wanted.fourth, rtol=1e-4)
    np.testing.assert_allclose(mean[1].cpu(), 7.0 * wanted.mean, rtol=1e-4)
    np.testing.assert_allclose(fourth[1].cpu(), 49e10 * wanted.fourth, rtol=1e-4)


def test_tensors_reach_the_definition(record_property):
    """-50 dB, as psf.run does (PHYSICS, section 2): 60 scatterers of the default scene."""
    plan, cloud = stage_of("both zones").setting.plan, scattered(60, (-4, 4), (14, 26), y=0.5)
    found = DevicePlan.of(plan).run([cloud])[0].numpy()[::3, ::3].astype(np.complex128)
    reached = nrmse_db(found, psf.definition(thinned(plan), cloud))
    record_property("nrmse_db", round(reached, 1))
    print(f"{reached:.1f} dB")
    assert reached <= -50.0


def test_a_batch_is_its_images_and_linear():
    """B images at once are B single ones; two clouds are the sum of each; the device repeats a seed."""
    stage = stage_of("both zones")
    plan = DevicePlan.of(stage.setting.plan)
    amplitude = torch.as_tensor(np.stack([stage.field_amplitude, 2.0 * stage.field_amplitude, stage.field_amplitude]))
    cells = amplitude * torch.randn(amplitude.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(5))
    together = plan.image(cells)
    for n in range(3):
        assert off(plan.image(cells[n : n + 1])[0], together[n].numpy()) < 1e-6
    one, other = cloud_of(plan.plan, 200, 6), cloud_of(plan.plan, 200, 7)
    images = plan.run([one, other, joined(one, other)])
    assert off(images[0] + images[1], images[2].numpy()) < 1e-5
    looks = [plan.run_field(amplitude, torch.Generator().manual_seed(seed), 2) for seed in (8, 8, 9)]
    assert looks[0].shape == (3, 2, *together.shape[1:])
    assert torch.equal(looks[0], looks[1])
    assert not torch.equal(looks[0], looks[2])
    assert off(looks[0][:, 0], looks[0][:, 1].numpy()) > 0.1


def test_field_has_the_expected_intensity_and_scenes_keep_their_own():
    """The mean of 400 looks is `expect`'s mean within its standard error, of either scene of a batch."""
    stage = scene(image="{x: [-2 mm, 2 mm], z: [18 mm, 21 mm], pixels: [12, 24]}").stage(0)
    plan = DevicePlan.of(stage.setting.plan)
    amplitude = torch.as_tensor(np.stack([stage.field_amplitude, 3.0 * stage.field_amplitude]))
    looks = plan.run_field(amplitude, torch.Generator().manual_seed(1), 400)
    ratio = looks.abs().square().mean(dim=1).numpy() / stage.expectation.mean
    cells = 4.0 / np.sqrt(400 * 6)  # some six independent cells in the image
    assert abs(ratio[0].mean() - 1.0) < cells
    assert abs(ratio[1].mean() / 9.0 - 1.0) < cells


def test_noise_has_unit_power_and_the_covariance_of_the_numba_noise():
    """Power 1 within 2 % over 300 images, and neighbours as correlated as in draws of the other back end."""
    noise = scene(image="{x: [-2 mm, 2 mm], z: [18 mm, 21 mm], pixels: [16, 40]}").stage(0).setting.noise
    found = DeviceNoise.of(noise).draw(torch.Generator().manual_seed(2), 300).numpy()
    rng = np.random.default_rng(2)
    wanted = np.stack([noise.draw(rng) for _ in range(300)])
    assert abs((np.abs(found) ** 2).mean() - 1.0) < 0.03
    for lag in ((0, 1), (0, 3), (1, 0), (4, 0)):
        height, width = found.shape[1] - lag[0], found.shape[2] - lag[1]
        both = [
            (images[:, :height, :width] * images[:, lag[0] :, lag[1] :].conj()).mean() for images in (found, wanted)
        ]
        assert abs(both[0] - both[1]) < 0.04


def test_precision_is_ours_and_left_as_it_was():
    """A training that computes its products in TF32 gets exact images, and keeps its choice."""
    stage = stage_of("both zones")
    plan, amplitude = DevicePlan.of(stage.setting.plan), torch.as_tensor(stage.field_amplitude)[None]
    exact = plan.run_field(amplitude, torch.Generator().manual_seed(1))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(plan.run_field(amplitude, torch.Generator().manual_seed(1)), exact)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_graph_makes_the_same_images():
    stage = stage_of("both zones")
    plan, amplitude = stage.setting.plan, torch.as_tensor(stage.field_amplitude, device="cuda")[None]
    for seed in (1, 2):
        once, again = (
            DevicePlan.of(plan, "cuda", captured=captured).run_field(
                amplitude, torch.Generator("cuda").manual_seed(seed), 3
            )
            for captured in (False, True)
        )
        assert off(again, once.cpu().numpy()) < 1e-6


def test_what_a_device_has_not_is_refused():
    plan = stage_of("both zones").setting.plan
    with pytest.raises(ConfigError, match="warp"):
        DevicePlan.of(plan, "warp")
    with pytest.raises(ConfigError, match="meta"):
        DevicePlan.of(plan, "meta")
    with pytest.raises(ConfigError, match="captured"):
        DevicePlan.of(plan, "cpu", captured=True)
