"""kfd as a service of a real systemd, installed by ``scripts/install``.

All tests share one machine; each begins with a service that is stopped and has no state. The one
that removes kfd is the last.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.daemon.messageids import Message
from tests.broker import Broker
from tests.support import CHECKOUT, eventually, unavailable
from tests.system.container import Container, debian_root, require_container
from tests.system.hanging import standing_still, thread_of
from tests.system.installed import INSTALL, Service, build_wheels

UNITS = CHECKOUT / "packaging" / "systemd"
EXPOSURE = 1.3  # of `systemd-analyze security`, at most

pytestmark = pytest.mark.systemd


@pytest.mark.parametrize("name", ["kfd.service", "kfd@.service"])
def test_systemd_accepts_every_line_of_the_unit(tmp_path: Path, name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        unavailable("systemd-analyze is not installed")
    # The program isn't installed on this machine.
    unit = tmp_path / name.replace("@", "@lab2")
    text = (UNITS / name).read_text()
    unit.write_text(re.sub("/opt/kfd/bin/kfd(ctl)?", "/bin/true", text))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_instances_have_the_same_unit_but_for_their_places() -> None:
    def settings(name: str) -> list[str]:
        lines = (UNITS / name).read_text().splitlines()
        return [line for line in lines if line and not line.startswith("#")]

    instance = "\n".join(settings("kfd@.service"))
    for own in ("-%i", " --config /etc/kfd/%i.yaml", " (%i)"):
        instance = instance.replace(own, "")
    assert instance.splitlines() == settings("kfd.service")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A machine on which kfd was installed, and nothing else was done."""
    require_container()
    directory = tmp_path_factory.mktemp("machine")
    build_wheels(directory)
    shared = {"/wheels": directory / "wheels", "/checkout": CHECKOUT}
    with Container(debian_root(), shared) as machine:
        refused = machine.run("runuser", "-u", "nobody", "--", *INSTALL, check=False)
        assert refused.returncode == 1
        assert "this needs root: sudo sh scripts/install" in refused.stderr
        machine.run(*INSTALL)
        for user in ("anna", "bob"):
            machine.run("useradd", "--create-home", user)
        machine.run("usermod", "-aG", "kfd", "anna")
        yield machine


@pytest.fixture
def stopped(machine: Container) -> Iterator[Service]:
    """The service, with nothing of a test before."""
    service = Service(machine)
    service.clear()
    yield service
    for entry in service.journal():  # shown if it failed
        print(entry.get("MESSAGE"))


@pytest.fixture
def service(stopped: Service, bootstrap: str, topic: str) -> Service:
    """The service, configured, and started: READY."""
    stopped.configure(bootstrap, topic)
    stopped.systemctl("start")
    return stopped


def put(service: Service, name: str, content: bytes, owner: str = "kfd") -> None:
    """A file on the machine that only its owner may read; it has its name once it is so."""
    directory, _, base = name.rpartition("/")
    hidden = f"{directory}/.{base}"  # not sent
    path = service.machine.path(hidden)
    path.write_bytes(content)
    path.chmod(0o600)
    service.machine.run("chown", f"{owner}:", hidden)
    service.machine.run("mv", hidden, name)


def test_what_is_installed(machine: Container) -> None:
    def look(*command: str) -> str:
        return machine.run(*command).stdout.strip()

    assert look("stat", "-c", "%a %U %G", "/etc/kfd/kfd.yaml") == "640 root kfd"
    assert look("stat", "-c", "%a %U %G", "/etc/kfd") == "750 root kfd"
    for page in ("man8/kfd.8", "man1/kfdctl.1", "man5/kfd.yaml.5"):
        machine.run("test", "-s", f"/usr/local/share/man/{page}")
    for shared in ("prometheus/kfd-alerts.yaml", "grafana/kfd.json"):
        machine.run("test", "-s", f"/usr/local/share/kfd/{shared}")
    completion = "/usr/local/share/bash-completion/completions/kfdctl"
    assert "kfdctl" in look("cat", completion)


