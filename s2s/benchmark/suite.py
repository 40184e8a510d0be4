"""What a benchmark is made of: who competes, on what is judged, and how much work a preset is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from s2s.benchmark.paper import PATIENTS, SETS
from s2s.evaluation.cases import SUITES as BATTERY
from s2s.evaluation.cases import Suite as Judged
from s2s.evaluation.cases import suites_of
from s2s.methods import method_class
from s2s.report.markup import anchor
from usim.errors import ConfigError
from usim.units import did_you_mean

#: Side of the crops that presets count.
_CROP = 64
#: How a contender gets ready: settings are chosen by the truth of other scenes; weights are learned from simulation;
#: fresh weights are fitted to each image; or weights come with the package.
Way = Literal["tuned", "trained", "fitted", "published"]


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    label: its name there.  method: as `s2s.methods` knows it, or the name of published weights.  settings: that differ
    from the preset's.  phantom: what it learns from, where that can't be what all learn from.  preset: of the method,
    where it is not that of the benchmark.  crop: side of its crops where the benchmark says how many pixels a step
    has; 0 for 64.  slow: takes so long per image that it is judged on a few scenes alone, as all are that are fitted.
    """

    label: str
    method: str
    way: Way
    settings: Mapping[str, Any] = field(default_factory=dict)
    phantom: str = ""
    preset: str = ""
    crop: int = 0
    slow: bool = False

    def changes(self, crops: int | None) -> dict[str, int]:
        """What to change of its training so that a step has as many pixels as `crops` of 64 x 64, or one crop's."""
        if crops is None:
            return {}
        side = self.crop or _CROP
        return {"crop": side, "batch": max(1, round(crops * (_CROP / side) ** 2))}

    @property
    def bare_method(self) -> str:
        """The method without a wrapper such as polyphase(4)."""
        return self.method.rpartition(":")[2]

    @property
    def is_slow(self) -> bool:
        """Whether it is judged on a few scenes alone."""
        return self.slow or self.way == "fitted"

    @property
    def folder(self) -> str:
        """The label as the name of a folder."""
        return anchor(self.label)

    @property
    def lacking(self) -> str:
        """What has to be installed before it can compete, and how; "" when nothing is missing."""
        return "" if self.way == "published" else method_class(self.method).lacking()


@dataclass(frozen=True)
class Preset:
    """How much work a benchmark is.

    method: preset of the learned methods.  steps: of every training; None for each method's own.  crops: of a step, of
    64 x 64 pixels; None for each method's own training.  fit: settings of contenders that are fitted to each image, by
    method.  images: scenes of each of the paper's sets.  few: of these, scenes on which slow contenders are
    judged.  battery: scenes of each suite of the evaluation.  tuning: scenes on which settings are chosen.  sweep:
    whether methods are compared at equal edge widths.  took: what it took where it was last run, in words.
    """

    method: str
    steps: int | None
    crops: int | None
    fit: Mapping[str, Mapping[str, Any]]
    images: int
    few: int
    battery: int
    tuning: int
    sweep: bool
    took: str


@dataclass(frozen=True)
class Suite:
    """A benchmark: contenders in the order of the table, and presets.

    phantom: what methods learn from, and settings are chosen on.  images, battery: what is judged, the paper's sets and
    the suites of the evaluation.
    """

    name: str
    phantom: str
    contenders: tuple[Contender, ...]
    presets: Mapping[str, Preset]
    images: tuple[Judged, ...] = tuple(one for name in (*SETS.values(), PATIENTS[1]) for one in suites_of(name))
    battery: tuple[Judged, ...] = BATTERY

    def chosen(self, labels: tuple[str, ...]) -> tuple[Contender, ...]:
        """The contenders of these labels, all for none; raises ConfigError for a label that there is not."""
        known = {one.label: one for one in self.contenders}
        for label in labels:
            if label not in known:
                hint = did_you_mean(label, known)
                raise ConfigError(f"--method: {label!r} is none of this suite{hint}; allowed are {', '.join(known)}")
        return tuple(one for one in self.contenders if not labels or one.label in labels)

    def preset(self, name: str) -> Preset:
        """A preset; raises ConfigError for an unknown name."""
        if name not in self.presets:
            hint = did_you_mean(name, self.presets)
            raise ConfigError(f"--preset: {name!r} is unknown{hint}; allowed are {', '.join(self.presets)}")
        return self.presets[name]


