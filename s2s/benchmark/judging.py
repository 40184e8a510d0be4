"""Judging: every contender on every scene, kept scene by scene with what was judged, so that nothing is judged twice.

A scene's file says which contenders it holds, and what each of them was: the sha256 of its weights, or its settings. A
contender that is new, was trained again, or failed is judged where it is missing, and joins the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from s2s.benchmark import store
from s2s.evaluation.cases import Case, Source
from s2s.evaluation.controls import controls
from s2s.evaluation.results import Evaluation, Picture
from s2s.evaluation.run import EVERYONE, Job, Judgement, gather
from s2s.metrics.judged import IMAGE
from usim.workers import Event

Item = tuple[str, int]


@dataclass(frozen=True)
class Part:
    """Some scenes of a source (s2s.evaluation.cases.Source); bare: the judged image alone, without further ones."""

    source: Source
    items: Sequence[Item]
    bare: bool = False

    def open(self) -> Callable[[Item], Case]:
        """Return the function that makes a scene."""
        make = self.source.open()
        if not self.bare:
            return make

        def case(item: Item) -> Case:
            whole = make(item)
            return replace(whole, frames={IMAGE: whole.frames[IMAGE]}, changed=False, swept=False)

        return case


@dataclass(frozen=True)
class Ready:
    """A contender that is ready: what `s2s.load` takes, and what tells its weights and settings from others."""

    spec: str
    digest: str


@dataclass(frozen=True)
class Judging:
    """One kind of judging: scenes, and the contenders that see all of them.

    folder: of its files.  controls: whether controls are judged too.
    """

    part: Part
    ready: Mapping[str, Ready]
    folder: Path
    controls: bool
    sweep: bool

    def path(self, item: Item) -> Path:
        """Where a scene is kept, without an ending."""
        return self.folder / f"{item[0].replace('/', '-')}-{item[1]}"

    @cached_property
    def wanted(self) -> dict[str, str]:
        """Digests of all rows of a scene, by label."""
        rows = {label: one.digest for label, one in self.ready.items()}
        return rows | (dict.fromkeys(controls(), "") if self.controls else {})

    def missing(self, item: Item) -> tuple[str, ...]:
        """Labels that a scene still lacks."""
        known = store.known(self.path(item))
        return tuple(label for label, digest in self.wanted.items() if known.get(label) != digest)

    def pending(self) -> list[Item]:
        """Scenes that lack somebody."""
        return [item for item in self.part.items if self.missing(item)]

    def work(self, workers: int, device: str, say: Callable[[str], None], check: Callable[[], None]) -> None:
        """Judge what is missing; scenes that lack the same are judged together."""
        groups: dict[tuple[str, ...], list[Item]] = {}
        for item in self.part.items:
            if labels := self.missing(item):
                groups.setdefault(labels, []).append(item)
        for labels, items in groups.items():
            kind = self.folder.name
            say(f"judging {len(labels)} rows on {len(items)} scenes ({kind})")
            specs = {label: self.ready[label].spec for label in labels if label in self.ready}
            beside = any(label not in self.ready for label in labels)
            part = replace(self.part, items=items)
            job = Job(part, specs, device, pictures=1, sweep=self.sweep, controls=beside)

            def hear(event: Event, kind: str = kind) -> None:
                if event.kind == "done":
                    self._keep(event.value)
                    say(f"judged: {event.value.suite}, scene {event.value.scene} ({kind})")
                check()

            gather(job, items, workers, hear)

    def _keep(self, judged: Judgement) -> None:
        if judged.picture is not None:  # cut before it joins one that was cut
            judged = replace(judged, picture=store.middle(judged.picture))
        path = self.path((judged.suite, judged.scene))
        failed = {one.method.partition(" at ")[0] for one in judged.failures}
        whole = {row.method for row in judged.rows} - failed
        known = {label: digest for label, digest in self.wanted.items() if label in whole}
        if store.is_there(path):
            before = store.known(path)
            judged = joined(store.read(path), judged)
            known = {label: digest for label, digest in before.items() if label not in failed} | known
        store.save(path, judged, known)

    def read(self, item: Item) -> Judgement:
        """A judged scene, with the rows that are wanted alone."""
        judged, wanted = store.read(self.path(item)), self.wanted
        rows = tuple(row for row in judged.rows if row.method in wanted)
        failures = tuple(one for one in judged.failures if one.method in (*wanted, EVERYONE) or " at " in one.method)
        swept = {place: scores for place, scores in judged.swept.items() if place[0] in wanted}
        return replace(judged, rows=rows, failures=failures, swept=swept)


def joined(first: Judgement, second: Judgement) -> Judgement:
    """One judgement of a scene from two; what the second holds of a method replaces what the first does."""
    again = {row.method for row in second.rows} | {one.method for one in second.failures}
    again |= {EVERYONE} if second.rows else set()
    picture = first.picture
    if picture is not None and second.picture is not None:
        images = {**picture.images, **second.picture.images}
        truth = images.pop("truth")
        more = {kind: {**picture.maps.get(kind, {}), **one} for kind, one in second.picture.maps.items()}
        picture = replace(picture, images={**images, "truth": truth}, maps={**picture.maps, **more})
    return replace(
        first,
        rows=(*(row for row in first.rows if row.method not in again), *second.rows),
        failures=(*(one for one in first.failures if one.method not in again), *second.failures),
        picture=picture or second.picture,
        swept={**{place: s for place, s in first.swept.items() if place[0] not in again}, **second.swept},
    )


def only(evaluation: Evaluation, suites: Sequence[str]) -> Evaluation:
    """The part of an evaluation that some suites make, with those methods alone that were given all of it."""
    rows = [row for row in evaluation.rows if row.suite in suites]
    scenes = {(row.suite, row.scene) for row in rows}
    given: dict[str, set[Item]] = {}
    for one in (*rows, *(failure for failure in evaluation.failures if failure.suite in suites)):
        given.setdefault(one.method, set()).add((one.suite, one.scene))
    names = tuple(name for name in evaluation.methods if given.get(name) == scenes)
    return replace(
        evaluation,
        methods=names,
        controls=frozenset(names) & evaluation.controls,
        rows=tuple(row for row in rows if row.method in names),
        failures=tuple(one for one in evaluation.failures if one.suite in suites),
        pictures=tuple(_without(one, names) for one in evaluation.pictures if one.suite in suites),
        sweeps=tuple(one for one in evaluation.sweeps if one.method in names),
    )


def _without(picture: Picture, names: Sequence[str]) -> Picture:
    kept = {name: image for name, image in picture.images.items() if name in (*names, "truth")}
    return replace(picture, images=kept)
