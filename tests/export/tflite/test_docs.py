"""docs/adding-an-operator.md speaks of the code as it stands."""

from __future__ import annotations

import inspect
import re

import pytest
from export.tflite import exact, test_operators, test_random_graphs
from recipes_for_tests import ROOT

from edgecnn.export import tflite
from edgecnn.export.tflite import (
    decompositions,
    lowering,
    passes,
    quantization,
    reader,
    runtimes,
    schema,
    versions,
    writer,
)
from edgecnn.export.tflite.lowering import activations, aliasing, context, elementwise, equivalents

PAGE = (ROOT / "docs" / "adding-an-operator.md").read_text(encoding="utf-8")
HOMES = [
    tflite, lowering, passes, quantization, reader, runtimes, schema, versions, writer, activations, aliasing,
    context, elementwise, context.Lowering, decompositions, equivalents, exact, test_operators,
    test_random_graphs,
]  # fmt: skip
TABLES = {
    "OPERATORS": schema.OPERATORS["LEAKY_RELU"],
    "OPTIONS": schema.OPTIONS["LeakyReluOptions"],
}


def test_the_worked_example_is_the_code():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code.strip() == inspect.getsource(activations.leaky_relu).strip()


@pytest.mark.parametrize("table", TABLES)
def test_table_lines(table):
    (line,) = re.findall(rf"^    {table}: +(.*)$", PAGE, re.MULTILINE)
    assert eval("{" + line + "}") == {line.split('"')[1]: TABLES[table]}


def test_names_of_constants_and_functions_exist():
    named = set(re.findall(r"`([A-Z_]{3,})`", PAGE)) | set(re.findall(r"`(?:lower\.)?([a-z_]+)\(", PAGE))
    named |= {"simplify", "absorb_quantization", "write", "lowest_version", "emit_then_requantize"}
    known = {name for home in HOMES for name in vars(home)} | set(schema.OPERATORS)
    missing = named - known - {"EDGECNN_RANDOM_GRAPHS"}
    assert len(named) > 15 and not missing, missing


def test_modules_exist():
    folder = ROOT / "edgecnn" / "export" / "tflite"
    for name in set(re.findall(r"`((?:lowering/)?\w+\.py)`", PAGE)):
        assert (folder / name).is_file(), name
    listed = re.search(r"module of `lowering/` that fits: (.*?)\.\n", PAGE, re.DOTALL)
    assert listed is not None
    for name in re.findall(r"`(\w+)`", listed[1]):
        assert (folder / "lowering" / f"{name}.py").is_file(), name
    for path in re.findall(r"`(tests/\S+)`", PAGE):
        assert (ROOT / path).is_file(), path


def test_what_it_says_of_leaky_relu():
    assert lowering.LOWERINGS["LeakyRelu"] is activations.leaky_relu
    assert "LeakyRelu" in quantization._ACTIVATIONS
    assert "LEAKY_RELU" in versions._INT8_IS_1 and "LEAKY_RELU" in aliasing._IN_PLACE
    assert runtimes.RUNTIMES["tflite-runtime==2.14"]["LEAKY_RELU"] == 2
    assert "leaky_relu" in test_operators.CASES and "LEAKY_RELU" in exact.EXACT
