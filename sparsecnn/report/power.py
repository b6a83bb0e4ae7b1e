"""What a number of seeds can show: the chance to find a difference of so many points, with the spreads of the recorded
runs."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from ..data.images import TITLES
from ..experiment import grid
from ..sweeps.store import of_experiments
from .inference import ALPHA, MARGIN
from .pairs import crossed
from .tables import selected

__all__ = ["alike_if_equal", "found", "power_table", "spreads"]

NETWORKS = ("SparseConvNet", "ConvNet")


def spreads(layout: np.ndarray) -> tuple[float, float]:
    """The standard deviations by which a layout of seeds by levels moves, in its own unit: the seeds', which its levels
    share, and the rest's; from its two mean squares, at least 0."""
    seeds, levels = layout.shape
    rest = layout - layout.mean(axis=0) - layout.mean(axis=1, keepdims=True) + layout.mean()
    of_rest = (rest**2).sum() / ((seeds - 1) * (levels - 1))
    of_seed = max(layout.mean(axis=1).var(ddof=1) - of_rest / levels, 0)
    return float(of_seed**0.5), float(of_rest**0.5)


def found(effect: float, error: float, freedom: float, alpha: float = ALPHA) -> float:
    """The chance that a two-sided t test finds an effect of that true size."""
    bound = stats.t.ppf(1 - alpha / 2, freedom) * _estimated(freedom)
    return float((stats.norm.sf(bound - effect / error) + stats.norm.cdf(-bound - effect / error)).mean())


def alike_if_equal(error: float, freedom: float, margin: float = MARGIN) -> float:
    """The chance that two one-sided tests put an effect within the margin whose true size is 0."""
    room = margin / error - stats.t.ppf(1 - ALPHA, freedom) * _estimated(freedom)
    return float(np.where(room > 0, 2 * stats.norm.cdf(room) - 1, 0).mean())


def _estimated(freedom: float) -> np.ndarray:
    """The errors that studies may estimate, as multiples of the true one, in 2,000 steps of equal chance."""
    return (stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, freedom) / freedom) ** 0.5


def power_table(
    read: Callable = of_experiments, seeds: Sequence[int] = (3, 5, 10), points: Sequence[float] = (1, 2, 5)
) -> pd.DataFrame:
    """For SparseConvNet less ConvNet in ``controlled``, with the spreads recorded: the chance in percent that so many
    seeds find a difference of so many points, on average over the levels with missing pixels and at a single level by
    the first step of Holm's correction for all levels; and that they find two equal networks alike.

    Args:
        read: gives the rows of experiments, as results has it.

    Returns:
        Index data set, levels, sd of seeds, sd of the rest (in points), seeds; columns what is found.
    """
    lines = {}
    for dataset in ("mnist", "caltech101"):
        runs = selected(read(grid(dataset, "controlled"))).query("sparsity > 0")
        layouts = crossed(runs, NETWORKS)
        layout = (layouts[NETWORKS[0]] - layouts[NETWORKS[1]]).to_numpy()
        if min(layout.shape) < 2:
            continue
        of_seed, of_rest = spreads(layout)
        levels = layout.shape[1]
        squares = of_rest**2 + levels * of_seed**2, (levels - 1) * of_rest**2
        for number in seeds:
            mean = ((of_seed**2 + of_rest**2 / levels) / number) ** 0.5
            one = ((of_seed**2 + of_rest**2) / number) ** 0.5
            freedom = sum(squares) ** 2 * (number - 1) / (squares[0] ** 2 + squares[1] ** 2 / (levels - 1))
            line = {f"average, {size:g}": found(size, mean, number - 1) for size in points}
            line |= {f"a level, {size:g}": found(size, one, freedom, ALPHA / levels) for size in points}
            line["equal: alike"] = alike_if_equal(mean, number - 1)
            key = (TITLES[dataset], levels, round(of_seed, 2), round(of_rest, 2), number)
            lines[key] = {name: 100 * chance for name, chance in line.items()}
    index = pd.MultiIndex.from_tuples(lines, names=["data set", "levels", "sd of seeds", "sd of the rest", "seeds"])
    return pd.DataFrame(list(lines.values()), index=index).round(0).astype(int)
