"""What the command lines share: version and verbosity, exit codes, and errors of one line. Cheap: click alone."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

import click

from usim.errors import ConfigError, ResourceError, UsimError
from usim.interrupts import INTERRUPTED, Interrupts


def program_group(command: Callable[..., None]) -> click.Group:
    """Make the group of a command line, with the options that all of ours have; for `start` to act on."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        click.option("-v", "--verbose", count=True, help="Say more (twice: everything)."),
        click.option(
            "--version", is_flag=True, help="Print the version; with -v also those of the libraries, and devices."
        ),
    ):
        command = option(command)
    settings = {"help_option_names": ["-h", "--help"]}
    return click.group(invoke_without_command=True, context_settings=settings)(click.pass_context(command))


def start(context: click.Context, program: str, version: str, *, verbose: int, quiet: bool) -> None:
    """Set up what every command finds: `quiet` and `interrupts` in `context.obj`, and how much is logged.

    version: what `--version` asked to be printed, or "" when it was not given; without a command, help is printed.
    """
    context.obj = {"quiet": quiet, "interrupts": context.obj or Interrupts()}
    level = logging.ERROR if quiet else [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for package in ("usim", program):
        logging.getLogger(package).setLevel(level)
    if version:
        click.echo(f"{program} {version}")
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


def print_surroundings(libraries: Sequence[str]) -> None:
    """Print the versions of Python and the libraries, the cores, and the accelerators that torch sees."""
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    click.echo(f"python {sys.version.split()[0]}")
    for name in libraries:
        try:
            click.echo(f"{name} {version(name)}")
        except PackageNotFoundError:
            click.echo(f"{name} not installed")
    click.echo(f"cpu: {os.cpu_count()} cores")
    if find_spec("torch") is not None:
        import torch

        for number in range(torch.cuda.device_count()):
            click.echo(f"cuda:{number}: {torch.cuda.get_device_name(number)}")


def run_console(group: click.Group, program: str, arguments: list[str] | None, *, install: str, less: str) -> int:
    """Run a command line and return its exit code; every error is one line on stderr.

    0 ok, 1 a bug, 2 usage or description, 3 data, 4 disk, memory or permission, 130 and 143 interrupted.

    arguments: those of the process when None.  install: what to install when a library is not there.  less: what to
    lower when memory ends.
    """
    with Interrupts() as interrupts:
        try:
            return _run(group, program, arguments, interrupts, install, less)
        except Exception:
            # Interrupted imports and compilers pass the interrupt on as errors of many kinds.
            if interrupts.exit_code is None:
                raise
            return _fail(f"interrupted; {interrupts.outlook()}", interrupts.exit_code)


def _run(
    group: click.Group, program: str, arguments: list[str] | None, interrupts: Interrupts, install: str, less: str
) -> int:
    try:
        return int(group.main(arguments, prog_name=program, standalone_mode=False, obj=interrupts) or 0)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else program
        message = " ".join(error.format_message().split())  # click lists choices line by line
        return _fail(f"{message.rstrip('.')}; see '{command} --help'", error.exit_code)
    except (click.Abort, KeyboardInterrupt, SystemExit) as stop:
        code = stop.code if isinstance(stop, SystemExit) else INTERRUPTED
        return _fail(f"interrupted; {interrupts.outlook()}", int(code or 0))
    except UsimError as error:
        if interrupts.exit_code is not None:  # what an interrupt broke is not the news
            raise
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("usim", "s2s"):
            raise
        return _fail(f"{library} is not installed; run: pip install '{install}'", ConfigError.exit_code)
    except PermissionError as error:
        if error.filename is None:
            raise
        where = os.fsdecode(error.filename)
        return _fail(f"{where}: {error.strerror}; name a path that you may read and write", ResourceError.exit_code)
    except MemoryError:
        return _fail(f"out of memory; lower {less}", ResourceError.exit_code)
    except BrokenPipeError:
        # The reader of our output (head, less) has left; what Python flushes at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {message}", err=True)
    return code
