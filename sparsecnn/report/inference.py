"""Effects with their uncertainty: paired differences in the layout seed x level, intervals, tests, corrections.

A layout is an array of seeds by levels of one measurement, say the difference of two networks' accuracies. A level's
mean moves from study to study by two sources, the seed and the rest, so that its pooled variance is a sum of two mean
squares, and its degrees of freedom are Satterthwaite's (1946, An approximate distribution of estimates of variance
components). With three seeds whose own spread is most of it such intervals cover 93%, with ten 95%. A mixed model's z
interval would take three seeds' variance for known.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign, inf, nan

import numpy as np
import pandas as pd
from scipy import special, stats

__all__ = [
    "ALPHA",
    "MARGIN",
    "Estimate",
    "as_cluster",
    "at_levels",
    "holm",
    "in_words",
    "largest_layout",
    "of_values",
    "ratio",
    "share_interval",
    "tenable",
]

ALPHA = 0.05
MARGIN = 2.0  # points of accuracy: less than a user would change a network for


@dataclass(frozen=True)
class Estimate:
    """An effect, its standard error and its degrees of freedom; both NaN where there is a single value, and then no
    test finds anything: every p is NaN, which is below nothing."""

    effect: float
    error: float = nan
    freedom: float = nan

    def half(self, level: float = 1 - ALPHA) -> float:
        """Half the width of the interval that covers the effect with this probability."""
        return self.error * float(special.stdtrit(self.freedom, (1 + level) / 2))

    @property
    def interval(self) -> tuple[float, float]:
        """95%."""
        return self.effect - self.half(), self.effect + self.half()

    def words(self, form: str) -> str:
        """As :func:`in_words`, with the 95% interval."""
        return in_words(self.effect, *self.interval, form)

    def above(self, bound: float = 0) -> float:
        """p of "not above the bound", one-sided."""
        apart = self.effect - bound
        t = apart / self.error if self.error != 0 else copysign(inf, apart) if apart else 0.0
        return float(special.stdtr(self.freedom, -t))

    def below(self, bound: float = 0) -> float:
        """p of "not below the bound", one-sided."""
        return Estimate(-self.effect, self.error, self.freedom).above(-bound)

    def differs(self, bound: float = 0) -> float:
        """p of "equal to the bound", two-sided."""
        return min(2 * min(self.above(bound), self.below(bound)), 1.0) if self.error == self.error else nan

    def within(self, margin: float = MARGIN) -> float:
        """p of "at least the margin away from 0", by two one-sided tests (Schuirmann 1987)."""
        return max(self.above(-margin), self.below(margin))

    def beyond(self, margin: float = MARGIN) -> float:
        """p of "at most the margin away from 0"."""
        return min(self.above(margin), self.below(-margin))

    def __sub__(self, amount: float) -> "Estimate":
        return Estimate(self.effect - amount, self.error, self.freedom)


def in_words(effect: float, low: float, high: float, form: str) -> str:
    """An effect with its interval in brackets, each in this format; alone where there is no interval, NaN."""
    return f"{effect:{form}}" + (f" [{low:{form}}, {high:{form}}]" if low == low else "")


def of_values(values: Sequence[float]) -> Estimate:
    """The mean of independent values, by Student's t."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else nan)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5), len(values) - 1)


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, float, float]:
    """The ratio of two means of paired values with its 95% interval by Fieller's theorem (1954, Some problems in
    interval estimation): the ratios r for which the mean of parts - r * wholes is not told from 0. Bounds are infinite
    where the wholes' mean is not told from 0, and NaN where there is one pair."""
    parts, wholes = (np.asarray(values, dtype=float) for values in (parts, wholes))
    number, part, whole = len(parts), parts.mean(), wholes.mean()
    if number < 2:
        return float(part / whole), nan, nan
    covariance = np.cov(parts, wholes) * float(special.stdtrit(number - 1, 1 - ALPHA / 2)) ** 2 / number
    # (part - r whole) ** 2 = t ** 2 (variance of parts - r wholes) is a quadratic in r.
    square, half, rest = whole**2 - covariance[1, 1], part * whole - covariance[0, 1], part**2 - covariance[0, 0]
    if square <= 0:
        return float(part / whole), -inf, inf
    reach = max(half**2 - square * rest, 0) ** 0.5
    return float(part / whole), float((half - reach) / square), float((half + reach) / square)


