"""``kfdctl reload``: have the daemon read its configuration again."""

from __future__ import annotations

import click

from kfd.control.reloading import ReloadParameters, ReloadReply
from kfd.ctl.render import note, plain, print_json, say
from kfd.ctl.settings import Settings, verb
from kfd.unit import of_socket, restart


@click.command()
@verb
def reload_command(settings: Settings) -> None:
    """Read the configuration again: routes come, change and go, the others go on untouched.

    A file with a fault changes nothing: every fault is told, with its line and what to do.
    Settings that need a restart are named.
    """
    with settings.connect() as client:
        done = client.call(ReloadParameters(), ReloadReply)
    if settings.as_json:
        print_json(reloaded=done)
        return
    kinds = {
        "added": done.added,
        "changed": [*done.changed, *done.applied],
        "removed": done.removed,
    }
    said = [f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names]
    say(f"{plain(done.file)} is in effect: {'; '.join(said) or 'no route has changed'}.")
    if done.restart:
        note(f"! needs a restart: {', '.join(done.restart)}")
        note(f"  fix: {restart(of_socket(client.path))}")
