"""What differs between two files and why: every byte explained, layers found again, and said in words."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from io import StringIO

import numpy as np
import onnx
import pytest
from export.tflite.nets import Net, lenet5, qdq
from hypothesis import given, settings
from hypothesis import strategies as st
from inspection.flat_files import everything_model, packed, small_model
from inspection.test_tables import modules_after
from rich.console import Console

from edgecnn.export.tflite import convert
from edgecnn.inspection import Inspection, inspect
from edgecnn.inspection.alignment import align
from edgecnn.inspection.difference import Difference, difference
from edgecnn.inspection.difference_tables import all_tables, render_markdown
from edgecnn.inspection.pairs import Comparison
from edgecnn.report import terminal
from edgecnn.report.markdown import escaped


@pytest.fixture
def differ(tmp_path):
    """The difference of two files of the same name."""

    def of(old: bytes | onnx.ModelProto, new: bytes | onnx.ModelProto, name: str = "model") -> Difference:
        return difference(*(saved(tmp_path / side, data, name) for side, data in (("old", old), ("new", new))))

    return of


def saved(folder, data: bytes | onnx.ModelProto, name: str = "model") -> Inspection:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.SerializeToString())
    return inspect(folder / name)


def network(widths: list[int], seed: int = 0) -> onnx.ModelProto:
    """Convolutions 3 x 3 of these widths, each with a Relu, then a mean and a product."""
    net = Net(seed=seed)
    x, n_in = net.input(1, 3, 8, 8), 3
    for n_out in widths:
        x = net("Relu", net.conv(x, n_in, n_out, 3, pads=[1] * 4))
        n_in = n_out
    x = net("Flatten", net("GlobalAveragePool", x))
    return net.model(net("Gemm", x, net.weights(n_in, 10), net.weights(10)))


def differing(found: Difference, status: str):
    return [layer for layer in found.layers if layer.status == status]


def check_sum(found: Difference) -> None:
    parts = [*found.layers, *found.overhead]
    assert sum(part.delta_bytes for part in parts) == found.delta_bytes
    assert sum(part.old_bytes for part in parts) == found.old.size_bytes
    assert sum(part.new_bytes for part in parts) == found.new.size_bytes


@pytest.fixture(scope="session")
def some_files(tmp_path_factory) -> list[Inspection]:
    """Files of both formats, of several networks and precisions, and odd ones."""
    folder = tmp_path_factory.mktemp("files")
    shared = Net()
    weights, x = shared.weights(4, 4, 1, 1), shared.input(1, 4, 8, 8)
    shared_model = shared.model(shared("Conv", shared("Conv", x, weights), weights))
    unused = small_model()
    unused.buffers.append(unused.buffers[1])
    models = [lenet5(), qdq(lenet5()), network([8]), qdq(network([8, 12])), network([8, 8, 8]), shared_model]
    data = [
        *(model.SerializeToString() for model in models),
        *(convert(model).data for model in models),
        convert(lenet5(), weights="float16").data,
        convert(qdq(lenet5()), weights="int4", debug_names=True).data,
        packed(small_model()),
        packed(unused) + b"trailing bytes",
        packed(everything_model()),
    ]
    found = [saved(folder, one, f"{i}") for i, one in enumerate(data)]
    external = folder / "external.onnx"
    onnx.save(lenet5(), external, save_as_external_data=True, location="model.data", size_threshold=0)
    return [*found, inspect(external)]


def test_every_byte_of_the_difference_is_explained(some_files):
    for old, new in itertools.product(some_files, repeat=2):
        found = difference(old, new)
        check_sum(found)
        back = difference(new, old)
        assert back.delta_bytes == -found.delta_bytes
        assert found.is_identical == (old is new and not old.external_bytes)
        assert found.reason and found.reason.isprintable()
        if old.format == new.format:
            kept = [layer for layer in found.layers if None not in (layer.old_index, layer.new_index)]
            gone, added = differing(found, "removed"), differing(found, "inserted")
            assert (len(kept) + len(gone), len(kept) + len(added)) == (len(old.layers), len(new.layers))
        assert not any(kind.kind == "unassigned_weights" for kind in found.overhead) or (
            old.external_bytes or new.external_bytes
        )


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_pairs_of_layers_are_in_order_and_complete(some_files, data):
    """Any sub-sequence of a network's layers is found again."""
    layers = data.draw(st.sampled_from(some_files)).layers
    kept = data.draw(st.lists(st.sampled_from(range(len(layers))), unique=True).map(sorted))
    pairs = align(layers, [layers[i] for i in kept])
    assert [old for old, _ in pairs if old] == list(layers)
    assert [new for _, new in pairs if new] == [layers[i] for i in kept]
    assert sum(old is not None and new is not None for old, new in pairs) == len(kept)


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_a_wider_layer_is_named_with_its_bytes(differ, form):
    models = [network([8, 12]), network([8, 20])]
    old, new = (convert(model).data for model in models) if form == "tflite" else models
    found = differ(old, new, "net")
    check_sum(found)
    assert {layer.status for layer in found.layers} == {"same", "changed"}
    grown = max(found.layers, key=lambda layer: layer.delta_bytes)
    assert grown.delta_bytes == 4 * 8 * (8 * 9 + 1)
    shapes = "20x3x3x8 instead of 12x3x3x8" if form == "tflite" else "20x8x3x3 instead of 12x8x3x3"
    operator = "CONV_2D" if form == "tflite" else "Conv"
    assert found.reason.startswith("net grew by 2.7 kB (+")
    assert f"({operator}) holds 2.3 kB more: {shapes}; " in found.reason
    assert differ(new, old).reason.startswith("model shrank by 2.7 kB (-")


