"""Corrupted images are what their definitions say, and always the same ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_core.checks import InputError
from supervised.vision.corrupted import corrupted, kinds_for
from supervised.vision.corruptions import blur, weather
from supervised.vision.corruptions.table import COLOUR, CORRUPTIONS, SEVERITIES


def plain(value: int, *, count: int = 4, channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.full((count, channels, size, size), value, dtype=torch.uint8)


def photographs(count: int = 2, size: int = 32) -> torch.Tensor:
    """Smooth images with an edge."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(7 * x + 3 * y + shift) * 60 + 100 + 50 * (x > 0.5) for shift in range(3)]
    image = torch.from_numpy(np.stack(waves).astype(np.uint8))
    return image.expand(count, -1, -1, -1).contiguous()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_all_kinds_keep_shape_and_type_and_repeat(kind):
    images = photographs()
    found = corrupted(images, kind, 3)
    assert found.shape == images.shape and found.dtype == torch.uint8
    assert torch.equal(found, corrupted(images, kind, 3))
    assert not torch.equal(found, images)
    if kind not in COLOUR:
        assert corrupted(images[:, :1], kind, 3).shape == (2, 1, 32, 32)


@pytest.mark.parametrize(
    ("kind", "severity", "spread"),
    [
        ("gaussian_noise", 1, 0.04),
        ("gaussian_noise", 5, 0.10),
        ("speckle_noise", 4, 0.16 * 0.4),
        ("shot_noise", 5, (0.4 / 50) ** 0.5),
    ],
)
def test_noise_has_the_spread_of_its_definition(kind, severity, spread):
    found = corrupted(plain(102), kind, severity).double() / 255  # 102 / 255 = 0.4
    assert float(found.std()) == pytest.approx(spread, rel=0.03)
    assert float(found.mean()) == pytest.approx(0.4, abs=0.005)


def test_impulses_are_black_and_white_in_equal_parts():
    found = corrupted(plain(102, count=40), "impulse_noise", 5)
    black, white = (float((found == value).float().mean()) for value in (0, 255))
    assert black + white == pytest.approx(0.07, rel=0.05)
    assert black / white == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "severity", "before", "after"),
    [
        # The value, the highest of the three, rises by 0.3; the others keep their part of it.
        ("brightness", 5, (100, 50, 0), (176, 88, 0)),  # 100 + 76.5; half of it
        ("saturate", 2, (100, 50, 0), (100, 95, 90)),  # a tenth of a saturation of 1
        ("contrast", 3, (100, 50, 0), (100, 50, 0)),  # one value is its own mean
    ],
)
def test_colours(kind, severity, before, after):
    image = torch.tensor(before, dtype=torch.uint8)[None, :, None, None].expand(1, 3, 4, 4)
    assert corrupted(image, kind, severity)[0, :, 0, 0].tolist() == list(after)


def test_contrast_brings_values_closer_to_their_mean():
    image = torch.tensor([[0, 200]], dtype=torch.uint8).expand(1, 1, 2, 2)
    assert corrupted(image, "contrast", 2)[0, 0, 0].tolist() == [50, 150]


def test_a_point_moves_along_its_line():
    point = np.zeros((1, 21, 21, 1))
    point[0, 10, 10] = 1
    for angle, line in ((0, np.s_[0, 10, :, 0]), (-90, np.s_[0, :, 10, 0])):
        found = blur.moved(point, 6, 2.0, np.array([float(angle)]))
        weights = np.exp(-(np.arange(13) ** 2) / 8)
        expected = np.sort(weights / weights.sum())[::-1]
        there = np.sort(found[line])[::-1]
        assert np.allclose(there[:11], expected[:11]) and found.sum() == pytest.approx(there.sum())


def test_a_disk_of_focus():
    # Radius 1: the centre and its four neighbours, a fifth each, nearly without a soft edge.
    disk = blur._disk(1.0, 0.2)[6:11, 6:11]
    assert disk.sum() == pytest.approx(1) and disk[2, 2] == pytest.approx(0.2, abs=1e-4)
    assert disk[1, 2] == pytest.approx(0.2, abs=1e-4) and disk[1, 1] < 1e-4


@settings(max_examples=15)
@given(st.integers(5, 40), st.floats(1.0, 2.2))
def test_enlarging_is_what_scipy_does(size, factor):
    from scipy.ndimage import zoom

    image = np.random.default_rng(0).uniform(size=(1, size, size, 1))
    kept = int(np.ceil(size / factor))
    top = (size - kept) // 2
    whole = zoom(image[0, top : top + kept, top : top + kept, 0], factor, order=1)
    trim = (whole.shape[0] - size) // 2
    expected = whole[trim : trim + size, trim : trim + size]
    assert np.allclose(blur.enlarged(image, factor)[0, ..., 0], expected)


def test_clouds_are_heights_between_zero_and_one():
    maps = weather.plasma(3, 16, 2.0, np.random.default_rng(0))
    assert maps.shape == (3, 16, 16) and (maps.min((1, 2)) == 0).all()
    assert (maps.max((1, 2)) == 1).all() and not np.array_equal(maps[0], maps[1])


def test_coarse_pixels_are_means():
    image = torch.tensor([[0, 200], [100, 100]], dtype=torch.uint8).expand(1, 1, 2, 2)
    assert corrupted(image, "pixelate", 1).unique().tolist() == [100]  # 2 x 0.95: one pixel


@pytest.mark.parametrize("kind", ["gaussian_noise", "motion_blur", "contrast", "jpeg_compression"])
def test_severities_grow(kind):
    images = photographs()
    away = [
        float((corrupted(images, kind, severity).double() - images).abs().mean())
        for severity in SEVERITIES
    ]
    assert away == sorted(away)


def test_grey_images_have_no_saturation():
    assert set(kinds_for(["all"], 3)) - set(kinds_for(["all"], 1)) == {"saturate"}
    with pytest.raises(InputError, match="corruptions='saturate': is for colour images"):
        corrupted(plain(1, channels=1), "saturate", 1)
    with pytest.raises(InputError, match="corruption='frost': must be one of gaussian_noise"):
        corrupted(plain(1), "frost", 1)
