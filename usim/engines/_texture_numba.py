"""Numba kernel that reads a texture between the nodes of its lattice."""

from __future__ import annotations

from numba import njit


@njit(cache=True)
def read_lattice(field, u, v, per_length, first_u, first_v, out):
    """Values at places u, v (P,), metres, linear between the nodes of field (V, U), into out (P,).

    Node (0, 0) lies at (first_u, first_v) / per_length; outside the field goes on as on its border.
    """
    rows, columns = field.shape
    for p in range(u.size):
        column = min(max(u[p] * per_length - first_u, 0.0), columns - 1.0)
        row = min(max(v[p] * per_length - first_v, 0.0), rows - 1.0)
        c, r = min(int(column), columns - 2), min(int(row), rows - 2)
        a, b = column - c, row - r
        near = field[r, c] + a * (field[r, c + 1] - field[r, c])
        far = field[r + 1, c] + a * (field[r + 1, c + 1] - field[r + 1, c])
        out[p] = near + b * (far - near)
