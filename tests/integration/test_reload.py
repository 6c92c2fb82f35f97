"""Reading the configuration again while files move: all of it or nothing, and the others go on."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.daemon import Daemon
from tests.integration.host import Host
from tests.support import eventually

pytestmark = pytest.mark.broker
Values = dict[str, Any]

DONE, CONFIGURATION, PERMISSION = 0, 78, 77


def rewrite(daemon: Daemon, change: Callable[[Values], object]) -> None:
    """Let ``change`` edit what kfd.yaml says."""
    values = yaml.safe_load(daemon.config.read_text())
    change(values)
    daemon.config.write_text(yaml.safe_dump(values))


def reload(daemon: Daemon, change: Callable[[Values], object]) -> dict[str, Any]:
    """Edit the file, and have it read; what the daemon answers."""
    rewrite(daemon, change)
    return daemon.call("Reload")


def rejoins(daemon: Daemon, consumer: str) -> int:
    """How often a consumer was given partitions."""
    return len(re.findall(rf"{consumer}: reads partitions \[\d", daemon.log()))


def scopes(daemon: Daemon) -> dict[str, str]:
    """What ``status`` shows to be wrong, by scope."""
    return {one["scope"]: one["text"] for one in daemon.status()["problems"]}


def upload(host: Host, name: str, topic: str, **more: Any) -> Values:
    directory = host.config.parent / name
    directory.mkdir(exist_ok=True)
    return {"directory": str(directory), "topic": topic, "settle": "200ms", **more}


def put_at_once(host: Host, name: str, size: int) -> None:
    """A large file that is whole when it is seen, however slow the machine is."""
    staged = host.config.parent / name
    staged.write_bytes(os.urandom(size))
    staged.rename(host.up / name)


def test_routes_come_and_go_and_the_others_go_on(host: Host, topic: str) -> None:
    host.put("before", b"1")
    host.receives("before")
    answer = reload(host, lambda v: v["uploads"].update(more=upload(host, "more", topic)))
    assert answer["added"] == ["uploads.more"]
    assert (answer["changed"], answer["removed"], answer["restart"]) == ([], [], [])
    (host.config.parent / "more" / "new").write_bytes(b"2")
    host.receives("new")
    answer = reload(host, lambda v: v["uploads"].pop("more"))
    assert answer["removed"] == ["uploads.more"]
    (host.config.parent / "more" / "unseen").write_bytes(b"3")
    host.put("after", b"4")
    host.receives("after")
    assert [one["route"] for one in host.status()["uploads"] if one["directory"]] == ["out"]
    assert not (host.down / "unseen").exists()
    assert rejoins(host, "consumer-in-1") == 1


def test_a_wrong_file_changes_nothing(host: Host, topic: str) -> None:
    host.put("before", b"1")
    host.receives("before")

    def spoil(values: Values) -> None:
        values["uploads"]["more"] = {"directory": "/srv", "topc": topic}
        values["chunk_size"] = "3KiB"
        del values["downloads"]["in"]

    good = host.config.read_text()
    rewrite(host, spoil)
    done = host.ctl("reload")
    assert done.returncode == CONFIGURATION
    lines = [line for line in done.stderr.splitlines() if "fix:" not in line]
    assert [re.sub(r"^kfd\.yaml:\d+: ", "", line) for line in lines] == [
        "chunk_size: '3KiB' is not a power of two from 1KiB to 64MiB",
        "uploads.more.topc: unknown key",
    ]
    assert all(re.match(r"kfd\.yaml:\d+: ", line) for line in lines)
    assert 'fix: did you mean "topic"?' in done.stderr
    assert done.stderr.rstrip().endswith("The running configuration is unchanged.")
    host.put("meanwhile", b"2")
    host.receives("meanwhile")
    assert scopes(host)["configuration"].startswith("not reloaded: kfd.yaml:")
    assert host.ctl("status", "--check").returncode == DONE
    host.config.write_text(good)
    done = host.ctl("reload")
    assert (done.returncode, done.stderr) == (DONE, "")
    assert "no route has changed" in done.stdout
    assert "configuration" not in scopes(host)
    assert rejoins(host, "consumer-in-1") == 1


def test_what_cannot_be_taken_leaves_all_as_it_was(
    make_host: MakeHost, topic: str, tmp_path: Path
) -> None:
    """One of two new directories belongs to another daemon: the other isn't taken either."""
    host, other = make_host(pools=ONE_READER), make_host("other", sends=False, pools=ONE_READER)
    host.start()
    other.start()

    def two_more(values: Values) -> None:
        base = {"topic": topic, "layout": "{path}"}
        values["downloads"]["free"] = {**base, "directory": str(tmp_path / "free"), "group": "f"}
        values["downloads"]["taken"] = {**base, "directory": str(other.down), "group": "t"}
        del values["uploads"]["out"]

    rewrite(host, two_more)
    done = host.ctl("reload")
    assert done.returncode == CONFIGURATION
    assert "is in use by another kfd" in done.stderr
    assert "The running configuration is unchanged." in done.stderr
    assert [one["route"] for one in host.status()["downloads"]] == ["in"]
    host.put("run", b"1")
    host.receives("run")
    other.terminate()
    answer = host.call("Reload")
    assert answer["added"] == ["downloads.free", "downloads.taken"]
    eventually((tmp_path / "free" / "run").exists, 30)


