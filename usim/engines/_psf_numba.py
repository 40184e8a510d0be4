"""Numba kernels from scatterers to pixels; together they answer to the definition in psf.py.

No fast-math anywhere: with it, bits depend on which functions the compiler happened to inline (measured: up to 1e-6
apart between the process that compiles and those that load the cache), and nothing here is faster for it.
Every output row belongs to one task and is summed in a fixed order, so the bits do not depend on the number of threads.
Complex arrays are kept as separate real and imaginary float32 planes: the inner loops then vectorise.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

ROWS_PER_TASK = 32


@njit(cache=True)
def carrier(amplitude, z, wavenumber, out_re, out_im):
    """amplitude exp(-i 2 k0 z) by polynomials in the reduced phase (error below 5e-7), so that the loop vectorises."""
    turns = wavenumber / math.pi  # 2 k0 / 2 pi
    for s in range(z.size):
        turn = z[s] * turns
        half_turns = math.floor(2.0 * turn + 0.5)
        x = 2.0 * math.pi * (turn - 0.5 * half_turns)
        sign = 1.0 - 2.0 * (half_turns - 2.0 * math.floor(0.5 * half_turns))
        y = x * x
        cos = 1.0 - y / 2 * (1.0 - y / 12 * (1.0 - y / 30 * (1.0 - y / 56 * (1.0 - y / 90 * (1.0 - y / 132)))))
        sin = x * (1.0 - y / 6 * (1.0 - y / 20 * (1.0 - y / 42 * (1.0 - y / 72 * (1.0 - y / 110)))))
        out_re[s], out_im[s] = amplitude[s] * sign * cos, -amplitude[s] * sign * sin


@njit(cache=True)
def polar(modulus, word, out_re, out_im):
    """modulus exp(i 2 pi word / 2^32) for signed 32-bit words, in single precision (error below 1e-6).

    Half the angle lies within a quarter turn, where short polynomials hold; then it is doubled.
    """
    one, two, scale = np.float32(1.0), np.float32(2.0), np.float32(math.pi * 2.0**-32)
    c1, c2, c3 = np.float32(1.0 / 2), np.float32(1.0 / 12), np.float32(1.0 / 30)
    c4, c5 = np.float32(1.0 / 56), np.float32(1.0 / 90)
    s1, s2, s3 = np.float32(1.0 / 6), np.float32(1.0 / 20), np.float32(1.0 / 42)
    s4, s5 = np.float32(1.0 / 72), np.float32(1.0 / 110)
    for i in range(modulus.size):
        x = np.float32(word[i]) * scale
        y = x * x
        cos = one - y * c1 * (one - y * c2 * (one - y * c3 * (one - y * c4 * (one - y * c5))))
        sin = x * (one - y * s1 * (one - y * s2 * (one - y * s3 * (one - y * s4 * (one - y * s5)))))
        out_re[i], out_im[i] = modulus[i] * (one - two * sin * sin), modulus[i] * (two * sin * cos)


@njit(cache=True)
def locate(x, z, extent, origin, step, u, v, row):
    """Grid coordinates u (axial), v (lateral) and floor(u) of every scatterer; whether all lie inside and in row order.

    extent: (x0, x1, z0, z1), origin: (x, z) of cell (0, 0), step: (x, z), all metres.
    """
    inside, ordered, last = True, True, -1
    for s in range(x.size):
        inside &= (x[s] >= extent[0]) & (x[s] <= extent[1]) & (z[s] >= extent[2]) & (z[s] <= extent[3])
        place = (z[s] - origin[1]) / step[1]
        u[s], v[s] = place, (x[s] - origin[0]) / step[0]
        row[s] = int(place)
        ordered &= row[s] >= last
        last = row[s]
    return inside, ordered


@njit(cache=True, inline="always")
def _spline(t):
    """The four values of the cubic B-spline at distances 1 + t, t, 1 - t, 2 - t."""
    u = np.float32(1.0) - t
    third, half, sixth = np.float32(2.0 / 3.0), np.float32(0.5), np.float32(1.0 / 6.0)
    two = np.float32(2.0)
    return u * u * u * sixth, third - half * t * t * (two - t), third - half * u * u * (two - u), t * t * t * sixth


@njit(cache=True, parallel=True)
def splat(u, v, re, im, first, grid_re, grid_im):
    """Spread scatterers on the fine cells (R, J) with cubic B-splines.

    u, v: (N,) axial and lateral grid coordinates, sorted by floor(u).  first: (R + 1,) the first scatterer whose
    floor(u) is at least r.  Scatterer (u, v) adds to rows floor(u) - 1 .. floor(u) + 2.
    """
    rows, cells = grid_re.shape
    flat_re, flat_im = grid_re.reshape(-1), grid_im.reshape(-1)
    for task in prange((rows + ROWS_PER_TASK - 1) // ROWS_PER_TASK):
        top, bottom = task * ROWS_PER_TASK, min(rows, (task + 1) * ROWS_PER_TASK)
        grid_re[top:bottom] = 0.0
        grid_im[top:bottom] = 0.0
        for s in range(first[max(top - 2, 0)], first[min(bottom + 1, rows)]):
            row, cell = int(u[s]), int(v[s])
            a, b, c, d = _spline(v[s] - np.float32(cell))
            w0, w1, w2, w3 = _spline(u[s] - np.float32(row))
            for i in range(4):
                line = row - 1 + i
                if line < top or line >= bottom:
                    continue
                weight = w0 if i == 0 else (w1 if i == 1 else (w2 if i == 2 else w3))
                wre, wim = weight * re[s], weight * im[s]
                at = np.uint64(line * cells + cell - 1)
                flat_re[at] += wre * a
                flat_re[at + np.uint64(1)] += wre * b
                flat_re[at + np.uint64(2)] += wre * c
                flat_re[at + np.uint64(3)] += wre * d
                flat_im[at] += wim * a
                flat_im[at + np.uint64(1)] += wim * b
                flat_im[at + np.uint64(2)] += wim * c
                flat_im[at + np.uint64(3)] += wim * d


@njit(cache=True, parallel=True)
def filter_cells(fine, first, axial, lateral, stride, out):
    """Every second row and every `stride`-th (1 or 2) cell of fine (R, J) after the filters axial (K,), lateral (L,).

    out[r, c] = sum_{k, l} axial[k] lateral[l] fine[2 (first + r) + k, stride c + l].
    """
    cells = out.shape[1]
    for r in prange(out.shape[0]):
        row = np.zeros(fine.shape[1], np.float32)
        for k in range(axial.size):
            source = fine[2 * (first + r) + k]
            for j in range(row.size):
                row[j] += axial[k] * source[j]
        acc = out[r]
        acc[:] = 0.0
        for tap in range(lateral.size):
            shifted = row[tap:]
            if stride == 1:
                for c in range(cells):
                    acc[c] += lateral[tap] * shifted[c]
            else:
                for c in range(cells):
                    acc[c] += lateral[tap] * shifted[2 * c]


@njit(cache=True, parallel=True)
def upsample(coarse, half_sample, out):
    """Columns between columns: out[r, 2c] = coarse[r, c], out[r, 2c + 1] by the symmetric filter half_sample (2K,)."""
    taps, columns = half_sample.size, coarse.shape[1]
    for r in prange(coarse.shape[0]):
        source = np.zeros(columns + taps, np.float32)
        source[taps // 2 - 1 : taps // 2 - 1 + columns] = coarse[r]
        between = np.zeros(columns, np.float32)
        for k in range(taps):
            for c in range(columns):
                between[c] += half_sample[k] * source[c + k]
        for c in range(columns - 1):
            out[r, 2 * c] = coarse[r, c]
            out[r, 2 * c + 1] = between[c]
        out[r, 2 * columns - 2] = coarse[r, columns - 1]


@njit(cache=True, inline="always")
def _block(start, taps, low, high, columns, begin, block):
    """First kernel value and tap stride of a node's block for columns from `begin`: shared (0), left (1), right (2)."""
    if block == 0:
        return np.uint64(start), np.uint64(1)
    if block == 1:
        return np.uint64(start + taps), np.uint64(low)
    return np.uint64(start + taps * (1 + low) + begin - high), np.uint64(columns - high)


