"""A dashboard in a process of its own, to be visited by tests, benchmarks and what takes the docs' pictures."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 60


@contextlib.contextmanager
def serving(
    database: str | Path,
    log: Path,
    *arguments: str,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[str]:
    """Serve a database for as long as the block lasts, and return the server's address.

    Args:
        database: a file or the URL of a database; a file need not exist.
        log: the file that the server's output goes to.
        arguments: further arguments of the command.
        folder: the folder that the server runs in; None takes this process' own.
        environment: the server's environment; None takes this process' own.

    Raises:
        RuntimeError: if the server ends, or does not answer within a minute; the message holds its output.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "npas_bench.cli.main", "dashboard", "--port", str(port)]
    # A file that --db names would have to exist.
    known = {**(os.environ if environment is None else environment), "NPAS_BENCH_DB": str(database)}
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603 (our own command)
            [*words, *arguments], stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=known
        )
    try:
        end = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the dashboard did not start: {log.read_text()}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_START_SECONDS)
