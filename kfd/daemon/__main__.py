"""The program ``kfd``: reads its arguments and configuration, and runs the supervisor."""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import kfd
from kfd.daemon import journal
from kfd.daemon.messageids import Message, about
from kfd.errors import ConfigError, ExitCode, KfdError, UsageError
from kfd.unit import CONFIG, SOCKET

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8  # malloc.h
_ARENAS = 1  # a second one only keeps what the first could give out: 60 MB in a long upload
_COLLECT_AFTER = 10_000  # objects: batches alone fill the default of 700 many times over
_DESCRIPTORS = 32768  # 64 connections with 253 each are 16,192 of them


def main() -> None:
    """Run the daemon; the exit code is that of :class:`kfd.errors.ExitCode`."""
    exit_code = run(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGINT):
        # all is done; the interpreter, as it ends, would let one more signal kill the process
        signal.signal(number, signal.SIG_IGN)
    sys.exit(exit_code)


def run(arguments: Sequence[str]) -> int:
    """As :func:`main`, without leaving the process. Every error is told in one or two lines."""
    options = _parser().parse_args(arguments)
    _limit_arenas()
    journal.set_up(verbose=options.verbose)
    _raise_descriptor_limit()
    gc.set_threshold(_COLLECT_AFTER)
    try:
        return _serve(options)
    except ConfigError as error:
        for fault in error.faults:
            _tell(fault)
        return error.exit_code
    except KfdError as error:
        _tell(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        journal.bug(log, "kfd", error)
        return ExitCode.BUG


_STATE_DEFAULT = "$STATE_DIRECTORY; else kfd in $XDG_STATE_HOME, or in ~/.local/state"
_SOCKET_DEFAULT = (
    "$KFD_SOCKET; else kfd.sock in $RUNTIME_DIRECTORY, or in $XDG_RUNTIME_DIR/kfd;"
    f" else {SOCKET} for root, kfd.sock in the state directory for others"
)


def _serve(options: argparse.Namespace) -> int:
    # late: a wrong option needs neither pydantic nor librdkafka
    from kfd.config import from_flags, load  # noqa: PLC0415
    from kfd.daemon.supervisor import Supervisor  # noqa: PLC0415
    from kfd.propertyfaults import property_fault  # noqa: PLC0415

    flags = (options.bootstrap, options.topic, options.upload, options.download)
    if any(flags):
        if options.config is not None:
            raise UsageError(
                "--config does not go with --bootstrap, --topic, --upload and --download",
                fix="put all of it into the file, or leave out --config",
            )
        if not options.bootstrap or not options.topic:
            raise UsageError(
                "--bootstrap and --topic are both needed without a configuration file",
                fix="kfd --bootstrap HOST:PORT --topic TOPIC --upload DIR",
            )
        config = from_flags(options.bootstrap, options.topic, options.upload, options.download)
        path = None
    else:
        path = (options.config or CONFIG).absolute()
        config = load(path, property_fault)
    state = options.state or _state_directory()
    return Supervisor(config, state, options.socket or _socket_path(state), path).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kfd",
        description="Moves files through Apache Kafka. Ask it with kfdctl.",
        epilog="In the foreground, without a file: kfd --bootstrap HOST:PORT --topic TOPIC"
        " [--upload DIR] [--download DIR]",
    )
    parser.add_argument("--config", type=Path, help=f"configuration (default {CONFIG})")
    parser.add_argument("--state", type=Path, help=f"state directory (default {_STATE_DEFAULT})")
    parser.add_argument("--socket", type=Path, help=f"control socket (default {_SOCKET_DEFAULT})")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="a Kafka broker")
    parser.add_argument("--topic", help="the topic to send to and to read")
    parser.add_argument("--upload", type=Path, metavar="DIR", help="send what is put in here")
    parser.add_argument("--download", type=Path, metavar="DIR", help="publish what comes in here")
    parser.add_argument("--verbose", action="store_true", help="log details")
    parser.add_argument("--version", action="version", version=f"kfd {kfd.__version__}")
    return parser


def _state_directory() -> Path:
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given, "kfd")
    home = os.path.expanduser("~")  # unlike Path.home(), as it is where nobody knows
    if home == "~":
        raise UsageError("no place for the state directory is known", fix="give --state DIR")
    return Path(home, ".local/state/kfd")


def _socket_path(state: Path) -> Path:
    """Where ``kfdctl`` looks for it; at last in the state directory, which there always is."""
    if given := os.environ.get("KFD_SOCKET"):
        return Path(given)
    if runtime := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(runtime.partition(":")[0]) / "kfd.sock"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "kfd" / "kfd.sock"
    if os.geteuid() == 0:
        return SOCKET
    return state / "kfd.sock"


def _tell(error: KfdError) -> None:
    log.error("%s", error, extra=about(Message.REFUSED_TO_START, fix=error.fix))


def _limit_arenas() -> None:
    """Before any thread, the log's too: five consumers take 55 MB so, not 182."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and needs none
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def _raise_descriptor_limit() -> None:
    """Partials, watched directories and brokers may need more than the usual soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
