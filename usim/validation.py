"""How near the image engine comes to the exact one: both on the same scatterers, compared by depth and by column.

Images are compared as they are shown, after the phantom's TGC and without noise. Errors are relative to the exact image
of the same part of the image,

    NRMSE = 20 log10(|fast - exact| / |exact|)   correlation = |<fast, exact>| / |fast| |exact|

and correlations of envelopes are Pearson's. An image is judged inside the aperture: where the array's ends cut neither
the transmit nor the receive aperture. A PSF that is blended between depth nodes is worst midway between two of them, so
single scatterers are put there too, and judged over the whole of their images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from usim.engines import psf, sir_image
from usim.engines.aperture import half_aperture
from usim.engines.beam import Beam
from usim.engines.calibrated import CalibratedPlan
from usim.errors import ConfigError
from usim.phantom.cloud import load_cloud
from usim.phantom.draw import SCATTERERS, draw, substream
from usim.phantom.load import Phantom, load_phantom
from usim.phantom.schema import CloudSpec, Scene
from usim.scan import Sector
from usim.scatterers import Scatterers, joined
from usim.stage import Setting, Stage
from usim.transmit import FocusedScan, PlaneScan

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Image = NDArray[np.complex64]
PSFS = ("calibrated", "separable")
AIM_DB = -25.0
AIM_ENVELOPE = 0.99
STRIPS = 16  # of columns in the map of errors
SINGLE_COLUMNS = 9  # lateral places of single scatterers
MOST_BANDS = 100


@dataclass(frozen=True)
class Agreement:
    """How two images agree; NaN where there is nothing to compare.

    nrmse_db: of the IQ.  fitted_db: of the IQ after the best complex gain of this part alone.
    correlation: of the IQ.  envelope: Pearson correlation of the envelopes.
    """

    nrmse_db: float = math.nan
    fitted_db: float = math.nan
    correlation: float = math.nan
    envelope: float = math.nan

    @classmethod
    def of(cls, fast: NDArray[Any], exact: NDArray[Any]) -> Agreement:
        """The agreement of complex arrays of one shape."""
        a, b = fast.ravel().astype(np.complex128), exact.ravel().astype(np.complex128)
        energy, own = float(np.vdot(b, b).real), float(np.vdot(a, a).real)
        if not energy > 0.0:
            return cls()
        error = float(np.vdot(a - b, a - b).real) / energy
        cross = float(abs(np.vdot(a, b))) / math.sqrt(energy * own) if own > 0.0 else 0.0
        heights = np.abs(a) - np.abs(a).mean(), np.abs(b) - np.abs(b).mean()
        spread = float(np.linalg.norm(heights[0]) * np.linalg.norm(heights[1]))
        envelope = float(heights[0] @ heights[1]) / spread if spread > 0.0 else math.nan
        return cls(_db(error), _db(1.0 - cross**2), cross, envelope)

    @property
    def judged(self) -> bool:
        """Whether there was anything to compare."""
        return math.isfinite(self.nrmse_db)

    @property
    def meets(self) -> bool:
        """Whether the aim is met."""
        return self.nrmse_db <= AIM_DB and self.envelope >= AIM_ENVELOPE


def _db(power: float) -> float:
    return 10.0 * math.log10(max(power, 1e-20))


@dataclass(frozen=True)
class Band:
    """A band of depths, in metres: agreement inside the aperture and over the whole width."""

    top: float
    bottom: float
    inside: Agreement
    whole: Agreement


@dataclass(frozen=True)
class Single:
    """A single scatterer at (x, z) metres, midway between two depth nodes; inside: the aperture."""

    x: float
    z: float
    inside: bool
    agreement: Agreement


@dataclass(frozen=True, eq=False)
class Validation:
    """Both engines' images of the same scatterers, and how they agree.

    phantom, index, seed: what was drawn.  psf: of the fast image.  rank: of that PSF.
    used, drawn: scatterers imaged, of how many.  points: point targets imaged besides.
    scale: what the exact engine's IQ was multiplied with: the calibration's scale, or for psf "separable", whose units
    are others, the one complex gain that fits the images best.
    dynamic_range: dB, of the picture.  x (X,), z (Z,): pixel centres in metres.
    exact, fast: (Z, X) complex64 after TGC, 1 at 0 dB.  inside: (Z, X), where no aperture is cut.
    rows: of each band of depths.  singles: single scatterers midway between depth nodes.
    """

    phantom: str
    index: int
    seed: int
    psf: str
    rank: int
    used: int
    drawn: int
    points: int
    scale: complex
    dynamic_range: float
    x: Array
    z: Array
    exact: Image
    fast: Image
    inside: Mask
    rows: tuple[slice, ...]
    singles: tuple[Single, ...]

    @cached_property
    def middle(self) -> Agreement:
        """Agreement inside the aperture."""
        return Agreement.of(self.fast[self.inside], self.exact[self.inside])

    @cached_property
    def whole(self) -> Agreement:
        """Agreement over the whole image."""
        return Agreement.of(self.fast, self.exact)

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """Agreement by depth."""
        bands = []
        for rows in self.rows:
            fast, exact, inside, z = (a[rows] for a in (self.fast, self.exact, self.inside, self.z))
            middle, whole = Agreement.of(fast[inside], exact[inside]), Agreement.of(fast, exact)
            bands.append(Band(float(z[0]), float(z[-1]), middle, whole))
        return tuple(bands)

    @cached_property
    def columns(self) -> tuple[Agreement, ...]:
        """Agreement of every column (X,), inside the aperture."""
        return self._columns(self.inside)

    @cached_property
    def good_columns(self) -> tuple[Agreement, ...]:
        """Agreement of every column (X,), inside the aperture, without the bands that miss the aim there."""
        used = self.inside.copy()
        for rows, band in zip(self.rows, self.bands, strict=True):
            used[rows] &= band.inside.meets
        return self._columns(used)

    def _columns(self, used: Mask) -> tuple[Agreement, ...]:
        pairs = zip(self.fast.T, self.exact.T, used.T, strict=True)
        return tuple(Agreement.of(fast[some], exact[some]) for fast, exact, some in pairs)

    @cached_property
    def strips(self) -> Array:
        """NRMSE in dB of every band in strips of columns (bands, strips), wherever they lie."""
        parts = np.array_split(np.arange(len(self.x)), min(STRIPS, len(self.x)))
        return np.array([
            [Agreement.of(self.fast[rows, part], self.exact[rows, part]).nrmse_db for part in parts]
            for rows in self.rows
        ])  # fmt: skip

    @property
    def judged_bands(self) -> tuple[Band, ...]:
        """The bands that have a part inside the aperture."""
        return tuple(band for band in self.bands if band.inside.judged)

    @property
    def judged_singles(self) -> tuple[Single, ...]:
        """The single scatterers inside the aperture."""
        return tuple(single for single in self.singles if single.inside and single.agreement.judged)

    @property
    def shortfalls(self) -> list[str]:
        """Where the aim is not met inside the aperture, a line each."""
        lines = []
        bands = [band for band in self.judged_bands if not band.inside.meets]
        if bands:
            lines.append(
                f"{len(bands)} of {len(self.judged_bands)} depth bands: {', '.join(_ranges(self.judged_bands))}"
            )
        judged = [column for column in self.columns if column.judged]
        columns = [column for column in judged if not column.meets]
        if columns:
            text = f"{len(columns)} of {len(judged)} columns, the worst {max(c.nrmse_db for c in columns):.1f} dB"
            rest = sum(column.judged and not column.meets for column in self.good_columns)
            some = 0 < len(bands) < len(self.judged_bands)
            lines.append(text + (f"; without those depth bands {rest} columns" if some else ""))
        singles = [single for single in self.judged_singles if not single.agreement.meets]
        if singles:
            worst, depths = max(singles, key=lambda s: s.agreement.nrmse_db), [single.z for single in singles]
            lines.append(
                f"{len(singles)} of {len(self.judged_singles)} single scatterers, {_mm(min(depths))} to "
                f"{_mm(max(depths))} mm deep, the worst {worst.agreement.nrmse_db:.1f} dB at x {_mm(worst.x)} mm, "
                f"z {_mm(worst.z)} mm"
            )
        return lines

    @property
    def meets(self) -> bool | None:
        """Whether every band, column and single scatterer inside the aperture meets the aim; None: none is inside."""
        return not self.shortfalls if self.middle.judged else None

    def as_dict(self) -> dict[str, Any]:
        """Everything but the images, as plain JSON data; None where there is nothing to compare."""
        kept = ("phantom", "index", "seed", "psf", "rank", "used", "drawn", "points")
        data = {
            **{name: getattr(self, name) for name in kept},
            "scale": [self.scale.real, self.scale.imag],
            "aim": {"nrmse_db": AIM_DB, "envelope": AIM_ENVELOPE, "met": self.meets, "not_met": self.shortfalls},
            "inside": asdict(self.middle),
            "whole": asdict(self.whole),
            "bands": [asdict(band) for band in self.bands],
            "columns": [{"x": x, **asdict(c)} for x, c in zip(self.x.tolist(), self.columns, strict=True)],
            "strips_nrmse_db": self.strips.tolist(),
            "singles": [asdict(single) for single in self.singles],
        }
        plain: dict[str, Any] = _plain(data)
        return plain


def _ranges(bands: tuple[Band, ...]) -> Iterator[str]:
    """Depths of the bands that miss the aim, neighbours as one, with the best and the worst of each."""
    runs: list[list[Band]] = [[]]
    for band in bands:
        runs[-1:] = [[*runs[-1], band]] if not band.inside.meets else [runs[-1], []]
    for run in filter(None, runs):
        levels = sorted({f"{band.inside.nrmse_db:.1f}" for band in run}, key=float)
        yield f"{_mm(run[0].top)} to {_mm(run[-1].bottom)} mm ({' to '.join(levels[:: max(len(levels) - 1, 1)])} dB)"


def _plain(value: Any) -> Any:
    """Plain JSON data: numpy numbers as Python's, NaN as None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _mm(metres: float) -> str:
    return f"{metres * 1e3:.1f}"


