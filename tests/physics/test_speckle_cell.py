"""The speckle cell that was asked for is the one that is measured, in both engines; closed forms of its size."""

import math

import numpy as np
import pytest
from scenes import FINE_PROBE, scene

from usim.engines.cell import axial_cell, lateral_cell
from usim.engines.pulse import Pulse
from usim.engines.sector import beam_of
from usim.errors import ConfigError
from usim.phantom.draw import draw
from usim.phantom.load import phantom_from_dict, phantom_from_text
from usim.pipeline import Renderer

FOCUSED = "{type: focused, depth: 20 mm, f_number: 2.5}"
AROUND = "{x: [-6 mm, 6 mm], z: [18.5 mm, 21.5 mm], pixels: [200, 150]}"  # pixels of 0.0603 x 0.0201 mm


def measured(images):
    """FWHM (axial, lateral) in pixels of the autocovariance of many pictures of intensity, pooled."""
    total = 0.0
    for intensity in images:
        rest = intensity / intensity.mean() - 1.0
        total = total + np.abs(np.fft.fft2(rest, [2 * n for n in rest.shape])) ** 2
    covariance = np.fft.ifft2(total).real
    shape = [n // 2 for n in covariance.shape]
    cuts = [covariance[: n // 2, 0] if axis == 0 else covariance[0, : n // 2] for axis, n in enumerate(shape)]
    return [width(cut / (n - np.arange(n // 2))) for cut, n in zip(cuts, shape, strict=True)]


def width(covariance):
    level = np.log(np.maximum(covariance / covariance[0], 1e-3))
    i = int(np.nonzero(level < np.log(0.5))[0][0])
    share = (level[i - 1] - np.log(0.5)) / (level[i - 1] - level[i])
    return 2.0 * np.sqrt((i - 1) ** 2 + share * (2 * i - 1))


CASES = {
    "pixels": (FOCUSED, "{axial: 12 px, lateral: 10 px}", (12.0, 10.0)),
    "short and wide": (FOCUSED, "{axial: 6 px, lateral: 14 px}", (6.0, 14.0)),
    "long and narrow, in mm": (FOCUSED, "{axial: 0.4 mm, lateral: 0.35 mm}", (0.4 / 0.0201342, 0.35 / 0.0603015)),
    "plane wave": ("{type: plane, angle: 6 deg}", "{axial: 0.2 mm, lateral: 12 px}", (0.2 / 0.0201342, 12.0)),
}


@pytest.mark.parametrize(("transmit", "speckle", "wanted"), CASES.values(), ids=CASES)
def test_measured_cell_is_the_wanted_one(transmit, speckle, wanted):
    """60 looks of tissue around the focus, some 20000 cells: within 5 %."""
    renderer = scene(transmit=transmit, speckle=speckle, image=AROUND)
    found = measured(renderer.render(0, look).envelope.astype(np.float64) ** 2 for look in range(60))
    print(found, wanted)
    assert found == pytest.approx(wanted, rel=0.05)


def test_measured_cell_of_the_exact_engine():
    """12 looks of a small image by channel data, some 500 cells: within 10 %, of which 5 % are the statistics'."""
    renderer = scene(
        transmit="{type: plane}",
        speckle="{axial: 0.25 mm, lateral: 0.7 mm}",
        image="{x: [-5 mm, 5 mm], z: [17 mm, 23 mm], pixels: [80, 150]}",
        scatterers="{per_cell: 8}",
        engine="sir",
    )
    found = measured(10.0 ** (renderer.image(0, look) / 10.0) for look in range(12))
    wanted = 0.25 * 149 / 6.0, 0.7 * 79 / 10.0
    print(found, wanted)
    assert found == pytest.approx(wanted, rel=0.1)


def test_measured_cell_of_a_sector():
    """A phased array at its focus, in mm, along the lines: within 5 %."""
    renderer = scene(
        probe="P4-2v",
        transmit="{type: focused, depth: 50 mm, f_number: 4}",
        image="{angle: [-12 deg, 12 deg], depth: [46 mm, 54 mm], lines: 160, samples: 150, pixels: [64, 64]}",
        speckle="{axial: 0.9 mm, lateral: 2.2 mm}",
    )
    frames = [renderer.render(0, look) for look in range(40)]
    found = measured(frame.polar.envelope.astype(np.float64) ** 2 for frame in frames)
    wanted = 0.9 * 149 / 8.0, 2.2 / 50.0 / (math.radians(24.0) / 159)
    print(found, wanted)
    assert found == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize(
    ("transmit", "factor"), [("{type: focused, depth: 20 mm, f_number: 2}", 0.835), ("{type: plane}", 0.886)]
)
def test_lateral_cell_is_that_of_the_closed_form(transmit, factor):
    """Factor lambda z / D of boxcar apertures of 10 mm, with a narrow band: 2 %."""
    probe = FINE_PROBE.replace("0.6}", "0.05}")
    renderer = scene(
        probe=probe, transmit=transmit, receive="{f_number: 2, apodization: boxcar}", medium="{attenuation: 0}"
    )
    beam = renderer.stage(0).setting.plan.beam
    assert lateral_cell(beam, 20e-3) == pytest.approx(factor * beam.wavelength * 2.0, rel=0.02)


def test_axial_cell_of_a_gaussian_pulse_is_the_closed_form():
    """|rho|^2 = exp(-(4 pi sigma dz / c)^2) for a power spectrum of standard deviation sigma: 0.1 %."""
    renderer = scene()
    beam = renderer.stage(0).setting.plan.beam
    frequency, sigma = np.linspace(2e6, 10e6, 96), 0.8e6
    power = np.exp(-0.5 * ((frequency - 6e6) / sigma) ** 2)
    changed = type(beam)(beam.probe, beam.transmit, beam.receive, beam.medium)
    changed.__dict__["pulse"] = Pulse(frequency, np.sqrt(power), 6e6, 1540.0, np.zeros(96))
    wanted = 2.0 * math.sqrt(math.log(2.0)) * 1540.0 / (4.0 * math.pi * sigma)
    assert axial_cell(changed, 20e-3) == pytest.approx(wanted, rel=1e-3)


BASE = """
probe: L11-5v
transmit: {type: focused, depth: 15 mm, f_number: 3}
receive: {f_number: 2}
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [60, 80]}
background: {echogenicity: 0 dB}
"""


def test_stored_parameters_make_the_frame_again():
    text = BASE + "speckle: {axial: {uniform: [1.5 px, 3 px]}, lateral: {log_uniform: [3 px, 4 px]}}\n"
    phantom = phantom_from_text(text)
    frame = Renderer(phantom).render(3)
    stored = frame.params["scene"]
    assert stored["speckle"]["chosen"]
    assert 1.5 <= float(stored["speckle"]["axial"].removesuffix(" px")) <= 3.0
    assert stored["probe"]["name"] == "L11-5v (changed)"
    again = Renderer(phantom_from_dict(stored)).render(3)
    assert np.array_equal(frame.bmode, again.bmode)
    assert again.params["scene"] == stored
    assert draw(phantom, index=4).probe.fractional_bandwidth != stored["probe"]["fractional_bandwidth"]


def test_the_beam_keeps_its_shape():
    """Both f-numbers grow by one ratio, cycles and bandwidth by one; what is not asked for stays."""
    plain = draw(phantom_from_text(BASE))
    both = draw(phantom_from_text(BASE + "speckle: {axial: 2.5 px, lateral: 3.6 px}\n"))
    assert both.transmit.f_number / both.receive.f_number == pytest.approx(1.5, rel=1e-5)
    assert both.transmit.cycles * both.probe.fractional_bandwidth == pytest.approx(0.77, rel=1e-5)
    lateral = draw(phantom_from_text(BASE + "speckle: {lateral: 3.6 px}\n"))
    assert lateral.probe == plain.probe
    assert lateral.transmit.cycles == plain.transmit.cycles
    axial = draw(phantom_from_text(BASE + "speckle: {axial: 2.5 px}\n"))
    assert axial.receive == plain.receive
    assert axial.transmit.f_number == plain.transmit.f_number
    beam = beam_of(both.probe, both.transmit, both.receive, both.medium, both.image)
    assert axial_cell(beam, 15e-3) == pytest.approx(2.5 * 10e-3 / 79, rel=3e-3)
    assert lateral_cell(beam, 15e-3) == pytest.approx(3.6 * 10e-3 / 59, rel=3e-3)


@pytest.mark.parametrize(
    ("speckle", "message"),
    [
        ("{axial: 0.5 px}", r"speckle.axial: a cell of 0.0633 mm \(0.5 px\) can't be had .* possible are .* mm to"),
        ("{lateral: 60 px}", r"speckle.lateral: a cell of 10.2 mm \(60 px\) can't be had"),
        ("{axial: 2.4}", r"2.4 m is beyond 2 cm; did you mean 2.4 mm\? \(or in pixels: px\)"),
        ("{axial: 0 px}", "0 px is not from 0.5 px to 200 px"),
        ("{axial: {uniform: [1 px, 2 mm]}}", "both numbers need the same kind of unit"),
        ("{axial: 2 pixel}", "speckle.axial: unknown unit 'pixel'"),
        ("{}", "speckle: needs axial or lateral, or both"),
        ("{axial: 2 px, lateral: 2 MHz}", "speckle.lateral: 2 MHz is a frequency, not a length"),
    ],
)
def test_impossible_cells_are_refused_with_what_is_possible(speckle, message):
    with pytest.raises(ConfigError, match=message) as caught:
        phantom_from_text(BASE + f"speckle: {speckle}\n")
    assert "phantom:7:" in str(caught.value)


def test_pixels_are_no_length_elsewhere():
    with pytest.raises(ConfigError, match="4 px is a pixel count, not a length"):
        phantom_from_text(BASE.replace("15 mm", "4 px"))


def test_a_size_far_from_the_start_is_found():
    """A burst of 16 periods is cut to two: the pulse's length does not quite grow with every step in between."""
    text = BASE.replace("{type: focused, depth: 15 mm, f_number: 3}", "{type: plane, cycles: 16}")
    found = draw(phantom_from_text(text + "speckle: {axial: 2 px}\n"))
    beam = beam_of(found.probe, found.transmit, found.receive, found.medium, found.image)
    assert axial_cell(beam, 15e-3) == pytest.approx(2.0 * 10e-3 / 79, rel=5e-3)


def test_frequency_compounding_sets_the_pulse():
    text = BASE + "speckle: {axial: 3 px}\ncompound: {frequencies: [6 MHz, 8 MHz]}\n"
    with pytest.raises(ConfigError, match=r"speckle.axial: compound.frequencies sets the pulses"):
        phantom_from_text(text)
