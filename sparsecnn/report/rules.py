"""The rules by which a claim is judged, on numbers alone; docs/analysis.md says why they are what they are.

Each takes layouts, arrays of seeds by levels as inference has them, and gives a Ruling. p < 0.05 decides, corrected by
Holm where a rule asks several questions; what decides neither way is undecided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan

import numpy as np
from scipy import stats

from .inference import ALPHA, MARGIN, Estimate, as_cluster, at_levels, holm, of_values, share_interval

__all__ = [
    "IN_PART", "NO", "NOT_TESTED", "UNDECIDED", "VERDICTS", "YES", "Ruling", "ahead_by_20", "alike_and_no_advantage",
    "batch_norm_and_overfitting", "hardly_matters", "invariant", "numbers_come_back", "order_of_magnitude",
    "one_falls_one_stable", "shows_without_black", "stays_above", "unstable",
]  # fmt: skip

VERDICTS = YES, NO, IN_PART, UNDECIDED, NOT_TESTED = ("yes", "no", "in part", "undecided", "not tested")


@dataclass(frozen=True)
class Ruling:
    """A verdict, the effect that it rests on with its 95% interval (NaN = none), and which part stands, in five words
    at most, where it is "in part"."""

    verdict: str
    effect: float = nan
    low: float = nan
    high: float = nan
    part: str = ""


def numbers_come_back(less_theirs: dict[str, np.ndarray]) -> Ruling:
    """Whether ours less theirs is within the margin for each network ("yes"), or beyond it for one ("no").

    "Yes" takes their number as it is. For "no" it is one run of theirs, which moves as ours do: the prediction interval
    of one more seed. With a single seed the levels' pairs, which hold both runs' noise, stand in for seeds.

    Args:
        less_theirs: a layout a network, or one of a difference of networks.
    """
    ours, apart = [], []
    for layout in less_theirs.values():
        seeds = len(layout)
        mean = as_cluster(layout) if seeds > 1 else of_values(layout[0])
        ours.append(mean)
        apart.append(Estimate(mean.effect, mean.error * ((seeds + 1) ** 0.5 if seeds > 1 else 1), mean.freedom))
    worst = max(ours, key=lambda mean: abs(mean.effect))
    if all(mean.within() < ALPHA for mean in ours):
        return _ruling(YES, worst)
    return _ruling(NO if _any(mean.beyond() for mean in apart) else UNDECIDED, worst)


def stays_above(layout: np.ndarray, floor: float) -> Ruling:
    """Whether every level is above the floor ("yes"), or one below it ("no"); the effect is the least margin."""
    margins = [mean - floor for mean in at_levels(layout)]
    clear = holm([margin.differs() for margin in margins]) < ALPHA
    above = np.array([margin.effect > 0 for margin in margins])
    verdict = YES if (clear & above).all() else NO if (clear & ~above).any() else UNDECIDED
    return _ruling(verdict, min(margins, key=lambda margin: margin.effect))


def alike_and_no_advantage(apart: np.ndarray, falls_apart: np.ndarray) -> Ruling:
    """No advantage of the margin or more, and two falls alike. ``falls_apart``: by seed, one network's fall less the
    other's."""
    lead, falls = as_cluster(apart), of_values(falls_apart)
    if lead.above(MARGIN) < ALPHA or falls.beyond() < ALPHA:
        return _ruling(NO, lead)
    return _ruling(YES if lead.below(MARGIN) < ALPHA and falls.within() < ALPHA else UNDECIDED, lead)


def ahead_by_20(apart: np.ndarray) -> Ruling:
    """Ahead at every level, by 15 to 25 points on average. "In part": ahead on average, but by less or more."""
    lead = as_cluster(apart)
    levels = at_levels(apart)
    every = (holm([level.differs() for level in levels]) < ALPHA).all() and min(level.effect for level in levels) > 0
    less, more = lead.below(15) < ALPHA, lead.above(25) < ALPHA
    if lead.above(15) < ALPHA and lead.below(25) < ALPHA and every:
        return _ruling(YES, lead)
    if (less or more) and lead.interval[0] > 0:
        return _ruling(IN_PART, lead, f"ahead, by {'less' if less else 'more'} than 20")
    return _ruling(NO if less else UNDECIDED, lead)


def one_falls_one_stable(falls: np.ndarray, stable: np.ndarray) -> Ruling:
    """By seed, the fall of the network that is said to fall and of the one that is said to be stable. Falls alike are a
    "no", whatever either is."""
    more, own = of_values(falls - stable), of_values(stable)
    if more.within() < ALPHA or own.above(MARGIN) < ALPHA:
        return _ruling(NO, more)
    return _ruling(YES if own.within() < ALPHA and more.interval[0] > 0 else UNDECIDED, more)


def shows_without_black(inverted: np.ndarray, plain: np.ndarray) -> Ruling:
    """Whether a lead that does not show on black background shows on white: it is above the margin there, and more than
    on black ("yes"), or below the margin there too ("no"). The effect is what the white background adds."""
    lead, more = as_cluster(inverted), as_cluster(inverted - plain)
    if lead.above(MARGIN) < ALPHA and more.interval[0] > 0:
        return _ruling(YES, more)
    return _ruling(NO if lead.below(MARGIN) < ALPHA else UNDECIDED, more)


