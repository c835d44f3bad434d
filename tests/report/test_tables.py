"""What the tables of a report say of the ledger and of the layers."""

from __future__ import annotations

import json

from report.html.builds import a_report

from edgecnn.records import LayerSensitivity, Report
from edgecnn.report import tables


def test_the_ledger_tells_the_entropy_and_the_zeros_that_saved_nothing() -> None:
    table = tables.ledger(a_report())
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert (row["entropy"], row["zeros"]) == ("124.1 kB", "1.25 %, 400 B")


def test_a_report_from_before_there_were_such_figures_is_read_and_shown() -> None:
    old = a_report().model_dump(mode="json", exclude={"sensitivity"})
    for stage in old["stages"]:
        for key in ("entropy_bytes", "n_zeros", "zero_share", "zero_bytes"):
            del stage[key]
    report = Report.model_validate_json(json.dumps(old))
    row = dict(zip(tables.ledger(report).header, tables.ledger(report).rows[0], strict=True))
    assert (row["entropy"], row["zeros"]) == ("-", "-")
    assert tables.sensitivity(report).title not in [table.title for table in tables.all_tables(report)]


def test_the_layers_are_shown_with_what_their_quantization_costs() -> None:
    layer = LayerSensitivity(
        layer="conv1", divergence=0.0123, top1_equal=0.9961, accuracy_drop=0.0039, n_images=256
    )
    table = tables.sensitivity(a_report(sensitivity=(layer,)))
    assert table.rows == (("conv1", "0.012", "99.61%", "+0.39 pt", "256"),)
