"""What the page shows, without a browser: contents, order of sorting, harmless text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from report.html.builds import a_build, a_report

from edgecnn.errors import MissingExtraError
from edgecnn.records import Report, Verdict
from edgecnn.report import html, tables
from edgecnn.report.build import Build
from edgecnn.report.html import classes, page, quantization, sizes, timing
from edgecnn.report.html.cells import number
from edgecnn.report.html.figures import color_of
from edgecnn.report.html.plots import canvas

HOSTILE = "<script>alert(1)</script> & \"$x_{\" 'q' ]]>"


class Tags(HTMLParser):
    """Every element of a page, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.tips: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.tips += [value for name, value in attrs if name == "data-tip" and value]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def written() -> str:
    return html.render([a_build()])


def test_the_page_holds_every_part(written: str) -> None:
    text = Tags(written).text
    for expected in (
        "The budget holds", "11.6 kB", "98.80 %", "Accuracy against size", "host, 1 thread", "host, 2 threads",
        "the machine was busy", "Cortex-A72", "4.0 GB", "Stage by stage", "Weights by layer, int8.tflite",
        "Quantization error of activations", "Ranges of activations", "1 tensors have no counterpart",
        "Where int8 and float disagree", "only float right", "Mistakes by epoch", "version: 1",
        "edgecnn build recipe.yaml", "4444444444",
    ):  # fmt: skip
        assert expected in text, expected
    assert "secret" not in text, "the boot id tells nothing"


def test_ids_are_unique_and_every_sample_is_drawn(written: str) -> None:
    tags = Tags(written)
    assert len(tags.ids) == len(set(tags.ids))
    dots = [path.count("h0") for path in re.findall(r' d="([^"]*)"', written)]
    assert [n for n in dots if n > 1] == [1500] * 5 * 2


def test_nothing_is_fetched_and_the_page_is_small(written: str) -> None:
    assert not re.search(r'(src|href)="(?!data:|#)', written)
    assert "http://" not in written.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in written
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", written)
    assert len(written.encode()) < 2_000_000


def test_the_same_build_gives_the_same_page(written: str) -> None:
    assert html.render([a_build()]) == written


def test_markup_in_names_is_shown_and_not_obeyed() -> None:
    hostile = a_build(
        layer=HOSTILE,
        class_names=(HOSTILE, "dog", "owl"),
        notes=(f"note {HOSTILE}",),
        recipe={**a_report().recipe, "note": HOSTILE},
    )
    alone, compared = html.render([hostile]), html.render([hostile, a_build()])
    for written in (alone, compared):
        tags = Tags(written)
        assert tags.names.count("script") == 1, "the page's own"
        assert "alert(1)</script>" not in written
        assert HOSTILE in tags.text
    assert f"note {HOSTILE}" in Tags(alone).text
    # The plots of weights, of activations, of their error: layers and tensors.
    assert sum(tip.startswith(f"{HOSTILE},") for tip in Tags(alone).tips) >= 5


def test_names_that_no_document_can_hold_are_spelled_out() -> None:
    name = "a\x00b\x1b[31m\ud800c\nd\ufffee"
    build = a_build(layer=name, class_names=(name, "dog", "owl"), recipe={**a_report().recipe, "note": name})
    compared = html.render([build, a_build(recipe={"name": "other"})])
    assert compared.encode("utf-8")
    spelled = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)
    written = html.render([build])
    assert written.encode("utf-8")
    assert any(tip.startswith(f"{spelled},") for tip in Tags(written).tips)
    for svg in re.findall(r"<svg .*?</svg>", written, re.DOTALL):
        ElementTree.fromstring(svg)


def test_a_long_name_leaves_the_plot_its_room_and_is_whole_in_the_tip() -> None:
    long = "model/features/" + "very_deep/" * 6 + "conv2d_17/Conv2D"
    written = html.render([a_build(layer=long)])
    assert f"{long}, its own rounding alone: 44.0 dB" in Tags(written).tips
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", written)
    assert f"{long[:13]}…{long[-14:]}" in texts, "an axis has less room"
    assert long not in texts
    assert max(map(len, texts)) <= 62


def test_the_verdict_comes_first() -> None:
    missed = Verdict(
        metric="max_size_bytes", artifact="int8.tflite", limit=10_000, actual=11_584, status="fail"
    )
    text = Tags(html.render([a_build(verdicts=(missed,))])).text
    assert text.index("The budget does not hold") < text.index("11.6 kB") < text.index("Latency\n")
    assert "size, at most 10.0 kB: it is 11.6 kB" in text


def test_a_missing_figure_and_a_limit_of_nothing_are_said() -> None:
    missing = Verdict(metric="max_median_ms", artifact="int8.tflite", limit=5, actual=None, status="missing")
    assert page.limit(missing).actual == "-"
    assert page.limit(missing).used is None
    nothing = Verdict(metric="max_accuracy_drop", artifact="int8.tflite", limit=0.0, actual=0.1, status="fail")
    assert page.limit(nothing).used is None


def test_an_older_build_is_shown_with_what_it_lacks() -> None:
    report = a_report()
    text = Tags(html.render([Build("old", report, lacks="there is no analysis.json")])).text
    assert "This page lacks" in text
    assert "there is no analysis.json" in text
    assert "Accuracy against size" in text
    assert "Stage by stage" in text
    assert "Mistakes by epoch" not in text
    assert '"lenet5"' in text, "the recipe as the report has it"


def test_tables_that_have_no_place_of_their_own_are_folded_in() -> None:
    assert [table.title for table in page.other_tables(a_report())] == ["Parity of the int8 pair"]


