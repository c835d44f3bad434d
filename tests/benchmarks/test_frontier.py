"""Results that come together over several runs of the benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import frontier

NAME = "lenet5_global_int4_5kB"


def run(seed: int, accuracy: float) -> dict[str, object]:
    return {
        "name": NAME,
        "seed": seed,
        "size_bytes": 5000 + seed,
        "accuracy": accuracy,
        "validation_accuracy": 0.99,
        "n_params": 6000,
        "runtime": "litert 2.3.0",
    }


def test_runs_that_are_stored_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    runs = [run(3, 0.992), run(0, 0.990)]
    frontier.write(path, runs)
    assert frontier.stored(path) == [runs[1], runs[0]]
    (row,) = json.loads(path.read_text())["rows"]
    assert row["size_bytes"] == 5003, "the largest of the seeds"
    assert abs(row["accuracy"] - 0.991) < 1e-9 and abs(row["accuracy_std"] - 0.001 * 2**0.5) < 1e-9


def test_runs_of_another_recipe_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    frontier.write(path, [run(0, 0.990)])
    stored = json.loads(path.read_text())
    stored["rows"][0]["recipe"]["train"]["epochs"] += 1
    path.write_text(json.dumps(stored))
    assert frontier.stored(path) == []
    assert frontier.stored(tmp_path / "none.json") == []


def test_a_network_that_is_trained_is_taken_as_the_teacher_of_another_row(tmp_path: Path) -> None:
    trained, begun = (tmp_path / "one" / ".stages" / "train" / key for key in ("finished", "interrupted"))
    for folder in (trained, begun):
        folder.mkdir(parents=True)
        (folder / "network.safetensors").write_bytes(b"weights")
    (trained / "done.json").write_text("{}")
    frontier.take_stages(tmp_path / "one", tmp_path / "other", "train", "teacher")
    (taken,) = (tmp_path / "other" / ".stages").glob("*/*")
    assert (taken.parent.name, taken.name) == ("teacher", "finished")
    assert (taken / "network.safetensors").read_bytes() == b"weights"
