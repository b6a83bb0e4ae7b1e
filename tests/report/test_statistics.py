import itertools

import numpy as np
import pandas as pd
import pytest
from test_tables import collect

from sparsecnn.experiment import experiment
from sparsecnn.records import SETTINGS, no_rows
from sparsecnn.report.statistics import (
    batch_norm_table,
    bridge_ends,
    bridge_table,
    largest_whole_grid,
    late_drops,
    precision_pairs,
    spread_between_seeds,
    variance_explained,
)
from sparsecnn.studies import Step, batch_norms, bridge
from sparsecnn.sweeps.store import of_experiments


def runs_of(effect, noise: float = 0.0, number: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(number)
    cells = itertools.product((1e-2, 5e-3, 1e-3), (64, 128, 256), range(3))
    return pd.DataFrame(
        [
            {"learning_rate": rate, "batch_size": size, "seed": seed,
             "test_accuracy": 90 + effect(rate, size, seed) + rng.normal(0, noise)}
            for rate, size, seed in cells
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "effect"),
    [
        ("learning rate", lambda rate, size, seed: 300 * rate),
        ("batch size", lambda rate, size, seed: size / 100),
        ("seed", lambda rate, size, seed: seed),
        ("learning rate x batch size", lambda rate, size, seed: 3 * (rate == 1e-2 and size == 64)),
    ],
)
def test_variance_goes_to_the_source_it_comes_from(source, effect):
    table = variance_explained(runs_of(effect, noise=0.2))
    assert table["share"].sum() == pytest.approx(100)
    line = table.loc[source]
    assert line["low"] > 30 and line["low"] < line["partial"] and line["high"] < 100 and line["p"] < 0.001
    others = table.drop([source, "the rest"])
    if source != "learning rate x batch size":  # which has part of it in its two factors
        assert others["share"].max() < 10 and others["low"].max() < 20


def test_noise_alone_is_taken_for_an_effect_in_few_of_many_studies():
    studies = [variance_explained(runs_of(lambda *_: 0, 1, number)).drop("the rest") for number in range(50)]
    # An interval that covers 95% lies wholly above nothing in 2.5%.
    assert 0 < (pd.concat(studies)["low"] > 0).mean() < 0.07


def test_shares_are_sums_of_squares_by_hand():
    runs = runs_of(lambda rate, size, seed: 200 * rate + seed, noise=0.5)
    accuracy = runs["test_accuracy"]
    means = runs.groupby("learning_rate")["test_accuracy"].transform("mean")
    by_hand = ((means - accuracy.mean()) ** 2).sum() / ((accuracy - accuracy.mean()) ** 2).sum()
    assert variance_explained(runs).loc["learning rate", "share"] == pytest.approx(100 * by_hand)


def test_too_few_runs_give_no_analysis():
    runs = runs_of(lambda *_: 0, noise=1)
    assert variance_explained(runs[runs["seed"] == 0]).empty
    assert variance_explained(runs.iloc[:3]).empty  # one setting
    assert variance_explained(runs.iloc[:20]).empty  # two settings without runs
    assert variance_explained(runs.iloc[:0]).empty
    # Three of 27 runs may be missing, as long as no setting is without.
    table = variance_explained(runs.drop(index=[0, 4, 26]))
    assert table["share"].sum() == pytest.approx(100, abs=15) and table["partial"].notna().sum() == 4


@pytest.mark.parametrize(("one", "other"), [("learning_rate", "batch size"), ("batch_size", "learning rate")])
def test_where_one_factor_has_one_value_the_other_is_analysed_alone(one, other):
    runs = runs_of(lambda rate, size, seed: 300 * rate + size / 50 + seed, noise=0.2)
    table = variance_explained(runs[runs[one] == runs[one].iloc[0]])
    assert list(table.index) == [other, "seed", "the rest"]
    assert table["share"].sum() == pytest.approx(100) and table.loc[other, "p"] < 0.001


def test_the_largest_whole_part_of_a_grid_is_found():
    runs = runs_of(lambda *_: 0, noise=1)
    assert largest_whole_grid(runs).equals(runs) and largest_whole_grid(runs.iloc[:0]).empty
    assert largest_whole_grid(runs.iloc[:20]).equals(runs.iloc[:18])  # two rates by three sizes
    # Three rates at one size, two seeds each, are more runs than two sizes at one rate.
    of_128 = runs[(runs["batch_size"] == 128) & (runs["seed"] < 2)]
    of_64 = runs[(runs["batch_size"] == 64) & (runs["learning_rate"] == 1e-3)]
    assert largest_whole_grid(pd.concat([of_64, of_128])).equals(of_128)


def test_the_spread_between_seeds_is_pooled_within_settings():
    runs = pd.DataFrame({"model": list("AAABBC"), "seed": [0, 1, 2, 0, 1, 0], "test_accuracy": [1.0, 2, 3, 60, 64, 90]})
    # Squares of 2 and of 8 about the means of A and B; C's one run has none.
    assert spread_between_seeds(runs, ["model"]) == (pytest.approx((10 / 3) ** 0.5), 3)
    alone, freedom = spread_between_seeds(runs[runs["seed"] == 0], ["model"])
    assert np.isnan(alone) and freedom == 0


def test_a_run_is_paired_with_itself_in_the_other_precision():
    runs = [experiment("caltech101", "controlled", "ConvNet", level, epochs=2) for level in (0.1, 0.2, 0.3)]

    def rows(precision: str, *accuracies: float) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {"run": number, "dataset": run.dataset, "protocol": run.protocol, "model": run.model,
                 "sparsity": run.sparsity, "seed": run.seed, "epoch": epoch, "precision": precision,
                 "validation_accuracy": 50 + epoch, "test_accuracy": accuracy - 2 + epoch}
                for number, (run, accuracy) in enumerate(zip(runs, accuracies, strict=False))
                for epoch in (1, 2)
            ]
        )  # fmt: skip

    stored = pd.concat([rows("float32", 60.0, 58.0), rows("bf16", 0, 0, 57.0).query("run == 2")])
    pairs = precision_pairs(stored, rows("bf16", 60.5, 57.0, 57.0).query("run != 0"))
    assert pairs.to_dict("records") == [
        {"model": "ConvNet", "sparsity": 0.2, "seed": 0, "float32": 58.0, "bf16": 57.0, "difference": -1.0}
    ]


