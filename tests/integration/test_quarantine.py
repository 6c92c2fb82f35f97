"""What couldn't get its name at a receiver: kept, released, and told to its sender."""

from __future__ import annotations

import json
import os
import re

from tests.integration.conftest import ONE_READER, MakeHost, pair
from tests.integration.host import Host
from tests.support import eventually


def quarantined(host: Host) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(host.ctl("quarantine", "list", "--json").stdout)[
        "entries"
    ]
    return listed


def test_released_it_is_delivered(make_host: MakeHost) -> None:
    sender, receiver = pair(make_host)
    (receiver.down / "below").write_bytes(b"in the way")
    receiver.start()
    sender.start()
    content = os.urandom(200_000)
    sender.put("below/run.trc", content)
    eventually(lambda: len(quarantined(receiver)) == 2, 60, every=0.2)  # it was sent again
    sender.terminate()

    entries = quarantined(receiver)
    assert [entry["held"] for entry in entries] == [True, False]
    assert receiver.status()["quarantine_used"] == len(content)
    newest = str(entries[0]["tid"])[-8:]
    shown = receiver.ctl("quarantine", "show", newest).stdout
    assert "sender told quarantined: its name can't be used here: Not a directory: below" in shown
    assert re.search(r"^release     below/run.trc: .*Not a directory: below$", shown, re.MULTILINE)
    refused = receiver.ctl("quarantine", "release", newest)
    assert refused.returncode == 1
    assert "fix: mend that, or give it another name with --to" in refused.stderr

    receiver.kill9()
    (receiver.down / "below").unlink()
    receiver.start()
    assert quarantined(receiver) == entries
    released = receiver.ctl("quarantine", "release", newest)
    assert released.stdout == "below/run.trc  published as below/run.trc\n", released.stderr
    assert receiver.published() == sender.sources()
    sender.start()
    sender.delivers("below/run.trc")
    assert receiver.published() == sender.sources()
    purged = receiver.ctl("quarantine", "purge", "--all")
    assert purged.stdout == "1 entry removed, 0 B freed.\n"
    assert receiver.status()["quarantine"] == 0
    receiver.clean()


def test_killed_in_a_release(make_host: MakeHost) -> None:
    host = make_host(pools=ONE_READER)
    (host.down / "below").write_bytes(b"in the way")
    host.environment = {"KFD_CRASH_AT": "release.intended"}
    host.start()
    host.put("below/run.trc", b"content")
    eventually(lambda: [entry["held"] for entry in quarantined(host)] == [True], 60, every=0.2)
    (host.down / "below").unlink()
    tid = str(quarantined(host)[0]["tid"])
    assert host.ctl("quarantine", "release", tid).returncode == 3
    eventually(lambda: not host.running)
    host.environment = {}
    host.start()
    host.receives("below/run.trc")
    assert quarantined(host) == []
    host.delivers("below/run.trc")
    host.clean()
