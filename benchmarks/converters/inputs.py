"""What the converters read: the same weights as ONNX, QDQ ONNX and PyTorch files, and pictures to calibrate on.

The weights are drawn from a seed and trained for a few seconds on MNIST. Neither bytes nor seconds depend on
their values; the share of pictures on which an int8 file agrees with the float network would mean little with
random ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

from converters.networks import NETWORKS, build
from edgecnn import data
from edgecnn.compress.quantize import quantize
from edgecnn.data import DATASETS
from edgecnn.export.onnx import export_onnx
from edgecnn.ondevice.preprocess import normalize
from edgecnn.recipe import QuantizeSpec

SEED = 0
N_STEPS = 150
BATCH_SIZE = 64
# Ranges by onnxruntime's quantizer: it is a dependency of edgecnn, and gives the numbers of the other engine.
PER_TENSOR = QuantizeSpec(engine="onnxruntime")
PER_CHANNEL = QuantizeSpec(engine="onnxruntime", dense_weights="per_channel")


def drawn(split: data.Dataset, n: int) -> data.Dataset:
    """`n` pictures of a split, drawn with SEED."""
    chosen = np.random.default_rng(SEED).choice(len(split), n, replace=False)
    return data.Dataset(split.images_nhwc[chosen], split.labels[chosen], split.class_names, split.split)


def pictures(split: data.Dataset, input_shape: tuple[int, int, int]) -> np.ndarray:
    """MNIST as a network takes it: float32 [n, h, w, c], normalized.

    Larger inputs get a border, colour inputs the same picture three times.
    """
    channels, height, _ = input_shape
    images = normalize(split.images_nhwc, DATASETS["mnist"].preprocessing)
    border = (height - images.shape[1]) // 2
    edges = ((0, 0), (border, border), (border, border), (0, 0))
    padded = np.pad(images, edges, constant_values=float(images.min()))
    return np.ascontiguousarray(np.repeat(padded, channels, axis=3))


def to_nchw(images_nhwc: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images_nhwc.transpose(0, 3, 1, 2))


def trained(name: str, train: data.Dataset) -> nn.Module:
    """The network after one pass over `train`."""
    network = NETWORKS[name]
    model = build(name, SEED)
    images_nchw = torch.from_numpy(to_nchw(pictures(train, network.input_shape)))
    labels = torch.from_numpy(train.labels)
    optimizer = torch.optim.Adam(model.parameters(), network.learning_rate)
    for batch in torch.arange(len(train)).split(BATCH_SIZE):
        loss = functional.cross_entropy(model(images_nchw[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def write_inputs(
    name: str, folder: Path, n_calibration: int, n_evaluation: int, n_steps: int = N_STEPS
) -> None:
    """Everything that the runners and the checks read, into `folder`."""
    input_shape = NETWORKS[name].input_shape
    splits = data.load("mnist")
    calibration = pictures(drawn(splits.validation, n_calibration), input_shape)
    model = trained(name, drawn(splits.train, n_steps * BATCH_SIZE))
    float_model = export_onnx(model, input_shape)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(float_model, folder / "float.onnx")
    for file_name, spec in (("qdq.onnx", PER_TENSOR), ("qdq_per_channel.onnx", PER_CHANNEL)):
        onnx.save(quantize(float_model, to_nchw(calibration), spec).model, folder / file_name)
    torch.save(model.state_dict(), folder / "weights.pt")
    np.savez(folder / "weights.npz", **{key: tensor.numpy() for key, tensor in model.state_dict().items()})
    np.save(folder / "calibration_nhwc.npy", calibration)
    np.save(folder / "evaluation_nhwc.npy", pictures(drawn(splits.test, n_evaluation), input_shape))