@dataclass(frozen=True, eq=False)
class Pair:
    """The two engines of one setting; `scale` turns the exact IQ into the plan's units."""

    plan: psf.Plan
    sir: sir_image.SirPlan
    scale: complex

    @classmethod
    def of(cls, scene: Scene, plan: psf.Plan) -> Pair:
        """The pair of a scene; without a calibration the scale is 1."""
        if isinstance(plan, CalibratedPlan):
            return cls(plan, plan.sir, plan.scale)
        return cls(plan, sir_image.plan(scene.probe, scene.transmit, scene.receive, scene.medium, scene.image), 1.0)

    @property
    def rank(self) -> int:
        """Products of which the PSF is the sum."""
        return len(self.plan.calibration.lateral) if isinstance(self.plan, CalibratedPlan) else 1

    @property
    def node_depths(self) -> Array:
        """Depths (N,) in metres at which kernels are computed and not blended."""
        if isinstance(self.plan, CalibratedPlan):
            return self.plan.calibration.depth
        row, zones = self.plan.grid.row, zip(self.plan.grid.zones, self.plan.banks, strict=True)
        return np.concatenate([row[zone.rows][bank.blend == 0.0] for zone, bank in zones])

    def fast(self, cloud: Scatterers) -> Image:
        """IQ (Z, X) by the image engine."""
        return psf.run(self.plan, cloud)

    def exact(self, cloud: Scatterers, rows: slice = slice(None), columns: slice = slice(None)) -> Image:
        """IQ of some rows and columns of the image by the exact engine, in the plan's units."""
        image = self.sir.image
        x, z = image.x_axis()[columns], image.z_axis()[rows]
        part = {"x": (x[0], x[-1]), "z": (z[0], z[-1]), "pixels": (len(x), len(z))}
        sir = replace(self.sir, image=image.model_copy(update=part))
        return np.complex64(self.scale) * sir_image.run(sir, cloud)


