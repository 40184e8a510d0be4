"""Numba kernel of delay and sum; it answers to the definition in beamforming.py.

Every block of points belongs to one task, which adds the elements in their order: the bits do not depend on the number
of threads. A block runs along neighbouring points (best along depth), element by element, so that the samples it reads
of one channel stay in cache. Geometry, weights and phases are loops that vectorise; the interpolation reads a table.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

TAPS = 12
PHASES = 256
PAD = TAPS + 4  # zeros before and behind each channel: what lies outside the record is zero, without a branch
OUTSIDE = TAPS // 2 + 2  # samples beyond the record where every tap reads zeros
FIRST_TAP = PAD - TAPS // 2 + 1  # of sample 0
BLOCK = 256


@njit(cache=True, error_model="numpy")
def _weights(x, y, z, centre, lateral, normal, two_f, least, most, base, fixed, weight):
    """Window value (B,) of one element for every point of a block; the first point with any, and one past the last.

    base + (1 - base) cos(pi q), q = offset / clip(height / 2F, least, most), for |q| <= 1; `fixed` when 2F is 0.
    """
    count = weight.size
    if two_f == 0.0:
        weight[:] = fixed
        return 0, count
    cx, cy, cz = centre
    lx, ly, lz = lateral
    nx, ny, nz = normal
    for p in range(count):
        dx, dy, dz = x[p] - cx, y[p] - cy, z[p] - cz
        height = dx * nx + dy * ny + dz * nz
        half = min(max(height / two_f, least), most)
        q = abs(dx * lx + dy * ly + dz * lz) / half
        u = math.pi * (0.5 - min(q, 1.0))  # cos(pi q) = sin(u), |u| <= pi / 2
        v = u * u
        sine = u * (1.0 + v * (_A1 + v * (_A2 + v * (_A3 + v * (_A4 + v * _A5)))))
        value = base + (1.0 - base) * sine
        weight[p] = value if (q <= 1.0) & (height > -least) else 0.0
    first, last = 0, count
    while first < last and weight[first] == 0.0:
        first += 1
    while last > first and weight[last - 1] == 0.0:
        last -= 1
    return first, last


@njit(cache=True, error_model="numpy")
def _arrivals(x, y, z, centre, transmit_time, slowness, turn_rate, start, rate, end, first, last, at, part, c, s):
    """Where each echo lies in the channel (sample `at`, fraction `part`), and its carrier cos, sin, for a block."""
    cx, cy, cz = centre
    for p in range(first, last):
        dx, dy, dz = x[p] - cx, y[p] - cy, z[p] - cz
        time = transmit_time[p] + math.sqrt(dx * dx + dy * dy + dz * dz) * slowness
        u = min(max((time - start) * rate, -OUTSIDE), end + OUTSIDE - 1) + FIRST_TAP
        whole = int(u)
        at[p], part[p] = whole, u - whole
        turn = time * turn_rate
        half_turns = math.floor(2.0 * turn + 0.5)
        sign = np.float32(1.0 - 2.0 * (half_turns - 2.0 * math.floor(0.5 * half_turns)))
        v = np.float32(2.0 * math.pi * (turn - 0.5 * half_turns))
        w = v * v
        cos = _C0 + w * (_C1 + w * (_C2 + w * (_C3 + w * (_C4 + w * _C5))))
        sin = v * (_C0 + w * (_S1 + w * (_S2 + w * (_S3 + w * _S4))))
        c[p], s[p] = sign * cos, sign * sin


_A1, _A2, _A3, _A4, _A5 = -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800
_C0 = np.float32(1.0)
_C1, _C2, _C3 = np.float32(-1.0 / 2), np.float32(1.0 / 24), np.float32(-1.0 / 720)
_C4, _C5 = np.float32(1.0 / 40320), np.float32(-1.0 / 3628800)
_S1, _S2 = np.float32(-1.0 / 6), np.float32(1.0 / 120)
_S3, _S4 = np.float32(-1.0 / 5040), np.float32(1.0 / 362880)


@njit(cache=True, inline="always", error_model="numpy")
def _tap(table, slope, k, f):
    return table[k] + f * slope[k]


@njit(cache=True, error_model="numpy")
def _gather(re, im, table, slope, first, last, at, part, c, s, weight, sum_re, sum_im):
    """Add one channel, interpolated and turned by the carrier, to the sums of a block."""
    n1, n2, n3, n4, n5 = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(5)
    n6, n7, n8, n9, n10, n11 = np.uint64(6), np.uint64(7), np.uint64(8), np.uint64(9), np.uint64(10), np.uint64(11)
    phases = np.float32(PHASES)
    for p in range(first, last):
        fine = part[p] * phases
        phase = min(int(fine), PHASES - 1)  # a fraction next to 1 rounds up to 1
        f = fine - np.float32(phase)
        k, i = np.uint64(phase * TAPS), np.uint64(at[p])
        w0, w1 = _tap(table, slope, k, f), _tap(table, slope, k + n1, f)
        w2, w3 = _tap(table, slope, k + n2, f), _tap(table, slope, k + n3, f)
        w4, w5 = _tap(table, slope, k + n4, f), _tap(table, slope, k + n5, f)
        w6, w7 = _tap(table, slope, k + n6, f), _tap(table, slope, k + n7, f)
        w8, w9 = _tap(table, slope, k + n8, f), _tap(table, slope, k + n9, f)
        w10, w11 = _tap(table, slope, k + n10, f), _tap(table, slope, k + n11, f)
        a = (w0 * re[i] + w4 * re[i + n4] + w8 * re[i + n8]) + (w1 * re[i + n1] + w5 * re[i + n5] + w9 * re[i + n9])
        a += (w2 * re[i + n2] + w6 * re[i + n6] + w10 * re[i + n10]) + (
            w3 * re[i + n3] + w7 * re[i + n7] + w11 * re[i + n11]
        )
        b = (w0 * im[i] + w4 * im[i + n4] + w8 * im[i + n8]) + (w1 * im[i + n1] + w5 * im[i + n5] + w9 * im[i + n9])
        b += (w2 * im[i + n2] + w6 * im[i + n6] + w10 * im[i + n10]) + (
            w3 * im[i + n3] + w7 * im[i + n7] + w11 * im[i + n11]
        )
        sum_re[p] += weight[p] * (a * c[p] - b * s[p])
        sum_im[p] += weight[p] * (a * s[p] + b * c[p])


@njit(cache=True, error_model="numpy")
def _block(
    re, im, start, rate, turn_rate, x, y, z, sight, time, centre, lateral, normal, slowness, two_f, limits, base, fixed,
    by_energy, table, slope, out,
):  # fmt: skip
    """One transmit's sum for a block of points: re, im (E, S + 2 PAD), x, y, z, time, out (B,), sight (3, B)."""
    size, end = out.size, re.shape[1] - 2 * PAD
    at, part = np.empty(size, np.int64), np.empty(size, np.float32)
    c, s, weight = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    sum_re, sum_im = np.zeros(size, np.float32), np.zeros(size, np.float32)
    energy = np.zeros(size, np.float32)
    for e in range(centre.shape[0]):
        place = (centre[e, 0], centre[e, 1], centre[e, 2])
        side = (lateral[e, 0], lateral[e, 1], lateral[e, 2])
        front = (normal[e, 0], normal[e, 1], normal[e, 2])
        first, last = _weights(*sight, place, side, front, two_f, limits[0], limits[1], base, fixed[e], weight)
        if first == last:
            continue
        _arrivals(x, y, z, place, time, slowness, turn_rate, start, rate, end, first, last, at, part, c, s)
        _gather(re[e], im[e], table, slope, first, last, at, part, c, s, weight, sum_re, sum_im)
        for p in range(first, last):
            energy[p] += weight[p] * weight[p]
    for p in range(size):
        scale = np.float32(1.0)
        if by_energy:
            scale = np.float32(1.0) / math.sqrt(energy[p]) if energy[p] > 0.0 else np.float32(0.0)
        out[p] = complex(sum_re[p] * scale, sum_im[p] * scale)