def hardly_matters(factors: Sequence[tuple[Sequence[Sequence[float]], np.ndarray]]) -> Ruling:
    """Whether no factor's settings differ by the margin.

    Args:
        factors: a factor each, the accuracies of every run by setting, collapsed ones too, of which the ranks count;
            and a layout of seeds by settings, means of the runs that did not collapse.
    """
    spans = []
    alike = True
    for _, layout in factors:
        pairs = [of_values(one - other) for one, other in combinations(layout.T, 2)]
        alike = alike and all(pair.within() < ALPHA for pair in pairs)
        widest = max(pairs, key=lambda pair: abs(pair.effect))
        spans.append(Estimate(abs(widest.effect), widest.error, widest.freedom))
    ranks = holm([stats.kruskal(*groups).pvalue for groups, _ in factors])
    matters = any(p < ALPHA and span.effect > MARGIN for p, span in zip(ranks, spans, strict=True))
    return _ruling(YES if alike else NO if matters else UNDECIDED, max(spans, key=lambda span: span.effect))


def order_of_magnitude(leads: Sequence[np.ndarray]) -> Ruling:
    """Whether a setting is at most the margin behind each other one; a layout each of its accuracy less the other's."""
    means = [as_cluster(lead) for lead in leads]
    least = min(means, key=lambda mean: mean.effect)
    if all(mean.above(-MARGIN) < ALPHA for mean in means):
        return _ruling(YES, least)
    return _ruling(NO if _any(mean.below(-MARGIN) for mean in means) else UNDECIDED, least)


def unstable(falls: Sequence[bool], others: Sequence[bool]) -> Ruling:
    """Whether runs fall more often than others ("yes"), or less than half of them do ("no"); the effect in percent."""
    count, number = int(sum(falls)), len(falls)
    low, high = share_interval(count, number)
    table = [[count, number - count], [int(sum(others)), len(others) - int(sum(others))]]
    more = stats.fisher_exact(table, alternative="greater").pvalue < ALPHA
    return Ruling(YES if more else NO if high < 0.5 else UNDECIDED, 100 * count / number, 100 * low, 100 * high)


def batch_norm_and_overfitting(
    gain: np.ndarray, collapsed: tuple[int, int], sound: tuple[int, int], train: np.ndarray, test: np.ndarray
) -> Ruling:
    """Whether batch norm raises accuracy, and whether without dropout and with a wide layer the network knows its
    training images and not the test's.

    Args:
        gain: points from batch norm by seed, where neither run collapsed.
        collapsed: how many runs without batch norm collapsed, of how many.
        sound: the same of runs with it. That runs learn nothing without it counts as raising, by Fisher's exact test.
        train, test: accuracies of the wide network without dropout, in percent, by seed.
    """
    points, known, seen = of_values(gain), of_values(train), of_values(test)
    table = [[part[0], part[1] - part[0]] for part in (collapsed, sound)]
    rescued = stats.fisher_exact(table, alternative="greater").pvalue
    raises = _any([points.differs() if points.effect > 0 else 1.0, rescued])
    does_not = points.below(MARGIN) < ALPHA and not raises and not collapsed[0]
    overfits = known.effect > 95 and seen.below(20) < ALPHA
    fits = seen.above(20) < ALPHA or known.below(95) < ALPHA
    if raises and overfits:
        return _ruling(YES, points)
    if does_not and fits:
        return _ruling(NO, points)
    if raises and fits:
        return _ruling(IN_PART, points, "batch norm raises accuracy")
    if does_not and overfits:
        return _ruling(IN_PART, points, "overfits without dropout")
    return _ruling(UNDECIDED, points)


def invariant(costs: dict[str, tuple[np.ndarray, np.ndarray]], margin: float = MARGIN) -> Ruling:
    """Whether a wrong level costs less than the margin on every data set. "No": it costs more on one, and is not
    shown to cost less there than the other network. "In part": where it costs more, it costs the other still more.

    Args:
        costs: by data set, the costs by seed of the network in question and of the other.
        margin: in their unit.
    """
    own = {name: of_values(costs_here[0]) for name, costs_here in costs.items()}
    saved = {name: of_values(other - mine) for name, (mine, other) in costs.items()}
    greatest = own[max(own, key=lambda name: own[name].effect)]
    flat = {name for name in own if own[name].within(margin) < ALPHA}
    p = holm([own[name].above(margin) for name in own])
    steep = {name for name, value in zip(own, p, strict=True) if value < ALPHA}
    if len(flat) == len(own):
        return _ruling(YES, greatest)
    less = {name for name in own if saved[name].interval[0] > 0}
    if steep - less:
        return _ruling(NO, greatest)
    if steep and steep | flat == set(own):
        return _ruling(IN_PART, greatest, "loses less than ConvNet")
    return _ruling(UNDECIDED, greatest)


def _any(p) -> bool:
    """Whether one of several tests finds something, by Holm's correction."""
    return bool((holm(list(p)) < ALPHA).any())


def _ruling(verdict: str, effect: Estimate, part: str = "") -> Ruling:
    return Ruling(verdict, effect.effect, *effect.interval, part)
