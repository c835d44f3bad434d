"""The command line: parse, call one function, print, exit. Exit codes: 0 pass, 1 a budget failed, 2 usage or
recipe, 3 any other fault, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn import __version__
from edgecnn.errors import EdgeCNNError

if TYPE_CHECKING:
    from edgecnn.check import Check
    from edgecnn.records import Report

ALIASES = {"val": "validate", "bench": "benchmark"}
ORDER = (
    "init", "build", "validate", "benchmark", "predict", "convert", "inspect", "diff", "check", "baseline",
    "report", "schema",
)  # fmt: skip
INTERRUPTED = 130


class EdgeGroup(click.Group):
    """Commands in the order in which they are used; aliases; faults as plain sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

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
            click.echo(f"{click.style('error', fg='red', bold=True)}: {text}", err=True)
            ctx.exit(exit_code)


def _told(fault: Exception) -> tuple[str, int]:
    """What the user is told of a fault, and the exit code."""
    if isinstance(fault, EdgeCNNError):
        return str(fault), fault.exit_code
    if isinstance(fault, OSError):
        where = f"{fault.filename}: " if fault.filename else ""
        return f"{where}{fault.strerror or fault}", EdgeCNNError.exit_code
    kind = f"{type(fault).__name__}: {fault}"
    advice = "please report it, with what the same command prints with --debug"
    return f"a fault of edgecnn itself: {kind}\n  fix: {advice}", EdgeCNNError.exit_code


def _keep_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta["edgecnn.debug"] = True


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command has."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_keep_debug,
        help="Show the traceback of a fault.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
PATH = click.Path(path_type=Path)


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


@cli.command()
@click.argument("recipe", type=PATH)
@click.option("-o", "--output", type=PATH, help="The folder to build into.  [default: artifacts/<recipe name>]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another value for a key of the recipe."
)
@click.option("--force", is_flag=True, help="Do every stage again.")
@click.option("--dry-run", is_flag=True, help="Say what would run and why; write nothing.")
@json_option
@common
def build(
    recipe: Path, output: Path | None, overrides: tuple[str, ...], force: bool, dry_run: bool, as_json: bool
) -> None:
    """Build a recipe: train, compress, export, measure.

    Stages whose inputs did not change are not done again. Exit code 1 when the budget is missed;
    everything is written all the same.

    \b
    Examples:
      edgecnn build recipes/mnist_lenet5_int8.yaml
      edgecnn build recipe.yaml --dry-run
      edgecnn build recipe.yaml --set train.epochs=3 --set seed=1 -o /tmp/quick
    """
    from edgecnn import pipeline

    if dry_run:
        planned = pipeline.plan(recipe, output, overrides=overrides, force=force)
        rows = [{"stage": p.stage.name, "will_run": p.will_run, "why": p.why} for p in planned]
        _print_json(rows) if as_json else _print_plan(rows)
        return
    with _terminal_progress() as progress:
        report = pipeline.build(recipe, output, overrides=overrides, force=force, progress=progress)
    _finish(report, as_json)


@cli.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--target", default="host", show_default=True, help="The machine to run on.")
@json_option
@common
def validate(folder: Path, target: str, as_json: bool) -> None:
    """Measure accuracy again, check the budget.

    Every artifact in DIR is run over the whole test set. Exit code 1 when the budget is missed.
    Nothing is written.

    \b
    Example:
      edgecnn validate artifacts/mnist_lenet5_int8
    """
    from edgecnn import operations

    with _terminal_progress() as progress:
        report = operations.validate(folder, target_name=_target(target), progress=progress)
    _finish(report, as_json)


@cli.command()
@click.argument("artifacts", nargs=-1, required=True, metavar="ARTIFACT...", type=PATH)
@click.option("--target", default="host", show_default=True, help="The machine to measure on.")
@click.option("--runtime", "runtimes", multiple=True, help="Only this runtime (may be repeated).")
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(1, 256),
    help="This thread count (may be repeated).  [default: 1 and all cores]",
)
@click.option(
    "--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Process launches for each."
)
@click.option(
    "--min-time",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 600),
    help="Seconds of inference for each, all rounds together.",
)
@json_option
@common
def benchmark(
    artifacts: tuple[Path, ...],
    target: str,
    runtimes: tuple[str, ...],
    threads: tuple[int, ...],
    rounds: int,
    min_time: float,
    as_json: bool,
) -> None:
    """Measure latency and memory of model files.

    One inference at batch 1, of .onnx and .tflite files. The files are interleaved over several
    rounds, each in a fresh process; every sample is kept.

    \b
    Examples:
      edgecnn benchmark model.tflite
      edgecnn benchmark old.tflite new.tflite --runtime litert --threads 1 --json
    """
    from edgecnn import operations

    with _terminal_progress() as progress:
        records = operations.benchmark(
            artifacts,
            target_name=_target(target),
            runtimes=runtimes,
            threads=threads,
            rounds=rounds,
            min_total_s=min_time,
            progress=progress,
        )
    if as_json:
        _print_json(records)
    else:
        from edgecnn.report import tables, terminal

        terminal.print_benchmark(tables.benchmark(records), records, terminal.make_console())


