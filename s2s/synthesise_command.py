"""The command `s2s synthesise`. Only click is imported here: help must appear at once."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-m", "--model", required=True, help="A training of pngan or danet: a folder, or a checkpoint.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="H5",
              help="The file of the images with their truth; one that is there is replaced.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Start of the noise.")
@click.option("--device", default="auto", show_default=True, help="Where to work: cpu, cuda; auto takes the GPU.")
@click.pass_context
def synthesise(context: click.Context, data: Path, model: str, output: Path, seed: int, device: str) -> None:
    """Put speckle that a model has learned on the truth of DATA, simulated frames.

    So that simulated images look as if the scanner had seen them whose images the model was trained on. The truth
    stays, and with it everything that needs one.

    \b
    Example:
      s2s synthesise data -m runs/scanner -o like-mine.h5
    """
    interrupts = context.obj["interrupts"]
    interrupts.outlook = lambda: f"{output} was not written; the same command begins again"
    from s2s.denoise import find_device
    from s2s.synthesise import synthesise as make

    def watch(done: int, total: int) -> None:
        interrupts.check()
        if not context.obj["quiet"] and (done == total or done % 10 == 0):
            click.echo(f"{done} of {total} frames", err=True)

    make(data, output, model, seed=seed, device=find_device(device), watch=watch)
    click.echo(output)
