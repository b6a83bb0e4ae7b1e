from math import comb

import matplotlib.pyplot as plt
import pytest
import torch

from sparsecnn.report import mask_checks


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_exact_counts_are_measured(generator, monkeypatch):
    table = mask_checks.exact_counts(generator, count=50)
    assert table.loc[0.3, "int(784 * sparsity)"] == 235 == table.loc[0.3, "fewest missing"]
    assert (table["fewest missing"] == table["most missing"]).all()
    # A scheme that always drops the same pixels is found out.
    first = torch.arange(784).view(28, 28) >= 78
    monkeypatch.setattr(mask_checks, "exact_count_mask", lambda count, *_: first.expand(count, 1, 28, 28))
    assert mask_checks.exact_counts(generator, count=50).loc[0.1, "largest |z|"] > 20


def test_bernoulli_counts_are_binomial(generator):
    table, observed = mask_checks.bernoulli_counts(generator, count=50)
    assert table.loc[0.3, "mean, theory"] == pytest.approx(0.7 * 50_176)
    assert table.loc[0.3, "sd, theory"] == pytest.approx((50_176 * 0.21) ** 0.5)
    assert len(observed[0.3]) == 50 and table.loc[0.3, "mean, measured"] == observed[0.3].double().mean()
    assert (table["sd of z over pixels"] - 1).abs().max() < 0.05


def test_empty_windows_agree_with_the_formulas(generator):
    table = mask_checks.empty_windows(generator, count=300)
    for level in (0.5, 0.9, 0.95):
        dropped = int(784 * level)
        assert table.loc[level, ("exact count", "theory")] == pytest.approx(
            100 * comb(784 - 25, dropped - 25) / comb(784, dropped)
        )
        assert table.loc[level, ("Bernoulli", "theory")] == pytest.approx(100 * level**25)
    for scheme in ("exact count", "Bernoulli"):
        high = table.loc[0.9:, scheme]
        assert high["measured"].to_numpy() == pytest.approx(high["theory"].to_numpy(), rel=0.1)
        assert (high["with border"] > high["theory"]).all()


def test_observed_pixels_in_a_window_follow_the_hypergeometric_law():
    shares = mask_checks.observed_in_window((0.3, 0.9))
    assert shares.sum().tolist() == pytest.approx([100, 100])
    kept = 784 - int(784 * 0.9)
    assert shares.loc[2, "90% missing"] == pytest.approx(100 * comb(25, 2) * comb(759, kept - 2) / comb(784, kept))


def test_the_figures_draw_what_was_measured(generator):
    _, observed = mask_checks.bernoulli_counts(generator, count=20)
    figure = mask_checks.counts_figure(observed[0.3], generator)
    assert [line.get_xdata()[0] for panel in figure.axes for line in panel.lines[1:]] == [236, 35_124]
    plt.close(figure)
    empty = mask_checks.empty_windows(generator, count=20)
    figure = mask_checks.windows_figure(empty, mask_checks.observed_in_window((0.3,)))
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [60, 70, 80, 85, 90, 95]
    assert line.get_ydata()[-1] == empty.loc[0.95, ("exact count", "theory")]
    plt.close(figure)
