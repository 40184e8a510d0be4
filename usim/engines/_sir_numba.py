"""Kernels of the exact engine: phasors that walk through the frequencies, 16 elements at a time.

Arrays are blocked by 16 elements (one lane each). A block of `state` holds two phasors p and their steps q,

    [Re p1, Im p1, Re p2, Im p2, Re q1, Im q1, Re q2, Im q2] x 16,

a block of fields four neighbouring frequencies, [Re f0, Im f0, ..., Re f3, Im f3] x 16. With every row at a constant
distance from the others, compilers turn the inner loops into vector instructions without checks for overlap (and loops
count from 0 by 1, else they cannot tell that no index is negative).
Each task owns its tile's output, so results do not depend on the number of threads.
"""

import math

import numpy as np
from numba import get_num_threads, njit, prange

LANES = 16
ROW = 8 * LANES
CACHE_FLOATS = 49152
ROWS = 1056  # distance of the rows that `add_outer` reads: a multiple of the vector, but not of a page
TOGETHER = 8  # scatterers that `add_outer` takes at once
FIELDS_AT_ONCE = 128  # scatterers whose fields `capture_tile` keeps
# sinc(x) of a sub-element is not taken below this x: it is 1 to 1e-4 there, and edges would cancel out
SMALLEST_ARGUMENT = 7e-3
NARROWEST = 1e-6  # wavelengths

# `contract` allows a*b + c in one rounding; nothing else is relaxed
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


