"""What the benchmark makes of its figures: medians, ratios, comparisons, files of results."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from scripts.benchmark.compare import compare
from scripts.benchmark.plot import plot
from scripts.benchmark.report import number, report, spread
from scripts.benchmark.results import Metric, Results, Sample, Summary, load

RATE = Metric("rate", "1 MiB, into Kafka", "MB/s", "≥ 0.9 of the loop")
DELAY = Metric("delay", "closed to published", "ms", less_is_better=True)


def results(*, quick: bool = False, **values: list[float]) -> Results:
    """Of ``side_metric=[value of round 1, ...]``."""
    found = Results("2026-01-01T00:00:00Z", quick, {"cpu": "a"}, {"kfd": "1"}, [RATE, DELAY])
    for name, rounds in values.items():
        side, metric = name.split("_")
        for round_, value in enumerate(rounds, 1):
            used = {side: {"rss_mb": 50.0 + round_, "cpu_seconds": 0.5 * round_}}
            found.samples.append(Sample(round_, "work", side, {metric: value}, used))
    return found


def test_summary_is_the_median_and_its_spread() -> None:
    assert results(kfd_rate=[3, 1, 10]).summary("rate", "kfd") == Summary(3, 1, 10)
    assert results(kfd_rate=[3, 1]).summary("rate", "peer") is None


def test_ratio_is_taken_within_rounds() -> None:
    """The machine was three times as fast in one round: that changes no ratio."""
    drifting = results(kfd_rate=[90, 270, 80], plain_rate=[100, 300, 100])
    assert drifting.ratio("rate", "plain") == pytest.approx(0.9)
    assert drifting.ratio("rate", "peer") is None


def test_ratio_skips_a_round_that_failed_on_one_side() -> None:
    assert results(kfd_rate=[50], plain_rate=[100, 1000]).ratio("rate", "plain") == 0.5


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ([120, 121, 130], "better"),
        ([70, 75, 79], "worse"),
        ([79, 110, 130], ""),
        ([100, 150, 200], ""),
    ],
)
def test_only_what_is_beyond_both_spreads_has_changed(new: list[float], said: str) -> None:
    text = compare(results(kfd_rate=[80, 90, 100]), results(kfd_rate=new))
    if said:
        assert f"- {said}: kfd, 1 MiB, into Kafka: 90.0 (80.0 to 100)" in text
    else:
        assert "nothing has changed" in text


def test_less_of_a_delay_is_better() -> None:
    text = compare(results(kfd_delay=[9, 11]), results(kfd_delay=[1, 2]))
    assert "- better: kfd, closed to published" in text
    assert "(-85%)" in text


@pytest.mark.parametrize(
    "base", [results(kfd_rate=[1, 1], quick=True), results(kfd_rate=[1])], ids=["quick", "1 round"]
)
def test_what_cannot_be_compared_is_not(base: Results) -> None:
    assert compare(base, results(kfd_rate=[100, 100])).startswith("Not compared")


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    saved = results(kfd_rate=[1.5, 2], plain_delay=[3])
    saved.save(tmp_path / "results.json")
    assert load(tmp_path / "results.json") == saved


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "x": 2}'])
def test_other_files_are_no_results(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds no results"):
        load(path)


def test_report_shows_figures_ratios_and_processes() -> None:
    text = report(results(kfd_rate=[90, 110, 100], plain_rate=[200, 200, 200], kfd_delay=[12.34]))
    figures = "| 100 (90.0 to 110) | 200 | - | 0.50 | - | ≥ 0.9 of the loop |"
    assert f"| 1 MiB, into Kafka | MB/s {figures}" in text
    assert "| closed to published | ms | 12.3 | - | - | - | - |  |" in text
    assert "| work | plain loop | plain | 53.0 | 1.00 |" in text  # the highest, the median


def test_plot_is_a_picture_of_every_figure() -> None:
    picture = ET.fromstring(plot(results(kfd_rate=[1, 3], plain_rate=[4], kfd_delay=[0])))
    namespace = "{http://www.w3.org/2000/svg}"
    background, ours, limit, nothing = picture.iter(f"{namespace}rect")
    assert background.get("fill") == "white"
    assert float(ours.get("width", 0)) * 2 == float(limit.get("width", 0))
    assert float(nothing.get("width", 1)) == 0
    texts = [element.text for element in picture.iter(f"{namespace}text")]
    assert "1 MiB, into Kafka (MB/s)" in texts
    assert "closed to published (ms, less is better)" in texts


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (99.96, "100.0"), (12.34, "12.3"), (0.875, "0.88")]
)
def test_numbers_have_as_many_digits_as_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def test_spread_of_one_value_is_that_value() -> None:
    assert spread(Summary(2, 2, 2)) == "2.00"
    assert spread(None) == "-"
