"""What notebook 00 shows of images: some of a data set, with pixels missing as the report drops them there."""

from collections.abc import Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..data.datasets import Pictures
from ..data.images import IMAGENET_SCALE, MNIST_SCALE, TITLES
from ..data.sparse_dataset import SparseDataset
from ..experiment import MNIST, MODELS
from ..training.pretrained import load_pretrained
from .diagrams import answers, picture_grid

__all__ = ["Subject", "side_by_side", "values_at_missing_pixels"]

DIGITS = ("0", "2", "3", "5", "7", "8")
OBJECTS = ("Leopards", "Motorbikes", "airplanes", "butterfly", "elephant", "sunflower")


class Subject:
    """Six images of a data set, each the first of its class, with pixels missing as the report drops them.

    On MNIST and its stand-in an exact number goes missing before the image is normalised, which leaves black; on
    Caltech-101 and its stand-in each pixel does with that probability after it is, which leaves the mean colour.

    Args:
        dataset: as in data.datasets.load.
        sparsity: None is the report's, 0.7 for digits and 0.3 for Caltech-101.
        seed: of the masks; an image keeps its mask.

    Raises:
        SettingError, DataError: as data.datasets.Pictures.
    """

    def __init__(self, dataset: str, sparsity: float | None = None, seed: int = 0):
        self.has_digits, self.title, self.seed = dataset in MNIST, TITLES[dataset], seed
        self.scheme, reported, wanted = ("exact", 0.7, DIGITS) if self.has_digits else ("bernoulli", 0.3, OBJECTS)
        self.sparsity = reported if sparsity is None else sparsity
        # A digit is shown as it is, an object as it was before it was normalised.
        self.pictures = Pictures(dataset, None if self.has_digits else _normalise(IMAGENET_SCALE))
        classes, labels = self.pictures.data.classes, self.pictures.labels.tolist()
        chosen = wanted if set(wanted) <= set(classes) else classes[:6]
        self.places = {name: labels.index(classes.index(name)) for name in chosen}

    def sparse(self, name: str, sparsity: float | None = None, scheme: str | None = None) -> tuple[Tensor, Tensor]:
        """The image of a class, C x H x W in [0, 1], and its mask; None is the subject's own sparsity or scheme."""
        level = self.sparsity if sparsity is None else sparsity
        image, mask, _ = SparseDataset(self.pictures, level, scheme or self.scheme, self.seed)[self.places[name]]
        if self.has_digits:
            return image, mask
        mean, std = (torch.tensor(IMAGENET_SCALE[part]).view(3, 1, 1) for part in ("mean", "std"))
        return image * std + mean, mask

    def rows(self) -> Figure:
        """The six images: the original, the mask, and what is left."""
        sparse = [self.sparse(name) for name in self.places]
        rows = {
            "original": [(self.sparse(name, 0)[0], None) for name in self.places],
            "mask": [(mask.float(), mask) for _, mask in sparse],
            "sparse image": [(image, None) for image, _ in sparse],
        }
        words = "exact count" if self.scheme == "exact" else "Bernoulli"
        title = f"{self.title}, {self.sparsity:.0%} of the pixels missing ({words})"
        return picture_grid(rows, list(self.places), title)

    def ladder(self, name: str, levels: Sequence[float]) -> Figure:
        """One image at each sparsity, without its mask and with it."""
        steps = [self.sparse(name, level) for level in levels]
        rows = {"without mask": [(image, None) for image, _ in steps], "with mask": steps}
        return picture_grid(rows, [f"{level:.0%}" for level in levels], f"One digit of {self.title}, pixels missing")

    @torch.no_grad()
    def answers(self, name: str, sparsity: float, scheme: str | None = None) -> Figure:
        """A digit with pixels missing, and how probable each of the three trained networks finds the ten digits; they
        are those trained on MNIST at every sparsity."""
        image, mask = self.sparse(name, sparsity, scheme)
        given = _normalise(MNIST_SCALE)(image)[None]
        networks = {model: load_pretrained("mnist", model, "every sparsity") for model in MODELS}
        scores = {model: network(given, mask[None])[0] for model, network in networks.items()}
        classes = self.pictures.data.classes
        return answers(image, mask, scores, classes, classes.index(name))

    def black(self, levels: Sequence[float]) -> tuple[float, pd.DataFrame]:
        """The share of exactly black pixels in the training images, in percent; and with pixels missing at each level
        the share that is black then and the share whose value has changed."""
        data = self.pictures.data
        train = data.images[: len(data.images) - data.test_count]
        black = 100 * float((train == 0).double().mean())
        shares = {
            level: {"black": 100 - (100 - black) * (1 - level), "changed": (100 - black) * level} for level in levels
        }
        return black, pd.DataFrame(shares).T.rename_axis("sparsity")

    def near_mean_colour(self) -> float:
        """The share of the six images' pixels within 5 of 255 of the mean colour in each channel, in percent."""
        mean = torch.tensor(IMAGENET_SCALE["mean"]).view(3, 1, 1)
        near = [((self.sparse(name, 0)[0] - mean).abs() < 5.5 / 255).all(0) for name in self.places]
        return 100 * float(torch.stack(near).double().mean())


def side_by_side(subjects: Sequence[tuple[Subject, str]], sparsity: float, scheme: str) -> Figure:
    """An image of each subject, by its class, without its mask above and with it below."""
    seen = [subject.sparse(name, sparsity, scheme) for subject, name in subjects]
    rows = {"without mask": [(image, None) for image, _ in seen], "with mask": seen}
    return picture_grid(rows, [subject.title for subject, _ in subjects])


def values_at_missing_pixels() -> pd.DataFrame:
    """What a white image becomes, and what stands at its missing pixels, where pixels are dropped in the report's order
    on MNIST and on Caltech-101."""
    digit, photograph = _normalise(MNIST_SCALE), _normalise(IMAGENET_SCALE)
    ways = {
        "MNIST": SparseDataset([(torch.ones(1, 28, 28), 0)], 0.7, "exact", 0, transform=digit),
        "Caltech-101": SparseDataset([(photograph(torch.ones(3, 224, 224)), 0)], 0.3, "bernoulli", 0),
    }
    table = {}
    for name, dataset in ways.items():
        image, mask, _ = dataset[0]
        parts = {"white becomes": mask[0], "a missing pixel holds": ~mask[0]}
        values = {part: image[:, places].unique().tolist() for part, places in parts.items()}
        table[name] = {part: ", ".join(f"{value:.3f}" for value in found) for part, found in values.items()}
    return pd.DataFrame(table).T


def _normalise(scale: dict[str, tuple[float, ...]]):
    """To float, in [0, 1] if it was bytes, and then by mean and standard deviation."""
    from torchvision.transforms import v2

    return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(**scale)])
