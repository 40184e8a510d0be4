"""Beam space and the conversion of sectors to pixels, against what can be written down."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usim.engines.geometry import FLAT, Fan
from usim.errors import ConfigError
from usim.io.packing import bytes_per_frame
from usim.io.shard import ShardHeader, encode_shard
from usim.phantom.load import phantom_from_text
from usim.pipeline import simulate
from usim.scan import Sector
from usim.scan_convert import conversion_of, picture_of
from usim.speckle import FLOOR_DB

SECTOR = """
probe: %s
transmit: {type: focused, depth: 50 mm, f_number: 4}
image: {angle: [-30 deg, 30 deg], depth: [10 mm, 70 mm], lines: 48, samples: 120, pixels: [60, 50]}
noise: {snr: 40 dB}
background: {name: tissue, echogenicity: 0 dB}
regions:
  - {name: cyst, shape: circle, center: [8 mm, 45 mm], radius: 6 mm, echogenicity: -10 dB}
seed: 5
"""
finite = {"allow_nan": False, "allow_infinity": False}
radii, lengths = st.floats(0.0, 0.1, **finite), st.floats(0.02, 0.2, **finite)


@given(radii, lengths, st.floats(-1.3, 1.3, **finite), st.floats(1e-3, 0.3, **finite))
def test_beam_space_and_back(radius, length, angle, r):
    fan = Fan(radius, length)
    x, z = fan.to_space(angle * length, r)
    assert np.hypot(x, z + radius) == pytest.approx(radius + r, rel=1e-12)
    v, back = fan.to_beam(x, z)
    assert (v, back) == (pytest.approx(angle * length, abs=1e-12), pytest.approx(r, abs=1e-12))


@given(radii, lengths, st.floats(-1.2, 1.2, **finite), st.floats(1e-3, 0.3, **finite))
def test_spread_is_what_a_step_across_the_lines_measures(radius, length, angle, r):
    fan = Fan(radius, length)
    (x0, z0), (x1, z1) = (fan.to_space(angle * length + step, r) for step in (-1e-6, 1e-6))
    assert np.hypot(x1 - x0, z1 - z0) / 2e-6 == pytest.approx(float(fan.spread(r)), rel=1e-5)


def test_linear_scans_are_left_as_they_are():
    x, z = np.linspace(-1, 1, 7), np.linspace(1, 2, 7)
    assert FLAT.to_beam(x, z) == (x, z)
    assert FLAT.to_space(x, z) == (x, z)
    assert FLAT.spread(z) == 1.0


@pytest.mark.parametrize(("radius", "angle"), [(0.0, (-0.7, 0.7)), (50e-3, (-0.6, 0.6)), (40e-3, (0.1, 0.8))])
def test_mask_covers_the_sector(radius, angle):
    """Its area is that of the fan, (rho1^2 - rho0^2) (a1 - a0) / 2, and its box touches the fan on all sides."""
    image = Sector(angle=angle, depth=(10e-3, 90e-3), pixels=(801, 701))
    conversion = conversion_of(image, radius)
    area = ((radius + 90e-3) ** 2 - (radius + 10e-3) ** 2) * (angle[1] - angle[0]) / 2.0
    pixel = (conversion.x[1] - conversion.x[0]) * (conversion.z[1] - conversion.z[0])
    assert conversion.mask.sum() * pixel == pytest.approx(area, rel=5e-3)
    for side in (conversion.mask[:3], conversion.mask[-3:], conversion.mask[:, :3], conversion.mask[:, -3:]):
        assert side.any()


def test_conversion_reads_bilinear_functions_exactly():
    """A value that is linear in range and in angle is read exactly; beyond the fan there is the value asked for."""
    image = Sector(angle=(-0.5, 0.6), depth=(20e-3, 80e-3), lines=41, samples=57, pixels=(90, 70))
    radius = 30e-3
    conversion = conversion_of(image, radius)
    values = image.range_axis()[:, None] * 100.0 + image.angle_axis()[None, :] * 7.0
    read = conversion.linear(values, -1.0)
    away = np.hypot(conversion.x[None, :], conversion.z[:, None] + radius) - radius
    angle = np.arctan2(conversion.x[None, :], conversion.z[:, None] + radius)
    np.testing.assert_allclose(read[conversion.mask], (away * 100.0 + angle * 7.0)[conversion.mask], atol=1e-5)
    assert (read[~conversion.mask] == -1.0).all()
    line = conversion.nearest(np.broadcast_to(np.arange(41, dtype=np.uint16), (57, 41)))
    wanted = (angle - image.angle[0]) / (image.angle[1] - image.angle[0]) * 40.0
    assert np.abs(line - wanted)[conversion.mask].max() <= 0.5 + 1e-6


def test_expectation_commutes_with_the_conversion():
    """The mean of converted pictures is the conversion of the mean in dB, to single precision."""
    image = Sector(angle=(-0.5, 0.5), depth=(20e-3, 60e-3), lines=30, samples=40, pixels=(64, 64))
    conversion = conversion_of(image, 0.0)
    rng = np.random.default_rng(2)
    draws = np.abs(rng.normal(size=(20, 40, 30)) + 1j * rng.normal(size=(20, 40, 30))).astype(np.float32) * 1e-2
    pictures = np.mean([picture_of(draw, conversion)[0] for draw in draws], axis=0)
    mean = conversion.linear(np.mean(20.0 * np.log10(draws), axis=0), FLOOR_DB)
    np.testing.assert_allclose(pictures, mean, atol=2e-4)


@pytest.mark.parametrize("probe", ["P4-2v", "C5-2v"])
def test_frame_holds_the_picture_and_its_lines(probe, tmp_path):
    frame = simulate(phantom_from_text(SECTOR % probe))
    assert frame.bmode.shape == frame.truth.bmode.shape == frame.truth.mask.shape == (50, 60)
    assert frame.polar.bmode.shape == frame.polar.truth.labels.shape == frame.polar.iq.shape == (120, 48)
    assert frame.iq is None
    outside = frame.truth.mask == 0
    for values in (frame.bmode, frame.truth.bmode, frame.truth.resolved_db, frame.truth.echogenicity_db):
        assert (values[outside] == FLOOR_DB).all()
        assert (values[~outside] > -100.0).all()
    assert not frame.truth.labels[outside].any()
    # labels are those at the pixels, not converted ones
    x, z = frame.axes.x[None, :], frame.axes.z[:, None]
    np.testing.assert_array_equal(frame.truth.labels == 1, (np.hypot(x - 8e-3, z - 45e-3) <= 6e-3) & ~outside)
    np.testing.assert_allclose(20 * np.log10(frame.envelope[~outside]), frame.bmode[~outside], atol=1e-3)
    radius = 49.57e-3 if probe == "C5-2v" else 0.0
    away, angle = frame.polar.axes.range[:, None] + radius, frame.polar.axes.angle[None, :]
    cyst = np.hypot(away * np.sin(angle) - 8e-3, away * np.cos(angle) - radius - 45e-3) <= 6e-3
    np.testing.assert_array_equal(frame.polar.truth.labels == 1, cyst)


def test_a_sector_survives_the_file(tmp_path):
    import h5py

    from usim.io.shard import read_frame

    frames = [simulate(phantom_from_text(SECTOR % "P4-2v"), look=look) for look in (0, 1)]
    data = encode_shard(frames, ShardHeader(2, 0, 5, "", "", {}, ("iq",)))
    path = tmp_path / "shard.h5"
    path.write_bytes(data)
    with h5py.File(path) as file:
        assert "iq" not in file
        assert file["probe/type"][()] == b"phased"
        found = read_frame(file, 1)
        sizes = sum(file[name].id.get_storage_size() for name in ("bmode", "truth/mask", "polar/iq", "polar/bmode"))
    wanted = frames[1]
    for name in ("bmode", "envelope"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        np.testing.assert_array_equal(getattr(found.polar, name), getattr(wanted.polar, name))
    np.testing.assert_array_equal(found.polar.iq, wanted.polar.iq)
    np.testing.assert_array_equal(found.truth.mask, wanted.truth.mask)
    np.testing.assert_array_equal(found.polar.truth.bmode, wanted.polar.truth.bmode)
    np.testing.assert_array_equal(found.polar.axes.angle, wanted.polar.axes.angle)
    np.testing.assert_array_equal(found.polar.axes.range, wanted.polar.axes.range)
    assert found.polar.truth.label_names == ("tissue", "cyst")
    assert sizes >= 2 * (50 * 60 * 5 + 120 * 48 * 12)
    estimate = bytes_per_frame((60, 50), ("iq",), (48, 120)) - 16_384
    assert estimate == 50 * 60 * (5 * 4 + 2 + 2) + 120 * 48 * (6 * 4 + 8 + 2 + 1 + 8)


def test_zea_opens_a_sector(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    zea = pytest.importorskip("zea", reason="zea (development extra) is not installed")
    frame = simulate(phantom_from_text(SECTOR % "C5-2v"))
    path = tmp_path / "shard-00000.h5"
    path.write_bytes(encode_shard([frame], ShardHeader(1, 0, 5, "", "", {"usim": "0.1.0"})))
    with zea.File(path) as file:
        assert file.validate() == {"status": "success"}
        spec = file.validate_spec()
        np.testing.assert_array_equal(file.data.image.values[0], frame.bmode)
        assert spec.probe.type == "curved"
        assert float(np.ptp(spec.probe.probe_geometry[:, 2])) > 5e-3


REFUSED = {
    "probe: C5-2v\nimage: {x: [-9 mm, 9 mm], z: [5 mm, 50 mm], pixels: [64, 64]}": "image: 'C5-2v' is convex",
    "probe: P4-2v\nimage: {angle: [-30 deg, 30 deg], depth: [5 mm, 50 mm], pixels: [64, 64]}": "transmit: a sector",
    "probe: C5-2v\ntransmit: {type: focused, depth: 40 mm}\n"
    "image: {angle: [-39 deg, 30 deg], depth: [5 mm, 50 mm], pixels: [64, 64]}": "image.angle: lines at 39 deg",
    "probe: P4-2v\npsf: calibrated\ntransmit: {type: focused, depth: 40 mm}\n"
    "image: {angle: [-30 deg, 30 deg], depth: [5 mm, 50 mm], pixels: [64, 64]}": "psf: calibrated holds linear",
    "probe: P4-2v\ntransmit: {type: focused, depth: 40 mm}\n"
    "image: {angle: [30 deg, 30 deg], depth: [5 mm, 50 mm], pixels: [64, 64]}": "angle: the end 30 deg",
    "probe: P4-2v\ntransmit: {type: focused, depth: 40 mm}\n"
    "image: {angle: [-30 deg, 30 deg], depth: [50 mm, 5 mm], pixels: [64, 64]}": "depth: the end 5 mm",
    "probe: P4-2v\ntransmit: {type: focused, depth: 40 mm}\n"
    "image: {angle: [-80 deg, 30 deg], depth: [5 mm, 50 mm], pixels: [64, 64]}": "image.angle.0",
    "probe: P4-2v\ntransmit: {type: focused, depth: 40 mm}\n"
    "image: {angle: [-30 deg, 30 deg], depth: [5 mm, 50 mm], x: [0, 1 mm], pixels: [64, 64]}": "image.x: unknown key",
    "probe: P4-2v\ntransmit: {type: focused, depth: 40 mm}\n"
    "image: {angle: [-30 deg, 30 deg], pixels: [64, 64]}": "image.depth: this key is required",
}


@pytest.mark.parametrize("text", REFUSED, ids=REFUSED.values())
def test_what_does_not_fit_is_refused_with_its_place(text):
    with pytest.raises(ConfigError) as error:
        phantom_from_text(text + "\nbackground: {echogenicity: 0 dB}\n")
    assert REFUSED[text] in str(error.value)
