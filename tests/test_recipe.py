"""Every fault in a recipe is told with file, line, key, what was expected and the nearest right name."""

import json
from pathlib import Path

import jsonschema
import pytest
from recipes_for_tests import MINIMAL_RECIPE, ROOT

from edgecnn import recipe, recipe_file, yaml_source
from edgecnn.errors import RecipeError

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def told(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as fault:
        recipe_file.load(path, overrides)
    assert fault.value.exit_code == 2
    return str(fault.value)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_loads(path: Path) -> None:
    loaded = recipe_file.load(path)
    assert loaded.recipe.name == path.stem
    assert loaded.text == path.read_text()


def test_defaults_and_short_forms(recipe_path: Path) -> None:
    loaded = recipe_file.load(recipe_path).recipe
    assert (loaded.seed, loaded.export, loaded.targets) == (0, ("onnx", "tflite"), ("host",))
    assert loaded.model.layer_widths == {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}
    assert loaded.quantize is not None
    assert loaded.quantize.engine == "neural-compressor"
    assert loaded.budget["int8.tflite"].max_size_bytes == 20_000
    assert loaded.artifact_keys == ("dense.fp32.onnx", "fp32.onnx", "fp32.tflite", "int8.onnx", "int8.tflite")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("epochs: 1", "epoch: 1", ":5: train.epoch: unknown key (did you mean 'epochs'?); known keys: epochs,"),
        ("epochs: 1", 'epochs: "1"', ':5: train.epochs: input should be a valid integer, not "1"'),
        ("epochs: 1", "epochs: true", ":5: train.epochs: input should be a valid integer, not true"),
        ("epochs: 1", "epochs: -1", ":5: train.epochs: input should be greater than or equal to 0, not -1"),
        ("epochs: 1", "learning_rate: .inf", ":5: train.learning_rate: input should be"),
        ("lenet5", "lenet", ":4: model: there is no model 'lenet' (did you mean 'lenet5'?); expected one of"),
        ("lenet5", "{lenet5: {widths: [1, 2]}}", ":4: model: lenet5 takes 4 numbers, one for each of conv1,"),
        ("lenet5", "{lenet5: {width: [1, 2]}}", ":4: model.lenet5.width: unknown key (did you mean 'widths'?)"),
        ("lenet5", "{lenet5: {stem: small}}", ":4: model: lenet5 has no stem"),
        ("lenet5", "{lenet5: {kernel_sizes: [5, 5, 3]}}", ":4: model: lenet5 has no kernel_sizes"),
        ("lenet5", "{lenet5_global: {kernel_sizes: [5, 5]}}", ":4: model.lenet5_global.kernel_sizes: "),
        (
            "lenet5",
            "{lenet5_global: {kernel_sizes: [4, 5, 3]}}",
            ":4: model.lenet5_global.kernel_sizes.0: 4 is not one of 1, 3, 5, 7 or 9",
        ),
        (
            "lenet5",
            "{squeezenet1_1: {stem: tiny}}",
            ":4: model.squeezenet1_1.stem: 'tiny' is not one of small, imagenet",
        ),
        (
            "lenet5",
            "{squeezenet1_1: {widths: [8, 8]}}",
            ":4: model: squeezenet1_1 takes 25 numbers, one for each of features.0, features.3.squeeze,",
        ),
        (
            "- quantize: {calibration_images: 20}",
            "- prune: {widths: [1, 2, 3, 4], round_to: 8}",
            "goes with ratio",
        ),
        (
            "lenet5",
            "{python: net.py}",
            ":4: model.python: expected a file and a class in it: {python: path/to/net.py",
        ),
        ("lenet5", "python", ":4: model: expected a file and a class in it"),
        (
            "lenet5",
            "{python: n.py:Net, arg: {}}",
            ":4: model.arg: unknown key (did you mean 'args'?); known keys:",
        ),
        ("lenet5", "{python: n.py:Net, args: 3}", ":4: model.args: input should be an object, not 3"),
        (
            "lenet5",
            "{python: n.py:Net, weights: imagenet}",
            ":4: model: there are no weights from imagenet for python",
        ),
        ("lenet5", "{onnx: net.tflite}", ":4: model.onnx: expected a file: {onnx: path/to/net.onnx}"),
        ("lenet5", "{onnx: net.onnx, args: {}}", ":4: model.args: unknown key; known keys: onnx"),
        (
            "data: mnist",
            "data: {mnist: {normalization: {mean: [0.5, 0.1], std: [1]}}}",
            ":3: data: normalization has 2 values, and the pictures 1 channels",
        ),
        (
            "data: mnist",
            "data: {mnist: {normalization: {mean: [0.5], std: [0]}}}",
            ":3: data.mnist.normalization.std.0: input should be greater than 0, not 0",
        ),
        (
            "data: mnist",
            "data: {mnist: {normalization: {mean: [0.5]}}}",
            ":3: data.mnist.normalization.std: the key is missing",
        ),
        ("lenet5", "[lenet5]", ":4: model: expected one name, or one name with its settings"),
        ("data: mnist", "data: mnst", ":3: data: there is no data 'mnst' (did you mean 'mnist'?)"),
        (
            "- quantize",
            "- quantise",
            ":7: compress.0: there is no compress 'quantise' (did you mean 'quantize'?)",
        ),
        ("- quantize: {calibration_images: 20}", "- prune: {}", ":7: compress.0.prune: give either ratio"),
        (
            "- quantize: {calibration_images: 20}",
            "- prune: {ratio: 0.5, criterion: tailor}",
            (
                ":7: compress.0.prune.criterion: 'tailor' is not one of magnitude, taylor, hessian, batchnorm, "
                "random "
                "(did you mean 'taylor'?)"
            ),
        ),
        (
            "- quantize: {calibration_images: 20}",
            "- prune: {ratio: 0.5, criterion: batchnorm}",
            "compress: prune by batchnorm needs BatchNorm, and lenet5 has none",
        ),
        (
            "- quantize: {calibration_images: 20}",
            "- prune: {ratio: 0.5, schedule: cubic}",
            ":7: compress.0.prune: schedule: cubic goes with two or more steps",
        ),
        (
            "- quantize: {calibration_images: 20}",
            "- prune: {widths: [1, 2, 3]}",
            ":7: compress.0.prune.widths: lenet5 takes 4 numbers",
        ),
        ("budget:", "  - finetune\nbudget:", "compress: quantize must be the last step"),
        *(
            (
                "- quantize",
                f"- finetune: {{teacher: {teacher}}}\n  - quantize",
                f":7: compress.0.finetune.{said}",
            )
            for teacher, said in (
                (
                    "dens",
                    "teacher: there is no teacher 'dens' (did you mean 'dense'?); expected one of: dense, le",
                ),
                ("3", "teacher: expected one name, or one name with its settings; names are dense, lenet5"),
                ("{dense: {}}", "teacher: there is no teacher 'dense' (did you mean 'lenet5'?); expected"),
                ("{python: n.py:Net}", "teacher: there is no teacher 'python'; expected one of: lenet5, "),
                ("{lenet5: {width: [1]}}", "teacher.lenet5.width: unknown key (did you mean 'widths'?); known"),
                ("{lenet5: {widths: [1]}}", "teacher: lenet5 takes 4 numbers, one for each of conv1, conv2, "),
                ("{lenet5: {widths: 1}}", "teacher.lenet5.widths: input should be a valid array, not 1"),
                ("{lenet5: {stem: small}}", "teacher: lenet5 has no stem"),
            )
        ),
        (
            "{calibration_images: 20}",
            "{float_layers: [conv1, conv_2]}",
            ":7: compress.0.quantize.float_layers.1: lenet5 has no layer 'conv_2' (did you mean 'conv2'?)",
        ),
        (
            "20}",
            "20}\n  - qat: {weights: int4, int8_layers: [fc4]}",
            ":8: compress.1.qat.int8_layers.0: lenet5 has no layer 'fc4' (did you mean 'fc3'?)",
        ),
        (
            "- quantize",
            "- finetune: {teacher: {squeezenet1_1: {weights: imagenet}}}\n  - quantize",
            "a teacher with weights from imagenet sees pictures normalized for them",
        ),
        ("20 kB", "20", ":9: budget.int8.tflite.max_size: expected a number with its unit (B, kB,"),
        ("max_size", "maxsize", ":9: budget.int8.tflite.maxsize: unknown key (did you mean 'max_size'?)"),
        ("int8.tflite:", "int8.tfl:", ":9: budget.int8.tfl: this recipe writes no 'int8.tfl' (did you mean"),
        ("data: mnist", "data: mnist\ndata: mnist", ":4: data: the key is written twice"),
        ("name: tiny", "", ": name: the key is missing"),
        ("name: tiny", "name: ../tiny", ":2: name: string should match pattern"),
        ("name: tiny", "name: tiny\ntargets: [hots]", ":3: targets.0: there is no target 'hots'"),
        ("lenet5", "{lenet5: {name: lenet5_caffe}}", ":4: model.lenet5.name: unknown key"),
        ("data: mnist", "data: {mnist: {name: foo}}", ":3: data.mnist.name: unknown key"),
        (
            "data: mnist",
            "data: {mnist: {foo: 1}}",
            ":3: data.mnist.foo: unknown key; known keys: size, fit, crop_share, resize_filter, normalization",
        ),
        (
            "- quantize: {calibration_images: 20}",
            "- prune: {widths: [600, 8, 16, 16]}",
            ":7: compress.0.prune.widths: pruning cannot widen conv1 from 6 to 600 channels",
        ),
        (
            "- quantize: {calibration_images: 20}",
            "- prune: {ratio: 0.5}\n  - prune: {widths: [4, 8, 16, 16]}",
            ":8: compress.1.prune.widths: pruning cannot widen conv1 from 3 to 4 channels",
        ),
        ("name: tiny", "name: tiny\ntargets: [host, host]", "targets: a name stands there twice"),
        (
            "name: tiny",
            "name: tiny\nexport: [onxx]",
            ":3: export.0: 'onxx' is not one of onnx, tflite (did you",
        ),
        ("20 kB", "1e400 kB", ":9: budget.int8.tflite.max_size: the number is too large"),
        ("version: 1", "version: true", ":1: version: input should be a valid integer, not true"),
        ("version: 1", "version: 1.5", ":1: version: input should be a valid integer"),
        ("version: 1", "version: !!int abc", ":1: 'abc' is not a value of its type"),
        ("version: 1", "version: !!bool abc", ":1: 'abc' is not a value of its type"),
        (
            "version: 1",
            "version: !!timestamp 2020-01-01",
            ":1: the tag tag:yaml.org,2002:timestamp is not used",
        ),
        ("version: 1", "version: " + "9" * 5000, ":1: 9999"),
        ("version: 1", "version: \x07", ": not valid YAML"),
        ("version: 1", "version: " + "[" * 3000, "nested too deeply"),
        ("version: 1", "version: " + "[" * 30 + "]" * 30, "nested too deeply"),
        ("version: 1", "version: 2", ":1: version: recipe version 2 is newer than this edgecnn"),
        ("version: 1", "version: [", ":3: not valid YAML: while parsing a flow sequence"),
        ("version: 1", "version: &a [1]\nx: *a", "YAML aliases are not used in recipes"),
        (
            "  - quantize: {calibration_images: 20}",
            "  - qat\n  - quantize",
            "compress: qat must be the last step, right behind quantize",
        ),
        ("epochs: 1", "epochs: 0", "train: with 0 epochs the model needs weights, such as imagenet"),
        ("data: mnist", "data: {pictures: p}", "pictures have no labels to train on"),
        ("data: mnist", "data: {pictures: {}}", "pictures needs a path"),
        (
            "data: mnist\nmodel: lenet5\ntrain: {epochs: 1",
            (
                "data: {pictures: {path: p, folds: 3}}\n"
                "model: {squeezenet1_1: {weights: imagenet}}\n"
                "train: {epochs: 0"
            ),
            "folds trains networks, and this recipe trains none",
        ),
        ("data: mnist", "data: {mnist: {size: 0}}", ":3: data.mnist.size"),
        (
            "data: mnist",
            "data: {folder: {path: p, channels: 4}}",
            ":3: data: picture files are grey (channels: 1) or in colour (3), not of 4 channels: save",
        ),
        (
            "data: mnist",
            "data: {npz: {path: p, channels: 0}}",
            ":3: data.npz.channels: input should be greater",
        ),
        (
            "data: mnist",
            "data: {npz: {path: p, channels: 4, normalization: {mean: [0.5], std: [1, 2]}}}",
            ":3: data: normalization has 2 values, and the pictures 4 channels",
        ),
        (
            "data: mnist\nmodel: lenet5",
            "data: {npz: {path: p, channels: 4}}\nmodel: {squeezenet1_1: {weights: imagenet}}",
            "model: weights from imagenet are for 1 or 3 channels, and the data have 4: leave weights out",
        ),
        (
            "data: mnist",
            "data: {mnist: {size: 64}}",
            "lenet5 takes pictures of 28 x 28; those of mnist are 64 x 64",
        ),
        (
            "data: mnist\nmodel: lenet5",
            "data: {mnist: {size: 10}}\nmodel: {squeezenet1_1: {stem: imagenet}}",
            "takes pictures of at least 17 pixels; those of mnist have 10",
        ),
        ("data: mnist", "data: {mnist: {crop_share: 0.5}}", "crop_share goes with fit: crop"),
        (
            "model: lenet5",
            "model: {lenet5: {weights: imagenet}}",
            "there are no weights from imagenet for lenet5",
        ),
        (MINIMAL_RECIPE, "", ": expected keys such as name, data, model"),
        (MINIMAL_RECIPE, "- 1", ": expected keys such as name, data, model"),
    ],
)
def test_a_fault_is_told_with_its_place_and_its_mending(
    recipe_path: Path, old: str, new: str, expected: str
) -> None:
    assert old in MINIMAL_RECIPE
    recipe_path.write_text(MINIMAL_RECIPE.replace(old, new, 1))
    message = told(recipe_path)
    assert message.startswith(str(recipe_path))
    assert expected in message


