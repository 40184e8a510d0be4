"""Maps: every format gives the values that were written, where the phantom puts them, as labels or echogenicity."""

import hashlib
import json
import multiprocessing
import pickle

import numpy as np
import PIL.Image
import pytest

from usim.errors import ConfigError, DataError
from usim.phantom.draw import draw
from usim.phantom.load import load_phantom, phantom_from_dict
from usim.phantom.map_sampling import placed
from usim.phantom.maps import read_map
from usim.phantom.schema import Scene
from usim.phantom.truth import attenuation_at, echogenicity_at, echogenicity_db_at, label_at, label_names
from usim.pipeline import simulate
from usim.sizing import plan_run

nibabel = pytest.importorskip("nibabel")

BASE = {
    "probe": "L11-5v",
    "image": {"x": ["-8 mm", "8 mm"], "z": ["4 mm", "24 mm"], "pixels": [32, 40]},
    "background": {"echogenicity": 0},
    "scatterers": {"model": "field"},
}
EDGES = {"x": [-6e-3, 4e-3], "z": [6e-3, 21e-3]}
TISSUES = {0: "none", 1: {"name": "fat", "echogenicity": 6}, 7: {"name": "cyst", "echogenicity": "anechoic"}}
LABELS = np.random.default_rng(3).choice(np.array([0, 1, 7], np.uint8), (30, 20))
GREYS = np.random.default_rng(4).integers(0, 256, (15, 10), np.uint8)


def centres(shape, x, z):
    """Coordinates (x, z) of the pixel centres of a map between edges, each (Z, X)."""
    rows, columns = shape
    across, down = (np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows
    return np.meshgrid(x[0] + across * (x[1] - x[0]), z[0] + down * (z[1] - z[0]))


def save(folder, name, values):
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, values)
    elif ".nii" in name:
        nibabel.save(nibabel.Nifti1Image(values, np.diag([0.5, 0.25, 2.0, 1.0])), path)
    else:
        PIL.Image.fromarray(values).save(path)
    return path


def scene_of(folder, *regions, **change):
    return draw(phantom_from_dict({**BASE, **change, "regions": list(regions)}, base=folder))


def stored(path, **how):
    return read_map(path, digest(path), **how)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("a.png", np.uint8), ("a.png", np.uint16), ("a.png", bool),
        ("a.tif", np.uint8), ("a.tiff", np.uint16), ("a.tif", np.float32), ("a.tif", np.int32),
        ("a.npy", np.uint8), ("a.npy", np.int16), ("a.npy", ">u2"), ("a.npy", np.float64), ("a.npy", np.float16),
        ("a.npy", bool),
    ],
)  # fmt: skip
def test_values_come_as_they_were_written(tmp_path, name, dtype):
    values = (np.arange(12 * 17).reshape(12, 17) * 3 % 251).astype(dtype)
    raster = stored(save(tmp_path, name, values))
    assert raster.values.shape == (12, 17)
    assert not raster.values.flags.writeable
    np.testing.assert_array_equal(raster.values, values)


def test_fortran_order_and_palettes_keep_their_values(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(LABELS))
    np.testing.assert_array_equal(stored(tmp_path / "f.npy").values, LABELS)
    picture = PIL.Image.fromarray(LABELS).convert("P")
    picture.putpalette([value for k in range(256) for value in (k * 7 % 256, k * 3 % 256, 255 - k)])
    wanted = np.asarray(picture)
    picture.save(tmp_path / "p.png")
    np.testing.assert_array_equal(stored(tmp_path / "p.png").values, wanted)


