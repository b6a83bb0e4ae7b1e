"""Missing pixels filled without learning: what a network has to be better than.

Every function takes ``values`` H x W and ``observed`` H x W, bool, as numpy arrays, and returns H x W, float64. In it
observed values stand as they are but for :func:`morphology`, which smooths. With ``around`` the first column follows
the last, as in a scan that goes all around.
"""

import numpy as np
from scipy import ndimage

from ..checks import SettingError

__all__ = ["METHODS", "at_nearest", "linear", "morphology", "nearest"]

REACH = 64  # columns of the other end that are seen with ``around``
FARTHER = 100.0  # metres, more than any return: ip_basic's


def nearest(values: np.ndarray, observed: np.ndarray, around: bool = False) -> np.ndarray:
    """The value of the nearest observed pixel (scipy's Euclidean distance transform).

    Raises:
        SettingError: where nothing is observed.
    """
    values, observed, inner = _beyond_the_ends(values, observed, around)
    return at_nearest(values, observed)[:, inner]


def linear(values: np.ndarray, observed: np.ndarray, around: bool = False) -> np.ndarray:
    """Linear interpolation in the triangles between observed pixels (Delaunay's); the nearest one outside of them.

    Raises:
        SettingError: where nothing is observed.
    """
    from scipy.interpolate import LinearNDInterpolator  # takes long, which who trains need not wait for

    values, observed, inner = _beyond_the_ends(values, observed, around)
    filled = at_nearest(values, observed)[:, inner]
    places = np.argwhere(observed)
    if min(len(np.unique(places[:, axis])) for axis in (0, 1)) < 2:  # a line has no triangles
        return filled
    known = LinearNDInterpolator(places.astype(float), values[observed])
    inside = known(*np.indices(values.shape))[:, inner]
    return np.where(np.isnan(inside), filled, inside)


def morphology(values: np.ndarray, observed: np.ndarray, around: bool = False) -> np.ndarray:
    """Depth, in metres below 100, by grey dilations that let the nearer return win, after Ku, Harakeh and Waslander,
    "In Defense of Classical Image Processing: Fast Depth Completion on the CPU" (2018): a diamond of 5 x 5, a closing
    of 5 x 5, then 7 x 7 and 31 x 31 where nothing is known yet; a median and a Gaussian filter.

    Raises:
        SettingError: where nothing is observed.
    """
    values, observed, inner = _beyond_the_ends(values, observed, around)
    nearness = np.where(observed, FARTHER - values, 0.0)
    nearness = ndimage.grey_dilation(nearness, footprint=_diamond(5))
    nearness = ndimage.grey_closing(nearness, size=5)
    for size in (7, 31):
        nearness = np.where(nearness > 0, nearness, ndimage.grey_dilation(nearness, size=size))
    known = nearness > 0
    median = ndimage.median_filter(nearness, size=5)
    nearness = np.where(known & (median > 0), median, nearness)
    share = ndimage.gaussian_filter(known.astype(float), 1.1, truncate=2)
    found = FARTHER - ndimage.gaussian_filter(nearness, 1.1, truncate=2) / np.where(known, share, 1.0)
    if not known.all():
        found = np.where(known, found, at_nearest(found, known))
    return found[:, inner]


METHODS = {"nearest neighbour": nearest, "linear interpolation": linear, "morphology": morphology}


def at_nearest(values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The value of the nearest observed pixel, ... x H x W, where one is observed at least."""
    row, column = ndimage.distance_transform_edt(~observed, return_distances=False, return_indices=True)
    return values[..., row, column]


def _diamond(size: int) -> np.ndarray:
    """Those pixels of a square that are no farther from its middle, by steps along rows and columns, than its sides."""
    steps = np.abs(np.arange(size) - size // 2)
    return steps[:, None] + steps <= size // 2


def _beyond_the_ends(values: np.ndarray, observed: np.ndarray, around: bool) -> tuple[np.ndarray, np.ndarray, slice]:
    """Both with columns of the other end at either end where ``around``, and where the array itself lies in that."""
    if not observed.any():
        raise SettingError("observed with no pixel in it is not allowed: one at least, to fill the others from")
    values = np.where(observed, values, 0).astype(float)
    reach = min(REACH, values.shape[1]) if around else 0
    pads = ((0, 0), (reach, reach))
    inner = slice(reach, reach + values.shape[1])
    return np.pad(values, pads, mode="wrap"), np.pad(observed, pads, mode="wrap"), inner
