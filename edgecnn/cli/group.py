"""The group of all commands: their order, their aliases, and faults told as plain sentences."""

from __future__ import annotations

import errno
from typing import Any

import click

from edgecnn.errors import EdgeCNNError, OutOfMemoryError, StorageError, is_out_of_memory
from edgecnn.report.letters import printable

ALIASES = {"val": "validate", "bench": "benchmark"}
INTERRUPTED = 130
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class EdgeGroup(click.Group):
    """Commands in the order in which they were added; aliases; faults as plain sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            kept = ": what was finished stays, and the same command goes on from there"
            click.echo(f"interrupted{kept if ctx.invoked_subcommand == 'build' else ''}", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as fault:
            if ctx.meta.get("edgecnn.debug"):
                raise
            text, exit_code = _told(fault)
            # What a file says of itself is repeated in messages: it must not steer the terminal.
            text = "\n".join(map(printable, text.splitlines()))
            click.echo(f"{click.style('error', fg='red', bold=True)}: {text}", err=True)
            ctx.exit(exit_code)


def _told(fault: Exception) -> tuple[str, int]:
    """What the user is told of a fault, and the exit code."""
    if isinstance(fault, EdgeCNNError):
        return str(fault), fault.exit_code
    if is_out_of_memory(fault):
        return str(OutOfMemoryError(fault)), OutOfMemoryError.exit_code
    if isinstance(fault, OSError):
        if fault.errno in NO_ROOM:  # files that are written have a name: without one it is what we print to
            return str(StorageError(fault, fault.filename or "the output")), StorageError.exit_code
        where = f"{fault.filename}: " if fault.filename else ""
        return f"{where}{fault.strerror or fault}", EdgeCNNError.exit_code
    kind = f"{type(fault).__name__}: {fault}"
    advice = "please report it, with what the same command prints with --debug"
    return f"a fault of edgecnn itself: {kind}\n  fix: {advice}", EdgeCNNError.exit_code