def test_stacks_give_the_middle_slice_or_the_one_that_is_named(tmp_path):
    stack = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    np.save(tmp_path / "s.npy", stack)
    pages = [PIL.Image.fromarray(page) for page in stack]
    pages[0].save(tmp_path / "s.tif", save_all=True, append_images=pages[1:])
    for name in ("s.npy", "s.tif"):
        np.testing.assert_array_equal(stored(tmp_path / name).values, stack[2])
        np.testing.assert_array_equal(stored(tmp_path / name, index=4).values, stack[4])


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize(
    ("axes", "index", "wanted"),
    [
        (("x", "y"), 2, lambda v: v[:, :, 2].T),
        (("-x", "-y"), 2, lambda v: v[::-1, ::-1, 2].T),
        (("y", "-z"), 0, lambda v: v[0, :, ::-1].T),
        (("z", "x"), 3, lambda v: v[:, 3, :]),
        (("-x", "-y"), None, lambda v: v[::-1, ::-1, 3].T),
    ],
)
def test_axes_and_slices_of_volumes(tmp_path, name, axes, index, wanted):
    volume = np.random.default_rng(0).integers(-1000, 1000, (8, 9, 7), np.int16)
    raster = stored(save(tmp_path, name, volume), index=index, axes=axes)
    np.testing.assert_array_equal(raster.values, wanted(volume))
    size = dict(zip("xyz", (0.5e-3, 0.25e-3, 2e-3), strict=True))
    assert raster.pixel == pytest.approx((size[axes[0][-1]], size[axes[1][-1]]))


def test_volumes_are_turned_to_anatomical_axes_first(tmp_path):
    """The same anatomy stored in other orders and directions gives the same map; values are scaled as stored."""
    volume = np.random.default_rng(1).integers(0, 255, (6, 7, 5)).astype(np.int16)
    plain = nibabel.Nifti1Image(volume, np.diag([1.0, 2.0, 3.0, 1.0]))
    plain.header.set_slope_inter(2.0, -100.0)
    nibabel.save(plain, tmp_path / "a.nii")
    other = plain.as_reoriented(nibabel.orientations.axcodes2ornt("SLP"))
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(other.dataobj), other.affine), tmp_path / "b.nii.gz")
    for axes, index in ((("-x", "-y"), 1), (("y", "z"), 4), (("z", "-x"), None)):
        one, two = (stored(tmp_path / name, axes=axes, index=index) for name in ("a.nii", "b.nii.gz"))
        assert one.values.shape == two.values.shape
        assert np.corrcoef(one.values.ravel(), two.values.ravel())[0, 1] > 1 - 1e-12
        assert one.pixel == pytest.approx(two.pixel)


