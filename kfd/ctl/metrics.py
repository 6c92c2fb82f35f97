"""``kfdctl metrics``: what Prometheus is told."""

from __future__ import annotations

import click

from kfd.control.service import MetricsParameters, MetricsReply
from kfd.ctl.render import print_json, say
from kfd.ctl.settings import Settings, verb


@click.command()
@verb
def metrics_command(settings: Settings) -> None:
    """Print what Prometheus is told, in its text format.

    It asks by itself where the configuration says metrics: HOST:PORT.
    """
    with settings.connect() as client:
        text = client.call(MetricsParameters(), MetricsReply).text
    if settings.as_json:
        print_json(text=text)
    else:
        say(text.rstrip("\n"))
