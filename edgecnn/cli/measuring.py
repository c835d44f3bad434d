"""Commands that run model files: validate, benchmark, predict."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.options import PATH, common, data_folders, json_option, known_target
from edgecnn.cli.printing import finish_report, print_json, terminal_progress


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--target", default="host", show_default=True, help="The machine to run on.")
@data_folders
@json_option
@common
def validate(folder: Path, target: str, data_folders: tuple[Path, ...], as_json: bool) -> None:
    """Measure accuracy again, check the budget.

    Every artifact in DIR is run over the whole test set. Exit code 1 when the budget is missed.
    Nothing is written.

    \b
    Example:
      edgecnn validate artifacts/mnist_lenet5_int8
    """
    from edgecnn import operations

    with terminal_progress() as progress:
        report = operations.validate(
            folder, target_name=known_target(target), data_folders=data_folders, progress=progress
        )
    finish_report(report, as_json)


@click.command()
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

    with terminal_progress() as progress:
        records = operations.benchmark(
            artifacts,
            target_name=known_target(target),
            runtimes=runtimes,
            threads=threads,
            rounds=rounds,
            min_total_s=min_time,
            progress=progress,
        )
    if as_json:
        print_json(records)
    else:
        from edgecnn.report import tables, terminal

        terminal.print_benchmark(tables.benchmark(records), records, terminal.make_console())


@click.command()
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
        print_json(predictions)
    else:
        from edgecnn.report import terminal

        terminal.print_predictions(predictions, terminal.make_console())
