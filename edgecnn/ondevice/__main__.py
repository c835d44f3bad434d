"""`python3 -m edgecnn.ondevice VERB ...`: does one thing and prints one JSON object as its last line.

A fault is an object too: {"error": what, "fix": how to mend it}, with exit code 3. Each verb imports what
it needs: a board compiles all of that at every start.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
import traceback
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, NoReturn, Optional, Tuple, Union

import numpy as np

from edgecnn.ondevice.letters import printable
from edgecnn.ondevice.limits import LONGEST_CPU_S, limit_memory, limit_processor
from edgecnn.ondevice.manifest import DeviceError, Manifest, own_manifest, require_file
from edgecnn.ondevice.plan import Plan
from edgecnn.ondevice.runtimes import RUNTIMES, load_model, preferred_runtime

if TYPE_CHECKING:
    from edgecnn.ondevice.predict import Prediction, Unreadable

EXIT_FAULT = 3
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Tells a wrong option as every other fault is told."""

    def error(self, message: str) -> NoReturn:
        raise DeviceError(message, self.format_usage().strip())


def main(arguments: Optional[List[str]] = None, limited: bool = False) -> int:
    """`limited`: this process may take so much memory and time as `ondevice.limits` gives a model."""
    try:
        options = parser().parse_args(arguments)
        if limited and hasattr(options, "model"):
            require_file(options.model)
            limit_memory(options.model.stat().st_size)
            limit_processor(LONGEST_CPU_S * (os.cpu_count() or 1))
        answer = options.verb(options)
    except DeviceError as fault:
        answer = {"error": fault.what, "fix": fault.fix}
        if "--text" in (sys.argv[1:] if arguments is None else arguments):
            return _told(fault)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except MemoryError:
        answer = {"error": "it takes more memory than it is given", "fix": "try a smaller model"}
    except Exception as fault:  # noqa: BLE001
        traceback.print_exc()
        answer = {"error": f"{type(fault).__name__}: {fault}", "fix": None}
    if answer:
        print(json.dumps(answer, allow_nan=False), flush=True)
    return EXIT_FAULT if "error" in answer else 0


def _told(fault: DeviceError) -> int:
    """A fault, for a person."""
    text = f"error: {fault.what}" + (f"\n  fix: {fault.fix}" if fault.fix else "")
    print("\n".join(map(printable, text.splitlines())), file=sys.stderr)
    return EXIT_FAULT


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog="edgecnn.ondevice", description="Runs and measures one model file on this machine.")
    verbs = top.add_subparsers(metavar="VERB", required=True)
    verbs.add_parser("probe", help="what this machine is").set_defaults(verb=_probe)
    verbs.add_parser("survey", help="what this machine has and lacks").set_defaults(verb=_survey)
    _add_evaluate(verbs)
    _add_benchmark(verbs)
    memory = verbs.add_parser("memory", help="peak resident memory of loading and running a model")
    _add_model(memory)
    memory.set_defaults(verb=_memory)
    _add_predict(verbs)
    _add_camera(verbs)
    _add_run(verbs)
    _add_marked(verbs)
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
    verb.add_argument("--window-s", type=float, default=plan.window_s, help="of the warm-up, at least")
    verb.add_argument("--window-runs", type=int, default=plan.window_runs, help="of the warm-up, at least")
    verb.add_argument(
        "--most-warmup-s", type=float, default=plan.most_warmup_s, help="where it does not become steady"
    )
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


def _add_marked(verbs: Any) -> None:
    verb = verbs.add_parser("marked", help="inferences for a counter of instructions")
    verb.add_argument("model", type=Path)
    verb.add_argument("--runtime", choices=sorted(RUNTIMES), required=True)
    verb.add_argument("--runs", type=int, required=True)
    verb.set_defaults(verb=_marked)


def _add_predict(verbs: Any) -> None:
    verb = verbs.add_parser("predict", help="the most probable classes of pictures")
    _add_model(verb)
    verb.add_argument("pictures", type=Path, nargs="+", help="PNG, JPEG or .npy files, or folders of them")
    _add_guesses(verb)
    verb.set_defaults(verb=_predict)


def _add_camera(verbs: Any) -> None:
    verb = verbs.add_parser("camera", help="the most probable classes of what a Raspberry Pi's camera sees")
    _add_model(verb)
    verb.add_argument("--frames", type=int, default=1, help="how many pictures to take")
    _add_guesses(verb)
    verb.set_defaults(verb=_camera)


def _add_guesses(verb: argparse.ArgumentParser) -> None:
    _add_manifest(verb)
    verb.add_argument("--top", type=int, default=5)
    verb.add_argument("--text", action="store_true", help="a line for each picture instead of JSON")


def _probe(options: argparse.Namespace) -> Dict[str, Any]:
    from edgecnn.ondevice import environment

    return environment.probe()


def _survey(options: argparse.Namespace) -> Dict[str, Any]:
    from edgecnn.ondevice.survey import survey

    return survey()