def test_scaled_volumes_have_their_physical_values(tmp_path):
    image = nibabel.Nifti1Image(np.full((3, 3, 3), 500, np.int16), np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    image.to_filename(tmp_path / "ct.nii.gz")
    assert np.unique(stored(tmp_path / "ct.nii.gz").values).tolist() == [-24.0]


def test_2d_volumes_and_millimetres(tmp_path):
    flat = nibabel.Nifti1Image(np.arange(12, dtype=np.uint8).reshape(4, 3), np.diag([1.0, 1.0, 1.0, 1.0]))
    flat.header.set_zooms((0.3, 0.2))
    flat.header.set_xyzt_units("mm")
    flat.to_filename(tmp_path / "f.nii")
    raster = stored(tmp_path / "f.nii", axes=("x", "y"))
    np.testing.assert_array_equal(raster.values, np.arange(12).reshape(4, 3).T)
    assert raster.pixel == pytest.approx((0.3e-3, 0.2e-3))


def test_tiff_says_its_pixel_size(tmp_path):
    PIL.Image.fromarray(GREYS).save(tmp_path / "a.tif", resolution_unit=3, x_resolution=100.0, y_resolution=50.0)
    assert stored(tmp_path / "a.tif").pixel == pytest.approx((1e-4, 2e-4))
    PIL.Image.fromarray(GREYS).save(tmp_path / "b.tif")
    assert stored(tmp_path / "b.tif").pixel is None


def test_labels_lie_where_their_pixels_do(tmp_path):
    save(tmp_path, "m.png", LABELS)
    scene = scene_of(tmp_path, {"shape": "labels", "file": "m.png", **EDGES, "values": TISSUES})
    x, z = centres(LABELS.shape, **EDGES)
    expected = np.select([LABELS == 1, LABELS == 7], [1, 2], 0)
    for dx, dz in ((0, 0), (0.24e-3, -0.24e-3), (-0.24e-3, 0.24e-3)):
        np.testing.assert_array_equal(label_at(scene, x + dx, z + dz), expected)
    assert label_names(scene) == ("background", "fat", "cyst")
    np.testing.assert_array_equal(echogenicity_db_at(scene, x, z), np.select([LABELS == 1, LABELS == 7], [6, -100], 0))
    power = echogenicity_at(scene, x, z)
    assert (power[LABELS == 7] == 0).all()
    np.testing.assert_allclose(power[LABELS == 1], 10**0.6)
    assert label_at(scene, [-6.1e-3, 4.1e-3, 0, 0], [10e-3, 10e-3, 5.9e-3, 21.1e-3]).tolist() == [0, 0, 0, 0]


def test_labels_count_on_after_a_map(tmp_path):
    save(tmp_path, "m.png", LABELS)
    over = {"name": "over", "shape": "circle", "center": [0, 0.01], "radius": 1e-3, "echogenicity": 3}
    scene = scene_of(tmp_path, {"shape": "labels", "file": "m.png", **EDGES, "values": TISSUES}, over)
    assert label_names(scene) == ("background", "fat", "cyst", "over")
    assert label_at(scene, 0.0, 0.01) == 3


def test_a_map_is_turned_about_its_centre(tmp_path):
    save(tmp_path, "m.png", LABELS)
    scene = scene_of(tmp_path, {"shape": "labels", "file": "m.png", **EDGES, "values": TISSUES, "angle": "30 deg"})
    x, z = centres(LABELS.shape, **EDGES)
    dx, dz = x + 1e-3, z - 13.5e-3
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turned = -1e-3 + cos * dx - sin * dz, 13.5e-3 + sin * dx + cos * dz
    np.testing.assert_array_equal(label_at(scene, *turned), np.select([LABELS == 1, LABELS == 7], [1, 2], 0))


def test_a_centre_and_a_pixel_place_a_map_as_well(tmp_path):
    save(tmp_path, "m.png", LABELS)
    save(tmp_path, "v.nii.gz", np.zeros((20, 12, 3), np.uint8))
    by_centre = scene_of(
        tmp_path,
        {"shape": "labels", "file": "m.png", "center": ["-1 mm", "13.5 mm"], "pixel": "0.5 mm", "values": TISSUES},
        {"shape": "labels", "file": "v.nii.gz", "center": [0, "13.5 mm"], "values": {0: {"echogenicity": 1}}},
    )
    assert placed(by_centre.regions[0]).box == pytest.approx((-6e-3, 4e-3, 6e-3, 21e-3))
    assert placed(by_centre.regions[1]).box == pytest.approx((-5e-3, 5e-3, 12e-3, 15e-3))


def test_greys_become_levels_linear_in_power(tmp_path):
    save(tmp_path, "g.png", GREYS)
    image = {"shape": "image", "file": "g.png", **EDGES, "levels": ["-30 dB", "10 dB"]}
    scene = scene_of(tmp_path, {**image, "echogenicity": 2})
    power = 10 ** ((-30 + GREYS / 255 * 40 + 2) / 10)
    x, z = centres(GREYS.shape, **EDGES)
    np.testing.assert_allclose(echogenicity_at(scene, x, z), power, rtol=1e-6)
    np.testing.assert_allclose(echogenicity_db_at(scene, x, z), 10 * np.log10(power), atol=1e-5)
    # Midway between four pixels the power is their mean; half a pixel from the edge it is the outermost pixel's.
    half = (x[:-1, :-1] + x[1:, 1:]) / 2, (z[:-1, :-1] + z[1:, 1:]) / 2
    mean = (power[1:, 1:] + power[1:, :-1] + power[:-1, 1:] + power[:-1, :-1]) / 4
    np.testing.assert_allclose(echogenicity_at(scene, *half), mean, rtol=1e-6)
    np.testing.assert_allclose(echogenicity_at(scene, np.full(15, EDGES["x"][0]), z[:, 0]), power[:, 0], rtol=1e-6)
    nearest = scene_of(tmp_path, {**image, "interpolation": "nearest"})
    np.testing.assert_allclose(echogenicity_at(nearest, x + 0.4e-3, z - 0.4e-3) * 10**0.2, power, rtol=1e-6)
    assert label_names(scene) == ("background", "region")
    assert label_at(scene, [0.0, 0.0], [0.01, 0.022]).tolist() == [1, 0]


def test_curves_are_piecewise_linear_and_dark_greys_scatter_nothing(tmp_path):
    values = np.linspace(-50.0, 350.0, 41, dtype=np.float32)[None, :].repeat(2, axis=0)
    np.save(tmp_path / "g.npy", values)
    region = {"shape": "image", "file": "g.npy", **EDGES, "curve": {"0": -20, "100": "-10 dB", "300": 5}}
    scene = scene_of(tmp_path, {**region, "anechoic_below": -20})
    x, z = centres(values.shape, **EDGES)
    expected = np.interp(values, [0, 100, 300], [-20, -10, 5])
    expected[values < -20] = -100
    np.testing.assert_allclose(echogenicity_db_at(scene, x, z), expected, atol=1e-5)
    assert (echogenicity_at(scene, x, z)[values < -20] == 0).all()


def test_16_bit_images_span_their_type_and_others_say_their_greys(tmp_path):
    values = np.array([[0, 65535], [13107, 52428]], np.uint16)
    save(tmp_path, "g.png", values)
    scene = scene_of(tmp_path, {"shape": "image", "file": "g.png", **EDGES, "levels": [-20, 0]})
    np.testing.assert_allclose(
        echogenicity_db_at(scene, *centres((2, 2), **EDGES)), -20 + values / 65535 * 20, atol=1e-5
    )
    np.save(tmp_path / "g.npy", values.astype(np.int32))
    region = {"shape": "image", "file": "g.npy", **EDGES, "levels": [-20, 0]}
    with pytest.raises(ConfigError, match=r"grey: the file holds int32, 0 to 65535; say which greys"):
        scene_of(tmp_path, region)
    given = scene_of(tmp_path, {**region, "grey": [0, 65535]})
    np.testing.assert_allclose(
        echogenicity_db_at(given, *centres((2, 2), **EDGES)), -20 + values / 65535 * 20, atol=1e-5
    )


def test_tissues_of_a_map_have_textures_and_attenuations_of_their_own(tmp_path):
    save(tmp_path, "m.png", (np.arange(400).reshape(20, 20) // 200).astype(np.uint8))
    tissues = {
        "0": {"name": "up", "echogenicity": 0, "attenuation": 0.9},
        "1": {"name": "down", "echogenicity": 0, "texture": {"std": 3, "correlation": "1 mm"}},
    }
    scene = scene_of(tmp_path, {"shape": "labels", "file": "m.png", **EDGES, "values": tissues})
    x, z = centres((60, 60), **EDGES)
    level = echogenicity_db_at(scene, x, z)
    assert np.ptp(level[:30]) == 0
    assert 1.5 < level[30:].std() < 4.5
    assert attenuation_at(scene, [0.0, 0.0], [10e-3, 20e-3]).tolist() == [0.9, 0.5]


def test_values_beside_the_list_may_be_let_through(tmp_path):
    save(tmp_path, "m.png", LABELS)
    region = {"shape": "labels", "file": "m.png", **EDGES, "values": {7: {"echogenicity": 1}}}
    with pytest.raises(ConfigError, match=r"regions\.0\.values: the file holds 0, 1 besides"):
        scene_of(tmp_path, region)
    scene = scene_of(tmp_path, {**region, "others": "none"})
    np.testing.assert_array_equal(label_at(scene, *centres(LABELS.shape, **EDGES)), LABELS == 7)


def test_a_stored_scene_and_its_file_make_the_frame_again(tmp_path):
    save(tmp_path, "m.png", LABELS)
    save(tmp_path, "g.png", GREYS)
    regions = [
        {"shape": "labels", "file": "m.png", **EDGES, "values": {**TISSUES, 1: {"echogenicity": {"uniform": [3, 9]}}}},
        {"shape": "image", "file": "g.png", "center": [0, {"uniform": ["8 mm", "20 mm"]}], "pixel": "0.3 mm",
         "levels": [{"uniform": [-30, -10]}, 5], "angle": {"uniform": [0, 3]}},
    ]  # fmt: skip
    phantom = phantom_from_dict({**BASE, "regions": regions}, base=tmp_path)
    frame = simulate(phantom, index=3)
    told = json.loads(json.dumps(frame.params["scene"]))
    assert told["regions"][0]["sha256"] == digest(tmp_path / "m.png")
    again = simulate(phantom_from_dict(told, base=tmp_path), seed=frame.params["seed"], index=frame.params["index"])
    np.testing.assert_array_equal(again.bmode, frame.bmode)
    np.testing.assert_array_equal(again.truth.bmode, frame.truth.bmode)
    assert Scene.model_validate(told) == draw(phantom, index=3)
    assert {told["regions"][0]["sha256"], told["regions"][1]["sha256"]} == {content for _, content in phantom.files}
    save(tmp_path, "m.png", LABELS[::-1])
    with pytest.raises(DataError, match=r"regions\.0\.file: .*sha256 is .*the file has changed"):
        phantom_from_dict(told, base=tmp_path)


def test_the_manifest_knows_the_content_of_maps(tmp_path):
    document = {**BASE, "regions": [{"shape": "labels", "file": "m.png", **EDGES, "values": TISSUES, "others": "none"}]}
    digests = []
    for values in (LABELS, LABELS[::-1]):
        save(tmp_path, "m.png", values)
        phantom = phantom_from_dict(document, base=tmp_path)
        digests.append(plan_run(phantom).manifest(phantom, {}).config_sha256)
    assert digests[0] != digests[1]


def test_a_map_is_decoded_once(tmp_path, monkeypatch):
    save(tmp_path, "m.png", np.roll(LABELS, 5))
    opened = []
    whole = PIL.Image.open
    monkeypatch.setattr(PIL.Image, "open", lambda *given, **more: opened.append(1) or whole(*given, **more))
    region = {"shape": "labels", "file": "m.png", **EDGES, "values": TISSUES, "angle": {"uniform": [0, 1]}}
    phantom = phantom_from_dict({**BASE, "regions": [region]}, base=tmp_path)
    for index in range(10):
        label_at(draw(phantom, index=index), 0.0, 0.01)
    assert len(opened) == 1


def labels_elsewhere(phantom, pipe):
    pipe.send(label_at(draw(pickle.loads(phantom)), *centres(LABELS.shape, **EDGES)))


def test_phantoms_with_maps_travel_to_spawned_workers(tmp_path):
    save(tmp_path, "m.png", LABELS)
    region = {"shape": "labels", "file": "m.png", **EDGES, "values": TISSUES}
    phantom = phantom_from_dict({**BASE, "regions": [region]}, base=tmp_path)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=labels_elsewhere, args=(pickle.dumps(phantom), theirs))
    worker.start()
    assert ours.poll(60)
    np.testing.assert_array_equal(ours.recv(), label_at(draw(phantom), *centres(LABELS.shape, **EDGES)))
    worker.join(10)
    assert worker.exitcode == 0


def test_a_scene_alone_does_not_know_its_files():
    region = {"shape": "image", "file": "never.png", "sha256": "0" * 64, **EDGES, "levels": [0, 1]}
    scene = Scene.model_validate({**BASE, "regions": [region]})
    with pytest.raises(DataError, match=r"never\.png: .*draw the scene from its phantom"):
        echogenicity_at(scene, 0.0, 0.01)


def test_slices_may_be_drawn(tmp_path):
    stack = np.arange(6, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(5, 2)
    np.save(tmp_path / "s.npy", stack)
    values = {k: {"name": f"slice {k}", "echogenicity": k} for k in range(6)}
    region = {"shape": "labels", "file": "s.npy", **EDGES, "values": values, "slice": {"integer": [1, 4]}}
    phantom = phantom_from_dict({**BASE, "regions": [region]}, base=tmp_path)
    seen = {float(echogenicity_db_at(draw(phantom, index=i), 0.0, 0.01)) for i in range(30)}
    assert seen == {1.0, 2.0, 3.0, 4.0}


def test_maps_are_found_beside_the_phantom_file(tmp_path):
    (tmp_path / "maps").mkdir()
    save(tmp_path / "maps", "m.png", LABELS)
    document = {**BASE, "regions": [{"shape": "labels", "file": "maps/m.png", **EDGES, "values": TISSUES}]}
    (tmp_path / "p.yaml").write_text(json.dumps(document))
    assert len(label_names(draw(load_phantom(tmp_path / "p.yaml")))) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "needs the edges x and z, or center"),
        ({"center": [0, 0.01]}, "center: goes without x"),
        ({"x": [4e-3, -6e-3]}, "x: the end -6 mm must lie beyond the start 4 mm"),
        ({"axes": ["x", "-x"]}, "axes: x and -x are one axis"),
        ({"axes": ["x", "w"]}, r"axes\.1: 'w' is none of"),
        ({"levels": None}, "needs levels, or curve"),
        ({"curve": {"0": 1, "9": 2}}, "levels and curve exclude each other"),
        ({"levels": None, "curve": {"0": 1}}, r"curve: .*2"),
        ({"levels": None, "curve": {"0": 1, "a": 2}}, r"curve\.a: expected a number"),
        ({"levels": None, "curve": {"0": 1, "5": "loud"}}, r"curve\.5: expected a number"),
        ({"levels": [0, "300 dB"]}, r"levels\.1: 300 dB is beyond 60 dB"),
        ({"grey": [3, 3]}, "grey: the highest 3 must lie above the lowest 3"),
        ({"slice": -1}, "slice: -1 is below 0"),
        ({"interpolation": "cubic"}, "'cubic' is none of linear, nearest"),
        ({"shape": "labels", "levels": None, "values": {"x": "none"}}, r"values\.x: expected a whole number"),
        ({"shape": "labels", "levels": None, "values": {"1": {"name": "a"}}}, r"values\.1\.echogenicity: .*missing"),
        ({"shape": "labels", "levels": None, "values": {"1": {"echogenicity": 0, "edge": 1e-3}}}, r"values\.1\.edge"),
        ({"shape": "labels", "levels": None, "values": {"1": 3}}, r"values\.1: expected a mapping of keys, got 3"),
        ({"shape": "labels", "levels": None, "values": {}}, "values"),
    ],
)
def test_mistakes_are_refused_where_they_stand(tmp_path, change, message):
    save(tmp_path, "g.png", GREYS)
    region = {"shape": "image", "file": "g.png", **EDGES, "levels": [0, 1], **change}
    region = {key: value for key, value in region.items() if value is not None}
    with pytest.raises(ConfigError, match=rf"regions\.0.*{message}"):
        scene_of(tmp_path, region)
