"""What a metric is, beside its number: its name, its unit, which way is better, and how it can be fooled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Which value is best: the highest, the lowest, the one nearest to the truth's own, or nothing can be said.
Better = Literal["higher", "lower", "nearer", "none"]


@dataclass(frozen=True)
class Metric:
    """One column of a table.

    name: key in the scores; `family/` stands for all `family/MEMBER`, such as one for each name of regions.
    title: head of the column.  unit.  better: which value is best.  truth: the best value itself, or the name of the
    metric that holds the truth's own value; it is shown beside the value, and `nearer` is measured from it.
    digits: decimals shown.  group: the part of the battery.  meaning: one sentence; formula and source are in the
    function's docstring.  fooled_by: what improves it without merit; such a metric never chooses a winner.
    needs: what a scene must have for it; tables say so where the value is missing.
    """

    name: str
    title: str
    group: str
    meaning: str
    unit: str = ""
    better: Better = "higher"
    truth: str | float = ""
    digits: int = 2
    fooled_by: str = ""
    needs: str = ""
