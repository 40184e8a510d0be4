"""Seeds of the simulator for training, for choosing settings and for judging: no two purposes share one.

A seed's bits from 64 on are its purpose, those below a hash of what the user asked for, so that what is judged can't be
what was trained on, whatever seeds are chosen. Training has purpose 0, since its seeds of 64 bits are in checkpoints;
the frames that judge a training while it runs are told from those by their hash alone. Users' own seeds have 63 bits.
"""

from __future__ import annotations

import numpy as np

#: Spawn keys of the hashes.
_TRAIN, _HELD_OUT, _JUDGED, _TUNING = 11, 12, 14, 15


def training_seed(seed: int) -> int:
    """The simulator's seed for training with `seed`: a hash, so that no user's phantom seed meets it."""
    return _hashed(seed, _TRAIN)


def held_out_seed(seed: int) -> int:
    """The simulator's seed of the frames that judge a training with `seed`."""
    return _hashed(seed, _HELD_OUT)


def judged_seed(seed: int) -> int:
    """The simulator's seed of the scenes that `s2s evaluate` judges.

    >>> judged_seed(0) >> 64, tuning_seed(0) >> 64, training_seed(0) >> 64
    (1, 2, 0)
    """
    return 1 << 64 | _hashed(seed, _JUDGED)


def tuning_seed(seed: int) -> int:
    """The simulator's seed of the scenes on which settings of filters are chosen."""
    return 2 << 64 | _hashed(seed, _TUNING)


def _hashed(seed: int, key: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(key,)).generate_state(1, np.uint64)[0])
