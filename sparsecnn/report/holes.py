"""What a hole in a picture does to networks that divide by what they observe: measured before training, on pictures of
the drawn stand-in for Caltech-101, whose statistics of batch norm are those of pictures with scattered gaps."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..data.datasets import load
from ..data.masks import bernoulli_mask, square_mask
from ..experiment import MODELS, experiment
from ..layers.functional import MaskedLayer
from ..models import LAYERS, SparseConvNet
from ..training.batches import FixedMaskBatches
from ..training.devices import keep_freed_memory
from ..training.loop import initial_network

__all__ = ["NETWORKS", "Hole", "filling"]

NETWORKS = (
    "ConvNet", "SparseConvNet", "first layer sparse", "mask without division", "division without mask",
    "partial convolution", "normalised convolution",
)  # fmt: skip


@torch.no_grad()
def filling(architecture: str, levels: Sequence[float], squares: Sequence[float], images: int = 8) -> pd.DataFrame:
    """The share of places, in percent, that SparseConvNet's mask has as observed: a line a kind of mask, a column the
    input and each convolution."""
    generator = torch.Generator().manual_seed(0)
    (channels, height, width), _ = LAYERS[architecture]
    network, lines = SparseConvNet(architecture), {}
    for draw, name, shares in ((bernoulli_mask, "random", levels), (square_mask, "square", squares)):
        for share in shares:
            mask = draw(images, height, width, share, generator)
            steps = network.trace(torch.zeros(images, channels, height, width), mask)[1:]
            convolved = [isinstance(layer, MaskedLayer) for layer in network.layers]
            behind = [seen for (_, seen), chosen in zip(steps, convolved, strict=True) if chosen]
            lines[f"{name} {share:.0%}"] = [100 * seen.float().mean().item() for seen in (mask, *behind)]
    return pd.DataFrame(lines, index=["input", *(f"layer {n}" for n in range(1, len(behind) + 1))]).T


class Hole:
    """Pictures with a square hole, and what each of NETWORKS makes of them behind each batch norm.

    missing  the hole's share of the picture
    """

    def __init__(self, missing: float = 0.3, scattered: float = 0.3, images: int = 4):
        keep_freed_memory()
        self.missing = missing
        run = experiment("shapes", "controlled", MODELS[0], 0.0)
        pictures = FixedMaskBatches(load("shapes"), run, torch.device("cpu"))(torch.arange(images), None)[0]
        self.pictures = pictures.double()  # so that the figure is the same file on every processor
        generator = torch.Generator().manual_seed(0)
        size = images, *self.pictures.shape[2:]
        self.mask = square_mask(*size, missing, generator)
        gaps = bernoulli_mask(*size, scattered, generator)
        self.behind = {name: self._features(name, gaps) for name in NETWORKS}

    @torch.no_grad()
    def _features(self, model: str, gaps: Tensor) -> list[Tensor]:
        """N x C x H x W behind each batch norm; of pictures with scattered gaps each has the variance 1."""
        network = initial_network(experiment("shapes", "controlled", model, 0.3)).double()
        norms = [layer for layer in network.layers if isinstance(layer, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches, which is one
        network.train()(self.pictures * gaps, gaps)
        found = []
        for norm in norms:
            norm.register_forward_hook(lambda *call: found.append(call[2].clone()))
        network.eval()(self.pictures * self.mask, self.mask)
        return found

    def magnitudes(self) -> pd.DataFrame:
        """The root mean square of features in the hole, 1 = that of pictures with scattered gaps: a line a network, a
        column a layer."""
        lines = {}
        for model, layers in self.behind.items():
            holes = [nn.functional.interpolate(1.0 - self.mask.float(), features.shape[2:]) for features in layers]
            lines[model] = [
                ((features**2 * hole).sum() / hole.sum() / features.shape[1]).sqrt().item()
                for features, hole in zip(layers, holes, strict=True)
            ]
        return pd.DataFrame(lines, index=[f"layer {n}" for n in range(1, len(layers) + 1)]).T

    def figure(self, models: Sequence[str] = NETWORKS[:3], image: int = 0) -> Figure:
        """One picture, and how large its features are behind each batch norm, a row a network."""
        shown = {model: self.behind[model] for model in models}
        count = len(shown[models[0]])
        figure, panels = plt.subplots(len(models), count + 1, figsize=(1.7 * (count + 1), 1.8 * len(models)))
        picture = (self.pictures * self.mask)[image].movedim(0, -1)
        picture = (picture - picture.min()) / (picture.max() - picture.min())
        for (model, layers), row in zip(shown.items(), panels, strict=True):
            row[0].imshow(picture.numpy())
            row[0].set_ylabel(model)
            for number, (features, panel) in enumerate(zip(layers, row[1:], strict=True), 1):
                size = features[image].pow(2).mean(0).sqrt()
                drawn = panel.imshow(size.numpy(), cmap="cividis", norm=LogNorm(0.1, 30))
                panel.set_title(f"layer {number}" if model == models[0] else "")
        for panel in panels.flat:
            panel.set(xticks=[], yticks=[])
            panel.grid(False)
        figure.colorbar(drawn, ax=panels, label="size of features, 1 = as in training", extend="both")
        return figure
