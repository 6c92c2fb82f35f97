"""``kfdctl completion``: scripts by which shells complete verbs, options, routes and transfers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import click
from click.shell_completion import CompletionItem, get_completion_class

from kfd.control import GetStatusParameters, GetStatusReply, ListParameters, ListReply
from kfd.control.quarantine import ListQuarantineParameters, ListQuarantineReply
from kfd.ctl.client import candidates, connect
from kfd.ctl.render import print_json
from kfd.ctl.settings import Settings, verb
from kfd.errors import KfdError
from kfd.unit import config_of, of_service

T = TypeVar("T")

_TIMEOUT = 0.5  # seconds that a person waits for a completion
_TRANSFERS = 50  # the newest, of which an id may be completed
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@verb
def completion_command(settings: Settings, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  kfdctl completion bash >/usr/share/bash-completion/completions/kfdctl
    zsh:   kfdctl completion zsh  >/usr/share/zsh/vendor-completions/_kfdctl
    fish:  kfdctl completion fish >/usr/share/fish/vendor_completions.d/kfdctl.fish
    """
    script = _script(shell)
    if settings.as_json:
        print_json(shell=shell, script=script)
        return
    click.echo(script, nl=False)


def _script(shell: str) -> str:
    """click's own, which asks ``kfdctl`` itself at each press of the key."""
    known = get_completion_class(shell)
    if known is None:
        raise KfdError(f"no completion for {shell}", fix=f"use one of {', '.join(_SHELLS)}")
    context = click.get_current_context().find_root()
    return known(context.command, {}, "kfdctl", "_KFDCTL_COMPLETE").source()


def complete_route(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The routes of the running daemon; where it doesn't answer at once, those of its file."""
    uploads, downloads = _routes(context)
    return _named({*uploads, *downloads}, incomplete)


def complete_upload(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """As :func:`complete_route`, the uploads only."""
    return _named(_routes(context)[0], incomplete)


def _named(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name and name.startswith(incomplete)]


def _routes(context: click.Context) -> tuple[set[str], set[str]]:
    """The names of uploads and downloads, as far as they can be found out."""
    reply = _ask(context, GetStatusParameters(), GetStatusReply)
    if reply is not None:
        status = reply.status
        return {one.route for one in status.uploads}, {one.route for one in status.downloads}
    unit = of_service(candidates(_socket(context))[0])
    if unit is None:  # nobody knows its file
        return set(), set()
    from kfd.config import load  # noqa: PLC0415 - takes longer than all else, and is seldom needed

    try:
        config = load(config_of(unit))
    except KfdError:
        return set(), set()
    return set(config.uploads), set(config.downloads)


def complete_transfer(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The ids of the newest transfers, with their files; likewise."""
    reply = _ask(context, ListParameters(limit=_TRANSFERS), ListReply)
    newest = reply.transfers if reply is not None else ()
    shown = {one.tid[-8:]: f"{one.state} {one.path}" for one in newest}
    return [
        CompletionItem(tid, help=text) for tid, text in shown.items() if tid.startswith(incomplete)
    ]


def complete_quarantined(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The ids of what is in quarantine, with their files; likewise."""
    reply = _ask(context, ListQuarantineParameters(limit=_TRANSFERS), ListQuarantineReply)
    shown = {one.tid[-8:]: one.path for one in reply.entries} if reply is not None else {}
    return [
        CompletionItem(tid, help=text) for tid, text in shown.items() if tid.startswith(incomplete)
    ]


def _socket(context: click.Context) -> Path | None:
    given: Path | None = context.find_root().params.get("socket")
    return given


def _ask(context: click.Context, parameters: object, result: type[T]) -> T | None:
    """A press of a key must not end in an error, nor take long."""
    try:
        with connect(_socket(context), _TIMEOUT) as client:
            return client.call(parameters, result, timeout=_TIMEOUT)
    except KfdError:
        return None
