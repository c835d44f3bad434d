"""What people see in the terminal: progress bars, and reports as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as RichTable

from edgecnn.records import Report
from edgecnn.report import remarks, tables
from edgecnn.report.letters import printable
from edgecnn.report.tables import Table
from edgecnn.units import format_share, format_size

STYLES = {
    "pass": "green",
    "fail": "bold red",
    "missing": "bold red",
    "refused": "bold red",
    "inconclusive": "yellow",
}
# Wide enough for the widest table where the output is no terminal (a log of CI).
PLAIN_WIDTH = 150


def shown(text: str) -> str:
    """Text of anyone's, as it is printed: nothing in it steers the terminal, begins a line, or is markup."""
    return escape(printable(text))


def make_console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


class TerminalProgress:
    """A bar for the work at hand, which leaves a line when it is done. Without a terminal: the lines alone."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._title = ""

    def start(self, title: str, total: int) -> None:
        self.stop()
        self._title = title
        if self._console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[detail]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(f"{title:<12}", total=total, detail="")
            self._bar.start()
        else:
            self._console.print(f"{shown(title)} ...")

    def advance(self, steps: int = 1, detail: str = "") -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=steps, detail=shown(detail))

    def finish(self, detail: str = "") -> None:
        self.stop()
        self._console.print(f"[green]done[/] {shown(self._title):<12} {shown(detail)}")

    def say(self, line: str) -> None:
        self._console.print(f"[dim]{shown(line)}[/]")

    def stop(self) -> None:
        """Takes the bar off the screen; safe to call at any time."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def progress(console: Console) -> Iterator[TerminalProgress]:
    """Bars on `console`; none is left behind, however the block ends."""
    bars = TerminalProgress(console)
    try:
        yield bars
    finally:
        bars.stop()


def print_summary(report: Report, console: Console) -> None:
    """The table that a build ends with, and what must be said beside it."""
    print_table(tables.summary(report), console)
    for line in tables.remarks(report):
        console.print(f"  {shown(line)}")
    print_missed(report, console)


def print_missed(report: Report, console: Console) -> None:
    """One line for each limit that does not hold: what was allowed, what is, by how much."""
    for verdict in report.verdicts:
        if verdict.status == "pass":
            continue
        allowed = tables.limit_text(verdict.metric, verdict.limit)
        if verdict.actual is None:
            said = f"{verdict.status}: {verdict.artifact} has no figure for {verdict.metric} ({allowed})"
            said += f": {verdict.said}" if verdict.said else ""
        else:
            actual = tables.limit_text(verdict.metric, verdict.actual)
            excess = tables.limit_text(verdict.metric, abs(verdict.actual - verdict.limit))
            figures = f"is {actual}, allowed {allowed} (off by {excess})"
            said = f"{verdict.status}: {verdict.artifact} {verdict.metric} {figures}"
        console.print(f"[{STYLES[verdict.status]}]{shown(said)}[/]")


def print_report(report: Report, console: Console) -> None:
    """Everything that is in the report but the samples."""
    print_summary(report, console)
    for table in tables.all_tables(report):
        console.print()
        print_table(table, console)


def print_tables(headline: str, drawn: Iterable[Table], console: Console) -> None:
    """A line that says what it is about, then the tables."""
    console.print(shown(headline))
    for table in drawn:
        console.print()
        print_table(table, console)


def print_table(table: Table, console: Console) -> None:
    drawn = RichTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        title=shown(table.title),
        title_justify="left",
        title_style="bold",
    )
    for column, name in enumerate(table.header):
        drawn.add_column(shown(name), justify="right" if column in table.right else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*_styled(row))
    # Wider than the terminal: the terminal wraps the lines. Figures are never cut.
    needed = Measurement.get(console, console.options.update(max_width=1000), drawn).maximum
    width = console.width
    console.width = max(width, needed)
    console.print(drawn, crop=False)
    console.width = width


def _styled(row: Iterable[str]) -> list[str]:
    return [f"[{STYLES[cell]}]{cell}[/]" if cell in STYLES else shown(cell) for cell in row]


def print_benchmark(table: Table, records: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The table of latencies, which file is faster, and every kind of doubt once with what it is about."""
    print_table(table, console)
    for line in remarks.comparisons(records):
        console.print(f"  {shown(line)}", soft_wrap=True)
    doubts = [
        (f"{record['file']} on {record['runtime']}", doubt)
        for record in records
        for doubt in record["warnings"]
    ]
    for line in tables.doubt_lines(doubts):
        console.print(f"  [yellow]{shown(line)}[/]")


def print_predictions(predictions: Sequence[Mapping[str, Any]], console: Console) -> None:
    """For each picture its classes, the best first, with their probabilities; or why it cannot be read."""
    for prediction in predictions:
        console.print(f"[bold]{shown(prediction['picture'])}[/]")
        if "error" in prediction:
            console.print(f"  [yellow]cannot be read[/]: {shown(prediction['error'])}", soft_wrap=True)
            continue
        if prediction["rejected"]:
            limit = format_share(prediction["reject_below"])
            console.print(f"  [yellow]none of these[/]: the best guess has less than {limit}")
        for guess in prediction["guesses"]:
            console.print(f"  {guess['probability']:>7.2%}  {shown(guess['class_name'])}")


def print_findings(findings: Sequence[Mapping[str, Any]], console: Console) -> None:
    """What `doctor` found: a line for each, with what to do below it."""
    styles = {"ok": "green", "note": "yellow", "lacks": "bold red"}
    for one in findings:
        status = f"[{styles[one['status']]}]{one['status']:<5}[/]"
        console.print(f"{status} {shown(one['about'])}: {shown(one['found'])}", soft_wrap=True)
        if one["advice"]:
            console.print(f"      {shown(one['advice'])}", soft_wrap=True)


def print_conversion(facts: Mapping[str, Any], console: Console) -> None:
    """What was written, what was changed on the way, and how the two files compare."""
    size, source = format_size(facts["size_bytes"]), format_size(facts["source_bytes"])
    console.print(
        f"wrote {shown(facts['file'])}: {size} (the .onnx: {source}), {facts['n_operators']} operators"
    )
    for side in ("inputs", "outputs"):
        for spec in facts[side]:
            scale = (
                "" if spec["scale"] is None else f", scale {spec['scale']:.6g}, zero point {spec['zero_point']}"
            )
            shape = " x ".join(map(str, spec["shape"]))
            console.print(f"  {side[:-1]} {shown(spec['name'])}: {spec['dtype']} {shape}{scale}")
    for note in facts["notes"]:
        console.print(f"  [yellow]note[/]: {shown(note)}")
    if facts["comparison"]:
        _print_comparison(facts["comparison"], console)


def _print_comparison(comparison: Mapping[str, Any], console: Console) -> None:
    verdicts = {
        True: "[green]agrees[/] with",
        False: "[bold red]differs by more than rounding[/] from",
        None: "weights in fewer bits, compared with",
    }
    on = f"onnxruntime on {comparison['n_inputs']} random inputs ({comparison['runtime']})"
    console.print(f"{verdicts[comparison['agrees']]} {on}")
    for output in comparison["outputs"]:
        if output["lsb_histogram"]:
            counts = ", ".join(f"{count:,} by {lsb}" for lsb, count in output["lsb_histogram"].items())
            console.print(f"  {shown(output['name'])}: values off {counts} LSB")
        else:
            largest = f"{output['largest_difference']:.2g} of {output['largest_value']:.3g}"
            console.print(f"  {shown(output['name'])}: largest difference {largest}")
