"""Mixup and CutMix: two pictures become one, and the loss asks for both labels by their shares.

Sources: H. Zhang et al., "mixup: beyond empirical risk minimization", 2018; S. Yun et al., "CutMix:
regularization strategy to train strong classifiers with localizable features", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional


@dataclass(frozen=True)
class Targets:
    """`labels` int64 [batch]; where pictures were mixed, `others` and the `share` 0..1 that `labels` have."""

    labels: torch.Tensor
    others: torch.Tensor | None = None
    share: float = 1.0

    @property
    def main(self) -> torch.Tensor:
        """The label of the larger part of each picture."""
        return self.labels if self.others is None or self.share >= 0.5 else self.others

    def loss(self, logits: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        """The cross entropy of `logits` [batch, classes], of both labels where there are two."""
        first = functional.cross_entropy(logits, self.labels, label_smoothing=label_smoothing)
        if self.others is None:
            return first
        second = functional.cross_entropy(logits, self.others, label_smoothing=label_smoothing)
        return self.share * first + (1 - self.share) * second


def mixed(
    images_nchw: torch.Tensor, labels: torch.Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[torch.Tensor, Targets]:
    """The batch [n, c, h, w], each picture mixed with another of it; `mixup` and `cutmix` are the alphas, 0:
    off.

    With both, a batch is mixed by one of them, chosen at random.
    """
    if not (mixup or cutmix):
        return images_nchw, Targets(labels)
    random = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    others = images_nchw[order]
    if cutmix and (not mixup or random.random() < 0.5):
        images_nchw, share = _pasted(images_nchw, others, float(random.beta(cutmix, cutmix)), random)
    else:
        share = float(random.beta(mixup, mixup))
        images_nchw = torch.lerp(others, images_nchw, share)
    return images_nchw, Targets(labels, labels[order], share)


def _pasted(
    images_nchw: torch.Tensor, others: torch.Tensor, share: float, random: np.random.Generator
) -> tuple[torch.Tensor, float]:
    """A rectangle of about `1 - share` of the area taken from `others`, and the share that really stays."""
    height, width = images_nchw.shape[2:]
    side = (1 - share) ** 0.5
    (top, bottom), (left, right) = (_span(length, side, random) for length in (height, width))
    pasted = images_nchw.clone()
    pasted[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, share: float, random: np.random.Generator) -> tuple[int, int]:
    """Where a part of `share` of `length` begins and ends, centred anywhere, cut at the edges."""
    centre, half = random.integers(length), round(length * share / 2)
    return max(0, int(centre) - half), min(length, int(centre) + half)
