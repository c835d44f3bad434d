"""THE preprocessing: from a picture to the tensor a model takes, the same code on host and board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.ondevice.manifest import DeviceError, Preprocessing, TensorSpec

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".npy")


def decode_picture(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """A PNG or JPEG file, turned as its EXIF says, grey or RGB, resized bilinearly; or a .npy file as it is.

    Returns uint8 [height, width, channels]. Raises DeviceError for what is not such a picture.
    """
    if path.suffix.lower() == ".npy":
        return _read_array(path, preprocessing)
    try:
        from PIL import Image, ImageOps
    except ImportError as fault:
        raise DeviceError(
            f"{path.name}: decoding pictures needs Pillow, which is not installed",
            "pip install pillow, or give the picture as a uint8 .npy file",
        ) from fault
    mode = _picture_mode(preprocessing)
    try:
        with Image.open(path) as opened:
            # Any so that newer and older Pillow stubs agree; exif_transpose returns a copy.
            picture: Any = ImageOps.exif_transpose(opened)
            picture = _flatten(picture, Image).convert(mode)
            size = (preprocessing.width, preprocessing.height)
            if picture.size != size:
                picture = picture.resize(size, Image.Resampling.BILINEAR)
            pixels = np.asarray(picture, dtype=np.uint8)
    except (
        Exception
    ) as fault:  # damaged files make Pillow raise nearly anything, struct.error and IndexError too
        raise DeviceError(f"not a readable picture: {path} ({fault})", "use a PNG or JPEG file") from fault
    return pixels.reshape(preprocessing.height, preprocessing.width, preprocessing.channels)


def _picture_mode(preprocessing: Preprocessing) -> str:
    modes = {1: "L", 3: "RGB"}
    if preprocessing.channels not in modes:
        raise DeviceError(
            f"a picture file cannot become an image of {preprocessing.channels} channels",
            "give the picture as a uint8 .npy file",
        )
    return modes[preprocessing.channels]


def _flatten(picture: Any, image_module: Any) -> Any:
    """Lays a transparent picture on white: Pillow would show whatever colour lies under the transparency."""
    if picture.mode in ("RGBA", "LA") or "transparency" in picture.info:
        layers = picture.convert("RGBA")
        white = image_module.new("RGBA", layers.size, "white")
        return image_module.alpha_composite(white, layers).convert("RGB")
    if picture.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion to 8 bits clips at 255 instead of scaling.
        return image_module.fromarray((np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8))
    return picture


def _read_array(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    pixels = load_images(path)
    wanted = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if pixels.ndim == 2 and preprocessing.channels == 1:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim == 4 and len(pixels) == 1:
        pixels = pixels[0]
    if pixels.shape != wanted:
        raise DeviceError(
            f"{path} holds an array of shape {list(pixels.shape)}; this model takes {list(wanted)}",
            "a .npy picture is not resized: save it in the model's size",
        )
    return np.array(pixels)


def load_images(path: Path) -> np.ndarray:
    """The uint8 array in a .npy file, mapped and not read: a board may have less memory than the test set.

    Raises DeviceError where the file is missing, not .npy, or of another dtype.
    """
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        raise DeviceError(f"not a readable .npy file: {path} ({fault})", "save it with numpy.save") from fault
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        found = images.dtype if isinstance(images, np.ndarray) else "an archive"
        raise DeviceError(f"{path} holds {found}, not uint8", "save the pixels as uint8, 0..255")
    return images


def check_images(images_nhwc: np.ndarray, preprocessing: Preprocessing) -> None:
    """Raises DeviceError where the images have not the size that the model takes."""
    wanted = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if images_nhwc.dtype != np.uint8 or images_nhwc.ndim != 4 or images_nhwc.shape[1:] != wanted:
        raise DeviceError(
            f"the images are {images_nhwc.dtype} {list(images_nhwc.shape)};"
            f" this model takes uint8 [n, {wanted[0]}, {wanted[1]}, {wanted[2]}]",
            "decode and resize them with edgecnn.ondevice.preprocess.decode_picture",
        )


def normalize(images_nhwc: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """`(x / 255 - mean) / std` in float32: uint8 [..., channels] -> float32 of the same shape."""
    mean = np.array(preprocessing.mean, dtype=np.float32)
    std = np.array(preprocessing.std, dtype=np.float32)
    scaled = images_nhwc.astype(np.float32)
    scaled /= np.float32(255)
    scaled -= mean
    scaled /= std
    return scaled


def quantize(values: np.ndarray, scale: float, zero_point: int, dtype: str) -> np.ndarray:
    """`saturate(round_half_even(x / scale) + zero_point)` as int8 or uint8.

    Divides in float32, as ONNX's QuantizeLinear does in onnxruntime: multiplying by 1 / scale, or dividing in
    float64, moves single values by one step.
    """
    limits = np.iinfo(dtype)
    steps = np.rint(values.astype(np.float32, copy=False) / np.float32(scale))
    # Clipped before the zero point is added: a huge quotient has no exact float32 sum, let alone an integer.
    np.clip(steps, limits.min - zero_point, limits.max - zero_point, out=steps)
    return (steps.astype(np.int32) + zero_point).astype(dtype)


def dequantize(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """`(q - zero_point) * scale` in float32."""
    return (values.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)


def to_layout(images_nhwc: np.ndarray, layout: str) -> np.ndarray:
    """[n, h, w, c] in the layout that the model takes, contiguous. DeviceError for an unknown layout."""
    if layout == "NHWC":
        return images_nhwc
    if layout == "NCHW":
        return np.ascontiguousarray(images_nhwc.transpose(0, 3, 1, 2))
    raise DeviceError(f"unknown layout {layout!r}", "NHWC or NCHW")


def model_input(
    images_nhwc: np.ndarray, preprocessing: Preprocessing, layout: str, spec: TensorSpec
) -> np.ndarray:
    """uint8 [n, h, w, c] -> the batch that a model takes, in dtype and quantization of its input `spec`."""
    values = normalize(images_nhwc, preprocessing)
    if spec.dtype in ("int8", "uint8"):
        if spec.scale is None or spec.zero_point is None:
            raise DeviceError(
                f"input {spec.name} is {spec.dtype}, but neither the model nor its manifest has its scale",
                "rebuild the artifact, so that its manifest says how the input is quantized",
            )
        return to_layout(quantize(values, spec.scale, spec.zero_point, spec.dtype), layout)
    return to_layout(values.astype(spec.dtype, copy=False), layout)
