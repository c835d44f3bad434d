"""Who does the trials: this process, several processes of this machine, or the nodes of a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from edgecnn.errors import EdgeCNNError, MissingExtraError

Job = TypeVar("Job")
Result = TypeVar("Result")

MOST_LOSSES = 3
"""Where so many workers died, one after the other, before any did a job, the jobs are what kills them."""


class Workers(ABC):
    """They do jobs that do not depend on one another. Functions, jobs and results must pickle."""

    @abstractmethod
    def run(
        self, do: Callable[[Job], Result], jobs: Sequence[Job], *, n_threads: int = 1
    ) -> Iterator[tuple[int, Result]]:
        """The position of each job and its result, as they end. What `do` raises is raised; a job whose worker
        died is done again, and raises EdgeCNNError where that does not help. A job computes with `n_threads`.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Ends the workers; what they have not finished is given up."""


class InThisProcess(Workers):
    """One after the other."""

    def run(
        self, do: Callable[[Job], Result], jobs: Sequence[Job], *, n_threads: int = 1
    ) -> Iterator[tuple[int, Result]]:
        for position, job in enumerate(jobs):
            yield position, do(job)


class Processes(Workers):
    """`n` processes of this machine, which stay from call to call and keep what they have read."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._pool: ProcessPoolExecutor | None = None

    def run(
        self, do: Callable[[Job], Result], jobs: Sequence[Job], *, n_threads: int = 1
    ) -> Iterator[tuple[int, Result]]:
        left = dict(enumerate(jobs))
        n_losses = 0
        while left:
            n_losses += 1
            for position, result in self._once(do, left):
                del left[position]
                n_losses = 0
                yield position, result
            if left and n_losses == MOST_LOSSES:
                raise _lost(len(left))
            if left:
                self.close()  # the pool is broken: the jobs that are left go to a new one

    def _once(self, do: Callable[[Job], Result], jobs: dict[int, Job]) -> Iterator[tuple[int, Result]]:
        # torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = self._pool or ProcessPoolExecutor(self.n, mp_context=context, initializer=_end_with_parent)
        try:
            pending: dict[Future[Result], int] = {
                self._pool.submit(do, job): position for position, job in jobs.items()
            }
        except BrokenProcessPool:  # a worker died since the last call
            return
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    result = future.result()
                except BrokenProcessPool:
                    return
                yield pending.pop(future), result

    def close(self) -> None:
        if self._pool:
            # Of a trial of minutes nobody waits for the end: what it has written so far, another goes on from.
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            # Nothing writes to the build's folder any more once this returns.
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _end_with_parent() -> None:
    """Ends this process when the one that it works for is gone, however that ended: a worker that is left over
    would write into a folder that the next build holds, and then wait for ever. Ctrl-C, which reaches all of
    them, ends it, too: taken for a fault of the job, it would have the next one begun.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class RayCluster(Workers):
    """The nodes of a Ray cluster at `address`. They see the build folder and the data under the same paths.

    Raises MissingExtraError where ray is not installed, EdgeCNNError where no cluster answers.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as fault:
            raise MissingExtraError("ray", extra="ray", needed_for="--ray") from fault
        self._ray: Any = ray
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as fault:
            reason = str(fault).splitlines()[0]
            raise EdgeCNNError(
                f"no Ray cluster answers: {reason}", where=address, fix="ray start --head prints the address"
            ) from fault

    def run(
        self, do: Callable[[Job], Result], jobs: Sequence[Job], *, n_threads: int = 1
    ) -> Iterator[tuple[int, Result]]:
        ray = self._ray
        # A task whose node dies is started again on another one; what it raises itself is not tried again.
        # No more cores than a node has: such a task would wait for ever.
        largest = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
        n_cores = max(1, min(n_threads, largest))
        task = ray.remote(num_cpus=n_cores, max_retries=MOST_LOSSES - 1, retry_exceptions=False)(do)
        pending = {task.remote(job): position for position, job in enumerate(jobs)}
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                try:
                    yield pending.pop(reference), ray.get(reference)
                except ray.exceptions.RayTaskError as fault:
                    raise fault.cause from None
                except ray.exceptions.RayError as fault:
                    raise _lost(1) from fault

    def close(self) -> None:
        self._ray.shutdown()


def chosen_workers(n: int, ray_address: str | None = None) -> Workers:
    """`n` processes, or the Ray cluster at an address ("auto": one that runs on this machine)."""
    if ray_address is not None:
        return RayCluster(ray_address)
    return Processes(n) if n > 1 else InThisProcess()


def _lost(n: int) -> EdgeCNNError:
    return EdgeCNNError(
        f"workers died {MOST_LOSSES} times without a trial done in between; trials that are left: {n}",
        fix="look for what ends them (memory is the usual cause), or give fewer --workers; the others are kept",
    )
