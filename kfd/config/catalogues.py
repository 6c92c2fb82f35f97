"""The section ``catalogue``: databases elsewhere that are told of files, by name.

Each is of a ``kind``: ``sql``, any database that SQLAlchemy knows and the default, or ``casjobs``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, Self, get_args

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

MAX_NAME = 63  # bytes: PostgreSQL's; others take longer ones

_URL = re.compile(r"([A-Za-z][A-Za-z0-9_+.-]*)://(?:([^:/@]*)(:.*)?@)?([^@]*)", re.DOTALL)
_SECRET_OPTION = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
_TABLE = re.compile(r"[^\x00-\x1f.\"`\[\]]+(\.[^\x00-\x1f.\"`\[\]]+)?")
_WEB = re.compile(
    r"(https://[^\s@?#/]+|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?)(/[^\s@?#]*)?", re.ASCII
)
_COLUMN = re.compile(r"[^\x00-\x1f\"`\[\]]+")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """SQLAlchemy's address of a database. ``text`` may hold a password: never show or log it."""

    text: str = field(repr=False)

    def shown(self) -> str:
        """It as people may see it."""
        match = _URL.fullmatch(self.text)
        assert match is not None
        driver, user, password, rest = match.groups()
        hidden = f":{HIDDEN}" if password else ""
        who = "" if user is None else f"{user}{hidden}@"
        options = _SECRET_OPTION.sub(rf"\g<1>{HIDDEN}", rest)
        return f"{driver}://{who}{options}"


def _read_url(text: str) -> DatabaseUrl:
    # What was found isn't quoted: there may be a password in it.
    if _URL.fullmatch(text) is None or not text.isprintable():
        raise WrongValueError(
            "not the address of a database",
            "write it like postgresql+psycopg://USER@HOST/DATABASE, or sqlite:////absolute/file.db",
        )
    return DatabaseUrl(text)


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
        if "tid" not in self.columns.values():
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
    columns: ColumnMap = Field(default_factory=lambda: {"FileName": "name", "FileSize": "size"})
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


def kind_of(entry: object) -> str:
    """Which of the two an entry is; where that can't be told, the one that says what is wrong."""
    kind = entry.get("kind") if isinstance(entry, dict) else getattr(entry, "kind", None)
    return kind if kind == "casjobs" else "sql"


AnyCatalogue = SqlCatalogue | CasJobsCatalogue
Catalogue = Annotated[
    Annotated[SqlCatalogue, Tag("sql")] | Annotated[CasJobsCatalogue, Tag("casjobs")],
    Discriminator(kind_of),
]
