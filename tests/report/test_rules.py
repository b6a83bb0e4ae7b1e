"""Each rule gives each of its words where it should, and finds a difference where there is none in at most 5% of 2,000
simulated studies with the spreads that the recorded runs have."""

from collections import Counter

import numpy as np
import pytest

from sparsecnn.report import rules
from sparsecnn.report.rules import IN_PART, NO, UNDECIDED, YES

# Points by which a difference of two networks moves from seed to seed, and besides, on MNIST.
OF_SEED, OF_REST = 0.9, 1.1


def layout(effect, seeds=10, levels=8, number=0, noise=1.0) -> np.ndarray:
    rng = np.random.default_rng(number)
    moved = rng.normal(0, OF_SEED, (seeds, 1)) + rng.normal(0, OF_REST, (seeds, levels))
    return effect + noise * (moved - moved.mean(axis=0))  # whose means are the effect


def steady(effect, seeds=10) -> np.ndarray:
    return effect + 0.1 * np.linspace(-1, 1, seeds)


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [([3] * 7 + [2], YES), ([3] * 7 + [-2], NO), ([3] * 7 + [0.1], UNDECIDED), ([0.2] * 8, UNDECIDED)],
)
def test_above_a_floor_at_every_level(effect, verdict):
    ruling = rules.stays_above(90 + layout(np.array(effect, float)), 90)
    assert ruling.verdict == verdict
    assert ruling.effect == pytest.approx(min(effect)) and ruling.low < ruling.effect < ruling.high


@pytest.mark.parametrize(
    ("lead", "falls", "verdict"),
    [(0, 0, YES), (-9, 0, YES), (9, 0, NO), (0, 9, NO), (0, -9, NO), (2, 0, UNDECIDED), (0, 2, UNDECIDED)],
)
def test_no_advantage_and_falls_alike(lead, falls, verdict):
    assert rules.alike_and_no_advantage(layout(lead), steady(falls)).verdict == verdict


def test_a_wide_interval_is_not_alike():
    assert rules.alike_and_no_advantage(layout(0), 40 * steady(0) / 0.1).verdict == UNDECIDED
    assert rules.alike_and_no_advantage(layout(0)[:1], steady(0)).verdict == UNDECIDED


@pytest.mark.parametrize(
    ("effect", "verdict", "part"),
    [
        (20, YES, ""),
        ([20] * 7 + [0], UNDECIDED, ""),  # not ahead at every level
        (3, IN_PART, "ahead, by less than 20"),
        (40, IN_PART, "ahead, by more than 20"),
        (0, NO, ""),
        (-20, NO, ""),
        (15, UNDECIDED, ""),
    ],
)
def test_ahead_by_20(effect, verdict, part):
    ruling = rules.ahead_by_20(layout(np.array(effect, float)))
    assert (ruling.verdict, ruling.part) == (verdict, part)


def test_an_interval_too_wide_to_say_is_undecided():
    assert rules.ahead_by_20(layout(8, seeds=2, noise=12)).verdict == UNDECIDED


@pytest.mark.parametrize(
    ("falls", "stable", "verdict"),
    [(6, 0, YES), (6, 6, NO), (9, 6, NO), (1, 0, NO), (9, 2, UNDECIDED), (-6, 0, UNDECIDED)],
)
def test_one_falls_and_one_is_stable(falls, stable, verdict):
    wobble = 0.1 * np.linspace(1, -1, 10)
    assert rules.one_falls_one_stable(steady(falls) + wobble * 3, steady(stable)).verdict == verdict


@pytest.mark.parametrize(
    ("white", "black", "verdict"),
    [(5, 0, YES), (5, 5, UNDECIDED), (0, 0, NO), (1, -5, NO), (2, -3, UNDECIDED)],
)
def test_a_lead_shows_without_black_where_it_is_there_and_new(white, black, verdict):
    wobble = 0.5 * np.linspace(1, -1, 10)[:, None]
    found = rules.shows_without_black(steady(white)[:, None] + wobble, steady(black)[:, None])
    assert found.verdict == verdict and found.effect == pytest.approx(white - black, abs=0.3)


