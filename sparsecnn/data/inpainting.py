"""Missing pixels of images filled from what is around them, before a network sees the image.

Every function takes ``images`` N x C x H x W, uint8, and ``observed`` N x 1 x H x W, bool, as numpy arrays, and
returns N x C x H x W, float32, of values from 0 to 255, observed pixels as they are. An image with nothing observed
raises SettingError.
"""

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from ..checks import SettingError
from .filling import at_nearest

__all__ = ["METHODS", "blur", "check_installed", "inpainting", "nearest"]

ENOUGH = 1e-3  # of a Gaussian's weight on observed pixels, for a mean of these
RADIUS = 3  # pixels that Telea's method looks around
PART = 16  # images that a thread fills at a time


def nearest(images: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The value of the nearest observed pixel (scipy's Euclidean distance transform)."""
    return _in_parts(_nearest, images, observed)


def _nearest(images: np.ndarray, observed: np.ndarray) -> np.ndarray:
    filled = np.empty(images.shape, np.float32)
    for image, mask, place in zip(images, observed[:, 0], filled, strict=True):
        place[:] = at_nearest(image, mask)
    return filled


def blur(images: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The mean of observed pixels, weighted by a Gaussian of a standard deviation of one pixel, or where that finds
    hardly any (a weight below 1e-3), of two, four and so on: normalised convolution of Knutsson and Westin, CVPR 1993.
    """
    return _in_parts(_blur, images, observed)


def _blur(images: np.ndarray, observed: np.ndarray) -> np.ndarray:
    values, filled = np.where(observed, images, 0).astype(np.float32), np.zeros(images.shape, np.float32)
    left, sigma = np.ones(observed.shape, bool), 1.0
    while left.any():
        weight, total = (
            ndimage.gaussian_filter(each, sigma, mode="constant", axes=(2, 3))
            for each in (observed.astype(np.float32), values)
        )
        # Wider than the image a Gaussian reaches every pixel, but has ever less weight on a few.
        found = left & (weight > (ENOUGH if sigma < max(images.shape[2:]) else 0))
        np.divide(total, weight, out=filled, where=np.broadcast_to(found, filled.shape))
        left &= ~found
        sigma *= 2
    return np.where(observed, images, np.minimum(filled, 255))


def inpainting(images: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Telea, "An Image Inpainting Technique Based on the Fast Marching Method", 2004, by OpenCV, from three pixels
    around. Images of one channel or three. Of the image's gradient OpenCV keeps the direction alone, which moves a
    pixel by a grey level or two.

    Raises:
        SettingError: also where OpenCV is not installed.
    """
    check_installed("inpainting")
    return _in_parts(_telea, images, observed)


def _telea(images: np.ndarray, observed: np.ndarray) -> np.ndarray:
    import cv2

    filled = np.empty(images.shape, np.float32)
    # At an image's border OpenCV looks at pixels that are still to be filled: they hold no secret then.
    known = _nearest(images, observed).astype(np.uint8)
    for image, mask, place in zip(known, observed[:, 0], filled, strict=True):
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        pixels = cv2.inpaint(pixels, (~mask).astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
        place[:] = pixels.reshape(*image.shape[1:], -1).transpose(2, 0, 1)
    return np.where(observed, images, filled)


METHODS = {"nearest": nearest, "blur": blur, "inpainting": inpainting}


def check_installed(fill: str) -> None:
    """Raises SettingError for a fill that asks for what is not installed."""
    if fill == "inpainting" and importlib.util.find_spec("cv2") is None:
        raise SettingError("fill='inpainting' needs OpenCV: pip install opencv-python-headless")


def _in_parts(
    fill: Callable[[np.ndarray, np.ndarray], np.ndarray], images: np.ndarray, observed: np.ndarray
) -> np.ndarray:
    """Some images at a time, side by side: what fills them leaves Python's lock to others."""
    if not observed.any(axis=(1, 2, 3)).all():
        raise SettingError("an image with no observed pixel is not allowed: one at least, to fill the others from")
    parts = [slice(first, first + PART) for first in range(0, len(images), PART)]
    filled = np.empty(images.shape, np.float32)
    with ThreadPoolExecutor() as threads:
        for part, done in zip(parts, threads.map(lambda part: fill(images[part], observed[part]), parts), strict=True):
            filled[part] = done
    return filled
