"""Kernels for all pairs of elements: sums of products of the fields, and the transmissions that are made of them.

Both are products of matrices. Compilers do not keep a block of sums in registers by themselves, so `multiply_add` says
in vector instructions what they should do, at 100 G multiply-adds per second and core (AVX-512; the same loops left to
the compiler: 50 G). Rows of matrices lie 16 floats more apart than powers of two: else they share few lines of cache.
"""

import math

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
ROW = 8 * LANES  # floats of one block of fields: see _sir_numba.py
ROWS = 8  # of a block of sums
SCATTERERS = 32  # whose rows stay in the fastest cache
FREQUENCIES = 16  # that `synthesise` takes at once
EVENTS = 128  # transmissions that it takes at once

ir = cgutils.ir
# what Python calls is cached whole: of functions that are not inlined, the linker takes one of several copies, and a
# process that compiles takes others, which round otherwise, than one that finds everything in the cache
inner = njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


def _block(vectors, apart=LANES):
    """Make multiply_add for blocks of 8 rows by `vectors` times 16 columns, which lie `apart` in the right matrix."""
    number = ir.IntType(64)
    vector = ir.VectorType(ir.FloatType(), LANES)
    undefined, zero = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0.0] * LANES)
    lane = ir.IntType(32)
    spread = ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
    grid = [(r, v) for r in range(ROWS) for v in range(vectors)]

    def generate(context, b, signature, arguments):
        left, right, out = (context.make_array(signature.args[n])(context, b, arguments[n]).data for n in (0, 3, 7))
        i, left_step, j, right_step, count, at, width, fresh = (arguments[n] for n in (1, 2, 4, 5, 6, 8, 9, 10))
        fma = cgutils.get_or_insert_function(b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32")

        def place(array, index, offset):
            return b.gep(array, [b.add(index, ir.Constant(number, offset))])

        def load(pointer):
            return b.load(b.bitcast(pointer, vector.as_pointer()), align=4)

        targets = [place(out, b.add(at, b.mul(width, ir.Constant(number, r))), v * LANES) for r, v in grid]
        before, loop, end = b.block, b.append_basic_block("loop"), b.append_basic_block("end")
        b.branch(loop)
        b.position_at_end(loop)
        n = b.phi(number)
        sums = [b.phi(vector) for _ in grid]
        first, second = b.add(i, b.mul(n, left_step)), b.add(j, b.mul(n, right_step))
        columns = [load(place(right, second, v * apart)) for v in range(vectors)]
        values = [b.insert_element(undefined, b.load(place(left, first, r)), lane(0)) for r in range(ROWS)]
        values = [b.shuffle_vector(value, undefined, spread) for value in values]
        following = b.add(n, ir.Constant(number, 1))
        n.add_incoming(ir.Constant(number, 0), before)
        n.add_incoming(following, loop)
        results = [b.call(fma, (values[r], columns[v], total)) for (r, v), total in zip(grid, sums, strict=True)]
        for total, result in zip(sums, results, strict=True):
            total.add_incoming(zero, before)
            total.add_incoming(result, loop)
        b.cbranch(b.icmp_signed("<", following, count), loop, end)
        b.position_at_end(end)
        for target, result in zip(targets, results, strict=True):
            # read as late as this, so that waiting for it does not hold up the sums
            result = b.fadd(result, b.select(fresh, zero, load(target)))
            b.store(result, b.bitcast(target, vector.as_pointer()), align=4)
        return context.get_dummy_value()

    def multiply_add(typing, left, i, left_step, right, j, right_step, count, out, at, width, fresh):
        """out[at + r width + c] += sum over n < count of left[i + r + n left_step] right[j + c' + n right_step].

        c' = c, and `apart` further on for the second 16 columns.
        left, right, out: contiguous float32 arrays, indexed as flat ones.  count: at least 1.  fresh: start from 0.
        """
        whole = types.int64
        places = (left, whole, whole, right, whole, whole, whole, out, whole, whole, types.boolean)
        return types.void(*places), generate

    return intrinsic(multiply_add)


multiply_add, multiply_add_blocked, multiply_add_last = _block(2), _block(2, ROW), _block(1)


@inner
def add_parts(fields, start, count, k, out):
    """out (count, E) = Re + Im of frequency k of four, of fields[start : start + count] (., B ROW)."""
    for n in range(count):
        for b in range(fields.shape[1] // ROW):
            for lane in range(LANES):
                i = b * ROW + k * 2 * LANES + lane
                out[n, b * LANES + lane] = fields[start + n, i] + fields[start + n, i + LANES]


@inner
def add_squares(rows, first, step, apart, count, size, out, at, fresh):
    """out[at : at + n] += sum over n < count of g_n,i g_n,j, j <= i < size, in tiles; returns at + n.

    g_n,i = rows[first + n step + i] for i < 16, `apart` further on for the next 16, and so on.
    Every 8 rows i, tiles of 32 columns from j = 0 on, and one of 16 if an odd number of 16 reaches the last i.
    """
    for block in range(size // ROWS):
        i = block * ROWS
        own, wide = first + i // LANES * apart + i % LANES, i // LANES + 1
        for pair in range(wide // 2):
            other = first + 2 * pair * apart
            if apart == LANES:
                multiply_add(rows, own, step, rows, other, step, count, out, at, 2 * LANES, fresh)
            else:
                multiply_add_blocked(rows, own, step, rows, other, step, count, out, at, 2 * LANES, fresh)
            at += ROWS * 2 * LANES
        if wide % 2:
            other = first + (wide - 1) * apart
            multiply_add_last(rows, own, step, rows, other, step, count, out, at, LANES, fresh)
            at += ROWS * LANES
    return at


@compiled
def add_products(fields, count, fresh, out):
    """out (F, 3, n) += the sums over s of Re g_i Re g_j, Im g_i Im g_j and (Re + Im) g_i (Re + Im) g_j, j <= i.

    The real part of sum_s g_i g_j is the first less the second, the imaginary part the third less both.
    fields (F/4, S, B ROW + 16): of `_sir_numba.rooted_fields`, of which `count` scatterers are summed.
    out: n = 8 E (E / 16 + 1) floats in the tiles of `add_squares`, in which they are written one after another.
    """
    size, step = fields.shape[2] // ROW * LANES, fields.shape[2]
    both = np.empty((SCATTERERS, size + LANES), np.float32)
    flat, sums, packed = fields.reshape(-1), out.reshape(-1), both.reshape(-1)
    planes = fields.reshape(-1, step)
    for f in range(out.shape[0]):
        for block in range((count + SCATTERERS - 1) // SCATTERERS):
            start = f // 4 * fields.shape[1] + block * SCATTERERS
            some, at, new = min(SCATTERERS, count - block * SCATTERERS), f * 3 * out.shape[2], fresh and block == 0
            first = start * step + f % 4 * 2 * LANES
            add_parts(planes, start, some, f % 4, both)
            at = add_squares(flat, first, step, ROW, some, size, sums, at, new)
            at = add_squares(flat, first + LANES, step, ROW, some, size, sums, at, new)
            add_squares(packed, 0, size + LANES, LANES, some, size, sums, at, new)


@compiled
def to_spectra(sums, factor, turn, spectra):
    """Spectra (E (E + 1) / 2, F) of pairs i, j <= i from `add_products`, times factor (F,) and turn (pairs,)."""
    p, i, start, count = 0, 0, 0, factor.size
    re, im = np.empty(2 * LANES, np.float32), np.empty(2 * LANES, np.float32)
    while p < turn.size:
        wide = i // LANES + 1
        for j in range(0, i + 1, 2 * LANES):
            width = min(2 * LANES, wide * LANES - j)
            at, some = start + j * ROWS + i % ROWS * width, min(width, i + 1 - j)
            for f in range(count):
                a, b, c = sums[f, 0, at : at + width], sums[f, 1, at : at + width], sums[f, 2, at : at + width]
                x, y = factor[f].real, factor[f].imag
                for k in range(width):
                    real = a[k] - b[k]
                    imaginary = c[k] - a[k] - b[k]
                    re[k] = x * real - y * imaginary
                    im[k] = x * imaginary + y * real
                for k in range(some):
                    spectra[p + j + k, f] = complex(re[k], im[k])
        for j in range(i + 1):
            for f in range(count):
                spectra[p + j, f] *= turn[p + j]
        i += 1
        p += i
        start += wide * LANES * ROWS if i % ROWS == 0 else 0


@inner
def phasor(turns):
    """exp(-2 pi i turns)."""
    angle = 2.0 * math.pi * (turns - np.floor(turns + 0.5))
    return complex(math.cos(angle), -math.sin(angle))


@inner
def unfold(pairs, first, count, out):
    """Frequencies first ... first + count - 1 of pairs (E (E + 1) / 2, K) as out (F, 2, E, W): whole matrices."""
    p = 0
    for i in range(out.shape[2]):
        for j in range(i + 1):
            for k in range(count):
                value = pairs[p, first + k]
                out[k, 0, i, j] = value.real
                out[k, 1, i, j] = value.imag
                out[k, 0, j, i] = value.real
                out[k, 1, j, i] = value.imag
            p += 1


@inner
def set_fired(delay, weight, low, step, fired, turn):
    """fired (2, E, T) = w exp(-2 pi i low delay), turn (2, E, T) = exp(-2 pi i step delay); delay, weight (t, E)."""
    fired[:] = 0.0
    turn[:] = 0.0
    for t in range(delay.shape[0]):
        for j in range(delay.shape[1]):
            if weight[t, j] != 0.0:
                value, following = weight[t, j] * phasor(delay[t, j] * low), phasor(delay[t, j] * step)
                fired[0, j, t], fired[1, j, t] = value.real, value.imag
                turn[0, j, t], turn[1, j, t] = following.real, following.imag


@inner
def step_fired(fired, turn, left):
    """left (2, E, 2 T + 16): rows [Re w, Im w], then rows [-Im w, Re w] of fired w, which is turned to what follows."""
    count = fired.shape[2]
    for j in range(fired.shape[1]):
        re, im, x, y = fired[0, j], fired[1, j], turn[0, j], turn[1, j]
        upper, lower = left[0, j], left[1, j]
        for t in range(count):
            upper[t] = re[t]
            upper[t + count] = im[t]
            lower[t] = -im[t]
            lower[t + count] = re[t]
        for t in range(count):
            a, b = re[t], im[t]
            re[t] = a * x[t] - b * y[t]
            im[t] = a * y[t] + b * x[t]


@compiled
def synthesise(pairs, delay, weight, low, step, first, out):
    """Spectra out[:, :, first : first + 16] (T, E, K) = sum_j w_tj exp(-2 pi i f_k tau_tj) C_ej(f_k) of transmissions.

    pairs (E (E + 1) / 2, K): C, symmetric.  delay, weight (T, E): seconds.  f_k = low + k step.
    """
    events, elements, size = out.shape
    count, wide = min(FREQUENCIES, size - first), (elements + 2 * LANES - 1) // (2 * LANES) * 2 * LANES
    most = (min(events, EVENTS) + ROWS - 1) // ROWS * ROWS
    matrix = np.zeros((FREQUENCIES, 2, elements, wide + LANES), np.float32)
    unfold(pairs, first, count, matrix)
    fired, turn = np.empty((2, elements, most), np.float32), np.empty((2, elements, most), np.float32)
    left = np.zeros((2, elements, 2 * most + LANES), np.float32)
    sums = np.empty((FREQUENCIES, 2, most, wide), np.float32)
    right, result, depth = matrix.reshape(-1), sums.reshape(-1), 2 * elements
    for part in range((events + most - 1) // most):
        start = part * most
        some = min(most, events - start)
        set_fired(delay[start : start + some], weight[start : start + some], low + first * step, step, fired, turn)
        for k in range(count):
            step_fired(fired, turn, left)
            for column in range(wide // (2 * LANES)):
                j = column * 2 * LANES
                begin = k * depth * (wide + LANES) + j
                for row in range(2 * most // ROWS):
                    i = row * ROWS
                    at = (k * 2 * most + i) * wide + j
                    multiply_add(left, i, 2 * most + LANES, right, begin, wide + LANES, depth, result, at, wide, True)
        for t in range(some):
            for e in range(elements):
                for k in range(count):
                    out[start + t, e, first + k] = complex(sums[k, 0, t, e], sums[k, 1, t, e])
