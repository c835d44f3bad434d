"""One worker process in which files that nobody vouches for are read and run: with limits, started anew when
it dies.

Native code that crashes, or takes all memory or all time, ends the worker and not the caller. It is no
sandbox: what runs in it may do what the user may do.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import edgecnn
from edgecnn.captured import Captured
from edgecnn.errors import EdgeCNNError, UsageError, is_out_of_memory
from edgecnn.ondevice.limits import limit_memory, limit_processor
from edgecnn.ondevice.written import MOST_BYTES, MOST_STDERR

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUT_S = 600.0
MOST_MODEL_BYTES = 10**9
LAST_WORDS = 5
"""Lines of a dead worker's stderr that are shown."""
LAST_WORDS_S = 5
"""What it started may hold its stderr open."""


def check_model_file(path: Path) -> int:
    """The size of the model file at `path` in bytes. Raises UsageError where it is no file, or too large."""
    try:
        found = path.stat()
    except OSError as fault:
        raise UsageError(f"cannot read it: {fault.strerror}", where=str(path)) from fault
    if stat.S_ISDIR(found.st_mode):
        raise UsageError("cannot read it: it is a folder", where=str(path))
    if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
        raise UsageError("cannot read it: it is no regular file", where=str(path))
    if found.st_size > MOST_MODEL_BYTES:
        raise UsageError(
            f"it has {found.st_size:,} bytes; models of more than {MOST_MODEL_BYTES:,} are not read",
            where=str(path),
            fix="edgecnn is for models that fit a small device",
        )
    return found.st_size


def run(function: Callable[P, R], about: str, n_bytes: int, /, *args: P.args, **kwargs: P.kwargs) -> R:
    """`function(*args, **kwargs)` in the worker; all of it, and what it returns or raises, must pickle.

    `about` names the file in messages. `n_bytes` is how much the function is given to read: memory is limited
    to 2 GiB and some times that (`ondevice.limits`), time to TIMEOUT_S. Raises EdgeCNNError where the worker
    dies or takes too long, and what `function` raises.
    """
    with _lock:
        return cast(R, _worker.ask((Path.cwd(), function, args, kwargs, n_bytes), about))


class _Worker:
    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Captured | None = None

    def ask(self, request: tuple[Any, ...], about: str) -> Any:
        process = self._started()
        assert process.stdin is not None and process.stdout is not None and self._stderr is not None
        self._stderr.count_anew()
        start = time.monotonic()
        timer = threading.Timer(TIMEOUT_S, process.kill)
        timer.start()
        try:
            pickle.dump(request, process.stdin)
            process.stdin.flush()
            is_result, answer = pickle.load(process.stdout)  # noqa: S301
        except (EOFError, OSError, pickle.UnpicklingError) as fault:
            raise self._death(about, is_late=time.monotonic() - start >= TIMEOUT_S) from fault
        except BaseException:  # Ctrl-C among them
            self.close()
            raise
        finally:
            timer.cancel()
        if is_result:
            return answer
        raise _of_memory(answer, about) if is_out_of_memory(answer) else answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            # -P: whatever lies in the user's working directory is not imported.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "edgecnn.confined"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )
            self._stderr = Captured(self._process.stderr, self._process.kill, kept_bytes=MOST_STDERR).start()
        return self._process

    def _death(self, about: str, *, is_late: bool) -> EdgeCNNError:
        assert self._process is not None and self._stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        self._stderr.has_ended(LAST_WORDS_S)
        said, is_flood = self._stderr.text, self._stderr.is_flood
        self.close()
        lines = [line for line in said.strip().splitlines() if line.strip()][-LAST_WORDS:]
        words = "".join(f"\n  | {line[:200]}" for line in lines)
        if is_flood:
            return EdgeCNNError(
                f"it wrote more than {MOST_BYTES // 10**6} MB of text and was stopped{words}",
                where=about,
                fix="the file is damaged, or made to do harm; if it is neither, report it with the file",
            )
        if is_late or code == -signal.SIGXCPU:
            return EdgeCNNError(
                f"it was not done within {TIMEOUT_S:g} s and was stopped",
                where=about,
                fix="the file asks for more than a small device can do; if it should not, report it",
            )
        if is_out_of_memory(RuntimeError(said)) or code == -signal.SIGKILL:
            return _of_memory(RuntimeError("the process was ended"), about)
        return EdgeCNNError(
            f"it crashed native code ({_name(code)}){words}",
            where=about,
            fix="the file is damaged, or made to do harm; if it is neither, report it with the file",
        )

    def close(self) -> None:
        """Ends the process, where there is one; the next request starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        self._process = None


def _of_memory(fault: BaseException, about: str) -> EdgeCNNError:
    return EdgeCNNError(
        f"it takes more memory than it is given ({fault or type(fault).__name__})",
        where=about,
        fix="the file asks for more than a small device can do; if it should not, report it",
    )


def _name(code: int | None) -> str:
    try:
        return signal.Signals(-(code or 0)).name
    except ValueError:
        return f"exit code {code}"


def environment() -> dict[str, str]:
    """Ours, and the way to a source tree that is not installed. site-packages must not precede the stdlib."""
    ours = dict(os.environ)
    root = Path(edgecnn.__path__[0]).resolve().parent
    if root.name not in ("site-packages", "dist-packages"):
        known = ours.get("PYTHONPATH")
        ours["PYTHONPATH"] = os.pathsep.join([str(root), known] if known else [str(root)])
    return ours


_lock = threading.Lock()
_worker = _Worker()
atexit.register(_worker.close)


def _serve() -> None:
    """Answers requests from stdin until it ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    while True:
        try:
            folder, function, args, kwargs, n_bytes = pickle.load(requests)  # noqa: S301
        except EOFError:
            return
        os.chdir(folder)  # relative paths begin where the caller is now
        limit_memory(n_bytes)
        limit_processor(time.process_time() + TIMEOUT_S * (os.cpu_count() or 1))
        try:
            answer = (True, function(*args, **kwargs))
        except KeyboardInterrupt:
            return
        except BaseException as fault:  # noqa: BLE001
            answer = (False, _sendable(fault))
        answers.write(pickle.dumps(answer))
        answers.flush()


def _sendable(fault: BaseException) -> BaseException:
    """`fault`, where it comes back from a pickle as itself; else its traceback as the text of another."""
    try:
        pickle.loads(pickle.dumps(fault))  # noqa: S301
        return fault
    except Exception:  # noqa: BLE001
        return RuntimeError("".join(traceback.format_exception(fault)))


if __name__ == "__main__":
    _serve()
