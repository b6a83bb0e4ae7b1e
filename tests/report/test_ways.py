import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sparsecnn.experiment import MODELS
from sparsecnn.report import alternatives
from sparsecnn.report.alternatives import CPU, GPU, SITUATIONS

LEVELS = (0.1, 0.5, 0.9)


def of_way(way: str, accuracy, seeds=1, levels=LEVELS, mixed=False) -> pd.DataFrame:
    """Tests of a way under random masks and under a square; ``accuracy``: of the levels of training and test."""
    lines = []
    for seed, train in itertools.product(range(seeds), levels if not mixed else (np.nan,)):
        key = {"model": way, "seed": seed, "train_sparsity": train, "collapsed": False}
        key |= {"trained_at": "every sparsity" if mixed else "own sparsity"}
        lines += [
            key | {"test_mask": "random", "test_sparsity": s, "accuracy": accuracy(train, s) + seed} for s in LEVELS
        ]
        lines.append(key | {"test_mask": "square", "test_sparsity": 0.3, "accuracy": 40.0 + seed})
    return pd.DataFrame(lines)


def steep(slope: float, top: float = 90.0):
    return lambda train, test: top - slope * abs(train - test)


def test_levels_are_those_that_most_ways_have():
    ways = [of_way(name, steep(10), levels=(0.1, 0.5)) for name in "abc"]
    measured = pd.concat([*ways, of_way("whole", steep(10)), of_way("single", steep(10), levels=(0.1,))])
    measured = pd.concat([measured, of_way("mixed", lambda train, test: 80.0, mixed=True)])
    shown, levels = alternatives.compared(measured)
    assert levels == [0.1, 0.5] and set(shown["model"]) == {"a", "b", "c", "whole", "mixed"}
    assert set(shown["train_sparsity"].dropna()) == {0.1, 0.5}


def test_no_way_is_left_out_for_levels_that_others_have_more_of():
    few = [of_way(name, steep(10), levels=(0.1, 0.5)) for name in "ab"]
    many = [of_way(name, steep(10), levels=(0.0, 0.1, 0.2, 0.5, 0.7, 0.9)) for name in "cdefg"]
    shown, levels = alternatives.compared(pd.concat([*few, *many]))
    assert levels == [0.1, 0.5] and set(shown["model"]) == set("abcdefg")


def test_costs_are_means_over_levels_and_over_pairs_of_them():
    rng = np.random.default_rng(0)
    values = {pair: rng.uniform(50, 90) for pair in itertools.product(LEVELS, LEVELS)}
    measured = pd.concat(
        [
            of_way("way", lambda train, test: values[train, test], seeds=2),
            of_way("mixed", lambda train, test: 70 + 10 * test, mixed=True),
        ]
    )
    costs = alternatives.costs_of(measured)
    own = np.mean([values[level, level] for level in LEVELS])
    other = np.mean([value for (train, test), value in values.items() if train != test])
    for seed in (0, 1):
        assert costs.loc["way", seed][["own", "other", "wrong"]].tolist() == pytest.approx(
            [own + seed, other + seed, own - other]
        )
        assert costs.loc[("way", seed), "square 30%"] == 40 + seed
    assert costs.loc[("mixed", 0), "own"] == costs.loc[("mixed", 0), "other"] == pytest.approx(75)
    assert np.isnan(costs.loc[("mixed", 0), "wrong"])
    shown = alternatives.summary(costs)
    assert shown.loc["way", "seeds"] == 2 and shown.loc["way", "own"] == pytest.approx(own + 0.5)
    # A collapsed run is left out, and with it the seed that lacks a level then.
    measured.loc[
        (measured["model"] == "way") & (measured["seed"] == 1) & (measured["train_sparsity"] == 0.9), "collapsed"
    ] = True
    assert set(alternatives.costs_of(measured).loc["way"].index) == {0}


