"""Tables of depth completion, of invented tests."""

import itertools

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from sparsecnn.experiment import MODELS
from sparsecnn.records import COLUMNS
from sparsecnn.report import depth
from sparsecnn.studies import depth_training

LEVELS = (0.5, 0.8)
ERRORS = {"SparseConvNet": 3.0, "ConvNet": 2.0, "ConvNet + mask": 1.0}


@pytest.fixture
def measured() -> pd.DataFrame:
    lines = []
    for model, seed, train, test in itertools.product(MODELS, (0, 1), LEVELS, LEVELS):
        off = ERRORS[model] + 0.1 * seed + 5 * (train != test)
        lines.append((model, "own sparsity", train, seed, "random", test, off))
        lines.append((model, "own sparsity", train, seed, "rings", 0.5, 50.0))
    for model, seed, (kind, test) in itertools.product(MODELS, (0, 1), [("random", 0.5), ("rings", 0.5)]):
        lines.append((model, "every sparsity", 0.5, seed, kind, test, 10 + seed))
    names = ["model", "trained_at", "train_sparsity", "seed", "test_mask", "test_sparsity", "mae"]
    return pd.DataFrame(lines, columns=names).assign(rmse=20.0, imae=30.0, irmse=40.0)


@pytest.fixture
def filled() -> pd.DataFrame:
    conditions = [("random", 0.5), ("random", 0.8), ("rings", 0.5)]
    errors = {"nearest neighbour": (1.5, 1.7, 1.9), "morphology": (2.5, 2.7, 2.9)}
    lines = [
        (method, *condition, error)
        for method, of_method in errors.items()
        for condition, error in zip(conditions, of_method, strict=True)
    ]
    table = pd.DataFrame(lines, columns=["method", "test_mask", "test_sparsity", "mae"])
    return table.assign(rmse=2.0, imae=3.0, irmse=4.0)


def test_networks_stand_beside_methods_at_the_level_they_were_trained_for(measured, filled):
    table = depth.beside_others(measured, filled)
    assert list(table) == ["50%", "80%", "rings 50%"]
    every = [f"{model}, every level" for model in MODELS]
    assert list(table.index) == ["nearest neighbour", "morphology", *MODELS, *every]
    assert table.loc["nearest neighbour"].tolist() == ["1.50", "1.70", "1.90"]
    assert table.loc["ConvNet", "50%"] == "2.05 ± 0.64" and pd.isna(table.loc["ConvNet", "rings 50%"])
    assert table.loc["ConvNet, every level", "rings 50%"].startswith("10.50 ± ")
    assert pd.isna(table.loc["ConvNet, every level", "80%"])


def test_what_networks_err_more_than_the_nearest_neighbour_has_its_sign(measured, filled):
    table = depth.less_nearest(measured, filled)
    assert table.loc["SparseConvNet", 0.8] == "+1.35 ± 0.64" and table.loc["ConvNet + mask", 0.5] == "-0.45 ± 0.64"
    one = depth.less_nearest(measured[measured["seed"] == 0], filled)
    assert one.loc["SparseConvNet", 0.8] == "+1.30"


def test_all_metrics_have_their_units(measured, filled):
    table = depth.metrics_at(measured, filled, 0.8)
    assert list(table) == ["MAE (m)", "RMSE (m)", "iMAE (1/km)", "iRMSE (1/km)"]
    assert list(table.index) == ["nearest neighbour", "morphology", *MODELS]
    assert table.loc["ConvNet"].tolist() == pytest.approx([2.05, 20, 30, 40])
    assert table.loc["morphology"].tolist() == [2.7, 2, 3, 4]


@pytest.fixture
def trained() -> tuple[dict, pd.DataFrame]:
    ways = depth_training("street", epochs=2)
    lines = [
        vars(run)
        | {"epoch": epoch, "train_mae": 9.0, "validation_mae": -epoch, "test_mae": run.epochs, "test_rmse": 1.0}
        for way in ("as it is", "4 times the epochs", "squared error")
        for run in ways[way]
        for epoch in range(1, run.epochs + 1)
    ]
    return ways, pd.DataFrame(lines, columns=COLUMNS)


def test_training_has_a_line_a_way_that_was_run_and_network(trained):
    table = depth.training_table(*trained)
    assert list(table.index) == [
        *itertools.product(("as it is", "4 times the epochs"), MODELS),
        *(("squared error", model) for model in MODELS[:2]),
    ]
    assert table.loc[("4 times the epochs", "ConvNet"), ["epochs", "MAE (m)"]].tolist() == [8, 8]


def test_the_figure_of_training_has_a_marker_a_length_and_a_line_a_method(trained, filled):
    figure = depth.training_figure(*trained, filled, "title")
    (panel,) = figure.axes
    lines = {line.get_label(): line for line in panel.lines}
    assert set(lines) == {"nearest neighbour", "morphology", *MODELS}
    assert lines["ConvNet"].get_xdata().tolist() == [2, 8] and lines["morphology"].get_ydata() == [2.7, 2.7]
    assert lines["nearest neighbour"].get_ydata() == [1.7, 1.7]
    plt.close(figure)


def test_without_learning_is_read_where_it_is_recorded(tmp_path, monkeypatch, filled):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    (tmp_path / "results").mkdir()
    filled.to_csv(tmp_path / "results/baselines_kitti_range.csv", index=False)
    pd.testing.assert_frame_equal(depth.without_learning("kitti_range"), filled)
    monkeypatch.setattr(depth, "baselines", lambda dataset, methods: (dataset, methods))
    assert depth.without_learning("street") == ("street", ["nearest neighbour"])
