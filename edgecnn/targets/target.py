"""Measuring on some machine: what is asked of it, whatever machine it is, each in a fresh process there."""

from __future__ import annotations

import hashlib
import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn import files
from edgecnn.errors import TargetError
from edgecnn.ondevice.manifest import DeviceError, Manifest, own_manifest
from edgecnn.ondevice.predict import Prediction, Unreadable, picture_files, told_unreadable
from edgecnn.targets import answers
from edgecnn.targets.answers import Launch
from edgecnn.targets.doubts import warnings_for
from edgecnn.targets.record import BenchmarkJob, Environment, LatencyRecord, MemoryRecord, Round, Survey
from edgecnn.targets.statistics import median_interval, summarize

Progress = Callable[[int, int, BenchmarkJob], None]

MIN_RUNS = 50
"""Timed inferences over all rounds, at the least."""
LARGEST_PART_BYTES = 16 * 2**20
"""Of images that one process is given: a Zero 2 W has 512 MB in all. And the time limit is one of a process: a
busy machine may need many times as long for all of a large test set.
"""
MOST_PICTURES = 200
"""In one command: Linux takes 128 KiB of text in the one that ssh is given, and paths there are long."""


class Machine(Protocol):
    """Where verbs of `edgecnn.ondevice` run, and how files get there."""

    def run(self, arguments: Sequence[str], *, about: str, timeout_s: float) -> dict[str, Any]:
        """The answer of one verb. `about` names the model in messages. Raises TargetError."""

    def run_to_file(
        self, arguments: Sequence[str], output: Path, *, about: str, timeout_s: float
    ) -> dict[str, Any]:
        """`run` of a verb with an `--output`, which is `output` on this machine in the end."""

    def place(self, path: Path) -> str:
        """The name that the file at `path` has over there, brought there where it must be."""


@dataclass(frozen=True)
class _Predictions:
    predictions: tuple[Prediction | Unreadable, ...]


