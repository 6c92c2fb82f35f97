"""The command line of ``kfdctl``: its verbs, loaded when they are used."""

from __future__ import annotations

import importlib
from typing import Any

import click

from kfd import __version__
from kfd.ctl.settings import global_options
from kfd.ctl.verbs import VerbGroup

# Verb: its module in kfd.ctl, and its line in --help; those that people use most come first.
_VERBS = {
    "send": ("send", "Send files, and wait until they are in Kafka."),
    "status": ("status", "Show what kfd is doing, and what is wrong."),
    "list": ("transfers", "List transfers, the newest first."),
    "top": ("top", "Show live what moves."),
    "doctor": ("doctor", "Find what is wrong, and say how to mend it."),
    "quit": ("quit", "Finish what is queued and in flight, then stop kfd."),
    "wait": ("transfers", "Wait for transfers."),
    "show": ("show", "Show all that is known of a transfer."),
    "events": ("events", "Show what happens to transfers, line by line."),
    "cancel": ("undo", "Cancel what is not in Kafka yet, put aside what failed."),
    "retry": ("undo", "Send again what failed or was cancelled."),
    "pause": ("routes", "Pause a route, or all."),
    "resume": ("routes", "Let a route go on, or all."),
    "rescan": ("routes", "Look at all files of a route now, or of all."),
    "quarantine": ("quarantine", "List, release or remove what could not be published."),
    "reload": ("reload", "Read the configuration again."),
    "config": ("config", "Check, show or import a configuration file."),
    "inspect": ("inspect", "Show the chunks of a file, or the records on a topic."),
    "catalogue": ("catalogue", "Add files to catalogues, and see how these stand."),
    "backup": ("backup", "Copy the ledger while kfd works."),
    "metrics": ("metrics", "Print what Prometheus is told."),
    "completion": ("completion", "Print the completion script of a shell."),
    "version": ("version", "Show the versions of kfdctl and kfd."),
}


_ELSEWHERE = {
    "stop": "kfdctl quit finishes first, systemctl stop kfd doesn't",
    "start": "systemctl start kfd",
    "restart": "systemctl restart kfd",
}


class Verbs(VerbGroup):
    """A group that imports a verb's module only to run it, so that kfdctl starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"kfd.ctl.{_VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in _VERBS.items()])

    def hint(self, word: str, known: list[str]) -> str:
        return f"; {_ELSEWHERE[word]}" if word in _ELSEWHERE else super().hint(word, known)


@click.command(
    cls=Verbs,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="VERB ...",
    epilog="These options work before and after the verb. kfdctl VERB --help tells more.",
)
@global_options
@click.version_option(__version__, message="kfdctl %(version)s")
def kfdctl(**_: Any) -> None:
    """Move files through Apache Kafka: control a running kfd."""
