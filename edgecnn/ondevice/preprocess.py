"""THE preprocessing: from a picture to the tensor a model takes, the same code on host and board."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Tuple

import numpy as np
from numpy.typing import NDArray

from edgecnn.ondevice.manifest import DeviceError, PictureError, Preprocessing, TensorSpec

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".npy")
FITS = ("stretch", "crop", "letterbox")
RESIZE_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
# What a file of these suffixes may hold: Pillow reads some other formats by running other programs.
_PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
# A picture of more pixels is refused before it is decoded: a small file can unpack to gigabytes.
MAX_PIXELS = 64_000_000


def decode_picture(path: Path, preprocessing: Preprocessing) -> NDArray[Any]:
    """A picture file, turned as its EXIF says, grey or RGB, fitted to the model's size; or a .npy file as it
    is.

    Returns uint8 [height, width, channels]. Raises PictureError for what is not such a picture, DeviceError
    where none could be read: without Pillow, or by a manifest that is not understood.
    """
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        fault = OSError("it is no regular file")
        raise _unreadable(path, fault, "name a picture file") from fault
    if path.suffix.lower() == ".npy":
        return _read_array(path, preprocessing)
    try:
        from PIL import Image
    except ImportError as fault:
        raise DeviceError(
            f"{path.name}: decoding pictures needs Pillow, which is not installed",
            "pip install pillow, or give the picture as a uint8 .npy file",
        ) from fault
    mode = _picture_mode(preprocessing)
    try:
        with Image.open(path, formats=_PILLOW_FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} pixels are too many")
            fitted = fit(upright(opened).convert(mode), preprocessing)
            pixels = np.asarray(fitted, dtype=np.uint8)
    except DeviceError:
        raise
    except (
        Exception
    ) as fault:  # damaged files make Pillow raise nearly anything, struct.error and IndexError too
        raise _unreadable(path, fault, "use a PNG, JPEG, WebP or BMP file") from fault
    return pixels.reshape(preprocessing.height, preprocessing.width, preprocessing.channels)


def _unreadable(path: Path, fault: Exception, fix: str) -> PictureError:
    # What the system says of a link may name the file that it leads to.
    reason = getattr(fault, "strerror", None) or str(fault).replace(str(path), path.name)
    return PictureError(f"not a readable picture: {path} ({fault})", fix, reason)


def upright(opened: Any) -> Any:
    """A Pillow image turned as its EXIF says, transparent parts on white, 16-bit grey scaled to 8 bits."""
    from PIL import Image, ImageOps

    return _flatten(ImageOps.exif_transpose(opened), Image)


def fit(picture: Any, preprocessing: Preprocessing) -> Any:
    """A Pillow image ("L" or "RGB") at the model's size, as `preprocessing.fit` says.

    Raises DeviceError for a way of fitting that this edgecnn does not know.
    """
    from PIL import Image

    if preprocessing.resize_filter not in RESIZE_FILTERS or preprocessing.fit not in FITS:
        raise DeviceError(
            f"the manifest asks for fit {preprocessing.fit!r} by the filter {preprocessing.resize_filter!r}",
            "upgrade edgecnn: pip install -U edgecnn",
        )
    resampling = getattr(Image.Resampling, preprocessing.resize_filter.upper())
    size = (preprocessing.width, preprocessing.height)
    if preprocessing.fit == "letterbox":
        scale = min(size[0] / picture.width, size[1] / picture.height)
        inner = tuple(max(1, round(side * scale)) for side in picture.size)
        ground = tuple(round(255 * mean) for mean in preprocessing.mean)
        canvas = Image.new(picture.mode, size, ground if len(ground) > 1 else ground[0])
        at = tuple((whole - part) // 2 for whole, part in zip(size, inner))
        canvas.paste(picture.resize(inner, resampling), at)
        return canvas
    return picture.resize(size, resampling, box=_used_part(picture.size, preprocessing))


def _used_part(picture_size: Tuple[int, int], preprocessing: Preprocessing) -> Tuple[float, ...]:
    """(left, top, right, bottom) of what is kept of a picture of that (width, height)."""
    width, height = picture_size
    if preprocessing.fit == "stretch":
        return (0, 0, width, height)
    scale = min(width / preprocessing.width, height / preprocessing.height) * preprocessing.crop_share
    kept_width, kept_height = preprocessing.width * scale, preprocessing.height * scale
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return (left, top, left + kept_width, top + kept_height)


def fit_images(images_nhwc: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    """uint8 [n, any height, any width, channels] at the model's size, each as `fit` does it.

    Of other channels than grey or colour, each is fitted by itself: Pillow would take four for red, green, blue
    and how opaque they are.
    """
    from PIL import Image

    whole = preprocessing.fit != "crop" or preprocessing.crop_share == 1
    if whole and images_nhwc.shape[1:3] == (preprocessing.height, preprocessing.width):
        return images_nhwc
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    fitted = np.empty((len(images_nhwc), *shape), np.uint8)
    if preprocessing.channels not in (1, 3):
        for channel in range(preprocessing.channels):
            alone = replace(
                preprocessing,
                channels=1,
                mean=preprocessing.mean[channel : channel + 1],
                std=preprocessing.std[channel : channel + 1],
            )
            fitted[..., channel : channel + 1] = fit_images(images_nhwc[..., channel : channel + 1], alone)
        return fitted
    for place, pixels in zip(fitted, images_nhwc):
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        place[:] = np.asarray(fit(picture, preprocessing)).reshape(shape)
    return fitted


def _picture_mode(preprocessing: Preprocessing) -> str:
    modes = {1: "L", 3: "RGB"}
    if preprocessing.channels == 3 and preprocessing.color_order != "RGB":
        raise DeviceError(
            f"the manifest asks for the colour order {preprocessing.color_order!r}, which is not known here",
            "upgrade edgecnn: pip install -U edgecnn",
        )
    if preprocessing.channels not in modes:
        reason = f"a picture file cannot become an image of {preprocessing.channels} channels"
        raise PictureError(reason, "give the picture as a uint8 .npy file", reason)
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


def _read_array(path: Path, preprocessing: Preprocessing) -> NDArray[Any]:
    pixels = load_images(path)
    wanted = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if pixels.ndim == 2 and preprocessing.channels == 1:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim == 4 and len(pixels) == 1:
        pixels = pixels[0]
    if pixels.shape != wanted:
        reason = f"an array of shape {list(pixels.shape)}; this model takes {list(wanted)}"
        fix = "a .npy picture is not resized: save it in the model's size"
        raise PictureError(f"{path} holds {reason}", fix, reason)
    return np.array(pixels)


def load_images(path: Path) -> NDArray[Any]:
    """The uint8 array in a .npy file, mapped and not read: a board may have less memory than the test set.

    Raises PictureError where the file is missing, not .npy, or of another dtype.
    """
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        reason = str(fault).replace(str(path), path.name)
        raise PictureError(
            f"not a readable .npy file: {path} ({fault})", "save it with numpy.save", reason
        ) from fault
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        found = images.dtype if isinstance(images, np.ndarray) else "an archive"
        reason = f"{found}, not uint8"
        raise PictureError(f"{path} holds {reason}", "save the pixels as uint8, 0..255", reason)
    return images


def check_images(images_nhwc: NDArray[Any], preprocessing: Preprocessing) -> None:
    """Raises DeviceError where the images have not the size that the model takes."""
    wanted = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if images_nhwc.dtype != np.uint8 or images_nhwc.ndim != 4 or images_nhwc.shape[1:] != wanted:
        raise DeviceError(
            f"the images are {images_nhwc.dtype} {list(images_nhwc.shape)};"
            f" this model takes uint8 [n, {wanted[0]}, {wanted[1]}, {wanted[2]}]",
            "decode and resize them with edgecnn.ondevice.preprocess.decode_picture",
        )


def normalize(images_nhwc: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    """`(x / 255 - mean) / std` in float32: uint8 [..., channels] -> float32 of the same shape."""
    mean = np.array(preprocessing.mean, dtype=np.float32)
    std = np.array(preprocessing.std, dtype=np.float32)
    scaled = images_nhwc.astype(np.float32)
    scaled /= np.float32(255)
    scaled -= mean
    scaled /= std
    return scaled


def quantize(values: NDArray[Any], scale: float, zero_point: int, dtype: str) -> NDArray[Any]:
    """`saturate(round_half_even(x / scale) + zero_point)` as int8 or uint8.

    Divides in float32, as ONNX's QuantizeLinear does in onnxruntime: multiplying by 1 / scale, or dividing in
    float64, moves single values by one step.
    """
    limits = np.iinfo(dtype)
    steps = np.rint(values.astype(np.float32, copy=False) / np.float32(scale))
    # Clipped before the zero point is added: a huge quotient has no exact float32 sum, let alone an integer.
    np.clip(steps, limits.min - zero_point, limits.max - zero_point, out=steps)
    result: NDArray[Any] = (steps.astype(np.int32) + zero_point).astype(dtype)
    return result


def dequantize(values: NDArray[Any], scale: float, zero_point: int) -> NDArray[Any]:
    """`(q - zero_point) * scale` in float32."""
    return (values.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)


def to_layout(images_nhwc: NDArray[Any], layout: str) -> NDArray[Any]:
    """[n, h, w, c] in the layout that the model takes, contiguous. DeviceError for an unknown layout."""
    if layout == "NHWC":
        return images_nhwc
    if layout == "NCHW":
        return np.ascontiguousarray(images_nhwc.transpose(0, 3, 1, 2))
    raise DeviceError(f"unknown layout {layout!r}", "NHWC or NCHW")


def model_input(
    images_nhwc: NDArray[Any], preprocessing: Preprocessing, layout: str, spec: TensorSpec
) -> NDArray[Any]:
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
