"""What keeps parts of the daemon from working now, as ``status`` shows it; but not what a check has
just said already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kfd.control import Problem
from kfd.control.examination import Check, Outcome
from kfd.daemon.health import Health
from kfd.daemon.reload import SCOPE
from kfd.daemon.topics.topics import UNREACHABLE
from kfd.examination.brokers import LOGIN
from kfd.examination.checks import well

_OF_ROUTES = {
    "directory": "uploads.{}",
    "then": "uploads.{}.then",
    "disk": "downloads.{}",
    "space": "downloads.{}.space",
}
_OF_FILE = {"refused": Outcome.FAIL, "restart": Outcome.WARN}


def look_at_problems(health: Health, made: Sequence[Check]) -> Iterator[Check]:
    """Those that none of the checks that were ``made`` has told."""
    problems = health.by_key()
    told = set()
    for (scope, key), problem in problems.items():
        line = (problem.scope, problem.text)
        as_grave = {Outcome.FAIL, _outcome(problem)}
        found = [check for check in made if check.outcome in as_grave or _kept_out(check)]
        if line not in told and not any(_tells(check, scope, key) for check in found):
            told.add(line)  # each of a route's consumers may have the same
            yield Check(problem.scope, _outcome(problem), problem.text, problem.fix)
    if not problems:
        yield well("now", "nothing is degraded")


def _outcome(problem: Problem) -> Outcome:
    return Outcome.FAIL if problem.degrades else Outcome.WARN


def _kept_out(check: Check) -> bool:
    """No broker was reached: what each of them is, the checks before have told."""
    return (check.name, check.outcome) == (LOGIN, Outcome.SKIPPED)


def _tells(check: Check, scope: str, key: str) -> bool:
    """Whether a check that found something has found this."""
    kind = key.partition(" ")[0]
    if kind == "topic":
        return check.name == key
    if kind.startswith("consumer-"):
        return check.name == LOGIN
    if (scope, key) == ("kafka", UNREACHABLE):
        return check.name == LOGIN or check.name.startswith("broker ")
    if scope == SCOPE:
        return (check.name, check.outcome) == (SCOPE, _OF_FILE.get(key))
    return kind in _OF_ROUTES and check.name == _OF_ROUTES[kind].format(scope)
