"""Tables of tests unlike the training."""

import itertools

import pandas as pd
import pytest

from sparsecnn.experiment import MODELS, experiment
from sparsecnn.records import SETTINGS
from sparsecnn.report import transfers
from sparsecnn.studies import matrix


def line(model, trained_at, train, mask, test, accuracy, seed=0):
    return {
        "model": model, "architecture": "mnist", "trained_at": trained_at, "train_sparsity": train, "seed": seed,
        "test_mask": mask, "test_sparsity": test, "accuracy": accuracy,
    }  # fmt: skip


def test_training_on_every_sparsity_stands_beside_training_on_the_tests_own_of_the_same_seeds():
    measured = pd.DataFrame([
        line("ConvNet", "every sparsity", 0.5, "random", 0.1, 90.0),
        line("ConvNet", "every sparsity", 0.5, "square", 0.3, 10.0),
        line("ConvNet", "own sparsity", 0.1, "random", 0.1, 94.0),
        line("ConvNet", "own sparsity", 0.1, "random", 0.5, 50.0),
        line("ConvNet", "own sparsity", 0.1, "random", 0.1, 20.0, seed=1),  # a seed that "every sparsity" lacks
    ])  # fmt: skip
    table = transfers.mixed_table(measured)
    assert table.index.tolist() == [0.1]
    assert table["ConvNet"].loc[0.1].to_dict() == {"trained on every sparsity": 90.0, "on the test's own": 94.0}
    assert transfers.mixed_table(measured.query("trained_at == 'own sparsity'")).empty


def test_masks_with_structure_are_averaged_over_levels_that_all_networks_have():
    measured = pd.DataFrame([
        line("ConvNet", "own sparsity", 0.1, "square", 0.3, 40.0),
        line("ConvNet", "own sparsity", 0.5, "square", 0.3, 0.0),  # the other network lacks this level
        line("SparseConvNet", "own sparsity", 0.1, "square", 0.3, 10.0),
        line("SparseConvNet", "own sparsity", 0.1, "square", 0.3, 20.0, seed=1),
        line("SparseConvNet", "own sparsity", 0.1, "random", 0.3, 99.0),
    ])  # fmt: skip
    table = transfers.structured_table(measured)
    assert table.loc["own sparsity", "square 30%"].to_dict() == {"ConvNet": 40.0, "SparseConvNet": 15.0}


def test_the_cost_of_a_wrong_level_has_an_interval_over_seeds():
    index = pd.MultiIndex.from_product([["ConvNet"], [0, 1]], names=["model", "seed"])
    costs = pd.DataFrame({"mismatch": [4.0, 6.0], "from_denser": [1.0, 2.0], "from_sparser": [7.0, 10.0]}, index=index)
    table = transfers.mismatch_table(costs)
    assert table.loc["ConvNet", ["mismatch", "seeds"]].tolist() == [5.0, 2]
    assert table.loc["ConvNet", "ci95"] == pytest.approx(12.706, abs=1e-3)  # t with one degree of freedom


def rows_tested(run, accuracies: dict[float, float], number: int) -> pd.DataFrame:
    """Two epochs of a run whose second is reported; its network's accuracies at other levels."""
    text = " ".join(f"random:{level:g}={value}" for level, value in accuracies.items() if level != run.sparsity)
    own = accuracies[run.sparsity]
    measured = {"epoch": [1, 2], "validation_accuracy": [50.0, 60.0], "test_accuracy": [99.0, own]}
    settings = {name: getattr(run, name) for name in SETTINGS}
    return pd.DataFrame(settings | measured | {"transfer": ["", f"{text} rows:0.3=33.0"], "run": number})


