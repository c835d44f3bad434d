"""Why a model grew: real files, the baseline's ledger of one against the other, in every form of output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.commands import run

from edgecnn.check import baseline, check, update
from edgecnn.check.figures import Figures, Ledger, LedgerLayer
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model

MODEL, BASELINE = Path("a.tflite"), Path("edgecnn-baseline.json")
GREW = "(FULLY_CONNECTED) holds 56.1 kB more: 120x400 instead of 85x400"


def lenet5(path: Path, fc1: int) -> bytes:
    widths = {"conv1": 6, "conv2": 16, "fc1": fc1, "fc2": 84}
    network = build_model("lenet5", in_channels=1, n_classes=10, seed=0, widths=widths)
    source = path / f"{fc1}.onnx"
    source.write_bytes(export_onnx(network, (1, 28, 28)).SerializeToString())
    return convert(source).data


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A small LeNet-5, and one whose first dense layer is fatter."""
    folder = tmp_path_factory.mktemp("why")
    return lenet5(folder, 85), lenet5(folder, 120)


@pytest.fixture(autouse=True)
def fattened(sizes: tuple[bytes, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small one is the baseline, the fat one is what is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    MODEL.write_bytes(sizes[0])
    update([MODEL])
    MODEL.write_bytes(sizes[1])


@pytest.mark.parametrize("form", ["table", "markdown", "junit", "github", "json"])
def test_every_form_names_the_layer_that_grew(form: str) -> None:
    result = run("check", str(MODEL), "--format", form)
    assert result.exit_code == 1
    assert GREW in result.stdout.replace("\n", " ")


def test_the_comment_folds_the_layers_that_differ() -> None:
    text = run("check", str(MODEL), "--format", "markdown").stdout
    (folded,) = [part for part in text.split("<details>") if "layers differ</summary>" in part]
    assert folded.strip().startswith("<summary>a.tflite: 2 of 7 layers differ</summary>")
    (row,) = [line for line in folded.splitlines() if "85x400 -&#62; 120x400" in line]
    assert row.split("|")[5:7] == [" 136,340 -&#62; 192,480 ", " +56,140 "]
    assert "Where" not in folded, "the totals are in the table above"


def test_the_ledger_is_one_layer_a_line_and_read_back() -> None:
    text = BASELINE.read_text()
    assert baseline.render(baseline.read(BASELINE)) == text
    (line,) = [line for line in text.splitlines() if "85x400" in line]
    found = json.loads(line.strip().rstrip(","))
    assert {key: found[key] for key in ("operator", "shape", "dtype")} == {
        "operator": "FULLY_CONNECTED", "shape": "85x400", "dtype": "float32",
    }  # fmt: skip
    assert found["bytes"] >= 85 * 400 * 4


def test_a_baseline_without_a_ledger_says_nothing_of_why() -> None:
    raw = json.loads(BASELINE.read_text())
    del raw["models"][str(MODEL)]["ledger"]
    BASELINE.write_text(json.dumps(raw))
    found = check([MODEL])
    assert (found.passed, found.why, found.notes) == (False, {}, ())


def test_a_file_that_cannot_be_read_is_noted_and_its_size_judged() -> None:
    MODEL.write_bytes(b"x" * 10**6)
    found = check([MODEL])
    assert (len(found.failures), found.why) == (1, {})
    assert found.notes[0].startswith("a.tflite: why its size changed cannot be told: ")


def test_a_file_of_the_same_size_is_not_read(sizes: tuple[bytes, bytes]) -> None:
    MODEL.write_bytes(b"x" * len(sizes[0]))
    found = check([MODEL])
    assert (found.passed, found.why, found.notes) == (True, {}, ())


def test_a_ledger_keeps_what_is_odd(tmp_path: Path) -> None:
    layers = (LedgerLayer(operator="A", shape="scalar", dtype="int8"), LedgerLayer(operator="B", shape="?x2"))
    figures = Figures(size_bytes=1, ledger=Ledger(format="onnx", layers=layers, other_bytes={"names": 1}))
    kept = baseline.Baseline(models={"m": figures})
    baseline.write(tmp_path / "b.json", kept)
    assert baseline.read(tmp_path / "b.json") == kept
