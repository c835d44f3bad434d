"""Commands that show what a build found out: report."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.options import PATH, common


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=PATH)
@click.option("--format", "form", type=click.Choice(["table", "markdown", "json"]), help="[default: table]")
@click.option("--html", is_flag=True, help="Write a page with plots: one file, which needs no network.")
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Where the page goes.  [default: DIR/report.html]"
)
@common
def report(folders: tuple[Path, ...], form: str | None, html: bool, output: Path | None) -> None:
    """Show what a build found out.

    With --html it is a page: the verdict, accuracy against size, every latency sample, bytes and
    quantization error by layer, confusion matrices, the pictures on which int8 and float disagree,
    training curves. Several builds are compared on one page. The plots need the extra "report".

    \b
    Examples:
      edgecnn report artifacts/mnist_lenet5_int8
      edgecnn report artifacts/mnist_lenet5_int8 --format markdown > report.md
      edgecnn report artifacts/mnist_lenet5_int8 --html
      edgecnn report artifacts/a artifacts/b --html -o comparison.html
    """
    if html and form:
        raise click.UsageError("--html writes a page: it does not go with --format")
    if html:
        _write_page(folders, output)
        return
    if output is not None or len(folders) > 1:
        raise click.UsageError("several folders and -o go with --html")
    _print_report(folders[0], form or "table")


def _write_page(folders: tuple[Path, ...], output: Path | None) -> None:
    from edgecnn import build_folder, files
    from edgecnn.report import html as pages
    from edgecnn.units import format_size

    if output is None and len(folders) > 1:
        raise click.UsageError("say where the comparison goes: -o FILE")
    written = output or folders[0] / "report.html"
    page = pages.render([build_folder.read_build(folder) for folder in folders])
    files.write_text(written, page)
    click.echo(f"wrote {written} ({format_size(len(page.encode('utf-8')))})")


def _print_report(folder: Path, form: str) -> None:
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
