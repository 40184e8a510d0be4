"""The command `usim generate`. Only click is imported here: help must appear at once."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usim.errors import ConfigError

if TYPE_CHECKING:
    from usim.phantom.load import Phantom

#: Options of `usim generate` that say something about files.
_OF_DATA = (
    "output", "workers", "scheduler", "shard_size", "store", "dtype", "compress", "split", "resume", "keep_going",
    "dry_run",
)  # fmt: skip
#: Options that say how a run goes about it.
_NOT_DRY = ("scheduler", "resume", "keep_going")


@click.command()
@click.argument("phantom")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to make; ./NAME of the phantom by default."
)
@click.option("--frames", type=click.IntRange(1), help="Number of frames; the phantom's own by default.")
@click.option("--seed", type=click.IntRange(0), help="Start of every random stream; the phantom's own by default.")
@click.option("--workers", type=click.IntRange(1), help="Processes; one per core by default. Never changes the frames.")
@click.option("--scheduler", metavar="ADDRESS", help="Let the workers of this dask scheduler do it: tcp://host:8786.")
@click.option("--shard-size", type=click.IntRange(1), help="Frames per file; about 64 MB by default.")
@click.option("--store", default="", metavar="WORDS", help="Store more: iq, scatterers, or both with a comma.")
@click.option("--dtype", default="float32", metavar="TYPE", help="Of the images: float32 (default), float16, uint8.")
@click.option("--compress", is_flag=True, help="Pack the images without loss, with HDF5's own gzip.")
@click.option("--split", metavar="PARTS", help="Split by scene, such as train=0.8,val=0.1,test=0.1.")
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the first scene with its truths to a .png, or its images as a .gif or .mp4; make no data.",
)
@click.option("--resume", is_flag=True, help="Go on with what an earlier, equal call left in the folder, or begin.")
@click.option("--keep-going", is_flag=True, help="Make all other shards when one fails; name the missing at the end.")
@click.option("--dry-run", is_flag=True, help="Say how many frames, files, bytes and minutes it takes; make no data.")
@click.pass_context
def generate(context: click.Context, /, phantom: str, output: Path | None, store: str, split: str | None,
             preview: Path | None, dry_run: bool, **asked: Any) -> None:  # fmt: skip
    """Simulate the frames of PHANTOM, a YAML file or the name of a shipped one, into a folder.

    The folder holds manifest.json, shard-00000.h5, ... and run.json. Equal calls give equal files.

    \b
    Example:
      usim generate training -o data/training --frames 200 --seed 3
    """
    if preview is not None:
        _refuse_beside(context, "--preview makes no data", _OF_DATA)
    from usim.phantom.load import load_phantom
    from usim.splits import parse_split

    loaded = load_phantom(phantom)
    if preview is not None:
        _preview(loaded, preview, asked)
        return
    asked |= {
        "store": [word.strip() for word in store.split(",") if word.strip()],
        "split": {} if split is None else parse_split(split),
    }
    folder = output or Path(Path(loaded.source).stem)
    if dry_run:
        _refuse_beside(context, "--dry-run tells what a whole run takes", _NOT_DRY)
        _dry_run(loaded, folder, {name: asked[name] for name in asked.keys() - set(_NOT_DRY)})
        return
    from usim.engines.compiled import are_compiled
    from usim.generate import Progress
    from usim.generate import generate as run
    from usim.progress import human_bytes, human_time, show_progress

    if not context.obj["quiet"] and asked["scheduler"] is None and not are_compiled():
        click.echo("compiling the kernels, once on this machine: the first frame takes up to a minute longer", err=True)
    if asked["scheduler"] is not None and not context.obj["quiet"]:
        logging.getLogger("usim.cluster").setLevel(logging.INFO)  # it tells the address of the dashboard
    with show_progress(context.obj["quiet"]) as show:

        def listen(state: Progress) -> None:
            context.obj["interrupts"].check()
            show(state)

        result = run(loaded, folder, progress=listen, **asked)
    if not context.obj["quiet"]:
        size = human_bytes(sum(shard.bytes for shard in result.manifest.shards))
        count, took = result.manifest.frames, human_time(result.seconds)
        kept = f" ({result.kept} were there)" if result.kept else ""
        click.echo(f"{folder}: {count} frames in {len(result.manifest.shards)} shards{kept}, {size}, {took}")
        click.echo(f"next: usim view {shlex.quote(str(folder))}")


def _refuse_beside(context: click.Context, reason: str, options: tuple[str, ...]) -> None:
    for option in options:
        if context.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT:
            raise ConfigError(f"{reason}: leave --{option.replace('_', '-')} out, or {reason.split()[0]}")


def _preview(phantom: Phantom, target: Path, asked: dict[str, Any]) -> None:
    from usim.view.choice import Request, draw
    from usim.view.files import MOVIES, STILLS, check_target, is_movie
    from usim.view.preview import Preview

    check_target(target, STILLS + MOVIES)
    frames = Preview(phantom, seed=asked["seed"], frames=asked["frames"], moves=is_movie(target))
    click.echo(draw(frames, target, Request(), phantom.source))


def _dry_run(phantom: Phantom, folder: Path, asked: dict[str, Any]) -> None:
    from usim.estimate import estimate
    from usim.io.folder import refuse_occupied
    from usim.progress import human_bytes
    from usim.sizing import plan_run, refuse_full_disk, refuse_small_memory

    plan = plan_run(phantom, **asked)
    refuse_occupied(folder)
    refuse_full_disk(plan, folder)
    refuse_small_memory(plan, folder)
    result = estimate(phantom, plan)
    click.echo(f"folder   {folder}")
    click.echo(f"frames   {plan.frames} of {plan.pixels[0]} x {plan.pixels[1]} pixels, seed {plan.seed}")
    click.echo(f"shards   {len(plan.shards)} of up to {plan.shard_size} frames")
    click.echo(f"workers  {plan.workers}")
    click.echo(f"bytes    {result.bytes} ({human_bytes(result.bytes)})")
    click.echo(f"memory   {result.memory} ({human_bytes(result.memory)})")
    click.echo(f"minutes  {result.seconds / 60:.2f}")