class Target(ABC):
    """A machine that measures. Every method raises TargetError where the measuring process failed, died or
    hung.
    """

    name: str
    how_to_install = "pip install ai-edge-litert onnxruntime"
    """What mends that there is no runtime."""

    def __init__(self, name: str, machine: Machine, timeout_s: float) -> None:
        """`timeout_s` limits each process."""
        self.name = name
        self.timeout_s = timeout_s
        self._machine = machine

    def probe(self) -> Environment:
        """What the machine is and which runtimes it has."""
        answer = self._machine.run(["probe"], about=self.name, timeout_s=self.timeout_s)
        return answers.checked(Environment, {**answer, "target": self.name}, "probe", self.name)

    def survey(self) -> dict[str, Any]:
        """What the machine has and lacks for running models: see `ondevice.survey`."""
        answer = self._machine.run(["survey"], about=self.name, timeout_s=self.timeout_s)
        return asdict(answers.checked(Survey, answer, "survey", self.name))

    @abstractmethod
    def runtimes_for(self, model_format: str) -> tuple[str, ...]:
        """Names of the installed runtimes for "onnx" or "tflite" files, the preferred one first."""

    def close(self) -> None:  # noqa: B027 - most have none
        """Ends the connection, where there is one."""

    def evaluate(
        self,
        model_path: Path,
        manifest: Manifest,
        images_nhwc: Path | NDArray[np.uint8],
        runtime: str,
        *,
        optimize: bool = True,
        num_threads: int = 1,
        model_there: str | None = None,
    ) -> NDArray[Any]:
        """The raw outputs of a model, [n, classes], in the dtype of its output (int8 logits or float32).

        `images_nhwc`: uint8 [n, height, width, channels], an array or a .npy file of it; preprocessing is the
        manifest's. `optimize=False` asks for the runtime's reference path (onnxruntime: ORT_DISABLE_ALL;
        TFLite: reference kernels, slow). `model_there`: where the model lies on that machine already.
        """
        with tempfile.TemporaryDirectory(prefix="edgecnn-") as folder:
            manifest_path = Path(folder, "manifest.json")
            with files.writing(manifest_path):
                manifest_path.write_text(manifest.to_json(), encoding="utf-8")
            model_there = model_there or self._machine.place(model_path)
            arguments = ["evaluate", model_there, "--threads", str(num_threads), "--runtime", runtime]
            arguments += ["--manifest", self._machine.place(manifest_path)]
            arguments += [] if optimize else ["--no-optimize"]
            outputs = [
                self._evaluate_part(arguments, images_path, _about(model_path, runtime), Path(folder))
                for images_path in _parts(images_nhwc, Path(folder))
            ]
        self._check_outputs(outputs, manifest)
        return np.concatenate(outputs)

    def _evaluate_part(self, arguments: list[str], images: Path, about: str, folder: Path) -> NDArray[Any]:
        output = folder / "output.npy"
        self._machine.run_to_file(
            [*arguments, "--images", self._machine.place(images)],
            output,
            about=about,
            timeout_s=self.timeout_s,
        )
        result = answers.array(output, "evaluate", self.name)
        n_images = len(np.load(images, mmap_mode="r"))
        if result.shape[:1] != (n_images,) or (n_images and result.ndim != 2):
            detail = f"outputs of the shape {list(result.shape)} for {n_images} images"
            raise answers.unusable("evaluate", detail, self.name)
        return result

    def _check_outputs(self, outputs: list[NDArray[Any]], manifest: Manifest) -> None:
        """Raises TargetError where parts are unlike one another, or have other classes than the model."""
        if not len(outputs[0]):
            return
        kinds = {(part.shape[1], str(part.dtype)) for part in outputs}
        sizes = [math.prod(spec.shape[1:]) for spec in manifest.outputs[:1]]
        if len(kinds) != 1 or any(0 < size != outputs[0].shape[1] for size in sizes):
            found = " and ".join(f"{n} x {dtype}" for n, dtype in sorted(kinds))
            raise answers.unusable("evaluate", f"outputs of {found} for each image", self.name)

    def run(
        self,
        model_path: Path,
        inputs: Mapping[str, NDArray[Any]],
        runtime: str,
        *,
        optimize: bool = True,
        num_threads: int = 1,
    ) -> dict[str, NDArray[Any]]:
        """The outputs of a model by name, each [n, *output shape], for `inputs` by name, [n, *input shape].

        Each row is one inference; nothing is preprocessed.
        """
        with tempfile.TemporaryDirectory(prefix="edgecnn-") as folder:
            inputs_path, output_path = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
            with files.writing(inputs_path):
                np.savez(inputs_path, **inputs)
            arguments = ["run", *self._model_arguments(model_path, runtime, num_threads)]
            arguments += ["--inputs", self._machine.place(inputs_path)]
            arguments += [] if optimize else ["--no-optimize"]
            about = _about(model_path, runtime)
            self._machine.run_to_file(arguments, output_path, about=about, timeout_s=self.timeout_s)
            return answers.arrays(output_path, "run", self.name)

    def benchmark(
        self,
        jobs: Sequence[BenchmarkJob],
        *,
        rounds: int = 3,
        min_total_s: float = 1.0,
        on_progress: Progress | None = None,
    ) -> list[LatencyRecord]:
        """Latency of every job, in the order of `jobs`.

        Each round starts every job once, in a fresh process, so that a slow minute of the machine meets all
        jobs alike. The timed phases of a job add up to at least `min_total_s` and 50 timed inferences.
        `on_progress(n_done, n_total, job)` is called before each process is started.
        """
        if rounds < 1:
            raise ValueError(f"a benchmark has at least one round, not {rounds}")
        if not jobs:
            return []
        environment = self.probe()
        of_jobs: list[list[tuple[Launch, Round]]] = [[] for _ in jobs]
        for done in range(rounds * len(jobs)):
            job, of_job = jobs[done % len(jobs)], of_jobs[done % len(jobs)]
            if on_progress is not None:
                on_progress(done, rounds * len(jobs), job)
            of_job.append(self._benchmark_once(job, min_total_s / rounds, math.ceil(MIN_RUNS / rounds)))
        return [_record(job, launched, environment) for job, launched in zip(jobs, of_jobs, strict=True)]

    def _benchmark_once(self, job: BenchmarkJob, min_s: float, min_samples: int) -> tuple[Launch, Round]:
        arguments = ["benchmark", *self._model_arguments(job.model_path, job.runtime, job.num_threads)]
        arguments += ["--min-s", str(min_s), "--min-samples", str(min_samples)]
        about = _about(job.model_path, job.runtime)
        answer = self._machine.run(arguments, about=about, timeout_s=self.timeout_s)
        launch = answers.checked(Launch, answer, "benchmark", self.name)
        # What it read before and after is spread over fields of these names.
        flat = dict(answer)
        for when, conditions in (("before", launch.before), ("after", launch.after)):
            flat.update({f"{name}_{when}": value for name, value in conditions.items()})
        return launch, answers.checked(Round, flat, "benchmark", self.name)

    def peak_memory(self, model_path: Path, runtime: str, *, num_threads: int = 1) -> MemoryRecord:
        """Peak resident memory of loading the model and running it a few times, in a process of its own."""
        arguments = ["memory", *self._model_arguments(model_path, runtime, num_threads)]
        answer = self._machine.run(arguments, about=_about(model_path, runtime), timeout_s=self.timeout_s)
        return answers.checked(MemoryRecord, answer, "memory", self.name)

    def predict(
        self,
        model_path: Path,
        pictures: Sequence[Path],
        *,
        runtime: str | None = None,
        top_k: int = 5,
        num_threads: int = 1,
    ) -> list[Prediction | Unreadable]:
        """The most probable classes of pictures (PNG, JPEG, uint8 .npy; a folder stands for those in it), or
        why a picture cannot be read; TargetError where none of them can.

        The manifest must lie beside the model. `runtime` is by default the preferred one that is installed.
        """
        try:
            found = picture_files(pictures)
            own_manifest(model_path)
        except DeviceError as fault:
            raise TargetError(fault.what, where=_about(model_path, runtime), fix=fault.fix) from fault
        answer_of: dict[Path, Prediction | Unreadable] = {
            path: Unreadable(str(path), reason, "name picture files")
            for path in found
            if (reason := _why_closed(path))
        }
        files = [path for path in found if path not in answer_of]
        if files:
            runtime = runtime or self._preferred_runtime(model_path)
            predictions = self._predict(model_path, files, runtime, top_k, num_threads)
            answer_of.update(zip(files, predictions, strict=True))
        return _some_readable([answer_of[path] for path in found], _about(model_path, runtime))

    def _predict(
        self, model_path: Path, files: Sequence[Path], runtime: str, top_k: int, num_threads: int
    ) -> list[Prediction | Unreadable]:
        """The answer for each of the `files`, which are there."""
        arguments = ["predict", *self._model_arguments(model_path, runtime, num_threads), "--top", str(top_k)]
        arguments += ["--manifest", self._machine.place(Manifest.path_for(model_path))]
        about = _about(model_path, runtime)
        predictions = [
            prediction
            for start in range(0, len(files), MOST_PICTURES)
            for prediction in self._predict_part(arguments, files[start : start + MOST_PICTURES], about)
        ]
        return [_named(one, file) for file, one in zip(files, predictions, strict=True)]

    def _predict_part(
        self, arguments: list[str], files: Sequence[Path], about: str
    ) -> tuple[Prediction | Unreadable, ...]:
        # After "--": a place may begin with a dash.
        arguments = [*arguments, "--", *(self._machine.place(file) for file in files)]
        answer = self._machine.run(arguments, about=about, timeout_s=self.timeout_s)
        predictions = answers.checked(_Predictions, answer, "predict", self.name).predictions
        if len(predictions) != len(files):
            detail = f"{len(predictions)} predictions for {len(files)} pictures"
            raise answers.unusable("predict", detail, self.name)
        return predictions

    def _preferred_runtime(self, model_path: Path) -> str:
        model_format = model_path.suffix.lower().lstrip(".")
        names = self.runtimes_for(model_format)
        if not names:
            raise TargetError(
                f"no runtime for .{model_format} files is installed", where=self.name, fix=self.how_to_install
            )
        return names[0]

    def _model_arguments(self, model_path: Path, runtime: str, num_threads: int) -> list[str]:
        return [self._machine.place(model_path), "--threads", str(num_threads), "--runtime", runtime]


