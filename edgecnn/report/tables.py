"""Measurements as rows of text: one source for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecnn.records import (
    Artifact,
    BoardParity,
    FloatParity,
    Measurement,
    ParityRecord,
    Report,
    SearchTrial,
    StageFigures,
    Verdict,
)
from edgecnn.report.remarks import shown_measurement, told_attempt
from edgecnn.units import format_cost, format_ms, format_points, format_share, format_size

NONE = "-"
TIMES = ("min", "median", "mean", "p90", "p99")


@dataclass(frozen=True)
class Table:
    """`rows` of cells as text under `header`; the columns in `right` are numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int]


def summary(report: Report) -> Table:
    """What each file costs, on its preferred runtime with one thread."""
    rows = []
    for artifact in report.artifacts:
        shown = shown_measurement(artifact)
        is_reference = artifact.variant == "dense"
        rows.append(
            (
                "dense fp32 (ref)" if is_reference else artifact.key,
                format_size(artifact.size_bytes),
                _accuracy(report, artifact, shown),
                NONE if is_reference or shown is None else _drop(shown),
                _latency(shown),
                status(artifact.key, report.verdicts),
            )
        )
    header = ("artifact", "size", accuracy_title(report), "drop [95 %], pt", "median/p90", "budget")
    return Table(title(report), header, tuple(rows), frozenset({1, 2, 3, 4}))


def accuracy_title(report: Report) -> str:
    """What a column of accuracies is called: without labels the dense network stands for the truth."""
    return "accuracy" if report.is_labelled else "as dense"


def _accuracy(report: Report, artifact: Artifact, measurement: Measurement | None) -> str:
    """Without labels there is none to tell of the dense network, which is held against itself."""
    if measurement is None or (artifact.variant == "dense" and not report.is_labelled):
        return NONE
    return format_share(measurement.accuracy)


def title(report: Report) -> str:
    shown = next((m for artifact in report.artifacts for m in artifact.measurements), None)
    environment = report.environment
    images = f"{shown.n_images:,} test images" if shown else "not measured"
    where = f"{environment.get('target', '?')} {environment.get('arch', '?')}"
    return f"{report.recipe.get('name', '?')} - {images} - {where}, 1 thread"


def _drop(measurement: Measurement) -> str:
    low, high = (format_points(bound, signed=True) for bound in measurement.accuracy_drop_interval)
    return f"{format_points(measurement.accuracy_drop)} [{low}, {high}]"


def _latency(measurement: Measurement | None) -> str:
    if measurement is None or measurement.latency_ms is None:
        return NONE
    return times_text([measurement.latency_ms.median, measurement.latency_ms.p90])


def times_text(times_ms: Sequence[float]) -> str:
    """Times in the unit of the largest, which stands once: "16/24 us"."""
    factor, unit = (1000, "us") if max(times_ms) < 1 else (1, "ms")
    digits = 0 if min(times_ms) * factor >= 10 else 1
    return "/".join(f"{ms * factor:.{digits}f}" for ms in times_ms) + f" {unit}"


def status(key: str, verdicts: Iterable[Verdict]) -> str:
    """The worst verdict on an artifact, "-" where the budget does not name it."""
    of_artifact = [verdict.status for verdict in verdicts if verdict.artifact == key]
    return next((one for one in of_artifact if one != "pass"), "pass" if of_artifact else NONE)


def runtimes(report: Report) -> Table:
    """Every record: artifact, runtime and thread count."""
    rows = [
        (
            artifact.key,
            f"{m.runtime} {m.runtime_version}" + ("" if m.target == "host" else f" on {m.target}"),
            str(m.num_threads),
            _accuracy(report, artifact, m),
            f"{m.mcnemar_p:.2g}" if artifact.variant == "final" else NONE,
            f"{m.macro_f1:.4f}",
            f"{m.agreement:.2%}" if m.agreement is not None else NONE,
            _latency(m),
            format_ms(m.load_ms) if m.load_ms is not None else NONE,
            format_ms(m.first_run_ms) if m.first_run_ms is not None else NONE,
            format_size(m.peak_rss_bytes) if m.peak_rss_bytes is not None else NONE,
        )
        for artifact in report.artifacts
        for m in artifact.measurements
    ]
    header = (
        "artifact", "runtime", "threads", accuracy_title(report), "p (drop)", "macro F1", "agreement",
        "median/p90", "load", "first run", "peak RSS",
    )  # fmt: skip
    return Table("Each runtime", header, tuple(rows), frozenset(range(2, 11)))


