"""CasJobs' REST interface over real HTTP (or TLS), and SciServer's log-in beside it.

Every request is checked against the interface, to the letter; what isn't as it should be is kept in
``violations``, which a test ends by looking at (:func:`casjobs_server` does). Statements are
executed (:mod:`tests.casjobs.tsql`). A test orders what goes wrong with :meth:`CasJobs.next`.
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.casjobs.tsql import Database, SqlError

LOGIN_PATH = "/login-portal/keystone/v3/tokens"
REST_PATH = "/CasJobs/RestApi"

Fault = Callable[["_Handler", Callable[[], bytes]], None]
"""What to do instead of answering; the second runs the query, and gives the answer."""


class CasJobs:
    """What the service knows. The lock guards all of it; handlers run in threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = {"anna": "wonder; 'land'"}
        self.tokens: set[str] = set()
        self.contexts: dict[str, Database] = {"MyDB": Database()}
        self.forbidden: set[str] = set()  # contexts
        self.logins = 0
        self.queries: list[str] = []  # those that were run
        self.violations: list[str] = []
        self.released = threading.Event()  # lets those go that hang
        self._faults: list[Fault] = []
        self.url = ""

    @property
    def database(self) -> Database:
        return self.contexts["MyDB"]

    def rows(self, table: str) -> list[dict[str, Any]]:
        with self.lock:
            found = self.database.tables.get(table)
            return [] if found is None else list(found.rows)

    def settings(self, **more: Any) -> dict[str, Any]:
        """A catalogue of kfd's for this server."""
        return {
            "kind": "casjobs",
            "rest": self.url + REST_PATH,
            "login": self.url + LOGIN_PATH,
            "user": "anna",
            "password": self.users["anna"],
            **more,
        }

    def next(self, *faults: Fault) -> None:
        """The next queries fail like that."""
        with self.lock:
            self._faults += faults

    def fault(self) -> Fault | None:
        with self.lock:
            return self._faults.pop(0) if self._faults else None

    def expire_tokens(self) -> None:
        with self.lock:
            self.tokens.clear()

    def token(self) -> str:
        """A new one."""
        token = secrets.token_hex(16)
        with self.lock:
            self.tokens.add(token)
        return token

    def run(self, context: str, sql: str) -> bytes:
        with self.lock:
            data = self.contexts[context].run(sql)
            self.queries.append(sql)
        columns = ["COLUMN_NAME"] if sql.startswith("SELECT") else []
        results = [{"TableName": "Table1", "Columns": columns, "Data": data}] if columns else []
        return json.dumps({"Result": results}).encode()


class Violation(Exception):  # noqa: N818 - the name says it
    """A request that isn't one of the interface."""


