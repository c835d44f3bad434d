"""LiteRT (the package ai-edge-litert), for .tflite files."""

from __future__ import annotations

from edgecnn.ondevice.runtimes.tflite_interpreter import TFLiteInterpreter


class LiteRT(TFLiteInterpreter):
    package = "ai_edge_litert"
    distribution = "ai-edge-litert"
    mend = "pip install --force-reinstall ai-edge-litert"
