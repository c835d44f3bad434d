"""TensorFlow: the network rebuilt in Keras with the same weights -> TFLiteConverter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers

from converters.networks import FIRE_MODULES, N_CLASSES, POOLED_BEFORE
from converters.runner import Conversion, Job, main

Weights = Mapping[str, np.ndarray]


def lenet5(image: Any) -> Any:
    x = layers.Conv2D(6, 5, padding="same", activation="relu", name="conv1")(image)
    x = layers.MaxPool2D(2)(x)
    x = layers.Conv2D(16, 5, activation="relu", name="conv2")(x)
    x = layers.Flatten()(layers.MaxPool2D(2)(x))
    x = layers.Dense(120, activation="relu", name="fc1")(x)
    x = layers.Dense(84, activation="relu", name="fc2")(x)
    return layers.Dense(N_CLASSES, name="fc3")(x)


def lenet5_caffe(image: Any) -> Any:
    x = layers.MaxPool2D(2)(layers.Conv2D(20, 5, name="conv1")(image))
    x = layers.MaxPool2D(2)(layers.Conv2D(50, 5, name="conv2")(x))
    x = layers.Dense(500, activation="relu", name="fc1")(layers.Flatten()(x))
    return layers.Dense(N_CLASSES, name="fc2")(x)


def squeezenet1_1(image: Any) -> Any:
    x = layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(image)
    for name, (_, squeezed, expanded) in FIRE_MODULES.items():
        if name in POOLED_BEFORE:
            x = layers.MaxPool2D(3, 2)(x)  # at 32 px no window hangs over: ceil_mode changes nothing
        x = layers.Conv2D(squeezed, 1, activation="relu", name=f"{name}.squeeze")(x)
        small = layers.Conv2D(expanded, 1, activation="relu", name=f"{name}.expand1x1")(x)
        large = layers.Conv2D(expanded, 3, padding="same", activation="relu", name=f"{name}.expand3x3")(x)
        x = layers.Concatenate()([small, large])
    x = layers.Conv2D(N_CLASSES, 1, activation="relu", name="conv10")(x)
    return layers.GlobalAveragePooling2D()(x)


BUILDERS = {"lenet5": lenet5, "lenet5_caffe": lenet5_caffe, "squeezenet1_1": squeezenet1_1}


def rebuilt(network: str, input_shape: tuple[int, int, int], weights: Weights) -> Any:
    channels, height, width = input_shape
    image = keras.Input(batch_shape=(1, height, width, channels), name="images")
    model = keras.Model(image, BUILDERS[network](image))
    previous_shape: tuple[int, ...] = ()
    for layer in model.layers:
        if isinstance(layer, layers.Flatten):
            previous_shape = tuple(layer.input.shape[1:])
        if layer.weights:
            kernel = keras_kernel(weights[f"{layer.name}.weight"], previous_shape)
            layer.set_weights([kernel, weights[f"{layer.name}.bias"]])
        if isinstance(layer, layers.Dense):
            previous_shape = ()
    return model


def keras_kernel(weight: np.ndarray, flattened_hwc: tuple[int, ...]) -> np.ndarray:
    """A PyTorch weight in Keras's order; `flattened_hwc` is the shape before a flatten, if one came before."""
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if not flattened_hwc:
        return weight.T
    height, width, channels = flattened_hwc
    by_pixel = weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0)
    return by_pixel.reshape(height * width * channels, -1)


def conversions(job: Job) -> list[Conversion]:
    source = job.output / "model.keras"
    rebuilt(job.network, job.input_shape, np.load(job.inputs / "weights.npz")).save(source)
    return [
        Conversion("tensorflow", "float32", to_float(source)),
        Conversion("tensorflow", "int8", to_int8(source, job.inputs / "calibration_nhwc.npy")),
    ]


def to_float(source: Path) -> Callable[[], bytes]:
    return lambda: converter_of(source).convert()


def to_int8(source: Path, calibration: Path) -> Callable[[], bytes]:
    def samples() -> Iterator[list[np.ndarray]]:
        for image in np.load(calibration):
            yield [image[None]]

    def make() -> bytes:
        converter = converter_of(source)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())

    return make


def converter_of(source: Path) -> Any:
    return tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model(source, compile=False))


if __name__ == "__main__":
    main(conversions, ("tensorflow-cpu", "keras"))