@cli.command()
@click.argument("artifact", type=PATH)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=PATH)
@click.option("--runtime", help="The runtime to use.  [default: the first that is installed]")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1, 1000), help="Classes to show.")
@json_option
@common
def predict(artifact: Path, images: tuple[Path, ...], runtime: str | None, top: int, as_json: bool) -> None:
    """Classify pictures with a model file.

    Pictures are PNG, JPEG or .npy, files or folders. The manifest beside the artifact says how a
    picture becomes its input.

    \b
    Example:
      edgecnn predict artifacts/mnist_lenet5_int8/mnist_lenet5_int8.int8.tflite digit.png
    """
    from edgecnn import operations

    predictions = operations.predict(artifact, images, runtime=runtime, top_k=top)
    if as_json:
        _print_json(predictions)
    else:
        from edgecnn.report import terminal

        terminal.print_predictions(predictions, terminal.make_console())


@cli.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="The file to write.  [default: MODEL with .tflite]")
@click.option(
    "--io",
    type=click.Choice(["int8", "uint8", "float32"]),
    default="int8",
    show_default=True,
    help="Inputs and outputs of a quantized model.",
)
@click.option(
    "--weights",
    type=click.Choice(["as-is", "float16", "int8", "int4"]),
    default="as-is",
    show_default=True,
    help="Weights in fewer bits: float16, int8 (dynamic range) of float models, int4 of QDQ models.",
)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Where the batch is open.")
@click.option("--runtime", help="Refuse what it cannot run: litert, tflite-runtime==2.14, tflm.")
@click.option("--keep-nchw-input", is_flag=True, help="Leave images channels first (adds a TRANSPOSE).")
@click.option("--signature", is_flag=True, help="Add the signature serving_default.")
@click.option(
    "--metadata",
    type=PATH,
    metavar="FILE",
    help="Add TFLite Metadata, for Android: a JSON of name, description, version, author, license, mean and "
    "std of pixels 0..255, labels; or the manifest of a build.",
)
@click.option("--debug-names", is_flag=True, help="Keep the names of tensors inside.")
@click.option(
    "--compare",
    "n_compared",
    default=0,
    type=click.IntRange(0, 10_000),
    metavar="N",
    help="Run N random inputs through both files.",
)
@json_option
@common
def convert(model: Path, output: Path | None, n_compared: int, as_json: bool, **options: Any) -> None:
    """Convert ONNX to TFLite.

    A QDQ-quantized model gives a full-integer file with the same scales, zero points and weights. What
    cannot be converted is listed whole, and nothing is written. Exit code 1 when --compare finds more
    than rounding explains.

    \b
    Examples:
      edgecnn convert model.onnx
      edgecnn convert model.int8.onnx -o model.tflite --compare 20
      edgecnn convert model.onnx --weights int8 --runtime tflite-runtime==2.14
    """
    from edgecnn import operations

    facts = operations.convert(model, output, n_compared=n_compared, **options)
    if as_json:
        _print_json(facts)
    else:
        from edgecnn.report import terminal

        terminal.print_conversion(facts, terminal.make_console())
    comparison = facts["comparison"]
    sys.exit(1 if comparison and comparison["agrees"] is False else 0)


BASELINE = click.option(
    "--baseline", "baseline_path", type=PATH, help="The baseline.  [default: edgecnn-baseline.json]"
)
CHECKED = click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=PATH)


