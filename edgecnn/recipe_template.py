"""The recipe that `edgecnn init` writes: every key, with what it means."""

from __future__ import annotations

from pathlib import Path

from edgecnn import files
from edgecnn.errors import UsageError

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
  threads: 2                  # another number of threads gives other bits

compress:                     # in this order; leave out what you do not want
  - prune:
      ratio: 0.5              # share of channels removed from every layer; or widths: [6, 13, 20, 16]
      criterion: taylor       # or magnitude, random
      steps: 2                # rounds of pruning
      finetune_epochs: 1      # training between the rounds
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
    name = path.stem if path.stem.replace("_", "a").replace("-", "a").isalnum() else "my_model"
    files.write_text(path, TEMPLATE.format(name=name, file=path))
