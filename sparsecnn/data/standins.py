"""Small data sets that come with the package, for where the real ones can't be had. Images are uint8, labels int64."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

__all__ = ["SHAPES", "digits", "shapes"]


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
