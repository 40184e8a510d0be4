"""The command line `usim`. Only click is imported here: help must appear at once, so commands import what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usim.console import print_surroundings, program_group, run_console, start
from usim.errors import ConfigError, DataError, ResourceError
from usim.generate_command import generate

#: Numbers in a range of an option, such as 0-99; a slip of the finger must not fill the memory.
_MOST_NUMBERS = 10_000_000


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


cli.add_command(generate)


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
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def verify(context: click.Context, paths: tuple[Path, ...]) -> None:
    """Check dataset folders or shards bit by bit; name every damage, a line each, and exit with 3 if there is any.

    Of a folder: shards that are missing, truncated, changed or not listed, an edited manifest, an unfinished run.

    \b
    Example:
      usim verify data/training
    """
    from usim.io.verify import verify as run
    from usim.progress import human_bytes, show_bytes

    damaged = False
    for path in paths:
        with show_bytes(context.obj["quiet"]) as show:

            def heard(done: int, total: int) -> None:
                context.obj["interrupts"].check()
                show(done, total)

            found = run(path, heard)
        damaged = damaged or bool(found.damages)
        for damage in found.damages:
            click.echo(damage)
        if not found.damages and not context.obj["quiet"]:
            alone = "checksums are right, but only the hash in a manifest is proof of every bit"
            proof = "as written" if found.proven else alone
            count = f"{found.frames} frames in {found.shards} shard{'s' * (found.shards != 1)}"
            click.echo(f"{path}: {count}, {human_bytes(found.bytes)}: {proof}")
    context.exit(DataError.exit_code if damaged else 0)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["mat", "npy", "png", "uff"]), required=True,
    help="MATLAB files, NumPy arrays, pictures, or beamformed data of the USTB.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to make; ./NAME-FORMAT by default.")
@click.option("--frames", default="", metavar="LIST", help="Frames to export, such as 0,3,10-19; all by default.")
@click.option("--split", metavar="NAME", help="Only frames of this part of a dataset made with --split, such as train.")
@click.option("--dynamic-range", type=float, metavar="DB", help="From black to white of png; the phantom's by default.")
@click.pass_context
def export(context: click.Context, /, path: Path, form: str, output: Path | None, frames: str,
           **choices: Any) -> None:  # fmt: skip
    """Write a dataset or a shard in another format, into a new folder that appears whole or not at all.

    \b
    Example:
      usim export cyst --format png -o cyst-png
    """
    from usim.export import Progress
    from usim.export import export as run
    from usim.progress import human_bytes, show_progress

    name = path.stem if path.is_file() else path.resolve().name
    folder = output or Path(f"{name}-{form}")
    with show_progress(context.obj["quiet"]) as show:

        def listen(state: Progress) -> None:
            context.obj["interrupts"].check()
            show(state)

        chosen = _numbers("--frames", frames)
        done = run(path, folder, form, frames=chosen, progress=listen, **choices)
    if not context.obj["quiet"]:
        click.echo(f"{folder}: {done.frames} frames, {human_bytes(done.bytes)}")


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
    numbers: list[int] = []
    for word in text.split(",") if text else ():
        first, _, last = word.strip().partition("-")
        try:
            numbers += _range(int(first), int(last)) if first and last else [int(word)]
        except ValueError:
            raise ConfigError(f"{option}: {text!r} is not a list of numbers such as 0,3,10-19") from None
    return tuple(numbers)


def _range(first: int, last: int) -> range:
    if not first <= last < first + _MOST_NUMBERS:
        raise ValueError
    return range(first, last + 1)


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


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise ResourceError(f"{path}: cannot write: no such folder; make it, or choose another")


def _write_json(data: dict[str, Any], path: Path) -> None:
    import json

    from usim.io.atomic import write_atomic

    write_atomic(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code, see `usim.console.run_console`."""
    return run_console(cli, "usim", arguments, install="usim-s2s", less="--shard-size, --workers or image.pixels")
