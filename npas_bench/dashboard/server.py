"""The server of the dashboard: Streamlit, which asks nobody and obeys no settings but those given here."""

from __future__ import annotations

import logging
import sys
import threading
import webbrowser
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from streamlit import config

from npas_bench.dashboard.hosts import OwnHosts, OwnNames

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from streamlit.starlette import App

_SCRIPT = Path(__file__).parent / "pages" / "app.py"
# There is a light and a dark theme, of which the reader's system chooses one. Accents have the charts' colours.
_SETTINGS = {
    "global.developmentMode": False,
    "server.headless": True,
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": False,
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "theme.light.primaryColor": "#33608f",
    "theme.dark.primaryColor": "#7fb2e5",
    "theme.light.borderColor": "#d9dee5",
    "theme.dark.borderColor": "#3a414c",
    "theme.baseFontSize": 15,
    "theme.paddingTop": "4.5rem",
}


def serve(address: str, port: int, host_names: tuple[str, ...], *, browser: bool) -> None:
    """Serve the pages until a signal ends it.

    Args:
        address: the address to listen on.
        port: a free port there.
        host_names: further names by which browsers may ask for the dashboard, such as the one of a proxy.
        browser: whether to open it in a browser of this machine.
    """
    guard = Middleware(OwnHosts, names=OwnNames.of(address, host_names))
    _ignore_files()
    # Streamlit warns that there is no server yet for shared caches to belong to, which is as it should be.
    logging.getLogger("streamlit.runtime.caching.cache_data_api").setLevel(logging.ERROR)
    # Importing what pages need now makes the first page fast.
    import_module("npas_bench.dashboard.preload")
    from streamlit.starlette import App

    shown = _shown(address)
    url = f"http://{shown}:{port}"

    @asynccontextmanager
    async def begun(_: App) -> AsyncGenerator[dict[str, object]]:
        if browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        yield {}

    settings = {**_SETTINGS, "server.address": address, "server.port": port, "browser.serverAddress": shown}
    # Streamlit puts the folder of the program that it finds here on the path that modules are imported from.
    sys.argv = [""]
    App(_SCRIPT, middleware=[guard], lifespan=begun).run(config=settings)


def _ignore_files() -> None:
    """Keep Streamlit from reading settings and secrets in the working directory and in the user's home.

    Those of another application there name certificates, paths and modes which are none of the dashboard's. There may
    be no home at all.
    """

    def none(_: str) -> list[str]:
        return []

    setattr(config, "get_config_files", none)  # noqa: B010 (mypy knows that it is no variable)


def _shown(address: str) -> str:
    """The address of the dashboard as it is written in a URL."""
    if address in ("0.0.0.0", "::"):  # noqa: S104 (compared, not listened on)
        return "localhost"
    return f"[{address}]" if ":" in address else address
