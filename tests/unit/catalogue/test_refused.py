"""Rows that somebody's trigger, policy or view doesn't let in: they alone are set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kfd.daemon.catalogue.sink import Row, SinkError
from kfd.daemon.catalogue.sql import SqlSink
from tests.postgres import PASSWORD, PostgreSQL
from tests.unit.catalogue.rows import row, sql_sink

TABLE = "CREATE TABLE t (tid text PRIMARY KEY, name text)"
COLUMNS = {"tid": "tid", "name": "name"}
BAD = [row(number, b"bad.trc") for number in range(100, 107)]
GOOD = [row(number) for number in range(20)]

Run = Callable[[str], None]


def by_trigger(run: Run, condition: str = "NEW.name ~ '^bad'") -> str:
    run(TABLE)
    run(f"CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {condition}"
        " THEN RAISE EXCEPTION 'no such names'; END IF; RETURN NEW; END $$")  # fmt: skip
    run("CREATE TRIGGER stop BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION stop()")
    return "t"


def by_view(run: Run, condition: str = "name ~ '^bad'") -> str:
    run(TABLE)
    run(f"CREATE VIEW v AS SELECT * FROM t WHERE NOT ({condition}) WITH CHECK OPTION")
    return "v"


def by_policy(run: Run, condition: str = "name ~ '^bad'") -> str:
    run(TABLE)
    run("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    run("DROP ROLE IF EXISTS clerk")
    run("CREATE ROLE clerk LOGIN PASSWORD '" + PASSWORD.replace("%", "%%") + "'")
    run("GRANT SELECT, INSERT ON t TO clerk")
    run("CREATE POLICY look ON t FOR SELECT USING (true)")
    run(f"CREATE POLICY put ON t FOR INSERT WITH CHECK (NOT ({condition}))")
    return "t"


REFUSING = [by_trigger, by_view, by_policy]


@pytest.fixture
def run(postgres: PostgreSQL, database: str) -> Run:
    def execute(statement: str) -> None:
        postgres.execute(database, statement)

    return execute


@pytest.fixture
def sink(postgres: PostgreSQL, database: str) -> Callable[[str], SqlSink]:
    def made(table: str) -> SqlSink:
        clerk = postgres.execute(
            database, "SELECT relrowsecurity FROM pg_class WHERE relname = 't'"
        )
        url = postgres.url(database)
        url = url.replace("kfd@", "clerk@") if clerk[0][0] else url
        return sql_sink(PASSWORD, url=url, table=table, columns=COLUMNS)

    return made


def rows_there(postgres: PostgreSQL, database: str) -> list[str]:
    return [tid for (tid,) in postgres.execute(database, "SELECT tid FROM t ORDER BY tid")]


def tids(rows: list[Row]) -> list[str]:
    return [one.tid for one in rows]


@pytest.fixture(autouse=True)
def _clerk_goes(postgres: PostgreSQL, database: str) -> Iterator[None]:
    yield
    postgres.execute(database, "DROP TABLE IF EXISTS t CASCADE")
    postgres.execute(database, "DROP ROLE IF EXISTS clerk")


@pytest.mark.parametrize("refusing", REFUSING)
def test_among_others(
    postgres: PostgreSQL, database: str, run: Run, sink: Callable[[str], SqlSink],
    refusing: Callable[[Run], str],
) -> None:  # fmt: skip
    here = sink(refusing(run))
    refused = here.write([*GOOD[:5], *BAD[:2], *GOOD[5:], BAD[2]])
    assert [one.row for one in refused] == BAD[:3]
    assert refused[0].reason
    assert rows_there(postgres, database) == tids(GOOD)


@pytest.mark.parametrize("refusing", REFUSING)
@pytest.mark.parametrize("before", [0, 1])
def test_alone(
    postgres: PostgreSQL, database: str, run: Run, sink: Callable[[str], SqlSink],
    refusing: Callable[[Run], str], before: int,
) -> None:  # fmt: skip
    """What is looked for is whether the table takes anything; nothing of that stays in it."""
    here = sink(refusing(run))
    here.write(GOOD[:before])
    assert [one.row for one in here.write(BAD[:1])] == BAD[:1]
    assert [one.row for one in here.write(BAD)] == BAD
    assert rows_there(postgres, database) == tids(GOOD[:before])


@pytest.mark.parametrize("refusing", REFUSING)
@pytest.mark.parametrize("many", [1, 20])
def test_a_table_that_takes_none_refuses_no_row(
    postgres: PostgreSQL, database: str, run: Run, sink: Callable[[str], SqlSink],
    refusing: Callable[[Run, str], str], many: int,
) -> None:  # fmt: skip
    here = sink(refusing(run, "true"))
    with pytest.raises(SinkError) as caught:
        here.write(GOOD[:many])
    assert caught.value.retry
    assert "see to the table" in caught.value.fix
    assert rows_there(postgres, database) == []


def test_a_table_that_is_gone_refuses_no_row(
    postgres: PostgreSQL, database: str, run: Run, sink: Callable[[str], SqlSink]
) -> None:
    run(TABLE)
    here = sink("t")
    here.write(GOOD[:3])
    run("DROP TABLE t")
    with pytest.raises(SinkError, match='relation "t" does not exist'):
        here.write(GOOD)
    run(TABLE)
    assert here.write(GOOD) == []


WITHOUT_KEY = "CREATE TABLE t (tid text, name text)"


@pytest.mark.parametrize("table", [TABLE, WITHOUT_KEY])
@pytest.mark.parametrize("moment", ["BEFORE", "AFTER"])
@pytest.mark.parametrize("many", [1, 20])
def test_a_table_that_is_closed_later_refuses_no_row(
    postgres: PostgreSQL, database: str, run: Run, sink: Callable[[str], SqlSink],
    table: str, moment: str, many: int,
) -> None:  # fmt: skip
    """Whether it takes others isn't told by a row that it has: of that nothing is inserted."""
    run(table)
    here = sink("t")
    assert here.write(BAD) == []
    run(raising())
    run(f"CREATE TRIGGER closed {moment} INSERT ON t FOR EACH ROW EXECUTE FUNCTION stop()")
    with pytest.raises(SinkError, match="closed"):
        here.write(GOOD[:many])
    run("DROP TRIGGER closed ON t")
    assert here.write(GOOD[:many]) == []
    assert len(rows_there(postgres, database)) == len(BAD) + many


