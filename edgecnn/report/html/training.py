"""How training went."""

from __future__ import annotations

from itertools import groupby

from edgecnn.analysis.records import Analysis
from edgecnn.report.html.figures import Figure
from edgecnn.report.html.plots import training as plots
from edgecnn.report.tables import Table
from edgecnn.units import format_share


def training_figures(analysis: Analysis) -> tuple[Figure, ...]:
    if not analysis.training:
        return ()
    runs = []
    for (_, title), epochs in groupby(analysis.training, key=lambda epoch: (epoch.stage, epoch.title)):
        found = list(epochs)
        runs.append(
            plots.Run(
                title,
                [epoch.train_loss for epoch in found],
                [epoch.train_accuracy for epoch in found],
                [epoch.validation_accuracy for epoch in found],
            )
        )
    return (
        Figure(
            "Mistakes by epoch",
            "On a log scale. Training images are changed at random where the recipe augments, others never.",
            plots.training_errors("training-errors", "Mistakes by epoch", runs),
        ),
        Figure(
            "Loss by epoch",
            "On a log scale. Where a teacher is learned from, its part of the loss is in it.",
            plots.training_losses("training-losses", "Loss by epoch", runs),
        ),
    )


def epochs_table(analysis: Analysis | None) -> Table:
    rows = tuple(
        (
            epoch.title,
            str(epoch.epoch),
            f"{epoch.train_loss:.4f}",
            format_share(epoch.train_accuracy),
            format_share(epoch.validation_accuracy),
        )
        for epoch in (analysis.training if analysis else ())
    )
    header = ("run", "epoch", "training loss", "training accuracy", "validation accuracy")
    return Table("Epochs", header, rows, frozenset(range(1, 5)))
