"""The recipe that `edgecnn init` writes: every key, with what it means."""

from __future__ import annotations

import re
from pathlib import Path

from edgecnn import files, yaml_source
from edgecnn.errors import UsageError
from edgecnn.recipe import NAME_PATTERN

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
model: lenet5                 # or lenet5_caffe; other widths: {{lenet5: {{widths: [6, 16, 120, 84]}}}}

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
      criterion: taylor       # or magnitude, random
      steps: 2                # rounds of pruning
      finetune_epochs: 1      # training after each round
  - finetune:
      epochs: 4
      learning_rate: 2e-3
      # teacher: dense        # learn from the outputs of the dense network, too
  - quantize:
      calibration_images: 300 # from the training part, never from the test set
      engine: neural-compressor   # or onnxruntime: the same numbers

export: [onnx, tflite]
targets: [host]               # the machines to measure on

budget:                       # any miss ends the build with exit code 1
  int8.tflite:
    max_size: 30 kB
    max_accuracy_drop: 0.5 pt # below the dense float32 network
"""


def write(path: Path) -> None:
    """Writes the template to `path`. Raises UsageError where something is there, or nothing can be."""
    if path.exists():
        raise UsageError("the file exists", where=str(path), fix="name another, or move it away")
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", where=str(path.parent), fix="make it first")
    files.write_text(path, TEMPLATE.format(name=_name_for(path), file=path))


def _name_for(path: Path) -> str:
    """The file's own name where a recipe may have it, and YAML takes it for text (2024 and yes are not)."""
    name = path.stem
    is_text = (
        isinstance(yaml_source.parse(f"name: {name}", "name").data.get("name"), str)
        if NAME.match(name)
        else False
    )
    return name if is_text else "my_model"
