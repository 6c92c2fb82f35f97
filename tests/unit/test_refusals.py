"""Errors on their way through the socket."""

from __future__ import annotations

import pytest

from kfd.errors import (
    ConfigError,
    ExitCode,
    KfdError,
    NoSuchTransferError,
    NotPermittedError,
    TimedOutError,
)
from kfd.refusals import from_varlink, not_permitted, to_varlink
from kfd.varlink import SERVICE, VarlinkError


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (NotPermittedError("no", fix="ask"), NotPermittedError),
        (NoSuchTransferError("none", fix="look"), NoSuchTransferError),
        (ConfigError("wrong", where="kfd.yaml:3", fix="mend"), KfdError),
        (TimedOutError("late"), KfdError),
    ],
)
def test_errors_keep_text_fix_and_exit_code(raised: KfdError, kind: type[KfdError]) -> None:
    got = from_varlink(to_varlink(raised))
    assert isinstance(got, kind)
    assert (str(got), got.fix, got.exit_code) == (str(raised), raised.fix, raised.exit_code)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (VarlinkError(f"{SERVICE}.MethodNotFound", {"method": "a.B"}), "MethodNotFound: a.B"),
        (VarlinkError("x.y.Z", {}), "x.y.Z"),
        (VarlinkError("io.kfd.Control.New", {}), "io.kfd.Control.New"),
        (VarlinkError("io.kfd.Control.Refused", {"text": 1}), "text: a string is expected"),
    ],
)
def test_errors_that_are_not_known_are_told(error: VarlinkError, text: str) -> None:
    assert text in str(from_varlink(error))


def test_an_exit_code_of_a_newer_version_is_a_failure() -> None:
    fields = {"text": "new", "fix": "", "exit_code": 99}
    assert from_varlink(VarlinkError("io.kfd.Control.Refused", fields)).exit_code == 1
    assert ExitCode.FAILED == 1


def test_who_is_not_permitted_learns_how_to_become_so() -> None:
    error = not_permitted("anna", "/run/kfd/kfd.sock", "kfd")
    assert str(error) == "anna may not use /run/kfd/kfd.sock"
    assert error.fix == "sudo usermod -aG kfd anna, then log in again"
    assert "usermod" not in not_permitted("anna", "/run/kfd/kfd.sock", None).fix
