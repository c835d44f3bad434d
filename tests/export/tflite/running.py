"""Running the two files of a conversion on the same inputs, and reading back what was written."""

from __future__ import annotations

import atexit
import importlib.util
import os
import pickle
import subprocess
import sys

import numpy as np
import onnx
import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Runtimes that are not to be had everywhere.
PACKAGES = {"tflite-runtime": "tflite_runtime", "tflm": "tflite_micro"}

WORKER_CODE = """
import pickle, sys
import numpy as np
answers = sys.stdout.buffer

def interpreter_of(name, data):
    if name == "tflite-runtime":
        from tflite_runtime.interpreter import Interpreter
        interpreter = Interpreter(model_content=data, num_threads=1)
    else:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
        kinds = {"litert": OpResolverType.AUTO, "litert-reference": OpResolverType.BUILTIN_REF}
        interpreter = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kinds[name])
    interpreter.allocate_tensors()
    return interpreter

def run(name, data, batches):
    results = []
    if name == "tflm":
        from tflite_micro import runtime
        interpreter = runtime.Interpreter.from_bytes(data, arena_size=8_000_000)
        for arrays in batches:
            for i, array in enumerate(arrays):
                interpreter.set_input(array, i)
            interpreter.invoke()
            results.append([interpreter.get_output(0)])
        return results
    interpreter = interpreter_of(name, data)
    for arrays in batches:
        for detail, array in zip(interpreter.get_input_details(), arrays):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        results.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
    return results

while True:
    try:
        request = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        answer = run(*request)
    except Exception as fault:
        answer = f"{type(fault).__name__}: {fault}"
    answers.write(pickle.dumps(answer))
    answers.flush()
"""

_workers: dict[str, subprocess.Popen[bytes]] = {}


def run_tflite(data: bytes, batches: list[list[np.ndarray]], runtime: str = "litert") -> list[list[np.ndarray]]:
    """The outputs of a .tflite file, in a child process: bad models take the process with them.

    `runtime` is litert, litert-reference, tflite-runtime or tflm (its first output only).
    """
    if runtime in PACKAGES and importlib.util.find_spec(PACKAGES[runtime]) is None:
        pytest.skip(f"{runtime} is not installed: it has no wheel for this Python or machine")
    if runtime not in _workers:
        _workers[runtime] = subprocess.Popen(
            [sys.executable, "-c", WORKER_CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(_workers[runtime].kill)
    worker = _workers[runtime]
    assert worker.stdin and worker.stdout
    try:
        worker.stdin.write(pickle.dumps((runtime, data, batches)))
        worker.stdin.flush()
        answer = pickle.load(worker.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        del _workers[runtime]
        raise RuntimeCrashError(f"{runtime} ended with status {worker.wait(10)}") from None
    if isinstance(answer, str):
        raise RuntimeCrashError(f"{runtime}: {answer}")
    return answer


class RuntimeCrashError(AssertionError):
    """A runtime refused the file, or took its process down."""


def run_onnx(model: onnx.ModelProto, batches: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """The outputs of onnxruntime with its graph optimizations off: its fusions move single LSBs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [info.name for info in session.get_inputs()]
    return [session.run(None, dict(zip(names, arrays, strict=True))) for arrays in batches]


def operators(data: bytes) -> list[tuple[str, int]]:
    """(name, version) of each operator in a .tflite file."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    codes = [
        (names[max(code.builtinCode, code.deprecatedBuiltinCode)], code.version) for code in model.operatorCodes
    ]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def relative_error(actual: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference over the largest wanted value; below 0.05, sums may have cancelled out."""
    return float(np.max(np.abs(actual - wanted)) / max(float(np.max(np.abs(wanted))), 0.05))
