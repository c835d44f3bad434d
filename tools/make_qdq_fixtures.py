"""Writes tests/fixtures/qdq/*.onnx: one small network, quantized by each tool whose files we take.

    python tools/make_qdq_fixtures.py              # every tool
    python tools/make_qdq_fixtures.py nncf aimet   # some

Run it with the Python of the project's environment, which has torch, onnxruntime and neural-compressor. The
other tools do not go together with these: each gets an environment of its own below --environments, made on
first use, in which this script runs itself again. README.md beside the files says which versions wrote them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "qdq"
SHAPE = (3, 16, 16)
N_CALIBRATION = 32
LARGEST_BYTES = 60_000

# Tool -> what its own environment holds; the project's environment has the others.
ENVIRONMENTS = {
    "nncf": ["nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.32.0"],
    "aimet": ["torch==2.13.0", "aimet-onnx==2.42.0"],
}


def images() -> np.ndarray:
    """Float32 [n, c, h, w], the same for every tool."""
    return np.random.default_rng(0).uniform(-1, 1, (N_CALIBRATION, *SHAPE)).astype(np.float32)


def network() -> Any:
    """Convolution + batch norm + ReLU, depthwise, a residual, concatenation, global pooling, dense."""
    import torch
    from torch import nn

    def conv_bn(n_in: int, n_out: int, kernel: int, **options: Any) -> list[nn.Module]:
        conv = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=False, **options)
        return [conv, nn.BatchNorm2d(n_out)]

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Sequential(*conv_bn(3, 8, 3, stride=2), nn.ReLU())
            self.depthwise = nn.Sequential(*conv_bn(8, 8, 3, groups=8), nn.ReLU())
            self.pointwise = nn.Sequential(*conv_bn(8, 8, 1))
            self.relu = nn.ReLU()
            self.pool = nn.MaxPool2d(2)
            self.narrow = nn.Sequential(*conv_bn(8, 6, 1), nn.ReLU())
            self.wide = nn.Sequential(*conv_bn(8, 6, 3), nn.ReLU())
            self.mean, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
            self.dense = nn.Linear(12, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.enter(x)
            x = self.pool(self.relu(x + self.pointwise(self.depthwise(x))))
            x = torch.cat([self.narrow(x), self.wide(x)], 1)
            return self.dense(self.flatten(self.mean(x)))

    torch.manual_seed(0)
    model = Small()
    train(model)
    return model.eval()


def train(model: Any, n_steps: int = 40) -> None:
    """A few steps towards made-up labels, so that batch norms and observers have seen something."""
    import torch

    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    batch = torch.from_numpy(images())
    labels = (batch.mean((1, 2, 3)) * 300).long() % 5
    model.train()
    for _ in range(n_steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch), labels).backward()
        optimizer.step()


def exported(model: Any) -> onnx.ModelProto:
    import torch

    buffer = io.BytesIO()
    names = {"input_names": ["image"], "output_names": ["output"]}
    torch.onnx.export(model, (torch.zeros(1, *SHAPE),), buffer, dynamo=False, opset_version=17, **names)
    return onnx.load_from_string(buffer.getvalue())


def onnxruntime_files(float_path: Path, folder: Path) -> dict[str, onnx.ModelProto]:
    """Its quantizer, with its defaults: int8 activations, one scale a tensor."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(images())

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image[None]}

    quantize_static(str(float_path), str(folder / "quantized.onnx"), Reader())
    return {"onnxruntime": onnx.load(folder / "quantized.onnx")}


def neural_compressor_files(float_path: Path, folder: Path) -> dict[str, onnx.ModelProto]:
    """uint8 activations, int8 weights with one scale a channel."""
    from edgecnn.compress.engines import load_engine

    return {"neural_compressor": load_engine("neural-compressor")(float_path, images(), False, folder)}


def torch_qat_files(float_path: Path, folder: Path) -> dict[str, onnx.ModelProto]:
    """Quantization-aware training: exported with its fake quantization, and as the integer model.

    `torch_qat_x86` is what torch.ao proposes for x86: activations in 7 bits, one scale a channel.
    """
    import torch
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_qat_fx

    files = {}
    for name, backend in (("torch_qat", "qnnpack"), ("torch_qat_x86", "x86")):
        torch.backends.quantized.engine = backend
        example = (torch.zeros(1, *SHAPE),)
        prepared = prepare_qat_fx(network().train(), get_default_qat_qconfig_mapping(backend, 0), example)
        train(prepared)
        prepared.eval().apply(torch.ao.quantization.disable_observer)
        files[name] = exported(prepared)
        if backend == "qnnpack":
            files["torch_converted"] = exported(convert_fx(prepared))
    return files


