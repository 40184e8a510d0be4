"""Numba kernels that build the banks of lateral kernels; they answer to the definition in aperture.py and beam.py."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange


@njit(cache=True, inline="always")
def window(kind, s):
    if s < -1.0 or s > 1.0:
        return 0.0
    if kind == 0:
        return 1.0
    base = 0.5 if kind == 1 else 0.54
    return base + (1.0 - base) * math.cos(math.pi * s)


@njit(cache=True, inline="always")
def element_factor(slope, width_in_wavelengths):
    if width_in_wavelengths < 0.0:
        return 1.0
    cosine = 1.0 / math.sqrt(1.0 + slope * slope)
    argument = math.pi * width_in_wavelengths * slope * cosine
    return (math.sin(argument) / argument if abs(argument) > 1e-9 else 1.0) * cosine


@njit(cache=True)
def _add_piece(total_re, total_im, a_re, a_im, b_re, b_im, step_re, step_im, wa_re, wa_im, wb_re, wb_im):
    """Add two quadrature points, weights wa and wb, to the running integral; then turn their phasors by one piece."""
    for t in range(total_re.size):
        ar, ai, br, bi, sr, si = a_re[t], a_im[t], b_re[t], b_im[t], step_re[t], step_im[t]
        total_re[t] += (wa_re * ar - wa_im * ai) + (wb_re * br - wb_im * bi)
        total_im[t] += (wa_re * ai + wa_im * ar) + (wb_re * bi + wb_im * br)
        a_re[t], a_im[t] = ar * sr - ai * si, ar * si + ai * sr
        b_re[t], b_im[t] = br * sr - bi * si, br * si + bi * sr


@njit(cache=True)
def _phasor(rate, tap, re, im):
    for t in range(tap.size):
        re[t], im[t] = math.cos(rate * tap[t]), math.sin(rate * tap[t])


@njit(cache=True)
def cut_pupils(first, spacing, count, half, depth, curvature, kind, k, element, tap, out_re, out_im, energy):
    """Pupil integrals over [-half, V_m] with V_m = min(half, first + m spacing), for m = 0 .. count - 1 and every tap.

    One running integral serves all columns, because the array's end cuts the next column's aperture one column later.
    tap: (T,) lateral offsets, ascending and uniform.  out_re, out_im: (count, T).  energy: (count,) integral of A^2.
    Two-point Gauss-Legendre on pieces across which the phase turns by less than one radian, in single precision.
    """
    taps = tap.size
    rate = k * max(abs(tap[0]), abs(tap[-1])) / depth + k * half * abs(curvature)
    pieces = math.ceil(spacing * rate / 0.95)
    piece = spacing / pieces
    real = np.float32
    total_re, total_im = np.zeros(taps, real), np.zeros(taps, real)
    a_re, a_im, b_re, b_im = np.empty(taps, real), np.empty(taps, real), np.empty(taps, real), np.empty(taps, real)
    step_re, step_im = np.empty(taps, real), np.empty(taps, real)
    _phasor(k / depth * piece, tap, step_re, step_im)
    square = 0.0
    n = math.floor((-half - first) / piece)  # the piece that holds the lower edge
    column = max(0, math.ceil((n + 1) / pieces - 1e-9))
    for m in range(min(column, count)):
        out_re[m], out_im[m], energy[m] = 0.0, 0.0, 0.0
    fresh = True
    weight_re, weight_im = np.empty(2, real), np.empty(2, real)
    while column < count:
        lower, upper = first + n * piece, first + (n + 1) * piece
        whole = lower >= -half and upper <= half
        lower, upper = max(lower, -half), min(upper, half)
        centre, radius = 0.5 * (lower + upper), 0.5 * (upper - lower)
        offset = radius * 0.5773502691896258
        if fresh or not whole:
            _phasor(k / depth * (centre - offset), tap, a_re, a_im)
            _phasor(k / depth * (centre + offset), tap, b_re, b_im)
        for g in range(2):
            v = centre + (2 * g - 1) * offset
            apodization = window(kind, v / half)
            square += apodization * apodization * radius
            weight = apodization * element_factor(v / depth, element) * radius
            angle = -0.5 * k * curvature * v * v
            weight_re[g], weight_im[g] = weight * math.cos(angle), weight * math.sin(angle)
        _add_piece(
            total_re,
            total_im,
            a_re,
            a_im,
            b_re,
            b_im,
            step_re,
            step_im,
            weight_re[0],
            weight_im[0],
            weight_re[1],
            weight_im[1],
        )
        fresh = not whole
        n += 1
        if upper >= half:
            break
        if n % pieces == 0 and n // pieces == column:
            out_re[column], out_im[column], energy[column] = total_re, total_im, square
            column += 1
    for m in range(column, count):
        out_re[m], out_im[m], energy[m] = total_re, total_im, square


@njit(cache=True)
def _pupils(distance, spacing, count, aperture, k, half_rx, depth, tap, out):
    """Two-way pupil products of `count` columns of one side, the outermost `distance` from the array's end.

    aperture: see build_bank.  out: (2, count, T), real and imaginary.
    """
    width, kind_rx, half_tx, focus, kind_tx = aperture
    element = width * k / (2.0 * math.pi)  # in wavelengths
    taps = tap.size
    receive = np.empty((2, count, taps), np.float32)
    energy = np.empty(count)
    cut_pupils(distance, spacing, count, half_rx, depth, 0.0, kind_rx, k, element, tap, receive[0], receive[1], energy)
    for m in range(count):
        scale = 1.0 / math.sqrt(energy[m]) if energy[m] > 0.0 else 0.0
        for t in range(taps):
            out[0, m, t], out[1, m, t] = receive[0, m, t] * scale, receive[1, m, t] * scale
    if half_tx < 0.0:
        return
    transmit = np.empty((2, count, taps), np.float32)
    curvature = 1.0 / depth - 1.0 / focus
    re, im = transmit[0], transmit[1]
    cut_pupils(distance, spacing, count, half_tx, depth, curvature, kind_tx, k, element, tap, re, im, energy)
    for m in range(count):
        for t in range(taps):
            product = out[0, m, t] * re[m, t] - out[1, m, t] * im[m, t]
            out[1, m, t] = out[0, m, t] * im[m, t] + out[1, m, t] * re[m, t]
            out[0, m, t] = product


@njit(cache=True)
def _store(pupil, m, reverse, cos, sin, stride, re, im):
    """Write column m of pupil (2, count, T) times the wavefront cos + i sin into every stride-th place of re, im."""
    taps = cos.size
    for t in range(taps):
        source = taps - 1 - t if reverse else t
        a, b = pupil[0, m, source], pupil[1, m, source]
        re[t * stride], im[t * stride] = a * cos[t] - b * sin[t], a * sin[t] + b * cos[t]


@njit(cache=True, parallel=True)
def build_bank(column, end, depth, k, half_rx, aperture, phase, gain, tap_spacing, reach, low, high, start, re, im):
    """Lateral kernels of every depth node, one after the other from start[n] on.

    Each holds, with T = 2 reach[n] + 1 taps: the kernel (T,) that the columns low[n] .. high[n] - 1 share, because the
    array's ends do not cut their apertures; then (T, low[n]) of the columns left of those; then (T, C - high[n]) of the
    rest. Columns left of the array's axis mirror those on its right: B(xi; x) = B(-xi; -x).
    end: half the array, metres.  k (rad/m), half_rx, gain: (N,) per node.  aperture: (element width, receive window,
    half transmit aperture, focus, transmit window); negative width: no directivity; negative half: R alone.
    phase: (w, sin) of exp(-i k (w xi^2 / 2z + sin xi)): spherical wavefronts, and the steering of a plane wave.
    """
    columns, spacing = column.size, column[1] - column[0]
    for n in prange(depth.size):
        taps, z = 2 * reach[n] + 1, depth[n]
        tap = tap_spacing * (np.arange(taps) - reach[n])
        angle = -k[n] * (0.5 * phase[0] / z * tap + phase[1]) * tap
        cos, sin = gain[n] * np.cos(angle), gain[n] * np.sin(angle)
        pupil = np.empty((2, 1, taps), np.float32)
        _pupils(
            2.0 * end, spacing, pupil.shape[1], aperture, k[n], half_rx[n], z, tap, pupil
        )  # a literal 1 compiles twice
        at = start[n]
        _store(pupil, 0, False, cos, sin, 1, re[at:], im[at:])
        at += taps
        left, right = low[n], columns - high[n]
        for side in range(2):
            count = left if side == 0 else right
            if count == 0:
                continue
            outermost = -column[0] if side == 0 else column[columns - 1]
            if side == 0 or left == 0 or outermost != -column[0]:  # else both sides are one
                pupil = np.empty((2, max(left, right), taps), np.float32)
                _pupils(end - outermost, spacing, pupil.shape[1], aperture, k[n], half_rx[n], z, tap, pupil)
            for m in range(count):
                place = at + m if side == 0 else at + count - 1 - m
                _store(pupil, m, side == 0, cos, sin, count, re[place:], im[place:])
            at += taps * count
