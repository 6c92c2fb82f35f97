"""The part of Transact-SQL that kfd writes, read strictly, and executed on tables in memory.

It knows nothing of how kfd writes it: what is quoted wrongly is a syntax error here as it is in SQL
Server, or a second statement that is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Data = list[list[Any]]


class SqlError(Exception):
    """What SQL Server says."""


@dataclass(frozen=True)
class Token:
    kind: str  # word, name, text (N'...'), ascii ('...'), number, binary, mark, end
    text: str
    value: Any = None


@dataclass(frozen=True)
class Kind:
    """A type of SQL. ``length``: of text in UTF-16 units, of binary in bytes; None is MAX."""

    name: str
    length: int | None = None


@dataclass(frozen=True)
class Value:
    kind: Kind
    value: Any


@dataclass
class Column:
    name: str
    kind: Kind
    nullable: bool = True
    exact: bool = False  # a binary collation: case matters


@dataclass
class Table:
    columns: list[Column]
    key: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    trigger: Callable[[dict[str, Any]], bool] = lambda _: True  # False: it raises

    def named(self, name: str) -> Column:
        for column in self.columns:
            if column.name.casefold() == name.casefold():
                return column
        raise SqlError(f"Invalid column name '{name}'.")


_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[0-9]+")
_BINARY = re.compile(r"0x([0-9A-Fa-f]*)")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")


def tokens(sql: str) -> list[Token]:
    """All of a batch. Characters outside of literals are ASCII; comments are left out."""
    found = []
    place = 0
    while place < len(sql):
        token, place = _token(sql, place)
        if token is not None:
            found.append(token)
    return [*found, Token("end", "")]


def _token(sql: str, at: int) -> tuple[Token | None, int]:
    if sql[at] in " \t\r\n":
        return None, at + 1
    if sql.startswith("--", at):
        end = sql.find("\n", at)
        return None, len(sql) if end < 0 else end
    if sql.startswith("N'", at):
        value, end = _quoted(sql, at + 2, "'")
        return Token("text", sql[at:end], value), end
    if sql[at] == "'":
        value, end = _quoted(sql, at + 1, "'")
        # A literal without N goes through the code page of the database.
        return Token("ascii", sql[at:end], value.encode("cp1252", "replace").decode("cp1252")), end
    if sql[at] == "[":
        value, end = _quoted(sql, at + 1, "]")
        return Token("name", sql[at:end], value), end
    return _plain(sql, at)


def _plain(sql: str, at: int) -> tuple[Token, int]:
    if match := _BINARY.match(sql, at):
        return Token("binary", match[0], bytes.fromhex(match[1])), match.end()
    if match := _NUMBER.match(sql, at):
        return Token("number", match[0], int(match[0])), match.end()
    if match := _WORD.match(sql, at):
        return Token("word", match[0].upper()), match.end()
    if sql[at] in "(),.=;":
        return Token("mark", sql[at]), at + 1
    raise SqlError(f"Incorrect syntax near '{sql[at]}'.")


def _quoted(sql: str, at: int, end: str) -> tuple[str, int]:
    text = ""
    while True:
        stop = sql.find(end, at)
        if stop < 0:
            raise SqlError(f"Unclosed quotation mark after the character string '{text[:40]}'.")
        text += sql[at:stop]
        if sql.startswith(end * 2, stop):
            text += end
            at = stop + 2
        else:
            return text, stop + 1


class Database:
    """The tables of one context."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.dropped: list[str] = []

    def table(self, name: str) -> Table:
        for known, table in self.tables.items():
            if known.casefold() == name.casefold():
                return table
        raise SqlError(f"Invalid object name '{name}'.")

    def run(self, sql: str) -> Data:
        """Every statement of it; the rows of the first one that has some. Lines with GO cut a text
        into batches, whatever they stand in, as programs do that send batches."""
        first: Data = []
        for batch in re.split(r"(?im)^[ \t]*GO[ \t]*\r?$", sql):
            parser = _Parser(self, tokens(batch))
            while not parser.at_end():
                data = parser.statement()
                first = first or data
        return first


