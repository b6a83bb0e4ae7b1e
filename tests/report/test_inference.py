import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from sparsecnn.report.inference import (
    Estimate,
    as_cluster,
    at_levels,
    holm,
    largest_layout,
    of_values,
    ratio,
    share_interval,
    tenable,
)

# R's data set sleep (Student 1908; "Cushny and Peebles"): extra hours of sleep under two drugs, ten patients.
DRUG_1 = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
DRUG_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_paired_differences_are_students():
    """R, example(t.test): t.test(sleep$extra[1:10], sleep$extra[11:20], paired = TRUE) prints t = -4.0621, df = 9,
    p-value = 0.002833, 95 percent confidence interval -2.4598858 -0.7001142."""
    apart = of_values(DRUG_1 - DRUG_2)
    assert (apart.effect / apart.error, apart.freedom) == (pytest.approx(-4.0621, abs=5e-5), 9)
    assert apart.differs() == pytest.approx(0.002833, abs=5e-7)
    assert apart.interval == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    assert apart.below() == pytest.approx(apart.differs() / 2) and apart.above() == pytest.approx(1 - apart.below())


@pytest.mark.parametrize("margin", [0.5, 1.5, 2.5])
def test_equivalence_is_statsmodels_two_one_sided_tests(margin):
    p, *_ = ttost_paired(DRUG_1, DRUG_2, -margin, margin)
    assert of_values(DRUG_1 - DRUG_2).within(margin) == pytest.approx(p)


def test_a_layouts_variance_is_that_of_the_textbooks_block_design():
    """With the seeds as blocks, a level's variance is (MS_blocks + (levels - 1) MS_error) / levels, whose degrees of
    freedom Satterthwaite's formula gives. Penicillin yields of Box, Hunter and Hunter (Statistics for Experimenters,
    2nd ed., table 4.4: five blends as blocks, four treatments), whose table has MS_blocks = 66.0, MS_error = 18.83."""
    penicillin = np.array(
        [[89, 88, 97, 94], [84, 77, 92, 79], [81, 87, 87, 85], [87, 92, 89, 84], [79, 81, 80, 88]], dtype=float
    )
    levels = at_levels(penicillin, pool=True)
    assert [level.effect for level in levels] == [84, 85, 89, 86]
    blocks, rest = 66.0, 18.8333333
    variance = (blocks + 3 * rest) / 4
    freedom = (blocks + 3 * rest) ** 2 / (blocks**2 / 4 + (3 * rest) ** 2 / 12)
    assert [level.error for level in levels] == pytest.approx([(variance / 5) ** 0.5] * 4)
    assert [level.freedom for level in levels] == pytest.approx([freedom] * 4)
    # It is the mean of the levels' own variances.
    assert variance == pytest.approx(penicillin.var(axis=0, ddof=1).mean())
    cluster = as_cluster(penicillin)
    assert (cluster.effect, cluster.freedom) == (86, 4) and cluster.error == pytest.approx((66.0 / 4 / 5) ** 0.5)


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.915), (10, 0.93)])
@pytest.mark.parametrize("of_seed", [0.0, 1.0, 3.0])
def test_the_pooled_interval_covers_about_what_it_says(seeds, least, of_seed):
    """With three seeds and a spread that is mostly theirs it covers 93%, with ten 95%."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1500):
        level = at_levels(rng.normal(0, of_seed, (seeds, 1)) + rng.normal(0, 1, (seeds, 8)), pool=True)[0]
        covered.append(abs(level.effect) < level.half())
    assert least < np.mean(covered) < 0.97


def test_pooling_is_tenable_where_spreads_are_alike():
    rng = np.random.default_rng(0)
    alike = [tenable(rng.normal(0, 1, (10, 8))) for _ in range(400)]
    assert np.mean(alike) > 0.93
    unlike = rng.normal(0, 1, (10, 8)) * np.array([1] * 7 + [12])
    assert not tenable(unlike)
    own = at_levels(unlike)
    assert [level.error for level in own] == pytest.approx((unlike.std(axis=0, ddof=1) / 10**0.5).tolist())
    assert {level.freedom for level in own} == {9}
    # R, example(fligner.test) and car's leveneTest(count ~ spray, InsectSprays), which centers at the median:
    # F(5, 66) = 3.8214, p = 0.004223.
    sprays = np.array(
        [
            [10, 7, 20, 14, 14, 12, 10, 23, 17, 20, 14, 13],
            [11, 17, 21, 11, 16, 14, 17, 17, 19, 21, 7, 13],
            [0, 1, 7, 2, 3, 1, 2, 1, 3, 0, 1, 4],
            [3, 5, 12, 6, 4, 3, 5, 5, 5, 5, 2, 4],
            [3, 5, 3, 5, 3, 6, 1, 1, 3, 2, 6, 4],
            [11, 9, 15, 22, 15, 16, 13, 10, 26, 26, 24, 13],
        ]
    ).T
    assert stats.levene(*sprays.T, center="median").pvalue == pytest.approx(0.004223, abs=5e-7) and not tenable(sprays)
    for _ in range(40):
        layout = rng.normal(0, 1, (5, 4)) * rng.uniform(0.3, 3, 4)
        assert tenable(layout) == (stats.levene(*layout.T, center="median").pvalue >= 0.05)


def test_two_seeds_keep_each_levels_own_variance():
    """Their deviations from a level's median are equal, so that rounding alone would say whether spreads are."""
    rng = np.random.default_rng(0)
    for layout in ([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], *rng.normal(80, 1, (20, 2, 2)), *rng.normal(80, 1, (20, 2, 8))):
        layout = np.array(layout)
        assert at_levels(layout) == [of_values(level) for level in layout.T]


