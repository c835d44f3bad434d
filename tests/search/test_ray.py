"""Trials on a Ray cluster: two nodes, each a process of its own on this machine, one of them killed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgecnn import data, recipe_file
from edgecnn.errors import EdgeCNNError
from edgecnn.progress import Silent
from edgecnn.search.study import Study
from edgecnn.search.workers import RayCluster
from edgecnn.stages import StageStore
from edgecnn.steps.compression import network_stages
from edgecnn.steps.networks import Workshop
from edgecnn.steps.search import STUDY_FILE

pytest.importorskip("ray", reason="the extra [ray] is not installed")

RECIPE = """\
version: 1
name: searched
data: {npz: {path: data.npz, size: 28, channels: 1}}
model: {lenet5: {widths: [4, 8, 24, 16]}}
train: {epochs: 2, batch_size: 16, threads: 1}
compress:
  - search: {max_accuracy_drop: 40 pt, trials: 4, screen_epochs: 1, epochs: 1, finalists: 1}
  - quantize: {calibration_images: 20, engine: onnxruntime}
"""


class TwoNodes:
    """A cluster with a head that does no work and two nodes that do one job at a time."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        self.workers = RayCluster(self.cluster.address)

    def kill_one_when(
        self, is_time: Callable[[], bool], then: Callable[[str], object] = str
    ) -> threading.Thread:
        """Kills a node as soon as `is_time`, and then tells its id."""

        def watch() -> None:
            while not is_time():
                time.sleep(0.05)
            killed = self.nodes.pop()
            self.cluster.remove_node(killed, allow_graceful=False)
            then(killed.node_id)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        self.workers.close()
        self.cluster.shutdown()


@pytest.fixture
def two_nodes() -> Iterator[TwoNodes]:
    # This module is not one that a node could import.
    sys.modules["ray"].cloudpickle.register_pickle_by_value(sys.modules[__name__])
    nodes = TwoNodes()
    yield nodes
    nodes.close()


def marked(job: tuple[Path, int]) -> tuple[int, str]:
    """The square of a number and the node that gave it; a file says that it was begun."""
    import ray

    folder, n = job
    node = ray.get_runtime_context().get_node_id()
    (folder / f"{n}.{node}").touch()
    # None ends before one node is killed, and none there: a worker lives on for a moment without its node.
    killed, until = folder.parent / "killed", time.monotonic() + 60
    while time.monotonic() < until and (not killed.exists() or killed.read_text() in ("", node)):
        time.sleep(0.05)
    return n * n, node


def fails(n: int) -> int:
    if n == 1:
        raise EdgeCNNError("the second job fails", where="job 1")
    return n


def test_jobs_lost_with_their_node_are_done_on_another(two_nodes: TwoNodes, tmp_path: Path) -> None:
    folder = tmp_path / "begun"
    folder.mkdir()
    # Both nodes are at work.
    killing = two_nodes.kill_one_when(
        lambda: len({path.suffix for path in folder.iterdir()}) == 2, then=(tmp_path / "killed").write_text
    )
    # Of two threads each, on nodes with one core: they would wait for ever for another one.
    found = dict(two_nodes.workers.run(marked, [(folder, n) for n in range(6)], n_threads=2))
    killing.join(timeout=60)
    assert {position: square for position, (square, _) in found.items()} == {n: n * n for n in range(6)}
    begun = [path.name.split(".")[0] for path in folder.iterdir()]
    assert len(set(begun)) == 6 and len(begun) > 6, "one was begun on the node that died, and again elsewhere"


def test_what_a_job_raises_reaches_the_caller_whole(two_nodes: TwoNodes) -> None:
    with pytest.raises(EdgeCNNError) as raised:
        list(two_nodes.workers.run(fails, [0, 1, 2]))
    assert raised.value.what == "the second job fails" and raised.value.where == "job 1"


def test_a_search_that_loses_a_node_ends_as_one_that_does_not(
    two_nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist = data.load("mnist").train
    np.savez(tmp_path / "data.npz", images=mnist.images_nhwc[:600, ..., 0], labels=mnist.labels[:600])
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    # The nodes run elsewhere: paths begin where the search does all the same.
    monkeypatch.chdir(tmp_path)
    recipe = recipe_file.load(Path("recipe.yaml"), ()).recipe

    def searched(name: str, workers: RayCluster | None) -> tuple[dict, str, int]:
        shop = Workshop(recipe, StageStore(Path(name)), Silent(), workers=workers)
        stages = network_stages(shop)
        for stage in stages:
            shop.store.run(stage)
        record = shop.store.done(stages[-1])
        assert record is not None
        trials = Study(shop.store.folder(stages[-1]) / STUDY_FILE).trials()
        return record["facts"]["widths"], record["files"]["network.safetensors"], len(trials)

    begun = Path("cluster", ".stages", "1-trial")
    killing = two_nodes.kill_one_when(lambda: begun.is_dir() and len(list(begun.iterdir())) >= 2)
    on_cluster = searched("cluster", two_nodes.workers)
    killing.join(timeout=60)
    assert not killing.is_alive() and len(two_nodes.nodes) == 1
    assert on_cluster == searched("here", None)
    assert on_cluster[2] == 5


def test_no_cluster_at_an_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")
    with pytest.raises(EdgeCNNError, match="no Ray cluster answers") as raised:
        RayCluster("auto")
    assert "ray start --head" in raised.value.fix
