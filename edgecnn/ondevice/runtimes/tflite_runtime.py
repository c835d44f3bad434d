"""tflite-runtime, LiteRT's predecessor and the only one for 32-bit Arm, for .tflite files."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecnn.ondevice.manifest import DeviceError
from edgecnn.ondevice.runtimes.tflite_interpreter import TFLiteInterpreter


class TFLiteRuntime(TFLiteInterpreter):
    package = "tflite_runtime"
    distribution = "tflite-runtime"
    mend = 'pip install tflite-runtime "numpy<2"'

    @classmethod
    def import_package(cls) -> Any:
        # 2.14, the last one, was built against numpy 1: beside numpy 2 it imports, then fails in C++.
        if int(np.__version__.split(".")[0]) >= 2:
            raise DeviceError(f"tflite-runtime does not work with numpy {np.__version__}", cls.mend)
        return super().import_package()
