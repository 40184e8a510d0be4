"""The commands `s2s evaluate` and `s2s tune`. Only click is imported here: help must appear at once."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option(
    "--sim", is_flag=False, flag_value="evaluation", metavar="[PHANTOM]",
    help="Simulate scenes: the suites of the evaluation, or those of a phantom, a file or a shipped name.",
)  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path),
              help="Or take them from a folder or file that usim wrote; of splits, all but `train`.")  # fmt: skip
@click.option(
    "--real", type=click.Path(path_type=Path), help="Or see what images without a truth tell: pictures, clips, arrays."
)
@click.option(
    "-m", "--method", multiple=True, metavar="MODEL",
    help="A checkpoint, the folder of a training, a filter such as nlm or lee:window=9, or the JSON file of s2s tune; "
    "once for each; every filter when none is named.",
)  # fmt: skip
@click.option(
    "--frames", type=click.IntRange(1, 100_000), help="Scenes of each suite, 12 by default; all of data and images."
)
@click.option("--domain", type=click.Choice(["log", "envelope", "db"]), help="With --real: what the numbers are.")
@click.option("--dynamic-range", type=float, metavar="DB", help="With --real: decibels between black and white.")
@click.option("--white", type=float, metavar="VALUE", help="With --real: the value that is 0 dB.")
@click.option("--seed", type=click.IntRange(0), help="Of the simulation, 0 by default; never meets that of a training.")
@click.option("--engine", type=click.Choice(["psf", "sir"]), help="With --sim: what makes the images; sir is exact.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="HTML", help="Write a page with pictures.")
@click.option("--pictures", type=click.IntRange(0), default=1, show_default=True,
              help="How many scenes of each suite the page shows.")  # fmt: skip
@click.option("--json", type=click.Path(path_type=Path), metavar="JSON", help="Write every score of every scene.")
@click.option("--csv", type=click.Path(path_type=Path), metavar="CSV", help="Write the means, a line for each figure.")
@click.option("--sweep/--no-sweep", default=True, show_default=True, help="Compare methods at the same edge width too.")
@click.option("--workers", type=click.IntRange(1), help="Processes that judge scenes; one for each core by default.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute, such as cuda.")
@click.pass_context
def evaluate(context: click.Context, /, sim: str | None, data: Path | None, real: Path | None,
             method: tuple[str, ...], frames: int | None, seed: int | None, engine: str | None, output: Path | None,
             pictures: int, json: Path | None, csv: Path | None, sweep: bool, workers: int | None, device: str,
             **stated: Any) -> None:  # fmt: skip
    """Score methods against the truth, all of them on the same scenes: a table, an HTML page, JSON, CSV.

    The scenes are simulated or were stored by usim generate. Blurred and darkened images are judged too: a metric that
    such a control wins says nothing. Images without a truth (--real) are measured too, and name no winner.

    \b
    Example:
      s2s evaluate --sim -m nlm -m srad -o report.html
    """
    from s2s.evaluation import cases, cost, export, files, run, table, verdict

    if sum(source is not None for source in (sim, data, real)) != 1:
        raise click.UsageError(
            "say where scenes come from: either --sim, or --data with a folder that usim wrote, or --real with images"
        )
    if sim is None and (seed is not None or engine is not None):
        raise click.UsageError("--seed and --engine belong to --sim; stored frames are what they are")
    if real is None and any(value is not None for value in stated.values()):
        raise click.UsageError("--domain, --dynamic-range and --white belong to --real; frames of usim are dB")
    files.refuse_target(output, ".html")
    files.refuse_target(json, ".json")
    files.refuse_target(csv, ".csv")
    asked = method or files.filters()
    _tell_left_out(context, method)
    denoisers = files.load_denoisers(asked, device)
    specs = files.specs_of(denoisers, asked)
    if real is not None:
        about = files.origin(f"{real}", denoisers, _command(context))
        targets = {".html": output, ".json": json, ".csv": csv}
        _evaluate_real(context, real, stated, frames, specs, workers, device, about, targets)
        return
    source: cases.Source
    if data is not None:
        source, told = cases.Stored(data, frames), f"{data}"
    else:
        each, first = frames or cases.DEFAULT_SCENES, seed or cases.DEFAULT_SEED
        source = cases.Simulated(cases.suites_of(str(sim)), each, first, engine or "")
        told = f"{each} of {sim}, seed {first}{f', engine {engine}' if engine else ''}"
    source.open()
    with _bar(context, len(source.items)) as listen:
        about = files.origin(told, denoisers, _command(context))
        job = run.Job(source, specs, device, max(pictures, 1), sweep)  # costs are measured on a picture
        result = run.evaluate_in_processes(job, workers or run.processes(device), listen=listen, about=about)
    result = cost.with_costs(result, specs, device, context.obj["interrupts"].check).showing(pictures)
    found = verdict.verdict(result)
    click.echo("\n".join(found.statement) + "\n")
    click.echo(table.table(result, found))
    if json is not None:
        files.write_text(json, export.to_json(result))
    if csv is not None:
        files.write_text(csv, export.to_csv(result))
    if output is not None:
        from s2s.report.page import write_report

        write_report(result, output)
        if not context.obj["quiet"]:
            click.echo(f"report: {output}")
    run.refuse_failures(result)


def _evaluate_real(
    context: click.Context, path: Path, stated: dict[str, Any], frames: int | None, specs: dict[str, str],
    workers: int | None, device: str, about: dict[str, Any], targets: dict[str, Path | None],
) -> None:  # fmt: skip
    """Evaluate on images without truth; targets: where outputs go by their ending."""
    from s2s.evaluation import export, files, real, run
    from s2s.evaluation.real_images import RealImages
    from s2s.images import Stated
    from s2s.metrics.no_truth.battery import metric_of

    source = RealImages.of(path, Stated(**stated), frames)
    with _bar(context, len(source.items)) as listen:
        job = real.RealJob(source, specs, device)
        result = real.evaluate_in_processes(job, workers or run.processes(device), listen=listen, about=about)
    click.echo(real.table(result))
    if targets[".json"] is not None:
        files.write_text(targets[".json"], real.to_json(result))
    if targets[".csv"] is not None:
        files.write_text(targets[".csv"], export.to_csv(result.evaluation, metric_of))
    if targets[".html"] is not None:
        from s2s.report.real import write_real_report

        write_real_report(result, targets[".html"])
        if not context.obj["quiet"]:
            click.echo(f"report: {targets['.html']}")
    real.refuse_failures(result)


@click.command()
@click.argument("methods", metavar="[METHOD]...", nargs=-1)
@click.option("--sim", is_flag=False, flag_value="evaluation/validation", metavar="[PHANTOM]",
              help="Simulate images of this phantom; evaluation/validation when no name follows.")  # fmt: skip
@click.option("--data", multiple=True, type=click.Path(), metavar="PATH",
              help="Or take images from files or folders, without truth; may be given several times.")  # fmt: skip
@click.option(
    "--frames", type=click.IntRange(1, 100_000), help="Images: 8 of a simulation by default, the first 8 of data."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of the simulation and of what is hidden; its images are never those of an evaluation.")  # fmt: skip
@click.option("--domain", type=click.Choice(["log", "envelope", "db"]), help="With --data: what the numbers are.")
@click.option("--dynamic-range", type=float, metavar="DB", help="With --data: decibels between black and white.")
@click.option("--white", type=float, metavar="VALUE", help="With --data: the value that is 0 dB.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="JSON",
              help="Write the settings and all scores; s2s evaluate -m takes the file.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Processes that work; one for each core by default.")
@click.pass_context
def tune(context: click.Context, /, methods: tuple[str, ...], sim: str | None, data: tuple[str, ...],
         frames: int | None, seed: int, output: Path | None, workers: int | None, **stated: Any) -> None:  # fmt: skip
    """Choose the settings of filters, so that a comparison is fair to them: all filters when no METHOD is named.

    With --sim they are chosen twice: by the truth of scenes that no evaluation judges, and without truth, by how well
    a filter foretells parts of the image that were hidden from it. With --data by the latter alone.

    \b
    Example:
      s2s tune nlm --sim -o tuned.json
      s2s evaluate --sim -m nlm -m tuned.json
    """
    from s2s.evaluation import cases, files, run, tuned
    from s2s.evaluation import tune as tuning
    from s2s.images import Stated
    from s2s.methods import METHODS
    from s2s.seeds import tuning_seed

    if (sim is None) == (not data):
        raise click.UsageError("say what to tune on: either --sim, or --data with images")
    if sim in METHODS:
        raise click.UsageError(f"--sim {sim}: a phantom may stand there; name methods before it: s2s tune {sim} --sim")
    given = [name for name, value in stated.items() if value is not None]
    if sim is not None and given:
        raise click.UsageError(f"--{given[0].replace('_', '-')} belongs to --data; leave it out")
    files.refuse_target(output, ".json")
    count = frames or tuning.DEFAULT_SCENES
    scenes: tuning.Scenes
    if sim is not None:
        scenes = tuning.FromSimulation(cases.Simulated(cases.suites_of(sim), count, seed, "", tuning_seed))
        about: dict[str, Any] = {"phantom": sim, "seed": seed, "scenes": count}
    else:
        scenes, note = tuning.FromFiles.of(data, count, Stated(**stated), seed)
        about = {"data": list(data), "seed": seed, "images": len(scenes.items)}
        if note and not context.obj["quiet"]:
            click.echo(note, err=True)
    names = tuning.refuse_methods(methods)
    _tell_left_out(context, methods)
    with _bar(context, len(names) * len(tuning.ways(scenes)), "tuning", steps=tuning.LARGEST) as listen:
        about |= files.surroundings(_command(context))
        found = tuning.tune(names, scenes, workers=workers or run.processes("cpu"), listen=listen, about=about)
    click.echo(tuned.table(found))
    if output is not None:
        files.write_text(output, tuned.to_json(found))
        if not context.obj["quiet"]:
            click.echo(f"{output}: next, s2s evaluate --sim -m {output}")


def _tell_left_out(context: click.Context, named: tuple[str, ...]) -> None:
    """Say which filters are not installed, where none is named and all that are there are taken."""
    from s2s.evaluation import files

    for line in () if named or context.obj["quiet"] else files.left_out():
        click.echo(line, err=True)


@contextlib.contextmanager
def _bar(
    context: click.Context, items: int, label: str = "evaluating", *, steps: int = 1
) -> Iterator[Callable[[Any], None]]:
    """Yield the function that hears of items; it moves a bar on stderr, or nothing when quiet.

    steps: an item is done after as many at most; what it leaves out is passed over in one go.
    """
    check = context.obj["interrupts"].check
    if context.obj["quiet"]:
        yield lambda event: check()
        return
    from s2s.progress import show_pieces

    passed: Counter[Any] = Counter()
    with show_pieces(label, items * steps) as move:

        def show(event: Any) -> None:
            check()
            if event.kind in ("progress", "done"):
                moved = 1 if event.kind == "progress" else steps - passed[event.item]
                passed[event.item] += moved
                move(moved)

        yield show


def _command(context: click.Context) -> str:
    """The command as it can be typed again."""
    words = ["s2s", context.info_name or ""]
    for parameter in sorted(context.command.params, key=lambda one: isinstance(one, click.Option)):
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            if isinstance(parameter, click.Option) and parameter.is_bool_flag:
                words.append((parameter.opts if value else parameter.secondary_opts)[0])
                continue
            before = [f"--{name.replace('_', '-')}"] if isinstance(parameter, click.Option) else []
            words += [word for one in (value if isinstance(value, tuple) else (value,)) for word in (*before, f"{one}")]
    return shlex.join(words)