def test_training_after_quantization_is_said() -> None:
    build = a_build()
    assert build.analysis is not None
    error = build.analysis.quantization
    assert error is not None
    assert "trained on" not in quantization.error_note(error)
    trained = error.model_copy(update={"is_trained": True})
    assert "The quantized network was trained on" in quantization.error_note(trained)


def test_an_empty_report_is_shown() -> None:
    empty = Report(recipe={"name": "empty"}, environment={}, artifacts=(), stages=(), parity=(), verdicts=())
    assert "The build left no files." in Tags(html.render([Build("empty", empty, lacks="nothing there")])).text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("11.7 kB", 11_700.0),
        ("1.20 MB", 1_200_000.0),
        ("16/24 us", 0.016),
        ("1.4/2.0 ms", 1.4),
        ("0.16 [+0.03, +0.29]", 0.16),
        ("-0.02 [-0.1, +0.1]", -0.02),
        ("61,706", 61_706.0),
        ("99.49 %", 99.49),
        ("7e-05", 7e-05),
        ("69 s", 69_000.0),
        ("-", None),
    ],
)
def test_cells_are_sorted_by_what_they_are_worth(shown: str, expected: float | None) -> None:
    assert number(shown) == (pytest.approx(expected) if expected is not None else None)


def test_the_matrix_shades_mistakes_and_large_ones_are_left_out() -> None:
    (smallest, dense) = classes.matrices(a_report())
    assert smallest.title == "int8.tflite on litert"
    assert dense.title == "dense on onnxruntime"
    assert smallest.rows[0][0] == (332, 0.0)
    assert smallest.rows[0][1] == (2, 1.0)
    assert smallest.n_wrong == 12
    many = tuple(f"class {i}" for i in range(classes.LARGEST_MATRIX + 1))
    assert classes.matrices(a_report(class_names=many)) == ()


def test_outputs_become_shares_the_best_first() -> None:
    found = classes.guesses((0.0, 2.0, 1.0, -50.0), ("a", "b", "c"))
    assert [one.name for one in found] == ["b", "c", "a"]
    assert sum(one.share for one in found) == pytest.approx(1)
    assert classes.guesses((900.0, 0.0), ())[0].share == 1.0, "no overflow"
    assert classes.guesses((1.0, 0.0), ())[0].name == "0", "without names: the number"


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_quantized_network_is_called_what_it_is(precision: str) -> None:
    written = html.render([a_build(precision=precision)])
    text = Tags(written).text
    for expected in (
        f"Where {precision} and float disagree", f"only {precision} right",
        f"on 1 only {precision}, on 1 neither",
        f"{precision} ONNX = TFLite: top-1 equal on 1,000 of 1,000", f"Parity of the {precision} pair",
        f"{precision}.tflite on", f"float says cat, {precision} says dog",
    ):  # fmt: skip
        assert expected in text + written, expected
    if precision != "int8":
        assert "int8" not in Tags(re.sub(r'placeholder="[^"]*"', "", written)).text
    figures = sizes.layer_figures(a_build(precision=precision).analysis, {
        one.key: color_of(one) for one in a_report(precision=precision).artifacts
    })  # fmt: skip
    assert "var(--series-2)" in figures[-1].svg


def test_without_labels_nothing_is_called_right() -> None:
    """The dense network's answers stand for the labels: they are not the truth."""
    build = a_build(is_labelled=False)
    written = html.render([build])
    text = Tags(written).text
    for expected in (
        "it answers as the dense float32 network, whose accuracy is not known",
        "the dense network's answer, on 10,000 test images without labels", "Same answer as the dense network",
        "not known which of the two is right", "Each class, int8.tflite, by the dense network's answers",
        "12 other answers. Rows: the dense network's answer", "as dense",
        "other answers than the dense network's, at most 1.00 pt: it is 0.20 pt",
    ):  # fmt: skip
        assert expected in text, expected
    for wrong in (
        "accuracy lost",
        "in the right class",
        "only float right",
        "test accuracy, %",
        "Rows: the truth",
        "mistakes",
    ):
        assert wrong not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL), wrong
    assert 'class="choose"' not in written
    assert 'class="truth"' not in written
    assert [one.title for one in classes.matrices(build.report)] == ["int8.tflite on litert"]
    (dense, *_) = tables.summary(build.report).rows
    assert dense[2] == "-", "it is held against itself"
    (dense, *_) = tables.runtimes(build.report).rows
    assert dense[3] == "-"
    assert page.facts(build.report)[2].label == "same answer"


def test_one_picture_of_several_is_shown() -> None:
    analysis = a_build().analysis
    assert analysis is not None and analysis.disagreements is not None
    found = analysis.disagreements
    one = found.model_copy(update={"shown": found.shown[:1]})
    assert classes.disagreements_text(one).endswith(" 1 of them is shown.")
    two = found.model_copy(update={"shown": found.shown[:2]})
    assert classes.disagreements_text(two).endswith(" 2 of them are shown.")
    assert "shown" not in classes.disagreements_text(found)


def test_bytes_of_all_kinds_add_up() -> None:
    kinds = dict(sizes.kinds({"weights": 5, "names": 3, "padding": 4, "biases": 1}))
    assert kinds == {"weights": 5, "biases": 1, "quantization": 0, "the rest": 7}


def test_the_machine_is_told_in_words() -> None:
    rows = dict(timing.environment_rows(a_report().environment))
    assert rows == {
        "target": "host", "CPU": "Cortex-A72", "architecture": "aarch64", "memory": "4.0 GB",
        "runtimes": "litert 2.1", "emulated": "no",
    }  # fmt: skip


def test_without_the_plotting_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="the HTML report needs matplotlib") as caught:
        html.render([a_build()])
    assert caught.value.fix == 'pip install "edgecnn[report]"'
