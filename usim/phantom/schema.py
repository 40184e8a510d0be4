"""The scene: everything one frame is made from, as plain values without any randomness."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from usim.description import Description
from usim.medium import Medium
from usim.phantom.cell import Speckle
from usim.phantom.motion import MOST_WAY, Flow, Pulsation, Sequence
from usim.phantom.regions import AnyRegion
from usim.phantom.screen import Display
from usim.phantom.structure import Haze, Interface, Point, Reverberation, Wire
from usim.phantom.tissue import Clusters, Echogenicity, PerCell, Texture, Wall
from usim.phantom.views import MOST_LOOKS, Angles, Compound, Sweep
from usim.probe import Probe
from usim.scan import Image, Noise, Receive, Sector, Tgc
from usim.transmit import FocusedScan, PlaneScan, Transmit
from usim.units import Count, did_you_mean, show

# Fields of a probe that phantom files have no use for: their images are those of a row or an arc of elements, whose
# response follows from its bandwidth. Channel data takes any probe.
NOT_IN_PHANTOMS = ("positions", "normals", "impulse_response")
MOST_REGIONS = 4096
MOST_POINTS = 65536
MOST_WIRES = 65536
MOST_INTERFACES = 1024
MOST_FRAMES = 10**9
MOST_LABELS = 2**16 - 1
# 64 lattice nodes of 8 bytes each: 128 MB of textures at most.
MOST_TEXTURE_CELLS = 250_000


class CloudSpec(Description):
    """Scatterers that the simulator draws itself."""

    model: Literal["plane", "volume", "field"] = "plane"
    """plane: in-plane cloud with the elevation folded in; volume: 3-D cloud; field: infinite density, no scatterers."""
    per_cell: PerCell = 10.0
    """Effective number of scatterers per resolution cell, on axis at the transmit focus."""
    amplitude: Literal["unit", "gaussian"] = "unit"
    """Law of the scattering amplitudes, both of unit variance."""


class CloudFile(Description):
    """Your own scatterers: an .npz file with position (N, 3) in metres and amplitude (N,)."""

    file: Annotated[str, Field(min_length=1, max_length=1000)]
    """Path, relative to the phantom file."""
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    """Hash of the file; filled in by loading."""


def _cloud_kind(given: Any) -> str:
    from_file = "file" in given if isinstance(given, dict) else isinstance(given, CloudFile)
    return "CloudFile" if from_file else "CloudSpec"


Cloud = Annotated[
    Annotated[CloudSpec, Tag("CloudSpec")] | Annotated[CloudFile, Tag("CloudFile")], Discriminator(_cloud_kind)
]


def _image_kind(given: Any) -> str:
    fan = {"angle", "depth", "lines", "samples"} & {*given} if isinstance(given, dict) else isinstance(given, Sector)
    return "Sector" if fan else "Image"


AnyImage = Annotated[Annotated[Image, Tag("Image")] | Annotated[Sector, Tag("Sector")], Discriminator(_image_kind)]


class Background(Description):
    """What fills the scene where no region lies; its name is that of label 0."""

    name: Annotated[str, Field(max_length=100)] = "background"
    """The name of label 0."""
    echogenicity: Echogenicity
    """dB relative to the reference tissue, or "anechoic"."""
    texture: Texture | None = None
    """Variation in space; none unless given."""


class Scene(Description):
    """One concrete scene: probe, medium, scan and what is in front of the probe; later regions lie over earlier ones.

    Raises ConfigError naming every field that is missing, unknown or outside its limits.

    >>> scene = Scene(
    ...     probe="L11-5v",
    ...     image={"x": ["-19 mm", "19 mm"], "z": ["2 mm", "42 mm"], "pixels": [512, 512]},
    ...     background={"echogenicity": "0 dB"},
    ... )
    >>> scene.receive.f_number
    1.5
    """

    description: Annotated[str, Field(max_length=2000)] = ""
    """Free text, written to the file."""
    probe: Probe
    """A preset's name, a mapping of fields, or a preset with some fields overridden."""
    medium: Medium = Medium()
    """Speed of sound and attenuation."""
    transmit: Transmit = PlaneScan()
    """A focused scan or a plane wave."""
    receive: Receive = Receive()
    """The receive aperture."""
    image: AnyImage
    """The pixel grid and the grey scale; of a linear scan (`x`, `z`) or a sector (`angle`, `depth`)."""
    speckle: Speckle | None = None
    """Size of a speckle cell, for which pulse and aperture are changed; as they give it unless given."""
    scatterers: Cloud = CloudSpec()
    """How the scene is filled with scatterers."""
    noise: Noise | None = None
    """Electronic noise; none unless given."""
    tgc: Tgc = "auto"
    """Time-gain compensation: "auto", "none" or a slope in dB/cm."""
    display: Display | None = None
    """What the scanner shows of the image, beside the image in dB; nothing unless given."""
    background: Background
    """What fills the scene where no region lies."""
    regions: Annotated[tuple[AnyRegion, ...], Field(max_length=MOST_REGIONS)] = ()
    """Shapes of other echogenicity; label k is region k, counted from 1."""
    points: Annotated[tuple[Point, ...], Field(max_length=MOST_POINTS)] = ()
    """Point targets."""
    wires: Annotated[tuple[Wire, ...], Field(max_length=MOST_WIRES)] = ()
    """Wires across the image plane."""
    interfaces: Annotated[tuple[Interface, ...], Field(max_length=MOST_INTERFACES)] = ()
    """Specular surfaces: coherent lines whose brightness depends on their angle to the beam."""
    reverberation: Reverberation | None = None
    """Flat lines below the probe, from echoes that bounce close to it; none unless given."""
    haze: Haze | None = None
    """Diffuse clutter over the image; none unless given."""
    looks: Annotated[int, Count(1, MOST_LOOKS)] = 1
    """Images of each scene with scatterers and noise drawn anew."""
    sweep: Sweep | None = None
    """Neighbouring elevation slices of each scene; needs scatterers in three dimensions, `model: volume`."""
    angles: Angles | None = None
    """Radians; each scene is imaged by one plane wave after the other; `transmit` must be a plane wave."""
    sequence: Sequence | None = None
    """Images of each scene one after the other in time."""
    compound: Compound | None = None
    """Every image is the mean of several, steered or of other frequencies."""
    frames: Annotated[int, Count(1, MOST_FRAMES)] | None = None
    """Number of images that `usim generate` makes unless told otherwise; those of one scene unless given."""
    seed: Annotated[int, Count(0, 2**63 - 1)] = 0
    """Start of every random stream."""
    engine: Literal["psf", "sir"] = "psf"
    """The engine that makes the image: psf convolves, sir computes channel data and beamforms them."""
    psf: Literal["separable", "calibrated"] = "separable"
    """The PSF of engine psf: a product of beam and pulse, or the exact engine's own as a bank of rank 3."""

    @model_validator(mode="after")
    def _labels_fit(self) -> Scene:
        labels = sum(len(region.parts) for region in self.regions)
        if labels > MOST_LABELS:
            raise ValueError(f"regions: {labels} labels, those of all maps together, at most {MOST_LABELS} are allowed")
        return self

    @model_validator(mode="after")
    def _probe_fits(self) -> Scene:
        given = [name for name in NOT_IN_PHANTOMS if getattr(self.probe, name) is not None]
        if given:
            raise ValueError(
                f"probe.{given[0]}: phantom files need a row or an arc of elements whose response follows from "
                f"its bandwidth, and '{show(self.probe.name)}' has `{given[0]}`; take another probe, such as L11-5v"
            )
        return self

    @property
    def box(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """((x0, x1), (z0, z1)) of the picture, metres."""
        image = self.image
        return image.box(self.probe.radius or 0.0) if isinstance(image, Sector) else (image.x, image.z)

    @model_validator(mode="after")
    def _geometry_fits(self) -> Scene:
        """A convex array scans a sector; a sector is scanned by focused beams that leave the array."""
        probe = self.probe
        if not isinstance(self.image, Sector):
            if probe.radius is not None:
                raise ValueError(
                    f"image: '{show(probe.name)}' is convex and scans a sector; give `angle` and `depth`, as in "
                    "{angle: [-30 deg, 30 deg], depth: [5 mm, 150 mm], pixels: [512, 512]}, or take a linear probe"
                )
            return self
        if not isinstance(self.transmit, FocusedScan):
            raise ValueError(
                "transmit: a sector is scanned by one focused beam per line; choose transmit: {type: focused, depth: "
                "60 mm}"
            )
        if self.psf == "calibrated":
            raise ValueError("psf: calibrated holds linear scans only; leave it out, or give image.x and image.z")
        widest = max(abs(angle) for angle in self.image.angle)
        end = probe.elements * probe.arc_step / 2.0
        if probe.radius is not None and widest > end:
            raise ValueError(
                f"image.angle: lines at {math.degrees(widest):.4g} deg would start beside the array, which ends at "
                f"{math.degrees(end):.4g} deg; scan a smaller sector, or take a probe with more elements"
            )
        return self

    @model_validator(mode="after")
    def _engine_fits(self) -> Scene:
        """The exact engine needs scatterers; `field` has none."""
        if self.engine == "sir" and isinstance(self.scatterers, CloudSpec) and self.scatterers.model == "field":
            raise ValueError("engine: sir needs scatterers, model: field has none; choose model: plane or volume")
        return self

    @model_validator(mode="after")
    def _views_fit(self) -> Scene:
        """Several images of the same scatterers need scatterers, and transmissions that can be steered."""
        spec = self.scatterers
        several = [name for name in ("sweep", "angles", "sequence", "compound") if getattr(self, name) is not None]
        if several and isinstance(spec, CloudSpec) and spec.model == "field":
            raise ValueError(f"{several[0]}: needs scatterers, model: field has none; choose model: plane or volume")
        if self.sweep and isinstance(spec, CloudSpec) and spec.model != "volume":
            raise ValueError("sweep: needs scatterers in three dimensions; choose scatterers: {model: volume}")
        if self.looks > 1 and isinstance(spec, CloudFile):
            raise ValueError("looks: a cloud that is given has one look; leave `looks` out, or choose a model")
        steered = "angles" if self.angles else "compound.angles" if self.compound and self.compound.angles else ""
        if steered and not isinstance(self.transmit, PlaneScan):
            raise ValueError(f"{steered}: only plane waves are steered; choose transmit: {{type: plane}}")
        if self.angles and self.compound and self.compound.angles:
            raise ValueError("angles: they and compound.angles exclude each other: images of each angle, or their mean")
        return self

    @model_validator(mode="after")
    def _motions_fit(self) -> Scene:
        """Tissue must stay near, points before the array, and streams need a region."""
        if self.sequence is None or not self.sequence.motions:
            return self
        from usim.phantom.course import MOST_BEND, course_of
        from usim.phantom.deform import farthest, forward, moments

        names = [part.name for region in self.regions for part in region.parts]
        flowing = dict[str, int]()
        for i, motion in enumerate(self.sequence.motions):
            if isinstance(motion, Flow):
                if motion.region not in names:
                    named = ", ".join(map(show, dict.fromkeys(names[:8]))) or "none"
                    raise ValueError(
                        f"sequence.motions.{i}.region: no region has the name '{show(motion.region)}'"
                        f"{did_you_mean(motion.region, names)} (named are: {named})"
                    )
                if flowing.setdefault(motion.region, i) != i:
                    raise ValueError(
                        f"sequence.motions.{i}.region: '{show(motion.region)}' has a flow already, motion "
                        f"{flowing[motion.region]}; leave one of the two out"
                    )
                if isinstance(self.scatterers, CloudFile):
                    raise ValueError(f"sequence.motions.{i}: a cloud that is given moves with tissue; it has no flow")
            if isinstance(motion, Pulsation) and motion.path is not None and motion.reach is not None:
                bend = course_of(motion.path).bend
                if motion.reach * bend > MOST_BEND:
                    raise ValueError(
                        f"sequence.motions.{i}.reach: {motion.reach * 1e3:g} mm is too far for a path that bends about "
                        f"{1e3 / bend:.3g} mm; at most {MOST_BEND * 1e3 / bend:.3g} mm fit in the bend"
                    )
            alone = self.sequence.model_copy(update={"motions": self.sequence.motions[: i + 1]})
            way = farthest(alone, *self.box)
            if way > MOST_WAY:
                raise ValueError(
                    f"sequence.motions.{i}: brings tissue in from {way * 1e3:.3g} mm away, at most "
                    f"{MOST_WAY * 1e3:g} mm are allowed; make it smaller or slower, or the sequence shorter"
                )
        targets = [(f"{key}.{i}", t) for key in ("points", "wires") for i, t in enumerate(getattr(self, key))]
        if targets:
            places = [[target.position[axis] for _, target in targets] for axis in (0, 1)]
            for time in moments(self.sequence):
                depth = forward(self, time, *places)[1]
                first = int(depth.argmin())
                if depth[first] <= 0.0:
                    raise ValueError(
                        f"{targets[first][0]}.position: the motions carry it to z = {depth[first] * 1e3:.3g} mm, into "
                        "the array; move it down, or let less move"
                    )
        return self

    @model_validator(mode="after")
    def _speckle_fits(self) -> Scene:
        """A cell of that size can be had, and nothing else sets the pulse."""
        if self.speckle is None or self.speckle.chosen:
            return self
        if self.speckle.axial is not None and self.compound and self.compound.frequencies:
            raise ValueError("speckle.axial: compound.frequencies sets the pulses; leave one of the two out")
        self.with_cell()
        return self

    def with_cell(self) -> Scene:
        """The scene with pulse and apertures chosen for its speckle; itself where there is nothing to choose."""
        if self.speckle is None or self.speckle.chosen:
            return self
        from usim.phantom.choose_cell import chosen

        scan = chosen(self.speckle, self.probe, self.transmit, self.receive, self.medium, self.image)
        done = self.speckle.model_copy(update={"chosen": True})
        fields = ("probe", "transmit", "receive", "speckle")
        return self.model_copy(update=dict(zip(fields, (*scan, done), strict=True)))

    @model_validator(mode="after")
    def _display_fits(self) -> Scene:
        """Persistence is a mean over time."""
        if self.display and self.display.persistence > 1 and self.sequence is None:
            raise ValueError(
                f"display.persistence: {self.display.persistence} pictures are averaged over time, and this scene has "
                "one; add a sequence"
            )
        return self

    @model_validator(mode="after")
    def _textures_fit(self) -> Scene:
        """Bound the lattices that textures are drawn on: 8 nodes per correlation length, and a margin."""
        if self.background.texture is None and all(p.texture is None for r in self.regions for p in r.parts):
            return self
        # scipy, which outlines need, is not loaded for a scene without textures
        from usim.phantom.truth import textures

        fields = textures(self.background, self.regions, self.box)
        cells = {path: field.cells for path, field in fields.items()}
        excess = sum(cells.values()) - MOST_TEXTURE_CELLS
        if excess > 0:
            path = max(cells, key=cells.__getitem__)
            texture = fields[path].texture
            key = "size" if isinstance(texture, Clusters) else "correlation"
            length, allowed = getattr(texture, key), max(cells[path] - excess, MOST_TEXTURE_CELLS / len(cells))
            width, height = (last - first for first, last in self.box)
            enough = math.ceil(length * math.sqrt(cells[path] / allowed) * 1e5) / 1e2
            raise ValueError(
                f"{path}.{key} {length * 1e3:g} mm is too fine for an image of {width * 1e3:g} mm by "
                f"{height * 1e3:g} mm; use {enough:g} mm or more"
            )
        return self

    @model_validator(mode="after")
    def _densities_fit(self) -> Scene:
        """Only a cloud that is drawn can be sparser in places."""
        if isinstance(self.scatterers, CloudSpec) and self.scatterers.model != "field":
            return self
        kind = "a cloud that is given" if isinstance(self.scatterers, CloudFile) else "model: field"
        for k, region in enumerate(self.regions):
            for part in region.parts:
                if part.per_cell is not None:
                    raise ValueError(
                        f"regions.{k}.{'wall.' if isinstance(part, Wall) else ''}per_cell: needs scatterers that are "
                        f"drawn, not {kind}; choose model: plane or volume"
                    )
        return self
