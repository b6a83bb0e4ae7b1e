"""What networks are trained for, as data; training.objectives computes it."""

from typing import NamedTuple

__all__ = ["CLASSIFICATION", "DEPTH", "Task"]


class Task(NamedTuple):
    """What a data set asks of a network.

    name     for lines and titles
    metrics  what is measured on test images, the first also on training and validation images; it chooses the epoch
    best     "highest" or "lowest", of that metric
    unit     the metrics' units
    scale    what a mean over images is multiplied with to be in that unit
    losses   what may be minimised
    words    for the first metric's value
    """

    name: str
    metrics: tuple[str, ...]
    best: str
    unit: tuple[str, ...]
    scale: float
    losses: tuple[str, ...]
    words: str


CLASSIFICATION = Task("classification", ("accuracy",), "highest", ("%",), 100, ("cross entropy",), "accuracy {:.1f}%")
# Mean absolute and root mean squared error of depth and of inverse depth, as the devkit of KITTI's depth benchmark has
# them: over a scan's cells, then over scans.
DEPTH = Task(
    "depth completion",
    ("mae", "rmse", "imae", "irmse"),
    "lowest",
    ("m", "m", "1/km", "1/km"),
    1,
    ("absolute error", "squared error", "absolute error of inverse depth"),
    "mean absolute error {:.2f} m",
)