def test_what_a_removed_route_has_queued_is_sent(make_host: MakeHost, topic: str) -> None:
    host = make_host(pools=ONE_READER)
    host.start()
    later = f"{topic}-later"

    def add(values: Values) -> None:
        values["create_topics"] = False
        values["uploads"]["gone"] = upload(host, "gone", later)

    assert reload(host, add)["applied"] == ["create_topics"]
    (host.config.parent / "gone" / "file").write_bytes(b"1")
    eventually(lambda: ("file", "queued") in host.states("upload"), 30)
    eventually(lambda: "gone" in scopes(host), 30)
    reload(host, lambda v: v["uploads"].pop("gone"))
    rows = [one for one in host.status()["uploads"] if one["topic"] == later]
    assert [(one["directory"], one["queued"]) for one in rows] == [(None, 1)]
    reload(host, lambda v: v.update(create_topics=True))
    eventually(lambda: ("file", "in_kafka") in host.states("upload"), 30)
    eventually(lambda: "gone" not in scopes(host), 30)


def test_a_download_that_goes_and_comes_back_loses_nothing(make_host: MakeHost, topic: str) -> None:
    """In the middle of a large file: it is read on, and published once."""
    host = make_host(pools=ONE_READER, upload={"rate_limit": "8MiB"})
    host.start()
    put_at_once(host, "large", 40 << 20)
    eventually(lambda: host.incoming()["receiving"] == 1, 30)
    kept = yaml.safe_load(host.config.read_text())["downloads"]["in"]
    assert reload(host, lambda v: v["downloads"].clear())["removed"] == ["downloads.in"]
    assert host.status()["downloads"] == []
    assert reload(host, lambda v: v["downloads"].update({"in": kept}))["added"] == ["downloads.in"]
    host.receives_all()
    assert host.states("download") == {("large", "published"): 1}
    host.clean()


def test_changes_in_the_middle_of_a_file(make_host: MakeHost) -> None:
    """A download is changed and an upload gets another rate while a file is under way in both."""
    host = make_host(pools=ONE_READER, upload={"rate_limit": "4MiB"})
    host.start()
    put_at_once(host, "large", 40 << 20)
    eventually(lambda: host.incoming()["receiving"] == 1, 30)
    watched = host.log().count("out: watching")

    def change(values: Values) -> None:
        values["uploads"]["out"]["rate_limit"] = "none"
        values["downloads"]["in"]["file_mode"] = "0600"

    answer = reload(host, change)
    assert answer["changed"] == ["uploads.out", "downloads.in"]
    host.receives_all()
    assert (host.down / "large").stat().st_mode & 0o777 == 0o600
    assert host.log().count("out: watching") == watched
    assert host.states("upload").total() == 1
    assert host.states("download") == {("large", "published"): 1}


def test_an_upload_that_is_changed_finds_what_it_takes_now(host: Host) -> None:
    host.put("run.tmp", b"1")
    host.put("run", b"2")
    host.receives("run")
    assert reload(host, lambda v: v["uploads"]["out"].update(exclude=[]))["changed"]
    host.receives("run.tmp")
    host.sent(2)  # what was sent before is known


