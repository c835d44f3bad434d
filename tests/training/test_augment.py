import pytest
import torch

from edgecnn.training.augment import (
    MAX_ELASTIC,
    MAX_ROTATION_DEG,
    MIN_CROP_AREA,
    WARPS,
    augment,
    elastic_field,
    random_maps,
    sampling_grid,
)


def picture_with_a_dot(x: int, y: int, size: int = 29) -> torch.Tensor:
    image = torch.zeros(1, 1, size, size)
    image[0, 0, y, x] = 1.0
    return image


def centre_of_mass(image: torch.Tensor) -> tuple[float, float]:
    weights = image[0, 0] / image[0, 0].sum()
    axis = torch.arange(image.shape[-1], dtype=torch.float32)
    return float((weights.sum(0) * axis).sum()), float((weights.sum(1) * axis).sum())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_names_change_nothing() -> None:
    images = torch.rand(4, 1, 28, 28)
    assert augment(images, (), generator()) is images


@pytest.mark.parametrize("name", [*WARPS, "color"])
def test_each_augmentation_changes_pictures_and_follows_its_seed(name: str) -> None:
    images = torch.rand(16, 1, 28, 28)
    first, again, other = (augment(images, (name,), generator(seed)) for seed in (0, 0, 1))
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.allclose(first, images)


def test_pictures_of_a_batch_are_moved_differently() -> None:
    moved = augment(picture_with_a_dot(14, 14).repeat(8, 1, 1, 1), ("shift",), generator())
    assert len({centre_of_mass(image[None]) for image in moved}) == 8


def test_a_shift_stays_within_its_limit() -> None:
    for seed in range(20):
        x, y = centre_of_mass(augment(picture_with_a_dot(14, 14), ("shift",), generator(seed)))
        assert abs(x - 14) <= 0.08 * 29 + 0.1
        assert abs(y - 14) <= 0.08 * 29 + 0.1


def test_a_rotation_keeps_the_distance_to_the_centre() -> None:
    for seed in range(20):
        x, y = centre_of_mass(augment(picture_with_a_dot(24, 14), ("rotate",), generator(seed)))
        angle = torch.atan2(torch.tensor(y - 14), torch.tensor(x - 14))
        assert (x - 14) ** 2 + (y - 14) ** 2 == pytest.approx(100, rel=0.05)
        assert abs(torch.rad2deg(angle)) <= MAX_ROTATION_DEG + 1


def test_flip_mirrors_some_and_leaves_the_others() -> None:
    images = torch.rand(32, 1, 9, 9)
    flipped = augment(images, ("flip",), generator())
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(flipped, images, strict=True)]
    mirrored = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(flipped, images, strict=True)]
    assert all(s != m for s, m in zip(same, mirrored, strict=True))
    assert 5 < sum(mirrored) < 27


def test_the_sampling_grid_is_that_of_torch() -> None:
    theta = torch.rand(5, 2, 3, generator=generator()) - 0.5
    for height, width in ((28, 28), (5, 9), (1, 4)):
        expected = torch.nn.functional.affine_grid(theta, [5, 1, height, width], align_corners=False)
        torch.testing.assert_close(sampling_grid(theta, height, width), expected, atol=1e-6, rtol=0)


def test_a_crop_shows_a_part_of_the_picture_and_nothing_outside() -> None:
    maps = random_maps(500, ("crop",), generator())
    zoom_x, zoom_y, shift_x, shift_y = maps[:, 0, 0], maps[:, 1, 1], maps[:, 0, 2], maps[:, 1, 2]
    assert (zoom_x.abs() + shift_x.abs()).max() <= 1 + 1e-6
    assert (zoom_y.abs() + shift_y.abs()).max() <= 1 + 1e-6
    area = zoom_x * zoom_y
    assert MIN_CROP_AREA * 0.85 <= float(area.min()) < 0.6 and 0.9 < float(area.max()) <= 1
    assert float(maps[:, 0, 1].abs().max()) == 0  # not turned


def test_colour_jitter_leaves_shapes_and_changes_each_picture_by_itself() -> None:
    images = torch.rand(8, 3, 5, 5)
    jittered = augment(images, ("color",), generator())
    ranks = [image.mean(0).flatten().argsort() for image in images]
    assert all(
        torch.equal(image.mean(0).flatten().argsort(), r) for image, r in zip(jittered, ranks, strict=True)
    )
    assert len({round(float(a.mean() - b.mean()), 5) for a, b in zip(jittered, images, strict=True)}) == 8


def test_an_elastic_distortion_bends_a_straight_line_smoothly_and_within_its_limit() -> None:
    """A column of single pixels: each row of the distorted one is elsewhere, next to its neighbours."""
    size = 57
    image = torch.zeros(1, 1, size, size)
    image[..., 27:30] = 1.0
    axis = torch.arange(size, dtype=torch.float32)
    for seed in range(20):
        distorted = augment(image, ("elastic",), generator(seed))[0, 0]
        centres = (distorted * axis).sum(dim=1) / distorted.sum(dim=1)
        assert 0.01 * size < centres.max() - centres.min()
        # Cubic curves go beyond their nodes by an eighth or so.
        assert (centres - 28).abs().max() <= 1.3 * MAX_ELASTIC * size
        assert centres.diff().abs().max() < 1


def test_an_elastic_field_fits_pictures_that_are_no_squares() -> None:
    assert elastic_field(3, 20, 31, generator()).shape == (3, 20, 31, 2)
    assert augment(torch.rand(3, 2, 20, 31), ("elastic", "shift"), generator()).shape == (3, 2, 20, 31)
