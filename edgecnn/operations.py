"""What can be done by itself, without building: validate, benchmark, predict, convert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn import build_folder, confined, data, files, gate
from edgecnn.comparison import compare
from edgecnn.errors import UsageError
from edgecnn.export import tflite
from edgecnn.export.tflite import metadata as tflite_metadata
from edgecnn.ondevice.runtimes import RUNTIMES
from edgecnn.progress import Progress, Silent
from edgecnn.records import Artifact, Measurement, Report
from edgecnn.report import remarks
from edgecnn.steps import float_network
from edgecnn.steps.manifests import read_manifest
from edgecnn.steps.measurements import benchmark_files, evaluate_all, with_times
from edgecnn.steps.networks import source_of
from edgecnn.targets.host import HostTarget
from edgecnn.targets.record import Environment
from edgecnn.targets.target import Target


def validate(
    folder: Path,
    *,
    target: Target | None = None,
    n_samples: int | None = None,
    data_folders: tuple[Path, ...] = (),
    progress: Progress | None = None,
) -> Report:
    """Runs every artifact in `folder` over the test set again, and holds the budget of its recipe against that.

    `target`: by default this machine. With `n_samples`, so many test images are taken, evenly spread.
    Times and memory are those of the build, for files that are still the same. Nothing is written.
    Raises UsageError where `folder` holds no build, or one of its files is gone.
    """
    progress = progress or Silent()
    built = build_folder.read_report(folder)
    recipe = build_folder.read_recipe(folder, built)
    target = target or HostTarget()
    environment = target.probe()
    test = data.read(source_of(recipe, data_folders), recipe.preprocessing, progress).test
    n_test_images = len(test)
    test = _spread(test, n_samples)
    found = [build_folder.as_it_is(folder, artifact) for artifact in built.artifacts]
    evaluated = evaluate_all(folder, found, test, target, environment, progress)
    measured = evaluated.measured
    same_machine = _is_same_machine(built.environment, environment)
    artifacts = tuple(
        _with_old_times(artifact, measured[artifact.key]) if same_machine
        else artifact.model_copy(update={"measurements": tuple(measured[artifact.key])})
        for artifact in found
    )  # fmt: skip
    altered = [now.file for now, then in zip(found, built.artifacts, strict=True) if now.sha256 != then.sha256]
    return built.model_copy(
        update={
            "environment": built.environment if same_machine else asdict(environment),
            "artifacts": artifacts,
            **evaluated.parities,
            "verdicts": gate.judge(recipe.budget, artifacts),
            "notes": (
                *(f"{file} is not the file that was built: its sha256 is another" for file in altered),
                *([f"{len(test):,} of the {n_test_images:,} test images"] if len(test) < n_test_images else []),
                *remarks.on_speed(artifacts),
            ),
        }
    )


def _spread(test: data.Dataset, n_samples: int | None) -> data.Dataset:
    """`n_samples` images, evenly spread: a folder of pictures may be in the order of its classes."""
    if n_samples is None or n_samples >= len(test):
        return test
    chosen = np.arange(n_samples) * len(test) // n_samples
    return replace(test, images_nhwc=test.images_nhwc[chosen], labels=test.labels[chosen])


def _is_same_machine(then: Mapping[str, Any], now: Environment) -> bool:
    """Whether times measured `then` are times of the machine as it is `now`."""
    facts = asdict(now)
    return all(
        then.get(name) == facts[name] for name in ("target", "cpu_model", "kernel", "python", "runtimes")
    )


def _with_old_times(artifact: Artifact, fresh: list[Measurement]) -> Artifact:
    """`artifact` with its `fresh` measurements; each has the times of the old one that it repeats."""
    old = {(m.target, m.runtime, m.num_threads): m.model_dump(mode="json") for m in artifact.measurements}
    timed = tuple(with_times(m, old.get((m.target, m.runtime, m.num_threads))) for m in fresh)
    return artifact.model_copy(update={"measurements": timed})


def convert(
    source: Path,
    output: Path | None = None,
    *,
    n_compared: int = 0,
    metadata: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes the .tflite equivalent of the ONNX file `source` to `output` (default: beside it).

    `metadata` is a file for `export.tflite.metadata.read`; `options` are those of `export.tflite.convert`.
    With `n_compared`, that many random inputs are run through both files. Returns what was written, what
    the converter says of it, and the comparison.
    Raises ConversionError or UsageError; then nothing is written.
    """
    output = output or source.with_suffix(".tflite")
    if output.exists() and output.samefile(source):
        raise UsageError("the output would replace the source", where=str(output), fix="name another with -o")
    said = tflite_metadata.read(metadata) if metadata else None
    n_bytes = confined.check_model_file(source)
    conversion = confined.run(tflite.convert, str(source), n_bytes, source, metadata=said, **options)
    files.write_bytes(output, conversion.data)
    facts: dict[str, Any] = {
        "file": str(output),
        "size_bytes": len(conversion.data),
        "source_bytes": source.stat().st_size,
        "n_operators": conversion.n_operators,
        "inputs": [asdict(spec) for spec in conversion.inputs],
        "outputs": [asdict(spec) for spec in conversion.outputs],
        "notes": list(conversion.notes),
        "comparison": None,
    }
    if n_compared:
        compared = compare(source, output, conversion, HostTarget(), n_inputs=n_compared)
        # Weights in fewer bits are meant to differ: the figures say what they cost, and are not judged.
        judged = options.get("weights", "as-is") == "as-is"
        facts["comparison"] = {**asdict(compared), "agrees": compared.agrees if judged else None}
    return facts


