"""Files are whole or not there, and what cannot be written is told."""

from __future__ import annotations

import errno
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecnn import build_folder, files, provenance, recipe_file
from edgecnn.check import baseline, budget_file, counts
from edgecnn.errors import EdgeCNNError, StorageError
from edgecnn.export.tflite import metadata
from edgecnn.records import Report
from edgecnn.steps.manifests import read_manifest


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk quota is used up")],
)
def test_what_cannot_be_written_is_named_and_what_was_there_stays(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError, match=said) as raised:
        files.write_bytes(path, b"new")
    assert raised.value.where == str(path) and raised.value.errno == number and raised.value.exit_code == 3
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value), "from a worker, too"
    assert [one.name for one in tmp_path.iterdir()] == ["model.tflite"] and path.read_bytes() == b"old"


def test_arrays_have_the_bytes_that_numpy_gives_them() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    ours, theirs = io.BytesIO(), io.BytesIO()
    files.save_array(ours, array)
    np.save(theirs, np.ascontiguousarray(array))
    assert ours.getvalue() == theirs.getvalue()


# All that reads a text file which somebody names.
READERS: dict[str, Callable[[Path], object]] = {
    "recipe.yaml": recipe_file.load,
    "report.json": lambda path: build_folder.read_report(path.parent),
    "build.lock.json": lambda path: provenance.read(path.parent),
    "baseline.json": baseline.read,
    "budget.yaml": budget_file.read,
    "counts.json": counts.read,
    "metadata.json": metadata.read,
    "x.tflite.json": lambda path: read_manifest(path.with_suffix("")),
}


@pytest.mark.parametrize("kind", ["pipe", "device", "latin", "deep", "huge number"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_text_file_is_told_and_not_waited_for(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        contents = {
            "latin": b"\xff\xfe\x00",
            "deep": b"[" * 90_000,
            "huge number": b'{"schema_version": ' + b"9" * 6000,
        }
        path.write_bytes(contents[kind])
    with pytest.raises(EdgeCNNError) as raised:
        READERS[name](path)
    assert str(path.parent) in str(raised.value)
    if kind in ("pipe", "device"):
        assert "no regular file" in str(raised.value)


def test_a_text_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert files.read_text(path, 11) == "one\ntwo"
    with pytest.raises(OSError, match="more than 10 bytes"):
        files.read_text(path, 10)


def test_an_analysis_that_is_nested_too_deeply_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "analysis.json").write_text("[" * 200_000)
    empty = Report(recipe={"name": "x"}, environment={}, artifacts=(), stages=(), parity=(), verdicts=())
    assert "cannot be read" in str(build_folder.read_analysis(tmp_path, empty))
