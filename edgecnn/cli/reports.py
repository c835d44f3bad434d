"""Commands that show what a build found out: report."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.options import PATH, common


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.option(
    "--format", "form", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True
)
@common
def report(folder: Path, form: str) -> None:
    """Show what a build found out.

    \b
    Examples:
      edgecnn report artifacts/mnist_lenet5_int8
      edgecnn report artifacts/mnist_lenet5_int8 --format markdown > report.md
    """
    from edgecnn import build_folder

    found = build_folder.read_report(folder)
    if form == "json":
        click.echo(found.model_dump_json(indent=2))
    elif form == "markdown":
        from edgecnn.report import markdown

        click.echo(markdown.render(found), nl=False)
    else:
        from edgecnn.report import terminal

        terminal.print_report(found, terminal.make_console())