def per_class(report: Report) -> Table:
    """Each class in the smallest file that leaves the build: what is missed, what is mistaken for it."""
    artifact = report.smallest
    shown = shown_measurement(artifact) if artifact else None
    rows = [
        (
            figures.name,
            f"{figures.n_images:,}",
            format_share(figures.recall) if figures.recall is not None else NONE,
            format_share(figures.precision) if figures.precision is not None else NONE,
            f"{figures.f1:.4f}" if figures.f1 is not None else NONE,
            _most_taken_for(shown, index),
        )
        for index, figures in enumerate(shown.per_class if shown else ())
    ]
    header = ("class", "images", "recall", "precision", "F1", "most often taken for")
    name = f"Each class, {artifact.key if artifact else NONE}"
    if not report.is_labelled:
        name += ", by the dense network's answers"
    return Table(name, header, tuple(rows), frozenset(range(1, 5)))


def _most_taken_for(measurement: Measurement | None, index: int) -> str:
    """The class that images of class `index` are most often put in by mistake, and how many are.

    "-" where the report holds no confusion matrix, as of many classes.
    """
    if measurement is None or not measurement.confusion:
        return NONE
    mistakes = [0 if i == index else n for i, n in enumerate(measurement.confusion[index])]
    most = max(mistakes)
    return f"{measurement.per_class[mistakes.index(most)].name} ({most})" if most else NONE


def ledger(report: Report) -> Table:
    """The network after each stage, as the .tflite that it would be.

    "entropy" is what an ideal order-0 entropy coder would need for its weights and biases, "zeros" are those of
    them that are stored all the same: what pruning without removing, or sharing of weights, did not save.
    """
    rows = [
        (
            row.stage,
            f"{row.n_params:,}",
            f"{row.n_macs:,}",
            format_size(row.weight_bytes),
            format_size(row.file_bytes),
            format_size(row.gzip_bytes),
            NONE if row.entropy_bytes is None else format_size(row.entropy_bytes),
            _stored_zeros(row),
            format_share(row.validation_accuracy),
            f"{row.seconds:.0f} s",
        )
        for row in report.stages
    ]
    sizes = ("weights", ".tflite", "gzipped", "entropy", "zeros")
    header = ("stage", "params", "MACs", *sizes, "validation", "took")
    return Table("Stage by stage", header, tuple(rows), frozenset(range(1, len(header))))


def _stored_zeros(row: StageFigures) -> str:
    """The weights that are zero and stored all the same: how many, and what they take."""
    if row.n_zeros is None or row.zero_bytes is None:
        return NONE
    return f"{format_share(row.zero_share)}, {format_size(row.zero_bytes)}" if row.n_zeros else "0"


def search(report: Report) -> Table:
    """Every trial of the search, the cheapest first."""
    found = report.search
    header = ("widths", "cost", "validation", "training", "from", "")
    if found is None:
        return Table("Search", header, (), frozenset())

    def fate(trial: SearchTrial) -> str:
        if trial.extent == "final" and trial.widths == found.chosen:
            return "chosen"
        return "" if trial.accuracy >= found.needed_accuracy else "too inaccurate"

    rows = tuple(
        (
            "-".join(map(str, trial.widths)),
            format_cost(found.minimize, trial.cost),
            format_share(trial.accuracy),
            "whole" if trial.extent == "final" else "short",
            trial.origin,
            fate(trial),
        )
        for trial in sorted(found.trials, key=lambda one: (one.cost, one.extent, one.accuracy))
    )
    return Table("Search", header, rows, frozenset({1, 2}))