def test_a_fall_counts_in_the_second_half_alone():
    run = experiment("mnist", "as_reported", "ConvNet", 0.1)
    accuracies = {
        0: [50, 30, 60, 70, 80, 80, 74, 80, 80, 75],  # early; 6 points at epoch 7; 5 points, not more, at the end
        1: [50, 60, 70, 80, 90, 80, 90, 90, 90, 80],  # epoch 6 is the first of the second half; the last
        2: [90] * 10,
    }
    rows = pd.concat(
        pd.DataFrame(
            {
                "run": number, "model": run.model, "sparsity": 0.1, "batch_size": 64, "learning_rate": 5e-3,
                "seed": number, "epochs": 10, "epoch": range(1, 11), "test_accuracy": map(float, values),
            }
        )
        for number, values in accuracies.items()
    ).sample(frac=1, random_state=0)  # fmt: skip
    found = late_drops(rows)
    assert found["drops"].tolist() == [1, 2, 0]
    assert found["at_last"].tolist() == [False, True, False]
    assert found["greatest"].tolist() == [6, 10, 0]
    assert found["epochs_late"].tolist() == [5, 5, 5]


def rows_of(steps: list[Step], accuracies: list[dict[int, float]]) -> pd.DataFrame:
    """Rows of a bridge's first steps, with these test accuracies by seed."""
    rows = []
    for step, by_seed in zip(steps, accuracies, strict=False):
        for run in step.runs:
            if run.seed in by_seed:
                settings = {name: getattr(run, name) for name in SETTINGS}
                test = [5.0] * (run.epochs - 1) + [by_seed[run.seed]]
                validation = [50.0] * (run.epochs - 1) + [60.0]
                measured = {"epoch": range(1, run.epochs + 1), "test_accuracy": test, "validation_accuracy": validation}
                rows.append(pd.DataFrame(settings | measured))
    return pd.concat(rows, ignore_index=True)


