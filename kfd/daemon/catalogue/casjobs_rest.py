"""SciServer's REST interface of CasJobs, as far as the catalogue needs it: log in, ask.

A user's name and password become a token (OpenStack's Keystone: in the header ``X-Subject-Token``),
which every query carries (``X-Auth-Token``). A query is run while one waits; the server ends those
that take longer than a minute. Whatever it answers but 200 is an error, as text or as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlsplit

from kfd.config.catalogues import CasJobsCatalogue
from kfd.config.secrets import HIDDEN
from kfd.daemon.catalogue.exchange import Answer, Caller, Question
from kfd.daemon.catalogue.sink import SinkError
from kfd.errors import KfdError

TASK: Final = "kfd"  # how the queries are called in the history that CasJobs shows
_SHOWN: Final = 300  # characters of what a server says

Rows = list[list[Any]]


class QueryError(SinkError):
    """CasJobs did not run a query. ``said``: what it says of it, safe to show."""

    def __init__(self, status: int, said: str, *, where: str, fix: str) -> None:
        super().__init__(f"HTTP {status}: {said or 'no reason given'}", where=where, fix=fix)
        self.status = status
        self.said = said


class Service:
    """One context of CasJobs, for one user. Used in one thread.

    ``secret`` gives the password, or the token: it is called for each log-in, so that what was
    changed meanwhile is found.
    """

    def __init__(
        self, settings: CasJobsCatalogue, secret: Callable[[], str], caller: Caller
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._caller = caller
        self._token = ""
        context = quote(settings.context, safe="")
        self._url = f"{settings.rest}/contexts/{context}/query?TaskName={TASK}"

    def query(self, sql: str) -> Rows:
        """Run one statement; the rows of its first result, if it has one.

        Raises :class:`QueryError` where it was not run, other :class:`SinkError` where that isn't
        known. A token that is refused is replaced once.
        """
        token = self._token or self._log_in()
        answer = self._ask(sql, token)
        if answer.status == 401 and (renewed := self._log_in()) != token:
            answer = self._ask(sql, renewed)
        if answer.status == 401:
            raise self._refused(self._url)
        return self._rows(answer)

    def _ask(self, sql: str, token: str) -> Answer:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json+array",
            "X-Auth-Token": token,
        }
        body = json.dumps({"Query": sql, "TaskName": TASK}).encode()
        return self._caller.ask(Question("POST", self._url, headers, body))

    def _rows(self, answer: Answer) -> Rows:
        if answer.status != 200:
            raise self._failure(answer)
        try:
            return _data(json.loads(answer.body)["Result"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise SinkError(
                "the answer isn't CasJobs' JSON, or was cut off",
                where=_place(self._url),
                fix="correct rest: in the configuration, if it is wrong; it is tried again",
            ) from None

    def _log_in(self) -> str:
        """A token: the one that is configured, or one for the password."""
        self._token = ""
        try:
            secret = self._secret()
        except KfdError as error:
            raise SinkError(error.what, where=error.where, fix=error.fix) from None
        if self._settings.token is None:
            self._token = self._exchanged(secret)
        else:
            self._token = _checked(secret, "the configured token isn't one", self._settings.rest)
        return self._token

    def _exchanged(self, password: str) -> str:
        url = self._settings.login
        user = {"name": self._settings.user, "password": password}
        body = json.dumps({"auth": {"identity": {"password": {"user": user}}}}).encode()
        answer = self._caller.ask(Question("POST", url, {"Content-Type": "application/json"}, body))
        # What it says of an error isn't shown: it may repeat what it was given.
        if answer.status in {400, 401, 403, 404}:
            raise self._refused(url)
        if answer.status not in {200, 201}:
            raise _failed(answer, url, "")
        token = answer.headers.get("X-Subject-Token", "")
        return _checked(token, "the answer to the log-in holds no token", url)

    def _refused(self, url: str) -> SinkError:
        key = "token" if self._settings.token is not None else "user and password"
        fix = f"correct the {key} of catalogue {self._settings.name}; it is tried again"
        return SinkError("log-in refused", where=_place(url), fix=fix)

    def _failure(self, answer: Answer) -> SinkError:
        said = self._said(answer)
        if answer.status == 403:
            what = f"no right to use the context {self._settings.context}"
            fix = "ask its owner for the right, or write another context:"
            return SinkError(_with(what, said), where=_place(self._url), fix=fix)
        if answer.status == 404:
            what = f"no such service, or no context {self._settings.context}"
            fix = "correct rest: or context: in the configuration"
            return SinkError(_with(what, said), where=_place(self._url), fix=fix)
        return _failed(answer, self._url, said)

    def _said(self, answer: Answer) -> str:
        """What the server says of an error: one line, without the token."""
        text = _message(answer.body).replace(self._token, HIDDEN)
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= _SHOWN else line[:_SHOWN] + "..."


def _data(results: Any) -> Rows:
    """The rows of the first result. Raises what asking the wrong thing raises."""
    rows = results[0].get("Data", []) if results else []
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise TypeError
    return rows


def _message(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return "" if text.lstrip().startswith("<") else _without_trace(text)
    said = parsed.get("Error Message") if isinstance(parsed, dict) else parsed
    return _without_trace(said) if isinstance(said, str) else ""


def _without_trace(text: str) -> str:
    """The sentence of an exception of .NET, without its class and where it was thrown."""
    sentence = re.split(r"\r?\n\s*at\s", text, maxsplit=1)[0]
    return re.sub(r"^System\.[\w.]+Exception[^:]*:\s*", "", sentence.strip())


def _failed(answer: Answer, url: str, said: str) -> SinkError:
    if 300 <= answer.status < 400:
        to = _host(answer.headers.get("Location", ""))
        what = f"it redirects to {to[:100]!r}, which isn't followed: the log-in would go there"
        return SinkError(what, where=_place(url), fix="correct the address in the configuration")
    fix = "look whether the service is in order; it is tried again by itself"
    return QueryError(answer.status, said, where=_place(url), fix=fix)


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc or "elsewhere"
    except ValueError:
        return "no address"


def _checked(token: str, otherwise: str, url: str) -> str:
    """A token as it can stand in a header."""
    if re.fullmatch(r"[!-~]{1,8192}", token, re.ASCII) is None:
        fix = "correct token: or login: of the catalogue"
        raise SinkError(otherwise, where=_place(url), fix=fix)
    return token


def _with(what: str, said: str) -> str:
    return f"{what} ({said})" if said else what


def _place(url: str) -> str:
    return url.partition("?")[0]