@njit(cache=True, inline="always")
def _bounds(low, high, columns, block):
    if block == 0:
        return low, high
    if block == 1:
        return 0, low
    return high, columns


# Unsigned indices tell the compiler that none counts from an array's end; without that, these loops do not vectorise.
# Four taps at a time keep the sums in registers four times as long.


@njit(cache=True)
def _shared_taps(w0, a, w1, b, taps, bank_re, bank_im, cell_re, cell_im, at, count, acc_re, acc_im, begin):
    one, four = np.uint64(1), np.uint64(4)
    t = np.uint64(0)
    while t + four <= taps:
        k0 = w0 * bank_re[a + t] + w1 * bank_re[b + t]
        j0 = w0 * bank_im[a + t] + w1 * bank_im[b + t]
        k1 = w0 * bank_re[a + t + one] + w1 * bank_re[b + t + one]
        j1 = w0 * bank_im[a + t + one] + w1 * bank_im[b + t + one]
        k2 = w0 * bank_re[a + t + np.uint64(2)] + w1 * bank_re[b + t + np.uint64(2)]
        j2 = w0 * bank_im[a + t + np.uint64(2)] + w1 * bank_im[b + t + np.uint64(2)]
        k3 = w0 * bank_re[a + t + np.uint64(3)] + w1 * bank_re[b + t + np.uint64(3)]
        j3 = w0 * bank_im[a + t + np.uint64(3)] + w1 * bank_im[b + t + np.uint64(3)]
        for c in range(count):
            i = at + t + c
            r0, m0 = cell_re[i], cell_im[i]
            r1, m1 = cell_re[i + one], cell_im[i + one]
            r2, m2 = cell_re[i + np.uint64(2)], cell_im[i + np.uint64(2)]
            r3, m3 = cell_re[i + np.uint64(3)], cell_im[i + np.uint64(3)]
            acc_re[begin + c] += (k0 * r0 - j0 * m0) + (k1 * r1 - j1 * m1) + (k2 * r2 - j2 * m2) + (k3 * r3 - j3 * m3)
            acc_im[begin + c] += (k0 * m0 + j0 * r0) + (k1 * m1 + j1 * r1) + (k2 * m2 + j2 * r2) + (k3 * m3 + j3 * r3)
        t += four
    while t < taps:
        k0 = w0 * bank_re[a + t] + w1 * bank_re[b + t]
        j0 = w0 * bank_im[a + t] + w1 * bank_im[b + t]
        for c in range(count):
            r0, m0 = cell_re[at + t + c], cell_im[at + t + c]
            acc_re[begin + c] += k0 * r0 - j0 * m0
            acc_im[begin + c] += k0 * m0 + j0 * r0
        t += one