@njit(cache=True, parallel=True, error_model="numpy")
def delay_and_sum(
    re, im, t0, rate, turn_rate, points, sight, transmit_time, centre, lateral, normal, slowness, two_f, limits, base,
    fixed, by_energy, table, slope, out,
):  # fmt: skip
    """out[t, p] = sum_e w_e iq_te(t_tp + |p - r_e| / c) exp(i 2 pi f (t_tp + |p - r_e| / c)), over the root of sum w^2.

    re, im: (T, E, S + 2 PAD) float32, sample s at s + PAD.  t0: (T,) s.  rate: Hz.  turn_rate: f, Hz.
    points: (1 or T, 3, P) m; sight: as many, at which the apertures look.
    transmit_time: (T, P) s.  centre, lateral, normal: (E, 3).  slowness: 1 / c.
    two_f: twice the f-number.  limits: least and most half aperture, m.  base: of the window.  fixed: (E,) weights for
    two_f 0.  table, slope: (PHASES * TAPS,) float32.  out: (T, P) complex64.
    """
    transmits, count = out.shape
    blocks = (count + BLOCK - 1) // BLOCK
    for task in prange(transmits * blocks):
        t, begin = task // blocks, (task % blocks) * BLOCK
        stop = min(count, begin + BLOCK)
        own = min(t, points.shape[0] - 1)
        _block(
            re[t], im[t], t0[t], rate, turn_rate, points[own, 0, begin:stop], points[own, 1, begin:stop],
            points[own, 2, begin:stop],
            (sight[own, 0, begin:stop], sight[own, 1, begin:stop], sight[own, 2, begin:stop]),
            transmit_time[t, begin:stop], centre, lateral, normal, slowness, two_f, limits, base, fixed,
            by_energy, table, slope, out[t, begin:stop],
        )  # fmt: skip
