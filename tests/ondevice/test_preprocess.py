"""Preprocessing is a contract: the same tensor on host and board, the same steps as onnxruntime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from edgecnn.ondevice import preprocess
from edgecnn.ondevice.manifest import DeviceError, Preprocessing, TensorSpec

MNIST = Preprocessing(28, 28, 1, (0.1307,), (0.3081,))
RGB = Preprocessing(6, 8, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ALL_BYTES = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


def quantize_linear(dtype: int) -> onnxruntime.InferenceSession:
    """onnxruntime's own QuantizeLinear, scale and zero point as inputs."""
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("zero_point", dtype, []),
        ],
        [helper.make_tensor_value_info("q", dtype, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


SESSIONS = {"int8": quantize_linear(TensorProto.INT8), "uint8": quantize_linear(TensorProto.UINT8)}


def by_onnxruntime(values: np.ndarray, scale: float, zero_point: int, dtype: str) -> np.ndarray:
    feed = {
        "x": values.ravel(),
        "scale": np.array(scale, np.float32),
        "zero_point": np.array(zero_point, dtype),
    }
    return SESSIONS[dtype].run(None, feed)[0].reshape(values.shape)


def test_normalize_is_the_formula_in_float32():
    x = preprocess.normalize(ALL_BYTES, MNIST)
    assert x.dtype == np.float32
    bytes_ = np.arange(256, dtype=np.float32)
    expected = (bytes_ / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081)
    np.testing.assert_array_equal(x.ravel(), expected)


def test_normalize_takes_each_channel_by_its_own_mean_and_std():
    image = np.full((1, 2, 2, 3), (255, 0, 51), np.uint8)
    x = preprocess.normalize(image, RGB)[0, 0, 0]
    np.testing.assert_allclose(x, [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225], rtol=1e-6)


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from(["int8", "uint8"]),
    scale=st.floats(1e-4, 0.5),
    zero_point=st.integers(0, 255),
    mean=st.floats(0.0, 1.0),
    std=st.floats(0.05, 1.0),
)
def test_every_pixel_value_is_quantized_as_onnxruntime_does(dtype, scale, zero_point, mean, std):
    zero_point += np.iinfo(dtype).min
    x = preprocess.normalize(ALL_BYTES, Preprocessing(16, 16, 1, (mean,), (std,)))
    ours = preprocess.quantize(x, scale, zero_point, dtype)
    np.testing.assert_array_equal(ours, by_onnxruntime(x, scale, zero_point, dtype))


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=64),
    scale=st.floats(1e-3, 100),
    zero_point=st.integers(-128, 127),
)
def test_any_float_is_quantized_as_onnxruntime_does(values, scale, zero_point):
    x = np.array(values, np.float32)
    np.testing.assert_array_equal(
        preprocess.quantize(x, scale, zero_point, "int8"), by_onnxruntime(x, scale, zero_point, "int8")
    )


def test_values_near_a_half_step_are_quantized_as_onnxruntime_does():
    """Where one bit of the quotient decides: multiplying by 1 / scale would fail here, and float64 would."""
    halves = np.arange(-100, 100, dtype=np.float32) + np.float32(0.5)
    by_reciprocal, by_float64 = 0, 0
    for scale in np.random.default_rng(0).uniform(1e-3, 1, 100).astype(np.float32):
        x = halves * scale
        ours = preprocess.quantize(x, float(scale), 0, "int8")
        np.testing.assert_array_equal(ours, by_onnxruntime(x, float(scale), 0, "int8"))
        by_reciprocal += int(np.sum(np.rint(x * (np.float32(1) / scale)) != ours))
        by_float64 += int(np.sum(np.rint(x.astype(np.float64) / float(scale)) != ours))
    assert by_reciprocal > 0 and by_float64 > 0  # or this test could not fail


def test_halves_round_to_even_and_ends_saturate():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1000, -1000], np.float32)
    assert preprocess.quantize(x, 1.0, 0, "int8").tolist() == [0, 2, 2, 0, -2, 127, -128]
    assert preprocess.quantize(x, 1.0, 3, "uint8").tolist() == [3, 5, 5, 3, 1, 255, 0]


