"""How edgecnn's TFLite converter compares with litert-torch, onnx2tf and TensorFlow on the same weights.

    python benchmarks/converters.py [--only edgecnn] [--models lenet5] [--json FILE]

Every converter gets an environment of its own, made here with the versions of `converters/requirements/` and
kept in `--environments`, and runs in a process of its own, one at a time. What it writes is read back with
LiteRT's schema and run in three runtimes. A converter that cannot be installed, or that fails, is shown with
its reason.

Seconds are from the source on disk (ONNX, a PyTorch state, a .keras file) to the bytes of the .tflite file. For
int8 the others calibrate within that time, ours reads a model that is quantized already: the row "with
calibration" is ours from the float model and the same pictures.
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
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from converters import comparison, table
from converters.comparison import Result
from converters.environments import CONVERTERS, EnvironmentFailure, python_of
from converters.inputs import write_inputs
from converters.networks import NETWORKS
from converters.runner import Job


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CONVERTERS, default=list(CONVERTERS))
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5, help="timed conversions of each kind, at least")
    parser.add_argument("--seconds", type=float, default=1.0, help="timed for each kind in all, at least")
    parser.add_argument("--calibration", type=int, default=100, help="pictures for the int8 ranges")
    parser.add_argument("--evaluation", type=int, default=500, help="pictures on which outputs are compared")
    parser.add_argument(
        "--environments", type=Path, default=Path(".benchmark-envs"), help="where they are kept"
    )
    parser.add_argument(
        "--python", nargs="+", default=[], help="interpreters for converters that need a newer one"
    )
    parser.add_argument(
        "--keep", type=Path, help="folder for the files that are written; otherwise they are deleted"
    )
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    return parser.parse_args()


@contextmanager
def working_folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="edgecnn-converters-") as folder:
        yield Path(folder)


def pythons(options: argparse.Namespace) -> dict[str, Path | str]:
    """The interpreter of each converter, or the reason why there is none."""
    found: dict[str, Path | str] = {}
    for name in options.only:
        try:
            found[name] = python_of(name, options.environments, options.python)
        except EnvironmentFailure as fault:
            found[name] = str(fault)
    return found


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Result], dict[str, dict[str, str]]]:
    """(every file of every converter, the versions of each converter's packages)."""
    results, versions = [], {}
    interpreters = pythons(options)
    for network in options.models:
        inputs = folder / network / "inputs"
        tell(f"{network}: weights and pictures")
        write_inputs(network, inputs, options.calibration, options.evaluation)
        images_nhwc, expected = comparison.expected_of(inputs)
        for name, python in interpreters.items():
            if isinstance(python, str):
                results.append(comparison.failure(network, name, python))
                continue
            tell(f"{network}: {name}")
            shape, output = NETWORKS[network].input_shape, folder / network / name
            job = Job(network, shape, inputs, output, options.rounds, options.seconds)
            found, packages = comparison.run_converter(name, python, job, expected, images_nhwc)
            results += found
            versions[name] = packages or versions.get(name, {})
    return results, versions


def tell(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


def main() -> None:
    options = parse()
    with working_folder(options.keep) as folder:
        results, versions = measure(options, folder)
    ratios = comparison.ratios(results)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    )
    print(f"{machine}\npython {shlex.join(sys.argv)}\n")
    for name, packages in versions.items():
        print(f"{name}: {', '.join(f'{package} {version}' for package, version in packages.items())}")
    print(f"\n{table.render(results, ratios)}")
    if options.json:
        report = {
            "machine": machine,
            "options": vars(options),
            "versions": versions,
            "results": [asdict(result) for result in results],
            "ratios": [asdict(ratio) for ratio in ratios],
        }
        options.json.write_text(json.dumps(report, default=str, indent=1))


if __name__ == "__main__":
    main()
