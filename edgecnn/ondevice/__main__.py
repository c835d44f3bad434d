"""`python3 -m edgecnn.ondevice VERB ...`: does one thing and prints one JSON object as its last line.

A fault is an object too: {"error": what, "fix": how to mend it}, with exit code 3.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, NoReturn, Optional

import numpy as np

from edgecnn.ondevice import environment
from edgecnn.ondevice.benchmark import Plan, benchmark
from edgecnn.ondevice.evaluate import evaluate
from edgecnn.ondevice.manifest import DeviceError, Manifest
from edgecnn.ondevice.memory import peak_memory
from edgecnn.ondevice.predict import picture_files, predict, preferred_runtime
from edgecnn.ondevice.preprocess import load_images
from edgecnn.ondevice.run import run
from edgecnn.ondevice.runtimes import RUNTIMES, require_file

EXIT_FAULT = 3
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Tells a wrong option as every other fault is told."""

    def error(self, message: str) -> NoReturn:
        raise DeviceError(message, self.format_usage().strip())


def main(arguments: Optional[List[str]] = None) -> int:
    try:
        options = parser().parse_args(arguments)
        answer = options.verb(options)
    except DeviceError as fault:
        answer = {"error": fault.what, "fix": fault.fix}
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as fault:
        traceback.print_exc()
        answer = {"error": f"{type(fault).__name__}: {fault}", "fix": None}
    print(json.dumps(answer, allow_nan=False), flush=True)
    return EXIT_FAULT if "error" in answer else 0


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog="edgecnn.ondevice", description="Runs and measures one model file on this machine.")
    verbs = top.add_subparsers(metavar="VERB", required=True)
    verbs.add_parser("probe", help="what this machine is").set_defaults(verb=_probe)
    _add_evaluate(verbs)
    _add_benchmark(verbs)
    memory = verbs.add_parser("memory", help="peak resident memory of loading and running a model")
    _add_model(memory)
    memory.set_defaults(verb=_memory)
    _add_predict(verbs)
    _add_run(verbs)
    return top


def _add_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", type=Path, help="an .onnx or .tflite file")
    verb.add_argument("--runtime", choices=sorted(RUNTIMES), help="default: the first that is installed")
    verb.add_argument("--threads", type=int, default=1)


def _add_manifest(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--manifest", type=Path, help="default: the model's file name with .json after it")


def _add_evaluate(verbs: Any) -> None:
    verb = verbs.add_parser("evaluate", help="the outputs for a whole set of images")
    _add_model(verb)
    _add_manifest(verb)
    verb.add_argument("--images", type=Path, required=True, help=".npy, uint8 [n, height, width, channels]")
    verb.add_argument("--output", type=Path, required=True, help=".npy to write the raw outputs to")
    verb.add_argument("--no-optimize", action="store_true", help="the runtime's reference path")
    verb.set_defaults(verb=_evaluate)


def _add_benchmark(verbs: Any) -> None:
    plan = Plan()
    verb = verbs.add_parser("benchmark", help="latency of single inferences at batch 1")
    _add_model(verb)
    verb.add_argument("--warmup-s", type=float, default=plan.warmup_s)
    verb.add_argument("--warmup-runs", type=int, default=plan.warmup_runs)
    verb.add_argument("--min-s", type=float, default=plan.min_s, help="seconds of the timed phase")
    verb.add_argument("--min-samples", type=int, default=plan.min_samples)
    verb.add_argument("--samples-per-s", type=int, default=plan.samples_per_s)
    verb.set_defaults(verb=_benchmark)


def _add_run(verbs: Any) -> None:
    verb = verbs.add_parser("run", help="the outputs for given arrays, no preprocessing")
    _add_model(verb)
    verb.add_argument("--inputs", type=Path, required=True, help=".npz, by input name [n, *input shape]")
    verb.add_argument("--output", type=Path, required=True, help=".npz to write the outputs to, by name")
    verb.add_argument("--no-optimize", action="store_true", help="the runtime's reference path")
    verb.set_defaults(verb=_run)


def _add_predict(verbs: Any) -> None:
    verb = verbs.add_parser("predict", help="the most probable classes of pictures")
    _add_model(verb)
    _add_manifest(verb)
    verb.add_argument("pictures", type=Path, nargs="+", help="PNG, JPEG or .npy files, or folders of them")
    verb.add_argument("--top", type=int, default=5)
    verb.set_defaults(verb=_predict)


def _probe(options: argparse.Namespace) -> Dict[str, Any]:
    return environment.probe()


def _evaluate(options: argparse.Namespace) -> Dict[str, Any]:
    images = load_images(options.images)
    manifest = _manifest(options)
    start = time.perf_counter()
    outputs = evaluate(
        options.model, manifest, images, _runtime(options), options.threads, not options.no_optimize
    )
    seconds = time.perf_counter() - start
    try:
        # A file object: numpy.save would add .npy to a name that lacks it.
        with options.output.open("wb") as file:
            np.save(file, outputs)
    except OSError as fault:
        raise DeviceError(
            f"cannot write {options.output}: {fault.strerror}", "name another --output"
        ) from fault
    return {
        "output": str(options.output),
        "shape": list(outputs.shape),
        "dtype": str(outputs.dtype),
        "seconds": seconds,
    }


def _benchmark(options: argparse.Namespace) -> Dict[str, Any]:
    plan = Plan(
        options.warmup_s, options.warmup_runs, options.min_s, options.min_samples, options.samples_per_s
    )
    return benchmark(options.model, _runtime(options), options.threads, plan)


def _run(options: argparse.Namespace) -> Dict[str, Any]:
    require_file(options.model)
    try:
        with np.load(options.inputs, allow_pickle=False) as file:
            inputs = dict(file)
    except (OSError, ValueError) as fault:
        raise DeviceError(f"cannot read {options.inputs}: {fault}", "name an .npz file") from fault
    outputs = run(options.model, inputs, _runtime(options), options.threads, not options.no_optimize)
    # Names of tensors may be no names of keywords; a file object keeps the name of the file.
    with options.output.open("wb") as file:
        np.savez(file, **outputs)
    return {
        "output": str(options.output),
        "shapes": {name: list(array.shape) for name, array in outputs.items()},
    }


def _memory(options: argparse.Namespace) -> Dict[str, Any]:
    return peak_memory(options.model, _runtime(options), options.threads)


def _predict(options: argparse.Namespace) -> Dict[str, Any]:
    pictures = picture_files(options.pictures)
    predictions = predict(
        options.model, _manifest(options), pictures, _runtime(options), options.threads, options.top
    )
    return {"predictions": [asdict(prediction) for prediction in predictions]}


def _runtime(options: argparse.Namespace) -> str:
    return options.runtime or preferred_runtime(options.model)


def _manifest(options: argparse.Namespace) -> Manifest:
    """The manifest named, or the one beside the model, which must be of this very file."""
    require_file(options.model)
    if options.manifest is not None:
        try:
            text = options.manifest.read_text(encoding="utf-8")
        except OSError as fault:
            raise DeviceError(f"cannot read {options.manifest}: {fault.strerror}", "check the path") from fault
        return Manifest.from_json(text)
    manifest = Manifest.read_for(options.model)
    found = hashlib.sha256(options.model.read_bytes()).hexdigest()
    if found != manifest.file_sha256:
        raise DeviceError(
            f"{options.model.name} is not the file that its manifest describes"
            f" (sha256 {found[:12]}..., manifest {manifest.file_sha256[:12]}...)",
            "copy model and manifest together, or rebuild the artifact",
        )
    return manifest


if __name__ == "__main__":
    sys.exit(main())
