"""The law of speckle: what a B-mode image shows on average, in closed form.

The envelope of many weak echoes plus a fixed one is Rician; with few echoes it is K-distributed. These are the
expectations of its logarithm (Jakeman and Pusey 1976; Oliver and Quegan, Understanding SAR Images, 2004). Written over
the array namespace of the arguments, so that numpy and torch run the same lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

DB_PER_NEPER = 4.342944819032518  # 10 / ln 10
EULER_GAMMA = 0.5772156649015329
FLOOR_DB = -150.0
SERIES_TERMS = 24
FRACTION_TERMS = 24


def log_plus_e1(k: Any) -> Any:
    """ln K + E1(K) for K >= 0, any shape; -EULER_GAMMA at 0, ln K for large K.

    Power series below 2, Lentz's continued fraction above (Abramowitz and Stegun 5.1.11 and 5.1.22): 2e-9 relative.
    """
    xp = array_namespace(k)
    small = xp.where(k < 2.0, k, xp.ones_like(k))
    large = xp.where(k < 2.0, xp.full_like(k, 2.0), k)
    term, total = xp.ones_like(k), xp.zeros_like(k)
    for n in range(1, SERIES_TERMS + 1):
        term = term * (-small / n)
        total = total - term / n
    fraction = xp.zeros_like(k)
    for n in range(FRACTION_TERMS, 0, -1):
        fraction = n * n / (large + 2.0 * n + 1.0 - fraction)
    e1 = xp.exp(-xp.minimum(large, xp.full_like(k, 80.0))) / (large + 1.0 - fraction)
    return xp.where(k < 2.0, total - EULER_GAMMA, xp.log(large) + e1)


def digamma_minus_log(nu: Any) -> Any:
    """digamma(nu) - ln nu for nu > 0, any shape; by recurrence up to 6 and the asymptotic series (A&S 6.3.5,
    6.3.18)."""
    xp = array_namespace(nu)
    shift, total = nu, xp.zeros_like(nu)
    for _ in range(6):
        low = shift < 6.0
        total = total - xp.where(low, 1.0 / shift, xp.zeros_like(shift))
        shift = xp.where(low, shift + 1.0, shift)
    inverse = 1.0 / (shift * shift)
    series = inverse * (1.0 / 12 - inverse * (1.0 / 120 - inverse * (1.0 / 252 - inverse / 240)))
    return total + xp.log(shift) - 0.5 / shift - series - xp.log(nu)


def mean_bmode(diffuse: Any, coherent: Any, fourth: Any) -> Any:
    """E[10 log10 |env|^2] in dB for each pixel; at least FLOOR_DB.

        10 log10 M + 4.343 { ln K + E1(K) + exp(-K) [digamma(nu) - ln nu + K / 2 nu] },   K = |s|^2 / M,  2 / nu =
        kappa4 / M^2

    The last term is the sparse-scatterer correction: exact for K = 0, to first order in 1/nu for every K (half the
    variance 1/nu of the local mean times the second derivative of E1), and gone where the fixed echo dominates.
    A cloud that was given, over random phases, has kappa4 < 0; with x = -kappa4 / M^2 the last bracket is then x / 4 +
    (gamma - 1/4) x^2: first order for many scatterers, exact for a single one (0.1 dB off for three equal ones).
    diffuse: M, mean diffuse intensity and noise, after TGC.  coherent: |s|^2.  fourth: kappa4, 0 for nu -> infinity.
    All of one shape and in units in which 0 dB is 1.
    """
    xp = array_namespace(diffuse)
    floor = 10.0 ** (FLOOR_DB / 10.0)
    mean = xp.clip(diffuse, floor, None)
    k = coherent / mean
    inverse_nu = xp.clip(fourth / (2.0 * mean * mean), 1e-9, 1e3)
    fixed = xp.clip(-fourth / (mean * mean), 0.0, 1.0)
    drawn = digamma_minus_log(1.0 / inverse_nu) + 0.5 * inverse_nu * k
    sparse = xp.where(fourth < 0.0, fixed * (0.25 + (EULER_GAMMA - 0.25) * fixed), drawn)
    decay = xp.exp(-xp.minimum(k, xp.full_like(k, 80.0)))
    decibel = DB_PER_NEPER * (xp.log(mean) + log_plus_e1(k) + decay * sparse)
    return xp.clip(decibel, FLOOR_DB, None)


@dataclass(frozen=True, eq=False)
class Law:
    """The law of detected images (..., Z, X), after TGC and on their scale: a fixed echo in diffuse ones and noise.

    mean: of the diffuse intensity.  noise: mean power of noise and haze.  coherent: complex amplitude of what the scene
    fixes.  fourth: fourth cumulant of the diffuse field.
    """

    mean: Any
    noise: Any
    coherent: Any
    fourth: Any

    @classmethod
    def amplified(cls, mean: Any, noise: Any, coherent: Any, fourth: Any, amplification: Any) -> Law:
        """The law after an amplitude gain, broadcast, of the same quantities before it; all have the shape of `mean`
        then."""
        xp, gain = array_namespace(mean), amplification**2
        shape = mean.shape
        return cls(
            mean * gain,
            xp.broadcast_to(noise * gain, shape),
            xp.broadcast_to(coherent * amplification, shape),
            fourth * gain**2,
        )

    @property
    def moments(self) -> tuple[Any, Any, Any]:
        """M, |s|^2 and kappa4, as `mean_bmode` and Screen.mean take them."""
        return self.mean + self.noise, array_namespace(self.mean).abs(self.coherent) ** 2, self.fourth

    @property
    def bmode(self) -> Any:
        """Expectation of the images in dB."""
        return mean_bmode(*self.moments)


def mean_clipped_db(mean: Any, low: float, high: float) -> Any:
    """E[10 log10 clip(I, low, high)] of exponential intensity I with the given mean: what a clipped display shows.

    4.343 [ln low + E1(low / m) - E1(high / m)]; mean of any shape, low and high in its units.
    """
    xp = array_namespace(mean)

    def e1(x: Any) -> Any:
        return log_plus_e1(x) - xp.log(x)

    log_low = xp.log(xp.full_like(mean, low))
    return DB_PER_NEPER * (log_low + e1(low / mean) - e1(high / mean))
