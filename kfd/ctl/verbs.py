"""Verbs below one another: what is said of one that isn't there."""

from __future__ import annotations

import difflib

import click


class VerbGroup(click.Group):
    """Verbs; of one that isn't there it says which was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            hint = self.hint(args[0], known)
            raise click.UsageError(f'there is no verb "{args[0]}"{hint}', ctx)
        return super().resolve_command(ctx, args)

    def hint(self, word: str, known: list[str]) -> str:
        """What people mean who write ``word`` for a verb."""
        near = difflib.get_close_matches(word, known, 1)
        return f'; did you mean "{near[0]}"?' if near else ""
