"""A folder of pictures becomes splits: every format, broken files told, decoded once, split by contents."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pictures_for_tests import bomb, draw, draw_folder, truncated_jpeg
from PIL import Image

from edgecnn import data
from edgecnn.data import Options, Splits
from edgecnn.errors import DataError
from edgecnn.ondevice import preprocess

pytestmark = pytest.mark.usefixtures("own_cache")
SMALL = replace(data.DATASETS["folder"].preprocessing, height=16, width=20)
SPLITS = ("train", "validation", "test")


def load(path: Path, preprocessing=SMALL, **options) -> Splits:
    return data.load("folder", Options(path, **options), preprocessing=preprocessing)


def sizes(splits: Splits) -> list[int]:
    return [len(getattr(splits, split)) for split in SPLITS]


def note(splits: Splits, about: str) -> str:
    (found,) = [said for said in splits.notes if about in said]
    return found


def contents(splits: Splits) -> dict[str, list[bytes]]:
    """The pictures of each split, in order."""
    return {s: [image.tobytes() for image in getattr(splits, s).images_nhwc] for s in SPLITS}


def test_each_picture_is_what_the_preprocessing_of_the_board_gives(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "pics", 10)
    splits = load(root)
    assert sizes(splits) == [21, 3, 6]
    assert splits.train.class_names == ("circle", "square", "triangle")
    for split in SPLITS:
        part = getattr(splits, split)
        assert part.images_nhwc.shape[1:] == (16, 20, 3)
        assert part.images_nhwc.dtype == np.uint8
        counts = np.bincount(part.labels, minlength=3)
        assert counts.min() == counts.max(), "stratified"
    found = {
        (image.tobytes(), int(label))
        for split in SPLITS
        for image, label in zip(getattr(splits, split).images_nhwc, getattr(splits, split).labels, strict=True)
    }
    expected = {
        (preprocess.decode_picture(path, SMALL).tobytes(), splits.train.class_names.index(path.parent.name))
        for path in root.rglob("*.png")
    }
    assert found == expected


def test_training_pictures_come_in_random_order(tmp_path: Path) -> None:
    labels = load(draw_folder(tmp_path / "pics", 30)).train.labels
    assert set(labels[:12]) == {0, 1, 2}, "the first ones are of every class"


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(".png", "RGB"), (".JPG", "RGB"), (".jpeg", "L"), (".webp", "RGB"), (".bmp", "RGB"), (".png", "RGBA"),
     (".png", "P"), (".png", "LA"), (".png", "1"), (".jpg", "CMYK")],
)  # fmt: skip
def test_every_format_and_mode_is_read(tmp_path: Path, suffix: str, mode: str) -> None:
    root = draw_folder(tmp_path / "pics", 4)
    picture = draw("circle", np.random.default_rng(5)).convert(mode)
    picture.save(root / "circle" / f"other{suffix}", "JPEG" if suffix == ".JPG" else None)
    splits = load(root)
    assert sum(sizes(splits)) == 13
    assert not any("cannot be read" in said for said in splits.notes)


def test_exif_rotation_and_alpha_are_heeded_and_sixteen_bits_scaled(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "pics", 3, shapes=("circle", "square"))
    (root / "other").mkdir()
    half = Image.new("RGB", (40, 40))
    half.paste((255, 255, 255), (0, 0, 40, 20))  # white above, black below
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    half.save(root / "other" / "turned.jpg", exif=exif, quality=95)
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(root / "other" / "clear.png")
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(root / "other" / "deep.png")
    splits = load(root)
    others = [
        image
        for split in SPLITS
        for image, label in zip(getattr(splits, split).images_nhwc, getattr(splits, split).labels, strict=True)
        if label == 1
    ]
    assert splits.train.class_names[1] == "other"
    assert any(image[:5].max() < 50 and image[-5:].min() > 200 for image in others), "turned"
    assert any(image.min() == 255 for image in others), "transparent is white"
    assert any(np.all(image == 40_000 >> 8) for image in others), "16 bits"


def test_broken_files_are_named_counted_and_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = draw_folder(tmp_path / "pics", 5)
    truncated_jpeg(root / "circle" / "cut off.jpg")
    (root / "circle" / "text.png").write_text("not a picture")
    (root / "square" / "empty.jpg").touch()
    bomb(root / "square" / "bomb.png")
    Image.new("RGB", (8, 8)).save(root / "square" / "disguised.png", "GIF")
    (root / "square" / "nowhere.png").symlink_to(tmp_path / "nothing")
    splits = load(root)
    assert sum(sizes(splits)) == 15
    said = note(splits, "cannot be read")
    assert said.startswith("6 pictures cannot be read, left out: circle/cut off.jpg (")
    assert "circle/text.png (cannot identify image file" in said
    assert "square/nowhere.png (" in said
    assert str(tmp_path) not in said
    assert capfd.readouterr().err == "", "Pillow's warnings are not the user's"
    assert note(load(root), "cannot be read") == said, "from the cache, too"


def test_hidden_and_other_files_links_in_a_circle_and_names_of_any_kind(tmp_path: Path) -> None:
    names = ("<b>bold & co", "crème brûlée", "猫 🐈")
    root = tmp_path / "my pics"
    for shape, name in zip(("circle", "square", "triangle"), names, strict=True):
        draw_folder(tmp_path / "drawn", 4, shapes=(shape,))
        shutil.copytree(tmp_path / "drawn" / shape, root / name / "of 2024" / "märz")
    (root / ".hidden").mkdir()
    shutil.copytree(tmp_path / "drawn" / "circle", root / "__MACOSX")
    (root / names[0] / ".a.png").write_bytes(b"x")
    (root / names[0] / "loop").symlink_to(root, target_is_directory=True)
    (root / names[1] / "self.png").symlink_to(root / names[1] / "self.png")
    (root / names[1] / "notes.txt").write_text("x")
    Image.new("L", (9, 9)).save(root / "loose.png")
    os.mkfifo(root / names[1] / "pipe.png")
    splits = load(root)
    assert splits.train.class_names == names
    assert sum(sizes(splits)) == 12
    assert note(splits, "loose.png").startswith(
        "2 files left out, in no class or not .png, .jpg, .jpeg, .webp, "
    )
    assert note(splits, "cannot be read").startswith(
        "2 pictures cannot be read, left out: crème brûlée/pipe.png (it is no regular file), "
        "crème brûlée/self.png ("
    )


def test_names_that_are_no_text_can_be_shown(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "pics", 4)
    odd = Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9"))
    (root / "circle").rename(odd)
    (odd / os.fsdecode(b"\xff.png")).write_text("x")
    splits = load(root)
    assert splits.train.class_names == ("caf\N{REPLACEMENT CHARACTER}", "square", "triangle")
    said = note(splits, "cannot be read")
    assert "caf\N{REPLACEMENT CHARACTER}/\N{REPLACEMENT CHARACTER}.png" in said
    assert said.encode()


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "pics", 4)
    (root / "circle" / "again").symlink_to(root / "circle", target_is_directory=True)
    assert sum(sizes(load(root))) == 12
    (root / "square" / "more").symlink_to(draw_folder(tmp_path / "more", 2, seed=1), target_is_directory=True)
    assert sum(sizes(load(root))) == 18, "other links are followed"


@pytest.mark.parametrize("name", ["val", "validation", "Valid"])
def test_parts_that_are_there_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    root = tmp_path / "pics"
    draw_folder(root / "train", 5)
    draw_folder(root / name, 2, seed=1)
    draw_folder(root / "test", 3, seed=2)
    splits = load(root)
    assert sizes(splits) == [15, 6, 9]
    there = {preprocess.decode_picture(path, SMALL).tobytes() for path in (root / "test").rglob("*.png")}
    assert set(contents(splits)["test"]) == there


def test_a_part_that_is_not_there_is_drawn_from_train(tmp_path: Path) -> None:
    draw_folder(tmp_path / "pics" / "train", 10)
    draw_folder(tmp_path / "pics" / "test", 2, seed=1)
    assert sizes(load(tmp_path / "pics")) == [27, 3, 6]
    shutil.rmtree(tmp_path / "pics" / "test")
    assert sizes(load(tmp_path / "pics")) == [21, 3, 6]


def test_classes_are_those_of_all_parts_and_what_a_part_lacks_is_told(tmp_path: Path) -> None:
    root = tmp_path / "pics"
    draw_folder(root / "train", 5)
    draw_folder(root / "test", 2, shapes=("square", "triangle"), seed=1)
    splits = load(root)
    assert "no test pictures of 1 class: 'circle'" in splits.notes
    shutil.rmtree(root / "train" / "square")
    with pytest.raises(DataError, match="the class 'square' has no pictures to train on") as fault:
        load(root)
    assert "sub-directory of train" in str(fault.value)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "vehicles", 4, shapes=("circle", "square"))
    (root / "circle").rename(root / "train")
    (root / "square").rename(root / "test")
    assert load(root).train.class_names == ("test", "train")


def test_the_split_depends_on_seed_and_contents_alone(tmp_path: Path) -> None:
    first = draw_folder(tmp_path / "first", 10)
    again = tmp_path / "again"
    for path in sorted(first.rglob("*.png"), reverse=True):  # another order on disk, other names
        to = again / path.parent.name / f"x{path.name}"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    one, other = contents(load(first)), contents(load(again))
    assert {split: set(pictures) for split, pictures in one.items()} == {s: set(p) for s, p in other.items()}
    assert one["train"] == other["train"]
    assert contents(load(first, seed=1))["test"] != one["test"]
    draw("circle", np.random.default_rng(9)).save(first / "circle" / "new.png")
    assert set(one["test"]) <= set(contents(load(first))["test"]), "pictures stay in their part"


def test_the_hash_stands_for_names_contents_and_shares(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "pics", 4)

    def sha256(**options) -> str:
        return data.find("folder", Options(root, **options)).sha256

    before = sha256()
    assert sha256() == before
    assert sha256(test_share=0.3) != before
    assert sha256(seed=1) != before
    picture = root / "circle" / "000.png"
    picture.rename(picture.with_name("zzz.png"))
    renamed = sha256()
    assert renamed != before
    draw("circle", np.random.default_rng(7)).save(picture.with_name("zzz.png"))
    assert sha256() != renamed


def test_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw_folder(tmp_path / "pics", 4)
    first = data.find("folder", Options(root)).sha256
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert data.find("folder", Options(root)).sha256 == first
    os.utime(root / "circle" / "000.png", ns=(1, 1))
    with pytest.raises(pytest.fail.Exception):
        data.find("folder", Options(root))


def test_a_spoilt_memory_of_hashes_is_made_again(tmp_path: Path, own_cache: Path) -> None:
    root = draw_folder(tmp_path / "pics", 4)
    first = data.find("folder", Options(root)).sha256
    (memory,) = (own_cache / "hashes").iterdir()
    for spoilt in ("", "[]", '{"circle/000.png": 3}', '{"circle/000.png": [1, 2, 3]}'):
        memory.write_text(spoilt)
        assert data.find("folder", Options(root)).sha256 == first


def test_pictures_are_decoded_once_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw_folder(tmp_path / "pics", 5)
    first = contents(load(root))
    monkeypatch.setattr(preprocess, "decode_picture", lambda *_: pytest.fail("decoded again"))
    splits = load(root)
    assert contents(splits) == first
    for split in SPLITS:
        images = getattr(splits, split).images_nhwc
        assert isinstance(images, np.memmap)
        assert images.flags.writeable, "or torch would copy them"
    assert contents(load(root, seed=3)).keys() == first.keys(), "another seed deals the same pictures"
    with pytest.raises(pytest.fail.Exception):
        load(root, replace(SMALL, fit="crop"))


def test_training_takes_the_mapped_pictures_without_a_copy(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra [train] is not installed")

    from edgecnn.training.loop import Pictures

    train = load(draw_folder(tmp_path / "pics", 5)).train
    pictures = Pictures(train, SMALL, torch.device("cpu"))
    assert pictures.images.data_ptr() == train.images_nhwc.ctypes.data


def test_cropped_pictures_are_cropped_once(tmp_path: Path) -> None:
    cropping = replace(SMALL, fit="crop", crop_share=0.5)
    root = draw_folder(tmp_path / "pics", 4)
    expected = {preprocess.decode_picture(path, cropping).tobytes() for path in root.rglob("*.png")}
    assert {image for part in contents(load(root, cropping)).values() for image in part} == expected


def test_grey_is_a_choice(tmp_path: Path) -> None:
    grey = replace(SMALL, channels=1, mean=(0.5,), std=(0.5,))
    assert load(draw_folder(tmp_path / "pics", 4), grey).train.images_nhwc.shape[1:] == (16, 20, 1)


def test_a_damaged_or_cut_off_cache_is_made_again(tmp_path: Path, own_cache: Path) -> None:
    root = draw_folder(tmp_path / "pics", 5)
    first = contents(load(root))
    (kept,) = (own_cache / "pictures").glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:500])
    assert contents(load(root)) == first
    kept.with_suffix(".json").unlink()
    assert contents(load(root)) == first


def test_an_interrupted_decoding_leaves_nothing(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = draw_folder(tmp_path / "pics", 30)
    decode, n = preprocess.decode_picture, []

    def interrupted(path, preprocessing):
        n.append(path)
        if len(n) > 20:
            raise KeyboardInterrupt
        return decode(path, preprocessing)

    monkeypatch.setattr(preprocess, "decode_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(root)
    assert not list((own_cache / "pictures").iterdir())


def test_what_no_build_uses_any_more_goes(tmp_path: Path, own_cache: Path) -> None:
    root = draw_folder(tmp_path / "pics", 4)
    load(root)
    (old,) = (own_cache / "pictures").glob("*.npy")
    left = own_cache / "pictures" / ".x.npy.abc.tmp"
    left.touch()
    for path in (old, old.with_suffix(".json"), left):
        os.utime(path, (time.time() - 40 * 24 * 3600,) * 2)
    load(root, replace(SMALL, height=8))
    assert not old.exists() and not left.exists()
    assert len(list((own_cache / "pictures").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, own_cache: Path) -> None:
    root = draw_folder(tmp_path / "pics", 4)
    own_cache.parent.mkdir()
    own_cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="the decoded pictures cannot be kept") as fault:
        load(root)
    assert "XDG_CACHE_HOME" in str(fault.value)


def test_uneven_and_few_pictures_and_contradictions_are_told(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "pics", 30)
    shutil.rmtree(root / "circle")
    draw_folder(root, 4, shapes=("circle",), seed=1)
    shutil.copy(root / "square" / "000.png", root / "triangle" / "same.png")
    for shape in ("square", "triangle"):
        (root / shape / "broken.png").write_bytes(b"left out already: of no class")
    splits = load(root)
    n_test = len(splits.test)
    assert f"65 pictures are few: one of the {n_test} test pictures is {100 / n_test:.1f} points" in note(
        splits, "few"
    )
    assert "of 'triangle', 2 of 'circle'" in note(splits, "uneven")
    told = note(splits, "in more than one class")
    assert "square/000.png = triangle/same.png" in told and "broken" not in told


FAULTS = {
    "no_folder": ("there is no such data folder", "begins where edgecnn runs"),
    "a_file": ("the data folder is a file", "begins where edgecnn runs"),
    "empty": ("the data folder has no sub-directories", "one sub-directory a class"),
    "flat": ("the data folder has no sub-directories", "one sub-directory a class"),
    "one_class": ("one class only, 'circle'", "one sub-directory a class"),
    "one_level_too_high": ("one class only, 'pics'", "did you mean"),
    "an_empty_class": ("the class 'hexagon' has no pictures", "remove its sub-directory"),
    "too_few": (
        "the class 'circle' has 2 pictures: test_share 0.2 and validation_share 0.1 leave none",
        "3 are",
    ),
    "all_broken": ("none of the 1 pictures of the class 'broken' can be read", ".webp"),
    "test_broken": ("none of the pictures in test can be read", ""),
    "no_train": ("there is no train beside test, val", "put the pictures to train on into train"),
    "beside_parts": ("beside the parts (test, train) there is extra", "leave only train, val and test"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_with_place_and_remedy(tmp_path: Path, fault: str) -> None:
    root = tmp_path / "pics"
    make = {
        "no_folder": lambda: None,
        "a_file": lambda: root.write_text("x"),
        "empty": lambda: root.mkdir(),
        "flat": lambda: (root.mkdir(), Image.new("L", (9, 9)).save(root / "a.png")),
        "one_class": lambda: draw_folder(root, 4, shapes=("circle",)),
        "one_level_too_high": lambda: draw_folder(root / "pics", 4),
        "an_empty_class": lambda: (draw_folder(root, 4), (root / "hexagon").mkdir()),
        "too_few": lambda: draw_folder(root, 2),
        "all_broken": lambda: (
            draw_folder(root, 4),
            (root / "broken").mkdir(),
            (root / "broken/a.png").touch(),
        ),
        "test_broken": lambda: (
            draw_folder(root / "train", 4),
            *((root / "test" / c).mkdir(parents=True) for c in ("circle", "square")),
            *((root / "test" / c / "a.png").touch() for c in ("circle", "square")),
        ),
        "no_train": lambda: (draw_folder(root / "test", 4), draw_folder(root / "val", 4)),
        "beside_parts": lambda: [draw_folder(root / part, 4) for part in ("train", "test", "extra")],
    }
    make[fault]()
    what, remedy = FAULTS[fault]
    with pytest.raises(DataError) as told:
        load(root)
    assert what in str(told.value)
    assert remedy in str(told.value)
    assert str(root) in str(told.value)
    assert told.value.where is not None and Path(told.value.where).is_absolute()


WITH_LITTLE_MEMORY = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from edgecnn import data
resource.setrlimit(resource.RLIMIT_DATA, (220 * 2**20, 220 * 2**20))
pre = replace(data.DATASETS["folder"].preprocessing, height=1024, width=1024)
splits = data.load("folder", data.Options(Path(sys.argv[1])), preprocessing=pre)
print(sum(len(p) for p in (splits.train, splits.validation, splits.test)))
"""


def test_memory_is_bounded_whatever_the_size_of_the_data_set(tmp_path: Path) -> None:
    """90 pictures of 3 MiB are more than the process may have of its own: they stay on disk."""
    root = draw_folder(tmp_path / "pics", 30)
    done = subprocess.run(
        [sys.executable, "-c", WITH_LITTLE_MEMORY, str(root)], capture_output=True, text=True, check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    assert done.stdout.split() == ["90"]


def test_pipes_and_devices_are_named_as_broken_and_not_waited_for(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "pics", 5)
    (root / "circle" / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "square" / "pipe.png")
    said = note(load(root), "cannot be read")
    assert said.startswith("2 pictures cannot be read, left out: circle/zero.png (")
    assert "square/pipe.png (" in said and "no regular file" in said