def test_unedited_configuration_is_one_line_and_no_loop(stopped: Service) -> None:
    stopped.write((CHECKOUT / "etc" / "kfd.yaml").read_text())
    assert stopped.systemctl("start", check=False).returncode != 0
    # one that were to be started again would be "activating" now
    assert stopped.shown("ActiveState") == "failed"
    assert stopped.shown("ExecMainStatus") == "78"
    assert stopped.shown("NRestarts") == "0"
    (line,) = stopped.await_journal("SYSLOG_IDENTIFIER=kfd")
    assert "still CHANGE-ME" in line["MESSAGE"]
    assert "(fix: write the HOST:PORT of a broker" in line["MESSAGE"]
    assert line["PRIORITY"] == "3"
    assert line["MESSAGE_ID"] == Message.REFUSED_TO_START.value


def test_ready_means_ready(service: Service) -> None:
    """At that moment the socket answers, and the routes are watched and read."""
    status = service.status()
    assert status["state"] in {"running", "degraded"}  # brokers may not be known yet
    service.await_journal(f"MESSAGE_ID={Message.STARTED.value}")
    told = [entry["MESSAGE"] for entry in service.journal("SYSLOG_IDENTIFIER=kfd")]
    assert "scope: watching /srv/scope" in told
    pid = service.shown("MainPID")
    assert service.machine.run("stat", "-c", "%U", f"/proc/{pid}").stdout.strip() == "kfd"
    eventually(lambda: service.shown("StatusText") == "running", 30, 0.1)


def test_people_of_the_group_send_and_others_are_refused(service: Service) -> None:
    """Also what the daemon can't open itself: the descriptor is the right to read it."""
    files = {"/tmp/a.trc": b"a" * 3_000_000, "/home/anna/b.trc": b"b" * 10}
    for name, content in files.items():
        put(service, name, content, owner="anna")
    service.ctl("send", *files, user="anna")
    for name, content in files.items():
        service.await_published(Path(name).name, content)
    assert "scope" in service.ctl("status", user="anna").stdout
    for verb in (("status",), ("send", "/usr/bin/env"), ("quit",)):
        refused = service.ctl(*verb, user="bob", check=False)
        assert refused.returncode == 4, refused.stderr
    assert service.ctl("quit", user="anna", check=False).returncode == 4
    assert service.errors() == []


def test_sandbox_is_as_tight_as_it_is_said_to_be(service: Service) -> None:
    analysed = service.machine.run("systemd-analyze", "security", "--no-pager", "kfd").stdout
    found = re.search(r"exposure level for kfd\.service: ([0-9.]+)", analysed)
    assert found is not None
    assert float(found[1]) <= EXPOSURE, analysed


def test_journal_tells_a_files_life_at_both_sides(service: Service) -> None:
    put(service, "/srv/scope/run 42.trc", b"x")
    service.await_published("run 42.trc", b"x")

    def life(transfer: str) -> list[tuple[str, str, str]]:
        found = service.journal(f"KFD_TRANSFER={transfer}")
        return [(one["MESSAGE_ID"], one["KFD_ROUTE"], one["KFD_PATH"]) for one in found]

    (published,) = service.await_journal(f"MESSAGE_ID={Message.PUBLISHED.value}")
    tid, short = published["KFD_TRANSFER"]
    assert (len(tid), short) == (32, tid[-8:])
    assert published["PRIORITY"] == "6"
    states = (Message.QUEUED, Message.IN_KAFKA, Message.DELIVERED)
    wanted = {(state.value, "scope", "run 42.trc") for state in states}
    wanted.add((Message.PUBLISHED.value, "archive", "run 42.trc"))
    eventually(lambda: set(life(short)) == wanted and len(life(tid)) == 4, 30, 0.2)


