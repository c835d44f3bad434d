"""The pictures on which two networks give different answers."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import metrics
from edgecnn.analysis.records import Disagreement, Disagreements

if TYPE_CHECKING:
    from PIL import Image

MOST_SHOWN = 24
# Pixels of the longer side: larger pictures are shrunk to it.
LARGEST_SIDE = 96


def find(
    float_logits: NDArray[Any],
    int8_logits: NDArray[Any],
    labels: NDArray[Any],
    images_nhwc: NDArray[Any],
    *,
    float_run: str,
    int8_run: str,
) -> Disagreements:
    """Counts where the top-1 of two networks differ, and keeps up to MOST_SHOWN of the pictures.

    Logits are real values [n, classes] (an int8 output dequantized); `images_nhwc` uint8. Pictures that only
    the float network gets right come first, then those that only the int8 network does, then the rest.
    """
    by_float, by_int8 = metrics.top1(float_logits), metrics.top1(int8_logits)
    different = by_float != by_int8
    kinds = [
        different & (by_float == labels),
        different & (by_int8 == labels),
        different & (by_float != labels) & (by_int8 != labels),
    ]
    order = np.concatenate([np.flatnonzero(kind) for kind in kinds])
    shown = [
        Disagreement(
            image=int(i),
            label=int(labels[i]),
            float_class=int(by_float[i]),
            int8_class=int(by_int8[i]),
            float_outputs=_rounded(float_logits[i]),
            int8_outputs=_rounded(int8_logits[i]),
            png=png_base64(images_nhwc[i]),
        )
        for i in order[:MOST_SHOWN]
    ]
    n_only_float, n_only_int8, n_both_wrong = (int(kind.sum()) for kind in kinds)
    return Disagreements(
        float_run=float_run,
        int8_run=int8_run,
        n_images=len(labels),
        n_only_float_right=n_only_float,
        n_only_int8_right=n_only_int8,
        n_both_wrong=n_both_wrong,
        shown=tuple(shown),
    )


def _rounded(logits: NDArray[Any]) -> tuple[float, ...]:
    """To four decimals: more says nothing to who looks at them."""
    return tuple(round(float(value), 4) for value in logits)


def png_base64(pixels: NDArray[Any]) -> str:
    """A uint8 picture [height, width, channels] as a PNG of at most LARGEST_SIDE pixels a side."""
    picture = as_picture(pixels)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode("ascii")


def as_picture(pixels: NDArray[Any]) -> Image.Image:
    """uint8 [height, width, channels] as people see it: grey or colour; of more channels the first three are
    taken for colours, of two the mean is shown.
    """
    from PIL import Image

    channels = pixels.shape[2]
    if channels == 2:
        pixels = np.rint(pixels.mean(axis=2, keepdims=True)).astype(np.uint8)
    return Image.fromarray(pixels[:, :, 0] if channels < 3 else np.ascontiguousarray(pixels[:, :, :3]))