def test_dequantize_is_the_way_back():
    steps = np.arange(-128, 128, dtype=np.int8)
    x = preprocess.dequantize(steps, 0.1, -7)
    assert x.dtype == np.float32 and x[0] == np.float32(-121) * np.float32(0.1)
    np.testing.assert_array_equal(preprocess.quantize(x, 0.1, -7, "int8"), steps)


def test_layouts():
    images = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    nchw = preprocess.to_layout(images, "NCHW")
    assert nchw.shape == (2, 5, 3, 4) and nchw.flags.c_contiguous
    assert nchw[1, 2, 0, 3] == images[1, 0, 3, 2]
    assert preprocess.to_layout(images, "NHWC") is images
    with pytest.raises(DeviceError, match="unknown layout 'CHWN'"):
        preprocess.to_layout(images, "CHWN")


def test_model_input_gives_what_the_input_takes():
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
    float_spec = TensorSpec("x", (0, 3, 6, 8), "float32")
    batch = preprocess.model_input(images, RGB, "NCHW", float_spec)
    assert batch.dtype == np.float32 and batch.shape == (2, 3, 6, 8)
    integer_spec = TensorSpec("x", (1, 6, 8, 3), "int8", 0.02, -5)
    integers = preprocess.model_input(images, RGB, "NHWC", integer_spec)
    assert integers.dtype == np.int8
    expected = by_onnxruntime(np.ascontiguousarray(batch.transpose(0, 2, 3, 1)), 0.02, -5, "int8")
    np.testing.assert_array_equal(integers, expected)


def test_an_integer_input_without_scale_is_refused():
    images = np.zeros((1, 6, 8, 3), np.uint8)
    with pytest.raises(DeviceError, match="input x is uint8, but neither the model nor its manifest"):
        preprocess.model_input(images, RGB, "NHWC", TensorSpec("x", (1, 6, 8, 3), "uint8"))


# Picture files


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def test_a_picture_of_the_right_size_keeps_its_pixels(tmp_path: Path):
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28)).astype(np.uint8)
    decoded = preprocess.decode_picture(save(tmp_path / "a.png", pixels), MNIST)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels[:, :, np.newaxis])


def test_colours_keep_their_order_and_grey_becomes_rgb(tmp_path: Path):
    red = np.zeros((6, 8, 3), np.uint8)
    red[:, :, 0] = 200
    np.testing.assert_array_equal(preprocess.decode_picture(save(tmp_path / "red.png", red), RGB), red)
    grey = save(tmp_path / "grey.png", np.full((6, 8), 7, np.uint8))
    np.testing.assert_array_equal(preprocess.decode_picture(grey, RGB), np.full((6, 8, 3), 7))


def test_colour_becomes_grey(tmp_path: Path):
    white = save(tmp_path / "white.png", np.full((28, 28, 3), 255, np.uint8))
    assert (preprocess.decode_picture(white, MNIST) == 255).all()


def test_resizing_is_bilinear_to_height_by_width(tmp_path: Path):
    pixels = np.random.default_rng(2).integers(0, 256, (12, 24, 3)).astype(np.uint8)
    decoded = preprocess.decode_picture(save(tmp_path / "big.png", pixels), RGB)
    expected = np.asarray(Image.fromarray(pixels).resize((8, 6), Image.Resampling.BILINEAR))
    assert decoded.shape == (6, 8, 3)
    np.testing.assert_array_equal(decoded, expected)


