"""Fillings by brute force, pixel by pixel."""

import itertools

import numpy as np
import pytest

from sparsecnn.checks import SettingError
from sparsecnn.data.filling import METHODS, linear, morphology, nearest


def half_known(seed, shape=(9, 14), share=0.3):
    random = np.random.default_rng(seed)
    observed = random.random(shape) < share
    observed[0, 0] = True
    return random.uniform(2, 80, shape), observed


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_nearest_takes_the_value_of_an_observed_pixel_that_none_is_nearer_than(seed, around):
    values, observed = half_known(seed)
    filled = nearest(values, observed, around)
    width = values.shape[1]
    for row, column in np.ndindex(*values.shape):
        distances = {}
        for other, place in itertools.product(np.argwhere(observed), (-width, 0, width) if around else (0,)):
            away = (other[0] - row) ** 2 + (other[1] + place - column) ** 2
            distances.setdefault(away, set()).add(values[tuple(other)])
        assert filled[row, column] in distances[min(distances)]


@pytest.mark.parametrize("around", [False, True])
def test_linear_gives_back_a_plane_between_what_is_observed(around):
    row, column = np.indices((8, 200))
    values = 10.0 + row if around else 10.0 + 2 * row - 0.03 * column
    observed = np.random.default_rng(0).random(values.shape) < 0.2
    observed[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    np.testing.assert_allclose(linear(values, observed, around), values, atol=1e-9)


def test_linear_goes_on_around_the_ends():
    values, observed = np.full((2, 30), 5.0), np.zeros((2, 30), dtype=bool)
    values[:, 1], values[:, -2] = 1.0, 4.0
    observed[:, [1, -2]] = True
    np.testing.assert_allclose(linear(values, observed, True)[0, [-2, -1, 0, 1]], [4, 3, 2, 1])


def test_where_a_line_is_observed_linear_is_nearest():
    values, observed = half_known(0)
    observed[:] = False
    observed[3, ::2] = True
    np.testing.assert_array_equal(linear(values, observed), nearest(values, observed))


def test_morphology_lets_the_nearer_return_win_and_leaves_level_ground_level():
    values, observed = half_known(1, (20, 40), 0.2)
    np.testing.assert_allclose(morphology(np.full(values.shape, 7.0), observed), 7.0)
    values[:] = 30.0
    values[9:12, 19:22], observed[9:12, 19:22] = 5.0, True
    assert morphology(values, observed)[10, 20] < 6  # a single cell would be smoothed away
    assert morphology(values, observed)[0, 0] == pytest.approx(30)


def over_windows(image, size, what):
    """Of each pixel ``what`` makes of the square around it, the image being mirrored at its edges."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, size // 2, mode="symmetric"), (size, size))
    return what(windows)


def largest(windows):
    return windows.max(axis=(2, 3))


def by_steps(values, observed):
    """morphology() step by step, by its words, from windows alone."""
    diamond = np.array([[abs(y) + abs(x) <= 2 for x in range(-2, 3)] for y in range(-2, 3)])
    nearness = np.where(observed, 100 - values, 0)
    nearness = over_windows(nearness, 5, lambda windows: np.where(diamond, windows, 0).max(axis=(2, 3)))
    nearness = over_windows(over_windows(nearness, 5, largest), 5, lambda windows: windows.min(axis=(2, 3)))
    for size in (7, 31):
        nearness = np.where(nearness > 0, nearness, over_windows(nearness, size, largest))
    known = nearness > 0
    median = over_windows(nearness, 5, lambda windows: np.median(windows, axis=(2, 3)))
    nearness = np.where(known & (median > 0), median, nearness)
    gaussian = np.exp(-0.5 * (np.arange(-2, 3) / 1.1) ** 2)
    gaussian = np.outer(gaussian, gaussian) / gaussian.sum() ** 2
    total, share = (
        over_windows(each, 5, lambda windows: (gaussian * windows).sum(axis=(2, 3))) for each in (nearness, known)
    )
    far = 100 - np.where(known, total / np.where(known, share, 1), 0)
    return np.where(known, far, nearest(far, known))


@pytest.mark.parametrize("share", [0.3, 0.03, 0.002])
def test_morphology_is_what_its_words_say(share):
    values, observed = half_known(5, (40, 60), share)
    if share < 0.01:  # so few that the widest window does not reach every pixel
        observed[:, 20:] = False
    np.testing.assert_allclose(morphology(values, observed), by_steps(values, observed), rtol=1e-9)


def test_morphology_goes_on_around_the_ends():
    values, observed = half_known(3, (20, 40), 0.2)
    shifted = [np.roll(part, 5, axis=1) for part in (values, observed)]
    np.testing.assert_allclose(np.roll(morphology(*shifted, True), -5, axis=1), morphology(values, observed, True))


def test_morphology_reaches_every_cell():
    values, observed = np.full((64, 200), 12.0), np.zeros((64, 200), dtype=bool)
    observed[0, 0] = True
    np.testing.assert_allclose(morphology(values, observed), 12.0)


@pytest.mark.parametrize("method", METHODS.values())
@pytest.mark.parametrize("around", [False, True])
def test_what_lies_under_missing_pixels_changes_nothing(method, around):
    values, observed = half_known(2)
    altered = np.where(observed, values, np.nan)
    np.testing.assert_array_equal(method(altered, observed, around), method(values, observed, around))


@pytest.mark.parametrize("method", METHODS.values())
def test_to_fill_from_nothing_is_refused(method):
    with pytest.raises(SettingError, match="observed with no pixel in it is not allowed"):
        method(np.ones((3, 3)), np.zeros((3, 3), dtype=bool))
