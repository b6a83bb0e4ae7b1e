"""Whether masks are what they claim to be, and what a window sees of them: notebook 00's measurements.

Each function draws from the generator that it is given. Shares are in percent.
"""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import binom, hypergeom, norm
from torch import Generator, Tensor

from ..data.masks import bernoulli_mask, exact_count_mask
from ..experiment import SPARSITIES
from ..layers import SparseConv2d
from .diagrams import line_panels, observed_counts

__all__ = [
    "bernoulli_counts", "counts_figure", "empty_windows", "exact_counts", "observed_in_window", "windows_figure",
]  # fmt: skip

PIXELS, SMALL = 224 * 224, 28 * 28
WINDOW = 25  # pixels of a 5 x 5 window


def exact_counts(generator: Generator, count: int = 2000) -> pd.DataFrame:
    """By sparsity, in ``count`` masks of MNIST's size: the number of pixels that should be missing, the fewest and the
    most that are, and z: over the pixels, the standardised number of masks that miss it."""
    table = {}
    for level in SPARSITIES[1:]:
        missing = ~exact_count_mask(count, 28, 28, level, generator)[:, 0]
        dropped, numbers = int(SMALL * level), missing.sum((1, 2))
        z = _standardised(missing, dropped / SMALL)
        table[level] = {
            "int(784 * sparsity)": dropped, "fewest missing": int(numbers.min()), "most missing": int(numbers.max()),
            "sd of z over pixels": float(z.std()), "largest |z|": float(z.abs().max()),
        }  # fmt: skip
    table = pd.DataFrame(table).T.rename_axis("sparsity")
    return table.astype(dict.fromkeys(table.columns[:3], int))


def bernoulli_counts(generator: Generator, count: int = 400) -> tuple[pd.DataFrame, dict[float, Tensor]]:
    """By sparsity, over ``count`` masks of Caltech-101's size: mean and standard deviation of the number of observed
    pixels, in theory and measured, and z as in :func:`exact_counts`; and these numbers, one a mask."""
    table, observed = {}, {}
    for level in (0.05, 0.1, 0.3, 0.5, 0.7):
        masks = bernoulli_mask(count, 224, 224, level, generator)[:, 0]
        numbers = observed[level] = masks.sum((1, 2))
        z = _standardised(masks, 1 - level)
        mean, sd = binom.stats(PIXELS, 1 - level)[0], binom.std(PIXELS, 1 - level)
        table[level] = {
            "mean, theory": float(mean), "mean, measured": float(numbers.double().mean()),
            "sd, theory": float(sd), "sd, measured": float(numbers.double().std()),
            "sd of z over pixels": float(z.std()), "largest |z|": float(z.abs().max()),
        }  # fmt: skip
    return pd.DataFrame(table).T.rename_axis("sparsity"), observed


def _standardised(found: Tensor, share: float) -> Tensor:
    """How often each pixel is found, N x H x W, less what ``share`` lets expect, in binomial standard deviations."""
    return (found.sum(0) - len(found) * share) / np.sqrt(len(found) * share * (1 - share))


def counts_figure(observed: Tensor, generator: Generator) -> Figure:
    """How many pixels the two schemes leave: of MNIST's 28 x 28 at 70% missing, and of Caltech-101's 224 x 224 at 30%,
    whose numbers :func:`bernoulli_counts` has ``observed``."""
    small = bernoulli_mask(20_000, 28, 28, 0.7, generator).sum((1, 2, 3))
    numbers = np.arange(180, 292)
    mean, sd = PIXELS * 0.7, np.sqrt(PIXELS * 0.3 * 0.7)
    wide = np.arange(round(mean - 4 * sd), round(mean + 4 * sd))
    return observed_counts({
        "28 × 28 pixels, 70% missing":
            (SMALL - int(SMALL * 0.7), small, pd.Series(binom.pmf(numbers, SMALL, 0.3), index=numbers)),
        "224 × 224 pixels, 30% missing":
            (PIXELS - int(PIXELS * 0.3), observed, pd.Series(norm.pdf(wide, mean, sd), index=wide)),
    })  # fmt: skip


@torch.no_grad()
def empty_windows(generator: Generator, count: int = 4000) -> pd.DataFrame:
    """The share of 5 x 5 windows with no observed pixel, by sparsity, for both schemes: in theory and as SparseConv2d's
    mask has it in ``count`` masks, for windows inside the image; "with border" for all."""
    layer = SparseConv2d(1, 1, 5, padding="same")
    inside = slice(2, 26)
    shares = {}
    for level in SPARSITIES[1:]:
        theory = {
            "exact count": hypergeom.pmf(0, SMALL, SMALL - int(SMALL * level), WINDOW),
            "Bernoulli": level**WINDOW,
        }
        shares[level] = {(name, "theory"): share for name, share in theory.items()}
        for name, draw in (("exact count", exact_count_mask), ("Bernoulli", bernoulli_mask)):
            masks = draw(count, 28, 28, level, generator)
            empty = torch.cat([~layer(part.float(), part)[1] for part in masks.split(2000)]).float()
            shares[level] |= {
                (name, "measured"): empty[..., inside, inside].mean(),
                (name, "with border"): empty.mean(),
            }
    frame = 100 * pd.DataFrame(shares).T.astype(float).rename_axis("sparsity")
    schemes, kinds = ("exact count", "Bernoulli"), ("theory", "measured", "with border")
    return frame[[(scheme, kind) for scheme in schemes for kind in kinds]]


def observed_in_window(levels: tuple[float, ...]) -> pd.DataFrame:
    """The share of 5 x 5 windows inside MNIST's image with 0 to 25 observed pixels, exact count: a column a level."""
    numbers = np.arange(WINDOW + 1)
    shares = {f"{s:.0%} missing": 100 * hypergeom.pmf(numbers, SMALL, SMALL - int(SMALL * s), WINDOW) for s in levels}
    return pd.DataFrame(shares, index=numbers)


def windows_figure(empty: pd.DataFrame, in_window: pd.DataFrame) -> Figure:
    """:func:`empty_windows` from 60% missing on, and :func:`observed_in_window`."""
    shown = empty.loc[0.6:].rename(lambda level: round(100 * level))
    theory, measured = (shown.xs(kind, axis=1, level=1) for kind in ("theory", "measured"))
    panels = {"5 × 5 windows with no observed pixel": theory, "How many pixels a window's sum runs over": in_window}
    labels = [("missing pixels (%)", "empty windows (%)"), ("observed pixels in a window", "share of windows (%)")]
    return line_panels(panels, labels, measured)
