"""Depth completion, trained for real on a few scans of the drawn street, from Experiment to tables."""

import numpy as np
import pandas as pd
import pytest
import torch

from sparsecnn.checks import SettingError
from sparsecnn.data.datasets import load, split
from sparsecnn.experiment import MODELS, experiment, grid, levels_of
from sparsecnn.models import build
from sparsecnn.report.transfers import beyond_table, matrix_table, mismatch, read_transfers
from sparsecnn.studies import matrix, studies_of
from sparsecnn.sweeps import store
from sparsecnn.training.batches import EnsembleBatches
from sparsecnn.training.train import train

TINY = {"epochs": 3, "train_images": 6, "learning_rate": 2e-3}


@pytest.fixture(scope="module")
def runs():
    asked = [experiment("street", "controlled", model, 0.5, tested_at="every sparsity", **TINY) for model in MODELS]
    return asked, [train(run, "cpu") for run in asked]


def test_every_network_learns_and_is_measured_in_metres(runs):
    scans = load("street")
    depths = scans.images[split(scans, 2, "by drive")[2]]
    guess = (depths[depths > 0] - depths[depths > 0].median()).abs().mean()
    for run, rows in zip(*runs, strict=True):
        assert rows["train_loss"].iloc[-1] < rows["train_loss"].iloc[0]
        measured = rows[["train_mae", "validation_mae", "test_mae", "test_rmse", "test_imae", "test_irmse"]]
        assert (measured > 0).all(axis=None) and (rows["test_mae"] <= rows["test_rmse"]).all()
        assert rows[["train_accuracy", "test_accuracy", "validation_accuracy", "test_correct"]].isna().all(axis=None)
        if run.model != "SparseConvNet":  # whose divisions make a slow start
            assert rows["test_mae"].min() < guess


def test_a_run_comes_again_bit_for_bit(runs):
    asked, rows = runs
    again = train(asked[0], "cpu")
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), rows[0].drop(columns="seconds"))


def test_rows_go_through_the_store_to_the_tables(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    asked, rows = runs
    for of_run in rows:
        assert store.store(of_run)
    header = next(tmp_path.glob("results/runs/street_controlled.csv")).read_text(encoding="utf-8").split("\n")[0]
    assert "test_mae" in header and "accuracy" not in header
    recorded = store.of_experiments(asked)
    measured = read_transfers(recorded)
    assert set(measured["test_mask"]) == {"random", "rings"}
    table = matrix_table([run for run in matrix("street") if run.seed == 0], measured)
    assert list(table) == ["model", "train_sparsity", "test_sparsity", "n_seeds", "mae_mean", "mae_ci95"]
    here = table[table["train_sparsity"] == 0.5]
    assert here["n_seeds"].eq(1).all() and len(here) == len(MODELS) * len(levels_of("street"))
    reported = recorded.loc[recorded.groupby("run")["validation_mae"].idxmin()].set_index("model")["test_mae"]
    own = here[here["test_sparsity"] == 0.5].set_index("model")["mae_mean"]
    assert own.to_dict() == pytest.approx(reported.to_dict())
    rings = beyond_table(measured)
    assert rings["test_sparsity"].unique().tolist() == [0.5, 0.75, 0.875] and rings["mae_mean"].gt(0).all()


def test_a_wrong_level_costs_what_the_error_grows_by():
    lines = [
        ("ConvNet", "", "own sparsity", trained, 0, False, "random", tested, error)
        for trained, tested, error in ((0.1, 0.1, 1.0), (0.1, 0.5, 4.0), (0.5, 0.1, 3.0), (0.5, 0.5, 2.0))
    ]
    key = ["model", "architecture", "trained_at", "train_sparsity", "seed", "collapsed", "test_mask", "test_sparsity"]
    costs = mismatch(pd.DataFrame(lines, columns=[*key, "mae"]))
    assert costs.loc["ConvNet", 0].tolist() == pytest.approx([2.0, 2.0, 2.0])


def test_a_network_is_given_what_was_kept_and_asked_for_all():
    data = load("street")
    source = EnsembleBatches(data, [experiment("street", "controlled", "ConvNet", 0.5)], torch.device("cpu"))
    chosen = torch.tensor([[3, 5]])
    mask = source.draw("own", [torch.Generator().manual_seed(0)], chosen)
    image, given, scan = source.masked(chosen, mask)
    assert torch.equal(scan[0], data.images[chosen[0]])
    assert torch.equal(given, mask & (scan > 0)) and torch.equal(image, torch.where(given, scan, 0.0))
    assert 0.45 < given.sum() / (scan > 0).sum() < 0.55


@pytest.mark.parametrize("architecture", ["range_image", "range_image_rescaled"])
def test_the_sparse_network_never_sees_what_lies_under_missing_cells(architecture):
    network = build("SparseConvNet", architecture).eval()
    random = torch.Generator().manual_seed(0)
    image, mask = torch.rand(2, 1, 64, 256, generator=random), torch.rand(2, 1, 64, 256, generator=random) < 0.1
    with torch.no_grad():
        expected = network(torch.where(mask, image, 0.0), mask)
        for value in (1e6, float("nan")):
            assert torch.equal(network(torch.where(mask, image, value), mask), expected)


@pytest.mark.parametrize("model", MODELS)
def test_a_scan_has_no_ends(model):
    network = build(model, "range_image").eval()
    random = torch.Generator().manual_seed(0)
    image, mask = torch.rand(1, 1, 64, 256, generator=random), torch.rand(1, 1, 64, 256, generator=random) < 0.3
    with torch.no_grad():
        turned = network(image.roll(100, 3) * mask.roll(100, 3), mask.roll(100, 3))
        torch.testing.assert_close(turned, network(image * mask, mask).roll(100, 3))


def test_the_learning_rate_goes_along_half_a_cosine():
    from sparsecnn.training.loop import _learning_rate

    run = experiment("street", "controlled", "ConvNet", 0.5, epochs=4, learning_rate=0.1)
    assert [_learning_rate(run, epoch) for epoch in (1, 3)] == pytest.approx([0.1, 0.05])
    assert 0 < _learning_rate(run, 4) < 0.02
    plain = experiment("digits", "controlled", "ConvNet", 0.5)
    assert {_learning_rate(plain, epoch) for epoch in range(1, 11)} == {plain.learning_rate}


def test_the_study_is_one_fair_experiment():
    assert {run.protocol for run in grid("kitti_range")} == {"controlled"}
    found = {name: len(runs) for name, runs in studies_of("kitti_range").items() if runs}
    levels = len(levels_of("kitti_range"))
    assert found == {"matrix": 3 * 3 * (levels + 1), "table": 3 * 3 * levels, "depth_training": 4 * 3 + 3 * 2}
    assert np.isclose(1 - np.array(levels_of("kitti_range")), [0.95, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]).all()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"loss": "cross entropy"}, "loss='cross entropy' is not allowed: one of 'absolute error', 'squared error'"),
        ({"schedule": "linear"}, "schedule='linear' is not allowed: one of 'constant', 'cosine'"),
    ],
)
def test_what_does_not_go_with_depth_is_refused(changes, line):
    with pytest.raises(SettingError, match=line):
        experiment("street", "controlled", "ConvNet", 0.5, **changes)


def test_a_protocol_of_the_report_is_refused():
    with pytest.raises(SettingError, match="protocol='as_run' is not allowed: kitti_range has controlled"):
        experiment("kitti_range", "as_run", "ConvNet", 0.5)
