import math
import re
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from sparsecnn.checks import SettingError
from sparsecnn.data.masks import bernoulli_mask, exact_count_mask, pack, ring_mask, row_mask, square_mask, unpack

both = pytest.mark.parametrize("draw", [exact_count_mask, bernoulli_mask])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 40))
def test_packed_masks_take_an_eighth_and_come_back(count, height, width):
    masks = bernoulli_mask(count, height, width, 0.5)
    packed = pack(masks)
    assert packed.shape == (count, 1, height, math.ceil(width / 8)) and packed.dtype == torch.uint8
    assert torch.equal(unpack(packed, width), masks)


@given(
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0, 1) | st.sampled_from([0, 0.1, 0.29, 0.3, 0.7, 0.85, 0.95, 1]),
)
def test_an_exact_count_mask_drops_that_many_pixels_to_the_letter(count, height, width, sparsity):
    masks = exact_count_mask(count, height, width, sparsity)
    assert masks.shape == (count, 1, height, width) and masks.dtype == torch.bool
    assert (~masks).sum((1, 2, 3)).tolist() == [int(height * width * sparsity)] * count


def test_an_exact_count_mask_draws_every_subset_as_often():
    dropped = ~exact_count_mask(15_000, 2, 3, 0.34, seeded(0)).flatten(1)
    subsets = [tuple(row.nonzero().flatten().tolist()) for row in dropped]
    assert chisquare([subsets.count(subset) for subset in combinations(range(6), 2)]).pvalue > 1e-3
    assert dropped.sum(1).eq(2).all()


@both
def test_every_pixel_of_an_mnist_image_is_dropped_as_often(draw):
    sparsity, count = 0.7, 4000
    times = (~draw(count, 28, 28, sparsity, seeded(1))).sum(0).flatten()
    # Of 784 pixels one in a million would lie outside by chance.
    low, high = binom.interval(1 - 1e-9, count, sparsity)
    assert low <= times.min() and times.max() <= high


@pytest.mark.parametrize("sparsity", [0.05, 0.3, 0.95])
def test_a_bernoulli_masks_counts_are_binomial(sparsity):
    dropped = (~bernoulli_mask(2000, 20, 20, sparsity, seeded(2))).sum((1, 2, 3)).double()
    expected, spread = 400 * sparsity, math.sqrt(400 * sparsity * (1 - sparsity))
    assert abs(dropped.mean() - expected) < 5 * spread / math.sqrt(2000)
    assert dropped.std() == pytest.approx(spread, rel=0.1)  # five times the error of a spread out of 2000


def test_a_bernoulli_mask_of_sparsity_0_or_1_is_all_or_nothing():
    masks = bernoulli_mask(3, 28, 28, 0)
    assert masks.all() and masks.shape == (3, 1, 28, 28) and masks.dtype == torch.bool
    assert not bernoulli_mask(3, 28, 28, 1).any()


@both
def test_a_seed_gives_the_same_masks_and_another_seed_others(draw):
    assert torch.equal(draw(4, 9, 9, 0.5, seeded(5)), draw(4, 9, 9, 0.5, seeded(5)))
    assert not torch.equal(draw(4, 9, 9, 0.5, seeded(5)), draw(4, 9, 9, 0.5, seeded(6)))


@both
def test_the_masks_of_one_call_and_of_the_next_all_differ(draw):
    generator = seeded(0)
    masks = torch.cat([draw(50, 9, 9, 0.5, generator), draw(50, 9, 9, 0.5, generator)])
    assert len(masks.flatten(1).unique(dim=0)) == 100


@both
def test_without_a_generator_torchs_own_seed_rules(draw):
    torch.manual_seed(0)
    first = draw(4, 9, 9, 0.5)
    torch.manual_seed(0)
    assert torch.equal(first, draw(4, 9, 9, 0.5))
    assert not torch.equal(first, draw(4, 9, 9, 0.5))


@both
@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan"), 30])
def test_a_sparsity_that_is_no_fraction_is_refused_in_one_line(draw, sparsity):
    with pytest.raises(SettingError, match=rf"^sparsity={re.escape(str(sparsity))} .*$"):
        draw(1, 9, 9, sparsity)


def test_each_mask_may_have_a_sparsity_of_its_own():
    levels = torch.tensor([0.0, 0.3, 1.0, 0.95, 0.0], dtype=torch.float64)
    exact = exact_count_mask(5, 28, 28, levels, seeded(0))
    assert (~exact).sum((1, 2, 3)).tolist() == [int(784 * level) for level in levels.tolist()]
    by_chance = (~bernoulli_mask(5, 100, 100, levels, seeded(0))).double().mean((1, 2, 3))
    torch.testing.assert_close(by_chance, levels, atol=0.03, rtol=0)


@both
@pytest.mark.parametrize("levels", [[0.1], [0.1, 1.2], [[0.1, 0.2]], [0.1, float("nan")]])
def test_sparsities_that_do_not_fit_the_masks_are_refused_in_one_line(draw, levels):
    with pytest.raises(SettingError, match="^sparsity=[^\\n]*2 of them"):
        draw(2, 9, 9, torch.tensor(levels))


@given(st.integers(0, 4), st.integers(1, 30), st.floats(0, 1))
def test_a_square_mask_misses_one_square(count, size, sparsity):
    missing = ~square_mask(count, size, size, sparsity)
    side = round(size * sparsity**0.5)
    assert missing.shape == (count, 1, size, size)
    for mask in missing[:, 0]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask.sum() == side**2 and len(rows) == len(columns) == side
        assert side == 0 or rows[-1] - rows[0] == columns[-1] - columns[0] == side - 1


def test_a_square_lies_everywhere_as_often_and_must_fit():
    corners = (~square_mask(9000, 4, 4, 0.25, seeded(0)))[:, 0].flatten(1).int().argmax(1)
    assert chisquare(corners.bincount(minlength=16)[[0, 1, 2, 4, 5, 6, 8, 9, 10]]).pvalue > 1e-3
    with pytest.raises(SettingError, match="square's side=10.*at most 4"):
        square_mask(1, 4, 50, 0.5)


@given(st.integers(0, 4), st.integers(1, 20), st.integers(1, 20), st.floats(0, 1))
def test_a_row_mask_misses_whole_rows(count, height, width, sparsity):
    missing = ~row_mask(count, height, width, sparsity)
    assert missing.shape == (count, 1, height, width)
    assert torch.equal(missing.any(3), missing.all(3))
    assert missing.all(3).sum((1, 2)).tolist() == [round(height * sparsity)] * count


def test_every_row_is_missing_as_often():
    times = (~row_mask(6000, 4, 1, 0.5, seeded(0))).sum(0).flatten()
    assert (times - 3000).abs().max() < 200


@pytest.mark.parametrize(("rings", "first"), [(64, 0), (32, 1), (16, 2), (8, 4)])
def test_a_ring_mask_keeps_so_many_rows_evenly_spaced(rings, first):
    masks = ring_mask(3, 64, 5, rings)
    assert masks.shape == (3, 1, 64, 5) and masks.dtype == torch.bool
    expected = torch.zeros(64, dtype=torch.bool)
    expected[first :: 64 // rings] = True
    assert expected.sum() == rings and torch.equal(masks, expected[:, None].expand(3, 1, 64, 5))


@pytest.mark.parametrize("rings", [0, -8, 65, 24, 8.0, True, None])
def test_rings_that_do_not_divide_the_height_are_refused(rings):
    with pytest.raises(SettingError, match=f"^rings={rings} is not allowed: "):
        ring_mask(1, 64, 4, rings)
