"""Files are whole or not there, and what cannot be written is told."""

from __future__ import annotations

import errno
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from edgecnn import files
from edgecnn.errors import StorageError


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
