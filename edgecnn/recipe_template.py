"""The recipes that `edgecnn init` writes: every key with what it means, or made to fit a folder of pictures."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from edgecnn import files, yaml_source
from edgecnn.data import DATASETS
from edgecnn.data.folder_layout import Layout, scan
from edgecnn.data.folder_looks import look_at
from edgecnn.data.notes import FEW_PICTURES
from edgecnn.errors import UsageError
from edgecnn.recipe import NAME_PATTERN, DataSpec

NAME = re.compile(NAME_PATTERN)

TEMPLATE = """\
# An edgecnn recipe: everything that decides what a build gives.
# Build it:  edgecnn build {file}
# For completion in your editor:  edgecnn schema -o recipe.schema.json
# yaml-language-server: $schema=./recipe.schema.json
version: 1
name: {name}
seed: 0                       # of every random number

data: mnist                   # ships with edgecnn: 55,000 train, 5,000 validation, 10,000 test images
                              # others: fashion-mnist, cifar10; another size: {{cifar10: {{size: 96}}}}
                              # your own: {{folder: pics/}} (edgecnn init --folder pics/) or {{npz: data.npz}}
model: lenet5                 # or lenet5_caffe; other widths: {{lenet5: {{widths: [6, 16, 120, 84]}}}}
                              # or squeezenet1_1, squeezenet1_0, for colour pictures of any size;
                              # from published weights: {{squeezenet1_1: {{weights: imagenet}}}}

train:
  epochs: 12
  batch_size: 128
  optimizer: adamw            # or sgd
  learning_rate: 3e-3         # the highest of the schedule
  schedule: one_cycle         # or cosine
  weight_decay: 0.01
  label_smoothing: 0.0
  augment: [shift, rotate, scale]   # flip as well, where a mirrored picture is still the same class
  threads: 1                  # of the CPU; another number gives other bits

compress:                     # in this order; leave out what you do not want
  - prune:
      ratio: 0.5              # share of channels removed from every layer; or widths: [6, 13, 20, 16]
      criterion: taylor       # or magnitude, hessian, random; batchnorm where the network has it
      steps: 2                # rounds of pruning; schedule: cubic takes most channels in the first
      finetune_epochs: 1      # training after each round
  - finetune:
      epochs: 4
      learning_rate: 2e-3
      # teacher: dense        # learn from the outputs of the dense network, too
  - quantize:
      calibration_images: 300 # from the training part, never from the test set
      engine: neural-compressor   # or onnxruntime: the same numbers

# reject: {{keep: 95 %}}       # what is less sure than 95 % of the validation images: none of these
export: [onnx, tflite]
targets: [host]               # the machines to measure on

budget:                       # any miss ends the build with exit code 1
  int8.tflite:
    max_size: 30 kB
    max_accuracy_drop: 0.5 pt # below the dense float32 network
"""


FOLDER_TEMPLATE = """\
# Your own pictures: SqueezeNet 1.1, fine-tuned from ImageNet weights, quantized to int8.
# Build it:  edgecnn build {file}
# For completion in your editor:  edgecnn schema -o recipe.schema.json
# yaml-language-server: $schema=./recipe.schema.json
version: 1
name: {name}
seed: 0                       # of every random number

# {n_pictures:,} pictures of {n_classes} classes: {classes}
data:
  folder:
    path: {path}
    # height and width that the network sees: less is faster, more shows details
    size: {size}
    fit: stretch              # or crop, letterbox: how a picture of another shape comes to that size
    channels: 3               # {channels}
{shares}{folds}
model:
  squeezenet1_1:
    weights: imagenet         # fetched once; without this line training begins with random weights

train:
  epochs: {epochs}
  batch_size: 32
  learning_rate: 1e-3
  augment: {augment}   # leave flip out where a mirrored picture is of another class
  threads: 2                  # of the CPU; another number gives other bits

compress:                     # in this order
  # - prune: {{ratio: 0.3}}     # takes out channels: smaller and faster, for some accuracy
  # - finetune: {{epochs: 4}}
  - quantize: {{calibration_images: 300}}   # from the training part, never from the test set

export: [onnx, tflite]
targets: [host]               # the machines to measure on

