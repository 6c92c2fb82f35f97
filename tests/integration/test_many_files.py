"""``kfdctl send`` of very many files: each is told of once, and arrives once."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.host import Host

FILES = 10_000


def test_ten_thousand_files_in_one_command(host: Host, tmp_path: Path) -> None:
    top = tmp_path / "campaign"
    for number in range(FILES):
        path = top / f"{number % 97}" / f"{number}.trc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    done = host.ctl("send", "--recursive", top, deadline=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("campaign/") for line in lines) == FILES
    assert lines[-1].startswith(f"In Kafka ({FILES:,} files, ")
    assert host.arrived() == FILES
    again = host.ctl("send", "--json", "--recursive", top, deadline=300)
    assert all(one["already"] for one in json.loads(again.stdout)["files"])
    assert host.arrived() == FILES
    host.receives(*(f"campaign/{number % 97}/{number}.trc" for number in range(FILES)), deadline=60)
