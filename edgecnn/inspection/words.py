"""What is in a file as text for people: kinds of bytes, shapes, names."""

from __future__ import annotations

from edgecnn.inspection.ledger import Shape

KIND_LABELS = {
    "weights": "weights",
    "biases": "biases",
    "constants": "shapes and other constants",
    "quantization": "scales and zero points",
    "tensor_tables": "tensor tables and shapes",
    "operator_tables": "operator tables and options",
    "buffer_tables": "buffer tables",
    "model_tables": "model and subgraph tables",
    "vtables": "vtables",
    "names": "names",
    "metadata": "metadata",
    "signatures": "signatures",
    "padding": "padding (alignment)",
    "header": "file header",
    "unused_buffers": "buffers that no operator reads",
    "unreferenced": "bytes that nothing refers to",
    "appended_files": "files appended (zip)",
    "nodes": "nodes and their attributes",
    "tensor_headers": "headers of constants",
    "activation_shapes": "shapes of activations",
    "inputs_and_outputs": "inputs and outputs",
    "documentation": "doc strings and metadata",
    "functions": "functions",
    "rest": "the rest",
    "unassigned_weights": "weights that no layer counts",
}


def shape_text(shape: Shape | None) -> str:
    """1x28x28x1; ? for what is open."""
    if shape is None:
        return "?"
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"
