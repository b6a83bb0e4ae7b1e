"""Small data sets that come with the package, for where the real ones can't be had. Images are uint8, range images
float32, in metres; labels int64."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

__all__ = ["SHAPES", "STREETS", "digits", "shapes", "street"]


def digits() -> tuple[Tensor, Tensor, int]:
    """scikit-learn's 1,797 digits of 8 x 8, enlarged to 28 x 28; the last fifth, stratified, is the test split.

    Images N x 1 x 28 x 28, labels N, and how many of the last are for testing.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    small = torch.from_numpy(source.images).float()[:, None] * (255 / 16)
    images = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    train, test = train_test_split(np.arange(len(images)), test_size=0.2, stratify=source.target, random_state=0)
    order = np.concatenate([train, test])
    labels = torch.from_numpy(source.target[order]).long()
    return images.round().byte()[order], labels, len(test)


SHAPES = {  # outlines on the unit square
    "disc": None,
    "ring": None,
    "square": ((0, 0), (1, 0), (1, 1), (0, 1)),
    "diamond": ((0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)),
    "triangle": ((0.5, 0), (1, 1), (0, 1)),
    "arrow": ((0, 0.35), (0.5, 0.35), (0.5, 0), (1, 0.5), (0.5, 1), (0.5, 0.65), (0, 0.65)),
    "cross": tuple((x / 3, y / 3) for x, y in
                   ((1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1))),
    "hourglass": ((0, 0), (1, 0), (0, 1), (1, 1)),
    "bar": ((0, 0.38), (1, 0.38), (1, 0.62), (0, 0.62)),
    "wedge": ((0, 0), (1, 1), (0, 1)),
}  # fmt: skip


def shapes() -> tuple[Tensor, Tensor]:
    """Ten classes of forty drawings each: a shape in a random colour, place and size before a gradient.

    Images N x 3 x 224 x 224, labels N.
    """
    random = np.random.default_rng(0)
    size = 224
    drawings, labels = [], []
    for label, outline in enumerate(SHAPES.values()):
        for _ in range(40):
            first, second, colour = random.integers(0, 256, (3, 3))
            ramp = np.linspace(0, 1, size)[:, None, None]
            backdrop = np.broadcast_to(first * (1 - ramp) + second * ramp, (size, size, 3)).astype(np.uint8)
            image = Image.fromarray(np.ascontiguousarray(backdrop))
            draw = ImageDraw.Draw(image)
            extent = random.uniform(0.3, 0.8) * size
            left, top = random.uniform(0, size - extent, 2)
            if outline is None:
                box = (left, top, left + extent, top + extent)
                if label == 0:
                    draw.ellipse(box, fill=tuple(colour.tolist()))
                else:
                    draw.ellipse(box, outline=tuple(colour.tolist()), width=int(extent / 6))
            else:
                draw.polygon([(left + x * extent, top + y * extent) for x, y in outline], fill=tuple(colour.tolist()))
            drawings.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
            labels.append(label)
    return torch.stack(drawings), torch.tensor(labels)


STREETS = {  # how many scans, and how many metres the sensor moves between two
    "street_a": (12, 0.5),
    "street_b": (4, 0.8),
    "street_c": (4, 0.1),
}
SENSOR = 1.73  # metres above the ground, as KITTI's
RINGS = np.radians(np.linspace(2, -24.8, 64))  # elevation, from the top
COLUMNS = np.pi * (1 - (2 * np.arange(256) + 1) / 256)  # azimuth, from behind the sensor over its left to behind it


def street() -> tuple[Tensor, Tensor]:
    """Three drives along drawn streets, scans as KITTI's sensor would have them: house fronts, parked cars and poles on
    a level ground, ranges up to 80 m with 2 cm of noise, in steps of 1/256 m; a tenth of the returns lacking at random.

    Images N x 1 x 64 x 256, float32, in metres, 0 = no return; labels N, the drive.
    """
    scans, labels = [], []
    for label, (count, step) in enumerate(STREETS.values()):
        random = np.random.default_rng(label)
        boxes = _boxes(random)
        for i in range(count):
            ranges = _ranges(boxes - np.array([i * step, 0, SENSOR]))
            ranges = np.rint((ranges + random.normal(0, 0.02, ranges.shape)) * 256) / 256
            seen = (ranges <= 80) & (random.random(ranges.shape) >= 0.1)
            scans.append(torch.from_numpy(np.where(seen, ranges, 0).astype(np.float32))[None])
            labels.append(label)
    return torch.stack(scans), torch.tensor(labels)


def _boxes(random: np.random.Generator) -> np.ndarray:
    """What stands along a street that leads along x: boxes' two opposite corners, N x 2 x 3, in metres."""
    boxes = []
    for side in (-1, 1):
        x = -80.0
        while x < 80:  # houses, some with a gap between
            length, setback, height = random.uniform((8, 8, 4), (20, 12, 12))
            boxes.append(((x, side * setback, 0), (x + length, side * (setback + 10), height)))
            x += length + random.choice((0, 4))
        for x in random.uniform(-60, 60, 8):  # cars
            boxes.append(((x, side * 3.5, 0), (x + 4.2, side * 5.3, 1.5)))
        for x in random.uniform(-60, 60, 8):  # poles
            boxes.append(((x, side * 6, 0), (x + 0.2, side * 6.2, 5)))
    return np.sort(np.array(boxes), axis=1)


def _ranges(boxes: np.ndarray) -> np.ndarray:
    """How far the nearest box or the ground is along each ray from the origin: 64 x 256, in metres; inf = neither."""
    slopes, directions = np.tan(RINGS), np.stack([np.cos(COLUMNS), np.sin(COLUMNS)])
    # Between which horizontal distances a ray is between a box's walls, for each column; its floor and roof, each ring.
    walls = np.sort(boxes[:, :, :2, None] / directions, axis=1)
    floors = np.sort(boxes[:, :, 2, None] / slopes, axis=1)
    enters = np.maximum(walls[:, 0].max(axis=1)[:, None, :], floors[:, 0, :, None])
    leaves = np.minimum(walls[:, 1].min(axis=1)[:, None, :], floors[:, 1, :, None])
    nearest = np.where((enters > 0) & (enters <= leaves), enters, np.inf).min(axis=0)
    ground = np.where(slopes < 0, -SENSOR / slopes, np.inf)
    return np.minimum(nearest, ground[:, None]) / np.cos(RINGS)[:, None]
