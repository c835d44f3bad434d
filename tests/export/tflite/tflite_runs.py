"""Running the two files of a conversion on the same inputs, and reading back what was written."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import onnx

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

RUNTIME_CODE = """
import pickle, sys
import numpy as np
name, data, batches = pickle.load(sys.stdin.buffer)
if name == "tflm":
    from tflite_micro import runtime
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=8_000_000)
    results = []
    for arrays in batches:
        for i, array in enumerate(arrays):
            interpreter.set_input(array, i)
        interpreter.invoke()
        results.append([interpreter.get_output(0)])
else:
    if name == "tflite-runtime":
        from tflite_runtime.interpreter import Interpreter
        interpreter = Interpreter(model_content=data, num_threads=1)
    else:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
        kinds = {"litert": OpResolverType.AUTO, "litert-reference": OpResolverType.BUILTIN_REF}
        interpreter = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kinds[name])
    interpreter.allocate_tensors()
    results = []
    for arrays in batches:
        for detail, array in zip(interpreter.get_input_details(), arrays):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        results.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
sys.stdout.buffer.write(pickle.dumps(results))
"""


def run_tflite(data: bytes, batches: list[list[np.ndarray]], runtime: str = "litert") -> list[list[np.ndarray]]:
    """The outputs of a .tflite file, in a child process: bad models take the process with them.

    `runtime` is litert, litert-reference, tflite-runtime or tflm (its first output only).
    """
    sent = pickle.dumps((runtime, data, batches))
    done = subprocess.run([sys.executable, "-c", RUNTIME_CODE], input=sent, capture_output=True, timeout=120)
    assert done.returncode == 0, f"{runtime}: {done.stderr.decode()[-2000:]}"
    return pickle.loads(done.stdout)


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
    return float(np.max(np.abs(actual - wanted)) / max(float(np.max(np.abs(wanted))), 1e-12))
