"""edgecnn: one recipe from training to measured, gated int8 ONNX and TFLite artifacts."""

__version__ = "0.1.0"
