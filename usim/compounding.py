"""Compounded images: the mean of several images of the same scatterers, and its truth.

The K fields of a pixel are jointly Gaussian with covariance C and mean s: with the eigenvalues l_k of C and s in its
eigenvectors, I = mean |field|^2 has the Laplace transform

    M(t) = E exp(-t I) = prod_k exp(-t |s_k|^2 / K / (1 + t l_k / K)) / (1 + t l_k / K)

and E ln I = integral (exp(-t) - M(t)) / t dt over t > 0 (Frullani): the truth of a mean of powers, for any correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import interp1d
from scipy.special import spence

from usim.display import Screen
from usim.engines.correlation import rho_between
from usim.frame import Truth
from usim.intensity import drop_db, looks_of_drop, looks_of_variance
from usim.phantom.schema import Scene
from usim.phantom.truth import label_names
from usim.speckle import DB_PER_NEPER, FLOOR_DB, digamma_minus_log
from usim.stage import Image, Stage

Array = NDArray[np.float64]
NODES = 73  # of ln t, from e^-18 to e^18 about the mean: the trapezoidal rule is then within 1e-3 dB (tested)
WIDEST = 18.0
RHO_DEPTHS = 10  # between which correlations are interpolated


@dataclass(frozen=True, eq=False)
class Compounded:
    """A scene whose images are means of those of `members`; in power, or in dB."""

    members: tuple[Stage, ...]

    @property
    def scene(self) -> Scene:
        """The first member's."""
        return self.members[0].scene

    @property
    def in_power(self) -> bool:
        """Whether detected powers are averaged."""
        compound = self.scene.compound
        return compound is not None and compound.mean == "power"

    @cached_property
    def rho(self) -> NDArray[np.complex128]:
        """Field correlation (Z, K, K) of the members' diffuse fields, row by row."""
        z, beams = self.members[0].setting.plan.grid.z, tuple(stage.setting.plan.beam for stage in self.members)
        nodes = np.linspace(z[0], z[-1], RHO_DEPTHS)
        at_nodes = np.stack([rho_between(beams, float(depth)) for depth in nodes])
        return np.asarray(interp1d(nodes, at_nodes, axis=0)(z))

    @cached_property
    def looks(self) -> Array:
        """Equivalent number of looks (Z, X): mean squared over variance of the diffuse intensity, noise included."""
        if not self.in_power:
            raise ValueError("the mean of images in dB has no mean intensity")
        value, _ = self._modes
        return value.sum(axis=-1) ** 2 / (value**2).sum(axis=-1)

    @cached_property
    def _modes(self) -> tuple[Array, Array]:
        """Eigenvalues (Z, X, K) of the covariance, and the power of the fixed echo in each eigenvector."""
        laws = [stage.law for stage in self.members]
        mean = np.stack([law.mean for law in laws], axis=-1)
        root = np.sqrt(mean)
        covariance = self.rho[:, None] * (root[..., :, None] * root[..., None, :])
        index = np.arange(len(laws))
        covariance[..., index, index] += np.stack([law.noise for law in laws], axis=-1)
        value, vector = np.linalg.eigh(covariance)
        fixed = np.stack([law.coherent for law in laws], axis=-1)
        within = np.abs((vector.conj() * fixed[..., :, None]).sum(axis=-2)) ** 2
        return np.maximum(value, 0.0), within

    @cached_property
    def _decibel(self) -> Array:
        """E[10 log10 I] (Z, X) of the mean of powers, of many scatterers."""
        value, fixed = self._modes
        count = len(self.members)
        return DB_PER_NEPER * mean_log(value / count, fixed / count)

    @cached_property
    def truth(self) -> Truth:
        """The truths; those of the scene are the first member's."""
        resolved = np.mean([10.0 ** (stage.resolved_db / 10.0) for stage in self.members], axis=0)
        shared: dict[str, Any] = {
            "resolved_db": (10.0 * np.log10(resolved)).astype(np.float32),
            "few_scatterers": np.max([stage.few_scatterers for stage in self.members], axis=0),
            "label_names": label_names(self.scene),
            **self.members[0].pixel_truth,
        }
        if not self.in_power:
            return Truth(bmode=np.mean([stage.bmode for stage in self.members], axis=0), **shared)
        _, fixed = self._modes
        laws, count = [stage.law for stage in self.members], len(self.members)
        # the same few scatterers are seen by all members: their number's correction is that of one image
        diffuse = np.sum([law.mean + law.noise for law in laws], axis=0)
        inverse_nu = np.sum([law.fourth for law in laws], axis=0) * count / (2.0 * np.maximum(diffuse, 1e-30) ** 2)
        drawn = digamma_minus_log(1.0 / np.clip(inverse_nu, 1e-9, 1e3))
        decay = np.exp(-np.minimum(fixed.sum(axis=-1) / np.maximum(diffuse, 1e-30), 80.0))
        bmode = np.maximum(self._decibel + DB_PER_NEPER * decay * drawn, FLOOR_DB).astype(np.float32)
        return Truth(bmode=bmode, looks=self.looks.astype(np.float32), **shared)

    @cached_property
    def screen(self) -> Screen | None:
        """The scanner's display."""
        return self.members[0].screen

    @cached_property
    def shown(self) -> NDArray[np.float32] | None:
        """What the screen shows of this one image on average, (Z, X), in its units; None without one.

        The law of a mean of powers is taken as that of equal looks of the same mean and mean logarithm, that of a mean
        in dB as one of the same mean and variance in dB: within 0.25 % of white.
        """
        if self.screen is None:
            return None
        laws = [stage.law for stage in self.members]
        diffuse, fixed, fourth = (
            np.mean(part, axis=0)
            for part in (
                [law.mean + law.noise for law in laws],
                [np.abs(law.coherent) ** 2 for law in laws],
                [law.fourth for law in laws],
            )
        )
        ratio = fixed / np.maximum(diffuse, 1e-30)
        if self.in_power:
            drop = self._decibel - 10.0 * np.log10(np.maximum(diffuse + fixed, 1e-30))
            return self.screen.mean(diffuse, fixed, fourth, looks_of_drop(drop, ratio))
        looks = looks_of_variance(self._log_variance)
        level = np.mean([stage.bmode for stage in self.members], axis=0, dtype=np.float64)
        return self.screen.mean_of(level - drop_db(looks, ratio), ratio, np.zeros_like(level), looks)

    @property
    def _log_variance(self) -> Array:
        """Variance (Z, X) of the mean of the members' ln I, of their diffuse fields: Li2(|rho|^2) for every pair."""
        share = [law.mean / np.maximum(law.mean + law.noise, 1e-30) for law in (stage.law for stage in self.members)]
        count, total = len(share), np.zeros(share[0].shape)
        for i in range(count):
            for j in range(count):
                power = np.abs(self.rho[:, i, j, None]) ** 2 * share[i] * share[j] if i != j else np.ones(())
                total = total + spence(1.0 - np.minimum(power, 1.0))
        return total / count**2

    def detect(self, images: list[Image]) -> NDArray[np.float32]:
        """Envelope (Z, X) of the mean of the members' IQ images."""
        powers = [iq.real**2 + iq.imag**2 for iq in images]
        if self.in_power:
            return np.sqrt(np.mean(powers, axis=0))
        floor = np.float32(10.0 ** (FLOOR_DB / 10.0))
        return np.exp(0.5 * np.mean([np.log(np.maximum(power, floor)) for power in powers], axis=0))


def mean_log(value: Array, fixed: Array) -> Array:
    """E ln I (...) of I = sum_k |f_k|^2, independent complex Gaussians of variance value_k about fixed_k, (..., K)."""
    mean = np.maximum((value + fixed).sum(axis=-1), 1e-300)
    node = np.linspace(-WIDEST, WIDEST, NODES)
    total = np.zeros(mean.shape)
    relative, constant = value / mean[..., None], fixed / mean[..., None]
    for t in np.exp(node):
        spread = 1.0 + t * relative
        total += np.exp(-t) - np.exp(-t * (constant / spread).sum(axis=-1)) / spread.prod(axis=-1)
    return np.log(mean) + total * (node[1] - node[0])