class _Parser:
    def __init__(self, database: Database, found: list[Token]) -> None:
        self._database = database
        self._tokens = found
        self._at = 0

    def at_end(self) -> bool:
        while self._is("mark", ";"):
            self._at += 1
        return self._peek().kind == "end"

    def statement(self) -> Data:
        word = self._take("word").text
        statements: dict[str, Callable[[], Data]] = {
            "SELECT": self._select, "DROP": self._drop,
            "CREATE": self._create, "INSERT": self._insert,
        }  # fmt: skip
        if word not in statements:
            raise SqlError(f"Could not find stored procedure '{word}'.")
        return statements[word]()

    # what statements are

    def _select(self) -> Data:
        self._words("COLUMN_NAME", "FROM", "INFORMATION_SCHEMA")
        self._mark(".")
        self._words("COLUMNS", "WHERE", "TABLE_SCHEMA")
        self._mark("=")
        schema = self._schema()
        self._words("AND", "TABLE_NAME")
        self._mark("=")
        name = self._take("text").value
        if schema.casefold() != "dbo":
            return []
        try:
            return [[column.name] for column in self._database.table(name).columns]
        except SqlError:
            return []

    def _schema(self) -> str:
        if self._peek().kind == "text":
            return str(self._take("text").value)
        self._words("SCHEMA_NAME")
        self._mark("(")
        self._mark(")")
        return "dbo"

    def _drop(self) -> Data:
        self._words("TABLE")
        name = self._qualified()
        try:
            self._database.table(name)
        except SqlError:
            raise SqlError(
                f"Cannot drop the table '{name}', because it does not exist or you do not have"
                " permission."
            ) from None
        self._database.tables = {
            known: table
            for known, table in self._database.tables.items()
            if known.casefold() != name.casefold()
        }
        self._database.dropped.append(name)
        return []

    def _create(self) -> Data:
        self._words("TABLE")
        name = self._qualified()
        self._mark("(")
        table = Table([])
        while True:
            if self._is("word", "PRIMARY"):
                self._words("PRIMARY", "KEY")
                table.key = self._names()
            else:
                table.columns.append(self._column())
            if not self._is("mark", ","):
                break
            self._mark(",")
        self._mark(")")
        if name.casefold() in map(str.casefold, self._database.tables):
            raise SqlError(f"There is already an object named '{name}' in the database.")
        for column in table.key:
            assert not table.named(column).nullable, "a column of a primary key may be NULL"
        self._database.tables[name] = table
        return []

    def _column(self) -> Column:
        column = Column(self._take("name").value, self._kind())
        if self._is("word", "COLLATE"):
            self._words("COLLATE")
            column.exact = self._take("word").text.endswith("_BIN2")
        if self._is("word", "NOT"):
            self._words("NOT")
            column.nullable = False
        self._words("NULL")
        return column

    def _kind(self) -> Kind:
        name = self._take("word").text
        if name == "BIGINT":
            return Kind(name)
        self._mark("(")
        length = self._peek()
        self._at += 1
        self._mark(")")
        if name == "DATETIME2" and length.kind == "number":
            return Kind(name)
        if name not in {"NVARCHAR", "VARBINARY"}:
            raise SqlError(f"Cannot find data type {name}.")
        limit = 4000 if name == "NVARCHAR" else 8000
        if (length.kind, length.text) == ("word", "MAX"):
            return Kind(name)
        if length.kind != "number" or not 1 <= length.value <= limit:
            raise SqlError(f"The size ({length.text}) given to the column exceeds the maximum.")
        return Kind(name, length.value)

    def _insert(self) -> Data:
        self._words("INTO")
        target = self._database.table(self._qualified())
        into = self._names()
        self._words("SELECT")
        wanted = self._list(self._of_v)
        self._words("FROM")
        self._mark("(")
        self._words("VALUES")
        given = self._list(lambda: self._bracketed(self._value))
        self._mark(")")
        self._words("AS", "V")
        source = self._names()
        key = self._not_exists(target) if self._is("word", "WHERE") else []
        rows = _columns_typed([dict(zip(source, row, strict=True)) for row in given])
        for row in rows:
            assert list(row) == source
        _put(target, into, [[row[name] for name in wanted] for row in rows], key)
        return []

    def _not_exists(self, target: Table) -> list[str]:
        self._words("WHERE", "NOT", "EXISTS")
        self._mark("(")
        self._words("SELECT")
        self._take("number")
        self._words("FROM")
        assert self._database.table(self._qualified()) is target
        self._words("AS", "T", "WITH")
        self._mark("(")
        self._words("UPDLOCK")
        self._mark(",")
        self._words("HOLDLOCK")
        self._mark(")")
        key = []
        while self._take("word").text in {"WHERE", "AND"}:
            self._words("T")
            self._mark(".")
            name = self._take("name").value
            self._mark("=")
            if self._of_v() != name:
                raise SqlError("not what kfd asks")
            key.append(target.named(name).name)
            if self._is("mark", ")"):
                break
        self._mark(")")
        return key

    def _of_v(self) -> str:
        self._words("V")
        self._mark(".")
        return str(self._take("name").value)

    # values

    def _value(self) -> Value:
        token = self._peek()
        self._at += 1
        if token.kind in {"text", "ascii"}:
            length = len(token.value.encode("utf-16-le", "surrogatepass")) // 2
            return Value(Kind("NVARCHAR", length if length <= 4000 else None), token.value)
        if token.kind == "binary":
            return Value(Kind("VARBINARY", len(token.value)), token.value)
        if token.kind == "number":
            return Value(Kind("BIGINT"), token.value)
        if token == Token("word", "NULL"):
            return Value(Kind("NULL"), None)
        if token == Token("word", "CAST"):
            return self._cast()
        raise SqlError(f"Incorrect syntax near '{token.text}'.")

    def _cast(self) -> Value:
        self._mark("(")
        value = self._value().value
        self._words("AS")
        kind = self._kind()
        self._mark(")")
        if value is None:
            return Value(kind, None)
        if kind.name != "DATETIME2" or _DATETIME.fullmatch(str(value)) is None:
            raise SqlError("Conversion failed when converting date and/or time.")
        return Value(kind, datetime.fromisoformat(value))

    # the grammar's small parts

    def _bracketed(self, part: Callable[[], Value]) -> list[Value]:
        self._mark("(")
        found = self._list(part)
        self._mark(")")
        return found

    def _list(self, part: Callable[[], Any]) -> list[Any]:
        found = [part()]
        while self._is("mark", ","):
            self._mark(",")
            found.append(part())
        return found

    def _names(self) -> list[str]:
        self._mark("(")
        found = self._list(lambda: self._take("name").value)
        self._mark(")")
        return found

    def _qualified(self) -> str:
        name = str(self._take("name").value)
        if not self._is("mark", "."):
            return name
        self._mark(".")
        if name.casefold() != "dbo":
            raise SqlError(f'The specified schema name "{name}" does not exist.')
        return str(self._take("name").value)

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _is(self, kind: str, text: str) -> bool:
        return (self._peek().kind, self._peek().text) == (kind, text)

    def _take(self, kind: str) -> Token:
        token = self._peek()
        if token.kind != kind:
            raise SqlError(f"Incorrect syntax near '{token.text}'.")
        self._at += 1
        return token

    def _mark(self, text: str) -> None:
        if self._take("mark").text != text:
            raise SqlError(f"Incorrect syntax near '{text}'.")

    def _words(self, *texts: str) -> None:
        for text in texts:
            if (found := self._take("word").text) != text:
                raise SqlError(f"Incorrect syntax near the keyword '{found}'.")