def factor(*means: float, noise=0.3, number=0) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(number)
    part = np.array(means) + rng.normal(0, noise, (10, len(means)))
    return list(part.T), part


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ([factor(95, 95.5, 95), factor(80, 80, 80)], YES),
        ([factor(95, 98, 95), factor(80, 80, 80)], NO),
        ([factor(95, 98, 95, noise=9), factor(80, 80, 80)], UNDECIDED),
        ([factor(95, 96.9, 95), factor(80, 80, 80)], UNDECIDED),
    ],
)
def test_settings_hardly_matter(factors, verdict):
    ruling = rules.hardly_matters(factors)
    assert ruling.verdict == verdict and ruling.low < ruling.effect < ruling.high


def test_collapsed_runs_count_in_the_ranks():
    groups, sound = factor(95, 95, 92.5, noise=1.2)
    assert rules.hardly_matters([(groups, sound)]).verdict == NO
    # The two with the better means have half of their runs below all others.
    dead = [np.where(np.arange(10) < 5, 11.35, group) for group in groups[:2]]
    assert rules.hardly_matters([([*dead, groups[2]], sound)]).verdict == UNDECIDED


@pytest.mark.parametrize(("leads", "verdict"), [((5, 0), YES), ((0, 9), YES), ((5, -5), NO), ((5, -2), UNDECIDED)])
def test_an_order_of_magnitude(leads, verdict):
    ruling = rules.order_of_magnitude([layout(lead) for lead in leads])
    assert ruling.verdict == verdict and ruling.effect == pytest.approx(min(leads))


@pytest.mark.parametrize(
    ("falls", "others", "verdict"),
    [
        ((3, 3), (0, 4), YES),
        ((5, 20), (0, 40), YES),
        ((0, 6), (0, 6), NO),
        ((0, 3), (0, 4), UNDECIDED),
        ((3, 3), (4, 4), UNDECIDED),
        ((4, 4), (5, 8), UNDECIDED),
    ],
)
def test_falls_are_counted_by_run(falls, others, verdict):
    ruling = rules.unstable(*([True] * count + [False] * (of - count) for count, of in (falls, others)))
    assert ruling.verdict == verdict and ruling.effect == pytest.approx(100 * falls[0] / falls[1])
    assert 0 <= ruling.low <= ruling.effect <= ruling.high <= 100


OVERFITS, FITS = (steady(99.5, 3), steady(15, 3)), (steady(99.5, 3), steady(60, 3))


@pytest.mark.parametrize(
    ("gain", "collapsed", "sound", "wide", "verdict", "part"),
    [
        (steady(5, 3), (0, 3), (0, 30), OVERFITS, YES, ""),
        ([], (3, 3), (0, 30), OVERFITS, YES, ""),
        ([], (2, 2), (0, 19), FITS, IN_PART, "batch norm raises accuracy"),
        (steady(0, 3), (0, 3), (0, 30), OVERFITS, IN_PART, "overfits without dropout"),
        (steady(0, 3), (0, 3), (0, 30), FITS, NO, ""),
        (90 * steady(0.1, 3), (0, 3), (0, 30), FITS, UNDECIDED, ""),
        (steady(5, 3), (0, 3), (0, 30), (steady(99, 3), 90 * steady(0.2, 3)), UNDECIDED, ""),
        ([], (1, 1), (0, 3), FITS, UNDECIDED, ""),
    ],
)
def test_batch_norm_and_overfitting(gain, collapsed, sound, wide, verdict, part):
    ruling = rules.batch_norm_and_overfitting(np.array(gain), collapsed, sound, *wide)
    assert (ruling.verdict, ruling.part) == (verdict, part)


@pytest.mark.parametrize(
    ("own", "other", "verdict"),
    [
        ((0, 0), (5, 5), YES),
        ((0, 7), (9, 9), IN_PART),
        ((7, 7), (12, 12), IN_PART),
        ((7, 7), (12, 7), NO),
        ((0, 7), (9, 3), NO),
        ((2, 7), (9, 9), UNDECIDED),
    ],
)
def test_invariance(own, other, verdict):
    wobble = 0.1 * np.linspace(1, -1, 10)
    costs = {name: (steady(own[i]), steady(other[i]) + 2 * wobble) for i, name in enumerate(("mnist", "caltech101"))}
    ruling = rules.invariant(costs)
    assert ruling.verdict == verdict and ruling.effect == pytest.approx(max(own))