@njit(cache=True)
def _own_taps(w0, a, sa, w1, b, sb, taps, bank_re, bank_im, cell_re, cell_im, at, count, acc_re, acc_im, begin):
    one = np.uint64(1)
    t = np.uint64(0)
    while t + one < taps:
        p, q = a + t * sa, b + t * sb
        for c in range(count):
            k0 = w0 * bank_re[p + c] + w1 * bank_re[q + c]
            j0 = w0 * bank_im[p + c] + w1 * bank_im[q + c]
            k1 = w0 * bank_re[p + sa + c] + w1 * bank_re[q + sb + c]
            j1 = w0 * bank_im[p + sa + c] + w1 * bank_im[q + sb + c]
            r0, m0 = cell_re[at + t + c], cell_im[at + t + c]
            r1, m1 = cell_re[at + t + one + c], cell_im[at + t + one + c]
            acc_re[begin + c] += (k0 * r0 - j0 * m0) + (k1 * r1 - j1 * m1)
            acc_im[begin + c] += (k0 * m0 + j0 * r0) + (k1 * m1 + j1 * r1)
        t += one + one
    while t < taps:
        p, q = a + t * sa, b + t * sb
        for c in range(count):
            k0 = w0 * bank_re[p + c] + w1 * bank_re[q + c]
            j0 = w0 * bank_im[p + c] + w1 * bank_im[q + c]
            r0, m0 = cell_re[at + t + c], cell_im[at + t + c]
            acc_re[begin + c] += k0 * r0 - j0 * m0
            acc_im[begin + c] += k0 * m0 + j0 * r0
        t += one


