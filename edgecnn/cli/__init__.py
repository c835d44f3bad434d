"""The command line: parse, call one function, print, exit; a file for each group of commands.

Exit codes: 0 pass, 1 a budget failed, 2 usage or recipe, 3 any other fault, 130 interrupted.
"""

from __future__ import annotations

import click

from edgecnn import __version__
from edgecnn.cli.devices import count, deploy, doctor
from edgecnn.cli.gate import baseline, check
from edgecnn.cli.group import EdgeGroup
from edgecnn.cli.keeping import clean, verify
from edgecnn.cli.measuring import benchmark, predict, validate
from edgecnn.cli.models import convert, diff, inspect
from edgecnn.cli.recipes import build, init, schema
from edgecnn.cli.reports import report


@click.group(cls=EdgeGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="edgecnn")
def cli() -> None:
    """One recipe from training to measured, gated ONNX and TFLite files.

    \b
    Start here:
      edgecnn init                 write a recipe with comments
      edgecnn build recipe.yaml    train, prune, quantize, export, measure
      edgecnn report artifacts/NAME
    """


# In the order in which they are used: that of --help.
for command in (
    init, build, validate, benchmark, predict, deploy, convert, inspect, diff, check, baseline, report, verify,
    clean, doctor, count, schema,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    cli(prog_name="edgecnn")
