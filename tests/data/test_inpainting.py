"""Every fill against what it is by definition, pixel by pixel."""

import builtins
import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsecnn.checks import SettingError
from sparsecnn.data import inpainting
from sparsecnn.data.inpainting import ENOUGH, METHODS, blur, check_installed, nearest


def inputs(seed=0, count=3, channels=3, size=(9, 12), observed=0.3):
    """Images, and masks with one observed pixel at least, of which whole parts may be missing."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, channels, *size), dtype=np.uint8)
    masks = random.random((count, 1, *size)) < observed
    masks[::2, :, :, size[1] // 2 :] = False
    masks[:, 0, random.integers(size[0]), random.integers(size[1])] = True
    return images, masks


def distances(shape):
    """The squares of those between any two pixels, H x W x H x W."""
    y, x = np.indices(shape)
    return (y[..., None, None] - y) ** 2 + (x[..., None, None] - x) ** 2


@given(st.integers(0, 1000), st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_nearest_is_a_nearest_observed_pixel(seed, observed):
    images, masks = inputs(seed, observed=observed)
    filled = nearest(images, masks)
    for image, (mask,), found in zip(images, masks, filled, strict=True):
        far = np.where(mask, distances(mask.shape), 10**6)
        for place in np.ndindex(mask.shape):
            among = image[:, far[place] == far[place].min()]  # a pixel has all of its channels from one
            assert (found[:, *place] == among.T).all(axis=1).any()


def gaussian(sigma):
    """Scipy's along one axis: up to four standard deviations, of sum 1."""
    reach = int(4 * sigma + 0.5)
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return weight / weight.sum()


@given(st.integers(0, 1000), st.sampled_from([0.005, 0.02, 0.1, 0.5]), st.sampled_from([(9, 12), (20, 7), (7, 20)]))
def test_blur_is_a_weighted_mean_of_observed_pixels(seed, observed, size):
    images, masks = inputs(seed, count=2, channels=2, size=size, observed=observed)
    height, width = images.shape[2:]
    filled = blur(images, masks)
    for image, (mask,), found in zip(images, masks, filled, strict=True):
        for place in np.argwhere(~mask):
            sigma = 1
            while True:
                kernel = gaussian(sigma)
                reach = len(kernel) // 2
                across = [
                    np.array([kernel[reach + i - here] if abs(i - here) <= reach else 0 for i in range(length)])
                    for here, length in zip(place, (height, width), strict=True)
                ]
                weight = np.outer(*across) * mask
                if weight.sum() > (ENOUGH if sigma < max(height, width) else 0):
                    break
                sigma *= 2
            mean = (weight * image).sum(axis=(1, 2)) / weight.sum()
            np.testing.assert_allclose(found[:, *place], mean, rtol=1e-3, atol=0.02)


def distance_outside(shape, place):
    """From the four neighbours of a pixel outwards, by the eikonal equation |grad T| = 1, upwind."""
    distance = np.full(np.add(shape, 2), 1e6)
    neighbours = np.array(place) + 1 + [(-1, 0), (1, 0), (0, -1), (0, 1)]
    while True:
        distance[*neighbours.T] = 0
        before, inner = distance.copy(), distance[1:-1, 1:-1]
        near = np.minimum(distance[:-2, 1:-1], distance[2:, 1:-1]), np.minimum(distance[1:-1, :-2], distance[1:-1, 2:])
        least, apart = np.minimum(*near), np.minimum(np.abs(near[0] - near[1]), 1)
        inner[:] = np.minimum(inner, np.where(apart < 1, least + (apart + np.sqrt(2 - apart**2)) / 2, least + 1))
        if (before == distance).all():
            return inner


@given(st.integers(0, 1000), st.sampled_from([1, 3]), st.data())
def test_inpainting_of_one_pixel_is_teleas_weighted_mean(seed, channels, data):
    images = np.random.default_rng(seed).integers(0, 256, (1, channels, 12, 14), dtype=np.uint8)
    place = data.draw(st.tuples(st.integers(1, 10), st.integers(1, 12)))
    masks = np.ones((1, 1, 12, 14), bool)
    masks[0, 0, *place] = False
    # Weights of the paper's equations: distance and level. With observed pixels on all sides its direction is the same
    # for all of them; the missing pixel itself is at a distance of the square root of one half.
    far = distances((12, 14))[*place]
    near = (far > 0) & (far <= inpainting.RADIUS**2)
    level = 1 + np.sqrt(0.5) + distance_outside((12, 14), place)
    weight = np.where(near, 1 / (np.maximum(far, 1) ** 1.5 * level), 0)
    mean = (weight * images[0]).sum(axis=(1, 2)) / weight.sum()
    found = METHODS["inpainting"](images, masks)[0, :, *place]
    # Of the image's gradient OpenCV keeps the direction, which moves a pixel by the square root of two; it rounds.
    np.testing.assert_allclose(found, mean, atol=np.sqrt(2) + 1)