@pytest.mark.parametrize(
    ("less", "verdict"),
    [
        ({"a": layout(0), "b": layout(0.5)}, YES),
        ({"a": layout(0)[:1] / 2}, YES),  # one seed: levels
        ({"a": layout(0), "b": layout(8)}, NO),
        ({"a": -8 + layout(0)[:1]}, NO),
        ({"a": layout(0), "b": layout(2)}, UNDECIDED),
        ({"a": layout(3)}, UNDECIDED),  # within what one run of theirs may be
    ],
)
def test_numbers_come_back(less, verdict):
    assert rules.numbers_come_back(less).verdict == verdict


# What each rule says of a world without the difference that it asks for, and which of its words would be false there.
RNG = np.random.default_rng(33)


def moved(seeds, levels=6, of_seed=OF_SEED, of_rest=OF_REST):
    return RNG.normal(0, of_seed, (seeds, 1)) + RNG.normal(0, of_rest, (seeds, levels))


def null_of_numbers(seeds):
    ours, theirs = moved(seeds), moved(1)
    return rules.numbers_come_back({"a": ours - theirs})


def null_of_settings(seeds):
    runs = 95 + RNG.normal(0, 1, (seeds, 3, 3))
    pairs = (
        ([runs[:, k].ravel() for k in range(3)], runs.mean(axis=2)),
        ([runs[:, :, k].ravel() for k in range(3)], runs.mean(axis=1)),
    )
    return rules.hardly_matters(pairs)


def null_of_batch_norm(seeds):
    return rules.batch_norm_and_overfitting(
        moved(seeds, 1)[:, 0], (0, seeds), (0, 27), 97 + moved(seeds, 1)[:, 0], 60 + moved(seeds, 1)[:, 0]
    )


NULLS = {
    "on the floor: above it": (lambda n: rules.stays_above(90 + moved(n), 90), {YES, NO}),
    "no lead: a lead or other falls": (lambda n: rules.alike_and_no_advantage(moved(n), moved(n, 1)[:, 0]), {NO}),
    "a lead of the margin: none": (lambda n: rules.alike_and_no_advantage(2 + moved(n), moved(n, 1)[:, 0]), {YES}),
    "no lead: ahead": (lambda n: rules.ahead_by_20(moved(n)), {YES, IN_PART}),
    "a lead of 20: none": (lambda n: rules.ahead_by_20(20 + moved(n)), {NO, IN_PART}),
    "falls alike: one more": (lambda n: rules.one_falls_one_stable(moved(n, 1)[:, 0], moved(n, 1)[:, 0]), {YES}),
    "a fall of the margin more: alike": (
        lambda n: rules.one_falls_one_stable(2 + moved(n, 1)[:, 0], moved(n, 1, 0.1, 0.1)[:, 0]), {NO},
    ),
    "nothing on white: a lead": (lambda n: rules.shows_without_black(moved(n), moved(n)), {YES}),
    "a lead of the margin on white: none": (lambda n: rules.shows_without_black(2 + moved(n), moved(n)), {NO}),
    "settings alike: they matter": (null_of_settings, {NO}),
    "rates alike: one behind": (lambda n: rules.order_of_magnitude([moved(n), moved(n)]), {NO}),
    "the margin behind: not": (lambda n: rules.order_of_magnitude([moved(n) - 2, moved(n) + 9]), {YES}),
    "falls as often: more often": (lambda n: rules.unstable(RNG.random(n) < 0.3, RNG.random(2 * n) < 0.3), {YES}),
    "half of the runs fall: less": (lambda n: rules.unstable(RNG.random(n) < 0.5, RNG.random(2 * n) < 0.5), {NO}),
    "no batch norm, no loss: a gain": (null_of_batch_norm, {YES, IN_PART}),
    "invariant: not": (
        lambda n: rules.invariant({name: tuple(moved(n, 2).T) for name in "ab"}), {NO, IN_PART},
    ),
    "a cost of the margin: none": (
        lambda n: rules.invariant({name: tuple(2 + moved(n, 2).T) for name in "ab"}), {YES},
    ),
    "the same numbers: others": (null_of_numbers, {NO}),
    "one seed, the same numbers: others": (lambda n: null_of_numbers(1), {NO}),
}  # fmt: skip


@pytest.mark.parametrize("name", NULLS)
def test_without_a_difference_a_rule_seldom_finds_one(name):
    study, false = NULLS[name]
    for seeds in (3, 10):
        said = Counter(study(seeds).verdict for _ in range(1000))
        # Of 1,000 studies 5%, and two standard errors for the simulation's own.
        assert sum(said[word] for word in false) <= 64, (seeds, said)