def test_one_level_of_training_has_no_other():
    measured = pd.concat([of_way(name, steep(10), levels=(0.5,)) for name in MODELS])
    shown = alternatives.summary(alternatives.costs_of(measured))
    assert shown["own"].eq(90).all() and shown["other"].isna().all()
    assert alternatives.explained(alternatives.costs_of(measured)).empty
    plt.close(alternatives.figure({"one level": shown}))


def test_a_share_of_the_steadiness_is_0_for_convnet_and_100_for_sparseconvnet():
    sparse, plain = MODELS[:2]
    slopes = {plain: 30, sparse: 10, "half way": 20, "as SparseConvNet": 10, "as ConvNet": 30, "steadier": 0}
    measured = pd.concat([of_way(way, steep(slope), seeds=3) for way, slope in slopes.items()])
    shares = alternatives.explained(alternatives.costs_of(measured))["share"]
    assert shares.round(6).to_dict() == {"half way": 50, "as SparseConvNet": 100, "as ConvNet": 0, "steadier": 150}
    assert alternatives.explained(alternatives.costs_of(measured[measured["model"] != plain])).empty
    # Where seeds don't tell the two apart, or there is one, there is nothing to share.
    torn = pd.concat([of_way(sparse, steep(10), seeds=2), of_way(plain, lambda a, b: 90 - (a != b), seeds=2)])
    torn.loc[(torn["seed"] == 1) & (torn["model"] == plain) & (torn["accuracy"] < 91), "accuracy"] -= 30
    for case in (pd.concat([torn, of_way("way", steep(20), seeds=2)]), measured[measured["seed"] == 0]):
        assert alternatives.explained(alternatives.costs_of(case)).empty


def test_a_share_from_too_few_seeds_has_no_bounds():
    sparse, plain = MODELS[:2]
    measured = pd.concat([of_way(way, steep(10), seeds=3) for way in (sparse, plain, "three")])
    wrong = (measured["model"] == plain) & (measured["test_sparsity"] != measured["train_sparsity"])
    measured.loc[wrong, "accuracy"] -= 20 + measured.loc[wrong, "seed"].map({0: -5, 1: 5, 2: 0})
    measured = pd.concat([measured, *(of_way(f"{seeds} seeds", steep(10), seeds) for seeds in (1, 2))])
    shown = alternatives.explained(alternatives.costs_of(measured))
    assert shown["seeds"].to_dict() == {"three": 3, "2 seeds": 2, "1 seeds": 1}
    assert shown["share"].tolist() == pytest.approx([100] * 3)
    for bound in ("low", "high"):
        assert shown[bound].isna().to_dict() == {"three": False, "2 seeds": True, "1 seeds": True}


def test_what_to_use_is_the_least_code_among_the_best():
    accuracy = {
        "ConvNet": steep(40, 88),
        "ConvNet, nearest filled": steep(0, 91),
        "SparseConvNet": steep(6, 90.9),
        "ConvNet, batch norm anew from test images": steep(20, 88),
    }
    measured = pd.concat([of_way(way, accuracies) for way, accuracies in accuracy.items()])
    measured = pd.concat([measured, of_way("ConvNet, trained on every sparsity", lambda train, test: 60.0, mixed=True)])
    shown = alternatives.summary(alternatives.costs_of(measured))
    prices = pd.DataFrame({CPU: {"ConvNet": 7.0, "nearest": 2.5, "SparseConvNet": 9.0}, GPU: {"ConvNet": 30.0}})
    table = alternatives.decisions(shown, prices)
    assert list(table.index) == list(SITUATIONS)
    assert table["use"].tolist() == [
        "ConvNet, nearest filled",  # ConvNet is 3 behind, and SparseConvNet takes as much code
        "ConvNet, nearest filled",
        "SparseConvNet",
        "ConvNet",  # in a hole all are alike
        "ConvNet, batch norm anew from test images",
    ]
    filled = table.iloc[0]
    assert filled[CPU] == 9.5 and np.isnan(filled[GPU]) and filled["lines"] == 2
    assert table.iloc[2][CPU] == 9.0 and np.isnan(table.iloc[2][GPU])