def test_what_becomes_of_delivered_files_may_change(host: Host) -> None:
    host.put("kept", b"1")
    host.delivers("kept")
    watched = host.log().count("out: watching")
    assert reload(host, lambda v: v["uploads"]["out"].update(then="delete"))["changed"]
    host.put("gone", b"2")
    eventually(lambda: not (host.up / "gone").exists(), 30)
    assert reload(host, lambda v: v["uploads"]["out"].pop("then"))["changed"]
    host.put("kept too", b"3")
    host.delivers("kept too")
    assert set(host.sources()) == {b"kept", b"kept too"}
    assert host.log().count("out: watching") == watched


def test_directories_change_places(make_host: MakeHost, topic: str, tmp_path: Path) -> None:
    host = make_host(pools=ONE_READER)
    other = tmp_path / "other"
    base = {"topic": topic, "layout": "b/{path}", "directory": str(other), "group": f"{topic}-b"}
    rewrite(host, lambda v: v["downloads"].update(b=base))
    host.start()
    host.put("one", b"1")
    eventually(lambda: (host.down / "one").exists() and (other / "b/one").exists(), 30)

    def swap(values: Values) -> None:
        downloads = values["downloads"]
        downloads["in"]["directory"], downloads["b"]["directory"] = str(other), str(host.down)

    assert reload(host, swap)["changed"] == ["downloads.b", "downloads.in"]
    host.put("two", b"2")
    eventually(lambda: (other / "two").exists() and (host.down / "b/two").exists(), 30)
    assert sorted(os.listdir(other)) == [".kfd", "b", "two"]


def test_what_needs_a_restart_is_named_until_then(host: Host) -> None:
    def change(values: Values) -> None:
        values["kafka"]["linger.ms"] = "7"
        values["queue"] = {"messages": 100}
        values["history"] = "30d"

    answer = reload(host, change)
    assert answer["applied"] == ["history"]
    assert sorted(answer["restart"]) == ["kafka.linger.ms", "queue.messages"]
    assert "kafka.linger.ms" in scopes(host)["configuration"]
    host.terminate()
    host.start()
    assert "configuration" not in scopes(host)
    assert host.call("Reload")["restart"] == []


def test_a_smaller_chunk_holds_at_once(make_host: MakeHost, topic: str) -> None:
    host = make_host(pools=ONE_READER, chunk_size="64KiB")
    host.start()
    assert reload(host, lambda v: v.update(chunk_size="2MiB"))["applied"] == ["chunk_size"]
    eventually(lambda: "takes" in scopes(host).get("out", ""), 30)  # the topic's default is less
    assert reload(host, lambda v: v.update(chunk_size="128KiB"))["applied"] == ["chunk_size"]
    eventually(lambda: "out" not in scopes(host), 30)
    host.put("run", os.urandom(300_000))
    host.receives_all()


def test_sighup_does_the_same(host: Host, topic: str) -> None:
    rewrite(host, lambda v: v["uploads"].update(more=upload(host, "more", topic)))
    assert host.process is not None
    host.process.send_signal(signal.SIGHUP)
    eventually(lambda: "added uploads.more" in host.log(), 30)
    host.config.write_text("kafka: [\n")
    host.process.send_signal(signal.SIGHUP)
    eventually(lambda: "not reloaded: kfd.yaml:" in host.log(), 30)
    (host.config.parent / "more" / "new").write_bytes(b"2")
    host.receives("new")


def test_the_service_manager_is_told(host: Host) -> None:
    host.call("Reload")
    eventually(lambda: host.notified("READY=1") == 2, 10)
    assert host.notified("RELOADING=1") == 1


def test_killed_while_reloading_starts_with_the_file(make_host: MakeHost, topic: str) -> None:
    host = make_host(pools=ONE_READER)
    host.start()
    for number in range(3):
        rewrite(host, lambda v, n=number: v["uploads"].update(more=upload(host, f"m{n}", topic)))
        assert host.process is not None
        host.process.send_signal(signal.SIGHUP)
        host.kill9()
        (host.config.parent / f"m{number}" / f"file{number}").write_bytes(b"1")
        host.start()
        host.receives(f"file{number}")
    assert host.states("download").total() == 3


def test_only_owners_may(host: Host) -> None:
    """That others are refused is in the server's tests; this is the text."""
    done = host.ctl("reload", "--json")
    assert done.returncode == DONE
    assert '"restart": []' in done.stdout