def tuning(report: Report) -> Table:
    """Every way to quantize that was tried, in order."""
    found = report.tuning
    header = ("quantized with", ".tflite", "validation", "")
    if found is None:
        return Table("Ways to quantize", header, (), frozenset())

    def fate(position: int) -> str:
        if position == found.chosen:
            return "chosen"
        return "" if found.attempts[position].accuracy >= found.needed_accuracy else "too inaccurate"

    rows = tuple(
        (told_attempt(one), format_size(one.size_bytes), format_share(one.accuracy), fate(position))
        for position, one in enumerate(found.attempts)
    )
    return Table("Ways to quantize", header, rows, frozenset({1, 2}))


def sizes(report: Report) -> Table:
    """Where the bytes of each file are."""
    rows = [
        (
            artifact.key,
            format_size(artifact.size_bytes),
            format_size(artifact.weight_bytes),
            format_size(artifact.overhead_bytes),
            f"{artifact.n_params:,}",
            f"{artifact.n_macs:,}",
        )
        for artifact in report.artifacts
    ]
    header = ("artifact", "file", "weights", "the rest", "params", "MACs")
    return Table("Bytes", header, tuple(rows), frozenset(range(1, 6)))


def verdicts(report: Report) -> Table:
    rows = [
        (
            verdict.artifact,
            verdict.metric,
            limit_text(verdict.metric, verdict.limit),
            limit_text(verdict.metric, verdict.actual) if verdict.actual is not None else NONE,
            verdict.status,
        )
        for verdict in report.verdicts
    ]
    return Table(
        "Budget", ("artifact", "limit", "allowed", "actual", "verdict"), tuple(rows), frozenset({2, 3})
    )


def limit_text(metric: str, value: float) -> str:
    """A limit or its figure with the unit of its metric."""
    if metric.endswith("_bytes"):
        return format_size(value)
    if metric.endswith("_ms"):
        return format_ms(value)
    return f"{format_points(value)} pt" if metric == "max_accuracy_drop" else format_share(value)


def remarks(report: Report) -> list[str]:
    """What is said below the summary."""
    return [*notes(report), *doubts(report)]


def notes(report: Report) -> list[str]:
    """Parity, the target, what is slow and why, what the data are."""
    lines = [parity_line(record) for record in report.parity if _is_shown(record, report.parity)]
    lines += [float_parity_line(record) for record in report.float_parity[:1]]
    lines += board_parity_lines(report.board_parity)
    lines += other_target_lines(report)
    lines += rejection_line(report)
    if report.environment.get("target") == "host" and not report.environment.get("board_model"):
        lines.append("these are times of this machine, not of a board")
    return [*lines, *report.notes]


def doubts(report: Report) -> list[str]:
    """What can be said against the times of the summary."""
    return doubt_lines(
        (artifact.key, doubt.model_dump())
        for artifact in report.artifacts
        if (shown := shown_measurement(artifact))
        for doubt in shown.warnings
    )


