"""What is measured: a QDQ ONNX file, its .tflite file, and the inputs that both get."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import load_file
from torch.nn import functional

from agreement.zoo import build as build_network
from agreement.zoo import export, folded
from edgecnn.compress.quantize import quantize
from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model
from edgecnn.ondevice.evaluate import input_spec
from edgecnn.ondevice.manifest import Manifest
from edgecnn.ondevice.preprocess import model_input
from edgecnn.ondevice.runtimes import load_model
from edgecnn.recipe import QuantizeSpec

SEED = 0
N_CALIBRATION = 64
N_CIFAR_CALIBRATION = 100
IMAGENET_SIZE = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Case:
    """`inputs` are float32 [n, ...] in the layout of the ONNX file; `labels` integers [n], where known."""

    name: str
    qdq: Path
    tflite: Path
    inputs: np.ndarray
    labels: np.ndarray | None = None
    float_onnx: Path | None = None


def of_zoo(name: str, folder: Path, n_inputs: int) -> Case:
    """A network of the zoo, quantized with the ranges of 64 random inputs; others are measured.

    Its batch norms are folded first, by onnxruntime, as quantizers ask for.
    """
    shape = build_network(name).shape
    random = np.random.default_rng(SEED)
    calibration = random.uniform(-1, 1, (N_CALIBRATION, *shape)).astype(np.float32)
    inputs = random.uniform(-1, 1, (n_inputs, *shape)).astype(np.float32)
    float_onnx, qdq = folder / f"{name}.onnx", folder / f"{name}.qdq.onnx"
    onnx.save(folded(export(name)), float_onnx)
    onnx.save(quantize(onnx.load(float_onnx), calibration, QuantizeSpec(engine="onnxruntime")).model, qdq)
    return Case(name, qdq, converted(qdq, folder), inputs, None, float_onnx)


def of_squeezenet(weights: Path, cifar10: Path, folder: Path, n_inputs: int) -> Case:
    """SqueezeNet 1.1 for 1000 classes at 224 px, on pictures of CIFAR-10 that did not set its ranges."""
    model = build_model("squeezenet1_1", in_channels=3, n_classes=1000, seed=SEED, options={"stem": "imagenet"})
    model.load_state_dict(load_file(weights))
    float_onnx, qdq = folder / "squeezenet1_1.onnx", folder / "squeezenet1_1.qdq.onnx"
    onnx.save(export_onnx(model, (3, IMAGENET_SIZE, IMAGENET_SIZE)), float_onnx)
    calibration = _enlarged(cifar10 / "data_batch_1.bin", N_CIFAR_CALIBRATION)
    onnx.save(quantize(onnx.load(float_onnx), calibration, QuantizeSpec(engine="onnxruntime")).model, qdq)
    inputs = _enlarged(cifar10 / "test_batch.bin", n_inputs)
    return Case("squeezenet1_1, ImageNet", qdq, converted(qdq, folder), inputs, None, float_onnx)


def _enlarged(file: Path, n: int) -> np.ndarray:
    """`n` pictures of a CIFAR-10 file, drawn with SEED, as ImageNet networks take them: float32 NCHW."""
    records = np.fromfile(file, np.uint8).reshape(-1, 1 + 3 * 32 * 32)  # a label, then red, green, blue
    chosen = records[np.random.default_rng(SEED).choice(len(records), n, replace=False)]
    pictures = torch.from_numpy(chosen[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255)
    large = functional.interpolate(pictures, size=IMAGENET_SIZE, mode="bilinear", align_corners=False)
    mean, deviation = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return ((large - mean) / deviation).numpy()


def of_build(build: Path, images: np.ndarray, labels: np.ndarray | None) -> Case:
    """The int8 files of a build folder. uint8 `images` [n, h, w, c] are preprocessed as its manifest says."""
    (tflite,) = build.glob("*.int8.tflite")
    qdq = tflite.with_suffix(".onnx")
    float_onnx = Path(str(qdq).replace(".int8.onnx", ".fp32.onnx"))
    if images.dtype == np.uint8:
        manifest = Manifest.read_for(qdq)
        spec = input_spec(load_model("onnxruntime", qdq), manifest)
        images = model_input(images, manifest.preprocessing, manifest.layout, spec)
    return Case(build.name, qdq, tflite, images, labels, float_onnx if float_onnx.exists() else None)


def converted(qdq: Path, folder: Path) -> Path:
    """The .tflite file that edgecnn makes of a QDQ ONNX file."""
    path = folder / f"{qdq.stem}.tflite"
    path.write_bytes(convert(qdq).data)
    return path
