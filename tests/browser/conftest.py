"""A headless Chromium, and a stub gateway that serves the page with canned answers of the HTTP contract."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import app
from app.headers import PAGE

PAGE_DIR = Path(app.__file__).parent / "page"
MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = PAGE["Content-Security-Policy"]  # the gateway's own
SLOW_LIMIT_S = 30.0

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,900",
)


def hit(id: str, title: str, artist: str = "", album: str = "", year: int | None = None, **other: Any) -> dict[str, Any]:
    """One hit in the contract's shape."""
    found = {"id": id, "kind": "track", "title": title, "artist": artist, "album": album, "year": year}
    return {**found, "score": 0.9312, "matched_by": ["title", "meaning"], **other}


BILLIE_JEAN = hit("t1", "Billie Jean", "Michael Jackson", "Thriller", 1982, matched_by=["title", "artist", "correction"])
HITS = [
    BILLIE_JEAN,
    hit("a1", "Michael Jackson", "Michael Jackson", kind="artist", matched_by=["artist", "text"]),
    hit("b1", "Thriller", "Michael Jackson", "Thriller", 1982, kind="album", matched_by=["meaning"]),
    hit("t2", "Beat It", "Michael Jackson", "Thriller", 1982, matched_by=["artist", "meaning"]),
    hit("p1", "The Daily Record", "Example Press", kind="podcast", matched_by=["meaning"]),
]
TIMINGS_MS = {"speller": 8.4, "embedder": 5.1, "index": 2.2, "total": 11.6}
INJECTION = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
ANSWERS: dict[str, dict[str, Any]] = {
    "bilie jean micheal jackson": {"corrected": "billie jean michael jackson", "action": "replace"},
    "smels like teen sprit": {"corrected": "smells like teen spirit", "action": "suggest"},
    "spelling away": {"corrected": None, "degraded": ["speller"], "timings_ms": {"embedder": 5.1, "index": 2.2, "total": 8.0}},
    "all at once": {"timings_ms": {"speller": 8.4, "embedder": 5.1, "index": 7.9, "total": 9.1}},
    "injection": {"hits": [hit(INJECTION, INJECTION, INJECTION, INJECTION)]},
    "nothing": {"hits": []},
}
COMPLETIONS: dict[str, list[dict[str, str]]] = {
    "bil": [
        {"kind": "track", "text": "Billie Jean", "artist": "Michael Jackson"},
        {"kind": "artist", "text": "Billie Eilish", "artist": ""},
        {"kind": "track", "text": "Bills, Bills, Bills " + "and more bills " * 8, "artist": "Destiny's Child " * 8},
    ],
    "bill": [{"kind": "artist", "text": "Billie Eilish", "artist": ""}],
    "slow": [{"kind": "track", "text": "Slow Ride", "artist": "Foghat"}],
    "markup": [{"kind": "track", "text": INJECTION, "artist": INJECTION}],
}
REFUSALS = {"busy": 429, "down": 503, "late": 504}


class StubGateway(ThreadingHTTPServer):
    """Serves the page's own files, `ANSWERS` and `COMPLETIONS`.

    Enough to test the page, which knows nothing of the gateway but its contract.
    Any other query is answered with one hit that carries the query as its title. A query that starts with ``slow`` is held
    until `release_slow` is set, so that tests decide the order of answers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.searches: list[dict[str, Any]] = []  # bodies in order of arrival; a GET is written as its body
        self.suggests: list[str] = []  # texts that completions were asked for, in order of arrival
        self.release_slow = threading.Event()
        self.key = ""  # that searches and completions must bring; none while empty
        self.connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().close_request(request)

    def go_away(self) -> None:
        """Stops for good: no new connections, and none of those that Chromium opened ahead of use is answered any more."""
        self.shutdown()
        self.server_close()
        for connection in tuple(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class StubHandler(BaseHTTPRequestHandler):
    server: StubGateway

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path.startswith("/v1/") and self.lacks_key():
            return
        if address.path == "/v1/search":
            parameters = parse_qs(address.query)
            self.search({"query": parameters["q"][0], "limit": int(parameters["limit"][0])})
            return
        if address.path == "/v1/suggest":
            self.suggest(parse_qs(address.query)["q"][0])
            return
        file = PAGE_DIR / ("index.html" if address.path == "/" else address.path.removeprefix("/page/"))
        if file.parent == PAGE_DIR and file.is_file():
            self.send(HTTPStatus.OK, MEDIA_TYPES[file.suffix], file.read_bytes())
        else:
            self.send(HTTPStatus.NOT_FOUND, "text/plain", b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.lacks_key():
            self.search(body)

    def lacks_key(self) -> bool:
        """Whether the key is missing or wrong; answered then."""
        given = self.headers.get("X-API-Key", "")
        if given == self.server.key:
            return False
        status = 403 if given else 401
        problem = {"type": "about:blank", "title": "Refused", "status": status, "detail": "a key"}
        self.send(status, "application/problem+json", json.dumps(problem).encode())
        return True

    def suggest(self, typed: str) -> None:
        self.server.suggests.append(typed)
        if typed.startswith("slow"):
            self.server.release_slow.wait(SLOW_LIMIT_S)
        answer = {"query": typed, "completions": COMPLETIONS.get(typed, []), "timings_ms": {"completions": 0.4, "total": 0.4}}
        self.send(HTTPStatus.OK, "application/json", json.dumps(answer).encode())

    def search(self, body: dict[str, Any]) -> None:
        query = body["query"]
        self.server.searches.append(body)
        if query.startswith("slow"):
            self.server.release_slow.wait(SLOW_LIMIT_S)
        if query in REFUSALS:
            problem = {"type": "about:blank", "title": "Refused", "status": REFUSALS[query]}
            self.send(REFUSALS[query], "application/problem+json", json.dumps(problem).encode())
            return
        answer = {"query": query, "corrected": query, "action": "none", "degraded": [], "timings_ms": TIMINGS_MS}
        answer["hits"] = HITS if query in ANSWERS else [hit("q1", query)]
        self.send(HTTPStatus.OK, "application/json", json.dumps({**answer, **ANSWERS.get(query, {})}).encode())

    def send(self, status: int, media_type: str, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True  # the page cancelled the query

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: a failing test shows what the page shows."""


@pytest.fixture
def stub() -> Iterator[StubGateway]:
    gateway = StubGateway()
    thread = threading.Thread(target=gateway.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield gateway
    gateway.release_slow.set()
    gateway.shutdown()
    gateway.server_close()
    thread.join()


@pytest.fixture
def base_url(stub: StubGateway) -> str:
    return stub.url


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One Chromium for the session; each test loads the page anew. Both paths are given, so selenium downloads nothing."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("needs Chromium and ChromeDriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=chromedriver))
    yield driver
    driver.quit()
