"""Missing pixels of images filled from what is around them, before a network sees the image.

Every function takes ``images`` N x C x H x W, uint8, and ``observed`` N x 1 x H x W, bool, as numpy arrays, and
returns N x C x H x W, float32, of values from 0 to 255, observed pixels as they are. An image with nothing observed
raises SettingError.
"""

import numpy as np
from scipy import ndimage

from ..checks import SettingError

__all__ = ["METHODS", "blur", "inpainting", "nearest"]

ENOUGH = 1e-3  # of a Gaussian's weight on observed pixels, for a mean of these
RADIUS = 3  # pixels that Telea's method looks around


def nearest(images: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The value of the nearest observed pixel (scipy's Euclidean distance transform)."""
    _check(observed)
    filled = np.empty(images.shape, np.float32)
    for image, mask, place in zip(images, observed[:, 0], filled, strict=True):
        row, column = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
        place[:] = image[:, row, column]
    return filled


def blur(images: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The mean of observed pixels, weighted by a Gaussian of a standard deviation of one pixel, or where that finds
    hardly any (a weight below 1e-3), of two, four and so on: normalised convolution of Knutsson and Westin, CVPR 1993.
    """
    _check(observed)
    values, filled = np.where(observed, images, 0).astype(np.float32), np.zeros(images.shape, np.float32)
    left, sigma = np.ones(observed.shape, bool), 1.0
    while left.any():
        weight, total = (
            ndimage.gaussian_filter(each, sigma, mode="constant", axes=(2, 3))
            for each in (observed.astype(np.float32), values)
        )
        found = left & (weight > ENOUGH)
        np.divide(total, weight, out=filled, where=np.broadcast_to(found, filled.shape))
        left &= ~found
        sigma *= 2
    return np.where(observed, images, filled)


def inpainting(images: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Telea, "An Image Inpainting Technique Based on the Fast Marching Method", 2004, by OpenCV, from three pixels
    around. Images of one channel or three.

    Raises:
        SettingError: also where OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise SettingError("fill='inpainting' needs OpenCV: pip install opencv-python-headless") from None
    _check(observed)
    filled = np.empty(images.shape, np.float32)
    for image, mask, place in zip(images, observed[:, 0], filled, strict=True):
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        pixels = cv2.inpaint(pixels, (~mask).astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
        place[:] = pixels.reshape(*image.shape[1:], -1).transpose(2, 0, 1)
    return np.where(observed, images, filled)


METHODS = {"nearest": nearest, "blur": blur, "inpainting": inpainting}


def _check(observed: np.ndarray) -> None:
    if not observed.any(axis=(1, 2, 3)).all():
        raise SettingError("an image with no observed pixel is not allowed: one at least, to fill the others from")
