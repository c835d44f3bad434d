"""Keeps what native code writes to stderr off a user's terminal."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Iterator


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back file descriptor 2, and gives it out after all if the block raises.

    Only where stderr is a terminal: a host that reads it through a pipe wants the last words of a process
    that native code ended.
    """
    if not os.isatty(2):
        yield
        return
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
