"""Workers that end in the middle of a job. Functions stand at the top of the module, so that they pickle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecnn.errors import EdgeCNNError, MissingExtraError
from edgecnn.search import workers
from edgecnn.search.workers import InThisProcess, Processes, chosen_workers

JOBS = list(range(6))


def squared(n: int) -> int:
    return n * n


def with_its_process(n: int) -> tuple[int, int]:
    return n, os.getpid()


def fails(n: int) -> int:
    if n == 2:
        raise EdgeCNNError("the third job fails", where="job 2")
    return n


def dies_once(job: tuple[Path | None, int]) -> int:
    """The process of a job with a marker is killed the first time."""
    marker, n = job
    if marker and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return n * n


def starts_and_sleeps(job: tuple[Path, int]) -> None:
    folder, n = job
    (folder / str(n)).touch()
    time.sleep(60)


def always_dies(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.fixture
def two_processes():
    pool = Processes(2)
    yield pool
    pool.close()


def test_one_process_does_all_jobs_in_order() -> None:
    assert list(InThisProcess().run(squared, JOBS)) == [(n, n * n) for n in JOBS]


def test_processes_do_every_job_once_and_outlive_a_call(two_processes: Processes) -> None:
    first, second = (dict(two_processes.run(with_its_process, JOBS)) for _ in range(2))
    assert {n: result[0] for n, result in first.items()} == {n: n for n in JOBS}
    pids = {pid for _, pid in (*first.values(), *second.values())}
    assert len(pids) <= 2 and os.getpid() not in pids


def test_what_a_job_raises_reaches_the_caller_whole(two_processes: Processes) -> None:
    with pytest.raises(EdgeCNNError) as raised:
        list(two_processes.run(fails, JOBS))
    assert raised.value.what == "the third job fails" and raised.value.where == "job 2"


def test_a_job_lost_with_its_process_is_done_again(two_processes: Processes, tmp_path: Path) -> None:
    jobs = [(tmp_path / "died" if n == 3 else None, n) for n in JOBS]
    assert dict(two_processes.run(dies_once, jobs)) == {n: n * n for n in JOBS}
    assert (tmp_path / "died").exists()


def test_a_worker_that_dies_between_two_calls_is_replaced(two_processes: Processes) -> None:
    pids = {pid for _, pid in dict(two_processes.run(with_its_process, JOBS)).values()}
    os.kill(min(pids), signal.SIGKILL)
    time.sleep(0.5)
    assert dict(two_processes.run(squared, JOBS)) == {n: n * n for n in JOBS}


def test_a_job_that_ends_every_process_is_given_up(two_processes: Processes) -> None:
    with pytest.raises(EdgeCNNError, match="workers died 3 times without a trial done in between") as raised:
        list(two_processes.run(always_dies, [1]))
    assert "memory" in raised.value.fix


def test_workers_that_die_now_and_then_do_not_end_a_search(tmp_path: Path) -> None:
    """More of them than may die one after the other, but every job is done once it is tried again."""
    pool = Processes(1)
    jobs = [(tmp_path / str(n), n) for n in range(5)]
    assert dict(pool.run(dies_once, jobs)) == {n: n * n for n in range(5)}
    assert len(list(tmp_path.iterdir())) == 5
    pool.close()


@pytest.mark.parametrize("to_all", [True, False], ids=["the whole group", "the parent alone"])
def test_ctrl_c_begins_no_other_job_and_waits_for_none(tmp_path: Path, to_all: bool) -> None:
    code = (
        "import sys; from pathlib import Path; from contextlib import closing; "
        f"from {__name__} import starts_and_sleeps; from edgecnn.search.workers import Processes\n"
        "if __name__ == '__main__':\n"
        " with closing(Processes(2)) as pool:\n"
        "  list(pool.run(starts_and_sleeps, [(Path(sys.argv[1]), n) for n in range(6)]))\n"
    )
    script = tmp_path / "main.py"
    script.write_text(code)
    begun = tmp_path / "begun"
    begun.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, script, begun], env=environment, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        while len(list(begun.iterdir())) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        if to_all:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)  # a job takes 60 s
    assert process.returncode and b"KeyboardInterrupt" in said
    assert len(list(begun.iterdir())) == 2


def test_workers_as_the_command_line_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(chosen_workers(1), InThisProcess)
    assert isinstance(chosen_workers(3), Processes) and chosen_workers(3).n == 3
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match="ray"):
        workers.RayCluster("auto")
