"""``kfdctl doctor``: what is wrong, and how to mend it, tried inside the service where it runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kfd.control.examination import (
    AclsParameters,
    AclsReply,
    Check,
    DoctorParameters,
    DoctorReply,
    Outcome,
)
from kfd.ctl.client import Client, candidates
from kfd.ctl.render import coloured, note, plain, print_json, say, say_wrapped
from kfd.ctl.settings import Settings, verb
from kfd.errors import ExitCode, KfdError, NotRunningError
from kfd.unit import config_of, of_service

if TYPE_CHECKING:
    from kfd.config import Config

_SECONDS = 180.0  # for all checks; each has a deadline of its own
_MARKS = {
    Outcome.OK: ("ok  ", "green"),
    Outcome.WARN: ("warn", "yellow"),
    Outcome.FAIL: ("FAIL", "red"),
    Outcome.SKIPPED: ("-   ", ""),
}


@click.command()
@click.option("--acls", is_flag=True, help="Print what Kafka's administrator must grant.")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="What to look at where kfd does not run.  [default: that of the service]",
)
@verb
def doctor_command(settings: Settings, acls: bool, path: Path | None) -> ExitCode:
    """Look for what is wrong here, and say how to mend it.

    The checks are made by the service itself: as its user, in its sandbox, with its login. Where it
    does not run, kfdctl makes those that it can, and says why it does not run.

    Exits with 1 if a check fails, and with 3 if kfd does not run.
    """
    if acls:
        return _print_acls(settings, path)
    try:
        client = settings.connect()
    except NotRunningError as error:
        return _outside(settings, path, error)
    _not_looked_at(path)
    with client:
        return _report(settings, _inside(client), running=True)


def _not_looked_at(path: Path | None) -> None:
    if path is not None:
        note(plain(f"! {path} is not looked at: kfd runs, and tells of what it runs with"))
        note(plain(f"  fix: kfdctl config check {path}"))


def _inside(client: Client) -> Iterator[Check]:
    for answer in client.stream(DoctorParameters(), DoctorReply, _SECONDS):
        yield from answer.checks
    named = of_service(client.path)
    if named is not None:
        from kfd.ctl.service import service  # noqa: PLC0415 - costs what only doctor needs

        unit = service(named)
        yield from unit.care() if unit is not None else ()


def _outside(settings: Settings, path: Path | None, error: NotRunningError) -> ExitCode:
    from kfd.ctl.outside import look_from_outside  # noqa: PLC0415 - costs pydantic and librdkafka

    if not settings.as_json:
        note(plain(f"{error}; this is what can be seen from outside:"))
    named = _unit(settings)
    _report(settings, look_from_outside(path or _config_of(named), named), running=False)
    return ExitCode.NOT_RUNNING


def _unit(settings: Settings) -> str | None:
    """The unit whose socket was looked for first; None for a socket that is no unit's."""
    return of_service(candidates(settings.socket)[0])


def _config_of(unit: str | None) -> Path | None:
    return config_of(unit) if unit is not None else None


def _report(settings: Settings, checks: Iterable[Check], *, running: bool) -> ExitCode:
    made = []
    for check in checks:
        made.append(check)
        if not settings.as_json:
            _show(check)
    counts = Counter(check.outcome for check in made)
    if settings.as_json:
        print_json(running=running, checks=made)
    else:
        say(_sum(counts))
    return ExitCode.FAILED if counts[Outcome.FAIL] else ExitCode.DONE


def _show(check: Check) -> None:
    mark, colour = _MARKS[check.outcome]
    text = plain(f"{check.name}: {check.text}")
    say_wrapped(f"{coloured(mark, colour) if colour else mark} {text}", " " * 5)
    if check.fix:
        say(f"       fix: {plain(check.fix)}")
    sys.stdout.flush()  # one at a time, also into a pipe


def _sum(counts: Counter[Outcome]) -> str:
    words = {
        Outcome.FAIL: "wrong",
        Outcome.WARN: "doubtful",
        Outcome.OK: "well",
        Outcome.SKIPPED: "not looked at",
    }
    return "; ".join(f"{counts[one]} {word}" for one, word in words.items() if counts[one])


def _print_acls(settings: Settings, path: Path | None) -> ExitCode:
    wanted = _acls(settings, path)
    if settings.as_json:
        print_json(acls=wanted)
        return ExitCode.DONE
    from kfd.examination.topics import commands  # noqa: PLC0415 - costs librdkafka

    say(f"# For {wanted.principal}, to be run by an administrator of Kafka:")
    lines = commands(wanted.grants, wanted.servers, wanted.principal)
    for grant, line in zip(wanted.grants, lines, strict=True):
        say(f"# {grant.why}")
        say(line)
    return ExitCode.DONE


def _acls(settings: Settings, path: Path | None) -> AclsReply:
    """As the daemon says it; where it doesn't run, as the file does."""
    try:
        with settings.connect() as client:
            _not_looked_at(path)
            return client.call(AclsParameters(), AclsReply)
    except NotRunningError as error:
        file = path or _config_of(_unit(settings))
        if file is None:
            error.fix = f"--config FILE, if it is to be told from a file; {error.fix}"
            raise
        return _acls_of(_loaded(file))


def _loaded(path: Path) -> Config:
    from kfd.config import load  # noqa: PLC0415 - costs pydantic

    try:
        return load(path)
    except KfdError as error:
        error.fix = error.fix or "start kfd, which knows its configuration"
        raise


def _acls_of(config: Config) -> AclsReply:
    from kfd.acls import grants, principal  # noqa: PLC0415 - costs pydantic

    shown = {name: str(value) for name, value in config.kafka.shown().items()}
    return AclsReply(principal(shown), shown["bootstrap.servers"], grants(config))