def benchmark(
    paths: Sequence[Path],
    *,
    target: Target | None = None,
    runtimes: Sequence[str] = (),
    threads: Sequence[int] = (),
    rounds: int = 3,
    min_total_s: float = 1.0,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Latency and peak memory of model files; see `steps.measurements.benchmark_files`.

    Raises UsageError for a path that is no model file, and where no runtime is left.
    """
    target = target or HostTarget()
    for name in runtimes:
        _check_runtime(name)
    for path in paths:
        _check_model_file(path)
        fitting = target.runtimes_for(path.suffix.lstrip(".").lower())
        if not any(not runtimes or name in runtimes for name in fitting):
            raise UsageError(
                f"none of the runtimes {', '.join(runtimes) or '(none)'} runs it on {target.name}",
                where=str(path),
                fix=f"use one of: {', '.join(fitting)}" if fitting else target.how_to_install,
            )
    return benchmark_files(
        paths,
        target,
        target.probe(),
        progress or Silent(),
        runtimes=runtimes,
        threads=threads,
        rounds=rounds,
        min_total_s=min_total_s,
    )


def predict(
    model: Path,
    pictures: Sequence[Path],
    *,
    target: Target | None = None,
    runtime: str | None = None,
    top_k: int = 5,
) -> list[dict[str, Any]]:
    """The `top_k` classes of each picture (files or folders), by the model file and the manifest beside it.

    Each is {"picture", "guesses": [{"class_index", "class_name", "probability"}]}, the best first; or
    {"picture", "error", "fix"} where a picture cannot be read. Raises TargetError where none can. `target`: by
    default this machine.
    """
    _check_model_file(model)
    read_manifest(model)
    if runtime is not None:
        _check_runtime(runtime)
    for picture in pictures:
        if not picture.exists():
            raise UsageError("there is no such picture", where=str(picture))
    predictions = (target or HostTarget()).predict(model, pictures, runtime=runtime, top_k=top_k)
    return [asdict(prediction) for prediction in predictions]


def explain(
    model: Path,
    pictures: Sequence[Path],
    output: Path,
    *,
    runtime: str | None = None,
    top_k: int = 5,
    layers: bool = False,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """`predict` for one picture, explained in the PNG file `output`: its guesses, and by Grad-CAM of the float
    network where in the picture they come from; with `layers` also filters and feature maps.

    Raises UsageError where the float network is not beside the model file, MissingExtraError without torch.
    """
    if output.suffix.lower() != ".png":
        raise UsageError("the explanation is a PNG file", where=str(output), fix="let its name end in .png")
    if len(pictures) != 1 or pictures[0].is_dir():
        raise UsageError("one picture is explained at a time", where="--explain", fix="name one picture file")
    (picture,) = pictures
    if output.exists() and picture.exists() and output.samefile(picture):
        raise UsageError("it would replace the picture", where=str(output), fix="name another file")
    (prediction,) = predict(model, [picture], runtime=runtime, top_k=top_k)
    manifest = read_manifest(model)
    stage = float_network.stage_of(model)
    network = float_network.load(
        stage,
        build_folder.read_recipe(model.parent, build_folder.read_report(model.parent)),
        n_classes=len(manifest.class_names),
        allow_code=allow_code,
        progress=progress or Silent(),
    )
    from edgecnn.explain import drawing, page

    drawn = drawing.draw(page.explained(network, manifest, picture, prediction, layers=layers))
    with files.replacing(output) as temporary:
        drawn.save(temporary, format="PNG")
    return [prediction]


def _check_runtime(name: str) -> None:
    if name not in RUNTIMES:
        raise UsageError(f"there is no runtime {name!r}", fix=f"use one of: {', '.join(RUNTIMES)}")


def _check_model_file(path: Path) -> None:
    if path.suffix.lower() not in (".onnx", ".tflite"):
        raise UsageError("not a .onnx or .tflite file", where=str(path))
    if not path.is_file():
        raise UsageError("there is no such file", where=str(path))
