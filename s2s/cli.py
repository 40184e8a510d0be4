"""The command line `s2s`. Only click is imported here: help must appear at once, so commands import what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usim.console import print_surroundings, run_console, start


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, help="Print the version; with -v also those of the libraries, and devices.")
@click.option("-v", "--verbose", count=True, help="Say more (twice: everything).")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.pass_context
def cli(context: click.Context, version: bool, verbose: int, quiet: bool) -> None:
    """Denoise ultrasound images with filters, and with networks trained on simulation that knows the truth.

    \b
    Example:
      s2s denoise scan.png -m nlm -o clean.png
    """
    from s2s import __version__

    start(context, "s2s", __version__ if version else "", verbose=verbose, quiet=quiet)
    if version and verbose:
        print_surroundings(("torch", "numpy", "scipy", "scikit-image", "pillow", "h5py"))


@cli.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-m", "--model", required=True, metavar="MODEL",
    help="A checkpoint, the folder of a training, or a filter such as nlm or lee:window=9.",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="OUT", help="File, or folder for several; INPUT with .denoised before its ending."
)
@click.option(
    "--domain", type=click.Choice(["log", "envelope", "db"]), help="What the numbers are, when not what is assumed."
)
@click.option("--dynamic-range", type=float, metavar="DB", help="Decibels between black and white; 60 when not given.")
@click.option("--white", type=float, metavar="VALUE", help="The value that is 0 dB; such as 4095 of 12-bit images.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute, such as cuda.")
@click.option("-f", "--force", is_flag=True, help="Replace outputs that exist; never an input.")
@click.pass_context
def denoise(context: click.Context, /, inputs: tuple[Path, ...], model: str, output: str | None, device: str,
            force: bool, **stated: Any) -> None:  # fmt: skip
    """Take the speckle out of images: PNG, NPY, or data of usim; each comes out in its own format and grey scale.

    PNG and whole numbers are taken as log-compressed over 60 dB, floats as an envelope, or as dB when none is
    positive. What is assumed is printed; --domain, --dynamic-range and --white state it.

    \b
    Example:
      s2s denoise a.png b.png -m nlm -o clean/ --dynamic-range 50
    """
    from s2s.denoise import load
    from s2s.files import denoise_files
    from s2s.images import Stated

    told = (lambda text: None) if context.obj["quiet"] else (lambda text: click.echo(text, err=True))
    for target, line in denoise_files(
        inputs, load(model, device=device), output, stated=Stated(**stated), force=force, tell=told,
        check=context.obj["interrupts"].check,
    ):  # fmt: skip
        if not context.obj["quiet"]:
            click.echo(f"{target}: {line}")


@cli.command()
@click.argument("name", required=False)
def methods(name: str | None) -> None:
    """List the methods with what each needs to learn; with a NAME, its settings and what it does.

    \b
    Example:
      s2s methods nlm
    """
    from s2s.listing import describe_method, list_methods

    click.echo(describe_method(name) if name else list_methods())


# The command `evaluate` goes here.


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code, see `usim.console.run_console`."""
    return run_console(
        cli, "s2s", arguments, install="usim-s2s[s2s]", less="the size of the images, or --batch and --crop"
    )