def test_a_fault_further_in_stands_alone(recipe_path: Path) -> None:
    recipe_path.write_text(MINIMAL_RECIPE + "export: [onxx]\n")
    assert len(told(recipe_path).splitlines()) == 1


def test_every_fault_of_a_recipe_is_told_at_once(recipe_path: Path) -> None:
    recipe_path.write_text(MINIMAL_RECIPE.replace("epochs: 1, threads: 2", "epochs: -1, threads: 0"))
    message = told(recipe_path)
    assert "train.epochs" in message
    assert "train.threads" in message


def test_a_missing_file_names_the_nearest_one(recipe_path: Path) -> None:
    assert "did you mean" in told(recipe_path.with_name("recipes.yaml"))
    assert "edgecnn init" in told(recipe_path.parent / "nowhere" / "zzz")


def test_a_recipe_that_is_not_text(recipe_path: Path) -> None:
    recipe_path.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in told(recipe_path)


def test_set_lays_values_over_the_file(recipe_path: Path) -> None:
    loaded = recipe_file.load(
        recipe_path,
        (
            "train.epochs=3",
            "model.lenet5.widths=[4, 8, 16, 16]",
            "compress.0.quantize.engine=onnxruntime",
            "seed=7",
        ),
    )
    assert loaded.recipe.train.epochs == 3
    assert loaded.recipe.model.widths == (4, 8, 16, 16)
    assert loaded.recipe.quantize is not None
    assert loaded.recipe.quantize.engine == "onnxruntime"
    budget = recipe_file.load(recipe_path, ("budget.int8.tflite.max_size=10 kB",)).recipe.budget
    assert budget["int8.tflite"].max_size_bytes == 10_000, "keys with dots can be set, too"
    recipe_path.write_text(loaded.text)
    assert recipe_file.load(recipe_path).recipe == loaded.recipe, "the text that is kept gives the same recipe"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs", "--set train.epochs: expected KEY=VALUE"),
        ("train.epochs=x", '--set train.epochs=x: input should be a valid integer, not "x"'),
        ("train.epoch=1", "--set train.epoch=1: unknown key (did you mean 'epochs'?)"),
        ("compress.².quantize=1", "the list has 1 items"),
        ("seed=\x07", "--set seed=\x07: not valid YAML"),
        (
            "budget.int8.tflite.max_size=10",
            "--set budget.int8.tflite.max_size=10: expected a number with its unit",
        ),
        ("compress.3.quantize=1", "--set compress.3.quantize=1: the list has 1 items"),
        ("version.x=1", "--set version.x=1: there is nothing to set below 1"),
    ],
)
def test_a_fault_in_set_names_the_option(recipe_path: Path, override: str, expected: str) -> None:
    assert expected in told(recipe_path, override)


