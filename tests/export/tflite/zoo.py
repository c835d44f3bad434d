"""The zoo: it lives beside the benchmark that measures its int8 files, benchmarks/agreement/zoo.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_PATH = Path(__file__).resolve().parents[3] / "benchmarks" / "agreement" / "zoo.py"
_SPEC = importlib.util.spec_from_file_location("zoo_networks", _PATH)
assert _SPEC is not None and _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

ZOO, build, export, folded = _MODULE.ZOO, _MODULE.build, _MODULE.export, _MODULE.folded