def test_quit_stays_down_until_it_is_started(service: Service) -> None:
    service.ctl("quit")
    service.await_state("inactive")
    assert (service.shown("Result"), service.shown("ExecMainStatus")) == ("success", "0")
    assert service.shown("NRestarts") == "0"
    assert service.ctl("status", check=False).returncode == 3
    service.systemctl("start")
    assert service.status()["state"] in {"running", "degraded"}
    service.systemctl("stop")
    assert service.shown("Result") == "success"
    ends = {Message.STARTED.value, Message.STOPPED.value}

    def lives() -> list[str]:
        told = [entry.get("MESSAGE_ID", "") for entry in service.journal()]
        return [one for one in told if one in ends]

    wanted = [Message.STARTED.value, Message.STOPPED.value] * 2
    eventually(lambda: lives() == wanted, 30, 0.2)


def work_watched(service: Service, bootstrap: str, topic: str) -> dict[str, bytes]:
    """Start it under an impatient watchdog, and give it files; by name."""
    service.drop_in("WatchdogSec=2")
    service.configure(bootstrap, topic)
    service.systemctl("start")
    files = {f"{number}.trc": bytes([number]) * 100_000 for number in range(20)}
    for name, content in files.items():
        put(service, f"/srv/scope/{name}", content)
    return files


def test_process_that_stands_still_is_killed_and_started_again(
    stopped: Service, bootstrap: str, topic: str
) -> None:
    before = work_watched(stopped, bootstrap, topic)
    pid = stopped.shown("MainPID")
    stopped.machine.run("systemctl", "kill", "--signal=STOP", "kfd")
    put(stopped, "/srv/scope/meanwhile.trc", b"m")
    eventually(lambda: stopped.shown("NRestarts") == "1", 60, 0.2)
    stopped.await_state("active")
    assert stopped.shown("MainPID") not in {pid, "0"}
    for name, content in {**before, "meanwhile.trc": b"m"}.items():
        stopped.await_published(name, content)
    dumped = stopped.machine.run("find", "/var/lib/systemd", "/var/lib/kfd", "-name", "core*.*")
    assert dumped.stdout == ""


def test_stage_that_hangs_ends_the_process_and_nothing_is_lost(
    stopped: Service, bootstrap: str, topic: str
) -> None:
    """All others go on, and the main thread could feed the watchdog: it must not."""
    before = work_watched(stopped, bootstrap, topic)
    inside = stopped.shown("MainPID")
    pid = stopped.machine.host_pid(int(inside))
    with standing_still(thread_of(pid, "ledger")) as hear:
        put(stopped, "/srv/scope/meanwhile.trc", b"m")
        eventually(lambda: hear() or stopped.shown("NRestarts") == "1", 90, 0.2)
    stopped.await_state("active")
    assert stopped.shown("MainPID") not in {inside, "0"}
    hung = stopped.await_journal(f"MESSAGE_ID={Message.HUNG.value}")
    assert any("ledger" in one["MESSAGE"] for one in hung)  # others may wait for it
    for name, content in {**before, "meanwhile.trc": b"m"}.items():
        stopped.await_published(name, content)