def inside_aperture(beam: Beam, x: Array, z: Array) -> Mask:
    """Whether places x, z (broadcast, metres) are seen by apertures that the array's ends do not cut.

    A plane wave's places lie inside where they also are in front of the array.
    """
    end, slack = beam.probe.aperture / 2.0, 1e-9
    half = half_aperture(z, beam.receive.f_number, beam.probe)
    if isinstance(beam.transmit, FocusedScan):
        half = np.maximum(half, beam.transmit_half_aperture())
    seen = np.abs(x) + half <= end + slack
    if isinstance(beam.transmit, PlaneScan):
        seen = seen & (np.abs(x - z * math.tan(beam.steering)) <= end + slack)
    return seen


def thin(cloud: Scatterers, most: int) -> Scatterers:
    """Every k-th scatterer of a cloud, so that at most `most` are left, stronger by sqrt(k): as bright on average."""
    every = max(1, -(-len(cloud) // most))
    return Scatterers(cloud.position[::every], cloud.amplitude[::every] * math.sqrt(every))


def _check(numbers: dict[str, int | None], psf: str | None) -> None:
    for name, value in numbers.items():
        least, most = (1, {"bands": MOST_BANDS}.get(name)) if name in ("scatterers", "bands") else (0, None)
        if value is not None and (value < least or (most is not None and value > most)):
            allowed = f"at least {least}" if most is None else f"{least} to {most}"
            raise ConfigError(f"{name}: {value} is outside its limits (allowed: {allowed})")
    if psf is not None and psf not in PSFS:
        raise ConfigError(f"psf: {psf!r} is unknown (allowed: {', '.join(PSFS)})")


def _scene(phantom: Phantom, seed: int, index: int, psf: str | None) -> Scene:
    """The scene of a frame for the image engine, whichever engine the phantom names."""
    scene = draw(phantom, seed, index)
    if isinstance(scene.image, Sector):
        raise ConfigError(f"{phantom.source}: image: sectors can't be validated; give image.x and image.z")
    if isinstance(scene.scatterers, CloudSpec) and scene.scatterers.model == "field":
        raise ConfigError(
            f"{phantom.source}: scatterers.model: field has no scatterers that the exact engine could image; "
            "choose model: plane or volume"
        )
    return scene.model_copy(update={"engine": "psf", "psf": psf or scene.psf})


def _refuse_silent(scene: Scene, source: str) -> None:
    """Refuse images with columns for which the exact engine has no transmission."""
    sir = sir_image.plan(scene.probe, scene.transmit, scene.receive, scene.medium, scene.image)
    silent = ~sir.scan[1].weights.any(axis=1)
    if silent.any():
        heard = sir.column[~silent]
        allowed = f"within {_mm(heard[0])} to {_mm(heard[-1])} mm" if len(heard) else "in front of the array"
        raise ConfigError(
            f"{source}: image.x: no element fires for {silent.sum()} of {len(silent)} columns, so that the exact "
            f"engine cannot make them; keep image.x {allowed}, or take a wider probe"
        )


def _refuse_empty(plan: psf.Plan, cloud: Scatterers, source: str) -> None:
    (x0, x1), (z0, z1) = plan.extent
    seen = (cloud.x >= x0) & (cloud.x <= x1) & (cloud.z >= z0) & (cloud.z <= z1) & (cloud.amplitude != 0.0)
    if not seen.any():
        raise ConfigError(
            f"{source}: none of {len(cloud)} scatterers lies in view (x {_mm(x0)} to {_mm(x1)} mm, z {_mm(z0)} to "
            f"{_mm(z1)} mm); move the image, or fill the scene with tissue that is not anechoic"
        )


def singles_of(pair: Pair, depths: int, progress: Callable[[str], None]) -> Iterator[Single]:
    """Single scatterers in `SINGLE_COLUMNS` strips, at about `depths` depths midway between nodes, an image each."""
    grid, beam, nodes = pair.plan.grid, pair.plan.beam, pair.node_depths
    middle = (nodes[1:] + nodes[:-1]) / 2.0
    middle = middle[(middle >= grid.z[0]) & (middle <= grid.z[-1])]
    if not len(middle):
        return
    aim = grid.z[0] + (np.arange(depths) + 0.5) / depths * (grid.z[-1] - grid.z[0])
    chosen = middle[np.unique(np.abs(middle[:, None] - aim).argmin(axis=0))]
    strips = grid.x[0] + (np.arange(SINGLE_COLUMNS) + 0.5) / SINGLE_COLUMNS * (grid.x[-1] - grid.x[0])
    columns = slice(0, len(grid.x), column_stride(beam, grid.x))
    for number, x in enumerate(strips):
        progress(f"single scatterers midway between nodes: column {number + 1} of {SINGLE_COLUMNS}")
        for z in chosen:
            cloud = Scatterers(np.array([[x, 0.0, z]]), np.ones(1))
            # no echo comes back before the pulse that the scatterer's own column hears
            rows = slice(max(int(np.searchsorted(grid.z, z - 3.0 * grid.half_pulse)) - 1, 0), len(grid.z))
            agreement = Agreement.of(pair.fast(cloud)[rows, columns], pair.exact(cloud, rows, columns))
            yield Single(float(x), float(z), bool(inside_aperture(beam, x, z)), agreement)


def column_stride(beam: Beam, x: Array) -> int:
    """Every how many of the columns x (X,), metres, suffice for the beam's lateral band."""
    band = 1.0 / beam.receive.f_number
    if isinstance(beam.transmit, FocusedScan):
        band += 1.0 / beam.transmit.f_number
    stride = int(beam.wavelength / band / (x[1] - x[0]))
    return max(1, min(stride, len(x) - 1))


def validate(
    phantom: Phantom | str | Path,
    *,
    index: int = 0,
    seed: int | None = None,
    scatterers: int = 20_000,
    psf: Literal["calibrated", "separable"] | None = "calibrated",
    points: bool = False,
    bands: int = 10,
    progress: Callable[[str], None] = lambda text: None,
) -> Validation:
    """Image the scatterers of one frame by the image engine and by the exact one, and compare.

    phantom: what load_phantom returns, or a path or name for it.  index: which frame.  seed: replaces the phantom's.
    scatterers: at most so many are imaged, every k-th of those drawn, made stronger by the root of k.
    psf: of the image engine; None: the phantom's own.  points: whether what the scene fixes is imaged too.
    bands: of depth, into which the comparison is split.  progress: gets a line for every step.

    Raises ConfigError for arguments outside their limits, a phantom without scatterers (model: field) or with none in
    view, and columns for which no element fires; DataError or ResourceError for files.

    >>> usim.validate("cyst").middle.nrmse_db  # doctest: +SKIP
    """
    _check({"index": index, "seed": seed, "scatterers": scatterers, "bands": bands}, psf)
    loaded = load_phantom(phantom) if isinstance(phantom, str | Path) else phantom
    seed = loaded.seed if seed is None else seed
    scene = _scene(loaded, seed, index, psf)
    _refuse_silent(scene, loaded.source)
    if scene.psf == "calibrated":
        progress("calibrating the PSF: up to a minute or two the first time, then it is kept on disk")
    setting = Setting.of(scene)
    stage = Stage(scene, setting, load_cloud(loaded, scene))
    cloud = stage.scatterers(substream(seed, index, SCATTERERS))
    used = thin(stage.shaded(cloud), scatterers)
    imaged = joined(used, stage.fixed) if points else used
    _refuse_empty(setting.plan, imaged, loaded.source)
    pair = Pair.of(scene, setting.plan)
    progress(f"imaging {len(imaged)} scatterers by the exact engine and with psf: {scene.psf}")
    weight = np.sqrt(stage.gain / stage.scale).astype(np.float32)[:, None]
    fast, exact = weight * pair.fast(imaged), weight * pair.exact(imaged)
    if scene.psf == "separable":
        fit = fast.ravel().astype(np.complex128)
        pair = replace(pair, scale=complex(np.vdot(fit, fit) / np.vdot(fit, exact.ravel())))
        exact = exact * np.complex64(pair.scale)
    grid, beam = setting.plan.grid, setting.plan.beam
    parts = np.array_split(np.arange(len(grid.z)), min(bands, len(grid.z)))
    return Validation(
        phantom=loaded.source, index=index, seed=seed, psf=scene.psf, rank=pair.rank, used=len(used), drawn=len(cloud),
        points=len(imaged) - len(used), scale=complex(pair.scale), dynamic_range=scene.image.dynamic_range,
        x=grid.x, z=grid.z,
        exact=exact, fast=fast, inside=inside_aperture(beam, grid.x[None, :], grid.z[:, None]),
        rows=tuple(slice(int(part[0]), int(part[-1]) + 1) for part in parts),
        singles=tuple(singles_of(pair, len(parts), progress)),
    )  # fmt: skip


def table(result: Validation) -> str:
    """The comparison as lines of text: by depth, then as a whole, then the aim and where it is not met."""
    points = f" and {result.points} points" if result.points else ""
    lines = [
        f"{result.phantom}, frame {result.index}, seed {result.seed}: {result.used} of {result.drawn} scatterers"
        f"{points}, psf {result.psf} (rank {result.rank}) against sir",
        "",
        f"{'':13}  {'inside the aperture':^42}  {'whole width':^11}  {'midway, one by one':^18}",
        f"{'depth mm':>13}  {'NRMSE dB':>9} {'own gain':>9} {'IQ corr':>9} {'envelope':>9}     {'NRMSE dB':>11}  "
        f"{'median dB':>9} {'worst':>8}",
    ]
    for band in result.bands:
        name = f"{_mm(band.top)} - {_mm(band.bottom)}"
        within = [s.agreement.nrmse_db for s in result.singles if band.top <= s.z < band.bottom]
        lines.append(_row(name, band.inside, band.whole, within))
    everywhere = [single.agreement.nrmse_db for single in result.singles]
    lines += [_row("all", result.middle, result.whole, everywhere), ""]
    judged = sorted(column.nrmse_db for column in result.columns if column.judged)
    if judged:
        lines.append(f"columns inside: median {np.median(judged):.1f} dB, best {judged[0]:.1f}, worst {judged[-1]:.1f}")
    aim = f"aim inside the aperture: IQ NRMSE <= {AIM_DB:g} dB, envelope correlation >= {AIM_ENVELOPE:g}"
    if result.meets is None:
        return "\n".join([*lines, f"{aim}: not judged, the array's ends cut the aperture of every pixel"])
    lines.append(f"{aim}: {'met' if result.meets else 'not met by'}")
    return "\n".join([*lines, *(f"  {line}" for line in result.shortfalls)])


def _row(name: str, inside: Agreement, whole: Agreement, singles: list[float]) -> str:
    parts = [
        f"{name:>13} ", f"{inside.nrmse_db:9.1f}", f"{inside.fitted_db:9.1f}", f"{inside.correlation:9.5f}",
        f"{inside.envelope:9.5f}    ", f"{whole.nrmse_db:11.1f} ",
        f"{np.median(singles) if singles else math.nan:9.1f}", f"{max(singles, default=math.nan):8.1f}",
    ]  # fmt: skip
    return " ".join(parts).replace("nan", "  -")
