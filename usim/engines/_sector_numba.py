"""Numba kernels that build the banks of a sector scan's lateral kernels; they answer to the definition in sector.py."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

STEP = 0.95  # radians that the integrand may turn between two Gauss-Legendre points' centres
FEWEST = 12
SAMPLES = 9  # places over the aperture at which that turning is looked at


@njit(cache=True, inline="always")
def window(kind, s):
    if s > 1.0:
        return 0.0
    if kind == 0:
        return 1.0
    base = 0.5 if kind == 1 else 0.54
    return base + (1.0 - base) * math.cos(math.pi * s)


@njit(cache=True, inline="always")
def ray(u, radius, sine, cosine, depth):
    """From the element at u to the point at `depth` on a beam: distance, its change per metre across the beam, and the
    sine and cosine of the angle to the element's normal."""
    if radius == 0.0:
        dx, dz = depth * sine - u, depth * cosine
        away = math.sqrt(dx * dx + dz * dz)
        return away, -u * cosine / away, dx / away, dz / away
    side, front = math.sin(u / radius), math.cos(u / radius)
    dx, dz = -radius * side, depth + radius - radius * front
    away = math.sqrt(dx * dx + dz * dz)
    return away, dx / away, (dx * front - dz * side) / away, (dx * side + dz * front) / away


@njit(cache=True, inline="always")
def seen(u, away, slant, ahead, radius, depth, two_f, limits):
    """Where an element lies in the receive aperture of a point, as beamforming.Aperture has it: 1 at the edge."""
    offset, height = (abs(u), depth) if radius == 0.0 else (abs(slant) * away, ahead * away)
    return offset / min(max(height / two_f, limits[0]), limits[1])