def test_metrics_come_out_of_the_sandbox(stopped: Service, bootstrap: str, topic: str) -> None:
    """Also of one that may talk to the named addresses only."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    stopped.drop_in("IPAddressDeny=any", "IPAddressAllow=localhost")
    stopped.configure(bootstrap, topic, metrics=f"127.0.0.1:{port}")
    stopped.systemctl("start")
    put(stopped, "/srv/scope/a.trc", b"a")
    stopped.await_published("a.trc", b"a")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        told = answer.read().decode()
    published = (
        f'kfd_download_transfers_total{{route="archive",state="published",topic="{topic}"}} 1.0'
    )
    assert published in told.splitlines()
    assert stopped.errors() == []


def test_file_that_only_its_sender_sees_is_kept_until_it_is_delivered(service: Service) -> None:
    """/tmp is another one for the service: the descriptor is all that it gets."""
    service.ctl("pause", "scope")
    put(service, "/tmp/mine.trc", b"mine", owner="anna")
    sent = service.ctl("send", "--until", "queued", "--json", "/tmp/mine.trc", user="anna")
    (file,) = json.loads(sent.stdout)["files"]
    assert not file["refused"]
    service.machine.run("rm", "/tmp/mine.trc")
    found = service.machine.run("find", "/var/lib/kfd/spool", "-type", "f", "-printf", "%m %u %s")
    assert found.stdout == "600 kfd 4"
    service.systemctl("restart")
    service.ctl("resume", "scope")
    service.await_published("mine.trc", b"mine")
    eventually(lambda: service.status()["spool_used"] == 0, 60, 0.2)


def test_reload(service: Service, bootstrap: str, topic: str) -> None:
    pid = service.shown("MainPID")
    service.machine.run("install", "-d", "-o", "kfd", "/srv/other")
    service.configure(bootstrap, topic, upload={"directory": "/srv/other"})
    service.systemctl("reload")
    assert service.shown("ActiveState") == "active"
    put(service, "/srv/other/new.trc", b"n")
    service.await_published("new.trc", b"n")

    service.write("kafka: {bootstrap.servers: somewhere:9092}\nuplaods: {}\n")
    assert service.systemctl("reload", check=False).returncode != 0
    eventually(lambda: service.shown("ActiveState") == "active", 30, 0.1)
    (line,) = service.await_journal(f"MESSAGE_ID={Message.RELOAD_REFUSED.value}")
    assert "kfd.yaml:2: uplaods: unknown key" in line["MESSAGE"]
    put(service, "/srv/other/after.trc", b"a")  # the running configuration is unchanged
    service.await_published("after.trc", b"a")
    assert service.shown("MainPID") == pid


def test_drain_longer_than_the_time_for_a_stop(
    stopped: Service, bootstrap: str, topic: str
) -> None:
    content = b"d" * (20 << 20)
    stopped.drop_in("TimeoutStopSec=1")
    stopped.configure(bootstrap, topic, upload={"rate_limit": "4MiB"})
    stopped.systemctl("start")
    put(stopped, "/srv/scope/slow.trc", content)
    eventually(lambda: stopped.status()["uploads"][0]["sending"], 30, 0.1)
    began = time.monotonic()
    stopped.ctl("quit")
    assert time.monotonic() - began > 1, "nothing was left to drain: this shows nothing"
    stopped.await_state("inactive")
    assert stopped.shown("Result") == "success"
    stopped.systemctl("start")
    stopped.await_published("slow.trc", content)


def test_stop_longer_than_the_time_for_it(stopped: Service, broker: Broker, topic: str) -> None:
    """Records in flight are waited for: kfd asks systemd for the time that this takes."""
    content = b"s" * (20 << 20)
    stopped.drop_in("TimeoutStopSec=1")
    stopped.configure(broker.bootstrap, topic, upload={"rate_limit": "4MiB"})
    stopped.systemctl("start")
    put(stopped, "/srv/scope/cut.trc", content)
    eventually(lambda: stopped.status()["uploads"][0]["sending"], 30, 0.1)
    broker.kill()
    eventually(lambda: stopped.status()["queue_records"], 30, 0.1)
    began = time.monotonic()
    stopped.systemctl("stop")
    assert time.monotonic() - began > 1, "nothing was in flight: this shows nothing"
    assert stopped.shown("Result") == "success"
    broker.start()
    stopped.systemctl("start")
    stopped.await_published("cut.trc", content)


def test_secret_comes_as_a_credential(stopped: Service, bootstrap: str, topic: str) -> None:
    secret = {"sasl.password": {"credential": "kafka-password"}}
    stopped.configure(bootstrap, topic, kafka=secret)
    assert stopped.systemctl("start", check=False).returncode != 0
    assert stopped.shown("ExecMainStatus") == "78"
    (line,) = stopped.await_journal(f"MESSAGE_ID={Message.REFUSED_TO_START.value}")
    assert "kafka.sasl.password" in line["MESSAGE"]
    assert "/etc/credstore/kfd.kafka-password" in line["MESSAGE"]
    stopped.machine.run("mkdir", "-p", "/etc/credstore")
    put(stopped, "/etc/credstore/kfd.kafka-password", b"secret\n", owner="root")
    stopped.systemctl("start")
    put(stopped, "/srv/scope/a.trc", b"a")
    stopped.await_published("a.trc", b"a")
    assert not [one for one in stopped.journal() if "secret" in one["MESSAGE"]]


def _doctor(service: Service) -> str:
    """What it says of an instance."""
    socket = "/run/kfd-lab2/kfd.sock"
    return service.machine.run("kfdctl", "--socket", socket, "doctor", check=False).stdout


def test_instance_has_all_of_its_own(service: Service, bootstrap: str, topic: str) -> None:
    other = Service(service.machine, "kfd@lab2", "kfd-lab2")
    other.machine.run("install", "-d", "-o", "kfd", "/srv/lab2")
    other.drop_in("ReadWritePaths=/srv/lab2")
    download = {"two": {"directory": "/srv/lab2", "topic": topic, "layout": "{path}"}}
    other.configure(bootstrap, topic, downloads=download, origin="lab2")
    try:
        other.systemctl("start")
        assert other.status()["origin"] == "lab2"
        assert service.status()["origin"] != "lab2"
        put(service, "/srv/scope/both.trc", b"b")
        service.await_published("both.trc", b"b")
        second = service.machine.path("/srv/lab2/both.trc")
        eventually(second.exists, 60, 0.1)
        other.systemctl("reload")
        owner = other.machine.run("stat", "-c", "%a %U", "/var/lib/kfd-lab2").stdout.strip()
        assert owner == "700 kfd"
        assert "doesn't start at boot\n       fix: systemctl enable kfd@lab2\n" in _doctor(other)
    finally:
        other.systemctl("stop")
    told = _doctor(other)
    assert "FAIL service: is stopped\n       fix: systemctl start kfd@lab2\n" in told
    assert "configuration: /etc/kfd/lab2.yaml can be read" in told
    assert service.shown("ActiveState") == "active"


def test_upgrade_and_removal(service: Service) -> None:
    machine = service.machine
    pid = service.shown("MainPID")
    machine.run(*INSTALL)
    assert service.shown("ActiveState") == "active"
    assert service.shown("MainPID") not in {pid, "0"}
    assert len(list(machine.path("/opt/kfd").glob("version.*"))) == 1

    machine.run("systemctl", "enable", "kfd", "kfd@lab2")
    machine.run("mkdir", "-p", "/etc/credstore")
    passwords = [f"/etc/credstore/{name}.kafka-password" for name in ("kfd", "kfd-lab2")]
    for password in (*passwords, "/etc/credstore/another"):
        put(service, password, b"secret\n", owner="root")
    told = machine.run(*INSTALL, "--uninstall").stderr
    for left in ("/etc/kfd", "/var/lib/kfd", "/etc/systemd/system/kfd.service.d", *passwords):
        assert f"  {left}\n" in told
        machine.run("test", "-e", left)
    assert service.shown("LoadState") == "not-found"
    found = machine.run("find", "/usr/local", "/opt", "-name", "*kfd*", "!", "-type", "d").stdout
    assert found == ""
    wants = machine.run("find", "/etc/systemd/system", "-name", "kfd*.service").stdout
    assert wants == ""
    assert machine.run("find", "/proc", "-maxdepth", "1", "-user", "kfd").stdout == ""

    machine.run(*INSTALL, "--uninstall", "--purge")
    for gone in ("/etc/kfd", "/var/lib/kfd", "/var/lib/kfd-lab2", *passwords):
        assert machine.run("test", "-e", gone, check=False).returncode == 1
    machine.run("test", "-e", "/etc/credstore/another")
    assert machine.run("id", "kfd", check=False).returncode == 0  # what was published is its
