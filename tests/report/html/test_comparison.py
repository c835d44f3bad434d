"""Several builds on one page."""

from __future__ import annotations

from report.html.builds import a_build, a_report

from edgecnn.report.html import comparison
from edgecnn.report.html.cells import Cell


def rows_of(page: comparison.Comparison) -> dict[str, tuple[str, ...]]:
    return {row[0].text: tuple(cell.text for cell in row[1:]) for row in page.recipes.rows}


def test_every_file_of_every_build_is_in_one_table() -> None:
    page = comparison.of([a_build("one"), a_build("two")])
    assert [(row[0].text, row[1].text) for row in page.files.rows][4:6] == [
        ("one", "int8.tflite"), ("two", "dense fp32 (ref)"),
    ]  # fmt: skip
    assert page.files.rows[4][2] == Cell("11.6 kB", 11_600.0)
    assert [build.verdict for build in page.builds] == ["pass", "pass"]
    assert page.tradeoff is not None
    assert "one: int8.tflite" in page.tradeoff.svg
    assert page.latency is not None
    assert "two, litert" in page.latency.svg


def test_recipes_are_compared_step_by_step() -> None:
    steps = [{"quantize": {"engine": "neural-compressor", "images": 300}}]
    recipe = {**a_report().recipe, "name": "two", "compress": steps}
    page = comparison.of([a_build("one"), a_build("two", recipe=recipe)])
    assert rows_of(page) == {
        "compress": ("prune, quantize", "quantize"),
        "prune.ratio": ("0.5", "-"),
        "quantize.engine": ("onnxruntime", "neural-compressor"),
        "quantize.images": ("-", "300"),
    }


def test_a_step_that_stands_twice_keeps_its_number() -> None:
    steps = [{"finetune": {"epochs": 1}}, {"prune": {"widths": [4, 8]}}, {"finetune": {"epochs": 2}}]
    assert dict(comparison.flattened({"compress": steps, "seed": 0, "widths": None})) == {
        "compress": "finetune, prune, finetune", "finetune.epochs": "1", "prune.widths": "4, 8",
        "finetune 2.epochs": "2", "seed": "0",
    }  # fmt: skip


def test_builds_of_one_recipe_are_told_apart_by_their_folders() -> None:
    names = comparison.names([a_build("one"), a_build("one"), a_build("two")])
    assert names == ["one (artifacts/one)", "one (artifacts/one)", "two"]


def test_what_makes_the_comparison_unfair_is_said() -> None:
    assert comparison.of([a_build("one"), a_build("two")]).warnings == ()
    data = {**a_report().recipe, "data": {"name": "fashion-mnist"}}
    machine = {**a_report().environment, "cpu_model": "AMD EPYC"}
    warned = comparison.of([a_build("one"), a_build("two", recipe=data, environment=machine)]).warnings
    assert ["different data sets" in warned[0], "do not compare" in warned[1]] == [True, True]


def test_pictures_without_labels_are_said() -> None:
    mixed = comparison.of([a_build("one"), a_build("two", is_labelled=False)])
    (warned,) = mixed.warnings
    assert warned.startswith("The pictures of two have no labels")
    assert mixed.tradeoff is not None
    assert mixed.tradeoff.title == "Accuracy against size"
    both = comparison.of([a_build("one", is_labelled=False), a_build("two", is_labelled=False)])
    assert both.tradeoff is not None
    assert both.tradeoff.title == "Same answer as the dense network against size"
    assert 'data-tip="dense' not in both.tradeoff.svg, "it is held against itself"
    assert 'data-tip="dense' in mixed.tradeoff.svg


def test_emulated_times_are_marked() -> None:
    emulated = a_report("two").artifacts
    times = tuple(m.model_copy(update={"emulated": True}) for m in emulated[-1].measurements)
    artifacts = (*emulated[:-1], emulated[-1].model_copy(update={"measurements": times}))
    page = comparison.of([a_build("one"), a_build("two", artifacts=artifacts)])
    assert page.latency is not None
    assert "two, litert, emulated" in page.latency.svg
    assert "one, litert, emulated" not in page.latency.svg
    assert "Emulated times are of no board" in page.latency.caption
    real = comparison.of([a_build("one"), a_build("two")]).latency
    assert real is not None and "mulated" not in real.caption + real.svg
