"""Contrast of a cyst, the place and the level of a point, and the flat grey of compensated tissue."""

import numpy as np
import pytest
from scenes import decibel, full_width, level, looks, scene

HEADROOM = 25.0
RAYLEIGH_DB = 10.0 / np.log(10.0) * 0.5772156649  # mean of log intensity below log of mean intensity


def test_contrast_of_a_twelve_decibel_cyst():
    """Mean level inside a -12 dB cyst against tissue, 0.6 mm and more away from its edge: -12 within 0.5 dB."""
    renderer = scene(
        image="{x: [-6 mm, 6 mm], z: [16 mm, 24 mm], pixels: [120, 100]}",
        regions="[{shape: circle, center: [0 mm, 20 mm], radius: 2.5 mm, echogenicity: -12 dB}]",
    )
    averages = looks(renderer, 60)
    grid = renderer.stage(0).setting.plan.grid
    distance = np.hypot(grid.x[None, :], grid.z[:, None] - 20e-3) - 2.5e-3
    inside, outside = distance < -0.6e-3, distance > 0.6e-3
    for name, image in (("simulated", averages.mean_db), ("truth", averages.truth.bmode)):
        found = float(image[inside].mean() - image[outside].mean())
        print(f"{name}: {found:.2f} dB")
        assert found == pytest.approx(-12.0, abs=0.5)
    found = float(decibel(averages.intensity[inside].mean() / averages.intensity[outside].mean()))
    assert found == pytest.approx(-12.0, abs=0.5)


