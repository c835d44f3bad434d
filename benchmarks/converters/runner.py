"""What every runner does: convert, time, write down. Standard library only: all the environments import it.

A runner is started as `python -m converters.run_x JOB`, JOB being a folder with `job.json`, and leaves
`result.json` and the .tflite files there. One process converts one network with one converter.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """`inputs` is the folder of `inputs.write_inputs`, `output` the runner's own."""

    network: str
    input_shape: tuple[int, int, int]
    inputs: Path
    output: Path
    min_rounds: int
    min_seconds: float

    def save(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / "job.json").write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def load(cls, folder: Path) -> Job:
        job = json.loads((folder / "job.json").read_text())
        paths = {"inputs": Path(job["inputs"]), "output": Path(job["output"])}
        return cls(**{**job, **paths, "input_shape": tuple(job["input_shape"])})


@dataclass(frozen=True)
class Conversion:
    """One way to make one file. `convert` reads its source from disk and returns the .tflite file's bytes;
    `prepare` is called before it every time, and not timed.
    """

    contestant: str
    precision: str
    convert: Callable[[], bytes]
    prepare: Callable[[], object] = lambda: None


def timed(conversion: Conversion, min_rounds: int, min_seconds: float) -> tuple[bytes, list[float]]:
    """(the file, seconds of each round). The first call warms caches and compilers up and is not counted."""
    conversion.prepare()
    data = conversion.convert()
    seconds: list[float] = []
    while len(seconds) < min_rounds or sum(seconds) < min_seconds:
        conversion.prepare()
        started = time.perf_counter()
        data = conversion.convert()
        seconds.append(time.perf_counter() - started)
    return data, seconds


def run(conversion: Conversion, job: Job) -> dict[str, object]:
    """The entry of `result.json`: file and seconds, or the reason why there is none."""
    entry: dict[str, object] = {"contestant": conversion.contestant, "precision": conversion.precision}
    try:
        data, seconds = timed(conversion, job.min_rounds, job.min_seconds)
    except Exception as fault:  # a stranger's code: whatever it raises is what the table tells  # noqa: BLE001
        traceback.print_exc()
        return {**entry, "reason": f"{type(fault).__name__}: {str(fault).strip()[:300]}"}
    name = f"{conversion.contestant}.{conversion.precision}.tflite".replace(" ", "_").replace(",", "")
    (job.output / name).write_bytes(data)
    return {**entry, "file": name, "seconds": seconds}


def main(conversions: Callable[[Job], list[Conversion]], packages: tuple[str, ...]) -> None:
    """`conversions` imports what it needs and prepares, untimed, what each conversion starts from."""
    job = Job.load(Path(sys.argv[1]))
    results = [run(conversion, job) for conversion in conversions(job)]
    versions = {package: importlib.metadata.version(package) for package in packages}
    (job.output / "result.json").write_text(json.dumps({"versions": versions, "results": results}))