def test_the_hash_leaves_out_what_does_not_decide_the_files(recipe_path: Path) -> None:
    plain = recipe_file.load(recipe_path).recipe
    assert recipe_file.load(recipe_path, ("budget={}",)).recipe.sha256 == plain.sha256
    assert recipe_file.load(recipe_path, ("seed=1",)).recipe.sha256 != plain.sha256


def test_the_hash_is_the_one_from_before_networks_had_options(recipe_path: Path) -> None:
    """A build made then is still the build of its recipe."""
    pruned = ("compress=[{prune: {ratio: 0.5}}]", "budget={}")
    model = recipe_file.load(recipe_path, pruned).recipe.model_dump(mode="json")
    assert model["model"] == {"name": "lenet5", "widths": None}
    assert set(model["compress"][0]["prune"]) == {"ratio", "widths", "criterion", "steps", "finetune_epochs"}
    hashes = {
        recipe_file.load(recipe_path, ("budget={}", f"model={value}")).recipe.sha256
        for value in (
            "squeezenet1_1",
            "{squeezenet1_1: {stem: small}}",
            "{squeezenet1_1: {simple_bypass: true}}",
        )
    }
    assert len(hashes) == 3


def test_a_teacher_is_part_of_the_hash_as_it_was_written(recipe_path: Path) -> None:
    """A bare name is written as it was when teachers had no settings."""
    written = {
        teacher: recipe_file.load(
            recipe_path, (f"compress=[{{finetune: {{teacher: {teacher}}}}}]", "budget={}")
        ).recipe.model_dump(mode="json")["compress"][0]["finetune"]["teacher"]
        for teacher in ("null", "dense", "lenet5_caffe", "{lenet5_global: {widths: [3, 4, 5]}}")
    }
    assert list(written.values()) == [
        None,
        "dense",
        "lenet5_caffe",
        {"name": "lenet5_global", "widths": [3, 4, 5]},
    ]


