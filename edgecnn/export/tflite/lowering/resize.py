"""Resize -> RESIZE_NEAREST_NEIGHBOR, RESIZE_BILINEAR.

ONNX has a dozen ways to say which input pixel an output pixel comes from, TFLite three. Which of the three
gives the same pixels for the sizes at hand is not argued but computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.export.tflite.graph import Node
from edgecnn.export.tflite.lowering.activations import emit_then_requantize
from edgecnn.export.tflite.lowering.context import NHWC, Lowering
from edgecnn.export.tflite.problems import Unsupported

_TFLITE_MODES: tuple[dict[str, bool], ...] = ({}, {"half_pixel_centers": True}, {"align_corners": True})
_ROUNDINGS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize(lower: Lowering, node: Node) -> None:
    """Resize of height and width."""
    mode = node.attributes.get("mode", "nearest")
    if mode not in ("nearest", "linear"):
        raise Unsupported(f"mode {mode} has no TFLite equivalent")
    if node.attributes.get("antialias") or node.attributes.get("exclude_outside"):
        raise Unsupported("antialias and exclude_outside have no TFLite equivalent")
    before, after = node.data_input().shape, node.output.shape
    if len(before) != 4 or before[:2] != after[:2]:
        raise Unsupported("only height and width can be resized")
    data = lower.tensor_in(node.data_input(), NHWC)
    scales = _scales(node)
    for options in _TFLITE_MODES:
        pairs = [(before[axis], after[axis], scales[axis - 2]) for axis in (2, 3)]
        if all(_same_pixels(node, mode, options, *pair) for pair in pairs):
            code = "RESIZE_NEAREST_NEIGHBOR" if mode == "nearest" else "RESIZE_BILINEAR"
            inputs, output = [data, lower.vector(after[2:])], lower.result(node.output, NHWC)
            if data.quantization is None:
                lower.emit(code, [*inputs], output, **options)
            else:  # Requantized after: means of neighbours may lie in a narrower range than they do.
                emit_then_requantize(lower, code, [*inputs], output, data.quantization, **options)
            return
    name = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    raise Unsupported(f"{mode} with {name} from {before[2:]} to {after[2:]} takes other pixels than TFLite can")


def _scales(node: Node) -> tuple[float, float]:
    """Output size / input size of height and width, as the file gives it or as the sizes have it."""
    given = node.constant(2)
    if given is not None and given.size:
        chosen = given.reshape(-1)[-2:]
        return float(chosen[0]), float(chosen[1])
    before, after = node.data_input().shape, node.output.shape
    return after[2] / before[2], after[3] / before[3]


def _same_pixels(node: Node, mode: str, options: dict[str, bool], size: int, out: int, scale: float) -> bool:
    wanted = _onnx_coordinates(
        node.attributes.get("coordinate_transformation_mode", "half_pixel"), size, out, scale
    )
    if wanted is None:
        return False
    if mode == "linear":
        return bool(np.allclose(_clamped(wanted, size), _tflite_bilinear(options, size, out), atol=1e-4))
    rounding = _ROUNDINGS[node.attributes.get("nearest_mode", "round_prefer_floor")]
    return np.array_equal(_clamped(rounding(wanted), size), _tflite_nearest(options, size, out))


def _clamped(positions: NDArray[Any], size: int) -> NDArray[Any]:
    return np.clip(positions, 0, size - 1)


def _onnx_coordinates(name: str, size: int, out: int, scale: float) -> NDArray[Any] | None:
    """Where each output pixel lies in the input (ONNX operator Resize, coordinate_transformation_mode)."""
    x = np.arange(out, dtype=np.float64)
    if name == "asymmetric":
        return x / scale
    if name == "half_pixel" or (name == "pytorch_half_pixel" and out > 1):
        return (x + 0.5) / scale - 0.5
    if name == "half_pixel_symmetric":
        adjusted = out / (size * scale)
        return size / 2 * (1 - adjusted) + (x + 0.5) / scale - 0.5
    if name == "align_corners":
        return x * (size - 1) / max(out - 1, 1)
    return np.zeros(1) if name == "pytorch_half_pixel" else None


def _tflite_scale(options: dict[str, bool], size: int, out: int) -> np.float32:
    if options.get("align_corners") and out > 1:
        return np.float32(size - 1) / np.float32(out - 1)
    return np.float32(size) / np.float32(out)


def _tflite_bilinear(options: dict[str, bool], size: int, out: int) -> NDArray[Any]:
    scale, x = _tflite_scale(options, size, out), np.arange(out, dtype=np.float32)
    return _clamped((x + 0.5) * scale - 0.5 if options.get("half_pixel_centers") else x * scale, size)


def _tflite_nearest(options: dict[str, bool], size: int, out: int) -> NDArray[Any]:
    scale, x = _tflite_scale(options, size, out), np.arange(out, dtype=np.float32)
    position = (x + np.float32(0.5 if options.get("half_pixel_centers") else 0.0)) * scale
    # C's round: halves away from zero.
    return _clamped(
        np.floor(position + np.float32(0.5)) if options.get("align_corners") else np.floor(position), size
    )
