"""The exact engine: the field that every element sends to, and hears from, every scatterer.

    RF_e(f) = P(f) R(f)^2 sum_s a_s T_s(f) G_e,s(f)          T_s(f) = sum_j w_j exp(-i 2 pi f tau_j) G_j,s(f)
    G_e,s(f) = mean over sub-elements of  D obl exp(-(i k + alpha(f)) r - i 2 pi f tau_lens) / r     (1/sqrt(r) in 2-D)

e, j: receiving and transmitting elements; s: scatterers; w, tau: transmit weights and delays; D: directivity,
sinc(w u_x / lambda) sinc(h u_y / lambda) of the sub-element's own width and height; obl: obliquity of the baffle.
Linear acoustics, first Born approximation. `definition` is this sum in double precision; `channels` computes it with
the kernels of _sir_numba.py on short stretches of time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from usim.elements import Elements, Firings
from usim.engines.response import Response, attenuation
from usim.errors import ConfigError
from usim.medium import Medium
from usim.scatterers import Scatterers

Array = NDArray[np.float64]
MOST_SUB_ELEMENTS = 4096  # per element
LANES = 16  # elements that the kernels work on at once, in an even number of blocks


@dataclass(frozen=True)
class Physics:
    """What is modelled.

    dimensions: "3d" or "2d" (everything infinitely long in y).  baffle: "soft", "rigid", or the ratio of the medium's
    impedance to the baffle's.  directivity: of a sub-element, at every frequency ("full") or as it is at the centre
    frequency ("center").  sub_elements: numbers of sub-elements along (x, y), or "auto": smaller than a wavelength at
    the upper edge of the band.
    """

    dimensions: Literal["2d", "3d"] = "3d"
    baffle: Literal["soft", "rigid"] | float = "soft"
    directivity: Literal["full", "center"] = "full"
    sub_elements: Literal["auto"] | tuple[int, int] = "auto"

    def obliquity(self) -> tuple[float, float, float]:
        """(a, b, c) of obliquity = a + b cos + cos / (cos + c), the last term only if c >= 0."""
        if self.baffle == "soft":
            return 0.0, 1.0, -1.0
        if self.baffle == "rigid":
            return 1.0, 0.0, -1.0
        return 0.0, 0.0, float(self.baffle)


@dataclass(frozen=True, eq=False)
class Face:
    """The elements of one probe in one medium, split into sub-elements.

    upper_frequency: Hz, the upper edge of the probe's -6 dB band, which decides the automatic split.
    """

    elements: Elements
    medium: Medium
    physics: Physics
    center_frequency: float
    upper_frequency: float

    @property
    def wavelength(self) -> float:
        """Metres, at the centre frequency."""
        return self.medium.sound_speed / self.center_frequency

    @cached_property
    def split(self) -> tuple[int, int]:
        """Numbers of sub-elements along x and y."""
        if self.physics.sub_elements != "auto":
            nx, ny = self.physics.sub_elements
        else:
            per_metre = self.upper_frequency / self.medium.sound_speed
            nx, ny = (math.ceil(size * per_metre) for size in (self.elements.width, self.elements.height))
        return max(nx, 1), (max(ny, 1) if self.physics.dimensions == "3d" else 1)

    @cached_property
    def subs(self) -> Array:
        """Sub-elements (K, 4): offsets along lateral and elevation (m), lens delay (s), weight (their sum is 1)."""
        nx, ny = self.split
        x = ((np.arange(nx) + 0.5) / nx - 0.5) * self.elements.width
        y = ((np.arange(ny) + 0.5) / ny - 0.5) * self.elements.height
        lens, focus = np.zeros(ny), self.elements.lens_focus
        if focus is not None and self.physics.dimensions == "3d":
            lens = (focus - np.hypot(focus, y)) / self.medium.sound_speed
        table = [(xi, yi, delay, 1.0 / (nx * ny)) for yi, delay in zip(y, lens, strict=True) for xi in x]
        return np.array(table)

    def is_mirrored(self, scatterers: Scatterers) -> bool:
        """Whether everything lies in the plane y = 0 of a flat or convex array, so that +y and -y are alike."""
        e = self.elements
        flat = not e.centre[:, 1].any() and bool((np.abs(e.elevation) == [0.0, 1.0, 0.0]).all())
        return flat and not scatterers.y.any()

    def phasors(self, scatterers: Scatterers) -> Array:
        """The phasors (K', 9) that sum up to an element, as the kernels' `set_states` reads them."""
        nx, ny = self.split
        subs = self.subs
        if ny > 1 and self.physics.dimensions == "3d" and self.is_mirrored(scatterers):
            subs = subs[subs[:, 1] > -1e-12] * [1.0, 1.0, 1.0, 2.0]
            subs[np.abs(subs[:, 1]) < 1e-12, 3] /= 2.0
        width, height = self.elements.width / nx, self.elements.height / ny
        solid = self.physics.dimensions == "3d"
        rows = []
        for x, y, lens, weight in subs:
            if self.physics.directivity == "center":
                rows.append((x, y, lens, weight, width, height if solid else 0.0, 0.0, 0.0, 0.0))
                continue
            for sign_x in (1.0, -1.0):
                edge = sign_x / width
                for sign_y in (1.0, -1.0) if solid else (0.0,):
                    gain = weight * edge * (sign_y / height if solid else 1.0)
                    shift = (0.5 * sign_x * width, 0.5 * sign_y * height)
                    rows.append((x, y, lens, gain, 0.0, 0.0, *shift, 3.0 if solid else 1.0))
        if len(rows) % 2:
            rows.append((0.0,) * 9)
        return np.array(rows)

    def edge_filter(self, frequency: Array) -> NDArray[np.complex128]:
        """The factor (F,) of G that `phasors` leave out: 1 / (i k) for each direction whose edges they are."""
        if self.physics.directivity == "center":
            return np.ones(frequency.shape, np.complex128)
        wavenumber = 2.0 * np.pi * frequency / self.medium.sound_speed
        return (1j * wavenumber) ** (-2.0 if self.physics.dimensions == "3d" else -1.0)

    @cached_property
    def blocks(self) -> NDArray[np.float64]:
        """Elements as the kernels read them: flat (B 12 LANES,), the last one repeated to fill two blocks."""
        e = self.elements
        table = np.concatenate([e.centre, e.lateral, e.elevation, e.normal], axis=1)
        padded = np.concatenate([table, np.repeat(table[-1:], -len(e) % (2 * LANES), axis=0)])
        return np.ascontiguousarray(padded.reshape(-1, LANES, 12).transpose(0, 2, 1)).reshape(-1)

    def kernel_arguments(
        self, low: float, step: float, count: int
    ) -> tuple[Array, Array, Array, NDArray[np.float32], NDArray[np.float32]]:
        """(band, option, loss, bends, excess) of the kernels, for `count` frequencies from `low` on, `step` Hz apart.

        Phasors follow attenuation along straight lines over four frequencies at a time; `bends` (count / 4,) is how the
        lines' slopes change, `excess` (count,) what lies above them, Np/m: nothing (0,) where attenuation is
        proportional to frequency.
        """
        alpha = attenuation(low + step * np.arange(count + 4), self.medium)
        corner, slope = alpha[:-4:4], np.diff(alpha[::4]) / 4.0
        bends = np.append(np.diff(slope), 0.0)
        excess = alpha[:-4] - np.add(corner[:, None], slope[:, None] * np.arange(4)).ravel()
        if self.medium.attenuation == 0.0 or self.medium.attenuation_power == 1.0:
            bends, excess = np.zeros_like(bends), np.zeros(0)
        band = np.array([low, step, self.medium.sound_speed, self.shortest_path, 1.0 / self.wavelength])
        option = np.array([1.0 if self.physics.dimensions == "3d" else 0.0, *self.physics.obliquity()])
        loss = np.array([alpha[0], slope[0]])
        return band, option, loss, bends.astype(np.float32), excess.astype(np.float32)

    @property
    def padded(self) -> int:
        """Elements (E',) with those that fill the blocks of the kernels."""
        return len(self.blocks) // 12

    def unblocked(self, fields: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Fields (N, F, E) from those of the kernels, (N, F / 4, B ROW): four frequencies of LANES elements a block."""
        planes = fields.reshape(*fields.shape[:2], -1, 4, 2, LANES).transpose(4, 0, 1, 3, 2, 5)
        planes = planes.reshape(2, len(fields), -1, self.padded)[..., : len(self.elements)]
        out = np.empty(planes.shape[1:], np.complex64)
        out.real, out.imag = planes
        return out

    @property
    def shortest_path(self) -> float:
        """Metres; half a wavelength, below which distances are not taken."""
        return 0.5 * self.wavelength


def propagation(face: Face, position: Array, frequency: Array) -> NDArray[np.complex128]:
    """G_e,s(f) (S, E, F) by the definition: from scatterers at `position` (S, 3), at `frequency` Hz (F,)."""
    e, c = face.elements, face.medium.sound_speed
    nx, ny = face.split
    solid = face.physics.dimensions == "3d"
    a, b, ratio = face.physics.obliquity()
    alpha = attenuation(frequency, face.medium)
    total = np.zeros((len(position), len(e), len(frequency)), np.complex128)
    for x, y, lens, weight in face.subs:
        away = position[:, None, :] - (e.centre + x * e.lateral + y * e.elevation)
        if not solid:
            away = away * [1.0, 0.0, 1.0]
        r = np.maximum(np.linalg.norm(away, axis=-1), face.shortest_path)
        ux, uy = (away * e.lateral).sum(-1) / r, (away * e.elevation).sum(-1) / r
        cos = np.maximum((away * e.normal).sum(-1) / r, 1e-9)
        gain = weight / (r if solid else np.sqrt(r)) * (a + b * cos)
        if ratio >= 0.0:
            gain = weight / (r if solid else np.sqrt(r)) * cos / (cos + ratio)
        gain = gain * (cos > 1e-9)  # what lies behind an element is not heard by it
        at = frequency if face.physics.directivity == "full" else np.full(1, face.center_frequency)
        directivity = np.sinc(e.width / nx * ux[..., None] * at / c)
        if solid:
            directivity = directivity * np.sinc(e.height / ny * uy[..., None] * at / c)
        travel = r[..., None] / c + lens
        total += gain[..., None] * directivity * np.exp(-2j * np.pi * frequency * travel - alpha * r[..., None])
    return total


def definition(
    face: Face, firings: Firings, response: Response, scatterers: Scatterers, frequency: Array
) -> NDArray[np.complex128]:
    """RF_e(f) (T, E, F) of every transmission at `frequency` Hz (F,), in double precision, scatterer by scatterer."""
    total = np.zeros((len(firings), len(face.elements), len(frequency)), np.complex128)
    fired = firings.weights[..., None] * np.exp(-2j * np.pi * firings.delays[..., None] * frequency)
    for position, amplitude in zip(scatterers.position, scatterers.amplitude, strict=True):
        heard = propagation(face, position[None], frequency)[0]
        incident = np.einsum("tef,ef->tf", fired, heard)
        total += amplitude * incident[:, None, :] * heard
    return total * response(frequency)


def face_of(elements: Elements, medium: Medium, physics: Physics, center_frequency: float, bandwidth: float) -> Face:
    """The face of a probe; ConfigError where its sub-elements are too many to sum."""
    face = Face(elements, medium, physics, center_frequency, center_frequency * (1.0 + bandwidth / 2.0))
    if face.split[0] * face.split[1] > MOST_SUB_ELEMENTS:
        raise ConfigError(
            f"sub_elements: an element would be split into {face.split[0]} x {face.split[1]}, at most "
            f"{MOST_SUB_ELEMENTS} are allowed; give sub_elements=(x, y) or a lower frequency"
        )
    return face
