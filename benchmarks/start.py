"""How soon the commands of an editor's and of a CI's every minute answer, beside Python itself.

    python benchmarks/start.py
    python benchmarks/start.py --rounds 20

Each command is started anew in every round, in turn with the others, on one model file of the repository's
demo (build it first: make demo), the last two on forty SqueezeNets. Times are of the processor, user and system
together, which other processes lengthen less than they do the clock's; medians over the rounds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from edgecnn.export.onnx import export_onnx
from edgecnn.export.tflite import convert
from edgecnn.models import build_model

DEMO = Path("artifacts") / "mnist_lenet5_int8"
MODEL = DEMO / "mnist_lenet5_int8.int8.tflite"
PEER = "python -c 'import click, pydantic'"
COMMANDS: dict[str, list[str]] = {
    "python -c ''": ["-c", ""],
    PEER: ["-c", "import click, pydantic"],
    "edgecnn --version": ["-m", "edgecnn", "--version"],
    "edgecnn inspect": ["-m", "edgecnn", "inspect", str(MODEL)],
    "edgecnn diff": ["-m", "edgecnn", "diff", str(MODEL), str(MODEL)],
    "edgecnn check": ["-m", "edgecnn", "check", str(DEMO)],
}


N_MODELS = 40


def many_models(folder: Path) -> dict[str, list[str]]:
    """Writes N_MODELS SqueezeNets of either format, and gives the commands that read them all."""
    network = build_model("squeezenet1_1", in_channels=3, n_classes=10, seed=0)
    model = export_onnx(network, (3, 64, 64))
    commands = {}
    for form, content in (("tflite", convert(model).data), ("onnx", model.SerializeToString())):
        (folder / form).mkdir()
        for k in range(N_MODELS):
            (folder / form / f"{k}.{form}").write_bytes(content)
        name = f"edgecnn check, {N_MODELS} .{form} of {len(content) / 1e6:.1f} MB"
        commands[name] = ["-m", "edgecnn", "check", str(folder / form)]
    return commands


def processor_seconds(arguments: list[str]) -> float:
    """What one run of this Python with `arguments` took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    if not MODEL.exists():
        sys.exit(f"{MODEL} is not there: run make demo first")
    with tempfile.TemporaryDirectory(prefix="edgecnn-start-") as folder:
        commands = {**COMMANDS, **many_models(Path(folder))}
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, arguments in commands.items():
                took[name].append(processor_seconds(arguments))
    peer = statistics.median(took[PEER])
    for name, seconds in took.items():
        median = statistics.median(seconds)
        print(f"{name:<40} {1000 * median:6.0f} ms   {median / peer:5.1f} of the libraries alone")


if __name__ == "__main__":
    main()
