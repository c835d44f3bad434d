"""A small valid recipe that tests change, and where the repository is."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MINIMAL_RECIPE = """\
version: 1
name: tiny
data: mnist
model: lenet5
train: {epochs: 1, threads: 2}
compress:
  - quantize: {calibration_images: 20}
budget:
  int8.tflite: {max_size: 20 kB}
"""
