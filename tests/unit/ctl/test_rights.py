"""``kfdctl config check`` by root: what the service's user, not root, may do."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.config import from_values
from kfd.config.accounts import Account
from kfd.ctl.hostchecks import missing_group
from kfd.ctl.rights import rights_faults
from tests.support import unavailable
from tests.unit.ctl.kfdctl import run

NOBODY = pwd.getpwuid(65534).pw_name


@pytest.fixture
def lab() -> Iterator[Path]:
    """A directory that everybody may reach."""
    if os.geteuid() != 0:
        unavailable("only root can be another user")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def faults(lab: Path, then: object, user: str = NOBODY) -> list[str]:
    account = Account.named(user)
    assert account is not None
    route = {"directory": str(lab / "up"), "topic": "t", "then": then}
    password = {"file": str(lab / "password")}
    config = from_values(
        {"kafka": {"bootstrap.servers": "k", "sasl.password": password}, "uploads": {"u": route}}
    )
    return [str(one) for one in rights_faults(config, account, lab / "kfd.yaml")]


def test_what_the_services_user_may_not_do(lab: Path) -> None:
    for name in ("kfd.yaml", "password"):
        (lab / name).write_text("")
        (lab / name).chmod(0o600)
    (lab / "up").mkdir()
    (lab / "up").chmod(0o700)
    (lab / "done").mkdir()
    (lab / "done").chmod(0o755)
    assert faults(lab, {"move": str(lab / "done")}) == [
        f"{NOBODY} may not read {lab}/kfd.yaml",
        f"kafka.sasl.password: {NOBODY} may not read {lab}/password",
        f"uploads.u.directory: {NOBODY} may not read {lab}/up",
        f"uploads.u.then: {NOBODY} may not write in {lab}/up",
        f"uploads.u.then: {NOBODY} may not write in {lab}/done",
    ]
    assert faults(lab, "delete", "root") == []
    for name in ("kfd.yaml", "password", "up"):
        os.chown(lab / name, 65534, -1)
    assert faults(lab, "delete") == []


def test_what_is_missing_is_told_elsewhere(lab: Path) -> None:
    assert faults(lab, "keep") == []


def test_a_control_group_that_does_not_exist_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "kfd.yaml"
    path.write_text("kafka: {bootstrap.servers: k}\ncontrol_group: no-such-group\n")
    code, out, err = run("config", "check", path)
    assert (code, "valid" in out) == (0, True)
    assert "kfd.yaml:2: control_group: no group no-such-group on this host" in err
    assert (
        missing_group(from_values({"kafka": {"bootstrap.servers": "k"}, "control_group": "root"}))
        == ""
    )


def test_a_file_in_the_place_of_a_directory_is_no_matter_of_rights(tmp_path: Path) -> None:
    (tmp_path / "up").write_text("")
    path = tmp_path / "kfd.yaml"
    path.write_text(
        "kafka: {bootstrap.servers: k}\n"
        f"uploads: {{u: {{directory: {tmp_path}/up, topic: t, then: delete}}}}\n"
    )
    code, _, err = run("config", "check", path)
    assert (code, "Not a directory" in err, "setfacl" in err) == (1, True, False)