@cli.command()
@CHECKED
@BASELINE
@click.option("--budget", "budget_path", type=PATH, metavar="FILE", help="A YAML file of limits by model.")
@click.option(
    "--allow", multiple=True, metavar="METRIC=AMOUNT", help="What may be lost: 'size=+2 %' (may be repeated)."
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
    file. Metrics: size, accuracy, accuracy_drop, top1_equal, max_lsb, latency. Exit code 1 when
    something got worse than it may, is missing, or is new. In GitHub Actions the Markdown goes into
    the job's summary as well.

    \b
    Examples:
      edgecnn check artifacts/mnist_lenet5_int8
      edgecnn check 'models/**/*.tflite' --allow 'size=+2 %' --format github
      edgecnn check models --budget budget.yaml --format junit > check.xml
    """
    from edgecnn import check as gate

    _finish_check(gate.check(paths, **options), "json" if as_json else form)


@cli.group(context_settings={"help_option_names": ["-h", "--help"]})
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
@json_option
@common
def baseline_update(paths: tuple[Path, ...], baseline_path: Path | None, as_json: bool) -> None:
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

    updated = gate.update(paths, baseline_path=baseline_path)
    _print_json(asdict(updated)) if as_json else click.echo(texts.updated(updated))


@cli.command()
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


@cli.command()
@click.argument("model", type=PATH)
@json_option
@common
def inspect(model: Path, as_json: bool) -> None:
    """Show where the bytes of a model file are.

    For .onnx and .tflite: each layer's operator, version, shapes, parameters, MACs, weight bytes and
    quantization, and what is not weights, by kind. The bytes add up to the file.

    \b
    Example:
      edgecnn inspect artifacts/mnist_lenet5_int8/mnist_lenet5_int8.int8.tflite
    """
    from edgecnn.inspection import inspect as inspect_file

    ledger = inspect_file(model)
    if as_json:
        _print_json(ledger.to_json())
    else:
        from edgecnn.inspection import tables
        from edgecnn.report import terminal

        terminal.print_tables(tables.headline(ledger), tables.all_tables(ledger), terminal.make_console())


@cli.command()
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@click.option("--format", "form", type=click.Choice(["table", "markdown"]), default="table", show_default=True)
@json_option
@common
def diff(old: Path, new: Path, form: str, as_json: bool) -> None:
    """Show what grew between two model files, and why.

    For .onnx and .tflite files, or two folders with them (builds, by artifact): layer by layer the
    bytes, shapes and quantization, and what is not weights, by kind. Exit code 0 whatever differs.

    \b
    Examples:
      edgecnn diff old/model.tflite new/model.tflite
      edgecnn diff artifacts/before artifacts/after --format markdown
    """
    from edgecnn.inspection import pairs

    comparison = pairs.compare(old, new)
    if as_json:
        _print_json(comparison.to_json())
        return
    from edgecnn.inspection import difference_tables

    if form == "markdown":
        click.echo(difference_tables.render_markdown(comparison), nl=False)
        return
    from edgecnn.report import terminal

    console = terminal.make_console()
    for line in difference_tables.lines_of_folders(comparison):
        console.print(line, markup=False)
    for model in comparison.models:
        terminal.print_tables(model.reason, difference_tables.all_tables(model), console)


@cli.command()
@click.argument("path", type=PATH, default=Path("recipe.yaml"))
@common
def init(path: Path) -> None:
    """Write a recipe with comments, to start from.

    PATH is recipe.yaml unless you name another. What is there is never overwritten.

    \b
    Example:
      edgecnn init my_model.yaml && edgecnn build my_model.yaml
    """
    from edgecnn import recipe_template

    recipe_template.write(path)
    click.echo(f"wrote {path}; next: edgecnn build {path}")


@cli.command()
@click.option("-o", "--output", type=PATH, help="Write to a file.  [default: print]")
@common
def schema(output: Path | None) -> None:
    """Print the JSON Schema of a recipe, for editors.

    \b
    Example:
      edgecnn schema -o recipe.schema.json
    """
    from edgecnn import files
    from edgecnn.recipe import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if output:
        files.write_text(output, text)
    else:
        click.echo(text, nl=False)


def _target(name: str) -> str:
    from edgecnn.recipe import TARGET_NAMES

    if name not in TARGET_NAMES:
        raise click.BadParameter(f"{name!r} is not one of: {', '.join(TARGET_NAMES)}", param_hint="--target")
    return name


def _terminal_progress() -> Any:
    from edgecnn.report import terminal

    return terminal.progress(terminal.make_console(stderr=True))


def _finish(report: Report, as_json: bool) -> None:
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        from edgecnn.report import terminal

        terminal.print_summary(report, terminal.make_console())
    sys.exit(0 if report.passed else 1)


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


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _print_plan(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        click.echo(f"{'run ' if row['will_run'] else 'keep'}  {row['stage']:<20} {row['why']}")


def main() -> None:
    cli(prog_name="edgecnn")
