"""The YAML of what was imported, with comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import yaml

from kfd.oldconfig.imported import Imported, Property

_EXAMPLES = {
    "uploads": ("scope3", "directory: /srv/instruments/scope3", "what is to be sent"),
    "downloads": ("archive", "directory: /data/lab", "where it is to be published"),
}


def write(imported: Imported, source: str) -> str:
    """The text of a ``kfd.yaml``; ``source`` is the old file's name."""
    return "\n".join(_lines(imported, source)) + "\n"


def _lines(imported: Imported, source: str) -> Iterator[str]:
    yield f"# Made of {_plain(source)} by kfdctl config import."
    yield "# Check: kfdctl config check FILE"
    yield ""
    yield "kafka:"
    for one in imported.properties:
        yield _property(one)
    for name, reason in imported.left_out:
        yield f"  # {_plain(name)} is left out: {reason}"
    yield from _route("uploads", imported.upload)
    yield from _route("downloads", imported.download)
    for name, value in imported.settings.items():
        yield ""
        yield _scalar({name: value})


def _property(one: Property) -> str:
    value = {"file": one.secret_file} if one.secret_file else one.value
    comment = f"  # was {_plain(one.comment)}" if one.comment else ""
    return f"  {_scalar({one.name: value})}{comment}"


def _route(kind: str, route: Mapping[str, object]) -> Iterator[str]:
    name, directory, what = _EXAMPLES[kind]
    yield ""
    if not route:
        yield f"#{kind}:"
        yield f"#  {name}:"
        yield f"#    {directory}  # {what}"
        yield "#    topic: TOPIC"
        return
    yield f"{kind}:"
    yield f"  {name}:"
    for key, value in route.items():
        yield f"    {_scalar({key: value})}{_REMARKS.get(key, '')}"


_REMARKS = {
    "existing": "  # what is there now was sent by the old program; send: once more",
    "format": "  # until all hosts have kfd",
    "group": "  # the old program's: it must not run in it any more",
}


def _scalar(value: object) -> str:
    """On one line."""
    text: str = yaml.safe_dump(value, default_flow_style=None, width=10**9, allow_unicode=True)
    if isinstance(value, dict) and text.startswith("{"):  # the outermost need no braces
        text = text.strip()[1:-1]
    return text.strip()


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
