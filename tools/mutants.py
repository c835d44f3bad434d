"""Breaks the code in small ways, one at a time, and asks whether the tests notice.

    python tools/mutants.py                              # 40 of each part, drawn by a seed
    python tools/mutants.py --parts gate --mutants 200

A mutant is a copy of the project in which one operator, number, comparison or condition of one module is
another (cosmic-ray makes them). It is killed when the tests of its part fail or run far longer than they
should; one that lives shows what no test holds. Changes to annotations and docstrings are none: they are not
drawn. The working tree is not touched.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("edgecnn", "tests", "recipes", "benchmarks", "docs", "tools", "pyproject.toml", "README.md")
# A mutant may loop for ever: it is given so many times what the tests need as they are, and a while.
PATIENCE, LEAST_PATIENCE_S = 3, 30
# A dataclass that is none cannot even be imported; the last two ask for names of variables.
LEFT_OUT = ("core/RemoveDecorator", "core/VariableInserter", "core/VariableReplacer")


@dataclass(frozen=True)
class Part:
    """Modules, and the tests that hold them, the quick ones first."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


CONVERTER_TESTS = (
    "tests/export/tflite/test_operators.py",
    "tests/export/tflite/test_operator_corners.py",
    "tests/export/tflite/test_options.py",
    "tests/export/tflite/test_exact.py",
    "tests/export/tflite/test_qdq_dialects.py",
    "tests/export/tflite/test_writer.py",
    "tests/export/tflite/test_lenet.py",
    "tests/export/tflite/test_metadata.py",
    "tests/export/tflite/test_hostile_models.py",
    "tests/export/tflite/test_zoo.py",
    "tests/export/tflite/test_qdq_fixtures.py",
    "tests/export/tflite/test_torch_exports.py",
    "tests/export/tflite/test_random_graphs.py",
)
ARITHMETIC = (
    "edgecnn/export/tflite/quantization.py",
    "edgecnn/export/tflite/quantized_values.py",
    "edgecnn/export/tflite/weights.py",
    "edgecnn/export/tflite/widening.py",
)
PARTS = {
    "gate": Part(("edgecnn/gate.py", "edgecnn/units.py"), ("tests/test_gate.py", "tests/test_units.py")),
    "quantization": Part(
        (*ARITHMETIC, "edgecnn/compress/qdq.py", "edgecnn/compress/calibration.py"),
        ("tests/compress/test_calibration.py", "tests/compress/test_quantize.py", *CONVERTER_TESTS),
    ),
    "converter": Part(
        tuple(
            str(path.relative_to(ROOT))
            for path in sorted((ROOT / "edgecnn/export/tflite").rglob("*.py"))
            if str(path.relative_to(ROOT)) not in ARITHMETIC
        ),
        CONVERTER_TESTS,
    ),
}


@dataclass(frozen=True)
class Mutant:
    module: str
    operator: str
    line: int
    source: str
    """All of the changed module."""

    def __str__(self) -> str:
        changed = self.source.splitlines()[self.line - 1].strip()
        return f"{self.module}:{self.line} {self.operator.removeprefix('core/')}: {changed}"


@dataclass(frozen=True)
class Place:
    """Where an operator of cosmic-ray can change a module."""

    module: str
    operator: str
    occurrence: int
    line: int

    def mutant(self) -> Mutant | None:
        """None where the module would mean the same, or nothing."""
        text = (ROOT / self.module).read_text(encoding="utf-8")
        changed = mutate_code(text, get_operator(self.operator)(), self.occurrence)
        if changed is None or _meaning(changed) in (_meaning(text), None):
            return None
        return Mutant(self.module, self.operator, self.line, changed)


def places(module: str) -> Iterator[Place]:
    tree = get_ast((ROOT / module).read_text(encoding="utf-8"))
    nodes = list(ast_nodes(tree))
    for name in sorted(operator_names()):
        if name not in LEFT_OUT:
            operator = get_operator(name)()
            found = (position for node in nodes for position in operator.mutation_positions(node))
            for occurrence, ((line, _), _) in enumerate(found):
                yield Place(module, name, occurrence, line)


def drawn(modules: Sequence[str], n: int, seed: int) -> list[Mutant]:
    """Some of all mutants of the modules, each as likely as any other."""
    everywhere = [place for module in modules for place in places(module)]
    random.Random(seed).shuffle(everywhere)
    found = (mutant for place in everywhere if (mutant := place.mutant()))
    return list(islice(found, n))


def _meaning(source: str) -> str | None:
    """The syntax tree without annotations and docstrings; None where it is no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            node.annotation = ast.Name("_")
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


class Copy:
    """A copy of the project in `folder`, whose modules can be changed and tested."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / name)

    def seconds(self, tests: Sequence[str], patience_s: float | None) -> float | None:
        """How long the tests took; None where one failed, or they took longer than `patience_s`."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            passed = process.wait(patience_s) == 0
        except subprocess.TimeoutExpired:
            passed = False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return time.monotonic() - started if passed else None

    def kills(self, mutant: Mutant, tests: Sequence[str], patience_s: float) -> bool:
        path = self.folder / mutant.module
        original = path.read_text(encoding="utf-8")
        path.write_text(mutant.source, encoding="utf-8")
        try:
            return self.seconds(tests, patience_s) is None
        finally:
            path.write_text(original, encoding="utf-8")


def judge(name: str, n_mutants: int, seed: int, copy: Copy) -> tuple[int, int]:
    """How many of a part's drawn mutants were killed, of how many."""
    part = PARTS[name]
    needed = copy.seconds(part.tests, None)
    if needed is None:
        sys.exit(f"the tests of {name} fail as they are")
    chosen = drawn(part.modules, n_mutants, seed)
    print(f"{name}: {len(chosen)} mutants; its tests take {needed:.0f} s", flush=True)
    n_killed = 0
    for number, mutant in enumerate(chosen, 1):
        killed = copy.kills(mutant, part.tests, max(PATIENCE * needed, LEAST_PATIENCE_S))
        n_killed += killed
        print(f"  {number:>4} {'killed' if killed else 'LIVES'}  {mutant}", flush=True)
    return n_killed, len(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--mutants", type=int, default=40, help="of each part")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgecnn-mutants-") as folder:
        copy = Copy(Path(folder))
        found = {name: judge(name, options.mutants, options.seed, copy) for name in options.parts}
    for name, (n_killed, n_drawn) in found.items():
        print(f"{name}: {n_killed} of {n_drawn} mutants killed ({n_killed / n_drawn:.0%})")


if __name__ == "__main__":
    main()