@pytest.mark.parametrize(
    ("way", "lines"),
    [
        ("ConvNet", 0),
        ("ConvNet + mask, trained on every sparsity", 3),
        ("ConvNet, input rescaled", 1),
        ("ConvNet, mean filled, input rescaled in the test", 2),
        ("ConvNet, blur filled", 3),
        ("SparseConvNet, batch norm anew from 32 images", 4),
        ("partial convolution", 2),
    ],
)
def test_lines_of_code_are_those_of_the_network_and_of_each_step(way, lines):
    shown = pd.DataFrame({"own": [90.0], "other": [80.0], "square 30%": [50.0], "seeds": [1]}, index=[way])
    table = alternatives.decisions(shown, alternatives.times())
    assert set(table["lines"]) == {lines} and table[CPU].notna().all()


def test_by_level_shows_what_was_trained_at_the_least():
    ways = [of_way("a", steep(10)), of_way("b", steep(50)), of_way("least alone", steep(80), seeds=2, levels=(0.1,))]
    table = alternatives.by_level(pd.concat([*ways, of_way("not it", steep(10), levels=(0.5,))]))
    assert table.index.name == "trained with 10% missing" and table.index.tolist() == ["a", "b", "least alone"]
    assert table.loc["b"].tolist() == pytest.approx([90, 70, 50, 1])
    assert table.columns.tolist() == [*LEVELS, "seeds"] and table["seeds"].tolist() == [1, 1, 2]


def test_backgrounds_are_columns_of_each_network():
    ways = [of_way(model + end, steep(10, 90 - 5 * bool(end))) for model in MODELS for end in ("", ", inverted")]
    table = alternatives.backgrounds(pd.concat([*ways, of_way("ConvNet, grey filled", steep(10))]))
    assert table.columns.tolist() == [(model, ground) for model in MODELS for ground in ("black", "white")]
    assert table.index.tolist() == list(LEVELS)
    assert table["ConvNet"].to_numpy().tolist() == [[90, 85]] * 3


def test_the_table_has_a_line_a_way_and_pair_of_levels():
    measured = pd.concat([of_way("a", steep(10), seeds=2), of_way("m", lambda train, test: 60.0, mixed=True)])
    table = alternatives.table(measured)
    assert list(table) == ["model", "train_sparsity", "test_sparsity", "n_seeds", "accuracy_mean", "accuracy_ci95"]
    assert len(table) == 9 + 3 and table["n_seeds"].tolist() == [2] * 9 + [1] * 3
    assert table[table["model"] == "m"]["train_sparsity"].isna().all()


def test_times_are_read_of_networks_and_fills():
    times = alternatives.times()
    assert times.loc[["ConvNet", "SparseConvNet"]].notna().all(axis=None)
    assert times.loc["nearest", CPU] > 0 and np.isnan(times.loc["nearest", GPU])


def test_the_figure_has_no_interval_that_leaves_0_to_100():
    shown = pd.DataFrame({"own": 90.0, "other": 80.0, "ci95": [5.0, 25.0, np.nan], "seeds": [3, 2, 1]}, index=[*"abc"])
    figure = alternatives.figure({"three ways": shown})
    bars = [container.has_xerr for container in figure.axes[0].containers]
    plt.close(figure)
    assert bars == [True, False, False]


def test_where_every_run_collapsed_there_is_nothing_to_show():
    measured = pd.concat([of_way(name, steep(10)) for name in MODELS]).assign(collapsed=True)
    costs = alternatives.costs_of(measured)
    shown = alternatives.summary(costs)
    tables = [shown, alternatives.explained(costs), alternatives.by_level(measured), alternatives.backgrounds(measured)]
    tables.append(alternatives.decisions(shown, alternatives.times()))
    assert all(table.empty for table in tables)
    plt.close(alternatives.figure({"nothing": shown}))
