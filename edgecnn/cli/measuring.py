"""Commands that run model files: validate, benchmark, predict."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from edgecnn.cli.options import PATH, common, data_folders, json_option, on_target, refuse_options
from edgecnn.cli.printing import finish_report, print_json, terminal_progress
from edgecnn.report.letters import printable

if TYPE_CHECKING:
    from edgecnn.targets.target import Target


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@on_target()
@click.option("--samples", type=click.IntRange(1), metavar="N", help="Only N test images, evenly spread.")
@data_folders
@json_option
@common
def validate(
    folder: Path, target: Target, samples: int | None, data_folders: tuple[Path, ...], as_json: bool
) -> None:
    """Measure accuracy again, check the budget.

    Every artifact in DIR is run over the whole test set. Exit code 1 when the budget is missed.
    Nothing is written. On a board, the outputs are compared with those of this machine, too.

    \b
    Examples:
      edgecnn validate artifacts/mnist_lenet5_int8
      edgecnn validate artifacts/mnist_lenet5_int8 --target pi@raspberrypi.local --samples 1000
    """
    from edgecnn import operations

    with terminal_progress() as progress:
        report = operations.validate(
            folder, target=target, n_samples=samples, data_folders=data_folders, progress=progress
        )
    finish_report(report, as_json)


@click.command()
@click.argument("artifacts", nargs=-1, required=True, metavar="ARTIFACT...", type=PATH)
@on_target(unopened="tflm")
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
@click.option("--arena", metavar="SIZE", help="With --target tflm: what there is, such as '64 KiB'.")
@json_option
@common
def benchmark(
    artifacts: tuple[Path, ...],
    target: Target | None,
    runtimes: tuple[str, ...],
    threads: tuple[int, ...],
    rounds: int,
    min_time: float,
    arena: str | None,
    as_json: bool,
) -> None:
    """Measure latency and memory of model files.

    One inference at batch 1, of .onnx and .tflite files. The files are interleaved over several
    rounds, each in a fresh process; every sample is kept. With --target tflm: the memory (arena) that
    TFLite Micro needs, and no times; exit code 1 where it is more than --arena.

    \b
    Examples:
      edgecnn benchmark model.tflite
      edgecnn benchmark model.tflite --target pi@raspberrypi.local
      edgecnn benchmark old.tflite new.tflite --runtime litert --threads 1 --json
      edgecnn benchmark model.tflite --target tflm --arena '64 KiB'
    """
    if target is None:
        refuse_options("has no meaning for --target tflm", "runtimes", "threads", "rounds", "min_time")
        _measure_arenas(artifacts, arena, as_json)
    refuse_options("goes with --target tflm", "arena")
    from edgecnn import operations

    with terminal_progress() as progress:
        records = operations.benchmark(
            artifacts,
            target=target,
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


def _measure_arenas(models: tuple[Path, ...], limit: str | None, as_json: bool) -> NoReturn:
    from edgecnn import micro
    from edgecnn.units import parse_size

    try:
        limit_bytes = parse_size(limit) if limit else None
    except ValueError as fault:
        raise click.BadParameter(str(fault), param_hint="--arena") from fault
    arenas = [micro.measure(model, limit_bytes) for model in models]
    if as_json:
        print_json([asdict(arena) for arena in arenas])
    else:
        from edgecnn.report import tables, terminal

        terminal.print_table(tables.arenas([asdict(arena) for arena in arenas]), terminal.make_console())
    sys.exit(1 if any(arena.fits is False for arena in arenas) else 0)


@click.command()
@click.argument("artifact", type=PATH)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=PATH)
@on_target()
@click.option("--runtime", help="The runtime to use.  [default: the first that is installed]")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1, 1000), help="Classes to show.")
@click.option(
    "--explain", "explanation", type=PATH, metavar="OUT.png", help="Draw what in the picture led to the answer."
)
@click.option("--explain-layers", is_flag=True, help="With --explain: filters and feature maps, too.")
@click.option("--allow-code", is_flag=True, help="With --explain: run the network's Python file.")
@json_option
@common
def predict(
    artifact: Path,
    images: tuple[Path, ...],
    target: Target,
    runtime: str | None,
    top: int,
    explanation: Path | None,
    explain_layers: bool,
    allow_code: bool,
    as_json: bool,
) -> None:
    """Classify pictures with a model file.

    Pictures are PNG, JPEG or .npy, files or folders. The manifest beside the artifact says how a
    picture becomes its input. With --target they are sent to a board and classified there. --explain
    needs the folder that the artifact was built in, and torch: the map is Grad-CAM of the float network.

    Pictures that cannot be read are named, counted on stderr and left out; with --json they have an
    "error" and no guesses. Exit code 0 where at least one picture could be read, 3 where none could.

    \b
    Examples:
      edgecnn predict artifacts/mnist_lenet5_int8/mnist_lenet5_int8.int8.tflite digit.png
      edgecnn predict model.tflite digit.png --target pi@raspberrypi.local
      edgecnn predict artifacts/mnist_lenet5_int8/mnist_lenet5_int8.int8.tflite digit.png --explain why.png
    """
    from edgecnn import operations

    if explanation is None:
        if explain_layers or allow_code:
            raise click.UsageError("--explain-layers and --allow-code go with --explain")
        predictions = operations.predict(artifact, images, target=target, runtime=runtime, top_k=top)
    else:
        refuse_options("has no meaning beside --explain: the float network is explained here", "target")
        with terminal_progress() as progress:
            predictions = operations.explain(
                artifact,
                images,
                explanation,
                runtime=runtime,
                top_k=top,
                layers=explain_layers,
                allow_code=allow_code,
                progress=progress,
            )
    if as_json:
        print_json(predictions)
    else:
        from edgecnn.report import terminal

        terminal.print_predictions(predictions, terminal.make_console())
    _tell_unreadable(predictions)


def _tell_unreadable(predictions: list[dict[str, Any]]) -> None:
    """On stderr, so that it is seen whatever stdout is for."""
    from edgecnn.ondevice.predict import Unreadable, told_unreadable

    broken = [Unreadable(**one) for one in predictions if "error" in one]
    if broken:
        click.echo(printable(told_unreadable(broken, len(predictions))), err=True)