def test_the_schema_in_the_repository_is_the_one_of_the_code() -> None:
    stored = json.loads((ROOT / "recipes" / "recipe.schema.json").read_text())
    assert stored == recipe.json_schema(), "run: edgecnn schema -o recipes/recipe.schema.json"


def test_the_schema_accepts_the_recipes_and_refuses_faults() -> None:
    validator = jsonschema.Draft202012Validator(recipe.json_schema())
    for path in RECIPES:
        validator.validate(yaml_source.parse(path.read_text(), path.name).data)
    good = yaml_source.parse(MINIMAL_RECIPE, "minimal").data
    assert validator.is_valid({**good, "model": {"squeezenet1_1": {"stem": "small", "simple_bypass": True}}})
    assert not validator.is_valid({**good, "model": {"lenet5": {"stem": "small"}}})
    for teacher, is_right in (("lenet5", True), ({"lenet5": {"widths": [3, 4]}}, True), ("dens", False)):
        assert validator.is_valid({**good, "compress": [{"finetune": {"teacher": teacher}}]}) is is_right
    for bad in ({"model": "lenet"}, {"train": {"epoch": 1}}, {"compress": ["prune"]}, {"extra": 1}):
        assert not validator.is_valid({**good, **bad}), bad


def test_a_recipe_says_how_pictures_come_to_the_network(recipe_path: Path) -> None:
    text = MINIMAL_RECIPE.replace(
        "data: mnist", "data: {cifar10: {size: [96, 64], fit: crop, crop_share: 0.9}}"
    )
    text = text.replace("model: lenet5", "model: {squeezenet1_1: {weights: imagenet}}")
    recipe_path.write_text(text)
    loaded = recipe_file.load(recipe_path).recipe
    pre = loaded.preprocessing
    assert (pre.height, pre.width, pre.channels, pre.fit, pre.crop_share) == (96, 64, 3, "crop", 0.9)
    assert pre.mean == (0.485, 0.456, 0.406), "weights of ImageNet want its normalization"
    assert loaded.model_options == {"stem": "imagenet"}
    recipe_path.write_text(text.replace("size: [96, 64]", "normalization: own"))
    loaded = recipe_file.load(recipe_path).recipe
    assert loaded.preprocessing.mean == (0.4914, 0.4822, 0.4465)
    assert loaded.model_options == {"stem": "small"}, "32 pixels must not be pooled to nothing"