def doubt_lines(doubts: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """One line for each kind of doubt, with all that it is about; `doubts` are pairs of (about, doubt)."""
    about: dict[str, list[str]] = {}
    first: dict[str, Mapping[str, str]] = {}
    for name, doubt in doubts:
        about.setdefault(doubt["kind"], []).append(name)
        first.setdefault(doubt["kind"], doubt)
    return [
        f"timing is doubtful ({', '.join(dict.fromkeys(about[kind]))}): {doubt['text']}; {doubt['advice']}"
        for kind, doubt in first.items()
    ]


def _is_shown(record: ParityRecord, records: Sequence[ParityRecord]) -> bool:
    """The summary shows the preferred runtime against the exact reference."""
    return record == records[0]


def parity_line(record: ParityRecord) -> str:
    n_equal = round(record.top1_equal * record.n_images)
    return (
        f"{precision_of(record.candidate)} ONNX = TFLite: top-1 equal on {n_equal:,} of {record.n_images:,}, "
        f"logits at most {record.max_lsb} LSB apart "
        f"({record.runtime} against {record.reference.partition(' on ')[2]})"
    )


def precision_of(key: str) -> str:
    """ "int4" of the artifact "int4.tflite"."""
    return key.rpartition(".")[0] or key


def float_parity_line(record: FloatParity) -> str:
    return (
        f"fp32 ONNX = TFLite: logits differ by at most {record.largest_difference:.1g} of the largest "
        f"({record.runtime} against onnxruntime, {record.n_images:,} images)"
    )


def board_parity_lines(records: Sequence[BoardParity]) -> list[str]:
    """For each board the worst of all files and runtimes: how far its outputs are from this machine's."""
    lines = []
    for target in dict.fromkeys(record.target for record in records):
        of_target = [record for record in records if record.target == target]
        worst = min(of_target, key=lambda record: record.top1_equal)
        n_equal = round(worst.top1_equal * worst.n_images)
        steps = {record.artifact: record.max_lsb for record in of_target if record.max_lsb is not None}
        kinds = "/".join(sorted(map(precision_of, steps)))
        apart = f", {kinds} logits at most {max(steps.values())} LSB apart" if steps else ""
        lines.append(
            f"{target} = this machine: top-1 of each file equal on at least {n_equal:,} of "
            f"{worst.n_images:,}{apart} ({worst.artifact} on {worst.runtime} differs most)"
        )
    return lines


def other_target_lines(report: Report) -> list[str]:
    """The times of machines that the summary does not show: one thread, each file on its preferred runtime."""
    shown = report.environment.get("target")
    lines = []
    for target in dict.fromkeys(m.target for one in report.artifacts for m in one.measurements):
        timed = [
            f"{one.key} {times_text([m.latency_ms.median, m.latency_ms.p90])}"
            for one in report.artifacts
            if (m := next((m for m in one.measurements if m.target == target and m.num_threads == 1), None))
            and m.latency_ms
        ]
        if target != shown and timed:
            lines.append(f"median/p90 on {target}: {', '.join(timed)}")
    return lines


def rejection_line(report: Report) -> list[str]:
    """What "none of these" does in the smallest file that leaves the build."""
    artifact = report.smallest
    shown = shown_measurement(artifact) if artifact else None
    if artifact is None or shown is None or shown.rejection is None:
        return []
    one = shown.rejection
    how = "right" if report.is_labelled else "as the dense network"
    right = f", and {how} on {format_share(one.accuracy)} of those" if one.accuracy is not None else ""
    return [
        (
            f"{artifact.key} answers on {format_share(one.coverage)} of the test images{right}; "
            f"below {format_share(one.threshold)} its answer is none of these"
        )
    ]


def rejections(report: Report) -> Table:
    """What "none of these" does to the test images, file by file."""
    rows = [
        (
            artifact.key,
            f"{m.runtime} {m.runtime_version}" + ("" if m.target == "host" else f" on {m.target}"),
            format_share(m.rejection.threshold),
            f"{m.rejection.n_answered:,} of {m.n_images:,}",
            format_share(m.rejection.accuracy) if m.rejection.accuracy is not None else NONE,
            format_share(m.accuracy),
        )
        for artifact in report.artifacts
        for m in artifact.measurements
        if m.rejection and m.num_threads == 1
    ]
    header = ("artifact", "runtime", "none of these below", "answered", "accuracy on those", "on all")
    return Table("None of these", header, tuple(rows), frozenset(range(2, 6)))


def follows(report: Report) -> Table:
    """How far the quantized files answer as the float file of the same weights does."""
    rows = [
        (
            artifact.key,
            f"{m.runtime} {m.runtime_version}" + ("" if m.target == "host" else f" on {m.target}"),
            format_share(m.follows.top1),
            format_share(m.follows.where_sure),
            f"{m.follows.n_sure:,} of {m.n_images:,}",
            format_share(m.follows.in_top5),
        )
        for artifact in report.artifacts
        if artifact.is_quantized
        for m in artifact.measurements
        if m.follows and m.num_threads == 1
    ]
    header = ("artifact", "runtime", "same answer", "where float is sure", "images", "in top 5")
    return Table("Against the float file", header, tuple(rows), frozenset(range(2, 6)))


def board_parity(report: Report) -> Table:
    """Each file on each board and runtime, against this machine."""
    rows = [
        (
            record.artifact,
            f"{record.target}, {record.runtime}",
            record.reference,
            f"{record.top1_equal:.2%}",
            NONE if record.max_lsb is None else f"{record.max_lsb} LSB",
            ", ".join(f"{lsb}: {n:,}" for lsb, n in (record.lsb_histogram or {}).items())
            or f"at most {record.largest_difference:.1g} of the largest",
        )
        for record in report.board_parity
    ]
    header = ("artifact", "on", "against", "top-1 equal", "furthest", "logits by LSB")
    return Table("Boards against this machine", header, tuple(rows), frozenset({3, 4}))


def sensitivity(report: Report) -> Table:
    """What quantizing each layer alone costs, the most sensitive first."""
    rows = tuple(
        (
            row.layer,
            f"{row.divergence:.2g}",
            f"{row.top1_equal:.2%}",
            NONE if row.accuracy_drop is None else f"{format_points(row.accuracy_drop, signed=True)} pt",
            f"{row.n_images:,}",
        )
        for row in report.sensitivity
    )
    header = ("layer quantized alone", "KL to float", "top-1 equal", "accuracy drop", "validation images")
    return Table("Sensitivity by layer", header, rows, frozenset(range(1, 5)))


def parity(report: Report) -> Table:
    """The quantized pair on every runtime: how many logits are how many steps of the output scale apart."""
    rows = [
        (
            record.runtime,
            record.reference,
            f"{record.top1_equal:.2%}",
            str(record.max_lsb),
            ", ".join(f"{lsb}: {n:,}" for lsb, n in record.lsb_histogram.items()),
        )
        for record in report.parity
    ]
    candidate = report.parity[0].candidate if report.parity else NONE
    header = (f"{candidate} on", "against", "top-1 equal", "max LSB", "logits by LSB")
    name = f"Parity of the {precision_of(candidate)} pair"
    return Table(name, header, tuple(rows), frozenset({2, 3}))


def all_tables(report: Report) -> list[Table]:
    """Everything below the summary, in the order of reading; tables without rows are left out."""
    measured = (verdicts, runtimes, follows, parity, board_parity, rejections, per_class)
    drawn = (*measured, search, tuning, ledger, sensitivity, sizes)
    return [table for draw in drawn if (table := draw(report)).rows]


def benchmark(records: Sequence[Mapping[str, Any]]) -> Table:
    """The records of `edgecnn benchmark`."""
    rows = tuple(
        (
            record["file"],
            record["runtime"],
            str(record["num_threads"]),
            format_size(record["size_bytes"]),
            times_text([record["latency_ms"][name] for name in TIMES]),
            format_ms(record["load_ms"]),
            format_ms(record["first_run_ms"]),
            format_size(record["peak_rss_bytes"]),
        )
        for record in records
    )
    header = ("file", "runtime", "threads", "size", "/".join(TIMES), "load", "first run", "peak RSS")
    return Table("One inference, batch 1", header, rows, frozenset(range(2, 8)))


def counts(records: Sequence[Mapping[str, Any]]) -> Table:
    """The records of `edgecnn count`: a row for each file and runtime, a column for each core."""
    cpus = list(dict.fromkeys(record["cpu"] for record in records))
    by_file: dict[tuple[str, str], dict[str, str]] = {}
    for record in records:
        row = by_file.setdefault((record["file"], f"{record['runtime']} {record['runtime_version']}"), {})
        row[record["cpu"]] = f"{record['instructions']:,}"
    rows = tuple((*key, *(row.get(cpu, NONE) for cpu in cpus)) for key, row in by_file.items())
    header = ("file", "runtime", *cpus)
    return Table("Arm instructions of one inference", header, rows, frozenset(range(2, len(header))))


def arenas(records: Sequence[Mapping[str, Any]]) -> Table:
    """The records of `edgecnn benchmark --target tflm`."""
    fits = {None: NONE, True: "fits", False: "too small"}
    rows = tuple(
        (
            record["file"],
            f"{record['size_bytes']:,}",
            f"{record['arena_bytes']:,}",
            f"{record['head_bytes']:,}",
            f"{record['tail_bytes']:,}",
            fits[record["fits"]]
            if record["limit_bytes"] is None
            else f"{record['limit_bytes']:,}: {fits[record['fits']]}",
        )
        for record in records
    )
    header = ("file", "file bytes", "arena bytes", "activations", "persistent", "given")
    return Table("TFLite Micro on this machine", header, rows, frozenset({1, 2, 3, 4}))
