"""The command `npas-bench dashboard`."""

from __future__ import annotations

import errno
import logging
import os
import socket
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.errors import NpasBenchError

_FIRST_PORT, _PORTS = 8501, 20
_TAKEN = (errno.EADDRINUSE,)
# There is a light and a dark theme, of which the reader's system chooses one. Accents have the charts' colours.
_OPTIONS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "theme.light.primaryColor": "#33608f",
    "theme.dark.primaryColor": "#7fb2e5",
    "theme.light.borderColor": "#d9dee5",
    "theme.dark.borderColor": "#3a414c",
    "theme.baseFontSize": "15",
    "theme.paddingTop": "4.5rem",
}


def dashboard(
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=65535, help=f"Port to listen on [default: the first free one from {_FIRST_PORT}]."
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="Address to listen on; with 0.0.0.0, everybody who reaches this machine sees the results.",
        ),
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser", help="Open the dashboard in a browser.")] = False,
    db: choose.Database = None,
) -> None:
    """Show the board, frontiers, costs, comparisons, runs and grids in a browser; it only reads."""
    from streamlit.web import cli

    from npas_bench.database.opening import locate

    location = locate(db)
    chosen = _free_port(address, port)
    # The environment hides what a command line would show to everyone: a server's URL may hold a password.
    os.environ["NPAS_BENCH_DB"] = (
        str(location.path.resolve()) if location.path else location.url.render_as_string(hide_password=False)
    )
    options = {**_OPTIONS, "server.address": address, "server.port": str(chosen)}
    if browser:
        options["server.headless"] = "false"
    app = Path(__file__).parent.parent / "dashboard" / "pages" / "app.py"
    # Streamlit warns that there is no server yet for shared caches to belong to, which is as it should be.
    logging.getLogger("streamlit.runtime.caching.cache_data_api").setLevel(logging.ERROR)
    # Importing what pages need now makes the first page fast.
    import_module("npas_bench.dashboard.preload")

    cli.main(["run", str(app), *(f"--{name}={value}" for name, value in options.items())], prog_name="streamlit")


def _free_port(address: str, wanted: int | None) -> int:
    """A port to listen on.

    Raises:
        NpasBenchError: if the wanted port or every usual port is taken, or if the address is not one of this machine.
    """
    for port in [wanted] if wanted is not None else range(_FIRST_PORT, _FIRST_PORT + _PORTS):
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
                return port
        except PermissionError:
            raise NpasBenchError(f"port {port} needs more rights: name another with --port") from None
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno not in _TAKEN:
                raise NpasBenchError(f"cannot listen on {address}: {error.strerror or error}") from None
    which = f"port {wanted} is" if wanted is not None else f"ports {_FIRST_PORT} to {_FIRST_PORT + _PORTS - 1} are all"
    raise NpasBenchError(f"{which} taken: name another with --port")
