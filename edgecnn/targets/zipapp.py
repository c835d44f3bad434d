"""`edgecnn-device.pyz`: the package `edgecnn.ondevice` as one file that a board's python3 runs."""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path

import edgecnn.ondevice

NAME = "edgecnn-device.pyz"
MAIN = """\
import sys

from edgecnn.ondevice.board import main

sys.exit(main(sys.argv[1:]))
"""


@functools.cache
def build() -> bytes:
    """The same bytes for the same sources: names in order, no times, no owners."""
    package = Path(edgecnn.ondevice.__path__[0])
    sources = {
        f"edgecnn/ondevice/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*.py")
    }
    # The package's own __init__ would import what a board has not.
    sources |= {"__main__.py": MAIN.encode(), "edgecnn/__init__.py": b""}
    content = io.BytesIO()
    content.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(content, "a") as archive:
        for name, source in sorted(sources.items()):
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, source, zipfile.ZIP_DEFLATED, compresslevel=9)
    return content.getvalue()
