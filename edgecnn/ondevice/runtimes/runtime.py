"""What every runtime offers: load once, then `prepare` and `invoke` (timed) or `run` (convenient)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edgecnn.ondevice.manifest import DeviceError, TensorSpec


class Runtime(ABC):
    """A loaded model. Subclasses set `inputs`, `outputs`, `version` and `delegate` while loading.

    A dimension of unknown size is 0 in the shapes.
    """

    model_format: str
    package: str
    """What is imported."""
    distribution: str
    """What pip installs."""

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    version: str
    delegate: Optional[str] = "none"
    """What computes in place of the runtime's own kernels: XNNPACK or none; None where it does not tell."""

    @property
    def delegate_version(self) -> Optional[str]:
        """XNNPACK has no releases: each runtime holds a state of its sources."""
        return None if self.delegate in (None, "none") else f"as in {self.distribution} {self.version}"

    @classmethod
    @abstractmethod
    def import_package(cls) -> Any:
        """Imports the runtime, so that loading a model can be timed without it. Raises DeviceError."""

    @abstractmethod
    def __init__(self, model: Path, num_threads: int, optimize: bool) -> None:
        """Loads `model`. `optimize=False` asks for the runtime's reference path. Raises DeviceError."""

    @abstractmethod
    def prepare(self, batch: NDArray[Any]) -> None:
        """Sets the one input, so that `invoke` does nothing but infer."""

    def invoke(self) -> None:
        """One inference on the prepared input. Not abstract: some runtimes set it on the instance."""
        raise NotImplementedError

    @abstractmethod
    def result(self) -> List[NDArray[Any]]:
        """The outputs of the last `invoke`, as copies."""

    def run(self, batch: NDArray[Any]) -> List[NDArray[Any]]:
        """One inference: `batch` in the shape and dtype of the input, outputs in their own."""
        self.prepare(batch)
        self.invoke()
        return self.result()

    @abstractmethod
    def run_all(self, arrays: List[NDArray[Any]]) -> List[NDArray[Any]]:
        """One inference of a model with any number of inputs, in the order of `inputs`. Raises DeviceError."""

    def single_input(self) -> TensorSpec:
        """Raises DeviceError where the model has several inputs, or one of unknown size beside the batch."""
        if len(self.inputs) != 1:
            names = ", ".join(spec.name for spec in self.inputs)
            raise DeviceError(
                f"the model has {len(self.inputs)} inputs ({names}); an image classifier has one",
                "export the model with the image as its only input",
            )
        spec = self.inputs[0]
        if 0 in spec.shape[1:]:
            raise DeviceError(
                f"input {spec.name} has the shape {list(spec.shape)}: only its first dimension may be open",
                "export the model with a fixed picture size",
            )
        return spec

    def single_output(self) -> TensorSpec:
        """Raises DeviceError where the model has several outputs."""
        if len(self.outputs) != 1:
            names = ", ".join(spec.name for spec in self.outputs)
            raise DeviceError(
                f"the model has {len(self.outputs)} outputs ({names}); an image classifier has one",
                "export the model with the logits as its only output",
            )
        return self.outputs[0]

    def check_batch(self, batch: NDArray[Any]) -> None:
        """Raises DeviceError where `batch` is not what the input takes."""
        spec = self.single_input()
        fits = batch.ndim == len(spec.shape) and all(
            want in (0, got) for want, got in zip(spec.shape, batch.shape)
        )
        if not fits or batch.dtype != np.dtype(spec.dtype):
            raise DeviceError(
                f"input {spec.name} takes {spec.dtype} {list(spec.shape)},"
                f" not {batch.dtype} {list(batch.shape)}",
                "the manifest beside the model does not fit it: rebuild the artifact",
            )