@pytest.mark.parametrize("form", ["onnx", "tflite"])
@pytest.mark.parametrize("quantize", [lambda model: model, qdq], ids=["float", "int8"])
def test_an_inserted_layer_is_one_new_layer(differ, form, quantize):
    models = [quantize(network([8, 12])), quantize(network([8, 8, 12]))]
    old, new = (convert(model).data for model in models) if form == "tflite" else models
    found = differ(old, new)
    check_sum(found)
    added = differing(found, "inserted")
    wanted = ["CONV_2D"] if form == "tflite" else ["Conv", "Relu"]
    assert [layer.operator for layer in added] == wanted and not differing(found, "removed")
    convolution = next(layer for layer in added if layer.new_bytes)
    assert convolution.new_bytes == 8 * 8 * 9 * (4 if quantize is not qdq else 1) + 4 * 8
    assert "is new (8x" in found.reason
    assert not any(layer.delta_bytes for layer in found.layers if layer is not convolution)
    if form == "onnx":
        assert "new without weights:" in found.reason
    assert "is gone (8x" in differ(new, old).reason


def test_one_scale_or_one_a_channel(differ):
    model = network([8, 12])
    found = differ(convert(qdq(model, per_channel=())).data, convert(qdq(model, per_channel=("Conv",))).data)
    check_sum(found)
    assert "the weights of 2 layers are quantized per-channel instead of per-tensor" in found.reason
    assert "scales and zero points +" in found.reason


def test_other_precision(differ):
    found = differ(convert(lenet5()).data, convert(qdq(lenet5())).data)
    check_sum(found)
    assert {layer.status for layer in found.layers} == {"changed"}
    assert "the weights of 5 layers are int8 instead of float32 (-184.4 kB)" in found.reason
    whats = {change.what: (change.old, change.new) for change in found.changes}
    assert whats["input_dtype"] == ("float32", "int8")
    assert found.reason.startswith("model shrank by 18")
    version = next(change for change in found.layers[0].changes if change.what == "version")
    assert (version.old, version.new) == (1, 3)


def test_identical_files(differ):
    found = differ(lenet5(), lenet5(), "lenet.onnx")
    assert found.is_identical and found.reason == "lenet.onnx: identical" and not all_tables(found)
    check_sum(found)


