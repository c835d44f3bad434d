"""What is said beside the table: where int8 is slower than float, and why; doubts about the timing."""

from __future__ import annotations

import pytest

from edgecnn.records import Artifact, Latency, Measurement
from edgecnn.report.remarks import comparisons, on_speed
from edgecnn.report.tables import doubt_lines


def artifact(key: str, runtime: str, median_ms: float, n_macs: int = 400_000) -> Artifact:
    latency = Latency(min=median_ms, median=median_ms, mean=median_ms, p90=median_ms, p99=median_ms)
    measurement = Measurement(
        runtime=runtime,
        runtime_version="1",
        target="host",
        emulated=False,
        num_threads=1,
        latency_ms=latency,
        n_images=10,
        accuracy=1.0,
        accuracy_drop=0.0,
        accuracy_drop_interval=(0.0, 0.0),
        mcnemar_p=1.0,
        macro_recall=1.0,
        macro_f1=1.0,
        per_class=(),
        confusion=(),
    )
    precision, suffix = key.split(".")
    return Artifact(
        key=key,
        file=f"x.{key}",
        format=suffix,
        variant="final",
        precision=precision,
        size_bytes=1,
        weight_bytes=1,
        overhead_bytes=0,
        sha256="",
        n_params=1,
        n_macs=n_macs,
        measurements=(measurement,),
    )


@pytest.mark.parametrize(
    ("suffix", "runtime", "n_macs", "reason"),
    [
        ("onnx", "onnxruntime", 400_000, "too small to repay its quantize nodes"),
        ("tflite", "tflite-runtime", 400_000, "hands float to XNNPACK, and runs int8 on its own kernels"),
        ("tflite", "litert", 400_000, "too small for int8 arithmetic to repay its rescaling"),
        ("tflite", "litert", 400_000_000, "its int8 kernels are slower than its float ones on this machine"),
    ],
)
def test_a_slower_int8_file_is_named_with_its_factor_and_reason(
    suffix: str, runtime: str, n_macs: int, reason: str
) -> None:
    files = (artifact(f"fp32.{suffix}", runtime, 0.02), artifact(f"int8.{suffix}", runtime, 0.05, n_macs))
    (said,) = on_speed(files)
    assert said.startswith(f"int8.{suffix} takes 2.5 times as long as fp32.{suffix} on {runtime}: ")
    assert reason in said


def test_a_slower_int4_file_is_named_as_it_is() -> None:
    files = (artifact("fp32.tflite", "litert", 0.02), artifact("int4.tflite", "litert", 0.05))
    (said,) = on_speed(files)
    assert said.startswith("int4.tflite takes 2.5 times as long as fp32.tflite on litert: ")
    assert on_speed((files[0], artifact("int8_dynamic.tflite", "litert", 0.05))) == ()


@pytest.mark.parametrize("int8_ms", [0.01, 0.02, 0.021])
def test_a_file_that_is_as_fast_is_not_remarked_upon(int8_ms: float) -> None:
    assert (
        on_speed((artifact("fp32.onnx", "onnxruntime", 0.02), artifact("int8.onnx", "onnxruntime", int8_ms)))
        == ()
    )


def test_runtimes_are_not_mixed_up() -> None:
    files = (artifact("fp32.tflite", "litert", 0.01), artifact("int8.tflite", "tflite-runtime", 0.05))
    assert on_speed(files) == ()


def test_only_tflite_runtime_keeps_int8_from_xnnpack() -> None:
    """The reason given above, seen in the interpreters themselves."""
    import importlib.util

    if importlib.util.find_spec("tflite_runtime") is None:
        pytest.skip("tflite-runtime is not installed: it has no wheel for this Python or machine")
    pytest.importorskip("torch", reason="the extra [train] is not installed")
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter as LiteRT
    from tflite_runtime.interpreter import Interpreter as TFLiteRuntime

    from edgecnn.compress.quantize import quantize
    from edgecnn.export.onnx import export_onnx
    from edgecnn.export.tflite import convert
    from edgecnn.models import build_model
    from edgecnn.recipe import QuantizeSpec

    network = export_onnx(build_model("lenet5", in_channels=1, n_classes=10), (1, 28, 28))
    images = np.random.default_rng(0).normal(size=(5, 1, 28, 28)).astype(np.float32)
    int8 = quantize(network, images, QuantizeSpec(engine="onnxruntime")).model
    delegated = {}
    for precision, model in (("float", network), ("int8", int8)):
        for interpreter_class in (LiteRT, TFLiteRuntime):
            interpreter = interpreter_class(model_content=convert(model).data, num_threads=1)
            interpreter.allocate_tensors()
            operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
            delegated[precision, interpreter_class] = "DELEGATE" in operators
    assert delegated == {
        ("float", LiteRT): True,
        ("float", TFLiteRuntime): True,
        ("int8", LiteRT): True,
        ("int8", TFLiteRuntime): False,
    }


def test_each_kind_of_doubt_is_one_line_with_all_it_is_about() -> None:
    busy = {"kind": "busy", "text": "the machine was busy", "advice": "measure again"}
    spread = {"kind": "spread", "text": "wide", "advice": "compare minima"}
    lines = doubt_lines([("a", busy), ("b", {**busy, "text": "busier"}), ("a", busy), ("b", spread)])
    assert lines == [
        "timing is doubtful (a, b): the machine was busy; measure again",
        "timing is doubtful (b): wide; compare minima",
    ]


def timed(
    file: str,
    median_ms: float,
    low_ms: float,
    high_ms: float,
    *doubts: str,
    threads: int = 1,
    emulated: bool = False,
) -> dict:
    return {
        "file": file,
        "runtime": "litert",
        "num_threads": threads,
        "emulated": emulated,
        "latency_ms": {"median": median_ms},
        "median_interval_ms": (low_ms, high_ms),
        "warnings": [{"kind": kind} for kind in doubts],
    }


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        (timed("b", 0.8, 0.79, 0.81), "faster, 0.80 times its median"),
        (timed("b", 1.5, 1.4, 1.6), "slower, 1.50 times its median"),
        (timed("b", 0.98, 0.9, 1.02), "cannot tell: their 95 % intervals overlap"),
        (timed("b", 0.5, 0.4, 0.6, "throttled"), "cannot tell: throttled"),
        (timed("b", 0.5, 0.4, 0.6, "busy", "swapped"), "cannot tell: busy, swapped"),
        (timed("b", 0.5, 0.4, 0.6, "governor"), "faster, 0.50 times its median"),
    ],
)
def test_two_files_compare_as_faster_slower_or_cannot_tell(other: dict, verdict: str):
    assert comparisons([timed("a", 1.0, 0.95, 1.05), other]) == [f"b against a on litert, 1 thread: {verdict}"]


def test_only_the_same_run_is_compared_and_no_emulated_one():
    assert comparisons([timed("a", 1.0, 0.9, 1.1), timed("b", 0.1, 0.1, 0.1, threads=4)]) == []
    assert comparisons([timed("a", 1.0, 0.9, 1.1), timed("b", 0.1, 0.1, 0.1, emulated=True)]) == []
