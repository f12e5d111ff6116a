"""The names that the dashboard answers to.

A browser lets any page ask any address. A page whose name was made to point at this machine after it was loaded (DNS
rebinding) could read the dashboard like a page of its own, and a page of any other name could open the stream that
draws the pages. The first comes with the page's name as the host that it asks for, the second with a foreign origin.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:/?#@,\s]+)(:[0-9]{1,5})?", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9._-]+")
_MISDIRECTED, _POLICY_VIOLATION = 421, 1008


class OwnNames(NamedTuple):
    """The names by which browsers may ask for the dashboard.

    Attributes:
        names: host names and addresses, in lower case.
        addresses: whether any address will do. No page can make its own name one, and which addresses lead to this
            machine is not known where it listens on all of them.
        declared: those of `names` that a proxy answers for.
    """

    names: frozenset[str]
    addresses: bool
    declared: frozenset[str]

    @staticmethod
    def of(address: str, declared: tuple[str, ...]) -> OwnNames:
        """The names of a dashboard that listens on an address.

        Args:
            address: the address that it listens on, or the name of one.
            declared: further names, such as the one of a proxy.

        Raises:
            NpasBenchError: if one of the further names is no host name.
        """
        further = frozenset(map(_as_browsers_write, declared))
        names = {_plain(address), "localhost", *further}
        loopback = _is_address(address) and ipaddress.ip_address(address).is_loopback
        if loopback or _plain(address) == "localhost":
            return OwnNames(frozenset({*names, "127.0.0.1", "::1"}), addresses=False, declared=further)
        return OwnNames(frozenset({*names, _plain(socket.gethostname())}), addresses=True, declared=further)

    def include(self, host: str | None) -> bool:
        """Tell whether a `Host` header, with or without a port, names this dashboard."""
        name = _hostname(host) if host else None
        return name is not None and (name in self.names or (self.addresses and _is_address(name)))

    def let(self, origin: str | None, host: str) -> bool:
        """Tell whether a page of an origin may open a stream to a host, which names this dashboard.

        Args:
            origin: the `Origin` header; None for what is no browser.
            host: the `Host` header.
        """
        if origin is None:
            return True
        asking = _host_of(origin)
        return asking.lower() == host.lower() or _hostname(asking) in self.declared


class OwnHosts:
    """Refuses requests that are meant for another host, and streams that pages of another origin open.

    Args:
        app: the application behind it.
        names: the names of the dashboard.
    """

    def __init__(self, app: ASGIApp, names: OwnNames) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host"), headers.get("origin")
        if not self._names.include(host) or host is None:
            await _refuse(scope, receive, send, f"this dashboard is not known as {host!r}: see --host-name")
        elif scope["type"] == "websocket" and not self._names.let(origin, host):
            await _refuse(scope, receive, send, f"pages of {origin!r} may not use this dashboard")
        else:
            if scope["type"] == "websocket" and origin is not None:
                # A proxy may have put its own name for this machine in the place of the one that the browser knows.
                # Streamlit would ask other machines whether the two belong together.
                MutableHeaders(scope=scope)["host"] = _host_of(origin)
            await self._app(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).close(_POLICY_VIOLATION, reason)
    else:
        await PlainTextResponse(reason + "\n", status_code=_MISDIRECTED)(scope, receive, send)


def _host_of(origin: str) -> str:
    """The host in an origin, such as `https://board.example:8080`."""
    return origin.partition("://")[2]


def _hostname(host: str) -> str | None:
    """The plain name in a host with or without a port; None if it is malformed."""
    found = _HOST.fullmatch(host)
    return _plain(found["name"]) if found else None


def _as_browsers_write(name: str) -> str:
    """A declared name as it comes in requests, where letters outside of ASCII are encoded."""
    try:
        encoded = _plain(name.encode("idna").decode("ascii"))
    except UnicodeError:
        encoded = ""
    if not (_NAME.fullmatch(encoded) or _is_address(encoded)):
        raise NpasBenchError(f"--host-name '{name}': a host name without scheme, port and path is wanted")
    return encoded


def _plain(name: str) -> str:
    return name.lower().strip("[]").removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
