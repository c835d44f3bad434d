"""The model card: its figures are the report's, and names cannot change what it says."""

from __future__ import annotations

import io
import re

from report.html.builds import a_report, unlabelled
from rich.console import Console

from edgecnn.ondevice.manifest import Manifest, Preprocessing, TensorSpec
from edgecnn.records import Report
from edgecnn.report import html, markdown, model_card, terminal
from edgecnn.report.build import Build


def manifest(**changes: object) -> Manifest:
    values = {
        "format": "tflite", "precision": "int8", "variant": "final", "layout": "NHWC",
        "preprocessing": Preprocessing(height=28, width=32, channels=1, mean=(0.25,), std=(0.5,)),
        "inputs": (TensorSpec("images", (1, 28, 32, 1), "int8", 0.0125, -95),),
        "outputs": (TensorSpec("logits", (1, 3), "int8", 0.125, 13),),
        "class_names": ("cat", "dog", "owl"), "n_params": 1, "n_macs": 1, "size_bytes": 1, "file_sha256": "",
        "recipe_name": "quick", "recipe_sha256": "", "tool_versions": {"edgecnn": "9.9"},
    }  # fmt: skip
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


def test_the_card_says_what_the_files_are_and_how_to_use_them() -> None:
    card = model_card.render(a_report(), {"int8.tflite": manifest()})
    sections = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert sections == [
        "Files", "How it was tested", "Input and output", "How it was made", "Each class", "Limits",
        "Make it again, check it", "Hashes",
    ]  # fmt: skip
    for expected in (
        "quick.int8.tflite takes 11.6 kB, 21.5 times less than the dense float32 network",
        "98.80 % of 10,000 test images",
        "0.20 points less than that network (95 % interval of the loss +0.10 to +0.30)",
        "32 x 28 pixels", "mean 0.25 and std 0.5", "int8 with scale 0.0125 and zero point -95", "cat, dog, owl",
        "data set mnist, network lenet5, seed 0", "Made by edgecnn 9.9.", "edgecnn build recipe.yaml", "4" * 64,
    ):  # fmt: skip
        assert expected in card, expected


def test_names_cannot_change_the_card() -> None:
    report = a_report(class_names=("<b>", "d|g", "owl"))
    report = report.model_copy(update={"recipe": {**report.recipe, "name": "a|b](x) <script>\n# big"}})
    card = model_card.render(report, {"int8.tflite": manifest()})
    assert "<script>" not in card
    assert "<b>" not in card
    assert re.findall(r"^# .*$", card, re.MULTILINE) == [
        "# Model card: a&#124;b&#93;(x) &#60;script&#62; &#35; big"
    ]
    rows = [line for line in card.splitlines() if line.startswith("| d&#124;g")]
    assert len(rows) == 1


def of_many_classes(n_classes: int) -> Report:
    """A report without confusion matrices, as of more classes than evaluation keeps one of."""
    report = a_report(class_names=tuple(f"class {i}" for i in range(n_classes)))
    artifacts = tuple(
        one.model_copy(
            update={"measurements": tuple(m.model_copy(update={"confusion": ()}) for m in one.measurements)}
        )
        for one in report.artifacts
    )
    return report.model_copy(update={"artifacts": artifacts})


def test_many_classes_without_a_confusion_matrix_are_shown_in_every_form() -> None:
    report = of_many_classes(101)
    console = Console(file=io.StringIO(), width=200)
    terminal.print_report(report, console)
    page = html.render([Build("many", report, lacks="nothing there")])
    for text in (console.file.getvalue(), markdown.render(report), page):  # type: ignore[attr-defined]
        assert "class 100" in text
        assert "most often taken for" in text
    card = model_card.render(report, {})
    assert "## Each class" not in card, "nobody reads so many rows"
    assert "## Each class" in model_card.render(of_many_classes(model_card.MOST_CLASSES), {})


def test_without_labels_the_card_tells_of_no_accuracy() -> None:
    card = model_card.render(unlabelled(a_report()), {"int8.tflite": manifest()})
    assert (
        "on 98.80 % of 10,000 test images, which have no labels, it answers as the dense float32 network"
        in card
    )
    assert "how often a file is right is not known" in card
    assert "as dense" in card
    for wrong in ("in the right class", "accuracy is top-1", "| accuracy |"):
        assert wrong not in card
    report = unlabelled(a_report())
    alone = report.model_copy(update={"artifacts": report.artifacts[:1]})
    assert model_card.opening(alone).endswith(
        "the test images have no labels, so that its accuracy is not known."
    )


def test_an_empty_report_and_one_without_manifests_have_a_card() -> None:
    empty = Report(recipe={"name": "empty"}, environment={}, artifacts=(), stages=(), parity=(), verdicts=())
    assert "The build left no files." in model_card.render(empty, {})
    assert "## Input and output" not in model_card.render(a_report(), {})