@pytest.mark.parametrize(("size", "value"), [((28, 28), 200), ((64, 48), 255)])
def test_one_observed_pixel_fills_the_image(size, value):
    images, masks = np.full((2, 1, *size), value, np.uint8), np.zeros((2, 1, *size), bool)
    masks[0, 0, 0, 0] = masks[1, 0, -1, size[1] // 2] = True
    images = np.where(masks, images, 7)  # which nothing may see
    for name, rounding in (("nearest", 0), ("blur", 1e-3), ("inpainting", 20)):  # at each pixel of OpenCV's way, to 1
        np.testing.assert_allclose(METHODS[name](images, masks), value, atol=rounding)


@pytest.mark.parametrize("name", METHODS)
def test_a_slope_comes_back(name):
    y, x = np.indices((28, 28))
    images = np.stack([np.stack([4 * x + 3 * y, 8 * y, 220 - 8 * x])]).astype(np.uint8)
    masks = np.random.default_rng(0).random((1, 1, 28, 28)) < 0.5
    errors = np.abs(METHODS[name](images, masks) - images)[np.broadcast_to(~masks, images.shape)]
    assert errors.mean() < 8 and errors.max() <= 24  # a step to the next pixel is 4 to 8, the whole 220


@given(st.integers(0, 1000), st.sampled_from(list(METHODS)), st.sampled_from([1, 3]), st.floats(0.05, 1))
def test_every_fill_leaves_observed_pixels_and_stays_within_their_range(seed, name, channels, observed):
    images, masks = inputs(seed, channels=channels, observed=observed)
    filled = METHODS[name](images, masks)
    assert filled.dtype == np.float32 and filled.shape == images.shape
    everywhere = np.broadcast_to(masks, images.shape)
    assert (filled[everywhere] == images[everywhere]).all()
    # What lies under the mask is never seen, and images not each other.
    unseen = np.where(masks, images, np.random.default_rng(seed).integers(0, 256, images.shape)).astype(np.uint8)
    assert (METHODS[name](unseen, masks) == filled).all()
    assert (METHODS[name](images[1:2], masks[1:2]) == filled[1:2]).all()
    if name == "inpainting":  # which follows slopes beyond what it has seen
        assert filled.min() >= 0 and filled.max() <= 255
        return
    for image, mask, found in zip(images, masks, filled, strict=True):
        for of_channel, there in zip(image, found, strict=True):
            seen = of_channel[mask[0]]
            assert seen.min() - 1e-3 <= there.min() and there.max() <= seen.max() + 1e-3
    assert filled.max() <= 255


def test_more_images_than_a_thread_takes_stay_in_order():
    images, masks = inputs(count=2 * inpainting.PART + 1)
    for fill in METHODS.values():
        apart = np.concatenate([fill(images[i : i + 1], masks[i : i + 1]) for i in range(len(images))])
        assert (fill(images, masks) == apart).all()


@pytest.mark.parametrize("name", METHODS)
def test_of_no_images_there_are_none(name):
    images, masks = inputs()
    assert METHODS[name](images[:0], masks[:0]).shape == (0, *images.shape[1:])


@pytest.mark.parametrize("name", METHODS)
def test_an_image_with_nothing_observed_is_refused(name):
    images, masks = inputs()
    masks[1] = False
    with pytest.raises(SettingError, match="no observed pixel") as refusal:
        METHODS[name](images, masks)
    assert "\n" not in str(refusal.value)


def test_without_opencv_its_fill_is_refused_in_one_line(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "cv2" else found(name, *more))
    for refused in (lambda: METHODS["inpainting"](*inputs()), lambda: check_installed("inpainting")):
        with pytest.raises(SettingError, match="fill='inpainting' needs OpenCV: pip install") as refusal:
            refused()
        assert "\n" not in str(refusal.value)
    monkeypatch.setattr(builtins, "__import__", _without_cv2(builtins.__import__))
    for fill in ("own", "grey", "nearest", "blur"):  # which don't ask for it
        check_installed(fill)
        if fill in METHODS:
            METHODS[fill](*inputs())


def _without_cv2(found):
    def take(name, *more):
        assert name != "cv2"
        return found(name, *more)

    return take
