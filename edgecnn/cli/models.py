"""Commands that read and write model files: convert, inspect, diff."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgecnn.cli.options import PATH, common, json_option
from edgecnn.cli.printing import print_json


@click.command()
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
    type=click.Choice(["as-is", "float16", "int8", "int4", "packed"]),
    default="as-is",
    show_default=True,
    help="Weights in fewer bits: float16, int8 (dynamic range) of float models; of QDQ models int4, "
    "or packed (4 bits where no integer needs more: the same network).",
)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Where the batch is open.")
@click.option("--runtime", help="Write only what it can run: litert, tflite-runtime==2.14, tflm.")
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
    "--unit-scales",
    is_flag=True,
    help="Choose the scales inside so that the file holds fewer of them; the integers stay as they are.",
)
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
    """Convert ONNX to TFLite, or TFLite to C source.

    A QDQ-quantized model gives a full-integer file with the same scales, zero points and weights. What
    cannot be converted is listed whole, and nothing is written. Exit code 1 when --compare finds more
    than rounding explains.

    \b
    Examples:
      edgecnn convert model.onnx
      edgecnn convert model.int8.onnx -o model.tflite --compare 20
      edgecnn convert model.onnx --weights int8 --runtime tflite-runtime==2.14
      edgecnn convert model.tflite -o model_data.h
    """
    if model.suffix.lower() == ".tflite":
        _write_header(model, output, as_json)
        return
    from edgecnn import operations

    facts = operations.convert(model, output, n_compared=n_compared, **options)
    if as_json:
        print_json(facts)
    else:
        from edgecnn.report import terminal

        terminal.print_conversion(facts, terminal.make_console())
    comparison = facts["comparison"]
    sys.exit(1 if comparison and comparison["agrees"] is False else 0)


def _write_header(model: Path, output: Path | None, as_json: bool) -> None:
    from edgecnn import micro

    facts = micro.write_header(model, output or model.with_suffix(".h"))
    if as_json:
        print_json(facts)
    else:
        click.echo(f"wrote {facts['file']}: an array of {facts['size_bytes']:,} bytes")


@click.command()
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
        print_json(ledger.to_json())
    else:
        from edgecnn.inspection import tables
        from edgecnn.report import terminal

        terminal.print_tables(tables.headline(ledger), tables.all_tables(ledger), terminal.make_console())


@click.command()
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
        print_json(comparison.to_json())
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
