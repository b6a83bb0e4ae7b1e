"""What notebook 07 shows of depth completion: networks beside what needs no training, and a scan with what they make of
it. Errors are in metres."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from ..data.datasets import available, load, split
from ..data.filling import nearest
from ..data.masks import unpack
from ..experiment import MODELS, experiment
from ..models import Network
from ..training.devices import keep_freed_memory
from ..training.evaluation import masks_of_test
from ..training.objectives import FARTHEST, NEAREST
from ..training.pretrained import load_pretrained
from .diagrams import bare

__all__ = ["Completions"]

SOURCES = {
    "kitti_range": "a scan of KITTI raw (Geiger et al. 2013, CC BY-NC-SA 3.0)",
    "street": "a scan of a drawn street, networks trained on KITTI's",
}
SMOOTH = 0.1  # of a range, by which no measured neighbour is off on a smooth surface
SIGHT = 12  # cells to either side that a network sees
APART = 2 * SIGHT + 1


class Bar(NamedTuple):
    """What colours stand for."""

    label: str
    norm: LogNorm
    colours: str
    ticks: tuple[float, ...]


BARS = (
    Bar("depth (m)", LogNorm(3, 80), "cividis", (3, 10, 30, 80)),
    Bar("absolute error (m)", LogNorm(0.05, 10), "inferno", (0.1, 1, 10)),
)


class Completions:
    """The test scans of a data set with cells missing at random, and what comes of them: by their nearest neighbours,
    and by the three networks of training.pretrained, which were trained on KITTI's scans with four of five missing.

    Args:
        dataset: "kitti_range", or "street", which also stands in for it.
        sparsity: of what is given.
        seed: of the masks, which are those of a run of that seed.
    """

    def __init__(self, dataset: str, sparsity: float = 0.8, seed: int = 0):
        keep_freed_memory()
        dataset = available(dataset)
        data, run = load(dataset), experiment(dataset, "controlled", "ConvNet", sparsity)
        test = split(data, run.validation, run.split)[2]
        size = tuple(data.images.shape[2:])
        self.dataset, self.title, self.scans = dataset, data.title, data.images[test]
        kept = unpack(masks_of_test(dataset, seed, "random", sparsity, len(test), size), size[1])
        self.given = kept & (self.scans > 0)
        self.networks = {model: load_pretrained("kitti_range", model) for model in MODELS}
        self.filled = self._filled(self.scans, self.given)

    def _filled(self, scans: Tensor, given: Tensor) -> dict[str, Tensor]:
        """N x 1 x H x W each."""
        near = [nearest(scan[0].numpy(), seen[0].numpy(), around=True) for scan, seen in zip(scans, given, strict=True)]
        found = {"nearest neighbour": torch.from_numpy(np.stack(near)).unsqueeze(1)}
        return found | {model: _answers(network, scans, given) for model, network in self.networks.items()}

    def errors(self) -> pd.DataFrame:
        """Mean absolute error over scans, a line a way to fill them and first the share of the measured cells in
        percent; a column a kind of cells: those not given, of these those on smooth surfaces and at edges, those given;
        and how much of a metre more at a given cell arrives there in the answer."""
        asked, smooth = (self.scans > 0) & ~self.given, _smooth(self.scans)
        kinds = {
            "not given": asked,
            "smooth surfaces": asked & smooth,
            "edges": asked & ~smooth,
            "given": self.given,
        }
        arrives = self.passed_on()
        lines = {
            "share of cells (%)": {name: 100 * _mean(where.double(), self.scans > 0) for name, where in kinds.items()}
        }
        for name, filled in self.filled.items():
            off = (filled - self.scans).abs()
            lines[name] = {kind: _mean(off, where) for kind, where in kinds.items()}
            lines[name]["a metre passed on"] = arrives[name]
        return pd.DataFrame.from_dict(lines, orient="index")

    def passed_on(self) -> dict[str, float]:
        """By how many metres the answer at a given cell grows, in the mean, where its range is given a metre longer;
        1 for who keeps what is given, one part in n for a mean over n cells. Of cells too far apart for a network to
        see two, in every fourth scan."""
        scans, given = self.scans[::4], self.given[::4]
        longer = torch.zeros_like(given)
        longer[:, :, SIGHT::APART, SIGHT:-SIGHT:APART] = True
        longer &= given
        moved = self._filled(scans + longer.float(), given)
        return {name: float((moved[name] - filled[::4])[longer].mean()) for name, filled in self.filled.items()}

    def figure(self, place: int) -> Figure:
        """A scan, what is given of it, and each completion with its error, from the sensor's left over ahead to its
        right; cells without a return, or not given, are grey."""
        scan, given = self.scans[place, 0], self.given[place, 0]
        front = slice(scan.shape[1] // 4, 3 * scan.shape[1] // 4)
        depth, off = BARS
        pictures = [(scan, scan > 0, "measured", depth), (scan, given, f"given ({_share(given, scan > 0)})", depth)]
        for name, filled in self.filled.items():
            answer = filled[place, 0]
            error = (answer - scan).abs().clamp(min=off.norm.vmin)
            pictures += [(answer, answer > 0, name, depth), (error, scan > 0, f"{name}: error", off)]
        figure, panels = plt.subplots(len(pictures) // 2, 2, figsize=(11, 0.58 * len(pictures) + 1.3))
        for panel, (values, where, title, look) in zip(panels.flat, pictures, strict=True):
            bare(panel).set(title=title, facecolor="lightgrey")
            shown = np.ma.array(values, mask=~where)[:, front]
            panel.imshow(shown, norm=look.norm, cmap=look.colours, aspect="auto")
        for column, look in zip(panels.T, BARS, strict=True):
            bar = figure.colorbar(
                ScalarMappable(look.norm, look.colours), ax=column, label=look.label, location="bottom", shrink=0.6,
                aspect=40,
            )  # fmt: skip
            bar.minorticks_off()
            bar.set_ticks(look.ticks, labels=map(str, look.ticks))
        figure.suptitle(f"Depth completion: {SOURCES[self.dataset]}")
        return figure


def _share(part: Tensor, of: Tensor) -> str:
    return f"{part.sum() / of.sum():.0%}"


@torch.no_grad()
def _answers(network: Network, scans: Tensor, given: Tensor) -> Tensor:
    """One by one, as they were trained on; between the nearest and the farthest that is measured."""
    found = [network(scan[None] * seen[None], seen[None])[0] for scan, seen in zip(scans, given, strict=True)]
    return torch.stack(found).clamp(NEAREST, FARTHEST)


def _smooth(scans: Tensor) -> Tensor:
    """The cells none of whose measured neighbours, of eight, is off by more than a tenth of its range."""
    farthest = F.max_pool2d(scans, 3, stride=1, padding=1)
    closest = -F.max_pool2d(torch.where(scans > 0, -scans, -torch.inf), 3, stride=1, padding=1)
    return (torch.maximum(farthest - scans, scans - closest) <= SMOOTH * scans) & (scans > 0)


def _mean(values: Tensor, where: Tensor) -> float:
    """Over those cells of each scan, then over scans."""
    values, where = values.flatten(1), where.flatten(1)
    return float((torch.where(where, values, 0).sum(dim=1) / where.sum(dim=1)).mean())
