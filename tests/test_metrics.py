"""Every figure against a slow and obvious way to get it."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn import metrics


@st.composite
def labelled(draw, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, labels) of some images."""
    n = draw(st.integers(1, 60))
    classes = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    return np.array(draw(classes)), np.array(draw(classes))


def test_top1_takes_the_lowest_index_of_equal_logits():
    logits = np.array([[1, 3, 3], [2, 2, 2], [0, 1, 5]], np.int8)
    assert metrics.top1(logits).tolist() == [1, 0, 2]
    assert metrics.top1(logits.astype(np.float32)).tolist() == [1, 0, 2]


def test_top1_refuses_what_cannot_be_ranked():
    with pytest.raises(ValueError, match="NaN"):
        metrics.top1(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match=r"\[n_images, n_classes\], not \[3\]"):
        metrics.top1(np.zeros(3))


@given(labelled())
def test_counts_and_shares_are_those_of_a_loop(case):
    predicted, labels = case
    confusion = metrics.confusion_matrix(predicted, labels, 4)
    for truth in range(4):
        for guess in range(4):
            count = sum(1 for p, t in zip(predicted, labels, strict=True) if p == guess and t == truth)
            assert confusion[truth, guess] == count
    right = sum(int(p == t) for p, t in zip(predicted, labels, strict=True))
    assert metrics.accuracy(predicted, labels) == pytest.approx(right / len(labels))


@given(labelled())
def test_scores_are_those_of_counting_class_by_class(case):
    predicted, labels = case
    scores = metrics.score(predicted, labels, 4)
    recalls, f1s = [], []
    for k, one in enumerate(scores.per_class):
        hits, n_labelled, n_predicted = (
            int(np.sum(mask)) for mask in ((predicted == k) & (labels == k), labels == k, predicted == k)
        )
        assert one.n_images == n_labelled
        assert one.recall == (pytest.approx(hits / n_labelled) if n_labelled else None)
        assert one.precision == (pytest.approx(hits / n_predicted) if n_predicted else None)
        if one.recall is not None:
            recalls.append(one.recall)
        if one.recall and one.precision:
            harmonic_mean = 2 / (1 / one.recall + 1 / one.precision)
            assert one.f1 == pytest.approx(harmonic_mean)
        if n_labelled or n_predicted:
            f1s.append(one.f1)
    assert scores.macro_recall == pytest.approx(np.mean(recalls))
    assert scores.macro_f1 == pytest.approx(np.mean(f1s))
    assert scores.n_images == len(labels) == sum(map(sum, scores.confusion))


def test_scores_are_those_of_scikit_learn():
    """Figures of scikit-learn 1.9: precision_recall_fscore_support, balanced_accuracy_score, f1_score."""
    predicted, labels = np.array([0, 0, 1, 2, 2, 2, 1, 0]), np.array([0, 1, 1, 2, 2, 0, 1, 0])
    scores = metrics.score(predicted, labels, 3)
    assert [one.precision for one in scores.per_class] == pytest.approx([2 / 3, 1, 2 / 3])
    assert [one.recall for one in scores.per_class] == pytest.approx([2 / 3, 2 / 3, 1])
    assert [one.f1 for one in scores.per_class] == pytest.approx([2 / 3, 0.8, 0.8])
    assert scores.macro_recall == pytest.approx(0.7777777777777777)
    assert scores.macro_f1 == pytest.approx(0.7555555555555555)


def test_a_class_without_images_has_no_recall_and_does_not_pull_the_mean_down():
    scores = metrics.score(np.array([0, 1]), np.array([0, 1]), 3)
    assert scores.per_class[2] == metrics.ClassScore(None, None, None, 0)
    assert scores.macro_recall == scores.macro_f1 == 1.0
    missed = metrics.score(np.array([0, 0]), np.array([0, 1]), 2).per_class[1]
    assert missed == metrics.ClassScore(None, 0.0, 0.0, 1)


