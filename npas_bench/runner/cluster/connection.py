"""The connection to Ray: to a cluster of this machine alone, which starts and ends here, or to a running one."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npas_bench.errors import NpasBenchError
from npas_bench.runner.cluster.paths import same_imports

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_STORE_BYTES = 80 * 1024**2
_ANSWER_SECONDS = 5.0
_STARTS = 3
# The errors of the system that have nothing to do with Ray's temporary folder.
_PASSING = (ConnectionError, TimeoutError, BlockingIOError)


class Connection:
    """A connection to Ray.

    Args:
        address: address of a cluster, as `HOST:PORT`, `ray://HOST:PORT` or `auto`; None starts one on this machine.

    Raises:
        NpasBenchError: if there is no cluster at that address.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address
        self._parts: list[int] = []
        # No usage statistics leave this machine, and a worker that was given no GPU must see none.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"
        import ray

        self.ray: Any = ray
        _silence_ray()
        self._connect()

    def _connect(self) -> None:
        with _own_handlers():
            self._initialise()

    def _initialise(self) -> None:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not (self._address or "").startswith("ray://"):
            # Behind Ray's client, jobs have no folders of the driver.
            common["job_config"] = same_imports(here=self._address is None)
        if self._address is None:
            self._start_here(common)
            return
        _probe_address(self._address)
        failures = (ConnectionError, RuntimeError, ValueError, TimeoutError, self.ray.exceptions.RayError)
        try:
            try:
                self.ray.init(address=self._address, **common)
            except failures:
                if not _show_token():
                    raise
                self.ray.shutdown()
                self.ray.init(address=self._address, **common)
        except failures as error:
            raise _silent(self._address, (str(error).strip() or type(error).__name__).splitlines()[0]) from error

    def _start_here(self, common: dict[str, Any]) -> None:
        _provide_token()
        _make_folder_absolute()
        for attempt in range(1, _STARTS + 1):
            try:
                self.ray.init(
                    address="local",
                    num_cpus=os.cpu_count() or 1,
                    include_dashboard=False,
                    object_store_memory=_STORE_BYTES,
                    **common,
                )
            # Ray has no error of its own for processes that do not start.
            except Exception as error:
                self.ray.shutdown()
                reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
                if isinstance(error, OSError) and not isinstance(error, _PASSING):
                    raise _unstartable(
                        f"{reason}. Name another temporary folder with RAY_TMPDIR, one with a short path in which you "
                        "may write"
                    ) from error
                if attempt == _STARTS:
                    raise _unstartable(reason) from error
                log.warning("Ray did not start (%s); trying again", reason)
                time.sleep(3 * attempt)
            else:
                self._parts = [pid for pid, name in _children() if name in ("raylet", "gcs_server")]
                return

    @property
    def own(self) -> bool:
        """Tell whether the cluster was started here, and can be started anew."""
        return self._address is None

    @property
    def broken(self) -> bool:
        """Tell whether one of the processes that make up the cluster that was started here is gone."""
        alive = {pid for pid, _ in _children()}
        return any(pid not in alive for pid in self._parts)

    def restart(self) -> None:
        """Replace a broken cluster by a new one; every worker of the broken one is lost."""
        self.close()
        self._connect()

    def nodes(self) -> dict[str, dict[str, float]]:
        """The resources that each living node declares, by the node's id."""
        return {node["NodeID"]: node["Resources"] for node in self.ray.nodes() if node["Alive"]}

    def close(self) -> None:
        """Disconnect, which ends a cluster that was started here."""
        self.ray.shutdown()


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep this process' handler of SIGTERM, for which Ray sets others while it starts: they abort the process."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread sets handlers.
        yield
        return
    from ray._private import utils

    handler, setter = signal.getsignal(signal.SIGTERM), "set_sigterm_handler"
    theirs = getattr(utils, setter, None)
    if theirs is not None:
        setattr(utils, setter, lambda _: None)
    try:
        yield
    finally:
        if theirs is not None:
            setattr(utils, setter, theirs)
        # The part of Ray that is no Python has set one of which Python does not know.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)


def _unstartable(reason: str) -> NpasBenchError:
    return NpasBenchError(f"Ray cannot be started on this machine: {reason}. --executor inline runs without it")


def _make_folder_absolute() -> None:
    """Let Ray's processes, which work in folders of their own, find a relative temporary folder where this one does."""
    for name in ("RAY_TMPDIR", "TMPDIR"):
        if os.environ.get(name):
            os.environ["RAY_TMPDIR"] = str(Path(os.environ[name]).absolute())
            return


def _provide_token() -> None:
    """Give Ray a token for a cluster that lives no longer than this process, unless the user has one.

    Ray would make one and write it into the user's home, where this user may not be allowed to write.
    """
    if "RAY_AUTH_MODE" not in os.environ and not _has_token():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _show_token() -> bool:
    """Let Ray show the user's token from now on, and return whether it will.

    It does so if there is a token and the user has set no mode. A head node that finds a token asks drivers for it, but
    they show theirs only if they are told to.
    """
    if "RAY_AUTH_MODE" in os.environ or not _has_token():
        return False
    os.environ["RAY_AUTH_MODE"] = "token"
    with suppress(ImportError, AttributeError):
        from ray._raylet import Config  # type: ignore[attr-defined]

        # Ray read the setting when it was imported.
        Config.initialize("")
    return True


def _has_token() -> bool:
    """Tell whether the user has a token of Ray."""
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return True
    return os.access(Path.home() / ".ray" / "auth_token", os.R_OK)


def _silence_ray() -> None:
    """Send Ray's pages about dead processes to the log, since what they mean for cells is reported anyway."""
    with suppress(ImportError, AttributeError):
        from ray._private import worker

        def note(data: dict[str, Any], **_: Any) -> None:
            log.debug("Ray: %s", data.get("lines"))

        setattr(worker, "print_to_stdstream", note)  # noqa: B010 (mypy knows its type, and that it is private)


def _probe_address(address: str) -> None:
    """Check that something listens at an address, since Ray itself would try for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        if address != "auto":
            raise NpasBenchError(f"--ray-address '{address}': use HOST:PORT, ray://HOST:PORT or auto")
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise _silent(address, str(error)) from None


def _silent(address: str, reason: str) -> NpasBenchError:
    return NpasBenchError(
        f"no Ray cluster answers at {address}: {reason}. Start one with ray start --head and give its address, or "
        "leave out --ray-address to run on this machine"
    )


def _children() -> list[tuple[int, str]]:
    """Living child processes and their names; empty if the system does not list them."""
    found = []
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            numbers = listing.read_text(encoding="ascii").split()
        except OSError:
            continue
        for number in numbers:
            try:
                name, _, rest = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")
            except OSError:
                continue
            if rest.split()[0] not in ("Z", "X"):
                found.append((int(number), name.partition("(")[2]))
    return found
