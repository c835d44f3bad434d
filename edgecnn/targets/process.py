"""Running one verb of `edgecnn.ondevice` in a fresh process of this Python, and telling how it failed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from edgecnn import captured
from edgecnn.confined import environment
from edgecnn.errors import TargetError
from edgecnn.ondevice.written import MOST_BYTES
from edgecnn.targets import answers

LAST_WORDS = 10
"""Lines of a dead process's stderr that are shown."""
LONGEST_WORDS = 300
"""Letters of such a line."""


def run_verb(arguments: Sequence[str], *, about: str, timeout_s: float) -> dict[str, Any]:
    """The JSON object that `python -m edgecnn.ondevice ARGUMENTS` prints last.

    `about` names the model (and the runtime) in messages. Raises TargetError where the process reports a
    fault, dies, hangs for longer than `timeout_s` or prints something else. An interrupt ends it, too.
    """
    # -P: whatever lies in the user's working directory is not imported.
    command = [sys.executable, "-P", "-m", "edgecnn.ondevice", *arguments]
    verb = arguments[0]
    try:
        done = captured.run(command, timeout_s=timeout_s, env=environment())
    except subprocess.TimeoutExpired as fault:
        raise timed_out(verb, about, timeout_s) from fault
    except OSError as fault:
        raise TargetError(f"cannot start {sys.executable}: {fault.strerror}", where=about) from fault
    if done.is_flood:
        raise flood(verb, about, done.stderr)
    if done.returncode == -signal.SIGINT or done.returncode == 130:
        raise KeyboardInterrupt  # the terminal sent it to the whole group; ours is about to arrive
    return answer_of(done.returncode, done.stdout, done.stderr, verb=verb, about=about)


def timed_out(verb: str, about: str, timeout_s: float) -> TargetError:
    return TargetError(
        f"{verb} did not end within {timeout_s:g} s and was stopped",
        where=about,
        fix="close what else keeps that machine busy, or try a smaller model",
    )


def flood(verb: str, about: str, stderr: str) -> TargetError:
    """The fault of a process that was stopped because it wrote without end."""
    return TargetError(
        f"{verb} wrote more than {MOST_BYTES // 10**6} MB of text and was stopped{_last_words(stderr)}",
        where=about,
        fix="a runtime that never stops talking: try another one or version, and report it with the file",
    )


def answer_of(
    returncode: int,
    stdout: str,
    stderr: str,
    *,
    verb: str,
    about: str,
    check: str = "check this Python: python -m edgecnn.ondevice probe",
) -> dict[str, Any]:
    """What a process of `edgecnn.ondevice` said; its `returncode` is negative where a signal ended it.

    Raises TargetError where it reports a fault, was killed, or said nothing: then `check` is the advice.
    """
    if returncode < 0:
        raise _killed(-returncode, verb, about, stderr)
    return _answer(stdout, returncode, verb, about, stderr, check)


_TOO_MUCH = "try a smaller model"


def _killed(number: int, verb: str, about: str, stderr: str) -> TargetError:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGXCPU:
        return TargetError(
            f"{verb} took all the processor time that it is given, and was stopped", where=about, fix=_TOO_MUCH
        )
    if number == signal.SIGKILL:
        return TargetError(
            f"{verb} was killed ({name})",
            where=about,
            fix="this is what Linux does when memory runs out: free some, or measure a smaller model",
        )
    return TargetError(
        f"{verb} crashed in native code ({name}){_last_words(stderr)}",
        where=about,
        fix="the runtime cannot run this file: try another runtime or version, and report it with the file",
    )


def _answer(stdout: str, returncode: int, verb: str, about: str, stderr: str, check: str) -> dict[str, Any]:
    lines = stdout.strip().splitlines()
    try:
        answer = answers.parse(lines[-1]) if lines else None
    except ValueError:
        answer = None
    if answer is None or (returncode != 0 and "error" not in answer):
        raise TargetError(
            f"{verb} ended with exit code {returncode} and without an answer{_last_words(stderr)}",
            where=about,
            fix=check,
        )
    if "error" in answer:
        raise reported(answer, about)
    return answer


def reported(answer: dict[str, Any], where: str) -> TargetError:
    """A fault that a machine tells: {"error": what, "fix": how to mend it}, whatever these are."""
    what, fix = (
        str(answer[key])[: answers.MOST_LETTERS] if answer.get(key) else None for key in ("error", "fix")
    )
    return TargetError(what or "it tells of a fault, and not which", where=where, fix=fix)


def _last_words(stderr: str) -> str:
    lines = [line for line in stderr.strip().splitlines() if line.strip()][-LAST_WORDS:]
    return "".join(f"\n  | {line[:LONGEST_WORDS]}" for line in lines)