@pytest.mark.parametrize(
    ("predicted", "labels", "words"),
    [
        ([0, 1], [0], r"shapes \[2\] and \[1\]"),
        ([], [], "no images"),
        ([[0]], [[0]], r"both must be one \[n_images\]"),
        ([0.5], [0], "classes must be integers, not float64"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(predicted, labels, words):
    predicted = np.array(predicted) if predicted else np.array([], int)
    labels = np.array(labels) if labels else np.array([], int)
    with pytest.raises(ValueError, match=words):
        metrics.accuracy(predicted, labels)


@pytest.mark.parametrize("bad", [-1, 3])
def test_a_class_out_of_range_is_refused(bad: int):
    with pytest.raises(ValueError, match=r"predicted must lie in 0\.\.2"):
        metrics.confusion_matrix(np.array([bad]), np.array([0]), 3)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        metrics.confusion_matrix(np.array([0]), np.array([bad]), 3)


# The drop


def drop_of(only_dense: int, only_compressed: int, both: int, neither: int, **options):
    """A drop with these counts of images."""
    n = only_dense + only_compressed + both + neither
    labels = np.zeros(n, int)
    dense_wrong = np.array([0] * only_dense + [1] * only_compressed + [0] * both + [1] * neither)
    compressed_wrong = np.array([1] * only_dense + [0] * only_compressed + [0] * both + [1] * neither)
    return metrics.accuracy_drop(dense_wrong, compressed_wrong, labels, **options)


def test_the_drop_of_ten_mnist_images():
    drop = drop_of(14, 4, 9900, 82)
    assert drop.drop == pytest.approx(0.001)
    assert drop.low < 0.001 < drop.high
    # The standard error of a paired difference: sqrt(b + c - (b - c)^2 / n) / n.
    standard_error = np.sqrt(18 - 100 / 10_000) / 10_000
    assert drop.low == pytest.approx(0.001 - 1.96 * standard_error, abs=1e-4)
    assert drop.high == pytest.approx(0.001 + 1.96 * standard_error, abs=1e-4)
    assert (drop.n_only_dense_right, drop.n_only_compressed_right, drop.n_images) == (14, 4, 10_000)


def test_the_interval_is_that_of_resampling_images():
    """The multinomial shortcut against the bootstrap done by drawing images."""
    random = np.random.default_rng(1)
    gains = np.repeat([1, -1, 0], [30, 12, 358])
    means = [np.mean(random.choice(gains, size=len(gains))) for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    drop = drop_of(30, 12, 300, 58)
    assert drop.low == pytest.approx(low, abs=0.004)
    assert drop.high == pytest.approx(high, abs=0.004)


def test_the_interval_covers_the_truth_as_often_as_it_claims():
    random = np.random.default_rng(2)
    shares = [0.04, 0.02, 0.9, 0.04]
    hits = 0
    for _ in range(300):
        b, c, both, neither = random.multinomial(1000, shares)
        drop = drop_of(b, c, both, neither, n_resamples=1000)
        hits += drop.low <= 0.02 <= drop.high
    assert 0.91 <= hits / 300 <= 0.985


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 100))
@settings(max_examples=50, deadline=None)
def test_swapping_the_networks_turns_the_drop_around(b: int, c: int, both: int):
    one, other = drop_of(b, c, both, 3), drop_of(c, b, both, 3)
    assert one.drop == -other.drop
    assert one.mcnemar_p == other.mcnemar_p
    assert one.low <= one.drop <= one.high


def test_the_interval_is_seeded_and_grows_with_confidence():
    assert drop_of(9, 3, 400, 5) == drop_of(9, 3, 400, 5)
    narrow, wide = drop_of(9, 3, 400, 5, confidence=0.5), drop_of(9, 3, 400, 5, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    with pytest.raises(ValueError, match="confidence"):
        drop_of(9, 3, 400, 5, confidence=95)


def test_networks_that_never_differ():
    drop = drop_of(0, 0, 90, 10)
    assert (drop.drop, drop.low, drop.high, drop.mcnemar_p) == (0, 0, 0, 1)


def test_ten_thousand_images_take_no_time():
    import time

    start = time.perf_counter()
    drop_of(120, 80, 9000, 800)
    assert time.perf_counter() - start < 0.2


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_counts_every_way_the_images_could_have_split(b: int, c: int):
    n = b + c
    as_uneven = sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(b - c))
    assert metrics.mcnemar_p(b, c) == pytest.approx(as_uneven / 2**n)


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (7, 3, 0.34375),
        (14, 4, 0.0308837890625),
        (120, 80, 0.005685155996750306),
        (4900, 5100, 0.04658552770494645),
    ],
)
def test_mcnemar_is_the_binomial_test_of_scipy(b: int, c: int, p: float):
    assert metrics.mcnemar_p(b, c) == pytest.approx(p, rel=1e-8)


