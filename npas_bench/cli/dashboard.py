"""The command `npas-bench dashboard`."""

from __future__ import annotations

import errno
import os
import socket
from typing import Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.errors import NpasBenchError

_FIRST_PORT, _PORTS = 8501, 20
_TAKEN = (errno.EADDRINUSE,)


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
    host_name: Annotated[
        list[str] | None,
        typer.Option(
            "--host-name",
            metavar="NAME",
            help="A further name by which browsers ask for the dashboard, such as that of a proxy. Repeatable.",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser", help="Open the dashboard in a browser.")] = False,
    db: choose.Database = None,
) -> None:
    """Show the board, frontiers, costs, comparisons, runs and grids in a browser; it only reads."""
    from npas_bench.leaderboard.which import Which

    location = choose.database_to_read(db, Which.all)
    chosen = _free_port(address, port)
    # The environment hides what a command line would show to everyone: a server's URL may hold a password.
    os.environ["NPAS_BENCH_DB"] = (
        str(location.path.resolve()) if location.path else location.url.render_as_string(hide_password=False)
    )
    from npas_bench.dashboard.server import serve

    serve(address, chosen, tuple(host_name or ()), browser=browser)


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
        except UnicodeError:
            raise NpasBenchError(f"cannot listen on {address}: that is no host name") from None
    which = f"port {wanted} is" if wanted is not None else f"ports {_FIRST_PORT} to {_FIRST_PORT + _PORTS - 1} are all"
    raise NpasBenchError(f"{which} taken: name another with --port")