def raising(condition: str = "") -> str:
    begin, end = (f"IF {condition} THEN", "END IF;") if condition else ("", "")
    return (
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {begin} RAISE EXCEPTION 'closed'; {end} RETURN NEW; END $$"
    )


def test_a_table_that_says_no_only_at_the_end_refuses_no_row(
    run: Run, sink: Callable[[str], SqlSink]
) -> None:
    run(TABLE)
    run(raising())
    run("CREATE CONSTRAINT TRIGGER closed AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION stop()")  # fmt: skip
    with pytest.raises(SinkError, match="closed"):
        sink("t").write(GOOD)


def test_rows_that_are_there_do_not_tell_that_a_table_takes_others(
    run: Run, sink: Callable[[str], SqlSink]
) -> None:
    """As after a kill in the middle of a batch."""
    run(TABLE)
    here = sink("t")
    here.write(GOOD[:3])
    run(raising())
    run("CREATE TRIGGER closed AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION stop()")
    with pytest.raises(SinkError, match="closed"):
        here.write(GOOD)


def test_a_table_that_is_closed_in_the_middle_refuses_no_row(
    postgres: PostgreSQL, database: str, run: Run, sink: Callable[[str], SqlSink]
) -> None:
    run(TABLE)
    run(raising("(SELECT count(*) FROM t) >= 5"))
    run("CREATE TRIGGER closed BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION stop()")
    with pytest.raises(SinkError, match="closed"):
        sink("t").write(GOOD)
    assert rows_there(postgres, database) == tids(GOOD[:5])


def test_a_row_is_refused_though_names_are_unique(run: Run, sink: Callable[[str], SqlSink]) -> None:
    """What is asked about the table mustn't be refused for that."""
    by_trigger(run)
    run("CREATE UNIQUE INDEX once ON t (name)")
    assert [one.row for one in sink("t").write([GOOD[0], BAD[0]])] == BAD[:1]
