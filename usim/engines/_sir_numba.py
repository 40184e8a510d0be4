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
from numba import get_num_threads, njit

LANES = 16
ROW = 8 * LANES
CACHE_FLOATS = 49152
# sinc(x) of a sub-element is not taken below this x: it is 1 to 1e-4 there, and edges would cancel out
SMALLEST_ARGUMENT = 7e-3
NARROWEST = 1e-6  # wavelengths

# Taylor series of sin(pi x) / x and cos(pi x) in x^2, signs left out; in single precision, twice as fast
HALF, ONE, TWO = np.float32(0.5), np.float32(1.0), np.float32(2.0)
SINE = tuple(np.float32(math.pi ** (2 * n + 1) / math.factorial(2 * n + 1)) for n in range(6))
COSINE = tuple(np.float32(math.pi ** (2 * n) / math.factorial(2 * n)) for n in range(7))

# `contract` allows a*b + c in one rounding; nothing else is relaxed
# what Python calls is cached whole: of functions that are not inlined, the linker takes one of several copies, and a
# process that compiles takes others, which round otherwise, than one that finds everything in the cache
inner = njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


@inner
def aligned(rows, size):
    """Zeros (rows, size) float32, each row on a boundary of 64 bytes if size is a multiple of 16."""
    buffer = np.zeros(rows * size + LANES, np.float32)
    start = (-(buffer.ctypes.data // 4)) % LANES
    return buffer[start : start + rows * size].reshape(rows, size)


@inner
def sine(x):
    """sin(pi x) for |x| <= 1/2, to 1e-7."""
    a, b, c, d, e, f = SINE
    y = x * x
    return x * (a - y * (b - y * (c - y * (d - y * (e - y * f)))))


@inner
def cosine(x):
    """cos(pi x) for |x| <= 1/2, to 1e-7."""
    a, b, c, d, e, f, g = COSINE
    y = x * x
    return a - y * (b - y * (c - y * (d - y * (e - y * (f - y * g)))))


@inner
def sinc(x):
    """sin(pi x) / (pi x) for any x."""
    a = abs(x)
    half = np.floor(a + 0.5)
    s = sine(np.float32(a - half)) * (1.0 - 2.0 * (half - 2.0 * np.floor(0.5 * half)))
    return s / (math.pi * a) if a > 1e-4 else 1.0 - 1.6449340668482264 * a * a


@inner
def phasor_re(turns):
    """Real part of exp(-2 pi i turns)."""
    t = np.float32(2.0 * (turns - np.floor(turns + 0.5)))  # in half turns, -1 ... 1; small enough for single precision
    flip = np.floor(t + HALF)
    return cosine(t - flip) * (ONE - TWO * abs(flip))


@inner
def phasor_im(turns):
    """Imaginary part of exp(-2 pi i turns)."""
    t = np.float32(2.0 * (turns - np.floor(turns + 0.5)))
    flip = np.floor(t + HALF)
    return -sine(t - flip) * (ONE - TWO * abs(flip))


@inner
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


@inner
def set_states(point, factor, lead, array, subs, offset, band, option, loss, state, path, s):
    """State (K/2, B ROW) of all phasors of one scatterer, and their paths (K/2, B 2 LANES) in metres, into state[s].

    point (3,): metres.  factor, lead: the field is multiplied by factor exp(2 pi i lead).
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
    first, df, slowness, shortest, per_wave = band[0], band[1], 1.0 / band[2], band[3], band[4]
    loss_first, loss_step = loss[0], loss[1]
    three, rigid, soft, ratio = option[0], option[1], option[2], abs(option[3])
    impedance = 1.0 if option[3] >= 0.0 else 0.0
    blocks = array.size // (12 * LANES)
    work = np.empty((6, blocks * LANES))  # time, path, gain, loss per step, and two direction cosines
    for k in range(subs.shape[0]):
        sx, sy, lens, weight, width, height = subs[k, 0], subs[k, 1], subs[k, 2], subs[k, 3], subs[k, 4], subs[k, 5]
        shift_x, shift_y, edges = subs[k, 6] * slowness, subs[k, 7] * slowness, subs[k, 8]
        # the edges of one sub-element follow each other, and share all but the shift and the weight
        if k == 0 or sx != subs[k - 1, 0] or sy != subs[k - 1, 1] or edges != subs[k - 1, 8]:
            least_x = SMALLEST_ARGUMENT / max(2.0 * abs(subs[k, 6]) * per_wave, NARROWEST)
            least_y = SMALLEST_ARGUMENT / max(2.0 * abs(subs[k, 7]) * per_wave, NARROWEST)
            edge_x = 1.0 if edges == 1.0 or edges == 3.0 else 0.0
            edge_y = 1.0 if edges >= 2.0 else 0.0
            for b in range(blocks):
                for lane in range(LANES):
                    g, j = b * 12 * LANES + lane, b * LANES + lane
                    lx, ly, lz = array[g + 3 * LANES], array[g + 4 * LANES], array[g + 5 * LANES]
                    ex, ey, ez = array[g + 6 * LANES], array[g + 7 * LANES], array[g + 8 * LANES]
                    dx = px - array[g] - sx * lx - sy * ex
                    dy = three * (py - array[g + LANES] - sx * ly - sy * ey)
                    dz = pz - array[g + 2 * LANES] - sx * lz - sy * ez
                    r = max(math.sqrt(dx * dx + dy * dy + dz * dz), shortest)
                    near = 1.0 / r
                    ux, uy = (dx * lx + dy * ly + dz * lz) * near, (dx * ex + dy * ey + dz * ez) * near
                    cos = dx * array[g + 9 * LANES] + dy * array[g + 10 * LANES] + dz * array[g + 11 * LANES]
                    cos *= near
                    gain = three * near + (1.0 - three) * math.sqrt(near) if cos > 1e-9 else 0.0
                    cos = max(cos, 1e-9)
                    if width > 0.0 or height > 0.0:
                        gain *= sinc(width * ux * per_wave) * sinc(height * uy * per_wave)
                    ux = ux if abs(ux) > least_x else least_x
                    uy = uy if abs(uy) > least_y else least_y
                    # one division for the obliquity and the edges
                    gain *= (rigid + soft * cos) * (cos + ratio) + impedance * cos
                    gain /= (cos + ratio) * (edge_x * ux + (1.0 - edge_x)) * (edge_y * uy + (1.0 - edge_y))
                    work[0, j], work[1, j] = r * slowness + lens - offset[j], r
                    work[2, j], work[4, j], work[5, j] = gain, ux, uy
            for b in range(blocks):
                for lane in range(LANES):
                    j = b * LANES + lane
                    work[2, j] *= factor * decay(loss_first * work[1, j])
                    work[3, j] = decay(loss_step * work[1, j])
        for b in range(blocks):
            for lane in range(LANES):
                # `&` and `>>` are seen to give no negative index
                i, j = b * ROW + 2 * LANES * (k & 1) + lane, b * LANES + lane
                time = work[0, j] - shift_x * work[4, j] - shift_y * work[5, j]
                gain, step = np.float32(weight * work[2, j]), np.float32(work[3, j])
                path[s, k >> 1, j + b * LANES + LANES * (k & 1)] = work[1, j]
                state[s, k >> 1, i] = gain * phasor_re(time * first - lead)
                state[s, k >> 1, i + LANES] = gain * phasor_im(time * first - lead)
                state[s, k >> 1, i + 4 * LANES] = step * phasor_re(time * df)
                state[s, k >> 1, i + 5 * LANES] = step * phasor_im(time * df)


@inner
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


@inner
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


@inner
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


@inner
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


@inner
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


@inner
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


@inner
def weaken(field, n, path, s, excess, f):
    """Multiply field[n] (B ROW,) by exp(-excess path) at frequencies f .. f + 3, the path of the first phasor."""
    a, b, c, d = excess[f], excess[f + 1], excess[f + 2], excess[f + 3]
    for block in range(path.shape[2] // (2 * LANES)):
        for lane in range(LANES):
            i, r = block * ROW + lane, path[s, 0, block * 2 * LANES + lane]
            x, y, z, w = a * r, b * r, c * r, d * r
            x, y = x - np.float32(0.5) * x * x, y - np.float32(0.5) * y * y
            z, w = z - np.float32(0.5) * z * z, w - np.float32(0.5) * w * w
            field[n, i] -= x * field[n, i]
            field[n, i + LANES] -= x * field[n, i + LANES]
            field[n, i + 2 * LANES] -= y * field[n, i + 2 * LANES]
            field[n, i + 3 * LANES] -= y * field[n, i + 3 * LANES]
            field[n, i + 4 * LANES] -= z * field[n, i + 4 * LANES]
            field[n, i + 5 * LANES] -= z * field[n, i + 5 * LANES]
            field[n, i + 6 * LANES] -= w * field[n, i + 6 * LANES]
            field[n, i + 7 * LANES] -= w * field[n, i + 7 * LANES]


@inner
def next_field(state, s, path, bends, excess, f, field, n):
    """The field of all elements at the f-th four frequencies into field[n]; the phasors of scatterer `s` step on."""
    advance(state, s, 0, np.float32(0.0), field, n)
    for pair in range(1, state.shape[1]):
        advance(state, s, pair, np.float32(1.0), field, n)
    if excess.size > 0:
        weaken(field, n, path, s, excess, 4 * f)
        bend(state, s, path, bends[f])


@compiled
def fire_tile(position, amplitude, array, subs, offset, delay, weight, band, option, loss, bends, excess, out):
    """out (T, F/4, B ROW) += sum_s a_s T_s(f) G_e,s(f) over one tile of scatterers.

    position (N, 3), amplitude (N,).  delay, weight (T, B LANES): of the elements in every transmission.  bends (F/4,):
    change of the attenuation's slope after every four frequencies, Np/m per step.  excess (F,): attenuation above the
    straight lines that `loss` and `bends` describe, Np/m; (0,): none, and no bends.  The others as for set_states.
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
            set_states(position[first + s], 1.0, 0.0, array, subs, offset, band, option, loss, state, path, s)
        set_weights(delay, weight, band, fired)
        for f in range(out.shape[1]):
            for event in range(events):
                advance(fired, event, 0, np.float32(0.0), weights, event)
            for s in range(count):
                next_field(state, s, path, bends, excess, f, field, 0)
                for event in range(events):
                    weigh(halves, event, field_halves, product)
                    total(product, amplitude[first + s], incident)
                    receive(incident, field, out, event, f)


@compiled
def field_tile(position, array, subs, offset, band, option, loss, bends, excess, out):
    """out (F/4, S, B ROW) = G_e,s(f) of scatterers at `position` (S, 3); the arguments are those of fire_tile."""
    wide, pairs = out.shape[2], (subs.shape[0] + 1) // 2
    state, path = aligned(pairs, wide).reshape(1, pairs, wide), aligned(pairs, wide // 4).reshape(1, pairs, wide // 4)
    field = aligned(1, wide)
    for s in range(len(position)):
        set_states(position[s], 1.0, 0.0, array, subs, offset, band, option, loss, state, path, 0)
        for f in range(out.shape[0]):
            next_field(state, 0, path, bends, excess, f, field, 0)
            out[f, s] = field[0]


@compiled
def rooted_fields(position, amplitude, array, subs, offset, band, option, loss, bends, excess, out):
    """out (F/4, S, B ROW + LANES)[f, s] = sqrt(a_s) G_e,s(f), S at least the number of scatterers (N, 3).

    The other arguments are those of fire_tile.
    """
    pairs, wide, most = (subs.shape[0] + 1) // 2, out.shape[2] // ROW * ROW, out.shape[1]
    state, path = aligned(pairs, wide).reshape(1, pairs, wide), aligned(pairs, wide // 4).reshape(1, pairs, wide // 4)
    field = out.reshape(out.shape[0] * most, out.shape[2])
    for s in range(len(position)):
        root, lead = math.sqrt(abs(amplitude[s])), 0.0 if amplitude[s] >= 0.0 else 0.25  # of a turn
        set_states(position[s], root, lead, array, subs, offset, band, option, loss, state, path, 0)
        for f in range(out.shape[0]):
            next_field(state, 0, path, bends, excess, f, field, f * most + s)


@compiled
def overlap_add(window, first, record):
    """record (C, M) += window (C, F), channel c from sample first[c] on, around the record's end."""
    size, length = window.shape[1], record.shape[1]
    for c in range(record.shape[0]):
        at = first[c] % length
        until_end = min(size, length - at)
        end, start = record[c, at : at + until_end], window[c, :until_end]
        for f in range(until_end):
            end[f] += start[f]
        for f in range(size - until_end):
            record[c, f % length] += window[c, until_end + f]


def threads():
    """Number of threads that the kernels run on."""
    return get_num_threads()
