"""Commands of the CI gate: check, baseline update."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import PATH, common, json_option
from edgecnn.cli.printing import print_json

if TYPE_CHECKING:
    from edgecnn.check import Check

BASELINE = click.option(
    "--baseline", "baseline_path", type=PATH, help="The baseline.  [default: edgecnn-baseline.json]"
)
COUNTS = click.option(
    "--counts",
    "counts_path",
    type=PATH,
    metavar="FILE",
    help="Instructions: what `edgecnn count --json` printed.",
)
CHECKED = click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=PATH)


@click.command()
@CHECKED
@BASELINE
@click.option("--budget", "budget_path", type=PATH, metavar="FILE", help="A YAML file of limits by model.")
@COUNTS
@click.option(
    "--allow",
    multiple=True,
    metavar="METRIC=AMOUNT",
    help="What may be lost: 'size=+2 %', latency=any (may be repeated).",
)
@click.option("--allow-missing", is_flag=True, help="Models or figures that are new or gone do not fail.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "junit", "github", "json"]),
    default="table",
    show_default=True,
)
@json_option
@common
def check(paths: tuple[Path, ...], form: str, as_json: bool, **options: Any) -> None:
    """Hold model files against budgets and a baseline.

    PATH is a build folder, an .onnx or .tflite file, a folder that is searched for them, or a glob in
    quotes. Sizes are always judged; accuracy, parity and latency where the build measured this very
    file; instructions with --counts. Metrics: size, accuracy, accuracy_drop, top1_equal, max_lsb,
    instructions, latency. Exit code 1 when something got worse than it may, is missing, or is new. In
    GitHub Actions the Markdown goes into the job's summary as well.

    \b
    Examples:
      edgecnn check artifacts/mnist_lenet5_int8
      edgecnn check 'models/**/*.tflite' --allow 'size=+2 %' --format github
      edgecnn check models --budget budget.yaml --format junit > check.xml
      edgecnn check models --counts counts.json --allow 'instructions=+0.1 %'
    """
    from edgecnn import check as gate

    _finish_check(gate.check(paths, **options), "json" if as_json else form)


def _finish_check(done: Check, form: str) -> None:
    from edgecnn.check import markdown, outputs
    from edgecnn.check import terminal as check_terminal
    from edgecnn.report import terminal

    if form == "table":
        check_terminal.show(done, terminal.make_console())
    else:
        click.echo(outputs.render(done, form), nl=False)
    markdown.append_summary(done)
    sys.exit(0 if done.passed else 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@common
def baseline() -> None:
    """Accept the figures of model files.

    They are kept in a small file that is committed, and that `edgecnn check` compares with.

    \b
    Example:
      edgecnn baseline update artifacts/mnist_lenet5_int8
    """


@baseline.command("update")
@CHECKED
@BASELINE
@COUNTS
@json_option
@common
def baseline_update(
    paths: tuple[Path, ...], baseline_path: Path | None, counts_path: Path | None, as_json: bool
) -> None:
    """Write the figures of PATH... to the baseline.

    PATH is as in `edgecnn check`. What the file allows to be lost stays, and so do other models whose
    files are still there.

    \b
    Examples:
      edgecnn baseline update artifacts/mnist_lenet5_int8
      edgecnn baseline update 'models/**/*.tflite' --baseline models/baseline.json
    """
    from edgecnn import check as gate
    from edgecnn.check import texts

    updated = gate.update(paths, baseline_path=baseline_path, counts_path=counts_path)
    print_json(asdict(updated)) if as_json else click.echo(texts.updated(updated))