def _evaluate(options: argparse.Namespace) -> Dict[str, Any]:
    from edgecnn.ondevice.evaluate import evaluate
    from edgecnn.ondevice.preprocess import load_images

    images = load_images(options.images)
    manifest = _manifest(options)
    start = time.perf_counter()
    outputs = evaluate(
        options.model, manifest, images, _runtime(options), options.threads, not options.no_optimize
    )
    seconds = time.perf_counter() - start
    content = io.BytesIO()
    np.save(content, outputs)
    _write(options.output, content)
    return {
        "output": str(options.output),
        "shape": list(outputs.shape),
        "dtype": str(outputs.dtype),
        "seconds": seconds,
    }


def _benchmark(options: argparse.Namespace) -> Dict[str, Any]:
    from edgecnn.ondevice.benchmark import benchmark

    plan = Plan(**{field.name: getattr(options, field.name) for field in fields(Plan)})
    return benchmark(options.model, _runtime(options), options.threads, plan)


def _run(options: argparse.Namespace) -> Dict[str, Any]:
    from edgecnn.ondevice.run import run

    require_file(options.model)
    try:
        with np.load(options.inputs, allow_pickle=False) as file:
            inputs = dict(file)
    except (OSError, ValueError) as fault:
        raise DeviceError(f"cannot read {options.inputs}: {fault}", "name an .npz file") from fault
    outputs = run(options.model, inputs, _runtime(options), options.threads, not options.no_optimize)
    content = io.BytesIO()
    np.savez(content, **outputs)
    _write(options.output, content)
    return {
        "output": str(options.output),
        "shapes": {name: list(array.shape) for name, array in outputs.items()},
    }


def _write(path: Path, content: io.BytesIO) -> None:
    """By way of memory: numpy would add a suffix to the name, and does not tell why a disk takes no more."""
    try:
        path.write_bytes(content.getbuffer())
    except OSError as fault:
        raise DeviceError(
            f"cannot write {path}: {fault.strerror}", "free some space there, or name another --output"
        ) from fault


def _memory(options: argparse.Namespace) -> Dict[str, Any]:
    from edgecnn.ondevice.memory import peak_memory

    return peak_memory(options.model, _runtime(options), options.threads)


def _marked(options: argparse.Namespace) -> Dict[str, Any]:
    from edgecnn.ondevice.marked import run_marked

    return run_marked(options.model, options.runtime, options.runs)


def _predict(options: argparse.Namespace) -> Dict[str, Any]:
    from edgecnn.ondevice.predict import picture_files

    pictures = picture_files(options.pictures)
    return _classify_all(options, ((picture, None) for picture in pictures))


def _camera(options: argparse.Namespace) -> Dict[str, Any]:
    from edgecnn.ondevice.camera import frames

    return _classify_all(options, frames(options.frames))


def _classify_all(
    options: argparse.Namespace, pictures: Iterable[Tuple[Path, Optional[float]]]
) -> Dict[str, Any]:
    """`pictures` are pairs of a file and the milliseconds that taking it cost, None where no camera did.

    With --text: raises DeviceError where none of them can be read.
    """
    from edgecnn.ondevice.predict import Prediction, as_text, classify_or_tell

    manifest = _manifest(options)
    runtime = load_model(_runtime(options), options.model, options.threads)
    predictions = []
    for picture, capture_ms in pictures:
        prediction = classify_or_tell(runtime, manifest, picture, options.top)
        if isinstance(prediction, Prediction):
            prediction = replace(prediction, capture_ms=capture_ms)
        if options.text:
            print(as_text(prediction), flush=True)
        predictions.append(prediction)
    if not options.text:
        return {"predictions": [asdict(prediction) for prediction in predictions]}
    _tell_unreadable(predictions)
    return {}


def _tell_unreadable(predictions: List[Union[Prediction, Unreadable]]) -> None:
    """Which pictures were left out, for a person. Raises DeviceError where these are all."""
    from edgecnn.ondevice.predict import Unreadable, told_unreadable

    broken = [one for one in predictions if isinstance(one, Unreadable)]
    if not broken:
        return
    told = told_unreadable(broken, len(predictions))
    if len(broken) == len(predictions):
        raise DeviceError(told, broken[0].fix)
    print(printable(told), file=sys.stderr)


def _runtime(options: argparse.Namespace) -> str:
    return options.runtime or preferred_runtime(options.model)


def _manifest(options: argparse.Namespace) -> Manifest:
    """The manifest named, or the one beside the model, which must be of this very file."""
    require_file(options.model)
    if options.manifest is not None:
        try:
            return Manifest.read(options.manifest)
        except OSError as fault:
            raise DeviceError(f"cannot read {options.manifest}: {fault.strerror}", "check the path") from fault
    return own_manifest(options.model)


if __name__ == "__main__":
    sys.exit(main(limited=True))