def _parts(images_nhwc: Path | NDArray[np.uint8], folder: Path) -> Iterator[Path]:
    """.npy files that hold the images in order, none much larger than LARGEST_PART_BYTES: the given one where
    it is small enough, else some in `folder`, each of which is there until the next is asked for.
    """
    images = np.load(images_nhwc, mmap_mode="r") if isinstance(images_nhwc, Path) else images_nhwc
    if isinstance(images_nhwc, Path) and images.nbytes <= LARGEST_PART_BYTES:
        yield images_nhwc
        return
    n_images, path = len(images), folder / "images.npy"
    per_part = max(1, LARGEST_PART_BYTES // max(1, images[0].nbytes)) if n_images else 1
    for start in range(0, max(1, n_images), per_part):
        with files.writing(path), path.open("wb") as file:
            files.save_array(file, images[start : start + per_part])
        yield path


def _why_closed(path: Path) -> str | None:
    """Why the file cannot even be opened; None where it can. A pipe or a device may never end."""
    if not path.is_file():
        return "no regular file" if path.exists() else "there is no such file"
    try:
        path.open("rb").close()
    except OSError as fault:
        return fault.strerror or str(fault)
    return None


def _named(answer: Prediction | Unreadable, file: Path) -> Prediction | Unreadable:
    """An answer under the name that the user gave, and not that on the board; of a bounded length."""
    if isinstance(answer, Prediction):
        return replace(answer, picture=str(file))
    error, fix = (text and text[: answers.MOST_LETTERS] for text in (answer.error, answer.fix))
    return Unreadable(str(file), error or "no reason given", fix)


def _some_readable(found: list[Prediction | Unreadable], about: str) -> list[Prediction | Unreadable]:
    """What was `found`. Raises TargetError where no picture could be read."""
    broken = [one for one in found if isinstance(one, Unreadable)]
    if broken and len(broken) == len(found):
        raise TargetError(told_unreadable(broken, len(found)), where=about, fix=broken[0].fix)
    return found


def _about(model_path: Path, runtime: str | None) -> str:
    return model_path.name if runtime is None else f"{model_path.name} on {runtime}"


def _record(job: BenchmarkJob, launched: list[tuple[Launch, Round]], environment: Environment) -> LatencyRecord:
    first, rounds = launched[0][0], tuple(one for _, one in launched)
    samples_ms = tuple(sample for one in rounds for sample in one.samples_ms)
    latency = summarize(samples_ms)
    content = job.model_path.read_bytes()
    return LatencyRecord(
        file=job.model_path.name,
        file_sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        target=environment.target,
        runtime=job.runtime,
        runtime_version=first.runtime_version,
        delegate=first.delegate,
        delegate_version=first.delegate_version,
        num_threads=job.num_threads,
        affinity=first.affinity,
        emulated=environment.emulated,
        environment=environment,
        latency_ms=latency,
        median_interval_ms=median_interval([one.samples_ms for one in rounds]),
        load_ms=float(np.median([one.load_ms for one in rounds])),
        first_run_ms=float(np.median([one.first_run_ms for one in rounds])),
        warmup_rule=first.warmup_rule,
        warmup_runs=sum(one.warmup_runs for one in rounds),
        n_runs=sum(one.n_runs for one in rounds),
        warmup_steady=all(one.warmup_steady for one in rounds),
        samples_ms=samples_ms,
        rounds=rounds,
        warnings=warnings_for(rounds, environment),
    )