def _columns_typed(rows: list[dict[str, Value]]) -> list[dict[str, Value]]:
    """Each column of a table of values has one type; one of plain NULLs only has integers."""
    typed = [dict(row) for row in rows]
    for name in rows[0]:
        kinds = {row[name].kind.name for row in rows} - {"NULL"}
        if len(kinds) > 1:
            raise SqlError(f"Operand type clash: {' is incompatible with '.join(sorted(kinds))}")
        kind = Kind(kinds.pop() if kinds else "BIGINT")
        for row in typed:
            if row[name].kind.name == "NULL":
                row[name] = Value(kind, None)
    return typed


def _put(target: Table, into: list[str], rows: list[list[Value]], key: list[str]) -> None:
    """All of the rows whose key isn't there, or none and an error."""
    columns = [target.named(name) for name in into]
    kept = list(target.rows)
    present = {_identity(target, row, key) for row in kept} if key else set()
    for values in rows:
        row = {
            column.name: _fitted(column, value)
            for column, value in zip(columns, values, strict=True)
        }
        if key and _identity(target, row, key) in present:
            continue
        for column in target.columns:
            if row.setdefault(column.name, None) is None and not column.nullable:
                raise SqlError(
                    f"Cannot insert the value NULL into column '{column.name}'; column does not"
                    " allow nulls. INSERT fails."
                )
        if not target.trigger(row):
            raise SqlError("The transaction ended in the trigger. The batch has been aborted.")
        kept.append(row)
    _check_key(target, kept)
    target.rows = kept


def _fitted(column: Column, value: Value) -> Any:
    compatible = {
        "NVARCHAR": {"NVARCHAR", "BIGINT", "DATETIME2"},
        "BIGINT": {"BIGINT"},
        "VARBINARY": {"VARBINARY", "BIGINT"},
        "DATETIME2": {"DATETIME2", "NVARCHAR"},
        "DATETIME": {"DATETIME2", "NVARCHAR"},
    }
    if value.kind.name not in compatible[column.kind.name]:
        raise SqlError(
            f"Operand type clash: {value.kind.name.lower()} is incompatible with"
            f" {column.kind.name.lower()}"
        )
    if column.kind.name == "DATETIME" and value.value is not None and value.value.year < 1753:
        raise SqlError(
            "The conversion of a datetime2 data type to a datetime data type resulted in an"
            " out-of-range value."
        )
    limit = column.kind.length
    if value.value is not None and limit is not None:
        size = 8001 if value.kind.length is None else value.kind.length
        if value.kind.name in {"NVARCHAR", "VARBINARY"} and size > limit:
            raise SqlError("String or binary data would be truncated.")
    if column.kind.name == "BIGINT" and value.value is not None and value.value >= 2**63:
        raise SqlError("Arithmetic overflow error converting expression to data type bigint.")
    return value.value


def _identity(target: Table, row: dict[str, Any], key: list[str]) -> tuple[Any, ...]:
    """Text compares without case and without spaces at its end, but in a binary collation."""
    return tuple(
        row[name].rstrip(" ") if target.named(name).exact else row[name].rstrip(" ").casefold()
        for name in key
    )


def _check_key(target: Table, rows: list[dict[str, Any]]) -> None:
    names = [target.named(name).name for name in target.key]
    identities = [_identity(target, row, names) for row in rows]
    if names and len(set(identities)) != len(identities):
        raise SqlError(
            "Violation of PRIMARY KEY constraint. Cannot insert duplicate key in object."
        )