def test_a_bridges_steps_are_paired_by_seed():
    steps = bridge("mnist", "ConvNet", 0.9)
    rows = rows_of(steps, [{0: 70.0, 1: 80.0}, {0: 71.0, 1: 82.0}, {}, {0: 60.0, 1: 11.0}])
    table = bridge_table(steps, rows).round(3)
    assert table["change"].tolist() == [step.change for step in steps]
    assert table["n_seeds"].tolist() == [2, 2, 0, 2, 0, 0] and table["collapsed"].tolist() == [0, 0, 0, 1, 0, 0]
    assert table["mean"].dropna().tolist() == [75, 76.5, 60]  # without the run that collapsed
    assert table["difference"].dropna().tolist() == [1.5]
    assert table["ci95"].dropna().tolist() == [6.353]


def test_a_bridge_stands_on_the_seeds_that_all_its_recorded_steps_have():
    steps = bridge("mnist", "ConvNet", 0.9)
    table = bridge_table(steps, rows_of(steps, [{0: 70.0}, {0: 68.5, 1: 82.0, 2: 83.0}, {}, {0: 60.0, 2: 61.0}]))
    assert table["n_seeds"].tolist() == [1, 1, 0, 1, 0, 0]
    assert table["mean"].dropna().tolist() == [70, 68.5, 60]
    assert table["difference"].dropna().tolist() == [-1.5]


def test_a_bridges_ends_are_compared_by_seed_and_between_networks():
    bridges = {(0.9, model): bridge("mnist", model, 0.9) for model in ("SparseConvNet", "ConvNet")}
    between = [{}] * 4
    ends = {"SparseConvNet": ({0: 70.0, 1: 71.0}, {0: 75.0, 1: 77.0}), "ConvNet": ({0: 68.0, 1: 70.0}, {1: 80.0})}
    rows = [rows_of(bridges[0.9, model], [first, *between, last]) for model, (first, last) in ends.items()]
    found = bridge_ends(bridges, pd.concat(rows, ignore_index=True)).set_index("difference_of")
    assert found["sparsity"].eq(0.9).all()
    assert found["difference"].to_dict() == {
        "SparseConvNet less ConvNet, at the start": 1.5,
        "SparseConvNet less ConvNet, at the end": -3,
        "SparseConvNet, from start to end": 5.5,
        "ConvNet, from start to end": 10,
    }
    assert found["n_seeds"].tolist() == [2, 1, 2, 1]
    assert bridge_ends(bridges, pd.concat(rows).iloc[:0]).empty


def test_convolutions_stand_by_the_batch_norm_they_have():
    ways = batch_norms("caltech101")
    runs = {run: ([50.0 + run.seed] * 15, [90.0] * 15) for run in ways[2, "each"]}
    runs[next(run for run in ways[4, "shared"] if run.sparsity == 0.3)] = ([30.0] * 15, [90.0] * 15)
    _, rows = collect(runs)
    found = batch_norm_table("caltech101", lambda wanted: of_experiments(wanted, rows))
    assert found["test"].to_dict() == {
        ("30%", "2, batch norm each"): 51.0,
        ("30%", "4, batch norm shared"): 30.0,
        ("70%", "2, batch norm each"): 51.0,
    }
    assert found["seeds"].tolist() == [3, 1, 3]
    assert batch_norm_table("caltech101", lambda wanted: of_experiments(wanted, no_rows())).empty
