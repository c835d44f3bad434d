"""What travels to a board must run there: an old Python, numpy, one runtime, nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgecnn.ondevice

PACKAGE = Path(edgecnn.ondevice.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# Pillow and the runtimes may be missing on the board; who needs them imports them there.
ALLOWED = {"numpy", "PIL", "onnxruntime", "ai_edge_litert", "tflite_runtime", "picamera2"} | set(
    sys.stdlib_module_names
)
NEWER_THAN_3_9 = (
    "@dataclass(slots",
    "kw_only=True",
    "strict=True",
    "StrEnum",
    "itertools.pairwise",
    "tomllib",
)


def imported_modules(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only: the zipapp has no parent package"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_python_3_9_and_imports_only_what_a_board_has(path: Path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 9))
    assert not [word for word in NEWER_THAN_3_9 if word in text]
    for module in imported_modules(tree):
        if module.split(".")[0] == "edgecnn":
            assert module.startswith("edgecnn.ondevice"), module
        else:
            assert module.split(".")[0] in ALLOWED, module


def test_pillow_and_runtimes_are_not_imported_at_module_level():
    heavy = {"PIL", "onnxruntime", "ai_edge_litert", "tflite_runtime"}
    for path in FILES:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        imports: list[ast.stmt] = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = imported_modules(ast.Module(body=imports, type_ignores=[]))
        assert not {name.split(".")[0] for name in names} & heavy, path


def test_importing_every_module_loads_no_runtime_and_nothing_else_of_edgecnn():
    modules = [
        ".".join(("edgecnn", "ondevice", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for path in FILES
        if path.name != "__main__.py"
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    assert not loaded & {
        "torch",
        "onnx",
        "onnxruntime",
        "ai_edge_litert",
        "tflite_runtime",
        "PIL",
        "pydantic",
    }
    outside = {name for name in loaded if name.startswith("edgecnn.") and "ondevice" not in name}
    assert not outside
