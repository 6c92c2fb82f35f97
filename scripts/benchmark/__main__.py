"""The program: what is to be measured, the rounds, and what is shown afterwards."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from scripts.benchmark.compare import compare
from scripts.benchmark.daemon import Kfd
from scripts.benchmark.data import need_space
from scripts.benchmark.kafka import CHECKOUT
from scripts.benchmark.machine import machine, versions
from scripts.benchmark.peer import Peer
from scripts.benchmark.plain import Plain
from scripts.benchmark.plot import plot
from scripts.benchmark.report import report
from scripts.benchmark.results import Results, load
from scripts.benchmark.rounds import FAILURES, choose, measure, warm_up
from scripts.benchmark.side import Side, workplace
from scripts.benchmark.works import FULL, QUICK, Data, works


def main() -> None:
    """Run it; the exit status is 1 where something could not be measured."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options(sys.argv[1:])
    try:
        base = load(options.compare) if options.compare else None
        results, failed = _run(options)
        _show(options, results, base)
    except (*FAILURES, ValueError) as error:
        sys.exit(f"scripts/bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if failed else 0)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure kfd beside plain librdkafka loops (its limit) and openmsistream.",
        epilog="With KFD_BOOTSTRAP set, that broker is used, else one of the benchmark's own.",
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, one round")
    parser.add_argument(
        "--peer",
        action=argparse.BooleanOptionalAction,
        help="measure openmsistream too (default: not with --quick)",
    )
    parser.add_argument(
        "--only", action="append", metavar="WORK", help="only this one; may be repeated"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="5 by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a plot there")
    parser.add_argument("--compare", type=Path, metavar="BASE.json", help="results of before")
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        default=CHECKOUT / ".kfd-bench",
        help="for files and the broker (default: .kfd-bench in the checkout)",
    )
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 1 if options.quick else 5
    if options.rounds < 1:
        parser.error("--rounds takes a number from 1 on")
    if options.peer is None:
        options.peer = not options.quick
    return options


def _run(options: argparse.Namespace) -> tuple[Results, bool]:
    """The results, and whether some are missing."""
    scale = QUICK if options.quick else FULL
    directory: Path = options.work.resolve()
    with workplace(directory) as site, ExitStack() as stack:
        data = Data.of(scale, directory / "data")
        sides: dict[str, Side] = {"kfd": Kfd(site), "plain": Plain(site)}
        if options.peer:
            sides["peer"] = peer = Peer(site)
        chosen = choose(works(scale, data, sides), options.only)
        need_space(directory, scale.space)
        data.make()
        stack.enter_context(site.broker)
        if options.peer:
            stack.callback(peer.close)
        results = Results(
            date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            quick=options.quick,
            machine=machine(directory),
            versions=versions(own_broker=site.broker.own, peer=options.peer),
            metrics=[metric for work in chosen for metric in work.metrics],
        )
        warm_up(chosen)
        return results, not measure(chosen, options.rounds, results.samples)


def _show(options: argparse.Namespace, results: Results, base: Results | None) -> None:
    print(report(results))
    if base is not None:
        print(f"\n{compare(base, results)}")
    if options.json is not None:
        results.save(options.json)
    if options.svg is not None:
        options.svg.write_text(plot(results))


if __name__ == "__main__":
    main()
