"""Whom the dashboard answers, and that it asks nobody."""

import os
import re
import socket
import threading
from urllib.parse import urlsplit

import pytest

from npas_bench.dashboard.hosts import OwnNames
from npas_bench.dashboard.serving import serving
from npas_bench.errors import NpasBenchError

LOOPBACK = OwnNames.of("127.0.0.1", ())
EVERYWHERE = OwnNames.of("0.0.0.0", ("Board.example.",))  # noqa: S104
# Settings of another application, in the folder that the dashboard is started in and in the user's home.
OTHERS = """
[global]
developmentMode = true
[server]
port = 1
baseUrlPath = "other"
sslCertFile = "/nowhere/cert.pem"
sslKeyFile = "/nowhere/key.pem"
enableCORS = false
corsAllowedOrigins = ["http://evil.example"]
cookieSecret = 5
[browser]
serverAddress = "evil.example"
[secrets]
files = ["/nowhere"]
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8501", "localhost:8501", "LocalHost.", "[::1]:8501"])
def test_a_dashboard_of_this_machine_alone_answers_to_its_names(host):
    assert LOOPBACK.include(host)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:8501",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "127.0.0.1:port",
        "localhost@evil.example",
        "evil.example@localhost",
        "evil.example/localhost",
        "localhost/evil.example",
        "localhost?evil",
        "localhost, evil.example",
        "[::1",
        "[::1]evil.example",
        "board.example",
    ],
)
def test_a_dashboard_of_this_machine_alone_answers_to_no_other_name(host):
    assert not LOOPBACK.include(host)


@pytest.mark.parametrize("host", ["10.0.0.1:80", "[fe80::1]", "localhost", "board.example:443", socket.gethostname()])
def test_a_dashboard_for_everybody_answers_to_addresses_and_declared_names(host):
    assert EVERYWHERE.include(host)


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1.evil.example", "www.board.example", "board.example.org"])
def test_a_dashboard_for_everybody_answers_to_no_other_name(host):
    assert not EVERYWHERE.include(host)


def test_an_address_that_is_a_name_is_one_of_the_names():
    assert OwnNames.of("Board.example", ()).include("board.example:8080")
    assert OwnNames.of("192.168.0.7", ()).include("192.168.0.7:8080")
    assert not OwnNames.of("localhost", ()).include("10.0.0.1")


@pytest.mark.parametrize("name", ["https://board.example", "board.example:443", "board.example/path", "", "*", "a b"])
def test_a_declared_name_that_is_none_is_refused(name):
    with pytest.raises(NpasBenchError, match=rf"--host-name '{re.escape(name)}': a host name without"):
        OwnNames.of("127.0.0.1", (name,))


def test_a_declared_name_is_known_as_browsers_write_it():
    names = OwnNames.of("127.0.0.1", ("Bücher.example", "my_host", "10.0.0.7", "[fe80::1]"))
    assert all(map(names.include, ("xn--bcher-kva.example", "my_host:80", "10.0.0.7", "[fe80::1]:80")))


@pytest.mark.parametrize(
    ("origin", "host", "let"),
    [
        (None, "localhost:8501", True),
        ("http://localhost:8501", "localhost:8501", True),
        ("http://LOCALHOST:8501", "localhost:8501", True),
        ("https://board.example", "127.0.0.1:8501", True),
        ("http://localhost:3000", "localhost:8501", False),
        ("http://evil.example", "localhost:8501", False),
        ("http://evil.example:8501", "localhost:8501", False),
        ("http://board.example.evil.example", "127.0.0.1:8501", False),
        ("http://board.example@evil.example", "127.0.0.1:8501", False),
        ("null", "localhost:8501", False),
        ("", "localhost:8501", False),
        ("http://[", "localhost:8501", False),
    ],
)
def test_a_stream_is_opened_by_the_dashboards_own_pages(origin, host, let):
    assert EVERYWHERE.let(origin, host) is let


class Proxy:
    """Takes note of whoever wants to ask another machine, and answers nobody."""

    def __init__(self):
        self.asked = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            connection, _ = self._socket.accept()
            self.asked.append(connection.recv(1000))
            connection.close()


@pytest.fixture(scope="module")
def proxy():
    return Proxy()


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory, proxy):
    """A dashboard for everybody, among the settings of another application; where it listens."""
    home, folder = (tmp_path_factory.mktemp(name) for name in ("home", "folder"))
    for place in (home, folder):
        (place / ".streamlit").mkdir()
        (place / ".streamlit" / "config.toml").write_text(OTHERS, encoding="utf-8")
        (place / ".streamlit" / "secrets.toml").write_text("no = secrets", encoding="utf-8")
    asking = {name: proxy.address for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    environment = {**os.environ, **asking, "no_proxy": "", "NO_PROXY": "", "HOME": str(home)}
    arguments = ("--address", "0.0.0.0", "--host-name", "board.example")  # noqa: S104
    log = folder / "log"
    with serving(folder / "none.db", log, *arguments, folder=folder, environment=environment) as address:
        yield address
    said = log.read_text()
    assert "Traceback" not in said
    assert re.search(r"URL: http://localhost:\d+\n", said)
    assert not any(word in said for word in ("Network URL", "External URL", "secrets", "cert.pem"))


def status(address, path, **headers):
    """The status of the answer to a request with these headers."""
    place = urlsplit(address)
    lines = [f"GET {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()), "", ""]
    with socket.create_connection((place.hostname, place.port), timeout=30) as asking:
        asking.sendall("\r\n".join(lines).encode())
        return int(asking.recv(1000).split()[1])


def stream(address, **headers):
    """The status of the answer to a browser that opens the stream of the pages."""
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    return status(address, "/_stcore/stream", **headers, **upgrade, Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==")


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/static/nothing", "/media/nothing", "/run?of=published"])
def test_a_request_for_another_name_is_refused_whatever_it_asks_for(everywhere, path):
    assert status(everywhere, path, Host="evil.example", Connection="close") == 421


@pytest.mark.slow
def test_settings_of_another_application_are_not_obeyed(everywhere):
    for path in ("/", "/_stcore/health", "/frontier"):
        assert status(everywhere, path, Host="board.example", Connection="close") == 200


@pytest.mark.slow
def test_the_stream_is_refused_to_foreign_pages_and_names_and_nobody_is_asked(everywhere, proxy):
    own = urlsplit(everywhere).netloc
    assert stream(everywhere, Host=own, Origin=everywhere) == 101
    assert stream(everywhere, Host="board.example", Origin="https://board.example") == 101
    # Behind a proxy that puts its own name for this machine in the place of the one that the browser knows.
    assert stream(everywhere, Host=own, Origin="https://board.example") == 101
    assert stream(everywhere, Host=own) == 101
    assert stream(everywhere, Host=own, Origin="http://evil.example") == 403
    assert stream(everywhere, Host="evil.example", Origin="http://evil.example") == 403
    assert stream(everywhere, Host="evil.example") == 403
    assert stream(everywhere, Host=own, Origin="http://localhost:1") == 403
    assert proxy.asked == []
