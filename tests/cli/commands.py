"""What the tests of the commands share."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from edgecnn.cli import cli

QUICK_RECIPE = """\
version: 1
name: quick
data: mnist
model: lenet5
train: {epochs: 1, batch_size: 32, learning_rate: 3e-3, threads: 2}
compress:
  - prune: {ratio: 0.5, finetune_epochs: 1}
  - quantize: {calibration_images: 50, engine: onnxruntime}
# No limit on times: those of a machine that is busy with other tests are refused.
budget:
  int8.tflite:
    {max_size: 22 kB, max_accuracy_drop: 5 pt, min_accuracy: 90 %, max_peak_rss: 1000 MB}
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def told(result: Result) -> str:
    """What a failed command says: on stderr, without a traceback."""
    assert "Traceback" not in result.output
    return result.stderr
