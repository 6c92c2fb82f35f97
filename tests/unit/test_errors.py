"""Every error that kfd raises says what to do: looked for in the source, not in what was tried."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kfd.errors import ConfigError, ExitCode, KfdError, PermissionProblemError, all_of, faults_of
from tests.support import CHECKOUT

SOURCES = sorted((CHECKOUT / "kfd").rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}
# These give the fix themselves, the same for each.
WITH_THEIR_OWN = {"DiskError", "RefusedPropertyError"}


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def error_classes() -> set[str]:
    known: set[str] = set()
    found = {"KfdError"}
    while found != known:
        known = set(found)
        for tree in TREES.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and known & {name_of(b) for b in node.bases}:
                    found.add(node.name)
    return known


def made_without_a_fix() -> Iterator[str]:
    classes = error_classes() - WITH_THEIR_OWN
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or name_of(node.func) not in classes:
                continue
            if isinstance(node.func, ast.Attribute) and name_of(node.func.value) == "click":
                continue
            fixes = [keyword.value for keyword in node.keywords if keyword.arg == "fix"]
            empty = fixes and isinstance(fixes[0], ast.Constant) and not fixes[0].value
            if not fixes or empty:
                yield f"{path.relative_to(CHECKOUT)}:{node.lineno}"


def reported_without_a_fix() -> Iterator[str]:
    """Problems on the health board: ``report(scope, key, text, fix)``."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("report", "note")
                and name_of(node.func.value) in ("_health", "health")
                and not any(isinstance(one, ast.Starred) for one in node.args)
                and len(node.args) + len(node.keywords) < 4
            ):
                yield f"{path.relative_to(CHECKOUT)}:{node.lineno}"


def test_every_error_has_a_fix() -> None:
    assert len(error_classes()) > 10
    assert list(made_without_a_fix()) == []


def test_every_problem_has_a_fix() -> None:
    assert list(reported_without_a_fix()) == []


def test_one_error_stays_itself() -> None:
    error = KfdError("a", fix="b")
    assert all_of([error]) is error
    assert faults_of(error) == (error,)


def test_several_become_one_with_all_of_them() -> None:
    one = ConfigError("a", fix="x", faults=(ConfigError("b", fix="y"), ConfigError("c", fix="z")))
    together = all_of([one, PermissionProblemError("d", fix="w")])
    assert [fault.what for fault in faults_of(together)] == ["b", "c", "d"]
    assert together.exit_code is ExitCode.CONFIGURATION
    both = all_of([PermissionProblemError("a", fix="x"), PermissionProblemError("b", fix="y")])
    assert both.exit_code is ExitCode.PERMISSION
