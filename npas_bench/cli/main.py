"""The program `npas-bench`, which puts the commands together and turns errors into messages and exit codes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import NoReturn

import typer

from npas_bench import __version__
from npas_bench.cli.cancel import cancel
from npas_bench.cli.compare import compare
from npas_bench.cli.console import errors
from npas_bench.cli.dashboard import dashboard
from npas_bench.cli.database import database_app
from npas_bench.cli.download import download
from npas_bench.cli.exporting import export_runs
from npas_bench.cli.help import WholeHelp
from npas_bench.cli.importing import import_runs
from npas_bench.cli.leaderboard import leaderboard
from npas_bench.cli.listing import list_app
from npas_bench.cli.plan import plan
from npas_bench.cli.reproduce import reproduce
from npas_bench.cli.run import run
from npas_bench.cli.runs import runs
from npas_bench.cli.show import show
from npas_bench.cli.status import status
from npas_bench.cli.streams import NobodyReads, guarded_streams
from npas_bench.cli.weights import weights
from npas_bench.database.labels import printable
from npas_bench.errors import NpasBenchError

# As a shell names the end of a program that wrote to a pipe without a reader.
_NOBODY_READS = 141

app = typer.Typer(
    cls=WholeHelp,
    name="npas-bench",
    help="Train networks under fixed parameter budgets and compare ways of sharing parameters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(plan)
app.command()(status)
app.command()(runs)
app.command()(cancel)
app.command()(leaderboard)
app.command()(compare)
app.command()(dashboard)
app.add_typer(list_app, name="list")
app.command()(show)
app.command()(reproduce)
app.command()(weights)
app.command("export")(export_runs)
app.command("import")(import_runs)
app.add_typer(database_app, name="db")
app.command()(download)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"npas-bench {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", help="Show the version.", callback=_version, is_eager=True),
    verbose: bool = typer.Option(False, "--verbose", help="Log what happens in detail."),
) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(levelname)s: %(message)s")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit; a user's error is one message and exit code 2.

    Args:
        arguments: what follows the program's name; None takes the arguments of the process.
    """
    with guarded_streams():
        code = _code_of(arguments)
        sys.stderr.flush()
    sys.exit(code)


def _code_of(arguments: list[str] | None) -> int | str | None:
    """Run a command to its end, say what it cannot do, and return its exit code."""
    try:
        _check_folder()
        return _run(arguments)
    except NobodyReads:
        return _NOBODY_READS
    except NpasBenchError as error:
        _complain(str(error))
    except FileNotFoundError as error:
        # PyTorch wants a temporary folder, and Python looks for one in several places.
        if "temporary directory" not in str(error):
            raise
        _complain("no temporary folder can be written: name one with TMPDIR")
    return 2


def _check_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        # Not even PyTorch can be imported then.
        raise NpasBenchError(f"the working directory is gone ({error.strerror}): change to another one") from None


def _complain(message: str) -> None:
    said = printable(f"npas-bench: {message}", lines=True)
    errors.print(said, style="red", highlight=False, soft_wrap=True)


def _run(arguments: list[str] | None) -> int | str | None:
    code: int | str | None = 0
    try:
        app(arguments, prog_name="npas-bench")
    except SystemExit as exit_:
        code = exit_.code
    # What cannot be written is noticed here, and not while the interpreter ends.
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    main()
