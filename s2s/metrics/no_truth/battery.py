"""Every metric of an image without truth, by name, with what each of them is."""

from __future__ import annotations

from collections.abc import Mapping

from s2s.metrics.metric import Metric
from s2s.metrics.no_truth import agreement, edges, removed, shades, speckle
from s2s.metrics.no_truth.seen import Output

#: Parts of the battery in the order of tables. Each has METRICS and a function `measure` of what one method made.
GROUPS = (speckle, edges, removed, shades)
METRICS: Mapping[str, Metric] = {metric.name: metric for group in (*GROUPS, agreement) for metric in group.METRICS}


def metric_of(name: str) -> Metric:
    """What is measured under a name, or under its family: "between/nlm" belongs to "between/"."""
    return METRICS.get(name) or METRICS[name.partition("/")[0] + "/"]


def score(output: Output) -> dict[str, float]:
    """Every metric of what a method made of an image, by name; nan where the image has no place for it."""
    return {name: value for group in GROUPS for name, value in group.measure(output).items()}