def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path):
    upright = np.zeros((8, 6), np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn by 270 degrees
    stored = np.ascontiguousarray(np.rot90(upright))
    path = save(tmp_path / "turned.png", stored, exif=exif.tobytes())
    decoded = preprocess.decode_picture(path, Preprocessing(8, 6, 1, (0.0,), (1.0,)))
    np.testing.assert_array_equal(decoded[:, :, 0], upright)


def test_a_transparent_picture_lies_on_white(tmp_path: Path):
    path = save(tmp_path / "clear.png", np.zeros((6, 8, 4), np.uint8))
    assert (preprocess.decode_picture(path, RGB) == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path):
    path = save(tmp_path / "deep.png", np.full((28, 28), 0x80FF, np.uint16))
    assert (preprocess.decode_picture(path, MNIST) == 0x80).all()


def test_an_npy_picture_is_taken_as_it_is(tmp_path: Path):
    pixels = np.random.default_rng(3).integers(0, 256, (28, 28)).astype(np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.testing.assert_array_equal(
        preprocess.decode_picture(tmp_path / "a.npy", MNIST), pixels[:, :, np.newaxis]
    )
    np.save(tmp_path / "b.npy", pixels[np.newaxis, :, :, np.newaxis])
    assert preprocess.decode_picture(tmp_path / "b.npy", MNIST).shape == (28, 28, 1)


def test_bad_pictures_are_named(tmp_path: Path):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(DeviceError, match=r"not a readable picture: .*text\.png"):
        preprocess.decode_picture(text, MNIST)
    with pytest.raises(DeviceError, match=r"not a readable picture: .*gone\.png"):
        preprocess.decode_picture(tmp_path / "gone.png", MNIST)
    whole = save(tmp_path / "whole.jpg", np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8))
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:-500])
    with pytest.raises(DeviceError, match=r"cut\.jpg \(.*truncated"):
        preprocess.decode_picture(cut, MNIST)


@pytest.mark.parametrize("fit", preprocess.FITS)
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_each_of_other_channels_is_fitted_as_a_grey_picture_is(fit: str, channels: int):
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 20, channels)).astype(np.uint8)
    mean, std = tuple(0.1 * (c + 1) for c in range(channels)), (0.3,) * channels
    fitted = preprocess.fit_images(images, Preprocessing(8, 8, channels, mean, std, fit=fit))
    assert fitted.shape == (3, 8, 8, channels)
    for c in range(channels):
        alone = Preprocessing(8, 8, 1, mean[c : c + 1], std[c : c + 1], fit=fit)
        np.testing.assert_array_equal(
            fitted[..., c : c + 1], preprocess.fit_images(images[..., c : c + 1], alone)
        )
    if fit == "letterbox":
        assert fitted[0, 0, 0].tolist() == [round(255 * value) for value in mean], "the ground is the mean"


def test_a_picture_cannot_have_two_channels(tmp_path: Path):
    path = save(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DeviceError, match="cannot become an image of 2 channels"):
        preprocess.decode_picture(path, Preprocessing(4, 4, 2, (0.0, 0.0), (1.0, 1.0)))


def test_bad_npy_pictures_are_named(tmp_path: Path):
    np.save(tmp_path / "float.npy", np.zeros((28, 28), np.float32))
    with pytest.raises(DeviceError, match="holds float32, not uint8"):
        preprocess.decode_picture(tmp_path / "float.npy", MNIST)
    np.save(tmp_path / "large.npy", np.zeros((32, 32), np.uint8))
    with pytest.raises(DeviceError, match=r"shape \[32, 32, 1\]; this model takes \[28, 28, 1\]"):
        preprocess.decode_picture(tmp_path / "large.npy", MNIST)
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(DeviceError, match=r"not a readable \.npy file"):
        preprocess.decode_picture(tmp_path / "text.npy", MNIST)
    np.savez(tmp_path / "archive.npz", a=np.zeros(3))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    with pytest.raises(DeviceError, match="holds an archive, not uint8"):
        preprocess.load_images(tmp_path / "archive.npy")


def test_pickles_are_never_loaded(tmp_path: Path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DeviceError, match=r"not a readable \.npy file"):
        preprocess.load_images(tmp_path / "objects.npy")


@pytest.mark.parametrize(
    "images", [np.zeros((2, 28, 28, 3), np.uint8), np.zeros((28, 28, 1), np.uint8), np.zeros((2, 28, 28, 1))]
)
def test_images_of_another_size_are_refused(images):
    with pytest.raises(DeviceError, match=r"this model takes uint8 \[n, 28, 28, 1\]"):
        preprocess.check_images(images, MNIST)


def test_without_pillow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DeviceError, match="needs Pillow") as caught:
        preprocess.decode_picture(tmp_path / "a.png", MNIST)
    assert "pip install pillow" in caught.value.fix


