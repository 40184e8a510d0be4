"""PyMUST's SIMUS as a reference for channel RF: one case for both programs, answers on one scale and time grid.

What SIMUS (PyMUST 0.1.9) answers is df w / fs times ours in 2-D, df h^2 / fs times ours for a linear or convex array in
3-D, and 1 / fs times ours from `simus3`: its inverse transform divides by the number of samples, and it multiplies by
the step df of its spectrum and by the element's width w (2-D) or, twice, its height h (3-D, where it integrates over y
and does not take the mean). The step is read from the length of the spectrum: it depends on the deepest scatterer.
`theirs` divides all of it out.
"""

import warnings
from dataclasses import dataclass
from itertools import product

import numpy as np

from usim.elements import elements_of, firings_of
from usim.events import Event, Focused, PlaneWave
from usim.medium import Medium
from usim.probe import Probe
from usim.rf import simulate_rf
from usim.scatterers import Scatterers

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", SyntaxWarning)  # backslashes in its docstrings, when Python compiles it
    import pymust

THRESHOLD = -100.0  # dB below the spectrum's peak at which SIMUS drops frequencies: its own default


@dataclass(frozen=True)
class Case:
    """One transmission and what both programs model of it.

    sub_elements: along (x, y), or None: each program's own choice, which is the same but for the lens (3-D).
    """

    probe: Probe
    event: Event
    attenuation: float = 0.0
    baffle: str | float = "soft"
    directivity: str = "center"
    dimensions: str = "2d"
    sub_elements: tuple[int, int] | None = None

    @property
    def medium(self) -> Medium:
        """Sound speed 1540 m/s."""
        return Medium(attenuation=self.attenuation)

    @property
    def rate(self) -> float:
        """Sampling frequency in Hz: four times the centre frequency, SIMUS's default."""
        return 4.0 * self.probe.center_frequency


def scattered(count, x, z, y=(0.0, 0.0), seed=0):
    """Scatterers of normally distributed amplitudes, uniform in x, y and z (intervals in millimetres)."""
    rng = np.random.default_rng(seed)
    position = np.stack([rng.uniform(*interval, count) for interval in (x, y, z)], axis=1) * 1e-3
    return Scatterers(position, rng.standard_normal(count))


def described(case):
    """(Param, Options) of a case: fresh ones, because PyMUST writes into both."""
    probe, elements = case.probe, elements_of(case.probe)
    firings = firings_of(case.event, elements, case.medium.sound_speed)
    param, options = pymust.utils.Param(), pymust.utils.Options()
    param.fc, param.bandwidth = probe.center_frequency, 100.0 * probe.fractional_bandwidth
    param.c, param.attenuation, param.fs = case.medium.sound_speed, case.attenuation, case.rate
    param.baffle, param.TXnow = case.baffle, float(case.event.cycles)
    param.width, param.TXapodization = probe.element_width, firings.weights.copy()
    if probe.positions is None:
        param.Nelements, param.pitch = probe.elements, probe.pitch
        param.radius = np.inf if probe.radius is None else probe.radius
        param.height, param.focus = probe.element_height, probe.elevation_focus or np.inf
    else:
        param.elements, param.height = elements.centre[:, :2].T.copy(), probe.element_height
    options.dBThresh = THRESHOLD
    options.FullFrequencyDirectivity = case.directivity == "full"
    if case.sub_elements is not None:
        options.ElementSplitting = case.sub_elements if probe.positions is not None else case.sub_elements[0]
    return param, options, firings.delays.copy()


def theirs(case, scatterers, workers=0):
    """Channel RF (S, E) by PyMUST from t = 0 on, at `case.rate` and on our scale.  workers: threads of its own pool."""
    param, options, delays = described(case)
    if workers:
        options.ParPool = True
        options.setParPool(workers, "thread")
    # rows: its pool shares out the second axis
    x, y, z, strength = (v[None].copy() for v in (*scatterers.position.T, scatterers.amplitude))
    if case.probe.positions is not None:
        data, spectrum = pymust.simus3(x, y, z, strength, delays, param, options)
        return data * case.rate
    if case.probe.radius is not None:  # its z = 0 is the chord of the outermost elements
        z += case.probe.radius * (1.0 - np.cos(case.probe.arc_step * (case.probe.elements - 1) / 2.0))
    if case.dimensions == "2d":
        data, spectrum = pymust.simus(x, z, strength, delays, param, options)
        step = 2.0 * param.fc / (len(spectrum) - 1) * param.width
    else:
        assert np.abs(y).max() > 1e-9, "SIMUS turns to 2-D where every y is zero"
        data, spectrum = pymust.simus(x, y, z, strength, delays, param, options)
        step = 2.0 * param.fc / (len(spectrum) - 1) * param.height**2
    return data * (case.rate / step)


