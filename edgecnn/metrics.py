"""What a classifier's outputs are worth: pure functions of arrays, nothing read and nothing written.

Everywhere: `labels` and `predicted` are integer arrays of shape [n_images], `logits` [n_images, n_classes];
accuracies and drops are fractions 0..1. Ties in logits take the lowest class index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]

# How far from a whole number of steps a dequantized logit may lie. float32 division leaves about 1e-5;
# logits that never were quantized are uniformly spread and leave up to 0.5.
LARGEST_RESIDUE = 0.02


@dataclass(frozen=True)
class ClassScore:
    """Figures of one class. None is an undefined 0/0: no image of the class, or none predicted to be one."""

    precision: float | None
    recall: float | None
    f1: float | None
    n_images: int


@dataclass(frozen=True)
class Scores:
    """How the predictions compare with the labels. `confusion[truth][predicted]` counts images."""

    accuracy: float
    macro_recall: float
    macro_f1: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    n_images: int


@dataclass(frozen=True)
class AccuracyDrop:
    """`drop` is the dense network's accuracy minus the compressed one's, same images; negative is a gain.

    `low` and `high` bound the bootstrap interval of `confidence`. `mcnemar_p` is the probability of a split
    at least as uneven as n_only_dense_right : n_only_compressed_right if both networks were equally good.
    """

    drop: float
    low: float
    high: float
    confidence: float
    mcnemar_p: float
    n_only_dense_right: int
    n_only_compressed_right: int
    n_images: int


@dataclass(frozen=True)
class Parity:
    """How far two integer outputs of one quantized network are apart.

    `lsb_histogram` maps an absolute difference in steps ("0", "1", ...) to how many output values show it.
    """

    top1_equal: float
    max_lsb: int
    lsb_histogram: dict[str, int]
    n_images: int


def top1(logits: NDArray[Any]) -> IntArray:
    """The predicted class of each image: [n, classes] -> int64 [n]. Ties take the lowest index."""
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits must be [n_images, n_classes], not {list(logits.shape)}")
    if np.issubdtype(logits.dtype, np.floating) and np.isnan(logits).any():
        raise ValueError("the logits hold NaN: they rank nothing")
    result: IntArray = np.argmax(logits, axis=1)  # argmax takes the first of equal values
    return result


def accuracy(predicted: IntArray, labels: IntArray) -> float:
    """The share of images whose predicted class is their label."""
    return agreement(predicted, labels)


@dataclass(frozen=True)
class Agreement:
    """How far a network follows another one on the same images.

    `top1`: share in the same class. `where_sure`: that share of the `n_sure` images on which the other's best
    class leads by more than SURE_MARGIN of probability; None where there are none. `in_top5`: share whose
    class, by the other, is among this network's five best.
    """

    top1: float
    where_sure: float | None
    n_sure: int
    in_top5: float


SURE_MARGIN = 0.05


def follows(logits: NDArray[Any], reference: NDArray[np.floating[Any]]) -> Agreement:
    """`logits` of any type against the probabilities of the float network, `reference`; both [n, classes].

    Equal logits stand in the order of their classes, as in `top1`.
    """
    wanted, found = top1(reference), top1(logits)
    _check_aligned(found, wanted)
    two_best = np.sort(reference, axis=1)[:, -2:]
    sure = two_best[:, 1] - two_best[:, 0] > SURE_MARGIN
    five_best = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")[:, :5]
    return Agreement(
        top1=float(np.mean(found == wanted)),
        where_sure=float(np.mean((found == wanted)[sure])) if sure.any() else None,
        n_sure=int(sure.sum()),
        in_top5=float(np.mean((five_best == wanted[:, None]).any(axis=1))),
    )


def agreement(predicted: IntArray, other: IntArray) -> float:
    """The share of images that two networks put in the same class, right or wrong."""
    _check_aligned(predicted, other)
    return float(np.mean(predicted == other))


def confusion_matrix(predicted: IntArray, labels: IntArray, n_classes: int) -> NDArray[np.int64]:
    """Counts of images, int64 [n_classes, n_classes]: row is the label, column the predicted class."""
    _check_aligned(predicted, labels)
    for name, classes in (("predicted", predicted), ("labels", labels)):
        if classes.min() < 0 or classes.max() >= n_classes:
            raise ValueError(f"{name} must lie in 0..{n_classes - 1}")
    cells = labels.astype(np.int64) * n_classes + predicted
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def score(predicted: IntArray, labels: IntArray, n_classes: int) -> Scores:
    """All figures of one network on one labelled set.

    Macro figures are plain means over classes. A class without images has no recall and is left out of
    `macro_recall` (then it equals scikit-learn's balanced_accuracy_score); one that has neither images nor
    predictions has no F1 and is left out of `macro_f1` (as in scikit-learn's f1_score).
    """
    confusion = confusion_matrix(predicted, labels, n_classes)
    per_class = per_class_scores(confusion)
    return Scores(
        accuracy=float(np.trace(confusion) / confusion.sum()),
        macro_recall=_mean([one.recall for one in per_class]),
        macro_f1=_mean([one.f1 for one in per_class]),
        per_class=per_class,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        n_images=len(labels),
    )


def per_class_scores(confusion: NDArray[np.int64]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 (`2 TP / (2 TP + FP + FN)`) of each class of a confusion matrix."""
    hits = np.diag(confusion)
    n_labelled, n_predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return tuple(
        ClassScore(
            precision=_ratio(hit, of_predicted),
            recall=_ratio(hit, of_labelled),
            f1=_ratio(2 * hit, of_predicted + of_labelled),
            n_images=int(of_labelled),
        )
        for hit, of_labelled, of_predicted in zip(hits, n_labelled, n_predicted, strict=True)
    )


def accuracy_drop(
    dense_predicted: IntArray,
    compressed_predicted: IntArray,
    labels: IntArray,
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> AccuracyDrop:
    """The accuracy lost by compression, with a paired bootstrap interval and an exact McNemar test.

    The interval is the percentile bootstrap over images (Efron and Tibshirani, An Introduction to the
    Bootstrap, chapter 13). Of a resample only two counts matter, the images that one network alone gets
    right; drawing images with replacement makes them multinomial, and as such they are drawn here.
    Where no image tells the networks apart the interval is [0, 0], whatever the number of images.
    """
    _check_aligned(dense_predicted, labels)
    _check_aligned(compressed_predicted, labels)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    dense_right, compressed_right = dense_predicted == labels, compressed_predicted == labels
    n_images = len(labels)
    only_dense = int(np.sum(dense_right & ~compressed_right))
    only_compressed = int(np.sum(compressed_right & ~dense_right))
    shares = np.array([only_dense, only_compressed, n_images - only_dense - only_compressed]) / n_images
    counts = np.random.default_rng(seed).multinomial(n_images, shares, size=n_resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n_images, [tail, 1 - tail])
    return AccuracyDrop(
        drop=(only_dense - only_compressed) / n_images,
        low=float(low),
        high=float(high),
        confidence=confidence,
        mcnemar_p=mcnemar_p(only_dense, only_compressed),
        n_only_dense_right=only_dense,
        n_only_compressed_right=only_compressed,
        n_images=n_images,
    )


def mcnemar_p(n_only_first_right: int, n_only_second_right: int) -> float:
    """The exact two-sided p of McNemar's test (a sign test on the discordant images).

    `min(1, 2 P(X <= smaller count))` with X ~ Binomial(n discordant, 1/2), summed in whole numbers
    (McNemar 1947; the exact form as in Fagerland, Lydersen and Laake 2013). 1.0 where nothing is discordant.
    """
    if n_only_first_right < 0 or n_only_second_right < 0:
        raise ValueError("counts of images cannot be negative")
    n = n_only_first_right + n_only_second_right
    term, total = 1, 0  # term is C(n, k)
    for k in range(min(n_only_first_right, n_only_second_right) + 1):
        total += term
        term = term * (n - k) // (k + 1)
    result: float = min(1.0, 2 * total / 2**n)
    return result


def integer_logits(outputs: NDArray[Any], scale: float, zero_point: int) -> NDArray[np.int32]:
    """Quantized outputs as steps from the zero point, int32 [n, classes], whatever form the runtime gave.

    Integer outputs (TFLite): `q - zero_point`. Float outputs (a QDQ ONNX file ends in DequantizeLinear):
    `round(x / scale)`, the zero point is not used. Steps from the zero point are the same for a uint8 file
    and its int8 twin. Raises ValueError where float outputs are not multiples of `scale`.
    """
    if np.issubdtype(outputs.dtype, np.integer):
        return outputs.astype(np.int32) - np.int32(zero_point)
    if not scale > 0:
        raise ValueError(f"a scale must be positive, not {scale}")
    steps = outputs.astype(np.float64) / np.float64(np.float32(scale))
    whole = np.rint(steps)
    residue = float(np.max(np.abs(steps - whole), initial=0.0))
    if not residue <= LARGEST_RESIDUE:
        raise ValueError(
            f"the outputs are not multiples of {scale:.6g} (off by up to {residue:.3f} steps):"
            " they were quantized with another scale, or not at all"
        )
    result: NDArray[np.int32] = whole.astype(np.int32)
    return result


def parity(reference: NDArray[np.integer[Any]], candidate: NDArray[np.integer[Any]]) -> Parity:
    """Compares two outputs of `integer_logits`, both [n, classes]."""
    if reference.shape != candidate.shape or reference.ndim != 2 or reference.size == 0:
        raise ValueError(
            f"shapes {list(reference.shape)} and {list(candidate.shape)}: both must be one [n, classes]"
        )
    for logits in (reference, candidate):
        if not np.issubdtype(logits.dtype, np.signedinteger):
            raise ValueError(f"parity compares the outputs of integer_logits, not {logits.dtype}")
    differences = np.abs(reference.astype(np.int64) - candidate.astype(np.int64))
    steps, counts = np.unique(differences, return_counts=True)
    return Parity(
        top1_equal=agreement(top1(reference), top1(candidate)),
        max_lsb=int(steps[-1]),
        lsb_histogram={str(step): int(count) for step, count in zip(steps, counts, strict=True)},
        n_images=len(reference),
    )


def _check_aligned(one: NDArray[Any], other: NDArray[Any]) -> None:
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"shapes {list(one.shape)} and {list(other.shape)}: both must be one [n_images]")
    if len(one) == 0:
        raise ValueError("no images: no figure can be given")
    for classes in (one, other):
        if not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(f"classes must be integers, not {classes.dtype}")


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _mean(values: list[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))
