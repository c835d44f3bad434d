"""Microcontrollers: what a .tflite file needs in TFLite Micro, and the file as C source."""

from __future__ import annotations

import bisect
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edgecnn import captured, files
from edgecnn.confined import environment
from edgecnn.errors import MissingExtraError, TargetError, UsageError
from edgecnn.inspection import inspect
from edgecnn.ondevice.manifest import DeviceError, Manifest
from edgecnn.targets import process

# What a first try is given; enough for networks of a microcontroller.
AMPLE_ARENA_BYTES = 64 * 2**20
# TFLite Micro's alignment of buffers.
STEP_BYTES = 16
# How much larger than what it tells the arena may have to be, in steps; halved until it is found.
MOST_STEPS = 64
TIMEOUT_S = 300
"""For one file: all starts of TFLite Micro together."""

# Tables of TFLite operators -> methods of tflite::MicroMutableOpResolver, where AddCamelCase is not it.
_RESOLVER = {
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "L2_POOL_2D": "AddL2Pool2D",
    "PADV2": "AddPadV2",
    "SPLIT_V": "AddSplitV",
    "CUMSUM": "AddCumSum",
    "BATCH_MATMUL": "AddBatchMatMul",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
# What C11 and C++20 do not take for the name of an array; `main` is the program's.
_TAKEN_WORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t
    char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
    constinit continue decltype default delete do double dynamic_cast else enum explicit export extern
    false float for friend goto if inline int long main mutable namespace new noexcept not not_eq
    nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
    return short signed sizeof static static_assert static_cast struct switch template this thread_local
    throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
    xor_eq
"""

CHILD = """
import os, sys
from edgecnn.ondevice.limits import limit_memory, limit_processor
limit_memory(os.path.getsize(sys.argv[1]) + int(sys.argv[2]))
limit_processor(float(sys.argv[3]))
from tflite_micro import runtime
with open(sys.argv[1], "rb") as file:
    interpreter = runtime.Interpreter.from_bytes(file.read(), arena_size=int(sys.argv[2]))
interpreter.invoke()
interpreter.print_allocations()
"""


@dataclass(frozen=True)
class Arena:
    """The memory that TFLite Micro needs for a model, in bytes; it runs with `arena_bytes`.

    `head` holds the activations and is the same everywhere, `tail` what lives as long as the model. Pointers
    have 8 bytes on this machine and 4 on a microcontroller, so there the tail is smaller. Kernels of a vendor
    (CMSIS-NN) may want scratch memory of their own. `fits` is None where no limit was given.
    """

    file: str
    size_bytes: int
    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    limit_bytes: int | None
    fits: bool | None


def measure(model: Path, limit_bytes: int | None = None) -> Arena:
    """Runs the model in TFLite Micro, in a process of its own, and finds the smallest arena that it runs in.

    Raises UsageError for what is no .tflite file, MissingExtraError where TFLite Micro is not installed,
    TargetError where it cannot run the file.
    """
    _require_tflite(model)
    end = time.monotonic() + TIMEOUT_S
    text = _run(model, AMPLE_ARENA_BYTES, end)
    figures = {name: int(n) for name, n in re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", text)}
    if len(figures) != 3:
        raise TargetError("TFLite Micro does not tell how much memory it took", where=model.name)
    arena = _smallest(model, figures["total"], end)
    return Arena(
        model.name,
        model.stat().st_size,
        arena,
        figures["head"],
        figures["tail"],
        limit_bytes,
        None if limit_bytes is None else arena <= limit_bytes,
    )


def _smallest(model: Path, told_bytes: int, end: float) -> int:
    """The first arena from what it tells on that it runs in: while it plans, it needs a little more."""
    start = -(-told_bytes // STEP_BYTES)
    sizes = [step * STEP_BYTES for step in range(start, start + MOST_STEPS)]
    # What runs in an arena runs in every larger one.
    found = bisect.bisect_left(sizes, True, key=lambda size: _start(model, size, end).returncode == 0)
    if found == len(sizes):
        raise TargetError(f"it does not run in {sizes[-1]:,} bytes either", where=model.name)
    return sizes[found]


def _run(model: Path, arena_bytes: int, end: float) -> str:
    """What TFLite Micro says of one inference. Raises TargetError where it cannot run the file."""
    done = _start(model, arena_bytes, end)
    if done.returncode == 0:
        return done.stderr + done.stdout
    words = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith((" ", "Trace"))]
    if done.returncode < 0:
        words.append(f"ended by signal {-done.returncode}")
    raise TargetError(
        "TFLite Micro cannot run it" + "".join(f"\n  | {line}" for line in words[-3:]),
        where=model.name,
        fix="edgecnn convert --runtime tflm writes what it knows, and says what it does not know",
    )


def _start(model: Path, arena_bytes: int, end: float) -> captured.Ended:
    """A process of its own, with limits, that runs the file once. Raises TargetError at the time `end`, and
    where it writes without end.
    """
    left_s = max(0.0, end - time.monotonic())
    # -P: whatever lies in the user's working directory is not imported.
    command = [sys.executable, "-P", "-c", CHILD, str(model), str(arena_bytes), str(TIMEOUT_S)]
    try:
        done = captured.run(command, timeout_s=left_s, env=environment())
    except subprocess.TimeoutExpired as fault:
        raise _too_slow(model) from fault
    if done.is_flood:
        raise process.flood("TFLite Micro", model.name, done.stderr)
    if done.returncode == -signal.SIGXCPU:
        raise _too_slow(model)
    if "No module named 'tflite_micro'" in done.stderr:
        raise MissingExtraError("tflite-micro", extra="dev", needed_for="running a model in TFLite Micro")
    return done


def _too_slow(model: Path) -> TargetError:
    return TargetError(
        f"TFLite Micro was not done within {TIMEOUT_S} s and was stopped",
        where=model.name,
        fix="the file asks for more than a microcontroller can do: try a smaller model",
    )


def write_header(model: Path, output: Path) -> dict[str, object]:
    """The file as an aligned C array, with its manifest as comments and the resolver that its operators need.

    Raises UsageError for what is no .tflite file.
    """
    _require_tflite(model)
    content = model.read_bytes()
    operators = sorted({layer.operator for layer in inspect(model).layers})
    files.write_text(output, _header(model, output, content, operators))
    return {"file": str(output), "size_bytes": len(content), "operators": operators}


def _header(model: Path, output: Path, content: bytes, operators: list[str]) -> str:
    symbol = re.sub(r"\W", "_", output.stem)
    symbol = f"m{symbol}" if symbol[:1].isdigit() or symbol in _TAKEN_WORDS.split() else symbol
    guard = f"{symbol.upper()}_H_"
    rows = [content[i : i + 12] for i in range(0, len(content), 12)]
    array = "\n".join("  " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)
    resolver = "\n".join(f"//   {_added(name)}" for name in operators)
    name = " ".join(model.name.split())  # a line break in it would end the comment
    return f"""// {name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}
{_told(model)}//
// Operators:
//   tflite::MicroMutableOpResolver<{len(operators)}> resolver;
{resolver}

#ifndef {guard}
#define {guard}

#if defined(__cplusplus)
#define {symbol.upper()}_ALIGNED alignas(16)
#else
#define {symbol.upper()}_ALIGNED _Alignas(16)
#endif

// The flatbuffer is read where it lies: its numbers must be aligned.
{symbol.upper()}_ALIGNED static const unsigned char {symbol}[] = {{
{array}
}};
static const unsigned int {symbol}_len = {len(content)};

#endif  // {guard}
"""


def _added(operator: str) -> str:
    """How a resolver is told of an operator. Of one that is not TFLite's own, only the user has the kernel."""
    if operator.startswith("CUSTOM:"):
        name = json.dumps(operator.removeprefix("CUSTOM:"))  # any text: as a literal, it cannot end the comment
        return f"resolver.AddCustom({name}, ...);  // your own kernel of it"
    camel = "".join(word.capitalize() for word in operator.split("_"))
    return f"resolver.{_RESOLVER.get(operator) or f'Add{camel}'}();"


def _told(model: Path) -> str:
    """The manifest beside the file as comments; nothing where there is none."""
    try:
        manifest = Manifest.read_for(model)
    except DeviceError:
        return ""
    pre = manifest.preprocessing
    lines = [
        (
            f"input: {pre.height} x {pre.width} x {pre.channels}, (x / 255 - mean) / std, "
            f"mean {list(pre.mean)}, std {list(pre.std)}"
        ),
        *(_tensor("input", spec) for spec in manifest.inputs),
        *(_tensor("output", spec) for spec in manifest.outputs),
        f"classes: {json.dumps(list(manifest.class_names))}",
    ]
    # A name with a line break in it would end the comment.
    return "".join(f"// {' '.join(line.split())}\n" for line in lines)


def _tensor(kind: str, spec: object) -> str:
    name, shape, dtype = (getattr(spec, field) for field in ("name", "shape", "dtype"))
    scale, zero_point = getattr(spec, "scale", None), getattr(spec, "zero_point", None)
    quantized = "" if scale is None else f", real = {scale!r} * (q - {zero_point})"
    return f"{kind} {name}: {dtype} {list(shape)}{quantized}"


def _require_tflite(model: Path) -> None:
    if model.suffix.lower() != ".tflite":
        raise UsageError("not a .tflite file", where=str(model), fix="edgecnn convert MODEL.onnx writes one")
    if not model.is_file():
        raise UsageError("there is no such file", where=str(model))