@njit(cache=True, parallel=True)
def lateral_pass(cell_re, cell_im, bank_re, bank_im, start, reach, low, high, node, blend, pad, out_re, out_im):
    """out[r, c] = sum_t B_r[t, c] cell[r, c + pad + t], B_r blended linearly between nodes node[r] and node[r] + 1.

    The bank's layout is that of build_bank; node n + 1 stores at least the columns that node n stores, and the taps
    that a row needs are in both of its nodes.
    """
    rows, columns = out_re.shape
    for r in prange(rows):
        n = node[r]
        out_re[r] = 0.0
        out_im[r] = 0.0
        if not (cell_re[r].any() or cell_im[r].any()):
            continue  # a few points leave most rows empty
        w1 = np.float32(blend[r])
        w0 = np.float32(1.0) - w1
        m = n + 1 if w1 > 0 else n
        half = min(reach[n], reach[m])
        taps = np.uint64(2 * half + 1)
        for block in range(3):
            begin, end = _bounds(low[n], high[n], columns, block)
            a, sa = _block(start[n], 2 * reach[n] + 1, low[n], high[n], columns, begin, block)
            b, sb = _block(start[m], 2 * reach[m] + 1, low[m], high[m], columns, begin, block)
            a += sa * np.uint64(reach[n] - half)
            b += sb * np.uint64(reach[m] - half)
            at, count = np.uint64(begin + pad - half), np.uint64(end - begin)
            if block == 0:
                _shared_taps(
                    w0,
                    a,
                    w1,
                    b,
                    taps,
                    bank_re,
                    bank_im,
                    cell_re[r],
                    cell_im[r],
                    at,
                    count,
                    out_re[r],
                    out_im[r],
                    np.uint64(begin),
                )
            else:
                _own_taps(
                    w0,
                    a,
                    sa,
                    w1,
                    b,
                    sb,
                    taps,
                    bank_re,
                    bank_im,
                    cell_re[r],
                    cell_im[r],
                    at,
                    count,
                    out_re[r],
                    out_im[r],
                    np.uint64(begin),
                )


@njit(cache=True, inline="always")
def _gain(w0, bank_p, w1, bank_q, squared):
    gain = w0 * bank_p + w1 * bank_q
    return gain * gain if squared else gain


@njit(cache=True)
def _power_taps(w0, a, sa, w1, b, sb, taps, shared, squared, bank, cells, at, count, acc, begin):
    one, two, three, t = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(0)
    while shared and t + three < taps:  # four at a time: half as many loads and stores
        g0 = _gain(w0, bank[a + t], w1, bank[b + t], squared)
        g1 = _gain(w0, bank[a + t + one], w1, bank[b + t + one], squared)
        g2 = _gain(w0, bank[a + t + two], w1, bank[b + t + two], squared)
        g3 = _gain(w0, bank[a + t + three], w1, bank[b + t + three], squared)
        for c in range(count):
            first = g0 * cells[at + t + c] + g1 * cells[at + t + one + c]
            acc[begin + c] += first + (g2 * cells[at + t + two + c] + g3 * cells[at + t + three + c])
        t += two + two
    while t < taps:
        p, q = a + t * sa, b + t * sb
        if shared:
            gain = _gain(w0, bank[p], w1, bank[q], squared)
            for c in range(count):
                acc[begin + c] += gain * cells[at + t + c]
        else:
            for c in range(count):
                acc[begin + c] += _gain(w0, bank[p + c], w1, bank[q + c], squared) * cells[at + t + c]
        t += one