@compiled
def aligned(rows, size):
    """Zeros (rows, size) float32, each row on a boundary of 64 bytes if size is a multiple of 16."""
    buffer = np.zeros(rows * size + LANES, np.float32)
    start = (-(buffer.ctypes.data // 4)) % LANES
    return buffer[start : start + rows * size].reshape(rows, size)


@compiled
def sine(x):
    """sin(pi x) for |x| <= 1/2, to 3e-8."""
    y = x * x
    return x * (
        3.14159265358979
        - y
        * (
            5.16771278004997
            - y
            * (
                2.55016403987734
                - y
                * (0.599264528932149 - y * (0.0821458866111282 - y * (0.00737043094571435 - y * 0.00046630280576761)))
            )
        )
    )


@compiled
def cosine(x):
    """cos(pi x) for |x| <= 1/2, to 3e-8."""
    y = x * x
    return 1.0 - y * (
        4.93480220054468
        - y
        * (
            4.05871212641677
            - y * (1.33526276885459 - y * (0.235330630358893 - y * (0.0258068913900140 - y * 0.00192957430940392)))
        )
    )


@compiled
def sinc(x):
    """sin(pi x) / (pi x) for any x."""
    a = abs(x)
    half = np.floor(a + 0.5)
    s = sine(a - half) * (1.0 - 2.0 * (half - 2.0 * np.floor(0.5 * half)))
    return s / (math.pi * a) if a > 1e-4 else 1.0 - 1.6449340668482264 * a * a


@compiled
def phasor_re(turns):
    """Real part of exp(-2 pi i turns)."""
    t = 2.0 * (turns - np.floor(turns + 0.5))  # in half turns, -1 ... 1
    flip = np.floor(t + 0.5)
    return cosine(t - flip) * (1.0 - 2.0 * abs(flip))


@compiled
def phasor_im(turns):
    """Imaginary part of exp(-2 pi i turns)."""
    t = 2.0 * (turns - np.floor(turns + 0.5))
    flip = np.floor(t + 0.5)
    return -sine(t - flip) * (1.0 - 2.0 * abs(flip))


@compiled
def decay(x):
    """exp(-x) for 0 <= x, to 1e-9; 0 beyond 60."""
    y = min(x, 60.0) / 1024.0
    e = 1.0 - y * (1.0 - y * (0.5 - y * (1.0 / 6.0 - y * (1.0 / 24.0 - y * (1.0 / 120.0 - y / 720.0)))))
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    return e if x < 60.0 else 0.0


@compiled
def set_states(point, array, subs, offset, band, option, loss, state, path, s):
    """State (K/2, B ROW) of all phasors of one scatterer, and their paths (K/2, B 2 LANES) in metres, into state[s].

    point (3,): metres.
    array (B 12 LANES,): centre, lateral, elevation and normal unit vectors, x y z each.
    subs (K, 9): a phasor's sub-element: offset along lateral and elevation (m), lens delay (s), weight; width and
        height (m) of its sinc directivity at the centre frequency; shift of its path per unit of the direction cosines
        along lateral and elevation (m), and whether it is divided by them (1 lateral, 2 elevation, 3 both).
    offset (B LANES,): seconds taken off the travel time of each element.
    band (5,): first frequency, step, sound speed, shortest path, 1 / wavelength at the centre frequency.
    option (4,): 1 in 3-D or 0 in 2-D; obliquity = option[1] + option[2] cos + cos / (cos + option[3]) (if >= 0).
    loss (2,): Np/m at the first frequency, and per step.

    At every frequency sinc(k w u / 2) = (exp(i k w u / 2) - exp(-i k w u / 2)) / (i k w u): two phasors, one from each
    edge, shifted by -+ w u / 2 and divided by +- w u. The common 1 / (i k) is left to the caller.
    """
    # read here: the compiler can't know that a store to `state` leaves them as they are
    px, py, pz = point[0], point[1], point[2]
    first, df, speed, shortest, per_wave = band[0], band[1], band[2], band[3], band[4]
    loss_first, loss_step = loss[0], loss[1]
    three, rigid, soft, ratio = option[0], option[1], option[2], abs(option[3])
    impedance = 1.0 if option[3] >= 0.0 else 0.0
    blocks = array.size // (12 * LANES)
    for k in range(subs.shape[0]):
        sx, sy, lens, weight, width, height = subs[k, 0], subs[k, 1], subs[k, 2], subs[k, 3], subs[k, 4], subs[k, 5]
        shift_x, shift_y, edges = subs[k, 6], subs[k, 7], subs[k, 8]
        edge_x = 1.0 if edges == 1.0 or edges == 3.0 else 0.0
        edge_y = 1.0 if edges >= 2.0 else 0.0
        least_x = SMALLEST_ARGUMENT / max(2.0 * abs(shift_x) * per_wave, NARROWEST)
        least_y = SMALLEST_ARGUMENT / max(2.0 * abs(shift_y) * per_wave, NARROWEST)
        for b in range(blocks):
            o, p = b * ROW + 2 * LANES * (k % 2), b * 2 * LANES + LANES * (k % 2)
            # slices, so that the indices below are seen to be no negative ones
            geometry, late = array[b * 12 * LANES : (b + 1) * 12 * LANES], offset[b * LANES : (b + 1) * LANES]
            out, paths = state[s, k // 2, o : o + 6 * LANES], path[s, k // 2, p : p + LANES]
            for i in range(LANES):
                lx, ly, lz = geometry[i + 3 * LANES], geometry[i + 4 * LANES], geometry[i + 5 * LANES]
                ex, ey, ez = geometry[i + 6 * LANES], geometry[i + 7 * LANES], geometry[i + 8 * LANES]
                dx = px - geometry[i] - sx * lx - sy * ex
                dy = three * (py - geometry[i + LANES] - sx * ly - sy * ey)
                dz = pz - geometry[i + 2 * LANES] - sx * lz - sy * ez
                r = max(math.sqrt(dx * dx + dy * dy + dz * dz), shortest)
                ux, uy = (dx * lx + dy * ly + dz * lz) / r, (dx * ex + dy * ey + dz * ez) / r
                cos = dx * geometry[i + 9 * LANES] + dy * geometry[i + 10 * LANES] + dz * geometry[i + 11 * LANES]
                cos = max(cos / r, 1e-9)
                gain = weight / (three * r + (1.0 - three) * math.sqrt(r))
                gain *= rigid + soft * cos + impedance * cos / (cos + ratio)
                gain = gain if cos > 1e-9 else 0.0
                gain *= sinc(width * ux * per_wave) * sinc(height * uy * per_wave)
                ux = ux if abs(ux) > least_x else least_x
                uy = uy if abs(uy) > least_y else least_y
                gain /= (edge_x * ux + (1.0 - edge_x)) * (edge_y * uy + (1.0 - edge_y))
                time = (r - shift_x * ux - shift_y * uy) / speed + lens - late[i]
                gain *= decay(loss_first * r)
                step = decay(loss_step * r)
                out[i] = gain * phasor_re(time * first)
                out[i + LANES] = gain * phasor_im(time * first)
                out[i + 4 * LANES] = step * phasor_re(time * df)
                out[i + 5 * LANES] = step * phasor_im(time * df)
                paths[i] = r


@compiled
def bend(state, s, path, change):
    """Multiply all steps of scatterer `s` by exp(-change path): where attenuation is not proportional to frequency."""
    for pair in range(state.shape[1]):
        for block in range(state.shape[2] // ROW):
            for lane in range(LANES):
                i, j = block * ROW + 4 * LANES + lane, block * 2 * LANES + lane
                x = change * path[s, pair, j]
                factor = np.float32(1.0) - x + np.float32(0.5) * x * x
                state[s, pair, i] *= factor
                state[s, pair, i + LANES] *= factor
                x = change * path[s, pair, j + LANES]
                factor = np.float32(1.0) - x + np.float32(0.5) * x * x
                state[s, pair, i + 2 * LANES] *= factor
                state[s, pair, i + 3 * LANES] *= factor


@compiled
def advance(state, s, pair, keep, field, n):
    """field[n] = keep field[n] + p1 + p2 at four frequencies (B ROW,), and the phasors stepped on by four.

    state (S, K/2, B ROW): those of scatterer `s` and of one pair of its phasors.
    """
    for block in range(field.shape[1] // ROW):
        for lane in range(LANES):
            i = block * ROW + lane
            ar, ai = state[s, pair, i], state[s, pair, i + LANES]
            br, bi = state[s, pair, i + 2 * LANES], state[s, pair, i + 3 * LANES]
            ur, ui = state[s, pair, i + 4 * LANES], state[s, pair, i + 5 * LANES]
            vr, vi = state[s, pair, i + 6 * LANES], state[s, pair, i + 7 * LANES]
            field[n, i] = keep * field[n, i] + (ar + br)
            field[n, i + LANES] = keep * field[n, i + LANES] + (ai + bi)
            cr, ci, dr, di = ar * ur - ai * ui, ar * ui + ai * ur, br * vr - bi * vi, br * vi + bi * vr
            field[n, i + 2 * LANES] = keep * field[n, i + 2 * LANES] + (cr + dr)
            field[n, i + 3 * LANES] = keep * field[n, i + 3 * LANES] + (ci + di)
            ar, ai, br, bi = cr * ur - ci * ui, cr * ui + ci * ur, dr * vr - di * vi, dr * vi + di * vr
            field[n, i + 4 * LANES] = keep * field[n, i + 4 * LANES] + (ar + br)
            field[n, i + 5 * LANES] = keep * field[n, i + 5 * LANES] + (ai + bi)
            cr, ci, dr, di = ar * ur - ai * ui, ar * ui + ai * ur, br * vr - bi * vi, br * vi + bi * vr
            field[n, i + 6 * LANES] = keep * field[n, i + 6 * LANES] + (cr + dr)
            field[n, i + 7 * LANES] = keep * field[n, i + 7 * LANES] + (ci + di)
            state[s, pair, i], state[s, pair, i + LANES] = cr * ur - ci * ui, cr * ui + ci * ur
            state[s, pair, i + 2 * LANES], state[s, pair, i + 3 * LANES] = dr * vr - di * vi, dr * vi + di * vr


@compiled
def weigh(weight, event, field, product):
    """product (B/2 ROW,) = weight[event] field[0], complex, summed over the two halves of the elements (2, B/2 ROW)."""
    for block in range(product.size // ROW):
        for lane in range(LANES):
            i = block * ROW + lane
            j, k, m = i + 2 * LANES, i + 4 * LANES, i + 6 * LANES
            x = weight[event, 0, i] * field[0, 0, i] - weight[event, 0, i + LANES] * field[0, 0, i + LANES]
            y = weight[event, 0, i] * field[0, 0, i + LANES] + weight[event, 0, i + LANES] * field[0, 0, i]
            x = x + weight[event, 1, i] * field[0, 1, i] - weight[event, 1, i + LANES] * field[0, 1, i + LANES]
            product[i] = x
            y = y + weight[event, 1, i] * field[0, 1, i + LANES] + weight[event, 1, i + LANES] * field[0, 1, i]
            product[i + LANES] = y
            x = weight[event, 0, j] * field[0, 0, j] - weight[event, 0, j + LANES] * field[0, 0, j + LANES]
            y = weight[event, 0, j] * field[0, 0, j + LANES] + weight[event, 0, j + LANES] * field[0, 0, j]
            x = x + weight[event, 1, j] * field[0, 1, j] - weight[event, 1, j + LANES] * field[0, 1, j + LANES]
            product[j] = x
            y = y + weight[event, 1, j] * field[0, 1, j + LANES] + weight[event, 1, j + LANES] * field[0, 1, j]
            product[j + LANES] = y
            x = weight[event, 0, k] * field[0, 0, k] - weight[event, 0, k + LANES] * field[0, 0, k + LANES]
            y = weight[event, 0, k] * field[0, 0, k + LANES] + weight[event, 0, k + LANES] * field[0, 0, k]
            x = x + weight[event, 1, k] * field[0, 1, k] - weight[event, 1, k + LANES] * field[0, 1, k + LANES]
            product[k] = x
            y = y + weight[event, 1, k] * field[0, 1, k + LANES] + weight[event, 1, k + LANES] * field[0, 1, k]
            product[k + LANES] = y
            x = weight[event, 0, m] * field[0, 0, m] - weight[event, 0, m + LANES] * field[0, 0, m + LANES]
            y = weight[event, 0, m] * field[0, 0, m + LANES] + weight[event, 0, m + LANES] * field[0, 0, m]
            x = x + weight[event, 1, m] * field[0, 1, m] - weight[event, 1, m + LANES] * field[0, 1, m + LANES]
            product[m] = x
            y = y + weight[event, 1, m] * field[0, 1, m + LANES] + weight[event, 1, m + LANES] * field[0, 1, m]
            product[m + LANES] = y


@compiled
def total(product, amplitude, incident):
    """incident (8,) = amplitude times the sum of `product` over all elements; product is spent."""
    blocks = product.size // ROW
    while blocks > 1:
        half = (blocks + 1) // 2
        for i in range((blocks - half) * ROW):
            product[i] += product[i + half * ROW]
        blocks = half
    for row in range(8):
        lanes = product[row * LANES : (row + 1) * LANES]
        a = (lanes[0] + lanes[8]) + (lanes[4] + lanes[12])
        b = (lanes[1] + lanes[9]) + (lanes[5] + lanes[13])
        c = (lanes[2] + lanes[10]) + (lanes[6] + lanes[14])
        d = (lanes[3] + lanes[11]) + (lanes[7] + lanes[15])
        incident[row] = amplitude * ((a + c) + (b + d))


@compiled
def receive(incident, field, out, event, f):
    """out[event, f] += incident field[0] at four frequencies (B ROW,)."""
    ar, ai, br, bi, cr, ci, dr, di = incident
    for block in range(field.shape[1] // ROW):
        for lane in range(LANES):
            i = block * ROW + lane
            j, k, m = i + 2 * LANES, i + 4 * LANES, i + 6 * LANES
            out[event, f, i] += ar * field[0, i] - ai * field[0, i + LANES]
            out[event, f, i + LANES] += ar * field[0, i + LANES] + ai * field[0, i]
            out[event, f, j] += br * field[0, j] - bi * field[0, j + LANES]
            out[event, f, j + LANES] += br * field[0, j + LANES] + bi * field[0, j]
            out[event, f, k] += cr * field[0, k] - ci * field[0, k + LANES]
            out[event, f, k + LANES] += cr * field[0, k + LANES] + ci * field[0, k]
            out[event, f, m] += dr * field[0, m] - di * field[0, m + LANES]
            out[event, f, m + LANES] += dr * field[0, m + LANES] + di * field[0, m]


@compiled
def set_weights(delay, weight, band, state):
    """Phasors (T, 1, B ROW) of the transmit weights w exp(-2 pi i f delay); delay, weight (T, B LANES)."""
    for event in range(delay.shape[0]):
        for b in range(delay.shape[1] // LANES):
            for lane in range(LANES):
                i, j = b * ROW + lane, b * LANES + lane
                state[event, 0, i] = weight[event, j] * phasor_re(delay[event, j] * band[0])
                state[event, 0, i + LANES] = weight[event, j] * phasor_im(delay[event, j] * band[0])
                state[event, 0, i + 4 * LANES] = phasor_re(delay[event, j] * band[1])
                state[event, 0, i + 5 * LANES] = phasor_im(delay[event, j] * band[1])


@compiled
def next_field(state, s, path, change, field, n):
    """The field of all elements at the next four frequencies into field[n]; the phasors of scatterer `s` step on."""
    advance(state, s, 0, np.float32(0.0), field, n)
    for pair in range(1, state.shape[1]):
        advance(state, s, pair, np.float32(1.0), field, n)
    if change != 0.0:
        bend(state, s, path, change)


@compiled
def fire_tile(position, amplitude, array, subs, offset, delay, weight, band, option, loss, bends, out):
    """out (T, F/4, B ROW) += sum_s a_s T_s(f) G_e,s(f) over one tile of scatterers.

    position (N, 3), amplitude (N,).  delay, weight (T, B LANES): of the elements in every transmission.  bends (F/4,):
    change of the attenuation's slope after every four frequencies, Np/m per step.  The others as for set_states.
    """
    events, wide, pairs = out.shape[0], out.shape[2], (subs.shape[0] + 1) // 2
    most = min(max(1, CACHE_FLOATS // (pairs * wide)), len(amplitude))
    state = aligned(most * pairs, wide).reshape(most, pairs, wide)
    path = aligned(most * pairs, wide // 4).reshape(most, pairs, wide // 4)
    fired, weights = aligned(events, wide).reshape(events, 1, wide), aligned(events, wide)
    field, product = aligned(1, wide), aligned(1, wide // 2)[0]
    halves, field_halves = weights.reshape(events, 2, wide // 2), field.reshape(1, 2, wide // 2)
    incident = np.empty(8, np.float32)
    for first in range(0, len(amplitude), most):
        count = min(most, len(amplitude) - first)
        for s in range(count):
            set_states(position[first + s], array, subs, offset, band, option, loss, state, path, s)
        set_weights(delay, weight, band, fired)
        for f in range(out.shape[1]):
            for event in range(events):
                advance(fired, event, 0, np.float32(0.0), weights, event)
            for s in range(count):
                next_field(state, s, path, bends[f], field, 0)
                for event in range(events):
                    weigh(halves, event, field_halves, product)
                    total(product, amplitude[first + s], incident)
                    receive(incident, field, out, event, f)


@compiled
def field_tile(position, array, subs, offset, band, option, loss, bends, out):
    """out (F/4, S, B ROW) = G_e,s(f) of scatterers at `position` (S, 3); the arguments are those of fire_tile."""
    wide, pairs = out.shape[2], (subs.shape[0] + 1) // 2
    state, path = aligned(pairs, wide).reshape(1, pairs, wide), aligned(pairs, wide // 4).reshape(1, pairs, wide // 4)
    field = aligned(1, wide)
    for s in range(len(position)):
        set_states(position[s], array, subs, offset, band, option, loss, state, path, 0)
        for f in range(out.shape[0]):
            next_field(state, 0, path, bends[f], field, 0)
            out[f, s] = field[0]


@compiled
def add_outer(rows, amplitude, i, re, im):
    """re, im (n,) += sum over eight scatterers of a_s g_s,i g_s,j, j < n; rows: Re g_s at s ROWS, Im g_s 8 ROWS on."""
    r0, m0 = amplitude[0] * rows[i], amplitude[0] * rows[i + 8 * ROWS]
    r1, m1 = amplitude[1] * rows[i + ROWS], amplitude[1] * rows[i + 9 * ROWS]
    r2, m2 = amplitude[2] * rows[i + 2 * ROWS], amplitude[2] * rows[i + 10 * ROWS]
    r3, m3 = amplitude[3] * rows[i + 3 * ROWS], amplitude[3] * rows[i + 11 * ROWS]
    r4, m4 = amplitude[4] * rows[i + 4 * ROWS], amplitude[4] * rows[i + 12 * ROWS]
    r5, m5 = amplitude[5] * rows[i + 5 * ROWS], amplitude[5] * rows[i + 13 * ROWS]
    r6, m6 = amplitude[6] * rows[i + 6 * ROWS], amplitude[6] * rows[i + 14 * ROWS]
    r7, m7 = amplitude[7] * rows[i + 7 * ROWS], amplitude[7] * rows[i + 15 * ROWS]
    for k in range(re.size):
        x = re[k] + r0 * rows[k] - m0 * rows[k + 8 * ROWS]
        x = x + r1 * rows[k + ROWS] - m1 * rows[k + 9 * ROWS]
        x = x + r2 * rows[k + 2 * ROWS] - m2 * rows[k + 10 * ROWS]
        x = x + r3 * rows[k + 3 * ROWS] - m3 * rows[k + 11 * ROWS]
        x = x + r4 * rows[k + 4 * ROWS] - m4 * rows[k + 12 * ROWS]
        x = x + r5 * rows[k + 5 * ROWS] - m5 * rows[k + 13 * ROWS]
        x = x + r6 * rows[k + 6 * ROWS] - m6 * rows[k + 14 * ROWS]
        re[k] = x + r7 * rows[k + 7 * ROWS] - m7 * rows[k + 15 * ROWS]
        y = im[k] + m0 * rows[k] + r0 * rows[k + 8 * ROWS]
        y = y + m1 * rows[k + ROWS] + r1 * rows[k + 9 * ROWS]
        y = y + m2 * rows[k + 2 * ROWS] + r2 * rows[k + 10 * ROWS]
        y = y + m3 * rows[k + 3 * ROWS] + r3 * rows[k + 11 * ROWS]
        y = y + m4 * rows[k + 4 * ROWS] + r4 * rows[k + 12 * ROWS]
        y = y + m5 * rows[k + 5 * ROWS] + r5 * rows[k + 13 * ROWS]
        y = y + m6 * rows[k + 6 * ROWS] + r6 * rows[k + 14 * ROWS]
        im[k] = y + m7 * rows[k + 7 * ROWS] + r7 * rows[k + 15 * ROWS]


@compiled
def to_rows(field, re, im):
    """Copy one frequency of a field, whose real part starts at field[0] and whose imaginary part LANES on, to rows."""
    for b in range((field.size + ROW - 1) // ROW):
        for lane in range(LANES):
            re[b * LANES + lane] = field[b * ROW + lane]
            im[b * LANES + lane] = field[b * ROW + LANES + lane]


@compiled
def capture_tile(position, amplitude, array, subs, offset, band, option, loss, bends, out):
    """out (F, 2, E, E) += sum_s a_s G_i,s(f) G_j,s(f) for j <= i, real and imaginary; E a multiple of 2 LANES.

    The arguments are those of fire_tile.
    """
    wide, pairs, steps = out.shape[2] // LANES * ROW, (subs.shape[0] + 1) // 2, out.shape[0] // 4
    state, path = aligned(pairs, wide).reshape(1, pairs, wide), aligned(pairs, wide // 4).reshape(1, pairs, wide // 4)
    most = min(len(amplitude), FIELDS_AT_ONCE)
    field = aligned(steps * most, wide)
    rows = aligned(1, 2 * TOGETHER * ROWS)[0]
    strength = np.zeros(TOGETHER, np.float32)
    for first in range(0, len(amplitude), most):
        count = min(most, len(amplitude) - first)
        for s in range(count):
            set_states(position[first + s], array, subs, offset, band, option, loss, state, path, 0)
            for step in range(steps):
                next_field(state, 0, path, bends[step], field, step * most + s)
        for f in range(out.shape[0]):
            for s in range(0, count, TOGETHER):
                for n in range(TOGETHER):
                    strength[n] = amplitude[first + s + n] if s + n < count else np.float32(0.0)
                    heard = field[f // 4 * most + min(s + n, count - 1), 2 * LANES * (f % 4) :]
                    to_rows(heard, rows[n * ROWS :], rows[(n + TOGETHER) * ROWS :])
                for i in range(out.shape[2]):
                    last = (i // LANES + 1) * LANES
                    add_outer(rows, strength, i, out[f, 0, i, :last], out[f, 1, i, :last])


@compiled
def overlap_add(window, first, record):
    """record (C, M) += window (F, C), channel c from sample first[c] on, around the record's end."""
    for c in range(record.shape[0]):
        at = first[c] % record.shape[1]
        for f in range(window.shape[0]):
            record[c, at] += window[f, c]
            at = at + 1 if at + 1 < record.shape[1] else 0


@compiled
def unfold(pairs, first, out):
    """Frequencies first .. first + 7 of pairs (E (E + 1) / 2, K) as full matrices out (8, E, 2, E)."""
    p = 0
    for i in range(out.shape[1]):
        for j in range(i + 1):
            for k in range(min(out.shape[0], pairs.shape[1] - first)):
                value = pairs[p, first + k]
                out[k, i, 0, j] = value.real
                out[k, i, 1, j] = value.imag
                out[k, j, 0, i] = value.real
                out[k, j, 1, i] = value.imag
            p += 1


@compiled
def add_row(row, re, im, out_re, out_im):
    """out += (re + i im) row, complex; row (2, E)."""
    for e in range(out_re.size):
        a, b = row[0, e], row[1, e]
        out_re[e] += re * a - im * b
        out_im[e] += re * b + im * a


@njit(cache=True, error_model="numpy", parallel=True)
def synthesise(pairs, delay, weight, low, step, out):
    """Spectra out (T, E, K) = sum_j w_tj exp(-2 pi i f_k tau_tj) C_ej(f_k) of transmissions.

    pairs (E (E + 1) / 2, K): C, symmetric.  delay, weight (T, E): seconds; elements without weight are skipped.
    f_k = low + k step.
    """
    events, count, size = out.shape
    for block in prange((size + 7) // 8):
        first = block * 8
        matrix = np.empty((8, count, 2, count), np.float32)
        unfold(pairs, first, matrix)
        total = np.empty((2, 8, count), np.float32)
        for t in range(events):
            total[:] = 0.0
            for j in range(count):
                if weight[t, j] != 0.0:
                    for k in range(8):
                        turns = delay[t, j] * (low + (first + k) * step)
                        re, im = weight[t, j] * phasor_re(turns), weight[t, j] * phasor_im(turns)
                        add_row(matrix[k, j], np.float32(re), np.float32(im), total[0, k], total[1, k])
            for e in range(count):
                for k in range(min(8, size - first)):
                    out[t, e, first + k] = complex(total[0, k, e], total[1, k, e])


def threads():
    """Number of threads that the kernels run on."""
    return get_num_threads()
