"""The model card that lies beside the files of a build: what they are, how they were tested, their limits."""

from __future__ import annotations

from collections.abc import Mapping

from edgecnn.ondevice.manifest import Manifest
from edgecnn.records import Artifact, Measurement, Report
from edgecnn.report import tables
from edgecnn.report.markdown import escaped, table_rows
from edgecnn.report.remarks import shown_measurement
from edgecnn.report.tables import Table
from edgecnn.units import format_points, format_share, format_size

MOST_CLASSES = 20
# What the figures do not say.
LIMITS = (
    "The figures are of pictures that look like the test images, prepared as above; others were not tried.",
    "Every picture is put in one of the classes, whatever it shows: there is no class for anything else.",
    "Times are of the machine named above, and of no other.",
    "Nothing was tested for fairness, safety or attacks.",
)


def render(report: Report, manifests: Mapping[str, Manifest]) -> str:
    """The card as Markdown; `manifests` by artifact key. Every figure in it is one of the report's."""
    parts = [
        f"# Model card: {escaped(str(report.recipe.get('name', '?')))}",
        "",
        escaped(opening(report)),
        "",
        *_section("Files", table_rows(tables.summary(report))),
        *_section("How it was tested", _tested(report)),
        *_section("Input and output", _input_and_output(report, manifests)),
        *_section("How it was made", _made(report)),
        *_section("Each class", _classes(report)),
        *_section("Limits", [f"- {limit}" for limit in LIMITS]),
        *_section("Make it again, check it", _commands(report, manifests)),
        *_section("Hashes", table_rows(hashes(report))),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def opening(report: Report) -> str:
    """One sentence: the smallest file, what it weighs, and what it is worth."""
    artifact, dense = report.smallest, report.dense
    if artifact is None:
        return "The build left no files."
    said = f"{artifact.file} takes {format_size(artifact.size_bytes)}"
    if dense is not None and dense is not artifact:
        said += f", {dense.size_bytes / artifact.size_bytes:.1f} times less than the dense float32 network"
    shown = shown_measurement(artifact)
    if shown is None:
        return said + "; it was not measured."
    if not report.is_labelled:
        return f"{said}; {_answers(artifact, shown)}."
    said += f", and puts {format_share(shown.accuracy)} of {shown.n_images:,} test images in the right class"
    if dense is None or dense is artifact:
        return said + "."
    low, high = (format_points(bound, signed=True) for bound in shown.accuracy_drop_interval)
    return said + f": {_lost(shown.accuracy_drop)} (95 % interval of the loss {low} to {high})."


def _answers(artifact: Artifact, shown: Measurement) -> str:
    """What is known of a file whose pictures have no labels."""
    if artifact.variant == "dense":
        return "the test images have no labels, so that its accuracy is not known"
    return (
        f"on {format_share(shown.accuracy)} of {shown.n_images:,} test images, which have no labels, it "
        "answers as the dense float32 network, whose accuracy is not known"
    )


def _lost(drop: float) -> str:
    points = format_points(abs(drop))
    if points == "0.00":
        return "as many as that network"
    return f"{points} points {'less' if drop > 0 else 'more'} than that network"


def _tested(report: Report) -> list[str]:
    environment = report.environment
    machine = ", ".join(str(environment[key]) for key in ("cpu_model", "os") if environment.get(key))
    lines = [
        f"on {machine or 'an unknown machine'}",
        _what_accuracy_is(report),
        *tables.remarks(report),
    ]
    return [f"- {escaped(line)}" for line in lines]


def _what_accuracy_is(report: Report) -> str:
    if report.is_labelled:
        return "accuracy is top-1 of the file on its runtime, over test images that serve for nothing else"
    return (
        "the test images have no labels: how often a file is right is not known; 'as dense' and the drop tell "
        "how often it answers as the dense float32 network, top-1, on its own runtime"
    )


def _classes(report: Report) -> list[str]:
    """The table of the classes, where there are few enough of them to be read."""
    table = tables.per_class(report)
    return table_rows(table) if 0 < len(table.rows) <= MOST_CLASSES else []


def _input_and_output(report: Report, manifests: Mapping[str, Manifest]) -> list[str]:
    artifact = report.smallest
    manifest = manifests.get(artifact.key) if artifact else None
    if artifact is None or manifest is None:
        return []
    pre, given, left = manifest.preprocessing, manifest.inputs[0], manifest.outputs[0]
    steps = [
        (
            f"- a picture of {pre.width} x {pre.height} pixels with {pre.channels} channel(s), `x / 255`, then "
            f"`(x - mean) / std` with mean {_numbers(pre.mean)} and std {_numbers(pre.std)}"
        ),
        f"- layout {manifest.layout}, {given.dtype}{_scale(given.scale, given.zero_point)}",
        (
            f"- out come {len(manifest.class_names)} {escaped(manifest.output)}, {left.dtype}"
            f"{_scale(left.scale, left.zero_point)}, one for each class: "
            f"{', '.join(map(escaped, manifest.class_names[:MOST_CLASSES]))}"
            f"{', ...' if len(manifest.class_names) > MOST_CLASSES else ''}"
        ),
    ]
    return [*steps, f"- all of it, exactly, for programs: {escaped(artifact.file)}.json"]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _scale(scale: float | None, zero_point: int | None) -> str:
    return "" if scale is None else f" with scale {scale:.6g} and zero point {zero_point}"


def _made(report: Report) -> list[str]:
    recipe = report.recipe
    about = [
        f"{key} {escaped(str(value))}"
        for key, value in (
            ("data set", _name(recipe.get("data"))),
            ("network", _name(recipe.get("model"))),
            ("seed", recipe.get("seed")),
        )
        if value is not None
    ]
    lines = [f"- {', '.join(about)}", ""] if about else []
    return [*lines, *table_rows(tables.ledger(report))] if report.stages else lines


def _name(part: object) -> object:
    return part.get("name") if isinstance(part, dict) else None


def _commands(report: Report, manifests: Mapping[str, Manifest]) -> list[str]:
    version = next((m.tool_versions.get("edgecnn") for m in manifests.values()), None)
    made_by = [f"Made by edgecnn {escaped(version)}.", ""] if version else []
    return [*made_by, *(f"    {line}" for line in commands())]


def commands() -> tuple[str, ...]:
    """What makes a build again, and what checks it, from inside its folder."""
    return (
        "edgecnn build recipe.yaml -o ../again",
        "edgecnn validate .",
        "edgecnn report . --html",
        "sha256sum *.onnx *.tflite",
    )


def hashes(report: Report) -> Table:
    rows = tuple((artifact.file, artifact.sha256) for artifact in report.artifacts)
    return Table("Hashes", ("file", "sha256"), rows, frozenset())
