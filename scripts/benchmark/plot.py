"""The results as an SVG picture: a bar for each side's median, a line for its spread."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from scripts.benchmark.report import SIDES, number
from scripts.benchmark.results import Metric, Results, Summary

_COLOURS = {"kfd": "#1b6ca8", "plain": "#9aa5b1", "peer": "#d98e04"}
_WIDTH = 760
_LEFT, _RIGHT = 110, 130  # room for the names, and for the figures
_BAR, _GAP = 16, 26  # heights; the gap has the title in it


def plot(results: Results) -> str:
    """A group of bars for each figure, each with a scale of its own."""
    body: list[str] = []
    y = _GAP
    for metric in results.metrics:
        found = {side: results.summary(metric.name, side) for side in SIDES}
        present = {side: one for side, one in found.items() if one is not None}
        body += _group(metric, present, y)
        y += _GAP + _BAR * len(present)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}"'
        f' viewBox="0 0 {_WIDTH} {y}" font-family="sans-serif" font-size="11">\n'
        f'<rect width="{_WIDTH}" height="{y}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _group(metric: Metric, summaries: dict[str, Summary], y: int) -> Iterator[str]:
    less = ", less is better" if metric.less_is_better else ""
    title = escape(f"{metric.title} ({metric.unit}{less})")
    yield f'<text x="{_LEFT}" y="{y}" font-weight="bold">{title}</text>'
    longest = max((one.high for one in summaries.values()), default=0) or 1
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    for row, (side, one) in enumerate(summaries.items()):
        yield from _bar(side, one, scale, y + 6 + row * _BAR)


def _bar(side: str, one: Summary, scale: float, y: int) -> Iterator[str]:
    middle = y + _BAR // 2
    low, high = _LEFT + one.low * scale, _LEFT + one.high * scale
    yield f'<text x="{_LEFT - 6}" y="{middle + 4}" text-anchor="end">{SIDES[side]}</text>'
    yield (
        f'<rect x="{_LEFT}" y="{y + 2}" width="{one.median * scale:.1f}" height="{_BAR - 4}"'
        f' fill="{_COLOURS[side]}"/>'
    )
    yield f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="black"/>'
    yield f'<text x="{high + 6:.1f}" y="{middle + 4}">{number(one.median)}</text>'
