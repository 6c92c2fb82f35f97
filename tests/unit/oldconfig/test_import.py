"""``kfdctl config import``: files of openmsistream and its predecessors become a kfd.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.unit.ctl.kfdctl import run

USUAL = """\
# a laboratory's
[broker]
bootstrap.servers = $LAB_SERVERS
security.protocol = SASL_SSL
sasl.mechanism    = PLAIN
sasl.username     = ${LAB_USER}
sasl.password     = {password}

[producer]
batch.size       = 2000000
linger.ms        = 100
compression.type = lz4
retries          = 2
key.serializer   = StringSerializer
value.serializer = DataFileChunkSerializer

[consumer]
group.id           = create_new
auto.offset.reset  = latest
enable.auto.commit = False
fetch.min.bytes    = 100000
key.deserializer   = StringDeserializer
value.deserializer = DataFileChunkDeserializer
"""
VARIABLES = {"LAB_SERVERS": "b1:9092,b2:9092", "LAB_USER": "anna: #1", "LAB_SECRET": "hunter2"}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def notes(err: str) -> list[str]:
    """The places that were named."""
    return [line.partition(": ")[0] for line in err.splitlines() if not line.startswith(" ")]


@pytest.mark.parametrize("password", ["hunter2%%x", "$LAB_SECRET"], ids=["text", "variable"])
def test_the_usual_file(tmp_path: Path, password: str) -> None:
    old = write(tmp_path / "lab.config", USUAL.replace("{password}", password))
    up, down = tmp_path / "up", tmp_path / "down"
    up.mkdir()
    code, out, err = run(
        "config", "import", old, "--topic", "lecroy", "--upload-dir", up, "--download-dir", down,
        "--format", "openmsistream", **VARIABLES,
    )  # fmt: skip
    assert code == 0, err
    assert "hunter2" not in out + err
    assert yaml.safe_load(out) == {
        "kafka": {
            "bootstrap.servers": "b1:9092,b2:9092",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "anna: #1",
            "sasl.password": {"file": "/etc/kfd/kafka-password"},
            "batch.size": "2000000",
            "linger.ms": "100",
            "compression.type": "lz4",
        },
        "uploads": {
            "scope3": {
                "directory": str(up), "topic": "lecroy", "existing": "skip",
                "format": "openmsistream",
            }
        },
        "downloads": {
            "archive": {
                "directory": str(down), "topic": "lecroy", "start": "latest",
                "format": "openmsistream",
            }
        },
    }  # fmt: skip
    for left in ("retries", "value.serializer", "enable.auto.commit", "fetch.min.bytes"):
        assert f"# {left} is left out: " in out
    assert notes(err) == ["lab.config:7"]
    assert ('printf %s "$LAB_SECRET"' in err) == (password == "$LAB_SECRET")
    _passes(tmp_path, out)


def _passes(tmp_path: Path, text: str) -> None:
    """``config check``, once the secret is where it was said to be."""
    secret = write(tmp_path / "secret", "s")
    made = write(tmp_path / "kfd.yaml", text.replace("/etc/kfd/kafka-password", str(secret)))
    code, out, err = run("config", "check", made)
    assert (code, err) == (0, ""), out


def test_without_directories_there_are_examples(tmp_path: Path) -> None:
    old = write(tmp_path / "a.config", "[broker]\nbootstrap.servers = b1:9092\n")
    code, out, err = run("config", "import", old)
    assert (code, err) == (0, "")
    assert yaml.safe_load(out) == {"kafka": {"bootstrap.servers": "b1:9092"}}
    assert "#uploads:" in out
    assert "#downloads:" in out
    _passes(tmp_path, out)


def test_the_predecessors_service(tmp_path: Path) -> None:
    old = write(
        tmp_path / "service.config",
        f"[openmsi_directory_stream_service]\nfile_directory = {tmp_path}/lab\n"
        "topic_name = lecroy_files\nn_threads = 5\nchunk_size = 16384\nqueue_max_size = 3000\n"
        "new_files_only = False\n"
        "[cluster]\nbootstrap.servers = b1:9092\n[consumer]\ngroup.id = new\n",
    )
    (tmp_path / "lab").mkdir()
    code, out, err = run("config", "import", old)
    assert (code, err) == (0, "")
    assert yaml.safe_load(out) == {
        "kafka": {"bootstrap.servers": "b1:9092"},
        "uploads": {"scope3": {"directory": f"{tmp_path}/lab", "topic": "lecroy_files"}},
        "pools": {"producer_threads": "5"},
        "chunk_size": "16384",
        "queue": {"messages": "3000"},
    }
    _passes(tmp_path, out)


def test_the_section_for_all(tmp_path: Path) -> None:
    """[DEFAULT] holds for each section, and what is there twice is one property."""
    old = write(
        tmp_path / "a.config",
        "[DEFAULT]\nclient.id = scope\n[broker]\nbootstrap.servers: b1:9092\n"
        "[producer]\nLinger.MS = 5\n[consumer]\nclient.id = other\n",
    )
    code, out, err = run("config", "import", old)
    assert code == 0
    values = yaml.safe_load(out)["kafka"]
    assert values == {"bootstrap.servers": "b1:9092", "client.id": "scope", "linger.ms": "5"}
    assert notes(err) == ["a.config:8"]
    assert "scope is kept" in err


def test_a_variable_that_is_not_set(tmp_path: Path) -> None:
    old = write(tmp_path / "lab.config", USUAL.replace("{password}", "$NOBODY"))
    code, out, err = run("config", "import", old)
    assert code == 1
    assert notes(err) == ["lab.config:3", "lab.config:6", "lab.config:7"]
    assert yaml.safe_load(out)["kafka"]["bootstrap.servers"] == "CHANGE-ME:9092"
    assert run("config", "check", write(tmp_path / "kfd.yaml", out))[0] == 78


def test_what_kfd_has_nothing_for(tmp_path: Path) -> None:
    old = write(
        tmp_path / "a.config",
        "[broker]\nbootstrap.servers = b1:9092\nnode_id = x\n[kafkacrypto]\nnode_id = x\n"
        "[log]\nlinger.ms = 1\n[osn]\nregion = $REGION\n[producer]\nno.such = secret-text\n"
        "batch.size = many\nvalue.serializer = DoubleSerializer\n[consumer]\ngroup.id = lab\n",
    )
    code, out, err = run("config", "import", old, "--download-dir", tmp_path / "d", "--topic", "t")
    assert code == 1
    lines = [4, 6, 8, 11, 12, 13, 15]
    assert notes(err) == [f"a.config:{line}" for line in lines]
    assert yaml.safe_load(out)["kafka"] == {"bootstrap.servers": "b1:9092"}
    assert "KafkaCrypto" in err


@pytest.mark.parametrize(
    ("cluster", "written", "options", "group", "told"),
    [
        ("broker", "lab", [], None, "--group"),  # openmsistream doesn't look there
        ("broker", "lab", ["--group", "lab"], "lab", ""),
        ("broker", "create_new", [], None, ""),
        ("broker", "lab", ["--group", "create_new"], None, ""),
        ("cluster", "lab", [], "lab", "if the old program ran with that group"),
        ("cluster", "lab", ["--group", "other"], "other", ""),
        ("cluster", "new", [], None, ""),
        ("cluster", "$NOGROUP", [], "CHANGE-ME", "$NOGROUP is not set here"),
        ("broker", "$NOGROUP", [], "CHANGE-ME", "$NOGROUP is not set here"),
        ("broker", "$NOGROUP", ["--group", "lab"], "lab", ""),
        ("cluster", "two words", [], "two words", "downloads.archive.group"),
    ],
)
def test_the_group(
    tmp_path: Path, cluster: str, written: str, options: list[str], group: str | None, told: str
) -> None:
    """What was committed counts only in the group that the old program was in."""
    text = f"[{cluster}]\nbootstrap.servers = b1:9092\n[consumer]\ngroup.id = {written}\n"
    old = write(tmp_path / "a.config", text)
    code, out, err = run(
        "config", "import", old, "--topic", "t", "--download-dir", tmp_path, *options
    )
    assert yaml.safe_load(out)["downloads"]["archive"].get("group") == group
    assert told in err
    assert set(notes(err)) == ({"a.config:4"} if told else set())
    assert code == int(group == "CHANGE-ME" or written == "two words")


def test_a_group_is_that_of_a_download(tmp_path: Path) -> None:
    old = write(tmp_path / "a.config", "[broker]\nbootstrap.servers = b1:9092\n")
    code, out, err = run("config", "import", old, "--group", "lab")
    assert (code, out) == (2, "")
    assert "--download-dir" in err


def test_variables_of_one_section_only(tmp_path: Path) -> None:
    """What nobody asks for may be unset; what is there twice must be known both times."""
    text = (
        "[broker]\nbootstrap.servers = b1:9092\nlinger.ms = 5\n[producer]\nlinger.ms = $NOBODY\n"
        "retries = $NOBODY\n[consumer]\nauto.offset.reset = $NOBODY\n"
    )
    old = write(tmp_path / "a.config", text)
    code, _, err = run("config", "import", old)
    assert (code, notes(err)) == (1, ["a.config:5"])
    options = ["--topic", "t", "--download-dir", tmp_path]
    code, _, err = run("config", "import", old, *options)
    assert (code, notes(err)) == (1, ["a.config:5", "a.config:8"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("bootstrap.servers = b1:9092\n", 1),
        ("[broker]\nhunter2\n", 2),
        ("[broker]\na = hunter2\na = hunter3\n", 3),
        ("[broker]\na = 1\n[broker]\nb = hunter2\n", 3),
        ("[broker]\n\nsasl.password = hunter2%x\n", 3),
        ("\x00", 1),
        ("", None),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, line: int | None) -> None:
    old = write(tmp_path / "a.config", text)
    code, out, err = run("config", "import", old)
    if line is None:  # nothing is wrong with it, but that it names no broker
        assert (code, notes(err)) == (1, ["a.config:1"])
        return
    assert (code, out, notes(err)) == (78, "", [f"a.config:{line}"])
    assert "hunter" not in err
    assert "  fix: " in err


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        code, _, err = run("config", "import", path)
        assert code == 78
        assert "  fix: " in err
        assert "--config" not in err  # it has no such option


def test_json(tmp_path: Path) -> None:
    old = write(tmp_path / "lab.config", USUAL.replace("{password}", "hunter2"))
    _, out, err = run("config", "import", old, "--json", **VARIABLES)
    document = json.loads(out)
    assert err == ""
    assert [one["line"] for one in document["notes"]] == [7]
    assert yaml.safe_load(document["yaml"])["kafka"]["linger.ms"] == "100"
    assert "hunter2" not in out