def test_holm_is_rs_p_adjust():
    """R: p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm") is 0.04 0.06 0.06 0.06; NA stays and is not counted."""
    assert holm([0.03, 0.01, math.nan, 0.04, 0.02]) == pytest.approx([0.06, 0.04, math.nan, 0.06, 0.06], nan_ok=True)
    assert np.isnan(holm([math.nan])).all() and len(holm([])) == 0
    p = np.random.default_rng(0).uniform(0, 0.2, 40)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_a_share_has_the_exact_interval():
    """R, example(binom.test): Conover (1971), Mendelian inheritance, binom.test(682, 925, p = 0.75) prints 0.7076683
    0.7654066. None of three has 0 to 1 - (0.025)^(1/3)."""
    assert share_interval(682, 925) == pytest.approx((0.7076683, 0.7654066), abs=5e-8)
    assert share_interval(0, 3) == pytest.approx((0, 1 - 0.025 ** (1 / 3)))


def test_the_largest_layout_has_the_most_degrees_of_freedom():
    def found(*counts: int, seeds: int = 10):
        there = pd.DataFrame({level: np.arange(seeds) < count for level, count in enumerate(counts)})
        return tuple(map(len, largest_layout(there)))

    assert found(3, 3, 3, 1, 1, 1, 1, 1) == (3, 3)  # levels with one seed take none from three
    assert found(7, 7, 6, 6, 6, 6, 6, 6) == (6, 8)  # a seed at two of eight levels adds none
    assert found(1, 1, 1) == (1, 3) and found(3, 1, 1) == (1, 3)  # two levels at least
    assert found(3) == (3, 1) and found(0, 0) == (0, 0)
    # A seed that collapsed at all levels but one is left out, and no level with it.
    there = pd.DataFrame(True, index=range(10), columns=range(11))
    there.loc[3, [level for level in range(11) if level != 5]] = False
    seeds, levels = largest_layout(there)
    assert seeds == [0, 1, 2, 4, 5, 6, 7, 8, 9] and levels == list(range(11))


@given(arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 5))))
def test_no_layout_is_larger(there):
    """Against every choice of seeds. Two levels may have as many seeds and not the same ones."""
    seeds, levels = largest_layout(pd.DataFrame(there))
    assert there[np.ix_(seeds, levels)].all()
    sizes = []
    for chosen in itertools.product([False, True], repeat=len(there)):
        wide = int(there[list(chosen)].all(axis=0).sum())
        if any(chosen) and wide >= max(1, min(2, there.any(axis=0).sum())):
            sizes.append(((sum(chosen) - 1) * wide, sum(chosen), wide))
    size = (len(seeds) - 1) * len(levels), len(seeds), len(levels)
    assert size == max(sizes) if sizes else (seeds, levels) == ([], [])


def test_one_value_finds_nothing():
    alone = of_values([3.0])
    assert alone.effect == 3 and all(end != end for end in alone.interval)
    for p in (alone.above(), alone.below(), alone.differs(), alone.within(), alone.beyond()):
        assert not p < 1
    assert math.isnan(of_values([]).effect)


def test_values_without_spread_are_certain():
    same = of_values([1.0, 1.0, 1.0])
    assert (same.above(), same.below(), same.within(), same.beyond(), same.differs()) == (0, 1, 0, 1, 0)
    assert of_values([0.0, 0.0]).differs() == 1
    assert [level.differs() for level in at_levels(np.array([[1.0, 0.0], [1.0, 0.0]]))] == [0, 1]


def test_beyond_a_margin_is_not_within_it():
    effect = Estimate(5.0, 1.0, 9)
    assert effect.beyond(2) == pytest.approx(stats.t.sf(3, 9)) and effect.within(2) > 0.99
    assert (effect - 5).differs() == 1


def test_a_ratio_has_fiellers_interval():
    # Of equal values, and of wholes without spread, where it is Student's t.
    rng = np.random.default_rng(0)
    wholes = 10 + rng.normal(0, 1, 12)
    found, low, high = ratio(2 * wholes, wholes)
    assert found == low == high == pytest.approx(2)
    found, low, high = ratio([1.0, 2.0, 3.0], [10.0, 10.0, 10.0])
    mean = of_values([0.1, 0.2, 0.3])
    assert (found, low, high) == pytest.approx((0.2, *mean.interval))
    assert ratio([1.0, 2.0], [-1.0, 1.1])[1:] == (-np.inf, np.inf)
    assert np.isnan(ratio([1.0], [2.0])[1:]).all() and ratio([1.0], [2.0])[0] == 0.5


@pytest.mark.parametrize("seeds", [3, 10])
def test_the_interval_of_a_ratio_covers_it_as_often_as_it_says(seeds):
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(2000):
        seed = rng.normal(0, 1, seeds)
        wholes, parts = 6 + seed + rng.normal(0, 1, seeds), 3 + seed + rng.normal(0, 1, seeds)
        _, low, high = ratio(parts, wholes)
        covered.append(low <= 0.5 <= high)
    assert 0.94 <= np.mean(covered) <= (0.97 if seeds == 10 else 0.98)
