"""A new user's way: a folder of mixed, partly broken pictures, `init --folder`, `build`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli.commands import run, told
from pictures_for_tests import draw, draw_folder, truncated_jpeg
from PIL import Image
from recipes_for_tests import ROOT

from edgecnn import build_folder, recipe_file
from edgecnn.data import IMAGENET_MEAN, places
from edgecnn.models import MODELS

CLASSES = ("<b>circle", "square", "tri angle é")


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a cache, of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def mixed_folder(root: Path) -> Path:
    """40 pictures of each of three classes in all formats, and one file of each kind that is broken."""
    rng = np.random.default_rng(0)
    for shape, name in zip(("circle", "square", "triangle"), CLASSES, strict=True):
        (root / name).mkdir(parents=True)
        for k in range(40):
            size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
            suffix = ("jpg", "png", "webp", "bmp", "JPEG")[k % 5]
            picture, options = draw(shape, rng, size), {}
            if suffix == "jpg":
                exif = Image.Exif()
                exif[0x0112] = 1 + k % 8
                options = {"exif": exif}
            if suffix == "png":
                picture = picture.convert("RGBA")
            picture.save(root / name / f"bild {k}.{suffix}", **options)
    truncated_jpeg(root / CLASSES[0] / "cut.jpg")
    (root / CLASSES[1] / "text.png").write_text("no picture")
    (root / CLASSES[1] / ".DS_Store").write_text("x")
    (root / CLASSES[2] / "clip.gif").write_text("x")
    return root


def test_from_a_mixed_folder_to_artifacts(at_home: Path, measured_little: None) -> None:
    mixed_folder(at_home / "my pics")
    result = run("init", "--folder", "my pics")
    assert (result.exit_code, result.stdout) == (0, "wrote recipe.yaml; next: edgecnn build recipe.yaml\n")
    quick = ("train.epochs=20", "train.learning_rate=3e-3", "model=lenet5", "data.folder.size=28",
             "data.folder.folds=2", "budget={int8.tflite: {max_size: 70 kB, min_accuracy: 80 %}}")  # fmt: skip
    result = run("build", "recipe.yaml", *(word for value in quick for word in ("--set", value)))
    assert result.exit_code == 0, result.output
    assert "left out: <b>circle/cut.jpg (" in result.stderr
    folder = at_home / "artifacts" / "my_pics"
    report = build_folder.read_report(folder)
    told_of = "\n".join(report.notes)
    for about in (
        "2 pictures cannot be read",
        "1 file left out",
        "120 pictures are few",
        "2-fold cross-validation",
    ):
        assert about in told_of
    assert "has no folds" not in told_of
    manifest = json.loads((folder / "my_pics.int8.tflite.json").read_text())
    assert manifest["class_names"] == list(CLASSES)
    assert all(m.n_images == 24 for artifact in report.artifacts for m in artifact.measurements)

    again = run("build", "recipe.yaml", *(word for value in quick for word in ("--set", value)))
    assert again.exit_code == 0
    assert "folds: unchanged" in again.stderr
    assert " ..." not in again.stderr, "no stage runs again, and no picture is decoded"
    assert build_folder.read_report(folder).notes == report.notes, "from a build that read no picture"
    assert run("validate", folder).exit_code == 0
    picture = at_home / "my pics" / "square" / "bild 0.jpg"
    guessed = json.loads(run("predict", folder / "my_pics.int8.tflite", picture, "--json").stdout)
    assert {guess["class_name"] for guess in guessed[0]["guesses"]} == set(CLASSES)

    shutil.rmtree(at_home / "my pics")
    gone = run("build", "recipe.yaml")
    assert gone.exit_code == 3
    assert f"{at_home / 'my pics'}: there is no such data folder" in told(gone)
    assert f"begins where edgecnn runs: {at_home}" in told(gone)


def test_a_handful_of_pictures_is_enough_to_try(at_home: Path, measured_little: None) -> None:
    """A batch larger than the set, more calibration images than there are, one picture a class to validate."""
    draw_folder(at_home / "pics", 4)
    assert run("init", "--folder", "pics").exit_code == 0
    quick = ("model=lenet5", "data.folder.size=28", "data.folder.folds=null", "train.epochs=2",
             "train.batch_size=500", "compress=[{prune: {ratio: 0.3}}, quantize]", "budget={}")  # fmt: skip
    result = run("build", "recipe.yaml", *(word for value in quick for word in ("--set", value)))
    assert result.exit_code == 0, result.output
    report = build_folder.read_report(at_home / "artifacts" / "pics")
    assert report.artifacts[0].measurements[0].n_images == 3
    assert "12 pictures, and the recipe has no folds: with folds: 5 in its data" in "\n".join(report.notes)


def folder_with_weights() -> Path:
    """A data folder with the published weights of SqueezeNet 1.1; the test is skipped where there is none."""
    published = MODELS["squeezenet1_1"].published
    assert published is not None
    for folder in places.search_folders((ROOT.parent / "shared",)):
        for name in (published.file_name, *published.local):
            if any((place / name).is_file() for place in (folder, folder / "weights")):
                return folder
    pytest.skip("the weights of SqueezeNet 1.1 from ImageNet are in no data folder (EDGECNN_DATA)")


def test_a_folder_of_pictures_from_weights_of_imagenet(at_home: Path, measured_little: None) -> None:
    """The main road of the README: `init`, published weights, one short training, both files."""
    data_dir = folder_with_weights()
    draw_folder(at_home / "pics", 8)
    truncated_jpeg(at_home / "pics" / "circle" / "cut.jpg")
    (at_home / "pics" / "square" / "text.png").write_text("no picture")
    assert run("init", "--folder", "pics").exit_code == 0
    quick = ("data.folder.size=48", "data.folder.folds=null", "train.epochs=1", "budget={}",
             "compress=[{quantize: {calibration_images: 10, engine: onnxruntime}}]")  # fmt: skip
    sets = [word for value in quick for word in ("--set", value)]
    result = run("build", "recipe.yaml", "--data-dir", data_dir, *sets)
    assert result.exit_code == 0, result.output
    assert "2 pictures cannot be read, left out: circle/cut.jpg (" in result.stderr
    assert "weights of squeezenet1_1" in result.stderr and "for another number of classes" in result.stderr
    folder = at_home / "artifacts" / "pics"
    published = MODELS["squeezenet1_1"].published
    assert published is not None
    lock = json.loads((folder / "build.lock.json").read_text())
    assert lock["weights_sha256"] == published.sha256_prefix
    for key in ("int8.onnx", "int8.tflite"):
        manifest = json.loads((folder / f"pics.{key}.json").read_text())
        assert manifest["preprocessing"]["mean"] == list(IMAGENET_MEAN), "as the weights want it"
        assert manifest["class_names"] == ["circle", "square", "triangle"]
    predicted = run("predict", folder / "pics.int8.tflite", "pics/circle", "--json")
    assert predicted.exit_code == 0, predicted.output
    assert ["error" in one for one in json.loads(predicted.stdout)] == [False] * 8 + [True]


def test_the_template_among_the_recipes_is_for_any_folder(at_home: Path) -> None:
    """Its network and size are those that `init` writes; to train it takes minutes and published weights."""
    draw_folder(at_home / "pics", 6)
    template = ROOT / "recipes" / "folder_template.yaml"
    result = run("build", template, "--dry-run", "--set", "model=squeezenet1_1")
    assert result.exit_code == 0, result.output
    assert [line.split()[1] for line in result.stdout.splitlines()][:3] == ["train", "1-quantize", "folds"]


def recipe_for(folder: Path, name: str = "recipe.yaml") -> tuple[recipe_file.LoadedRecipe, str]:
    result = run("init", "--folder", folder, name)
    assert result.exit_code == 0, result.output
    return recipe_file.load(name), Path(name).read_text()


def test_the_recipe_fits_the_folder(at_home: Path) -> None:
    draw_folder(at_home / "pics", 10)
    loaded, text = recipe_for(Path("pics"))
    recipe = loaded.recipe
    assert recipe.name == "pics"
    assert recipe.data.path == "pics"
    assert recipe.data.size == (32, 32), "pictures of 48 x 40 are not enlarged"
    assert recipe.data.folds == 5
    assert recipe.model.weights == "imagenet"
    assert recipe.train.epochs == 12
    assert recipe.quantize is not None
    assert "# 30 pictures of 3 classes: circle (10), square (10), triangle (10)" in text
    assert recipe.budget["int8.tflite"].max_accuracy_drop == pytest.approx(0.5), "three of six test pictures"


def test_the_recipe_fits_parts_large_and_grey_pictures(at_home: Path) -> None:
    for part, n in (("train", 400), ("test", 100)):
        for name in ("a", "b"):
            (at_home / "pics" / part / name).mkdir(parents=True)
            Image.new("L", (200, 150)).save(at_home / "pics" / part / name / "0.png")
            for k in range(1, n):
                os.link(at_home / "pics" / part / name / "0.png", at_home / "pics" / part / name / f"{k}.png")
    loaded, text = recipe_for(Path("pics"), "grey.yaml")
    assert loaded.recipe.data.size == (128, 128)
    assert loaded.recipe.data.folds is None, "1,000 pictures are enough"
    assert loaded.recipe.train.epochs == 20
    assert "validation_share" in text
    assert "test_share" not in text, "there is a part of that name"
    assert "these are grey" in text
    assert "1,000 pictures of 2 classes: a (500), b (500)" in text


@pytest.mark.parametrize("name", ["my pics: #1", 'a "b"', "ähnlich", "2024", "yes", "[x]", "a\nb"])
def test_a_folder_of_any_name_gives_a_recipe_that_loads(at_home: Path, name: str) -> None:
    draw_folder(at_home / name, 3, shapes=("circle", "square"))
    (at_home / name / "square").rename(at_home / name / "new\nline: {x}")
    loaded, _ = recipe_for(at_home / name)
    assert loaded.recipe.data.path == str(at_home / name)
    assert run("build", "recipe.yaml", "--set", "model=squeezenet1_1", "--dry-run").exit_code == 0


def test_init_tells_faults_and_writes_nothing(at_home: Path) -> None:
    result = run("init", "--folder", "nowhere")
    assert result.exit_code == 3
    assert f"{at_home / 'nowhere'}: there is no such data folder" in told(result)
    assert not Path("recipe.yaml").exists()
    draw_folder(at_home / "pics", 3)
    for path in (at_home / "pics").rglob("*.png"):
        path.write_text("x")
    result = run("init", "--folder", "pics")
    assert "none of 9 pictures can be read" in told(result)
    Path("recipe.yaml").write_text("mine")
    result = run("init", "--folder", "pics")
    assert result.exit_code == 2
    assert "the file exists" in told(result)