@njit(cache=True, fastmath={"reassoc", "contract"})
def pupil(lower, upper, place, k, transmit, receive, width, tap, out_re, out_im):
    """Integral over an aperture for offsets tap * (-reach .. reach), 2 reach + 1 = out.size; returns that of A^2.

    place: (radius, sine, cosine, depth).  transmit: (half aperture, focus, window), half below 0: this is reception.
    receive: (2 F, least, most half aperture, window).  width: of the elements; negative: noise, the same everywhere.
    """
    radius, sine, cosine, depth = place
    half, focus, kind_tx = transmit
    two_f, least, most, kind_rx = receive
    out_re[:], out_im[:] = 0.0, 0.0
    if upper <= lower:
        return 0.0
    rate, before = 0.0, 0.0
    farthest = tap * (out_re.size // 2)
    for n in range(SAMPLES):
        u = lower + (upper - lower) * n / (SAMPLES - 1.0)
        _, change, slant, _ = ray(u, radius, sine, cosine, depth)
        turning = 0.0
        if half >= 0.0:
            turning = abs(slant - ray(u, radius, sine, cosine, focus)[2])
        if n > 0:
            turning += farthest * abs(change - before) / (upper - lower) * (SAMPLES - 1.0)
        before = change
        rate = max(rate, k * turning)
    pieces = max(FEWEST, math.ceil((upper - lower) * rate / STEP))
    piece = (upper - lower) / pieces
    count = 2 * pieces
    re, im = np.empty(count, np.float32), np.empty(count, np.float32)
    turn_re, turn_im = np.empty(count, np.float32), np.empty(count, np.float32)
    energy = 0.0
    for q in range(count):
        u = lower + (q // 2 + 0.5 + (q % 2 - 0.5) * 0.5773502691896258) * piece
        away, change, slant, ahead = ray(u, radius, sine, cosine, depth)
        if half >= 0.0:
            weight, path = window(kind_tx, abs(u) / half), away - depth - ray(u, radius, sine, cosine, focus)[0] + focus
        else:
            weight, path = window(kind_rx, seen(u, away, slant, ahead, radius, depth, two_f, (least, most))), 0.0
        weight *= 0.5 * piece
        energy += weight * weight / (0.5 * piece)
        if width >= 0.0:
            argument = math.pi * width * k / (2.0 * math.pi) * slant
            weight *= (math.sin(argument) / argument if abs(argument) > 1e-9 else 1.0) * max(ahead, 0.0)
            weight /= math.sqrt(away)
        angle = -k * (path - change * farthest)
        re[q], im[q] = weight * math.cos(angle), weight * math.sin(angle)
        turn_re[q], turn_im[q] = math.cos(k * change * tap), -math.sin(k * change * tap)
    for t in range(out_re.size):
        total_re, total_im = np.float32(0.0), np.float32(0.0)
        for q in range(count):
            a, b = re[q], im[q]
            total_re += a
            total_im += b
            re[q], im[q] = a * turn_re[q] - b * turn_im[q], a * turn_im[q] + b * turn_re[q]
        out_re[t], out_im[t] = total_re, total_im
    return energy


@njit(cache=True)
def _kernel(angle, end, radius, depth, k, transmit, receive, edge, width, tap, re, im):
    """One beam's two-way kernel, or for noise its receive kernel, without the wavefront: re, im (T,)."""
    origin = radius * angle
    left, right = -end - origin, end - origin
    place = (radius, math.sin(angle), math.cos(angle), depth)
    reception = (-1.0, 1.0, 0)
    energy = pupil(max(-edge, left), min(edge, right), place, k, reception, receive, width, tap, re, im)
    scale = 1.0 / math.sqrt(energy) if energy > 0.0 else 0.0
    half = transmit[0]
    if half < 0.0:
        for t in range(re.size):
            re[t], im[t] = re[t] * scale, im[t] * scale
        return
    other_re, other_im = np.empty(re.size, np.float32), np.empty(re.size, np.float32)
    pupil(max(-half, left), min(half, right), place, k, transmit, receive, width, tap, other_re, other_im)
    for t in range(re.size):
        a, b = re[t] * scale, im[t] * scale
        re[t], im[t] = a * other_re[t] - b * other_im[t], a * other_im[t] + b * other_re[t]


@njit(cache=True, inline="always")
def _store(kernel_re, kernel_im, cos, sin, reverse, begin, stride, re, im):
    """Write a kernel times the wavefront cos + i sin (symmetric) into every stride-th place from `begin` on."""
    taps = cos.size
    for t in range(taps):
        a, b = kernel_re[taps - 1 - t if reverse else t], kernel_im[taps - 1 - t if reverse else t]
        re[begin + t * stride], im[begin + t * stride] = a * cos[t] - b * sin[t], a * sin[t] + b * cos[t]


@njit(cache=True, parallel=True)
def build_fan_bank(
    angle, mirrored, end, radius, depth, k, transmit, receive, edge, width, curvature, tap, reach, low, high, start,
    re, im,
):  # fmt: skip
    """Lateral kernels of every range node in the layout of _bank_numba.build_bank.

    angle: (C,) of the beams; mirrored: they are symmetric about 0, and so are the kernels: B(xi; -a) = B(-xi; a).
    end: half the array along its face.  radius: of curvature, 0 for a phased array.  depth, k, edge (half the receive
    aperture), curvature (of exp(-i k curvature xi^2)), tap (metres in space between taps), reach, low, high, start:
    (N,) per node.  transmit, receive, width: see `pupil`.
    """
    columns = angle.size
    for n in prange(depth.size):
        taps = 2 * reach[n] + 1
        offset = tap[n] * (np.arange(taps) - reach[n])
        phase = -k[n] * curvature[n] * offset * offset
        cos, sin = np.cos(phase), np.sin(phase)
        kernel_re, kernel_im = np.empty(taps, np.float32), np.empty(taps, np.float32)
        place = (radius, depth[n], k[n], transmit, receive, edge[n], width, tap[n], kernel_re, kernel_im)
        _kernel(0.0, end if radius == 0.0 else np.inf, *place)
        _store(kernel_re, kernel_im, cos, sin, False, start[n], 1, re, im)
        left, right = start[n] + taps, start[n] + taps * (1 + low[n])
        others = columns - high[n]
        both = mirrored and others == low[n]
        for c in range(low[n]):
            _kernel(angle[c], end, *place)
            _store(kernel_re, kernel_im, cos, sin, False, left + c, low[n], re, im)
            if both:
                _store(kernel_re, kernel_im, cos, sin, True, right + others - 1 - c, others, re, im)
        if not both:
            for c in range(others):
                _kernel(angle[high[n] + c], end, *place)
                _store(kernel_re, kernel_im, cos, sin, False, right + c, others, re, im)
