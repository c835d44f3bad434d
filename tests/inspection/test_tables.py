"""What people read of a ledger, and what it costs to ask for it."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO

import numpy as np
import pytest
from export.tflite.nets import Net, lenet5, qdq
from rich.console import Console

from edgecnn.export.tflite import convert
from edgecnn.inspection import inspect
from edgecnn.inspection.tables import all_tables, headline, layers, shape_text
from edgecnn.report import terminal

WIDTH = 120


@pytest.fixture
def ledger_of(tmp_path):
    def of(data: bytes, name: str = "model.tflite"):
        path = tmp_path / name
        path.write_bytes(data)
        return inspect(path)

    return of


def printed(ledger) -> list[str]:
    console = Console(file=StringIO(), width=WIDTH)
    for table in all_tables(ledger):
        terminal.print_table(table, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def mobile_net(prefix: str = "") -> Net:
    """A network with wide numbers: 112 x 112 pictures, 1280 channels, two inputs to one operator."""
    net = Net()
    x = net.input(1, 3, 224, 224)
    x = net.conv(x, 3, 96, 3, strides=[2, 2], pads=[1] * 4)
    y = net("Clip", net.conv(x, 96, 96, 3, group=96, pads=[1] * 4), np.float32(0), np.float32(6))
    net.nodes[-1].name = prefix + "block.activation"
    x = net("Concat", x, y, net("Relu", y), axis=1)
    x = net("GlobalAveragePool", net.conv(x, 288, 1280, 1))
    net("Identity", x)
    return net


@pytest.mark.parametrize("form", ["onnx", "tflite"])
@pytest.mark.parametrize("quantize", [lambda m: m, qdq], ids=["float", "int8"])
@pytest.mark.parametrize("prefix", ["", "a.very.long.name.of.a.module." * 6], ids=["short", "long"])
def test_tables_are_no_wider_than_a_terminal(ledger_of, form, quantize, prefix):
    net = mobile_net(prefix)
    model = quantize(net.model(net.nodes[-1].output[0]))
    data = model.SerializeToString() if form == "onnx" else convert(model, debug_names=True).data
    ledger = ledger_of(data)
    lines = printed(ledger)
    assert max(len(line.rstrip()) for line in lines) <= WIDTH
    text = "".join("".join(lines).split())
    assert "..." not in text and "…" not in text
    for layer in ledger.layers:
        assert layer.operator in text
        assert f"{layer.n_params:,}" in text or not layer.n_params
        for shape in (*layer.input_shapes, *layer.output_shapes):
            assert shape_text(shape) in text
    if form == "onnx" and prefix:
        assert "block.activation" in text and text.count("a.very.long") >= 5


def test_the_layers_table_of_lenet(ledger_of):
    (table, *more) = layers(ledger_of(convert(qdq(lenet5())).data))
    assert not more
    assert table.rows[0][:8] == (
        "0", "CONV_2D v3 +RELU", "1x28x28x1", "1x28x28x6", "156", "117,600", "174", "int8/channel",
    )  # fmt: skip
    assert table.rows[-1][4:7] == ("61,706", "416,520", "62,414")


def test_headline(ledger_of):
    line = headline(ledger_of(convert(lenet5()).data))
    assert line.startswith("model.tflite: TFLite, 248.")
    assert "61,706 params, 416,520 MACs; in image 1x28x28x1 float32; out output 1x10 float32" in line
    of_onnx = headline(ledger_of(lenet5().SerializeToString(), "model.onnx"))
    assert "ONNX opset 17" in of_onnx and "in image ?x1x28x28 float32" in of_onnx


def test_byte_table_adds_up(ledger_of):
    table = all_tables(ledger_of(convert(lenet5()).data))[-1]
    *rows, total = [int(row[1].replace(",", "")) for row in table.rows]
    assert sum(rows) == total


def test_names_cannot_steer_the_terminal(ledger_of):
    model = lenet5()
    model.graph.node[0].name = "red\x1b[31m\nline"
    text = "\n".join(printed(ledger_of(model.SerializeToString())))
    assert "\x1b" not in text and "red\\x1b[31m\\x0aline" in text


def test_json_is_json(ledger_of):
    value = ledger_of(convert(qdq(lenet5())).data).to_json()
    again = json.loads(json.dumps(value, allow_nan=False))
    assert again["schema_version"] == 1 and again["layers"][0]["operator"] == "CONV_2D"
    assert again["totals"]["n_params"] == 61_706 and again["inputs"][0]["shape"] == [1, 28, 28, 1]


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("form", ["tflite", "onnx"])
def test_looking_at_a_file_loads_no_library(tmp_path, form):
    path = tmp_path / "model"
    path.write_bytes(convert(lenet5()).data if form == "tflite" else lenet5().SerializeToString())
    loaded = modules_after(f"from edgecnn.inspection import inspect; inspect({str(path)!r})")
    heavy = {
        "torch",
        "onnx",
        "onnxruntime",
        "numpy",
        "ai_edge_litert",
        "tflite_runtime",
        "flatbuffers",
        "google",
    }
    assert not heavy & loaded and "edgecnn.inspection.ledger" in loaded
    assert "numpy" in modules_after("import numpy")  # the probe can fail