def ours(case, scatterers, backend="numba"):
    """Channel RF (S, E) by usim, and the number of samples between t = 0 and the first."""
    rf = simulate_rf(
        case.probe, case.event, case.medium, scatterers, sampling_frequency=case.rate, dimensions=case.dimensions,
        baffle=case.baffle, directivity=case.directivity, sub_elements=case.sub_elements or "auto", backend=backend,
    )  # fmt: skip
    return rf.data[0].astype(np.float64), round(rf.t0[0] * case.rate)


def on_grid(data, first, samples):
    """Data (S, E) whose first sample is number `first`, as samples 0 ... samples - 1."""
    padded = np.zeros((samples, data.shape[1]))
    kept = slice(max(first, 0), max(min(first + len(data), samples), 0))
    padded[kept] = data[kept.start - first : kept.stop - first]
    return padded


@dataclass(frozen=True)
class Agreement:
    """gain: of our RF over theirs, least squares (1 is meant).  nrmse_db: of the difference, over their energy."""

    gain: float
    nrmse_db: float


def agreement(found, wanted):
    """How well `found` agrees with `wanted`, arrays of one shape."""
    energy = (wanted * wanted).sum()
    error = ((found - wanted) ** 2).sum()
    return Agreement(float((found * wanted).sum() / energy), float(10.0 * np.log10(error / energy)))


def judged(case, scatterers, wanted, backend="numba"):
    """How well our answer to a cloud agrees with `wanted` (S, E), samples from t = 0 on."""
    return agreement(on_grid(*ours(case, scatterers, backend), len(wanted)), wanted)


def study(case, edges, x, y=(0.0, 0.0), count=25, seed=0):
    """(overall, per band) of a cloud between the depths `edges` (mm), `count` scatterers in every band.

    Every band is also simulated alone, by both: echoes of one would overlap with the next one's. Overall, our answer to
    the whole cloud is compared with the sum of their bands.
    """
    clouds = [scattered(count, x, edges[i : i + 2], y, 1000 * seed + i) for i in range(len(edges) - 1)]
    both = [theirs(case, cloud) for cloud in clouds]
    bands = [judged(case, cloud, wanted) for cloud, wanted in zip(clouds, both, strict=True)]
    samples = max(len(wanted) for wanted in both)
    whole = Scatterers(*(np.concatenate([getattr(c, name) for c in clouds]) for name in ("position", "amplitude")))
    return judged(case, whole, sum(on_grid(wanted, 0, samples) for wanted in both)), bands


PROBES = {  # edges of the bands of depth, and how wide the cloud is (mm)
    "L11-5v": ((1, 5, 10, 15, 20, 25, 30, 35, 40), (-20.0, 20.0)),
    "P4-2v": ((1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100), (-25.0, 25.0)),
}
EVENTS = {
    "plane": lambda depth: PlaneWave(),
    "steered": lambda depth: PlaneWave(angle=np.radians(15.0)),
    "focus on axis": lambda depth: Focused(point=(0.0, 0.0, depth)),
    "focus off axis": lambda depth: Focused(point=(0.3 * depth, 0.0, depth)),
}


def cases_2d():
    """Every case of the two probes in 2-D by name: four events, two baffles, attenuation or none, two directivities."""
    found = {}
    options = product(PROBES, EVENTS, ("soft", "rigid"), (0.0, 0.5), ("center", "full"))
    for name, event, baffle, attenuation, directivity in options:
        depth = 0.5e-3 * PROBES[name][0][-1]
        case = Case(Probe.preset(name), EVENTS[event](depth), attenuation, baffle, directivity)
        found[f"{name}, {event}, {baffle}, {attenuation} dB, {directivity}"] = case
    return found
