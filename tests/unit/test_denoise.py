"""Denoisers: what names and settings load, the way of images to the method's scale and back, and tiles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import s2s
import s2s.denoise
from s2s.denoise import Denoiser, load
from s2s.domain import Domain
from s2s.methods import METHODS, make, method_class
from s2s.methods.base import Filter
from usim.errors import ConfigError, DataError, ResourceError

RNG = np.random.default_rng(5)
SHAPE = (24, 37)
GREY = RNG.integers(0, 256, SHAPE, dtype=np.uint8)
DEEP = RNG.integers(0, 65536, SHAPE, dtype=np.uint16)
DB = RNG.uniform(-59, 0, SHAPE)
ENVELOPE = 300 * 10 ** (DB / 20)
FILTERS = [name for name in METHODS if not method_class(name).needs and not method_class(name).lacking()]
#: A kernel of one pixel: what goes in comes out.
IDENTITY = "gaussian:sigma=0.1"


class Amplitude(Filter):
    """The identity on linear amplitude."""

    domain = "env"

    def filter(self, image):
        return image


class Broken(Filter):
    """What a method does that fails: an output of `value`, or an error."""

    def __init__(self, value=None, error=None):
        super().__init__()
        self.value, self.error, self.name, self.settings = value, error, "broken", {}

    def filter(self, image):
        if self.error:
            raise self.error
        return np.full_like(image, self.value)


@pytest.mark.parametrize("method", [load(IDENTITY), Denoiser(Amplitude())], ids=["db", "env"])
@pytest.mark.parametrize(
    ("image", "domain", "tolerance"),
    [
        (GREY, "log", 0.01),
        (DEEP, "log", 0.3),
        (np.stack([GREY, GREY[::-1], GREY // 2]), "log", 0.01),
        (GREY / 255, "log", 1e-5),
        (DB, "db", 1e-4),
        (DB.astype(np.float32), "db", 1e-4),
        (ENVELOPE, "envelope", 300 * 1e-5),
        (ENVELOPE.astype(np.float16), "envelope", 300 * 1e-5),
        (DEEP, Domain("log", 48.0, 65535.0), 0.3),
    ],
)
def test_what_a_method_leaves_alone_comes_back(method, image, domain, tolerance):
    clean = method.denoise(image, domain)
    assert clean.shape == image.shape
    assert clean.dtype == (np.float64 if image.dtype == np.float64 else np.float32)
    np.testing.assert_allclose(clean, image.astype(np.float64), atol=tolerance, rtol=0)


def test_what_is_darker_than_black_is_black():
    image = DB - np.linspace(0, 60, SHAPE[1])
    np.testing.assert_allclose(load(IDENTITY).denoise(image, "db", 50.0), np.maximum(image, -50), atol=1e-4)


@pytest.mark.parametrize("spec", ["lee", "gaussian"])
def test_one_image_in_three_domains_has_one_result(spec):
    method, depth = load(spec), 45.0
    image = np.maximum(DB, -depth)
    clean = method.denoise(image, "db", depth)
    grey = method.denoise(image / depth + 1, "log", depth)
    np.testing.assert_allclose((grey - 1) * depth, np.clip(clean, -depth, 0), atol=1e-3)
    envelope = method.denoise(7 * 10 ** (image / 20), Domain("envelope", depth, 7.0))
    np.testing.assert_allclose(20 * np.log10(envelope / 7), clean, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]),
        st.tuples(st.integers(16, 20), st.integers(16, 23)),
        elements={"min_value": 0, "max_value": 1},
        fill=st.nothing(),
    ),
    st.sampled_from(["lee:window=3", "median", IDENTITY]),
)
def test_shape_is_kept_and_nothing_is_nan(image, spec):
    if image.min() == image.max():
        image = image.copy()
        image[0, 0] = 1 - image[0, 0]
    for domain in ("log", "envelope"):
        if domain == "log" and image.dtype == np.uint16:
            continue
        clean = load(spec).denoise(image, domain)
        assert clean.shape == image.shape
        assert np.isfinite(clean).all()
        assert clean.min() >= 0


@pytest.mark.parametrize("name", FILTERS)
def test_tiles_do_not_show(monkeypatch, name):
    """Every filter that names a halo gives the same image in tiles; sides are odd on purpose."""
    chosen = {"distance": 4} if "distance" in s2s.methods.settings_of(method_class(name)) else {}
    method = make(name, **{"looks": 1.0, **chosen} if name in ("lee", "kuan") else chosen)
    if method.halo is None:
        pytest.skip("depends on the whole image")
    image = RNG.uniform(-60, 0, (83, 71))
    whole = Denoiser(method).denoise(image, "db")
    monkeypatch.setattr(s2s.denoise, "_TILED_ABOVE", 1000)
    monkeypatch.setattr(s2s.denoise, "_TILE", 24)
    np.testing.assert_allclose(Denoiser(method).denoise(image, "db"), whole, atol=1e-5 * 60)


@pytest.mark.parametrize("name", ["noise2true", "speckle2self"])
def test_tiles_of_networks_do_not_show(monkeypatch, name):
    torch.manual_seed(3)
    method = make(name, "toy")
    if method.halo is None:
        pytest.skip("depends on the whole image")
    image = RNG.uniform(-60, 0, (33, 2 * method.halo + 27))
    whole = Denoiser(method).denoise(image, "db")
    monkeypatch.setattr(s2s.denoise, "_TILED_ABOVE", 1000)
    monkeypatch.setattr(s2s.denoise, "_TILE", method.halo)
    parts = Denoiser(method).denoise(image, "db")
    np.testing.assert_allclose(parts, whole, atol=1e-5 * 60)


@pytest.mark.parametrize("side", [16, 767, 768, 769, 1537, 5000])
@pytest.mark.parametrize("multiple", [1, 16])
def test_parts_are_about_equal_and_begin_at_multiples(side, multiple):
    parts = s2s.denoise._parts(side, multiple)
    assert [start for start, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (0, side)
    assert all(start % multiple == 0 for start, _ in parts)
    assert min(end - start for start, end in parts) >= min(side, 300)


def test_specs():
    assert load("nlm").name == "nlm"
    loaded = load("lee:window=9,looks=2")
    assert (loaded.method.settings["window"], loaded.method.settings["looks"]) == (9, 2)
    assert loaded.describe()["method"] == "lee"
    assert '"window": 9' in loaded.describe()["settings"]
    assert load("gaussian:preset=toy, sigma=1.5").method.settings["sigma"] == 1.5
    assert repr(load("nlm")) == "<s2s.Denoiser: nlm>"
    assert load("lee").domain == "env"
    assert s2s.load is load


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("nln", ConfigError, "did you mean 'nlm'"),
        ("defualt", ConfigError, "did you mean 'default'"),
        ("lee:windw=9", ConfigError, "did you mean 'window'"),
        ("lee:window=8", ConfigError, "odd"),
        ("lee:window", ConfigError, "'window' is no setting"),
        ("lee:=3", ConfigError, "'=3' is no setting"),
        ("lee:preset=gone", ConfigError, "preset 'gone' is unknown"),
        ("lee:window=true", ConfigError, "window"),
        ("lee:window=none", ConfigError, "window"),
        ("noise2true", ConfigError, "s2s train --sim --method noise2true"),
        ("", ConfigError, "unknown"),
        ("runs/gone", DataError, "no such checkpoint"),
        ("gone.pt", DataError, "no such checkpoint"),
    ],
)
def test_specs_that_load_nothing(tmp_path, monkeypatch, spec, error, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        load(spec)


def test_paths_that_exist_win_over_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "median").write_bytes(b"not weights")
    with pytest.raises(DataError, match="median: not an s2s checkpoint"):
        load("median")
    (tmp_path / "lee").mkdir()
    assert load("lee").name == "lee"
    (tmp_path / "run").mkdir()
    with pytest.raises(DataError, match=r"run: no best\.pt in this folder"):
        load("run")


def test_checkpoints_and_run_folders(tmp_path):
    from s2s.checkpoint import save_checkpoint

    torch.manual_seed(3)
    method = make("noise2true", "toy")
    digest = save_checkpoint(tmp_path / "best.pt", method, {})
    direct = Denoiser(method).denoise(GREY, "log")
    for spec in (tmp_path, tmp_path / "best.pt", str(tmp_path)):
        loaded = load(spec)
        assert loaded.describe()["checkpoint_sha256"] == digest == loaded.checkpoint
        np.testing.assert_allclose(loaded.denoise(GREY, "log"), direct, atol=1e-3)  # another layout of its weights


@pytest.mark.parametrize("device", ["nonsense", "meta-1", "cuda:77"])
def test_devices_that_are_not_there(device):
    with pytest.raises(ConfigError, match="use cpu"):
        load("lee", device=device)


@pytest.mark.parametrize(
    ("image", "domain", "text"),
    [
        (GREY > 9, "log", "allowed are floats or whole numbers"),
        (GREY[None, None], "log", "allowed are floats or whole numbers"),
        (GREY[:3], "log", "at least 16 x 16"),
        (np.stack([DB, DB * np.nan]), "db", "image 1: 888 of 888 values are NaN"),
        (DB, "log", "are not negative"),
        (GREY, "db", "no decibels"),
    ],
)
def test_arrays_that_are_refused(image, domain, text):
    with pytest.raises(DataError, match=text):
        load("lee").denoise(image, domain)


def test_a_domain_that_is_unknown():
    with pytest.raises(ConfigError, match="allowed are db, log and envelope"):
        load("lee").denoise(GREY, "logarithmic")
    for nothing in (None, ""):
        with pytest.raises(ConfigError, match=r"^domain: say what the numbers are"):
            load("lee").denoise(GREY, nothing)


def test_masks_are_not_dropped_without_a_word():
    masked = np.ma.masked_less(DB, np.median(DB))
    with pytest.raises(DataError, match="some pixels are masked"):
        load("lee").denoise(masked, "db")
    np.testing.assert_array_equal(load("lee").denoise(np.ma.array(DB), "db"), load("lee").denoise(DB, "db"))


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">f4", "g"])
def test_the_order_of_bytes_changes_nothing(dtype):
    clean = load("median").denoise(DB.astype(dtype), "db")
    assert clean.dtype == (np.float32 if dtype.endswith("4") else np.float64)
    np.testing.assert_allclose(clean, load("median").denoise(DB, "db"), atol=1e-4)


def test_methods_that_fail():
    with pytest.raises(DataError, match="broken: its output is not finite"):
        Denoiser(Broken(np.nan)).denoise(DB, "db")
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")):
        with pytest.raises(ResourceError, match="out of memory at 24 x 37"):
            Denoiser(Broken(error=error)).denoise(DB, "db")
    with pytest.raises(RuntimeError, match="a bug"):
        Denoiser(Broken(error=RuntimeError("a bug"))).denoise(DB, "db")


def test_fast_is_near_and_is_asked_for(tmp_path):
    """bfloat16 has 8 bits: less than a hundredth of what a network changes is off, and single precision is not."""
    from s2s.checkpoint import save_checkpoint

    torch.manual_seed(3)
    method = make("noise2true", width=8, depth=1)
    torch.nn.init.normal_(method.net.last.weight, std=0.3)
    save_checkpoint(tmp_path / "best.pt", method, {})
    plain = Denoiser(method).denoise(DB, "db")
    exact, fast = (load(tmp_path, fast=fast).denoise(DB, "db") for fast in (False, True))
    change = np.sqrt(np.mean((plain - DB) ** 2))
    assert change > 1
    assert np.sqrt(np.mean((exact - plain) ** 2)) < 1e-5 * change
    assert 1e-4 * change < np.sqrt(np.mean((fast - plain) ** 2)) < 1e-2 * change
    with pytest.raises(ConfigError, match="median is a filter"):
        load("median", fast=True)
