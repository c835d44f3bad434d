"""The receiving end of an upload, as it runs on the board: alone, from its source."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from edgecnn.ondevice import receive

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def source_with(**constants: float) -> str:
    """The receiver's source, with other values of its constants."""
    source = inspect.getsource(receive)
    for name, value in constants.items():
        source, n = re.subn(rf"^{name} = .*$", f"{name} = {value}", source, flags=re.MULTILINE)
        assert n == 1
    return source


def send(home: Path, content: bytes, sha256: str = SHA256, **constants: float) -> list[dict]:
    """The answers of a receiver in `home` that was promised CONTENT and is sent `content`."""
    source = source_with(**constants)
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", source, sha256, str(len(CONTENT)), "a.bin"],
        input=content,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        check=True,
    )
    lines = done.stdout.decode().splitlines()
    return [json.loads(line.removeprefix("edgecnn-answer:")) for line in lines]


def left_in(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def test_a_whole_file_gets_its_name(tmp_path: Path):
    asked, done = send(tmp_path, CONTENT)
    assert asked == {"send": True}
    path = Path(done["have"])
    assert path.read_bytes() == CONTENT and path.parent.name == SHA256
    assert send(tmp_path, b"") == [{"have": str(path)}], "it is not asked for again"


def test_a_cached_file_that_was_altered_is_asked_for_again(tmp_path: Path):
    path = Path(send(tmp_path, CONTENT)[1]["have"])
    path.write_bytes(CONTENT[:-1] + b"?")
    asked, done = send(tmp_path, CONTENT)
    assert asked == {"send": True} and Path(done["have"]) == path
    assert path.read_bytes() == CONTENT


def test_bytes_that_were_altered_on_the_way_are_refused(tmp_path: Path):
    altered = CONTENT[:-1] + b"?"
    _, fault = send(tmp_path, altered)
    assert "its sha256 is another" in fault["error"] and fault["fix"] == "try again"
    assert left_in(tmp_path) == []


def test_a_file_that_ends_too_early_is_removed(tmp_path: Path):
    _, fault = send(tmp_path, CONTENT[:1000])
    assert fault["error"] == "1000 of 256000 bytes came"
    assert left_in(tmp_path) == []


def test_a_file_that_stops_coming_on_a_link_that_stays_open_is_removed(tmp_path: Path):
    command = [sys.executable, "-S", "-I", "-c", source_with(SILENT_S=0.5), SHA256, str(len(CONTENT)), "a.bin"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, bufsize=0, **pipes) as receiver:
        assert receiver.stdin is not None and receiver.stdout is not None
        receiver.stdin.write(CONTENT[:1000])
        try:
            assert receiver.wait(30) == 0
        finally:
            receiver.kill()
        assert b"nothing came for 0.5 s after 1000 of 256000 bytes" in receiver.stdout.read()
    assert left_in(tmp_path) == []


def test_what_is_dated_in_the_future_grows_old_from_now_on(tmp_path: Path):
    cache = tmp_path / ".cache" / "edgecnn"
    entry, part = cache / "0123", cache / "abc.part"
    entry.mkdir(parents=True)
    (entry / "b.bin").write_bytes(CONTENT)
    part.write_bytes(CONTENT)
    in_ten_days = time.time() + 10 * 86400
    for path in (entry, part):
        os.utime(path, (in_ten_days,) * 2)
    full = {"LARGEST_CACHE_BYTES": len(CONTENT)}
    send(tmp_path, CONTENT[:1000], **full)
    assert entry.is_dir() and part.is_file(), "another may be using them"
    assert max(entry.stat().st_mtime, part.stat().st_mtime) <= time.time()
    send(tmp_path, CONTENT, **full, IN_USE_S=0)
    assert [path.name for path in left_in(tmp_path)] == ["a.bin"]


def test_an_old_python_can_read_it_and_say_that_it_is_too_old():
    ast.parse(inspect.getsource(receive), feature_version=(3, 7))


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / ".cache").write_text("a file in the way")
    (fault,) = send(tmp_path, CONTENT)
    assert "cannot write" in fault["error"] and fault["fix"]