def _require(right: bool, what: str) -> None:
    if not right:
        raise Violation(what)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: CasJobs

    def log_message(self, *_: object) -> None:
        """The test's own output is enough."""

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length)) if length.isdecimal() else b""
        try:
            if self.path == LOGIN_PATH:
                self._log_in(body)
            else:
                self._query(body)
        except Violation as violation:
            with self.service.lock:
                self.service.violations.append(str(violation))
            self.answer(400, str(violation).encode(), "text/plain")

    def answer(self, status: int, body: bytes, kind: str = "application/json", **more: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _parsed(self, body: bytes, keys: set[str]) -> dict[str, Any]:
        _require(self.headers.get("Content-Type") == "application/json", "Content-Type")
        try:
            parsed = json.loads(body)
        except ValueError:
            raise Violation("the body isn't JSON") from None
        _require(isinstance(parsed, dict) and set(parsed) == keys, "what the body holds")
        return dict(parsed)

    def _log_in(self, body: bytes) -> None:
        user = self._parsed(body, {"auth"})["auth"]["identity"]["password"]["user"]
        whole = {"auth": {"identity": {"password": {"user": user}}}}
        _require(json.loads(body) == whole and set(user) == {"name", "password"}, "the log-in")
        with self.service.lock:
            self.service.logins += 1
            right = self.service.users.get(user["name"]) == user["password"]
        if right:
            self.answer(200, b"{}", X_Subject_Token=self.service.token())
        else:  # as some services do, it says what it was given
            said = f"Invalid credentials: {user['name']} {user['password']}"
            self.answer(401, said.encode(), "text/plain")

    def _query(self, body: bytes) -> None:
        url = urlsplit(self.path)
        path = re.fullmatch(re.escape(REST_PATH) + "/contexts/([^/]+)/query", url.path)
        _require(path is not None, f"path {url.path}")
        assert path is not None
        _require(self.headers.get("Accept") == "application/json+array", "Accept")
        parsed = self._parsed(body, {"Query", "TaskName"})
        _require(parse_qs(url.query) == {"TaskName": [parsed["TaskName"]]}, "TaskName")
        self._checked_query(unquote(path[1]), parsed["Query"])

    def _checked_query(self, context: str, sql: str) -> None:
        with self.service.lock:
            known = self.headers.get("X-Auth-Token") in self.service.tokens
            there = context in self.service.contexts
            forbidden = context in self.service.forbidden
        if not known:
            self.answer(401, b"Invalid token", "text/plain")
        elif not there:
            self.answer(404, b"Context not found", "text/plain")
        elif forbidden:
            self.answer(403, b"", "text/plain")
        elif (fault := self.service.fault()) is not None:
            fault(self, lambda: self.service.run(context, sql))
        else:
            self._run(context, sql)

    def _run(self, context: str, sql: str) -> None:
        try:
            self.answer(200, self.service.run(context, sql))
        except SqlError as error:
            self.answer(500, sql_exception(str(error)), "text/plain")


def sql_exception(said: str) -> bytes:
    """As .NET prints it."""
    return (
        f"System.Data.SqlClient.SqlException: {said}\r\n   at System.Data.SqlClient.SqlConnection"
        ".OnError(SqlException exception, Boolean breakConnection)\r\n   at Jhu.Cas"
    ).encode()


# What may go wrong.


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    return lambda handler, _: handler.answer(code, body, "text/plain", **headers)


def says(error: str) -> Fault:
    """As JSON, which is the other form that errors have."""
    said = {"Error Code": 500, "Error Type": "InternalServerError", "Error Message": error}
    return lambda handler, _: handler.answer(500, json.dumps(said).encode())


def hangs(handler: _Handler, _: Callable[[], bytes]) -> None:
    """Says nothing until the test lets it go."""
    handler.service.released.wait(60)
    handler.close_connection = True


def drips(handler: _Handler, _: Callable[[], bytes]) -> None:
    """A header that never ends, a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.service.released.wait(0.05):
        handler.wfile.write(b"x")
    handler.close_connection = True


def cut_off(handler: _Handler, run: Callable[[], bytes]) -> None:
    """The query is run, and half of the answer comes."""
    body = run() + b" " * 4096
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def lost(handler: _Handler, run: Callable[[], bytes]) -> None:
    """The query is run, and nothing of the answer comes."""
    run()
    handler.close_connection = True


def closes(handler: _Handler, run: Callable[[], bytes]) -> None:
    """The answer ends where the connection ends, as in HTTP/1.0."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(run())
    handler.close_connection = True


def page(handler: _Handler, _: Callable[[], bytes]) -> None:
    """What a captive portal says to everything."""
    handler.answer(200, b"<html><body>Please log in</body></html>", "text/html")


def endless(handler: _Handler, _: Callable[[], bytes]) -> None:
    """An answer without an end."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    while not handler.service.released.is_set():
        handler.wfile.write(b"x" * 65536)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def handle_error(self, *_: object) -> None:
        """Clients that give up are what is tested."""


class RunningCasJobs(CasJobs):
    """One that can be stopped and started again, at the same address."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._tls = tls
        self._port = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        self._port = self._server.server_address[1]
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        if self._server is None or self._thread is None:
            return
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = None
        self.released.clear()


@contextmanager
def casjobs_server(tls: ssl.SSLContext | None = None) -> Iterator[RunningCasJobs]:
    """It runs, and in the end nobody has asked what isn't in the interface."""
    server = RunningCasJobs(tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()
    assert not server.violations