def test_a_matrix_has_each_network_at_each_level_and_what_is_missing():
    run = experiment("mnist", "controlled", "ConvNet", 0.1, epochs=2, tested_at="every sparsity")
    rows = rows_tested(run, {0.0: 95.0, 0.1: 94.0, 0.2: 93.0}, 0)
    measured = transfers.read_transfers(rows)
    assert len(measured) == 4
    assert measured.query("test_mask == 'rows'")["accuracy"].tolist() == [33.0]
    assert measured.query("test_mask == 'random' and test_sparsity == 0.1")["accuracy"].tolist() == [94.0]
    table = transfers.matrix_table(matrix("mnist"), measured)
    assert list(table.columns) == [
        "model", "train_sparsity", "test_sparsity", "n_seeds", "accuracy_mean", "accuracy_ci95",
    ]  # fmt: skip
    assert len(table) == 3 * 12 * 12
    found = table[table["n_seeds"] > 0].set_index(["model", "train_sparsity", "test_sparsity"])["accuracy_mean"]
    assert found.to_dict() == {("ConvNet", 0.1, level): value for level, value in ((0.0, 95), (0.1, 94), (0.2, 93))}


def test_what_a_matrix_leaves_out_is_beyond_it():
    runs = [
        experiment("mnist", "controlled", "ConvNet", level, epochs=2, trained_at=trained_at, tested_at="every sparsity")
        for level, trained_at in ((0.1, "own sparsity"), (0.5, "every sparsity"))
    ]
    rows = [rows_tested(run, {0.1: 94.0, 0.5: 80.0}, number) for number, run in enumerate(runs)]
    table = transfers.beyond_table(transfers.read_transfers(pd.concat(rows)))
    columns = ["trained_at", "test_mask", "test_sparsity", "accuracy_mean"]
    assert table[columns].values.tolist() == [
        ["every sparsity", "random", 0.1, 94.0],
        ["every sparsity", "random", 0.5, 80.0],
        ["every sparsity", "rows", 0.3, 33.0],
        ["own sparsity", "rows", 0.3, 33.0],
    ]
    assert table["train_sparsity"].isna().tolist() == [True, True, True, False] and table["n_seeds"].eq(1).all()


def test_no_tested_run_gives_an_empty_matrix():
    rows = rows_tested(experiment("mnist", "controlled", "ConvNet", 0.1, epochs=2), {0.1: 90.0}, 0).assign(transfer="")
    measured = transfers.read_transfers(rows)
    assert transfers.matrix_table(matrix("mnist"), measured)["n_seeds"].eq(0).all()
    assert transfers.mismatch(measured).empty and transfers.beyond_table(measured).empty


def test_mismatch_is_what_training_at_another_level_costs():
    accuracies = {0.1: {0.1: 90.0, 0.5: 60.0}, 0.5: {0.1: 82.0, 0.5: 80.0}}
    rows, number = [], 0
    for model, better in (("SparseConvNet", 0.0), ("ConvNet", 10.0)):
        for level, line in accuracies.items():
            run = experiment("mnist", "controlled", model, level, epochs=2, tested_at="every sparsity")
            # Better where trained and tested alike, and so less invariant.
            raised = {other: value + better * (other == level) for other, value in line.items()}
            rows.append(rows_tested(run, raised, number))
            number += 1
    (only,) = [experiment("mnist", "controlled", "ConvNet", 0.1, 1, epochs=2, tested_at="every sparsity")]
    rows.append(rows_tested(only, accuracies[0.1], number))  # the rest of this seed is missing
    found = transfers.mismatch(transfers.read_transfers(pd.concat(rows)))
    assert found.index.tolist() == [("SparseConvNet", 0), ("ConvNet", 0)]
    assert found["from_denser"].tolist() == [20, 30] and found["from_sparser"].tolist() == [8, 18]
    assert found["mismatch"].tolist() == [14, 24]


