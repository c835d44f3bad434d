"""What the page shows, without a browser: contents, order of sorting, harmless text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from report.html.builds import a_build, a_report

from edgecnn.errors import MissingExtraError
from edgecnn.records import Report, Verdict
from edgecnn.report import html
from edgecnn.report.build import Build
from edgecnn.report.html import classes, page, quantization, sizes, timing
from edgecnn.report.html.cells import number
from edgecnn.report.html.plots import canvas

HOSTILE = "<script>alert(1)</script> & \"$x_{\" 'q' ]]>"


class Tags(HTMLParser):
    """Every element of a page, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]

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
    hostile = a_build(HOSTILE, class_names=(HOSTILE, "dog", "owl"))
    for builds in ([hostile], [hostile, a_build()]):
        written = html.render(builds)
        tags = Tags(written)
        assert tags.names.count("script") == 1, "the page's own"
        assert "alert(1)</script>" not in written
        assert HOSTILE in tags.text


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
    empty = Report(recipe={}, environment={}, artifacts=(), stages=(), parity=(), verdicts=())
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
