"""Both engines on the same scatterers: what is reached, how it is told, drawn and written, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

import usim
from usim.cli import main
from usim.engines.beam import Beam
from usim.errors import ConfigError, ResourceError
from usim.medium import Medium
from usim.phantom.load import phantom_from_text
from usim.probe import Probe
from usim.scan import Receive
from usim.scatterers import Scatterers
from usim.transmit import FocusedScan, PlaneScan
from usim.validation import AIM_DB, AIM_ENVELOPE, Agreement, column_stride, inside_aperture, table, thin, validate
from usim.validation_view import draw_validation
from usim.view.files import check_target

PHANTOM = """\
probe: {preset: L11-5v, elements: 64}
image: {x: [-2 mm, 2 mm], z: [10 mm, 16 mm], pixels: [48, 64]}
transmit: {type: focused, depth: 12 mm, f_number: 2.5}
background: {echogenicity: 0 dB}
points: [{position: [1 mm, 13 mm], amplitude: 20 dB}]
seed: 3
"""
SMALL = {"scatterers": 1500, "bands": 3}


@pytest.fixture(scope="module")
def phantom():
    return phantom_from_text(PHANTOM, "small.yaml")


@pytest.fixture(scope="module")
def calibrated(phantom):
    return validate(phantom, **SMALL)


@pytest.fixture(scope="module")
def separable(phantom):
    return validate(phantom, psf="separable", **SMALL)


def test_agreement_of_known_arrays():
    rng = np.random.default_rng(1)
    exact = rng.normal(size=(40, 30)) + 1j * rng.normal(size=(40, 30))
    twice = Agreement.of(2j * exact, exact)
    assert twice.nrmse_db == pytest.approx(10 * np.log10(5))  # |2i - 1|^2
    assert twice.fitted_db < -140
    assert twice.correlation == pytest.approx(1.0)
    assert twice.envelope == pytest.approx(1.0)
    assert not twice.meets
    other = 0.01 * (rng.normal(size=exact.shape) + 1j * rng.normal(size=exact.shape))
    near = Agreement.of(exact + other, exact)
    assert near.nrmse_db == pytest.approx(-40, abs=0.5)
    assert near.fitted_db == pytest.approx(-40, abs=0.5)
    assert near.meets
    nothing = Agreement.of(exact[:0], exact[:0])
    assert not nothing.judged
    assert not nothing.meets


def test_inside_is_where_the_array_does_not_end():
    probe, medium, receive = Probe.preset("L11-5v"), Medium(), Receive(f_number=2.0)
    end = probe.aperture / 2.0
    x = np.array([0.0, 1e-3, end - 5e-3 - 1e-6, end - 5e-3 + 1e-6, end])
    focused = Beam(probe, FocusedScan(depth=10e-3, f_number=2.0), receive, medium)
    assert inside_aperture(focused, x, 20e-3).tolist() == [True, True, True, False, False]
    assert not inside_aperture(focused, np.array(end - 2e-3), 1e-3)  # the transmit aperture is cut
    assert inside_aperture(focused, x, 0.5).tolist() == [True, False, False, False, False]
    steered = Beam(probe, PlaneScan(angle=0.3), receive, medium)
    assert inside_aperture(steered, x[:3], 20e-3).tolist() == [True, True, True]
    assert not inside_aperture(steered, np.array(-end + 2e-3), 8e-3)
    assert inside_aperture(steered, np.array(end - 2e-3), 8e-3)


def test_every_kth_scatterer_is_as_bright_on_average():
    cloud = Scatterers(np.arange(33.0).reshape(11, 3), np.ones(11))
    few = thin(cloud, 4)
    assert few.position[:, 0].tolist() == [0.0, 9.0, 18.0, 27.0]
    assert (few.amplitude**2).sum() == pytest.approx(12)
    assert len(thin(cloud, 11)) == 11


def test_columns_are_skipped_only_as_far_as_the_beam_allows(calibrated):
    beam = Beam(Probe.preset("L11-5v"), FocusedScan(depth=12e-3, f_number=2.5), Receive(), Medium())
    assert column_stride(beam, calibrated.x) * (calibrated.x[1] - calibrated.x[0]) < beam.wavelength
    assert column_stride(beam, np.arange(9) * 10e-6) == 8
    assert column_stride(beam, np.arange(9) * 1e-3) == 1


def test_calibrated_meets_the_aim_and_separable_does_not(calibrated, separable):
    assert calibrated.meets
    assert calibrated.shortfalls == []
    assert calibrated.middle.nrmse_db < -35
    assert calibrated.middle.envelope > 0.9995
    for judged in (*(band.inside for band in calibrated.bands), *calibrated.columns):
        assert judged.nrmse_db < -30
        assert judged.envelope > 0.999
    assert len(calibrated.singles) == 27
    for single in calibrated.singles:
        assert single.inside
        assert single.agreement.nrmse_db < -30
        assert single.agreement.envelope > 0.999
    assert not separable.meets
    assert len(separable.shortfalls) == 3
    assert -15 < separable.middle.nrmse_db < -5
    assert separable.middle.nrmse_db == pytest.approx(separable.whole.nrmse_db)
    assert separable.whole.nrmse_db == pytest.approx(separable.whole.fitted_db, abs=1e-3)  # one gain for the image
    assert (calibrated.rank, separable.rank) == (3, 1)


def test_scatterers_are_those_of_the_frame_and_points_are_an_option(phantom, calibrated):
    frame = usim.simulate(phantom)
    assert calibrated.exact.shape == calibrated.fast.shape == frame.bmode.shape
    assert calibrated.used <= 1500 < calibrated.drawn
    assert calibrated.points == 0
    level = 20 * np.log10(np.abs(calibrated.exact))
    assert np.median(level) == pytest.approx(np.median(frame.bmode), abs=1.5)
    pointed = usim.validate(phantom, points=True, psf=None, **SMALL)
    assert pointed.psf == "separable"  # the phantom's own
    assert pointed.points == 1
    peak = np.unravel_index(np.abs(pointed.exact).argmax(), pointed.exact.shape)
    assert pointed.z[peak[0]] == pytest.approx(13e-3, abs=0.2e-3)
    assert pointed.x[peak[1]] == pytest.approx(1e-3, abs=0.1e-3)


def test_table_and_json_tell_the_same(calibrated, separable):
    lines = table(calibrated).splitlines()
    assert lines[0].startswith(f"small.yaml, frame 0, seed 3: {calibrated.used} of {calibrated.drawn} scatterers")
    assert sum(" - " in line[:14] for line in lines) == 3
    assert f"{calibrated.middle.nrmse_db:.1f}" in lines[-4]
    assert lines[-1].endswith(": met")
    assert "not met by" in table(separable)
    data = json.loads(json.dumps(separable.as_dict(), allow_nan=False))
    assert data["aim"]["met"] is False
    assert data["aim"]["nrmse_db"] == AIM_DB
    assert data["aim"]["envelope"] == AIM_ENVELOPE
    assert data["aim"]["not_met"] == separable.shortfalls
    assert data["inside"]["nrmse_db"] == separable.middle.nrmse_db
    assert [band["top"] for band in data["bands"]] == [band.top for band in separable.bands]
    assert len(data["columns"]) == 48
    assert len(data["singles"]) == 27
    assert np.shape(data["strips_nrmse_db"]) == (3, 16)


def test_nothing_inside_is_not_judged(calibrated):
    outside = replace(calibrated, inside=np.zeros_like(calibrated.inside), singles=())
    assert outside.meets is None
    assert "not judged" in table(outside)
    data = outside.as_dict()
    assert data["aim"]["met"] is None
    assert data["inside"]["nrmse_db"] is None
    draw_validation(outside)


def test_picture_shows_images_difference_and_curves(calibrated):
    figure = draw_validation(calibrated)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == ["exact (sir)", "psf: calibrated", "difference", "error by place"]
    for name in ("exact (sir)", "psf: calibrated", "difference"):
        image = panels[name].get_images()[0]
        assert image.get_clim() == (-60, 0)
        assert np.ptp(image.get_array()) > 10
    difference = panels["difference"].get_images()[0].get_array()
    assert np.mean(difference) < np.mean(panels["exact (sir)"].get_images()[0].get_array()) - 25
    assert [axes.get_xlabel() for axes in figure.axes if "NRMSE" in axes.get_ylabel()] == ["depth [mm]", "lateral [mm]"]


def test_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(PHANTOM)
    words = ["validate", "small.yaml", "--scatterers", "1500", "--bands", "3"]
    assert main([*words, "--json", "out.json"]) == 0
    out, err = capsys.readouterr()
    assert "scatterers, psf calibrated (rank 3) against sir\n" in out
    assert "envelope correlation >= 0.99: met\n" in out
    assert out.endswith("small.validate.png\n")
    assert err.startswith("calibrating the PSF")
    assert (tmp_path / "small.validate.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "small.validate.png").stat().st_size > 50_000
    assert json.loads((tmp_path / "out.json").read_text())["aim"]["met"] is True
    assert main(["-q", *words, "--psf", "separable", "--seed", "5", "-o", "b.png"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "b.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["gone.yaml"], 2, "gone.yaml"),
        (["small.yaml", "--scatterers", "0"], 2, "--scatterers"),
        (["small.yaml", "--index", "-1"], 2, "--index"),
        (["small.yaml", "--psf", "best"], 2, "--psf"),
        (["field.yaml"], 2, "field.yaml: scatterers.model: field has no scatterers"),
        (["empty.yaml", "--psf", "separable"], 2, "empty.yaml: none of 0 scatterers lies in view"),
        (["wide.yaml"], 2, "wide.yaml: image.x: no element fires for 16 of 48 columns"),
        (["small.yaml", "-o", "x.nonsense"], 2, "use .png"),
        (["small.yaml", "-o", "gone/x.png"], 4, "gone/x.png: cannot write"),
        (["small.yaml", "--json", "gone/x.json"], 4, "gone/x.json: cannot write"),
    ],
)
def test_refusals_are_one_line(tmp_path, monkeypatch, capsys, arguments, code, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(PHANTOM)
    (tmp_path / "field.yaml").write_text(PHANTOM + "scatterers: {model: field}\n")
    (tmp_path / "empty.yaml").write_text(PHANTOM.replace("echogenicity: 0 dB", "echogenicity: anechoic"))
    (tmp_path / "wide.yaml").write_text(PHANTOM.replace("2 mm, 2 mm", "18 mm, 18 mm"))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(["-q", "validate", *arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert text in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scatterers": 0}, "scatterers: 0 is outside its limits"),
        ({"bands": 1000}, "bands: 1000 is outside its limits"),
        ({"index": -1}, "index: -1 is outside its limits"),
        ({"seed": -1}, "seed: -1 is outside its limits"),
        ({"psf": "best"}, "psf: 'best' is unknown"),
    ],
)
def test_arguments_outside_their_limits(phantom, options, text):
    with pytest.raises(ConfigError, match=text):
        validate(phantom, **options)


def test_pictures_that_cannot_be_are_refused_before_the_work(tmp_path):
    check_target(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"use \.png"):
        check_target(tmp_path / "a")
    with pytest.raises(ResourceError, match="no such folder"):
        check_target(tmp_path / "gone" / "a.png")