def nncf_files(float_path: Path, folder: Path) -> dict[str, onnx.ModelProto]:
    """Post-training quantization with symmetric and with asymmetric activations."""
    import nncf

    data = nncf.Dataset(list(images()), lambda image: {"image": image[None]})
    presets = {"nncf": nncf.QuantizationPreset.PERFORMANCE, "nncf_mixed": nncf.QuantizationPreset.MIXED}
    return {
        name: nncf.quantize(onnx.load(float_path), data, preset=preset, subset_size=N_CALIBRATION)
        for name, preset in presets.items()
    }


def aimet_files(float_path: Path, folder: Path) -> dict[str, onnx.ModelProto]:
    """Post-training quantization: weights as float32 behind a quantizer; as integers, the bias too."""
    import aimet_onnx

    sim = aimet_onnx.QuantizationSimModel(onnx.load(float_path))
    sim.compute_encodings([{"image": image[None]} for image in images()])
    integers = sim.to_onnx_qdq(prequantize_constants=True, export_int32_bias=True)
    return {"aimet": sim.to_onnx_qdq(), "aimet_integers": integers}


Maker = Callable[[Path, Path], dict[str, onnx.ModelProto]]
# Tool -> (what writes its files, the packages whose versions matter).
TOOLS: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "onnxruntime": (onnxruntime_files, ("onnxruntime",)),
    "neural-compressor": (neural_compressor_files, ("neural_compressor", "onnxruntime")),
    "torch-qat": (torch_qat_files, ("torch",)),
    "nncf": (nncf_files, ("nncf",)),
    "aimet": (aimet_files, ("aimet-onnx",)),
}


README = """# QDQ files as their tools write them

One small network (convolution + batch norm + ReLU, depthwise, residual, pooling, concatenation, global pooling,
dense layer), quantized to 8 bits by each tool with its own idea of how a QDQ file looks. Only names of source
files and the like were taken out. Made by `tools/make_qdq_fixtures.py`, which also installs the tools.

| file | written by |
|---|---|
"""


def record(rows: dict[str, str]) -> None:
    """Says in README.md which versions wrote the files; rows of files not written now stay."""
    path = FIXTURES / "README.md"
    old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = dict(line.strip("| ").split(" | ", 1) for line in old if line.startswith("| `"))
    known |= {f"`{name}.onnx`": versions for name, versions in rows.items()}
    lines = [f"| {name} | {versions} |\n" for name, versions in sorted(known.items())]
    path.write_text(README + "".join(lines), encoding="utf-8")


def make(tool: str, float_path: Path) -> None:
    """Writes the tool's files and what README.md says of them. Runs in the tool's environment."""
    maker, packages = TOOLS[tool]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = maker(float_path, Path(folder))
    versions = ", ".join(f"{name} {importlib.metadata.version(name).partition('+')[0]}" for name in packages)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, model in files.items():
        for described in (model, model.graph, *model.graph.node):
            described.doc_string = ""  # Source paths and stack traces of whoever ran this.
            del described.metadata_props[:]
        data = model.SerializeToString()
        assert len(data) < LARGEST_BYTES, f"{name} is too large for a fixture: {len(data)} bytes"
        (FIXTURES / f"{name}.onnx").write_bytes(data)
        print(f"{name}.onnx: {len(data)} bytes, {versions}")
    record(dict.fromkeys(files, versions))


def python_of(tool: str, environments: Path) -> Path:
    """The Python of the tool's own environment, which is made if it is not there."""
    folder = environments / tool
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for package in ENVIRONMENTS[tool]:  # In order: whoever comes later takes the torch that is there.
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
        (folder / "complete").touch()
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tools", nargs="*", default=list(TOOLS), help=f"of: {', '.join(TOOLS)}")
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir(), "edgecnn-quantizers"))
    parser.add_argument("--float", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.float:
        (tool,) = arguments.tools
        make(tool, arguments.float)
        return
    with tempfile.TemporaryDirectory() as folder:
        float_path = Path(folder, "float.onnx")
        onnx.save(exported(network()), float_path)
        for tool in arguments.tools:
            python = python_of(tool, arguments.environments) if tool in ENVIRONMENTS else sys.executable
            subprocess.run([python, __file__, tool, "--float", float_path], check=True)


if __name__ == "__main__":
    main()