def test_only_other_weights(differ):
    models = [network([8, 12], seed) for seed in (0, 1)]
    for old, new in (models, [convert(model).data for model in models]):
        found = differ(old, new)
        assert not found.is_identical and {layer.status for layer in found.layers} == {"same"}
        assert found.reason.startswith("model has the same size (") and "only values differ" in found.reason


def test_other_scales_are_told(differ):
    found = differ(*(convert(qdq(network([8], seed))).data for seed in (0, 1)))
    assert "layers have other scales or zero points" in found.reason and "only" not in found.reason
    changes = {change.what for layer in found.layers for change in layer.changes}
    assert "output_scale" in changes and "weights" not in changes


def test_external_data_is_counted_and_not_called_identical(some_files):
    external = some_files[-1]
    found = difference(external, external)
    assert found.old.size_bytes == external.size_bytes + external.external_bytes
    assert "beside it are not compared" in found.reason


def test_other_formats(differ):
    found = differ(lenet5(), convert(lenet5()).data)
    check_sum(found)
    assert not found.layers and found.delta_bytes
    assert "onnx before, tflite now" in found.reason and "layers are not compared" in found.reason


def test_names_cannot_act_in_a_terminal_or_in_markdown(differ):
    evil = "<b>|`*_[x](y)\x1b[31m\u202e\n@all #1 https://e.vil"
    models = []
    for width in (8, 12):
        model = network([width])
        model.graph.node[0].name = evil
        model.graph.input[0].name = model.graph.node[0].input[0] = evil + str(width)
        models.append(model)
    found = differ(*models)
    text = render_markdown(Comparison(evil, evil, (found,)))
    assert all(character.isprintable() for character in text.replace("\n", ""))
    for markup in ("<b>", "`", "[x]", "@all", "#1 ", "://"):
        assert markup not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for _, rows in itertools.groupby(tables, key=lambda line: line.count("|")):
        assert len(list(rows)) > 2  # no row has more cells than its header
    assert escaped("a|b_c _d_") == "a&#124;b_c &#95;d&#95;"
    assert found.reason.isprintable()


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_tables_tell_what_differs_and_are_narrow(differ, form):
    models = [lenet5(), qdq(lenet5())]
    found = differ(*(convert(model).data for model in models)) if form == "tflite" else differ(*models)
    console = Console(file=StringIO(), width=200)
    for table in all_tables(found):
        terminal.print_table(table, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in lines) <= 120
    text = "\n".join(lines)
    assert f"{found.delta_bytes:+,}" in text and f"{len(found.layers)} layers differ" in text
    assert "weights dtype float32 -> int8" in text


def test_two_large_networks_take_no_time(some_files):
    layer = some_files[0].layers[0]
    old = [replace(layer, name=str(i)) for i in range(3000)]
    new = [replace(layer, operator="Other", name=str(i)) for i in range(3000)]
    began = time.process_time()
    pairs = align(old, new)
    assert time.process_time() - began < 2
    assert len(pairs) == 6000
    assert len(align(old, [*old[:1500], new[0], *old[1500:]])) == 3001


def test_comparing_loads_no_library(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(convert(lenet5()).data)
    loaded = modules_after(
        f"from edgecnn.inspection.pairs import compare; compare({str(path)!r}, {str(path)!r})"
    )
    assert not {"torch", "onnx", "numpy", "pydantic", "rich", "flatbuffers"} & loaded


def test_the_rest_of_many_causes_is_summed_up(differ):
    found = differ(network([8] * 6), network([9] * 6))
    assert "; the rest +" in found.reason and found.reason.count(";") <= 4
    assert np.isclose(found.delta_bytes, sum(one.delta_bytes for one in (*found.layers, *found.overhead)))


def test_a_long_name_does_not_fill_the_sentence(differ):
    models = [network([width]) for width in (8, 12)]
    for model in models:
        model.graph.node[0].name = "module." * 10_000 + "conv"
    reason = differ(*models).reason
    assert "module.conv (Conv) holds" in reason and "..." in reason
    assert len(reason) < 400
