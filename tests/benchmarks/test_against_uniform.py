"""What the benchmarks of compression compare is of equal size, and begins with the same network."""

from __future__ import annotations

from pathlib import Path

import against_uniform
import frontier
import pytest
from recipes_for_tests import ROOT

from edgecnn import recipe_file


@pytest.mark.parametrize("size_bytes", [9_000, 11_600])
def test_the_uniform_network_is_the_narrowest_that_is_not_smaller(size_bytes: int):
    recipe = recipe_file.load(ROOT / "recipes" / "mnist_lenet5_int8.yaml").recipe
    found = against_uniform.uniform_widths(recipe, size_bytes, 10)
    assert found.keys() == recipe.model.layer_widths.keys()
    assert against_uniform.int8_size(recipe, found, 10) >= size_bytes
    narrower = {layer: width - 1 for layer, width in found.items()}
    assert against_uniform.int8_size(recipe, narrower, 10) < size_bytes


def test_stages_that_another_build_left_are_copied_once(tmp_path: Path):
    for stage in ("train", "1-prune", "export"):
        (tmp_path / "a" / ".stages" / stage / "0123").mkdir(parents=True)
        (tmp_path / "a" / ".stages" / stage / "0123" / "done.json").write_text(stage)
    frontier.take_stages(tmp_path / "a", tmp_path / "b", "train")
    taken = list((tmp_path / "b" / ".stages").glob("*/*/done.json"))
    assert [path.read_text() for path in taken] == ["train"]
    taken[0].write_text("of b")
    frontier.take_stages(tmp_path / "a", tmp_path / "b")
    assert taken[0].read_text() == "of b"
    assert len(list((tmp_path / "b" / ".stages").glob("*/*/done.json"))) == 3
