"""The section ``catalogue``: databases elsewhere that are told of files, by name.

Each is of a ``kind``: ``sql``, any database that SQLAlchemy knows and the default, or ``casjobs``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self, get_args
from urllib.parse import unquote, unquote_plus

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    InstanceOf,
    PlainSerializer,
    Tag,
    model_validator,
)

from kfd.config.secrets import HIDDEN, AnySecret, Secret
from kfd.config.sections import NAME_KEY, Section
from kfd.config.values import Directory, Flag, Given, choice, matching, read_as
from kfd.config.wrong import Wrong, WrongValuesError, nearest
from kfd.units import WrongValueError

FieldName = Literal[
    "tid", "receiver", "route", "name", "path", "path_bytes", "stored", "size", "digest",
    "origin", "topic", "mtime", "sent", "published", "metadata",
]  # fmt: skip
FIELDS: tuple[FieldName, ...] = get_args(FieldName)
"""What a row says: the fields of :class:`kfd.daemon.catalogue.sink.Row`."""

Kind = Literal["sql", "casjobs"]
SentRows = Literal["false", "in-kafka", "delivered"]
META = "meta."  # before a key of the metadata, which can be a column of its own
Columns = dict[str, str]  # column → field of a row, or meta.KEY

_PIECE = 4  # characters: shorter pieces of a secret are found in all kinds of text
MAX_NAME = 63  # bytes: PostgreSQL's; others take longer ones

# As SQLAlchemy reads it, which takes the first @ for the end of the password.
_URL = re.compile(
    r"(?P<driver>(?P<dialect>[A-Za-z][A-Za-z0-9_]*)(?:\+[A-Za-z0-9_]+)?)://"
    r"(?:(?P<user>[^:/?@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<place>(?P<host>\[[^/?@\]]*\]|[^:/?@\[\]]*)(?::(?P<port>[^/?@]*))?)"
    r"(?P<path>(?:/[^?]*)?)(?P<options>(?:\?.*)?)",
    re.DOTALL,
)
_SECRET_OPTION = re.compile(
    r"([?&][^=&]*(?:pass|pwd|secret|token|key|odbc)[^=&]*=)([^&]*)", re.IGNORECASE
)
_TABLE = re.compile(r"[^\x00-\x1f.\"`\[\]]+(\.[^\x00-\x1f.\"`\[\]]+)?")
_WEB = re.compile(
    r"(https://[^\s@?#/]+|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?)(/[^\s@?#]*)?", re.ASCII
)
_COLUMN = re.compile(r"[^\x00-\x1f\"`\[\]]+")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """SQLAlchemy's address of a database. ``text`` may hold a password: never show or log it."""

    text: str = field(repr=False)

    @property
    def driver(self) -> str:
        """``DIALECT``, or ``DIALECT+DRIVER``."""
        return str(self._parts("driver"))

    def hide(self, text: str, password: str = "") -> str:
        """What somebody says of it, as people may see it; ``password``: another one."""
        for secret in sorted({*self._secrets(), password} - {""}, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text

    def shown(self) -> str:
        """It as people may see it."""
        driver, user, password, place, path, options = self._parts(
            "driver", "user", "password", "place", "path", "options"
        )
        hidden = f":{HIDDEN}" if password else ""
        who = "" if user is None else f"{user}{hidden}@"
        options = _SECRET_OPTION.sub(rf"\g<1>{HIDDEN}", options)
        return f"{driver}://{who}{place}{path}{options}"

    def _secrets(self) -> set[str]:
        """What of it must not be shown, whoever repeats it, and in which pieces."""
        password, options = self._parts("password", "options")
        values = [password or "", *(value for _, value in _SECRET_OPTION.findall(options))]
        pieces = [piece for value in values for piece in re.split("[:/?#]", value)]
        long = [piece for piece in pieces if len(piece) >= _PIECE]
        texts = [self.text, *values, *long]
        return {form for text in texts for form in (text, unquote(text), unquote_plus(text))}

    def _parts(self, *names: str) -> Any:
        match = _URL.fullmatch(self.text)
        assert match is not None
        return match.group(*names)


def _read_url(text: str) -> DatabaseUrl:
    """What was found isn't quoted: there may be a password in it."""
    found = _URL.fullmatch(text)
    if "@" in (text if found is None else found["path"] + found["options"]) and not _is_file(found):
        raise WrongValueError(
            "more than one @, or one in no place for it",
            "write %40 for an @ in it, %2F for a /; or password: {file: PATH} beside it",
        )
    if found is None or not text.isprintable():
        raise WrongValueError(
            "not the address of a database",
            "write it like postgresql+psycopg://USER@HOST/DATABASE, or sqlite:////absolute/file.db",
        )
    if found["port"] is not None and not _is_port(found["port"]):
        raise WrongValueError(
            "no port of 1 to 65535 after the host's name",
            "write USER:PASSWORD@HOST:PORT, with %40 for @ and %2F for /, and PORT in digits",
        )
    if found["dialect"].lower() == "sqlite" and not _is_file(found):
        raise WrongValueError(
            "not an absolute path of SQLite's file",
            "write sqlite:////absolute/file.db, with four /",
        )
    return DatabaseUrl(text)


def _is_file(found: re.Match[str] | None) -> bool:
    """Whether it is a file's address: without a host, with an absolute path."""
    return (
        found is not None
        and found["user"] is None
        and not found["place"]
        and re.fullmatch("//.*[^/]", found["path"], re.DOTALL) is not None
    )


def _is_port(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None and 0 < int(text) < 1 << 16


def _read_web(text: str) -> str:
    """Tokens and passwords travel there: in the clear only within this host."""
    if _WEB.fullmatch(text) is None:
        raise WrongValueError(
            "not the address of a service", "write https://HOST/PATH, without user or password"
        )
    return text.rstrip("/")


def _read_table(text: str) -> str:
    if _TABLE.fullmatch(text) is None or len(text.encode()) > 2 * MAX_NAME:
        raise WrongValueError(f"{text[:60]!r} is not the name of a table", "TABLE, or SCHEMA.TABLE")
    return text


def _read_columns(value: object) -> Columns:
    if not isinstance(value, dict) or not value:
        raise WrongValueError("not a mapping", "write COLUMN: FIELD lines below it")
    wrong = []
    for column, found in value.items():
        if not _is_column(column):
            fix = f"up to {MAX_NAME} bytes, without quotes"
            wrong.append(Wrong((column,), "not the name of a column", fix))
        elif not _is_field(found):
            fix = f"{nearest(str(found), FIELDS)}, or {META}KEY"
            wrong.append(Wrong((column,), f"{str(found)[:60]!r} is no field", fix))
    if wrong:
        raise WrongValuesError(wrong)
    return dict(value)


def _is_column(text: object) -> bool:
    return (
        isinstance(text, str)
        and _COLUMN.fullmatch(text) is not None
        and len(text.encode()) <= MAX_NAME
    )


def _is_field(text: object) -> bool:
    return isinstance(text, str) and (
        text in FIELDS or (text.startswith(META) and text != META and "\0" not in text)
    )


ServiceUrl = Annotated[str, read_as(_read_web)]
TableName = Annotated[str, read_as(_read_table)]
ColumnMap = Annotated[Columns, BeforeValidator(_read_columns)]
WhichSent = Annotated[SentRows, choice(SentRows)]
File = Directory  # an absolute path
Text = matching(r"[!-~]{1,255}", "a name", "1 to 255 of ASCII, no space")


class SqlCatalogue(Section):
    """A table of a database that SQLAlchemy knows."""

    name: str = Field(validation_alias=NAME_KEY, exclude=True)
    kind: Annotated[Kind, choice(Kind)] = "sql"
    url: Annotated[InstanceOf[DatabaseUrl], PlainSerializer(DatabaseUrl.shown), read_as(_read_url)]
    password: Annotated[Secret | None, Given] = None  # None: the one in the URL, or none
    table: TableName = "kfd_files"
    columns: ColumnMap = Field(default_factory=lambda: {name: name for name in map(str, FIELDS)})
    sent: WhichSent = "false"

    @property
    def secret(self) -> tuple[str, AnySecret] | None:
        """The key of the secret that it needs, and where that lies."""
        return None if self.password is None else ("password", self.password)

    @property
    def has_password(self) -> bool:
        """Whether there is one in the configuration's own text, within an address."""
        return HIDDEN in self.url.shown()

    @model_validator(mode="after")
    def _can_tell_rows(self) -> Self:
        if not knows_rows(self):
            fix = "add a column for the field tid: by it a row is known that was written before"
            raise WrongValuesError([Wrong(("columns",), "none is for the tid", fix)])
        return self


class CasJobsCatalogue(Section):
    """A table in a context of CasJobs, SciServer's batch SQL service."""

    name: str = Field(validation_alias=NAME_KEY, exclude=True)
    kind: Annotated[Kind, choice(Kind)] = "casjobs"
    rest: ServiceUrl = "https://skyserver.sdss.org/CasJobs/RestApi"
    login: ServiceUrl = "https://portal.sciserver.org/login-portal/keystone/v3/tokens"
    user: Annotated[str | None, Text] = None
    password: Annotated[Secret | None, Given] = None
    token: Annotated[Secret | None, Given] = None  # instead of user and password
    ca: Annotated[File | None, Given] = None  # None: those that the system trusts
    context: Annotated[str, Text] = "MyDB"
    table: TableName = "kfd_files"
    columns: ColumnMap = Field(
        default_factory=lambda: {"FileName": "name", "FileSize": "size", "tid": "tid"}
    )
    recreate: Flag = False
    sent: WhichSent = "false"
    has_password: ClassVar[bool] = False  # an address with one is refused

    @property
    def secret(self) -> tuple[str, AnySecret] | None:
        """The key of the secret that it needs, and where that lies."""
        if self.token is not None:
            return "token", self.token
        return None if self.password is None else ("password", self.password)

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if faults := list(_ways_in(self)):
            raise WrongValuesError(faults)
        return self


def _ways_in(settings: CasJobsCatalogue) -> Iterator[Wrong]:
    """A token, or a user with a password; not both, not parts."""
    parts = {"user": settings.user, "password": settings.password}
    fix = "write user and password, or token: {file: PATH}"
    for key, value in parts.items():
        if settings.token is not None and value is not None:
            yield Wrong((key,), "beside a token", fix)
        if settings.token is None and value is None:
            yield Wrong((key,), "missing", fix)


def knows_rows(settings: AnyCatalogue) -> bool:
    """Whether a row that is written again is known by its tid: it is there once."""
    return "tid" in settings.columns.values()


def kind_of(entry: object) -> str:
    """Which of the two an entry is; where that can't be told, the one that says what is wrong."""
    kind = entry.get("kind") if isinstance(entry, dict) else getattr(entry, "kind", None)
    return kind if kind == "casjobs" else "sql"


AnyCatalogue = SqlCatalogue | CasJobsCatalogue
Catalogue = Annotated[
    Annotated[SqlCatalogue, Tag("sql")] | Annotated[CasJobsCatalogue, Tag("casjobs")],
    Discriminator(kind_of),
]
