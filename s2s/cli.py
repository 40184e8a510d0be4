"""The command line `s2s`. Only click is imported here: help must appear at once, so commands import what they need."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from s2s.benchmark_command import benchmark
from s2s.evaluate_command import evaluate, tune
from s2s.synthesise_command import synthesise
from usim.console import print_surroundings, program_group, run_console, start


@program_group
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
    "-m", "--model", default="default", show_default=True, metavar="MODEL",
    help="Published weights, a checkpoint, the folder of a training, or a filter such as nlm or lee:window=9.",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="OUT", help="File, or folder for several; INPUT with .denoised before its ending."
)
@click.option(
    "--domain", type=click.Choice(["log", "envelope", "db"]), help="What the numbers are, when not what is assumed."
)
@click.option("--dynamic-range", type=float, metavar="DB", help="Decibels between black and white; 60 when not given.")
@click.option("--white", type=float, metavar="VALUE", help="The value that is 0 dB; such as 4095 of 12-bit images.")
@click.option("--strength", type=float, default=1.0, show_default=True, metavar="S",
              help="How much of what the method removes is removed, from 0 to 1.")  # fmt: skip
@click.option("--residual", is_flag=True, help="Also write what was removed, as INPUT with .residual.")
@click.option("--extras", is_flag=True, help="Also write what else the method tells, as INPUT.extras.npz, in dB.")
@click.option("--gamma", type=float, metavar="G", help="Brighten the grey levels for display; off by default.")
@click.option("--fast", is_flag=True, help="Networks compute in bfloat16: faster, less exact.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps; auto takes what is there.")
@click.option("-f", "--force", is_flag=True, help="Replace outputs that exist; never an input.")
@click.option("--skip-existing", is_flag=True, help="Leave out what has an output already, such as after a stop.")
@click.pass_context
def denoise(context: click.Context, /, inputs: tuple[Path, ...], model: str, output: str | None, device: str,
            fast: bool, force: bool, skip_existing: bool, strength: float, residual: bool, gamma: float | None,
            extras: bool, **stated: Any) -> None:  # fmt: skip
    """Take the speckle out of images; each comes out in its own format and grey scale. Folders are walked.

    Pictures and whole numbers are taken as log-compressed over 60 dB, floats as an envelope, or as dB when none is
    positive. What is assumed is printed; --domain, --dynamic-range and --white state it.

    \b
    Example:
      s2s denoise a.png scans/ -o clean/ --dynamic-range 50
    """
    if force and skip_existing:
        raise click.UsageError("--force and --skip-existing: one of them, for what exists already")
    from s2s.denoise import load
    from s2s.files import Finish, denoise_files
    from s2s.images import Stated
    from s2s.progress import show_progress

    finish = Finish(strength, residual, gamma, extras)
    with show_progress(context.obj["quiet"]) as shown:
        for target, line in denoise_files(
            inputs, load(model, device=device, fast=fast), output, stated=Stated(**stated), finish=finish, force=force,
            skip_existing=skip_existing, tell=shown.tell, progress=shown.show,
            check=context.obj["interrupts"].check,
        ):  # fmt: skip
            shown.result(f"{target}: {line}")


@cli.command()
@click.argument("model")
@click.option("--format", "kind", type=click.Choice(["onnx", "torchscript"]), default="onnx", show_default=True,
              help="What will run it.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="The file; named after the method by default.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace a file that exists.")
@click.pass_context
def export(context: click.Context, /, model: str, kind: str, output: Path | None, force: bool) -> None:
    """Write a network as a file that runs without Python: decibels in, decibels out, images of any size.

    The file is run and compared with the network before it is written.

    \b
    Example:
      s2s export default --format onnx -o denoiser.onnx
    """
    from s2s.denoise import load
    from s2s.export import FORMATS
    from s2s.export import export as write

    denoiser = load(model)
    path = output or Path(f"{denoiser.name}{FORMATS[kind]}")
    difference = write(denoiser, path, kind, force=force)
    if not context.obj["quiet"]:
        click.echo(f"{path}: differs from {model} by {difference:.1e} dB at most")


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


@cli.command()
@click.option("--sim", is_flag=False, flag_value="fitting", metavar="[PHANTOM]",
              help="Learn from this phantom, simulated on the fly; when no name follows from `training`, or "
              "`training-sweep` or `training-angles` where the method needs slices or angles.")  # fmt: skip
@click.option("--data", multiple=True, type=click.Path(), metavar="PATH",
              help="Learn from files or folders of images instead; may be given several times.")  # fmt: skip
@click.option(
    "--recipe", metavar="NAME|YAML", help="All that is asked, in one file: default or speckle2self, or your own."
)
@click.option("--adapt", metavar="WEIGHTS", help="Go on from these weights on --data, judged without truth.")
@click.option("--method", default="speckle2self", show_default=True, help="What learns, see `s2s methods`.")
@click.option("--preset", default="default", show_default=True, help="Settings of the method: default, toy or paper.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting of the method.")
@click.option("--steps", type=click.IntRange(1), help="How long; the preset's own number when nothing is given.")
@click.option("--minutes", type=float, help="How long, by the clock; the weights then depend on the machine's speed.")
@click.option("--batch", type=int, help="Crops per step; the preset's own by default.")
@click.option("--compile/--no-compile", "compile", default=None,
              help="Compile the loss (torch.compile): a slow start, perhaps faster steps; off by default.")  # fmt: skip
@click.option("--accumulate", type=int, help="Batches per step, computed one after the other; for want of memory.")
@click.option("--crop", type=int, help="Side of the crops in pixels, 0 for whole images; the preset's own by default.")
@click.option("--rate", type=float, help="Peak learning rate; the preset's own by default.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
              help="bf16: networks compute in bfloat16; auto takes it where the device gains.")  # fmt: skip
@click.option("--reuse", type=click.FloatRange(0.01), default=4.0, show_default=True,
              help="How often a simulated pixel is shown on average.")  # fmt: skip
@click.option("--simulate-on", type=click.Choice(["cpu", "device"]), default="cpu", show_default=True,
              help="With --sim: processes of the CPU make images, or the device that trains.")  # fmt: skip
@click.option("--judge", multiple=True, metavar="PHANTOM",
              help="Judge by held-out frames of this phantom; once for each, that of --sim by default.")  # fmt: skip
@click.option("--held-out", type=click.IntRange(1), default=4, show_default=True, help="Frames of each that judge.")
@click.option("--until-converged", type=click.IntRange(1), is_flag=False, flag_value=4, metavar="[N]",
              help="End when N of 48 validations bring no gain, 4 by default; --steps or --minutes are the limit.",
              )  # fmt: skip
@click.option("--domain", type=click.Choice(["log", "envelope", "db"]), help="With --data: what the numbers are.")
@click.option("--dynamic-range", type=float, metavar="DB", help="With --data: decibels between black and white.")
@click.option("--white", type=float, metavar="VALUE", help="With --data: the value that is 0 dB.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Start of every random stream.")
@click.option("--workers", type=click.IntRange(0), help="Processes that make data; one less than cores by default.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps; auto takes what is there.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the training; ./METHOD by default.")
@click.option("--tensorboard", is_flag=True, help="Write what TensorBoard shows into the folder of the training.")
@click.option("--resume", is_flag=True, help="Go on with the training in the folder; what it was asked is in there.")
@click.pass_context
def train(context: click.Context, /, output: Path | None, workers: int | None, device: str, tensorboard: bool,
          resume: bool, **asked: Any) -> None:  # fmt: skip
    """Train a method, on simulation made while it learns or on images in files, and judge it on the truth.

    Held-out frames are denoised twelve times; their scores are printed and kept in metrics.jsonl, and best.pt holds
    the weights that came closest to the truth. A stopped training goes on with --resume.

    \b
    Example:
      s2s train --sim --method noise2noise --minutes 10 -o runs/n2n
      torchrun --nproc-per-node 2 -m s2s train --sim --method noise2noise -o runs/n2n
    """
    interrupts = context.obj["interrupts"]
    notes: list[str] = []  # told once nothing is wrong with the call
    interrupts.outlook = lambda: "nothing was begun; the same command begins again"
    with interrupts.ending(lambda: None):  # an import may swallow the interrupt, and go on for long
        from s2s.ask import find_precision, refuse_changes, request_from, training_device, workers_from
        from s2s.ranks import joined
        from s2s.run import Run

    interrupts.check()
    given = {name for name in asked if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
    quiet = context.obj["quiet"] or os.environ.get("RANK", "0") != "0"  # of the processes of torchrun one speaks
    told = (lambda text: None) if quiet else (lambda text: click.echo(text, err=True))
    folder = output or Path(Path(asked["recipe"]).stem if asked["recipe"] else asked["method"].replace(":", "-"))
    with joined(training_device(device, notes.append)) as (ranks, own), _said_once(ranks):
        surroundings = {"workers": workers_from(workers), "device": own, "say": told, "ranks": ranks}
        surroundings["tensorboard"] = tensorboard
        if resume:
            refuse_changes(given)
            run = Run.resumed(folder, **surroundings)
        else:
            if not asked["recipe"]:
                asked["precision"] = find_precision(asked["precision"], own, notes.append)
            run = Run.new(request_from(asked, given), folder, **surroundings)
        interrupts.outlook = run.outlook
        for note in notes:
            told(note)
        interrupts.check()
        best = run.train(interrupts.check, interrupts.ending)
    if not quiet:
        scan = "scan.png" if run.state.method.bands.count == 1 else "scans.npy"
        click.echo(f"{best}: next, s2s denoise {scan} -m {best.parent}")


@contextlib.contextmanager
def _said_once(ranks: Any) -> Iterator[None]:
    """Let one of the processes that train together say what ends them all."""
    from usim.errors import UsimError

    try:
        yield
    except (UsimError, KeyboardInterrupt, SystemExit) as error:
        words = str(error) if isinstance(error, UsimError) else "interrupted"
        if ranks.claim(words):
            raise
        code = error.exit_code if isinstance(error, UsimError) else getattr(error, "code", 130)
        raise click.exceptions.Exit(code) from error


@cli.command()
@click.argument("training", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="SAFETENSORS",
              help="The file of the weights; their card stands beside it, .md.")  # fmt: skip
@click.option("--half", is_flag=True, help="Store numbers of 16 bits: half the size.")
@click.option(
    "--scores",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="JSON",
    help="For the card: what s2s evaluate --json wrote of these weights; several times, if need be.",
)
def publish(training: Path, output: Path, half: bool, scores: tuple[Path, ...]) -> None:
    """Write the best weights of a TRAINING as safetensors, with a model card.

    \b
    Example:
      s2s publish runs/n2n -o n2n.safetensors --half
    """
    from s2s.publish import publish as write

    for path in write(training, output, half=half, scores=scores):
        click.echo(path)


for command in (evaluate, tune, benchmark, synthesise):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code, see `usim.console.run_console`."""
    # Before torch is loaded: its threads wait for one another in a loop, and take the cores from the processes that
    # simulate. Three processes on two cores: 0.6 training steps a second, 3.0 with threads that sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return run_console(
        cli, "s2s", arguments, install="usim-s2s[s2s]", less="the size of the images, or --batch and --crop"
    )
