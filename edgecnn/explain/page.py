"""From a network, a picture and its guesses to the picture that explains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image
from torch import nn

from edgecnn.analysis.disagreements import as_picture
from edgecnn.explain import grad_cam
from edgecnn.explain.drawing import PANEL, Page, Tiles, share
from edgecnn.ondevice.manifest import Manifest, Preprocessing, TensorSpec
from edgecnn.ondevice.preprocess import decode_picture, fit, model_input, upright


def explained(
    model: nn.Module, manifest: Manifest, picture: Path, prediction: Mapping[str, Any], *, layers: bool
) -> Page:
    """What in `picture` speaks for the best guess of `prediction`, by the float network `model`; with `layers`
    also the first filters and feature maps. Raises DeviceError for what is not a picture, ModelError where
    the network has nothing to show.
    """
    pre = manifest.preprocessing
    pixels = decode_picture(picture, pre)
    image = model_input(pixels[None], pre, "NCHW", TensorSpec("", (), "float32"))
    best = prediction["guesses"][0]
    found = grad_cam.explain(model, image, best["class_index"])
    height, width = found.map_size
    notes = [
        f"Float network: {best['class_name']} {share(found.probabilities[best['class_index']])}",
        f"Grad-CAM of {found.layer}, {height} x {width}",
    ]
    if not found.heat.any():
        notes.append("Nothing in the picture speaks for this class")
    answer = "none of these" if prediction["rejected"] else best["class_name"]
    return Page(
        title=f"{picture.name}: {answer}",
        picture=_as_seen(picture, pixels, pre),
        heat=found.heat,
        guesses=prediction["guesses"],
        heat_title=f"What speaks for {best['class_name']}",
        notes=notes,
        reject_below=prediction["reject_below"],
        tiles=_tiles(grad_cam.look_inside(model, image)) if layers else (),
    )


def _as_seen(path: Path, pixels: NDArray[Any], pre: Preprocessing) -> Image.Image:
    """The part of the picture that the network sees, in more pixels where the file has them."""
    seen = as_picture(pixels)
    if path.suffix.lower() == ".npy":
        return seen
    scale = -(-PANEL // max(pre.height, pre.width))
    with Image.open(path) as opened:
        if min(opened.width / pre.width, opened.height / pre.height) < 1.5:
            return seen
        whole = upright(opened).convert(seen.mode)
    enlarged: Image.Image = fit(whole, replace(pre, height=pre.height * scale, width=pre.width * scale))
    return enlarged


def _tiles(layers: grad_cam.Layers) -> list[Tiles]:
    n, channels, height, width = layers.filters.shape
    first = next(iter(layers.feature_maps))
    # Filters of a colour picture are colours themselves; of any other number of channels, their mean.
    filters = layers.filters.transpose(0, 2, 3, 1) if channels == 3 else layers.filters.mean(axis=1)
    tiles = [Tiles(f"Filters of {first}: {n} of {height} x {width}", list(filters))]
    for name, maps in layers.feature_maps.items():
        size = f"{len(maps)} of {maps.shape[1]} x {maps.shape[2]}"
        tiles.append(Tiles(f"Feature maps of {name}, after ReLU: {size}", list(maps)))
    return tiles