def test_mcnemar_of_extremes():
    assert metrics.mcnemar_p(0, 10) == 2 / 1024
    assert metrics.mcnemar_p(0, 5000) == 0.0
    with pytest.raises(ValueError, match="negative"):
        metrics.mcnemar_p(-1, 2)


# Integer logits and parity


@given(
    st.lists(st.integers(0, 255), min_size=3, max_size=30),
    st.floats(1e-5, 10),
    st.integers(0, 255),
)
def test_a_float_output_and_its_int8_twin_give_the_same_steps(steps, scale, zero_point):
    scale = float(np.float32(scale))
    q = np.array(steps, np.uint8).reshape(1, -1)
    dequantized = (q.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)
    int8 = (q.astype(np.int32) - 128).astype(np.int8)
    from_float = metrics.integer_logits(dequantized, scale, zero_point)
    np.testing.assert_array_equal(from_float, metrics.integer_logits(q, scale, zero_point))
    np.testing.assert_array_equal(from_float, metrics.integer_logits(int8, scale, zero_point - 128))
    assert from_float.dtype == np.int32


def test_logits_of_another_scale_are_refused():
    logits = np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32)
    with pytest.raises(ValueError, match=r"not multiples of 0\.1"):
        metrics.integer_logits(logits, 0.1, 0)
    with pytest.raises(ValueError, match="not multiples"):
        metrics.integer_logits(np.array([[np.nan]]), 0.1, 0)
    with pytest.raises(ValueError, match="must be positive"):
        metrics.integer_logits(logits, 0.0, 0)


def test_parity_counts_values_by_distance():
    reference = np.array([[5, 0, 0], [1, 7, 2], [3, 3, 0]], np.int32)
    candidate = np.array([[5, 0, 1], [1, 7, 2], [3, 6, 0]], np.int32)
    parity = metrics.parity(reference, candidate)
    assert parity.lsb_histogram == {"0": 7, "1": 1, "3": 1}
    assert parity.max_lsb == 3 and parity.n_images == 3
    assert parity.top1_equal == pytest.approx(2 / 3)  # the tie of the third image goes to the lowest index


def test_parity_does_not_wrap_around():
    low, high = np.array([[-128, 0]], np.int8), np.array([[127, 0]], np.int8)
    assert metrics.parity(low, high).max_lsb == 255


def test_parity_refuses_raw_and_mismatched_outputs():
    steps = np.zeros((2, 3), np.int32)
    with pytest.raises(ValueError, match=r"shapes \[2, 3\] and \[1, 3\]"):
        metrics.parity(steps, steps[:1])
    with pytest.raises(ValueError, match="compares the outputs of integer_logits, not uint8"):
        metrics.parity(steps, steps.astype(np.uint8))
    with pytest.raises(ValueError, match="shapes"):
        metrics.parity(steps[:0], steps[:0])


def test_following_is_judged_where_the_float_network_is_sure() -> None:
    reference = np.array(
        [[0.7, 0.2, 0.1, 0, 0, 0, 0], [0.4, 0.36, 0.24, 0, 0, 0, 0], [0.2, 0.5, 0.3, 0, 0, 0, 0]]
    )
    # The first is followed; the second, a near tie, is not; the third is sure and not followed.
    found = np.array([[9, 1, 1, 0, 0, 0, 0], [1, 9, 1, 0, 0, 0, 0], [9, 3, 8, 7, 6, 5, 4]], np.int8)
    follows = metrics.follows(found, reference)
    assert follows.top1 == pytest.approx(1 / 3)
    assert follows.n_sure == 2 and follows.where_sure == 0.5
    # Class 1 is the sixth of the third picture's seven.
    assert follows.in_top5 == pytest.approx(2 / 3)


def test_a_network_follows_itself_and_no_sure_image_is_no_figure() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(9), size=50)
    assert metrics.follows(probabilities, probabilities).top1 == 1
    assert metrics.follows(probabilities, probabilities).in_top5 == 1
    level = np.zeros((3, 4))
    assert metrics.follows(level, level).where_sure is None
