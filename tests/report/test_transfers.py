"""Tables of tests unlike the training."""

import pandas as pd
import pytest

from sparsecnn.report import transfers


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
