"""Weights to start from: found in local folders, of the right hash, or the user's own file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from edgecnn.data import places
from edgecnn.errors import DataError
from edgecnn.models import ALL_MODELS, PublishedWeights, weights
from edgecnn.progress import Silent


def test_no_weights_are_no_weights() -> None:
    assert weights.find("squeezenet1_1", None, ()) is None


def test_published_weights_lie_in_a_data_folder_or_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    published = PublishedWeights("https://example.org/net-0123abcd.pth", {"net.safetensors": digest})
    monkeypatch.setitem(ALL_MODELS, "squeezenet1_1", replace(ALL_MODELS["squeezenet1_1"], published=published))
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "net.safetensors"
    path.write_bytes(content)
    found = weights.find("squeezenet1_1", "imagenet", (tmp_path,))
    assert found is not None and found.path(Silent()) == path
    assert found.sha256 == "0123abcd", "the same weights, whichever file holds them"
    path.write_bytes(b"others")  # not the published ones: passed over
    found = weights.find("squeezenet1_1", "imagenet", (tmp_path,))
    assert found is not None and found.sha256 == "0123abcd"


@pytest.mark.parametrize("folder", ["", "weights"])
def test_the_file_as_it_is_published_may_lie_there_as_well(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256(b"weights").hexdigest()
    published = PublishedWeights(f"https://example.org/net-{digest[:8]}.pth", {})
    monkeypatch.setitem(ALL_MODELS, "squeezenet1_0", replace(ALL_MODELS["squeezenet1_0"], published=published))
    path = tmp_path / folder / published.file_name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"weights")
    found = weights.find("squeezenet1_0", "imagenet", (tmp_path,))
    assert found is not None and found.path(Silent()) == path
    path.write_bytes(b"others")
    found = weights.find("squeezenet1_0", "imagenet", (tmp_path,))
    assert found is not None
    monkeypatch.setattr(weights, "fetch", lambda *_, **__: Path("downloaded"))
    assert found.path(Silent()) == Path("downloaded")


def test_the_published_files_carry_their_hash_in_the_name() -> None:
    published = ALL_MODELS["squeezenet1_1"].published
    assert published is not None and published.sha256_prefix == "b8a52dc0"


def test_a_file_of_the_user_goes_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"x")
    found = weights.find("lenet5", str(path), ())
    assert found is not None and found.sha256 == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize("name", ["none.pth", "notes.txt"])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no such file of weights") as fault:
        weights.find("lenet5", str(tmp_path / name), ())
    assert ".safetensors, .pth" in str(fault.value) and name in str(fault.value)


def test_downloads_go_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[tuple[str, Path, str]] = []

    def fetch(url: str, destination: Path, *, sha256: str, progress: object) -> Path:
        asked.append((url, destination, sha256))
        return destination

    monkeypatch.setattr(weights, "fetch", fetch)
    found = weights.find("squeezenet1_0", "imagenet", ())
    assert found is not None
    assert found.path(Silent()) == places.cache() / "weights" / "squeezenet1_0-b66bff10.pth"
    assert asked == [
        (
            "https://download.pytorch.org/models/squeezenet1_0-b66bff10.pth",
            tmp_path / "edgecnn" / "weights" / "squeezenet1_0-b66bff10.pth",
            "b66bff10",
        )
    ]
