"""How soon the commands of an editor's and of a CI's every minute answer, beside Python itself.

    python benchmarks/start.py
    python benchmarks/start.py --rounds 20

Each command is started anew in every round, in turn with the others, on one model file of the repository's
demo (build it first: make demo). Times are of the processor, user and system together, which other processes
lengthen less than they do the clock's; medians over the rounds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

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
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.rounds):
        for name, arguments in COMMANDS.items():
            took[name].append(processor_seconds(arguments))
    peer = statistics.median(took[PEER])
    for name, seconds in took.items():
        median = statistics.median(seconds)
        print(f"{name:<36} {1000 * median:6.0f} ms   {median / peer:5.1f} of the libraries alone")


if __name__ == "__main__":
    main()