PLACES = [(0.0, 4.0), (0.0, 9.0), (0.0, 12.5), (-7.0, 20.0), (4.0, 33.0), (18.3, 20.0)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transmit", ["{type: focused, depth: 20 mm, f_number: 2.5}", "{type: plane, angle: 8 deg}"])
def test_point_stands_at_its_place_and_level(place, transmit):
    """A point in an anechoic scene: depth within lambda/8, peak `amplitude` dB over tissue within 0.2 dB.

    x within 0.15 mm (above the focus the beam may be brightest beside its axis).
    Mean 0 dB tissue at the same place is read from the truth of a uniform scene with the same probe and image.
    """
    x, z = place
    if "plane" in transmit and (z < 6.0 or x > 18.0):
        pytest.skip("outside the plane wave's beam, where a point stands on the shadow's edge")
    common = {
        "transmit": transmit,
        "image": f"{{x: [{x - 1:g} mm, {x + 1:g} mm], z: [{z - 0.6:g} mm, {z + 0.6:g} mm], pixels: [201, 121]}}",
    }
    point = f"[{{position: [{x:g} mm, {z:g} mm], amplitude: 18 dB}}]"
    frame = scene(background="{echogenicity: anechoic}", points=point, **common).render(0)
    tissue = scene(**common).stage(0).truth.bmode[60, 100] + RAYLEIGH_DB
    image = level(frame)
    row, column = np.unravel_index(np.argmax(image), image.shape)
    found = image[row, column] - tissue
    dx, dz = frame.axes.x[column] - x * 1e-3, frame.axes.z[row] - z * 1e-3
    print(f"{place}: {found:.3f} dB over tissue, off by {dx * 1e6:.0f}, {dz * 1e6:.0f} um")
    assert found == pytest.approx(18.0, abs=0.2)
    assert abs(dz) < 1540.0 / 7.6e6 / 8.0
    assert abs(dx) < 0.15e-3


def test_point_stands_at_its_level_between_depth_nodes():
    """As above at 14 mm, where the near field of the focused transmit changes fast with depth."""
    test_point_stands_at_its_place_and_level((0.3, 14.0), "{type: focused, depth: 20 mm, f_number: 2.5}")


def test_truth_of_a_lone_point_is_its_image():
    """Without tissue or noise nothing is random: truth/bmode equals the image where it is above -100 dB, 0.01 dB."""
    point = "[{position: [0.5 mm, 20 mm], amplitude: 10 dB}]"
    frame = scene(background="{echogenicity: anechoic}", points=point).render(0)
    image = level(frame)
    seen = image > -100.0
    assert seen.sum() > 200
    np.testing.assert_allclose(frame.truth.bmode[seen], image[seen], atol=0.01)


@pytest.fixture(scope="module")
def tissue():
    """100 looks of uniform tissue from 4 to 34 mm."""
    renderer = scene(image="{x: [-5 mm, 5 mm], z: [4 mm, 34 mm], pixels: [80, 240]}")
    return renderer, looks(renderer, 100)


def test_auto_gain_flattens_tissue(tissue):
    """tgc auto: mean intensity of tissue near the axis is -headroom dB within 0.1 dB, in bands of 3 mm."""
    found = decibel(tissue[1].intensity.reshape(10, 24, 80).mean(axis=(1, 2)))
    print(np.round(found + HEADROOM, 3))
    assert np.abs(found + HEADROOM).max() < 0.1


def test_auto_gain_flattens_the_truth_on_axis(tissue):
    """The same in closed form: truth/bmode on the axis is -headroom - 2.507 dB at every depth, 0.02 dB."""
    grid = tissue[0].stage(0).setting.plan.grid
    found = tissue[1].truth.bmode[:, np.argmin(np.abs(grid.x))]
    assert np.abs(found + HEADROOM + RAYLEIGH_DB).max() < 0.02


@pytest.mark.parametrize("tgc", ["none", "4 dB/cm"])
@pytest.mark.parametrize("depth", [12, 20, 28])
def test_zero_decibel_is_tissue_at_the_focus(tgc, depth):
    """Whatever the gain, mean tissue on axis at the transmit focus is -headroom dB: 0.05 dB in closed form."""
    renderer = scene(
        transmit=f"{{type: focused, depth: {depth} mm, f_number: 2.5}}",
        tgc=tgc,
        image="{x: [-1 mm, 1 mm], z: [8 mm, 32 mm], pixels: [21, 241], headroom: 31 dB}",
    )
    frame = renderer.render(0)
    found = frame.truth.bmode[int(np.argmin(np.abs(frame.axes.z - depth * 1e-3))), 10]
    print(f"{found + RAYLEIGH_DB:.3f} dB")
    assert found + RAYLEIGH_DB == pytest.approx(-31.0, abs=0.05)


def test_plane_waves_are_tied_to_mid_depth():
    """Plane waves have no focus: mean tissue at mid-depth is -headroom dB."""
    image = "{x: [-1 mm, 1 mm], z: [8 mm, 32 mm], pixels: [21, 241]}"
    renderer = scene(transmit="{type: plane, angle: 0 deg}", tgc="none", image=image)
    found = renderer.stage(0).truth.bmode[120, 10] + RAYLEIGH_DB
    assert found == pytest.approx(-HEADROOM, abs=0.05)


def test_gain_slope_is_decibels_per_centimetre():
    """`tgc: 4 dB/cm` lifts the truth by 4 dB per cm over `none`, tied at the focus."""
    image = "{x: [-1 mm, 1 mm], z: [10 mm, 30 mm], pixels: [21, 101]}"
    frames = [scene(tgc=tgc, image=image).render(0) for tgc in ("4 dB/cm", "none")]
    z = frames[0].axes.z
    lift = (frames[0].truth.bmode - frames[1].truth.bmode)[:, 10]
    np.testing.assert_allclose(lift, 4.0 * (z - 20e-3) * 100.0, atol=1e-3)


def test_resolved_truth_is_the_blurred_echogenicity():
    """truth/resolved_db: 0 in tissue and -12 in the middle of a cyst at every depth: 0.15 dB."""
    renderer = scene(
        medium="{attenuation: 0.8 dB/cm/MHz}",
        tgc="none",
        image="{x: [-6 mm, 6 mm], z: [8 mm, 32 mm], pixels: [60, 120]}",
        regions="[{shape: circle, center: [0 mm, 14 mm], radius: 3 mm, echogenicity: -12 dB},"
        " {shape: circle, center: [0 mm, 26 mm], radius: 3 mm, echogenicity: 6 dB}]",
    )
    frame = renderer.render(0)
    places = ((0.0, 14e-3), (0.0, 26e-3), (5.8e-3, 9e-3), (-5.8e-3, 31e-3))
    x, z = frame.axes.x, frame.axes.z
    found = [frame.truth.resolved_db[np.argmin(np.abs(z - b)), np.argmin(np.abs(x - a))] for a, b in places]
    print(np.round(found, 3))
    assert found == pytest.approx([-12.0, 6.0, 0.0, 0.0], abs=0.15)


def test_edge_of_the_truth_is_centred_on_the_edge():
    """Across a 6 dB step resolved_db is half way, in power, exactly at the edge: 0.02 mm lateral and axial."""
    right = "{shape: rectangle, center: [10 mm, 20 mm], width: 20 mm, height: 60 mm, echogenicity: -6 dB}"
    lateral = scene(regions=f"[{right}]")
    axial = scene(regions="[{shape: layer, z: [20 mm, 60 mm], echogenicity: -6 dB}]")
    for renderer, name in ((lateral, "x"), (axial, "z")):
        frame = renderer.render(0)
        axis = getattr(frame.axes, name)
        power = 10.0 ** ((frame.truth.resolved_db[64] if name == "x" else frame.truth.resolved_db[:, 48]) / 10.0)
        middle = (1.0 + 10.0**-0.6) / 2.0
        crossing = float(np.interp(-middle, -power, axis)) - (0.0 if name == "x" else 20e-3)
        print(f"{name}: {crossing * 1e6:.1f} um")
        assert abs(crossing) < 0.02e-3


def test_widths_of_an_imaged_point_follow_its_definition():
    """A point's -6 dB widths in a rendered frame, after TGC and on its pixels, are those of the continuous PSF: 1 %."""
    renderer = scene(
        background="{echogenicity: anechoic}",
        points="[{position: [0 mm, 20 mm], amplitude: 10 dB}]",
        image="{x: [-1 mm, 1 mm], z: [19 mm, 21 mm], pixels: [201, 201]}",
    )
    frame, beam = renderer.render(0), renderer.stage(0).setting.plan.beam
    row, column = frame.envelope[100].astype(float), frame.envelope[:, 100].astype(float)
    lateral = np.abs(beam.lateral(-frame.axes.x, frame.axes.x, 20e-3))
    axial = np.abs(beam.pulse(frame.axes.z - 20e-3, 20e-3))
    for axis, found, wanted in ((frame.axes.x, row, lateral), (frame.axes.z, column, axial)):
        ours, theirs = full_width(axis, found, found.max() / 2), full_width(axis, wanted, wanted.max() / 2)
        assert ours == pytest.approx(theirs, rel=0.01)