def largest_layout(there: pd.DataFrame) -> tuple[list, list]:
    """The seeds and levels of the largest whole layout: that with the most (seeds - 1) x levels, its degrees of
    freedom, of two levels at least where there are two. So a level with few seeds takes none from the others, and a
    seed at few levels adds none to them.

    Args:
        there: which runs are there, True or False, seeds by levels.
    """
    by_level = {level: frozenset(there.index[has]) for level, has in there.items() if has.any()}
    patterns = list(dict.fromkeys(by_level.values()))
    best, most = ([], []), (-1, 0, 0)
    for number in range(1, len(patterns) + 1):
        for some in itertools.combinations(patterns, number):
            shared = frozenset.intersection(*some)  # the seeds of the largest are those that its levels share
            levels = [level for level, seeds in by_level.items() if seeds >= shared]
            size = (len(shared) - 1) * len(levels), len(shared), len(levels)
            if shared and size > most and len(levels) >= min(2, len(by_level)):
                best, most = ([seed for seed in there.index if seed in shared], levels), size
    return best


def as_cluster(layout: np.ndarray) -> Estimate:
    """The mean over levels, a seed as a cluster: Student's t of the seeds' means."""
    return of_values(np.asarray(layout, dtype=float).mean(axis=1))


def tenable(layout: np.ndarray) -> bool:
    """Whether one variance for all levels is: the test of equal spreads by Brown and Forsythe (1974) has p >= 0.05. It
    takes three seeds: the deviations of two from their median are one number a level, but for rounding."""
    seeds, levels = layout.shape
    apart = np.abs(layout - np.median(layout, axis=0))
    within = ((apart - apart.mean(axis=0)) ** 2).sum()
    if seeds < 3 or levels < 2 or within == 0:  # too few to ask, or no spread
        return seeds > 2 and levels > 1
    freedom = levels - 1, levels * (seeds - 1)
    f = seeds * apart.mean(axis=0).var(ddof=1) / (within / freedom[1])
    return bool(special.fdtrc(*freedom, f) >= ALPHA)  # scipy.stats.levene's, a hundred times as fast


def at_levels(layout: np.ndarray, pool: bool | None = None) -> list[Estimate]:
    """The mean at each level. Its variance is pooled over the levels where that is tenable, else each keeps its own.

    Args:
        pool: None = as :func:`tenable` has it.
    """
    layout = np.asarray(layout, dtype=float)
    seeds, levels = layout.shape
    if not (tenable(layout) if pool is None else pool) or (layout == layout[0]).all():
        return [of_values(level) for level in layout.T]
    of_level, of_seed = layout.mean(axis=0), layout.mean(axis=1)
    by_seed = levels * of_seed.var(ddof=1)  # mean squares
    rest = layout - of_level - of_seed[:, None] + layout.mean()
    by_rest = (levels - 1) * (rest**2).sum() / ((seeds - 1) * (levels - 1))
    # (by_seed + by_rest) / levels estimates the variance of a run at a level: the seed's and the rest's.
    error = ((by_seed + by_rest) / levels / seeds) ** 0.5
    freedom = (by_seed + by_rest) ** 2 / (by_seed**2 / (seeds - 1) + by_rest**2 / ((seeds - 1) * (levels - 1)))
    return [Estimate(float(mean), float(error), float(freedom)) for mean in of_level]


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's corrected p of a family (Holm 1979). A test that could not be made, NaN, is not of the family."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # which has NaN last
    corrected = np.full(len(p), nan)
    # As statsmodels' multipletests, which collects garbage at each call and so takes a tenth of a second.
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def share_interval(count: int, of: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper and Pearson 1934), as fractions."""
    bounds = stats.binomtest(count, of).proportion_ci(1 - ALPHA, method="exact")
    return float(bounds.low), float(bounds.high)
