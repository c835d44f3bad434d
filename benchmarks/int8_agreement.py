"""How far the int8 .tflite files are from the QDQ ONNX files that they were made from, in every runtime.

    python benchmarks/int8_agreement.py --write benchmarks/results/int8_agreement
    python benchmarks/int8_agreement.py --networks SqueezeNet11 UNet
    python benchmarks/int8_agreement.py --build artifacts/cifar10 --images test.npy --labels labels.npy
    python benchmarks/int8_agreement.py --onnx model.int8.onnx --images test.npy
    python benchmarks/int8_agreement.py --squeezenet squeezenet1_1.safetensors --cifar10 cifar-10-batches-bin

Without a model: each network of the zoo (real architectures with narrow layers and random weights), quantized
by edgecnn, on random inputs. The same numbers go through onnxruntime, its graph optimizations off and on, and
through every TFLite runtime; counted is by how many steps of the output's scale each output value is off.

`--images` is a .npy file: float32 [n, ...] as the ONNX file takes it, or, with `--build`, uint8 pictures
[n, height, width, channels], preprocessed as its manifest says. `--labels` (integers [n]) adds accuracies,
`--float` or the build's float32 file the share of inputs in the same class as the float network has them.
`--squeezenet` takes torchvision's weights of SqueezeNet 1.1 for ImageNet, calibrates on 100 training pictures
of CIFAR-10, brought to 224 px, and is measured on `--n` of its test pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
from agreement import cases, table
from agreement.cases import Case
from agreement.measure import Row, measure
from agreement.zoo import ZOO


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=ZOO, default=list(ZOO), help="of the zoo")
    parser.add_argument("--n", type=int, default=100, help="inputs for each network")
    parser.add_argument("--n-slow", type=int, default=100, help="inputs for runtimes of plain loops")
    given = parser.add_argument_group("one model instead of the zoo")
    given.add_argument("--build", type=Path, help="a folder that `edgecnn build` wrote")
    given.add_argument("--onnx", type=Path, help="a QDQ ONNX file")
    given.add_argument("--tflite", type=Path, help="its .tflite file; otherwise it is converted here")
    given.add_argument("--float", type=Path, dest="float_onnx", help="the ONNX file of the float network")
    given.add_argument("--images", type=Path, help=".npy file, see above")
    given.add_argument("--labels", type=Path, help=".npy file of the pictures' classes")
    imagenet = parser.add_argument_group("SqueezeNet 1.1 with ImageNet's weights instead of the zoo")
    imagenet.add_argument("--squeezenet", type=Path, help="the .safetensors file of its weights")
    imagenet.add_argument("--cifar10", type=Path, help="folder of CIFAR-10's binary files")
    parser.add_argument("--write", type=Path, help="write PATH.json and PATH.md")
    options = parser.parse_args()
    if (options.build or options.onnx) and not options.images:
        parser.error("--build and --onnx need --images")
    if options.squeezenet and not options.cifar10:
        parser.error("--squeezenet needs --cifar10")
    return options


def chosen(options: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """The one case that was asked for, or the zoo's."""
    if options.squeezenet:
        yield cases.of_squeezenet(options.squeezenet, options.cifar10, folder, options.n)
        return
    if not (options.build or options.onnx):
        yield from (cases.of_zoo(name, folder, options.n) for name in options.networks)
        return
    images = np.load(options.images)
    labels = np.load(options.labels) if options.labels else None
    if options.build:
        yield cases.of_build(options.build, images, labels)
        return
    tflite = options.tflite or cases.converted(options.onnx, folder)
    yield Case(options.onnx.stem, options.onnx, tflite, images, labels, options.float_onnx)


def write(path: Path, head: str, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"command": head, "rows": [asdict(row) for row in rows]}
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(f"{head}\n\n{table.render(rows)}\n", encoding="utf-8")


def main() -> None:
    options = parse()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edgecnn-agreement-") as folder:
        for case in chosen(options, Path(folder)):
            print(f"{case.name} ...", file=sys.stderr, flush=True)
            rows += measure(case, Path(folder), options.n_slow)
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    head = f"`python {shlex.join(sys.argv)}` on {machine}"
    print(f"{head}\n\n{table.render(rows)}")
    if options.write:
        write(options.write, head, rows)


if __name__ == "__main__":
    main()