@njit(cache=True, parallel=True)
def lateral_power(cells, squared, bank, start, reach, low, high, node, blend, pad, out):
    """Incoherent twin of lateral_pass: sums of |B|^2 cells, or of |B|^4 cells; bank holds |B|^2, blended as such."""
    rows, columns = out.shape
    for r in prange(rows):
        n = node[r]
        out[r] = 0.0
        if not cells[r].any():
            continue
        w1 = np.float32(blend[r])
        w0 = np.float32(1.0) - w1
        m = n + 1 if w1 > 0 else n
        half = min(reach[n], reach[m])
        for block in range(3):
            begin, end = _bounds(low[n], high[n], columns, block)
            a, sa = _block(start[n], 2 * reach[n] + 1, low[n], high[n], columns, begin, block)
            b, sb = _block(start[m], 2 * reach[m] + 1, low[m], high[m], columns, begin, block)
            a += sa * np.uint64(reach[n] - half)
            b += sb * np.uint64(reach[m] - half)
            _power_taps(
                w0,
                a,
                sa,
                w1,
                b,
                sb,
                np.uint64(2 * half + 1),
                block == 0,
                squared,
                bank,
                cells[r],
                np.uint64(begin + pad - half),
                np.uint64(end - begin),
                out[r],
                np.uint64(begin),
            )


@njit(cache=True, parallel=True)
def axial_pass(lateral_re, lateral_im, first_row, tap_re, tap_im, out_re, out_im):
    """out[i, c] = sum_j tap[i, j] lateral[first_row[i] + j, c] with complex taps (Z, K)."""
    columns = out_re.shape[1]
    for i in prange(out_re.shape[0]):
        acc_re, acc_im = out_re[i], out_im[i]
        acc_re[:] = 0.0
        acc_im[:] = 0.0
        for j in range(tap_re.shape[1]):
            re, im = lateral_re[first_row[i] + j], lateral_im[first_row[i] + j]
            p, q = tap_re[i, j], tap_im[i, j]
            for c in range(columns):
                acc_re[c] += p * re[c] - q * im[c]
                acc_im[c] += p * im[c] + q * re[c]


@njit(cache=True, parallel=True)
def axial_power(lateral, first_row, tap, out):
    """out[i, c] = sum_j tap[i, j] lateral[first_row[i] + j, c] with real taps (Z, K)."""
    columns = out.shape[1]
    for i in prange(out.shape[0]):
        acc = out[i]
        acc[:] = 0.0
        for j in range(tap.shape[1]):
            row = lateral[first_row[i] + j]
            for c in range(columns):
                acc[c] += tap[i, j] * row[c]


@njit(cache=True, parallel=True)
def sample_columns(columns_re, columns_im, first, tap, out):
    """out[i, x] = sum_k tap[k, x] column[i, first[x] + k]: internal columns to pixel columns, complex64 out."""
    for i in prange(out.shape[0]):
        re, im = np.zeros(out.shape[1], np.float32), np.zeros(out.shape[1], np.float32)
        row_re, row_im = columns_re[i], columns_im[i]
        for k in range(tap.shape[0]):
            for x in range(re.size):
                re[x] += tap[k, x] * row_re[first[x] + k]
                im[x] += tap[k, x] * row_im[first[x] + k]
        for x in range(re.size):
            out[i, x] = complex(re[x], im[x])