budget:                       # any miss ends the build with exit code 1
  int8.tflite:
    max_size: {max_size_mb:.1f} MB
    max_accuracy_drop: {max_drop:g} pt  # below float32; one of {n_test:,} test pictures is {one:.2g} pt
"""
_FOLDS = """\
    folds: 5                  # cross-validation: trains five times more; leave it out to build faster
"""
_GREY = "these are grey; 1 takes them so, but ImageNet weights are for 3"
# In the comment on the classes.
_NAMED_CLASSES = 12
# Pictures are hardly enlarged; sizes are multiples of this, which halves well.
_SMALLEST_SIZE = 32


def write(path: Path) -> None:
    """Writes the template to `path`. Raises UsageError where something is there, or nothing can be."""
    _check_free(path)
    files.write_text(path, TEMPLATE.format(name=_name_for(path.stem), file=path))


def write_for_folder(path: Path, folder: Path) -> None:
    """Writes a recipe to `path` that fits the pictures in `folder`.

    Raises UsageError as `write` does, DataError for a folder that cannot be trained on.
    """
    _check_free(path)
    files.write_text(path, _recipe_for_folder(path, folder))


def _check_free(path: Path) -> None:
    if path.exists():
        raise UsageError("the file exists", where=str(path), fix="name another, or move it away")
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", where=str(path.parent), fix="make it first")


def _recipe_for_folder(path: Path, folder: Path) -> str:
    layout = scan(folder)
    looks = look_at(layout)
    few = len(layout.pictures) < FEW_PICTURES
    usual = DATASETS["folder"].preprocessing.height
    n_test = max(1, _n_test(layout))
    n_classes = len(layout.class_names)
    return FOLDER_TEMPLATE.format(
        file=path,
        name=_name_for(re.sub(r"[^A-Za-z0-9._-]+", "_", layout.root.name).strip("._-")),
        path=_quoted(str(folder)),
        n_pictures=len(layout.pictures),
        n_classes=n_classes,
        classes=_classes(layout),
        channels=_GREY if looks.grey else "3 is colour, 1 is grey",
        size=min(usual, max(_SMALLEST_SIZE, looks.shorter_side // _SMALLEST_SIZE * _SMALLEST_SIZE)),
        shares=_shares(layout),
        folds=_FOLDS if few else "",
        # Weights that know pictures need few passes over few of them.
        epochs=12 if few else 20,
        augment="[flip, crop]" if looks.grey else "[flip, crop, color]",
        max_size_mb=math.ceil(8 + n_classes * 0.006) / 10,
        # Fewer than three pictures are chance.
        max_drop=max(1.0, math.ceil(10 * 300 / n_test) / 10),
        n_test=n_test,
        one=100 / n_test,
    )


def _classes(layout: Layout) -> str:
    named = [f"{_shown(name)} ({layout.counts[name]:,})" for name in layout.class_names[:_NAMED_CLASSES]]
    more = len(layout.class_names) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def _shares(layout: Layout) -> str:
    """The lines on the parts that are drawn."""
    return "".join(
        f"    {part}_share: {_default_share(part)}{' ' * (15 - len(part))}# drawn, class by class\n"
        for part in ("validation", "test")
        if part not in layout.parts
    )


def _default_share(part: str) -> float:
    return float(DataSpec.model_fields[f"{part}_share"].default)


def _n_test(layout: Layout) -> int:
    if "test" in layout.parts:
        return sum(picture.part == "test" for picture in layout.pictures)
    return sum(max(1, round(_default_share("test") * layout.counts[name])) for name in layout.class_names)


def _quoted(text: str) -> str:
    """`text` as a YAML string on one line, whatever is in it."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _shown(text: str) -> str:
    """`text` for a comment, which ends with its line."""
    return text if text.isprintable() else ascii(text)


def _name_for(name: str) -> str:
    """`name` where a recipe may have it, and YAML takes it for text (2024 and yes are not)."""
    is_text = (
        isinstance(yaml_source.parse(f"name: {name}", "name").data.get("name"), str)
        if NAME.match(name)
        else False
    )
    return name if is_text else "my_model"
