"""Results lie under the hash of what went into them: nothing is done twice, nothing stale is used."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grimp
import pytest

from edgecnn import pipeline, recipe_file, stages
from edgecnn.errors import OutOfMemoryError
from edgecnn.progress import Silent
from edgecnn.stages import Stage, StageStore
from edgecnn.steps.networks import Workshop


class Kitchen:
    """Two stages, `cook` needs `buy`; what ran is noted."""

    def __init__(self, folder: Path, **inputs: Any) -> None:
        self.ran: list[str] = []
        self.store = StageStore(folder)

        def work(name: str) -> Any:
            def doing(_: Path) -> dict[str, Any]:
                self.ran.append(name)
                return {"made": name}

            return doing

        self.buy = Stage("buy", {"budget": inputs.get("budget", 10)}, work("buy"))
        self.cook = Stage("cook", {"recipe": {"salt": inputs.get("salt", 1)}}, work("cook"), (self.buy,))

    def serve(self) -> list[str]:
        for stage in (self.buy, self.cook):
            self.store.run(stage)
        return self.ran

    def plan(self, **options: Any) -> dict[str, str]:
        return {
            planned.stage.name: planned.why for planned in self.store.plan((self.buy, self.cook), **options)
        }


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    assert Kitchen(tmp_path).serve() == ["buy", "cook"]
    again = Kitchen(tmp_path)
    assert again.serve() == []
    assert again.store.facts(again.cook) == {"made": "cook"}


def test_a_change_runs_its_stage_and_what_needs_it(tmp_path: Path) -> None:
    Kitchen(tmp_path).serve()
    assert Kitchen(tmp_path, salt=2).serve() == ["cook"]
    assert Kitchen(tmp_path, budget=20).serve() == ["buy", "cook"]
    assert Kitchen(tmp_path).serve() == [], "the first results are still there"


def test_the_plan_says_what_would_run_and_why(tmp_path: Path) -> None:
    assert Kitchen(tmp_path).plan() == {"buy": "it has not run yet", "cook": "it has not run yet"}
    assert not tmp_path.joinpath(stages.FOLDER).exists(), "planning writes nothing"
    Kitchen(tmp_path).serve()
    assert Kitchen(tmp_path).plan() == {"buy": "", "cook": ""}
    assert Kitchen(tmp_path, salt=2).plan() == {"buy": "", "cook": "recipe.salt: 1 -> 2"}
    assert Kitchen(tmp_path, budget=5).plan() == {"buy": "budget: 10 -> 5", "cook": "buy is another"}
    assert Kitchen(tmp_path).plan(force=True) == {"buy": "--force", "cook": "--force"}


def test_a_stage_that_failed_is_not_done(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path)

    def burn(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    burning = Stage("buy", kitchen.buy.inputs, burn)
    with pytest.raises(KeyboardInterrupt):
        kitchen.store.run(burning)
    assert kitchen.store.done(burning) is None
    assert kitchen.plan()["buy"] == "it was interrupted"
    assert (kitchen.store.folder(kitchen.buy) / "half").exists(), "there to go on from"
    assert kitchen.serve() == ["buy", "cook"]


def test_a_damaged_record_means_that_the_stage_runs(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path)
    kitchen.serve()
    (kitchen.store.folder(kitchen.cook) / stages.DONE).write_text("{")
    assert Kitchen(tmp_path).serve() == ["cook"]


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_result_whose_file_was_lost_is_made_again(tmp_path: Path, damage: str) -> None:
    def work(folder: Path) -> dict[str, Any]:
        (folder / "model").write_text("good")
        return {}

    store, stage = StageStore(tmp_path), Stage("s", {}, work)
    assert store.run(stage)
    model = store.folder(stage) / "model"
    model.unlink() if damage == "gone" else model.write_text("bad")
    (planned,) = store.plan((stage,))
    assert planned.why == "a file of its result is gone or changed"
    assert store.run(stage)
    assert model.read_text() == "good"


def test_the_seconds_of_interrupted_runs_count(tmp_path: Path) -> None:
    attempts = []

    def work(_: Path) -> dict[str, Any]:
        time.sleep(0.1)
        attempts.append(1)
        if len(attempts) < 3:
            raise KeyboardInterrupt
        return {}

    store, stage = StageStore(tmp_path), Stage("s", {}, work)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            store.run(stage)
    store.run(stage)
    record = store.done(stage)
    assert record is not None
    assert record["seconds"] >= 0.3


def test_forgetting_makes_stages_run_again(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path)
    kitchen.serve()
    kitchen.store.forget((kitchen.buy, kitchen.cook))
    assert Kitchen(tmp_path).serve() == ["buy", "cook"]


def test_the_source_of_a_stage_is_part_of_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fakepackage"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    def key() -> str:
        stages.source_sha256.cache_clear()
        return Stage("s", {}, lambda _: {}, code=("fakepackage",)).key

    first = key()
    assert key() == first
    (package / "inner.py").write_text("y = 1\n")
    assert key() != first


@pytest.mark.parametrize(
    ("steps", "n_stages"),
    [
        ("[{prune: {ratio: 0.5}}, finetune, quantize, qat]", 9),
        ("[{search: {max_accuracy_drop: 1 pt}}, quantize, qat]", 8),
    ],
)
def test_the_code_of_each_stage_of_a_build_is_part_of_its_key(
    steps: str, n_stages: int, recipe_path: Path, tmp_path: Path
) -> None:
    """What the modules of a stage import is in its `code`, or that of a stage it needs, or decides nothing."""
    # Values from the recipe are inputs of their stage; errors, files and progress bars decide no result.
    # Nor does where a board is found (what it is stands in the inputs), nor how figures are shown.
    decides_nothing = (
        "errors", "files", "progress", "recipe", "report", "stages", "target_file", "units", "yaml_source",
        # ... how files are read, and what a process may take.
        "captured", "confined", "ondevice.limits", "ondevice.names", "ondevice.text_file", "ondevice.written",
    )  # fmt: skip
    graph = grimp.build_graph("edgecnn", exclude_type_checking_imports=True)
    # Whether the user's network can be converted and quantized is tried before; no weights hang on that.
    for tried in ("edgecnn.export.tflite", "edgecnn.compress.qat.operators"):
        graph.remove_import(importer="edgecnn.steps.own_model", imported=tried)
    loaded = recipe_file.load(recipe_path, (f"compress={steps}",))
    plan = pipeline.BuildPlan(Workshop(loaded.recipe, StageStore(tmp_path), Silent()))
    assert len(plan.stages) == n_stages
    for stage in plan.stages:
        covered = {*stage.code, *(module for needed in _all_needs(stage) for module in needed.code)}
        covered |= {f"edgecnn.{name}" for name in decides_nothing}
        missed = {one for one in _imported(graph, stage.code) if not _is_within(one, covered)}
        assert not missed, f"{stage.name}: not in its code: {sorted(missed)}"


def _all_needs(stage: Stage) -> list[Stage]:
    return [one for needed in stage.needs for one in (needed, *_all_needs(needed))]


def _is_within(module: str, covered: set[str]) -> bool:
    """In one of `covered`, or a package above one, whose own source is empty."""
    return any(module == one or module.startswith(f"{one}.") or one.startswith(f"{module}.") for one in covered)


def _imported(graph: grimp.ImportGraph, modules: tuple[str, ...]) -> set[str]:
    """Everything that is imported from `modules` on; not through the package itself, whose door is lazy."""
    waiting = [m for name in modules for m in (name, *graph.find_descendants(name))]
    found: set[str] = set()
    while waiting:
        for one in graph.find_modules_directly_imported_by(waiting.pop()) - found - {"edgecnn"}:
            found.add(one)
            waiting.append(one)
    return found


def test_checkpoints_stay_until_the_result_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends a stage before that, no finished epoch is lost."""

    def work(folder: Path) -> dict[str, Any]:
        (folder / "checkpoint").mkdir(exist_ok=True)
        (folder / ".model.x.tmp").write_text("left by a kill")
        return {}

    store, stage = StageStore(tmp_path), Stage("s", {}, work)
    checkpoints = store.folder(stage) / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stages, "_hashes", _interrupted)
        store.run(stage)
    assert checkpoints.is_dir()
    assert store.run(stage)
    assert not checkpoints.exists()
    checkpoints.mkdir()  # killed between the two
    assert not store.run(stage)
    assert not checkpoints.exists()


def _interrupted(_: Path) -> dict[str, str]:
    raise KeyboardInterrupt


def test_memory_that_ran_out_is_told_with_the_stage(tmp_path: Path) -> None:
    def work(_: Path) -> dict[str, Any]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with pytest.raises(OutOfMemoryError, match="memory ran out") as raised:
        StageStore(tmp_path).run(Stage("train", {}, work))
    assert raised.value.where == "train"
