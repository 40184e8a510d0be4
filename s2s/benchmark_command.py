"""The command `s2s benchmark`. Only click is imported here: help must appear at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("--suite", default="paper", show_default=True, help="What is compared: paper.")
@click.option("--preset", default="smoke", show_default=True,
              help="How much work: smoke (minutes), short (3 hours on two cores), full (a GPU, or days).",
              )  # fmt: skip
@click.option("-m", "--method", "labels", multiple=True, metavar="LABEL",
              help="Only this row of the table; once for each, all of them by default.")  # fmt: skip
@click.option("--sim", "phantom", default="", metavar="PHANTOM",
              help="What methods learn from, and filters are tuned on; training-any by default.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Start of every random stream.")
@click.option("--minutes", type=click.FloatRange(0.0, min_open=True),
              help="Stop after so many; --resume goes on.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the benchmark in the folder.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Folder of the work and of what comes of it; ./benchmark-SUITE-PRESET by default.")  # fmt: skip
@click.option("--page", type=click.Path(path_type=Path), metavar="MD",
              help="Write the results here, with HTML and pictures beside them; FOLDER/results.md by default.",
              )  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Processes that work; one for each core by default.")
@click.option("--device", default="auto", show_default=True, help="Where to train and judge: cpu, cuda; auto takes it.")
@click.pass_context
def benchmark(context: click.Context, /, output: Path | None, page: Path | None, resume: bool, minutes: float | None,
              workers: int | None, device: str, **asked: Any) -> None:  # fmt: skip
    """Tune, train and judge every method of a suite, and write the table with intervals.

    `paper` is the table of the Speckle2Self paper on scenes whose truth is known, with the paper's own figures beside
    ours. A benchmark that was stopped goes on with --resume; nothing that was done is done again.

    \b
    Example:
      s2s benchmark --suite paper --preset smoke -o runs/paper
    """
    interrupts = context.obj["interrupts"]
    interrupts.outlook = lambda: "nothing was begun; the same command begins again"
    from s2s.ask import find_precision, training_device
    from s2s.benchmark.page import refuse_page, write
    from s2s.benchmark.state import Asked
    from s2s.benchmark.work import Benchmark, Surroundings, command_of
    from s2s.evaluation import files, run

    wanted = Asked(**asked)
    folder = output or Path(f"benchmark-{wanted.suite}-{wanted.preset}")
    target = page or folder / "results.md"
    files.refuse_target(target, ".md")
    refuse_page(target)
    said = (lambda text: None) if context.obj["quiet"] else (lambda text: click.echo(text, err=True))
    told: list[str] = []  # said when all that was asked is known to be possible
    own = training_device(device, told.append)
    around = Surroundings(
        workers=workers or run.processes("cpu"),
        device=own,
        precision=find_precision("auto", own, told.append),
        minutes=minutes,
        say=said,
        check=interrupts.check,
        ending=interrupts.ending,
        command=command_of(wanted, folder),
    )
    work = Benchmark(wanted, folder, around, resume=resume)
    for line in told:
        said(line)
    interrupts.outlook = work.outlook
    result = work.run()
    for path in write(work, result, target):
        click.echo(path)
    work.refuse_failures(result)