def _learned(name: str, label: str = "", **more: Any) -> Contender:
    return Contender(label or name, name, "trained", **more)


_FILTERS = ("srad", "nlm", "bm3d", "obnlm", "lee", "kuan", "frost", "gaussian", "median")
PAPER = Suite(
    "paper",
    "training-any",
    (
        *(Contender(name, name, "tuned") for name in _FILTERS),
        _learned("noise2true"),
        _learned("noise2noise"),
        _learned("noise2noise", "noise2noise (slices)", settings={"pair": "slice"}, phantom="training-sweep"),
        _learned("noise2noise", "noise2noise (angles)", settings={"pair": "angle"}, phantom="training-angles"),
        _learned("ns-n2n", phantom="training-sweep"),
        _learned("speckle2speckle"),
        _learned("vdn"),
        _learned("r2d2+", slow=True),
        _learned("dna-net"),
        _learned("danet"),
        _learned("pngan"),
        _learned("cosdd"),
        Contender("dip", "dip", "fitted"),
        _learned("noise2void"),
        _learned("polyphase(4):noise2void", crop=128),
        _learned("structn2v"),
        Contender("noise2self (one image)", "noise2self", "fitted"),
        _learned("noise2self"),
        _learned("polyphase(4):noise2self", crop=128),
        _learned("neighbor2neighbor"),
        _learned("polyphase(4):neighbor2neighbor", crop=128),
        Contender("zs-n2n", "zs-n2n", "fitted"),
        Contender("polyphase(4):zs-n2n", "polyphase(4):zs-n2n", "fitted"),
        Contender("poisson2sparse", "poisson2sparse", "fitted"),
        Contender("polyphase(4):poisson2sparse", "polyphase(4):poisson2sparse", "fitted"),
        Contender("awgn (in the box)", "awgn", "published"),
        Contender("noise2vst", "noise2vst", "fitted"),
        Contender("polyphase(4):noise2vst", "polyphase(4):noise2vst", "fitted"),
        _learned("inpaint", slow=True),
        _learned("speckle2self", crop=96),
        _learned("speckle2self", "speckle2self (as published)", preset="paper", crop=256),
        Contender("speckle2self (in the box)", "speckle2self", "published"),
        Contender("default (in the box)", "default", "published"),
    ),
    {
        "smoke": Preset(
            method="toy", steps=60, crops=4, images=2, few=2, battery=2, tuning=2, sweep=False,
            fit={
                "zs-n2n": {"fit": 20}, "dip": {"fit": 3, "width": 8}, "noise2self": {"fit": 20, "width": 8},
                "poisson2sparse": {"fit": 10, "atoms": 8}, "noise2vst": {"fit": 10},
            },
            took="took 32 minutes on two cores that did other work too",
        ),
        "short": Preset(
            method="default", steps=500, crops=8, images=4, few=2, battery=4, tuning=4, sweep=False,
            fit={
                "zs-n2n": {}, "dip": {"fit": 100, "width": 16}, "noise2self": {"fit": 300, "width": 24},
                "poisson2sparse": {}, "noise2vst": {},
            },
            took="took 3 hours on two cores that did other work too",
        ),
        "full": Preset(
            method="default", steps=None, crops=None, images=24, few=4, battery=12, tuning=8, sweep=True,
            fit={
                "zs-n2n": {}, "dip": {}, "noise2self": {"fit": 1000}, "poisson2sparse": {"fit": 1000}, "noise2vst": {},
            },
            took="was never run to its end: days on two cores; meant for a GPU",
        ),
    },
)  # fmt: skip

SUITES = {PAPER.name: PAPER}