def test_mismatch_compares_the_levels_with_the_most_seeds():
    rows = []
    for number, (seed, level) in enumerate(
        (s, v) for v, n in {0.1: 3, 0.3: 1, 0.5: 3, 0.7: 2}.items() for s in range(n)
    ):
        run = experiment("mnist", "controlled", "ConvNet", level, seed, epochs=2, tested_at="every sparsity")
        rows.append(rows_tested(run, {other: 90.0 - 20 * (other != level) for other in (0.1, 0.3, 0.5, 0.7)}, number))
    measured = transfers.read_transfers(pd.concat(rows))
    assert transfers.levels_compared(measured) == [0.1, 0.5]
    assert transfers.mismatch(measured)["mismatch"].to_dict() == {("ConvNet", seed): 20.0 for seed in range(3)}
    # Of a single level with three seeds there is nothing to compare: it joins those with two.
    fewer = measured[(measured["train_sparsity"] != 0.5) | (measured["seed"] < 2)]
    assert transfers.levels_compared(fewer) == [0.1, 0.5, 0.7] and len(transfers.mismatch(fewer)) == 2
    first = measured[measured["seed"] == 0]
    assert transfers.levels_compared(first) == [0.1, 0.3, 0.5, 0.7] and len(transfers.mismatch(first)) == 1


def test_mismatch_compares_the_levels_that_both_networks_have():
    """Runs of one network alone, or of a third, take no seed from the others."""
    runs = [(model, seed, level) for model in MODELS[:2] for seed in range(3) for level in (0.1, 0.5)]
    runs += [(MODELS[0], seed, 0.3) for seed in range(3)] + [
        (MODELS[2], seed, level) for seed, level in ((0, 0.1), (0, 0.7))
    ]
    rows = []
    for number, (model, seed, level) in enumerate(runs):
        run = experiment("mnist", "controlled", model, level, seed, epochs=2, tested_at="every sparsity")
        rows.append(rows_tested(run, {other: 90.0 - 20 * (other != level) for other in (0.1, 0.3, 0.5, 0.7)}, number))
    measured = transfers.read_transfers(pd.concat(rows))
    assert transfers.levels_compared(measured) == [0.1, 0.5] and len(transfers.mismatch(measured)) == 6
    mask_alone = measured[measured["model"] == MODELS[2]]
    assert transfers.levels_compared(mask_alone) == [0.1, 0.7]


def test_a_collapsed_network_is_not_invariant():
    rows = []
    for number, (seed, level) in enumerate(itertools.product(range(3), (0.1, 0.5))):
        run = experiment("mnist", "controlled", "SparseConvNet", level, seed, epochs=2, tested_at="every sparsity")
        same = {other: 11.35 if seed == 2 else 90.0 - 20 * (other != level) for other in (0.1, 0.5)}
        rows.append(rows_tested(run, same, number))
    measured = transfers.read_transfers(pd.concat(rows))
    assert measured.groupby("seed")["collapsed"].all().tolist() == [False, False, True]
    costs = transfers.mismatch(measured)["mismatch"]
    assert costs.to_dict() == {("SparseConvNet", 0): 20.0, ("SparseConvNet", 1): 20.0}


def test_differences_of_mismatches_are_paired_by_seed():
    index = pd.MultiIndex.from_product([["ConvNet", "SparseConvNet"], [0, 1]], names=["model", "seed"])
    costs = pd.DataFrame({"mismatch": [5.0, 7.0, 4.0, 5.9], "from_denser": [1.0, 2.0, 2.0, 2.0]}, index=index)
    found = transfers.mismatch_differences(costs)
    assert found["networks"].unique().tolist() == ["SparseConvNet less ConvNet"]
    assert found["cost"].tolist() == ["mismatch", "from_denser"] and found["n_seeds"].tolist() == [2, 2]
    assert found["difference"].tolist() == [-1.05, 0.5]
    assert found["ci95"].tolist() == [0.64, 6.35]
    # By itself the first would leave out 0: p = 0.03. Holm doubles it.
    assert found["p"].tolist() == [0.0606, 0.5] and found["holds"].tolist() == ["", ""]
    assert transfers.mismatch_differences(costs.loc[["ConvNet"]]).empty
