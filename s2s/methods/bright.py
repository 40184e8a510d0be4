"""What is too bright to be speckle: points that an estimate of the mean has smoothed away, given back."""

from __future__ import annotations

from torch import Tensor

from s2s.domain import LOG_BIAS_DB, RANGE_DB


def brighter_than_speckle(excess: Tensor, least: float) -> Tensor:
    """How surely a value is more than speckle, 0 to 1: one half at `least` dB above the mean of its surroundings.

    Bayes' rule for the intensity t over its mean: its density per dB is proportional to t exp(-t) for speckle and taken
    to be constant for what is none, so that the log of the odds is t - log t plus a constant.  excess: dB, any shape.
    """

    def evidence(decibel: Tensor) -> Tensor:
        t = 10.0 ** ((decibel.clamp(max=60.0) - LOG_BIAS_DB) / 10.0)
        t = t.clamp_min(1.0)  # darker is never more than speckle
        return t - t.log()

    return (evidence(excess) - evidence(excess.new_tensor(least))).sigmoid()


def keep_bright(clean: Tensor, noisy: Tensor, least: float) -> Tensor:
    """An estimate with what is too bright to be speckle kept, clean + w(noisy - clean) (noisy - clean).

    clean, noisy: on the scale 1 + dB / 60, of one shape.  least: dB above the estimate at which w is one half.
    """
    excess = noisy - clean
    return clean + excess * brighter_than_speckle(RANGE_DB * excess, least)
