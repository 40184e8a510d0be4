"""The command line `usim`. Only click is imported here: help must appear at once, so commands import what they need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usim.console import print_surroundings, program_group, run_console, start
from usim.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from usim.phantom.load import Phantom


@program_group
def cli(context: click.Context, version: bool, verbose: int, quiet: bool) -> None:
    """Simulate ultrasound images together with the truth behind their speckle.

    \b
    Example:
      usim generate cyst && usim view cyst
    """
    from usim import __version__

    start(context, "usim", __version__ if version else "", verbose=verbose, quiet=quiet)
    if version and verbose:
        print_surroundings(("numpy", "scipy", "numba", "h5py", "pydantic", "matplotlib", "torch"))


@cli.command()
@click.argument("phantom")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to make; ./NAME of the phantom by default."
)
@click.option("--frames", type=click.IntRange(1), help="Number of frames; the phantom's own by default.")
@click.option("--seed", type=click.IntRange(0), help="Start of every random stream; the phantom's own by default.")
@click.option("--workers", type=click.IntRange(1), help="Processes; one per core by default. Never changes the frames.")
@click.option("--shard-size", type=click.IntRange(1), help="Frames per file; about 64 MB by default.")
@click.option("--store", default="", metavar="WORDS", help="Store more: iq, scatterers, or both with a comma.")
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the first scene with its truths to a .png, or its images as a .gif or .mp4; make no data.",
)
@click.option("--dry-run", is_flag=True, help="Say how many frames, files, bytes and minutes it takes; make no data.")
@click.pass_context
def generate(context: click.Context, /, phantom: str, output: Path | None, store: str, preview: Path | None,
             dry_run: bool, **numbers: int | None) -> None:  # fmt: skip
    """Simulate the frames of PHANTOM, a YAML file or the name of a shipped one, into a folder.

    The folder holds manifest.json, shard-00000.h5, ... and run.json. Equal calls give equal files.

    \b
    Example:
      usim generate training -o data/training --frames 200 --seed 3
    """
    if preview is not None:
        _refuse_with_preview(context)
    from usim.phantom.load import load_phantom

    loaded = load_phantom(phantom)
    if preview is not None:
        _preview(loaded, preview, numbers)
        return
    words = [word.strip() for word in store.split(",") if word.strip()]
    folder = output or Path(Path(loaded.source).stem)
    if dry_run:
        _dry_run(loaded, folder, {**numbers, "store": words})
        return
    from usim.engines.compiled import are_compiled
    from usim.generate import Progress
    from usim.generate import generate as run
    from usim.progress import human_bytes, human_time, show_progress

    if not context.obj["quiet"] and not are_compiled():
        click.echo("compiling the kernels, once on this machine: the first frame takes up to a minute longer", err=True)
    with show_progress(context.obj["quiet"]) as show:

        def listen(state: Progress) -> None:
            context.obj["interrupts"].check()
            show(state)

        result = run(loaded, folder, store=words, progress=listen, **numbers)
    if not context.obj["quiet"]:
        size = human_bytes(sum(shard.bytes for shard in result.manifest.shards))
        count, took = result.manifest.frames, human_time(result.seconds)
        click.echo(f"{folder}: {count} frames in {len(result.manifest.shards)} shards, {size}, {took}")
        click.echo(f"next: usim view {folder}")


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
def info(path: Path) -> None:
    """Summarise a dataset folder or a shard: shapes, axes, probe, regions, seed, files, grey levels.

    \b
    Example:
      usim info cyst
    """
    from usim.info import describe

    click.echo(describe(path))


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="PNG, JPG, PDF, SVG, GIF or MP4 to write; PATH with .png by default.",
)
@click.option("--frames", default="", metavar="LIST", help="Frames to show, such as 0,3,5; we choose by default.")
@click.option("--scene", default="", metavar="LIST", help="Scenes to show; a movie shows one after the other.")
@click.option("--look", default="", metavar="LIST", help="Looks to show.")
@click.option("--slice", default="", metavar="LIST", help="Elevation slices to show.")
@click.option("--angle", default="", metavar="LIST", help="Steering angles to show, by number.")
@click.option("--time", default="", metavar="LIST", help="Steps of time to show.")
@click.option("--fps", type=float, help="Images per second of a movie; the sequence's own rate, or 10, by default.")
@click.option("--depth", metavar="LENGTH", help="Depth of a volume's x-y cut, such as '20 mm'; the middle by default.")
def view(path: Path, output: Path | None, frames: str, fps: float | None, depth: str | None, **lists: str) -> None:
    """Draw frames of a dataset beside their truths, in millimetres and on one grey scale.

    A still shows some frames with all truths; of a sweep, its slices and cuts along all three axes. A movie (.gif, or
    .mp4 with the extra `video`) runs through the times of a sequence, the slices of a sweep, or all frames.

    \b
    Example:
      usim view cyst -o cyst.png --frames 0
    """
    from usim.io.dataset import open_frames
    from usim.view.choice import Request, draw

    only = {axis: numbers for axis, text in lists.items() if (numbers := _numbers(f"--{axis}", text))}
    request = Request(_numbers("--frames", frames), only, fps, _length("--depth", depth))
    target = output or path.parent / f"{path.stem if path.is_file() else path.resolve().name}.png"
    click.echo(draw(open_frames(path), target, request, str(path)))


@cli.command()
@click.argument("phantom")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Picture to write; ./NAME.validate.png by default."
)
@click.option("--json", type=click.Path(path_type=Path), metavar="FILE", help="Write all figures as JSON too.")
@click.option(
    "--scatterers", type=click.IntRange(1), default=20000, show_default=True, help="At most so many are used."
)
@click.option("--index", type=click.IntRange(0), default=0, help="Which frame; 0 by default.")
@click.option("--seed", type=click.IntRange(0), help="Start of every random stream; the phantom's own by default.")
@click.option(
    "--psf", type=click.Choice(["calibrated", "separable"]), default="calibrated", show_default=True,
    help="PSF of the image engine.",
)  # fmt: skip
@click.option("--points", is_flag=True, help="Image the point targets too; they outshine the rest.")
@click.option("--bands", type=click.IntRange(1, 100), default=10, help="Bands of depth in the table; 10 by default.")
@click.pass_context
def validate(context: click.Context, /, phantom: str, output: Path | None, json: Path | None,
             **request: Any) -> None:  # fmt: skip
    """Measure how near the image engine (psf) comes to the exact engine (sir) on the scatterers of PHANTOM.

    Both image the same scatterers; printed are NRMSE and correlation of IQ and envelope by depth, whether IQ NRMSE <=
    -25 dB and envelope correlation >= 0.99 were reached inside the aperture, and where not. The exit code is 0 either
    way: this is a measurement. The first time, calibrating takes a minute or two; the result is kept on disk.

    \b
    Example:
      usim validate cyst -o cyst.validate.png
    """
    from usim.phantom.load import load_phantom
    from usim.validation import table
    from usim.validation import validate as run
    from usim.validation_view import validation_sheet
    from usim.view.files import check_target

    loaded, quiet = load_phantom(phantom), context.obj["quiet"]
    target = output or Path(f"{Path(loaded.source).stem}.validate.png")
    check_target(target)
    if json is not None:
        _check_folder(json)

    def tell(text: str) -> None:
        context.obj["interrupts"].check()
        if not quiet:
            click.echo(text, err=True)

    result = run(loaded, progress=tell, **request)
    if not quiet:
        click.echo(table(result))
    validation_sheet(result, target)
    if json is not None:
        _write_json(result.as_dict(), json)
    if not quiet:
        click.echo(target)


@cli.command()
@click.argument("scan", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Phantom to write; ./NAME.yaml by default.")
@click.option("--depth", metavar="LENGTH", help="Depth that the scan shows, such as 40mm.")
@click.option("--pixel", metavar="LENGTH", help="Side of a pixel, such as 0.1mm, instead of the depth.")
@click.option("--probe", metavar="NAME", help="Preset of the probe; chosen by shape and depth by default.")
@click.option("--crop", metavar="X0,Y0,X1,Y1", help="Part of the picture to look at, in pixels.")
@click.option(
    "--compare", type=click.Path(path_type=Path), metavar="PNG", help="Draw the scan beside a frame of the phantom."
)
@click.pass_context
def match(context: click.Context, /, scan: Path, output: Path | None, compare: Path | None, probe: str | None,
          crop: str | None, **lengths: str | None) -> None:  # fmt: skip
    """Measure SCAN, a grey picture of a real scan, and write a phantom whose frames look like it.

    Measured are the scanned area (a rectangle or a fan), the size of speckle, the curve from echo to grey, the noise
    floor and the trend with depth. The echogenicity is the scan without its speckle, in NAME.map.png.

    \b
    Example:
      usim match scan.png --depth 40mm -o phantom.yaml --compare match.png
    """
    from usim.match.measure import measure, table
    from usim.match.phantom import choose, map_name, render, write_match
    from usim.match.scan import read_scan
    from usim.view.files import check_target

    target, quiet = output or Path(f"{scan.stem}.yaml"), context.obj["quiet"]
    _check_folder(target)
    if target.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{target}: a phantom file ends in .yaml")
    if compare is not None:
        check_target(compare)

    def tell(text: str) -> None:
        context.obj["interrupts"].check()
        if not quiet:
            click.echo(text, err=True)

    sizes = {name: _length(f"--{name}", text) for name, text in lengths.items()}
    found = measure(read_scan(scan, _corners(crop)))
    chosen = choose(found, probe=probe, **sizes)
    if not quiet:
        click.echo(table(found, chosen.pixel))
    if chosen.guessed:
        click.echo(
            f"warning: the size of a pixel is not known: {found.depth_pixels * chosen.pixel * 1e3:g} mm of depth is a "
            "guess; give --depth or --pixel",
            err=True,
        )
    write_match(found, chosen, target, tell)
    if compare is not None:
        from usim.match_view import match_sheet

        match_sheet(found, render(target), chosen.pixel, compare)
    if not quiet:
        click.echo(f"{target} and {map_name(target)}")
        click.echo(f"next: usim generate {target} --preview {target.stem}.png")
        if compare is not None:
            click.echo(compare)


@cli.command()
def phantoms() -> None:
    """List the phantoms that come with usim; each name can be given to `usim generate`.

    \b
    Example:
      usim phantoms
    """
    from usim.phantom.load import load_phantom, shipped_phantoms

    found = shipped_phantoms()
    width = max(map(len, found), default=0)
    for name in found:
        click.echo(f"{name:{width}}  {load_phantom(name).document.get('description', '')}")


@cli.command()
def schema() -> None:
    """Print the JSON Schema of phantom files, with which editors complete and check keys.

    \b
    Example:
      usim schema > schema.json
    """
    import json

    from usim.phantom.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(",") if text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is not a list of numbers such as 0,3,5") from None


def _corners(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    numbers = _numbers("--crop", text)
    if len(numbers) != 4:
        raise ConfigError(f"--crop: expected x0,y0,x1,y1, got {len(numbers)} numbers")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _length(option: str, text: str | None) -> float | None:
    from usim.units import parse_quantity

    try:
        return None if text is None else parse_quantity(text, "length")
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def _refuse_with_preview(context: click.Context) -> None:
    for option in ("output", "workers", "shard_size", "store", "dry_run"):
        if context.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT:
            raise ConfigError(f"--preview makes no data: leave --{option.replace('_', '-')} out, or --preview")


def _preview(phantom: Phantom, target: Path, numbers: dict[str, int | None]) -> None:
    from usim.view.choice import Request, draw
    from usim.view.files import MOVIES, STILLS, check_target, is_movie
    from usim.view.preview import Preview

    check_target(target, STILLS + MOVIES)
    frames = Preview(phantom, seed=numbers["seed"], frames=numbers["frames"], moves=is_movie(target))
    click.echo(draw(frames, target, Request(), phantom.source))


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise ResourceError(f"{path}: cannot write: no such folder; make it, or choose another")


def _write_json(data: dict[str, Any], path: Path) -> None:
    import json

    from usim.io.atomic import write_atomic

    write_atomic(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def _dry_run(phantom: Phantom, folder: Path, request: dict[str, Any]) -> None:
    from usim.io.folder import refuse_occupied
    from usim.progress import human_bytes
    from usim.sizing import estimate, plan_run, refuse_too_large

    plan = plan_run(phantom, **request)
    refuse_occupied(folder)
    refuse_too_large(plan, folder)
    result = estimate(phantom, plan)
    click.echo(f"folder   {folder}")
    click.echo(f"frames   {plan.frames} of {plan.pixels[0]} x {plan.pixels[1]} pixels, seed {plan.seed}")
    click.echo(f"shards   {len(plan.shards)} of up to {plan.shard_size} frames")
    click.echo(f"workers  {plan.workers}")
    click.echo(f"bytes    {result.bytes} ({human_bytes(result.bytes)})")
    click.echo(f"memory   {result.memory} ({human_bytes(result.memory)})")
    click.echo(f"minutes  {result.seconds / 60:.2f}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code, see `usim.console.run_console`."""
    return run_console(cli, "usim", arguments, install="usim-s2s", less="--shard-size, --workers or image.pixels")
