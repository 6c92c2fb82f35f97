"""``kfdctl version``: what is installed here, and what runs."""

from __future__ import annotations

import click

from kfd import __version__
from kfd.ctl.render import plain, print_json, say
from kfd.ctl.settings import Settings, verb
from kfd.errors import KfdError, NotPermittedError


@click.command()
@verb
def version_command(settings: Settings) -> None:
    """Show the versions of kfdctl and of the kfd that runs, if one does."""
    running, reason = _running(settings)
    if settings.as_json:
        print_json(kfdctl=__version__, kfd=running)
        return
    say(f"kfdctl {__version__}")
    say(f"kfd {running}" if running is not None else reason)


def _running(settings: Settings) -> tuple[str | None, str]:
    """The version that runs, or why it isn't known."""
    try:
        with settings.connect() as client:
            return str(client.info().get("version")), ""
    except NotPermittedError as error:
        return None, plain(f"kfd: {error}")
    except KfdError:
        return None, "kfd does not answer"