def striped(width: int, height: int) -> Image.Image:
    """A picture whose left third is red, middle green, right blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for k in range(3):
        pixels[:, k * width // 3 : (k + 1) * width // 3, k] = 255
    return Image.fromarray(pixels)


def colours(pixels: np.ndarray) -> list[str]:
    """The colours along the middle row, repeats dropped; "-" is the ground."""
    row = pixels[len(pixels) // 2].astype(int)
    names = ["rgb"[int(p.argmax())] if p.max() > 200 else "-" for p in row]
    return [name for k, name in enumerate(names) if k == 0 or name != names[k - 1]]


def fitted(picture: Image.Image, **how: object) -> np.ndarray:
    pre = Preprocessing(30, 30, 3, (0.4, 0.5, 0.6), (1.0,) * 3, resize_filter="nearest", **how)
    return np.asarray(preprocess.fit(picture, pre))


def test_stretch_shows_all_of_a_picture() -> None:
    assert colours(fitted(striped(90, 30))) == ["r", "g", "b"]


def test_crop_shows_the_middle() -> None:
    assert colours(fitted(striped(90, 30), fit="crop")) == ["g"]
    assert colours(fitted(striped(30, 30), fit="crop", crop_share=0.3)) == ["g"]
    assert colours(fitted(striped(30, 30), fit="crop")) == ["r", "g", "b"]


def test_letterbox_shows_all_in_its_own_shape_on_a_ground_of_the_mean() -> None:
    pixels = fitted(striped(90, 30), fit="letterbox")
    assert colours(pixels) == ["r", "g", "b"]
    assert pixels[0, 0].tolist() == [102, 128, 153]
    assert (pixels.max(axis=2) == 255).any(axis=1).sum() == 10  # a third of the height
    assert (pixels[10:20].max(axis=2) == 255).all()


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    fit=st.sampled_from(preprocess.FITS),
    resize_filter=st.sampled_from(preprocess.RESIZE_FILTERS),
    share=st.floats(0.2, 1),
)
def test_a_picture_of_any_size_fits(
    width: int, height: int, fit: str, resize_filter: str, share: float
) -> None:
    pre = Preprocessing(
        7, 9, 1, (0.5,), (1.0,), fit=fit, resize_filter=resize_filter, crop_share=share if fit == "crop" else 1
    )
    plain = Image.new("L", (width, height), 128)
    assert (np.asarray(preprocess.fit(plain, pre)) == 128).all()


def test_arrays_and_files_are_fitted_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 20, 26, 3)).astype(np.uint8)
    for fit in preprocess.FITS:
        pre = Preprocessing(11, 8, 3, (0.5,) * 3, (1.0,) * 3, fit=fit)
        for k, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"{k}.png")
        from_files = [preprocess.decode_picture(tmp_path / f"{k}.png", pre) for k in range(3)]
        np.testing.assert_array_equal(preprocess.fit_images(images, pre), np.stack(from_files))


def test_a_picture_of_the_right_size_is_cropped_too() -> None:
    images = np.asarray(striped(30, 30))[None]
    pre = Preprocessing(30, 30, 3, (0.5,) * 3, (1.0,) * 3, fit="crop", crop_share=0.3, resize_filter="nearest")
    assert colours(preprocess.fit_images(images, pre)[0]) == ["g"]


@pytest.mark.parametrize(
    ("newer", "named"), [({"fit": "tile"}, "'tile'"), ({"resize_filter": "magic"}, "'magic'")]
)
def test_a_way_of_fitting_of_a_newer_edgecnn_is_refused(newer: dict[str, str], named: str) -> None:
    with pytest.raises(DeviceError, match=named) as caught:
        preprocess.fit(striped(9, 9), Preprocessing(4, 4, 3, (0.5,) * 3, (1.0,) * 3, **newer))
    assert "pip install -U edgecnn" in str(caught.value.fix)


def test_another_colour_order_is_refused(tmp_path: Path) -> None:
    striped(9, 9).save(tmp_path / "x.png")
    with pytest.raises(DeviceError, match="'BGR'"):
        preprocess.decode_picture(
            tmp_path / "x.png", Preprocessing(4, 4, 3, (0.5,) * 3, (1.0,) * 3, color_order="BGR")
        )


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (9000, 9000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(DeviceError, match="9000 x 9000 pixels are too many"):
        preprocess.decode_picture(path, MNIST)