def test_what_is_brought_may_be_grey_and_is_named_in_short(recipe_path: Path) -> None:
    recipe_path.write_text(
        MINIMAL_RECIPE.replace("data: mnist", "data: {folder: {path: p, size: 28, channels: 1}}")
    )
    pre = recipe_file.load(recipe_path).recipe.preprocessing
    assert (pre.channels, pre.mean, pre.std) == (1, (0.449,), (0.226,))
    short = MINIMAL_RECIPE.replace("data: mnist", "data: {folder: pics}").replace("lenet5", "squeezenet1_1")
    recipe_path.write_text(short)
    assert recipe_file.load(recipe_path).recipe.data.path == "pics"


def test_arrays_may_have_any_number_of_channels(recipe_path: Path) -> None:
    text = MINIMAL_RECIPE.replace("data: mnist", "data: {npz: {path: p, size: 28, channels: 4}}")
    recipe_path.write_text(text)
    pre = recipe_file.load(recipe_path).recipe.preprocessing
    assert (pre.channels, pre.mean, pre.std) == (4, (0.449,) * 4, (0.226,) * 4)
    own = "channels: 4, normalization: {mean: [0.1, 0.2, 0.3, 0.4], std: [0.5]}"
    recipe_path.write_text(text.replace("channels: 4", own))
    pre = recipe_file.load(recipe_path).recipe.preprocessing
    assert (pre.mean, pre.std) == ((0.1, 0.2, 0.3, 0.4), (0.5,) * 4)
    validator = jsonschema.Draft202012Validator(recipe.json_schema())
    good = {"version": 1, "name": "x", "model": "lenet5"}
    assert validator.is_valid({**good, "data": {"npz": {"path": "p", "channels": 4}}})
    assert not validator.is_valid({**good, "data": {"folder": {"path": "p", "channels": 4}}})


def test_training_with_four_bits_names_the_files_after_them(recipe_path: Path) -> None:
    text = MINIMAL_RECIPE.replace("int8.tflite", "int4.tflite")
    recipe_path.write_text(text.replace("20}\n", "20}\n  - qat: {weights: int4}\n", 1))
    loaded = recipe_file.load(recipe_path).recipe
    assert loaded.artifact_keys[-2:] == ("int4.onnx", "int4.tflite")
    assert loaded.qat is not None and loaded.quantize is not None


def test_keys_that_are_not_said_do_not_change_the_hash() -> None:
    """Builds of before are not made again because a recipe could say more."""
    said = recipe_file.load(ROOT / "recipes" / "mnist_lenet5_int8.yaml").recipe.model_dump(mode="json")
    assert set(said["data"]) == {"name"}
    assert set(said["model"]) == {"name", "widths"}
    assert "ema" not in said["train"] and "mixup" not in said["train"]
    [quantize] = [step["quantize"] for step in said["compress"] if "quantize" in step]
    assert set(quantize) == {"calibration_images", "engine", "dense_weights"}
