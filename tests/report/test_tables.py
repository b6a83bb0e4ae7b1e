import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from sparsecnn.data.datasets import load, split
from sparsecnn.experiment import experiment, grid
from sparsecnn.files import REPOSITORY
from sparsecnn.records import SETTINGS
from sparsecnn.report import pages, tables
from sparsecnn.report.claims import judge
from sparsecnn.report.transfers import beyond_table, matrix_table, read_transfers
from sparsecnn.studies import hyperparameters, matrix
from sparsecnn.sweeps import store


def rows_of(run, test, validation=None, **more) -> pd.DataFrame:
    epochs = len(test)
    measured = {
        "epoch": range(1, epochs + 1),
        "train_loss": 1.0,
        "train_accuracy": 50.0,
        "validation_accuracy": validation or [math.nan] * epochs,
        "test_accuracy": test,
        "test_correct": None,
        "transfer": "",
        "device": "cpu, 1 thread", "torch": "2", "precision": "float32", "seconds": 1.0, "commit": "",
    }  # fmt: skip
    return pd.DataFrame({name: getattr(run, name) for name in SETTINGS} | measured | more)


def collect(runs: dict) -> tuple[list, pd.DataFrame]:
    experiments = list(runs)
    rows = pd.concat([rows_of(run, *values) for run, values in runs.items()], ignore_index=True)
    return experiments, store.of_experiments(experiments, rows)


def test_a_protocol_reports_its_own_epoch():
    _, rows = collect(
        {
            experiment("mnist", "as_reported", "ConvNet", 0.1): ([70.0, 90.0, 80.0],),
            experiment("mnist", "controlled", "ConvNet", 0.1): ([70.0, 90.0, 80.0], [75.0, 60.0, 75.0]),
        }
    )
    assert tables.selected(rows)["test_accuracy"].tolist() == [80.0, 70.0]  # the last; the earliest best on validation
    assert tables.selected(rows, "test")["test_accuracy"].tolist() == [90.0, 90.0]


def test_a_span_is_one_number_where_its_ends_read_alike():
    assert tables.span(pd.Series([0.5, -1.25, 2.0])) == "-1.2 to +2.0"
    assert tables.span(pd.Series([3.0])) == tables.span(pd.Series([3.01, 2.99])) == "+3.0"


def test_a_table_has_means_intervals_and_a_line_for_what_is_missing():
    runs = {
        experiment("mnist", "as_reported", "ConvNet", 0.1, seed): ([value],)
        for seed, value in enumerate((80.0, 82.0, 84.0))
    }
    runs[experiment("mnist", "as_reported", "ConvNet", 0.2)] = ([70.1251],)  # to be rounded once
    experiments, rows = collect(runs)
    experiments.append(experiment("mnist", "as_reported", "ConvNet", 0.3))
    table = tables.accuracy_table(experiments, rows, tables.published("table3_mnist"))
    assert list(table.columns) == [
        "protocol", "model", "sparsity", "n_seeds", "accuracy_mean", "accuracy_ci95", "published",
    ]  # fmt: skip
    assert table["n_seeds"].tolist() == [3, 1, 0]
    assert table["accuracy_mean"].iloc[:2].tolist() == [82.0, 70.1251]
    # Student's t for three values: 4.3027 times the standard error 2 / sqrt(3)
    assert table["accuracy_ci95"].iloc[0] == pytest.approx(4.302653 * 2 / math.sqrt(3), abs=1e-3)
    assert table["accuracy_ci95"].iloc[1:].isna().all()
    assert np.isnan(table["accuracy_mean"].iloc[2])
    assert table["published"].tolist() == [96.36, 95.72, 96.34]
    shown = tables.without_collapsed(table, tables.selected(rows))
    assert tables.wide(shown, "as_reported")["ConvNet"].tolist() == ["82.00 ± 4.97", "70.13", "missing"]


def test_collapsed_runs_are_counted_and_in_no_interval():
    values = {
        0.1: (90.0, 91.0, 92.0, 11.35),
        0.2: (11.35, 11.35),
        0.3: (60.0, 70.0, 11.35),
        0.4: (11.35, 80.0),
        0.5: (99.0, 90.0, 94.0),
    }
    experiments, rows = collect(
        {
            experiment("mnist", "as_reported", "ConvNet", level, seed): ([value],)
            for level, of_level in values.items()
            for seed, value in enumerate(of_level)
        }
    )
    table = tables.accuracy_table(experiments, rows, tables.published("table3_mnist"))
    assert table["accuracy_mean"].iloc[0] == pytest.approx(71.0875)  # the file's mean is of all runs
    shown = tables.without_collapsed(table, tables.selected(rows))
    assert tables.wide(shown, "as_reported")["ConvNet"].tolist() == [
        "91.00 ± 2.48 (1 collapsed)",
        "(2 collapsed)",
        "60.00, 70.00 (1 collapsed)",  # 65 ± 63.5 would leave 0 to 100%
        "80.00 (1 collapsed)",
        "90.00 to 99.00",  # 94.33 ± 11.2 likewise, and the values of ten seeds would fill the page
    ]
    ends = [shown["accuracy_mean"] + sign * shown["accuracy_ci95"] for sign in (-1, 1)]
    assert not (ends[0] < 0).any() and not (ends[1] > 100).any()


def test_runs_of_two_frames_put_together_stay_apart():
    run = experiment("mnist", "as_reported", "ConvNet", 0.1, epochs=2)
    (_, rows), (_, others) = collect({run: ([70.0, 80.0],)}), collect({run: ([60.0, 90.0],)})
    both = pd.concat([rows, others.assign(run=1)])
    assert tables.selected(both)["test_accuracy"].tolist() == [80.0, 90.0]


def test_a_run_tested_at_every_sparsity_serves_where_the_plain_one_is_missing():
    plain = experiment("mnist", "controlled", "ConvNet", 0.1)
    more = dataclasses.replace(plain, tested_at="every sparsity")
    both = pd.concat([rows_of(plain, [70.0] * 10), rows_of(more, [80.0] * 10)])
    assert store.of_experiments([plain], both)["test_accuracy"].unique().tolist() == [70.0]
    assert store.of_experiments([plain], both.iloc[10:])["test_accuracy"].unique().tolist() == [80.0]
    assert store.of_experiments([more], both.iloc[:10]).empty


def test_one_runs_epochs_by_each_rule():
    run = experiment("caltech101", "controlled", "ConvNet", 0.3)
    _, rows = collect({run: ([40.0, 60.0, 50.0, 55.0], [10.0, 20.0, 30.0, 20.0])})
    assert tables.by_selection(rows).loc[("controlled", "ConvNet", 0.3)].to_dict() == {
        "last": 55.0, "validation": 50.0, "test": 60.0,
    }  # fmt: skip


@pytest.mark.parametrize(("model", "classes"), [("SparseConvNet", 99), ("ConvNet", 99)])
def test_each_class_has_its_test_images_and_hits(model, classes):
    run = experiment("caltech101", "as_run", model, 0.3, epochs=1)
    data = load("caltech101", pixels=False)
    test = split(data, run.validation, run.split)[2]
    hits = (data.labels[test].bincount(minlength=101) + 1) // 2
    rows = rows_of(run, [50.0]).assign(test_correct=" ".join(map(str, hits.tolist())), run=0)
    counted = tables.by_class(rows)
    assert len(counted) == classes == counted["class"].nunique()
    assert counted["images"].sum() == len(test) and counted["correct"].sum() == hits.sum()
    airplanes = counted.set_index("class").loc["airplanes"]
    assert airplanes["images"] == int((data.labels[test] == data.classes.index("airplanes")).sum())
    assert (counted["correct"] == (counted["images"] + 1) // 2).all()


def test_balanced_accuracy_counts_every_class_alike():
    run = experiment("caltech101", "as_run", "SparseConvNet", 0.3, epochs=1)
    data = load("caltech101", pixels=False)
    images = data.labels[split(data, run.validation, run.split)[2]].bincount(minlength=101)
    hits, known = torch.zeros_like(images), [data.classes.index(name) for name in ("airplanes", "inline_skate")]
    hits[known] = images[known]
    accuracy = 100 * float(hits.sum() / images.sum())
    rows = rows_of(run, [accuracy]).assign(test_correct=" ".join(map(str, hits.tolist())), run=0)
    runs = tables.balanced(tables.selected(rows))
    assert runs["test_accuracy"].tolist() == pytest.approx([100 * 2 / 99])  # 9.6% of the images, nearly all airplanes
    assert runs["classes_known"].tolist() == [2]
    assert tables.balanced(runs.iloc[:0]).empty


def test_the_rule_for_a_collapse_is_the_data_sets():
    _, rows = collect(
        {
            experiment("caltech101", "controlled", "ConvNet", 0.1, 0, epochs=1): ([9.2], [9.2]),
            experiment("caltech101", "controlled", "ConvNet", 0.1, 1, epochs=1): ([12.0], [12.0]),
        }
    )
    assert tables.collapsed(rows)["seed"].tolist() == [0]


def test_runs_at_chance_are_counted_as_collapsed():
    _, rows = collect(
        {
            experiment("mnist", "as_reported", "ConvNet", 0.1, 0): ([90.0, 11.35],),
            experiment("mnist", "as_reported", "ConvNet", 0.1, 1): ([11.35, 90.0],),
        }
    )
    assert tables.collapsed(rows)["seed"].tolist() == [0]


def test_published_numbers_are_all_there():
    table3 = tables.published("table3_mnist")
    assert table3.groupby("model")["accuracy"].agg(["count", "sum"]).round(2).to_dict("index") == {
        "ConvNet": {"count": 11, "sum": 958.83},
        "SparseConvNet": {"count": 11, "sum": 967.38},
    }
    table4 = tables.published("table4_caltech101")
    assert table4.groupby("model")["accuracy"].agg(["count", "sum"]).round(2).to_dict("index") == {
        "ConvNet": {"count": 8, "sum": 318.69},
        "SparseConvNet": {"count": 8, "sum": 488.92},
    }


@pytest.mark.parametrize("name", ["table3_mnist", "table4_caltech101"])
def test_the_committed_table_is_what_the_recorded_runs_give(name, monkeypatch):
    monkeypatch.delenv("SPARSECNN_OUTPUT", raising=False)
    experiments = grid(name.split("_")[1])
    table = tables.accuracy_table(experiments, store.of_experiments(experiments), tables.published(name))
    committed = pd.read_csv(REPOSITORY / f"results/{name}.csv")
    pd.testing.assert_frame_equal(committed, table, check_dtype=False)
    if name == "table3_mnist":
        assert committed["n_seeds"].min() > 0


@pytest.mark.parametrize("name", ["table5_mnist", "table6_caltech101"])
@pytest.mark.parametrize(("model", "suffix"), [("SparseConvNet", ""), ("ConvNet", "_convnet")])
def test_the_committed_hyperparameter_table_is_what_the_recorded_runs_give(name, model, suffix, monkeypatch):
    monkeypatch.delenv("SPARSECNN_OUTPUT", raising=False)
    experiments = [run for run in hyperparameters(name.split("_")[1]) if run.model == model]
    rows = store.of_experiments(experiments)
    key = ["sparsity", "batch_size", "learning_rate"]
    reference = tables.published(name).query("model == @model")
    table = tables.accuracy_table(experiments, rows, reference, "last", ["model", *key]).drop(columns="model")
    committed = pd.read_csv(REPOSITORY / f"results/{name}{suffix}.csv")
    assert list(committed.columns) == [*key, "n_seeds", "accuracy_mean", "accuracy_ci95", "published"]
    pd.testing.assert_frame_equal(committed, table.reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize("name", ["mnist", "caltech101"])
def test_the_committed_matrix_is_what_the_recorded_runs_give(name, monkeypatch):
    monkeypatch.delenv("SPARSECNN_OUTPUT", raising=False)
    experiments = matrix(name)
    measured = read_transfers(store.of_experiments(experiments))
    for file, table in {"": matrix_table(experiments, measured), "_beyond": beyond_table(measured)}.items():
        committed = pd.read_csv(REPOSITORY / f"results/matrix_{name}{file}.csv")
        pd.testing.assert_frame_equal(committed, table, check_dtype=False)


def test_the_committed_verdicts_are_what_the_recorded_runs_give(monkeypatch):
    monkeypatch.delenv("SPARSECNN_OUTPUT", raising=False)
    pd.testing.assert_frame_equal(pd.read_csv(REPOSITORY / "results/claims.csv"), judge(), check_dtype=False)


def test_a_setting_table_reads_like_the_published_one():
    runs = {
        experiment("mnist", "as_reported", "SparseConvNet", 0.1, seed, learning_rate=rate): ([80.0 + seed],)
        for seed in range(2)
        for rate in (5e-3, 1e-2)
    }
    experiments, rows = collect(runs)
    experiments.append(experiment("mnist", "as_reported", "ConvNet", 0.1))
    key = ("model", "sparsity", "batch_size", "learning_rate")
    table = tables.accuracy_table(experiments, rows, tables.published("table5_mnist"), "last", key)
    wide = tables.wide_by_setting(tables.without_collapsed(table, tables.selected(rows)), 0.1)
    assert wide.index.tolist() == [1e-2, 5e-3]
    assert wide[("SparseConvNet", 64)].tolist() == ["80.50 ± 6.35", "80.50 ± 6.35"]
    assert wide.loc[5e-3, ("ConvNet", 64)] == "missing"
    assert wide[("SparseConvNet, published", 64)].tolist() == ["97.25", "97.38"]


def test_other_groups_numbers_are_all_there():
    for dataset, sums in {"mnist": (948.43, 951.88), "caltech101": (590.55, 596.41)}.items():
        totals = tables.published(f"group75_{dataset}").groupby("model")["accuracy"].agg(["count", "sum"])
        assert totals["count"].tolist() == [10, 10]
        assert totals["sum"].round(2).to_dict() == dict(zip(("SparseConvNet", "ConvNet"), sums, strict=True))


def test_published_differences_are_sparseconvnet_less_convnet_in_points():
    for dataset, sums in {"mnist": (8.55, -3.45), "caltech101": (170.23, -5.86)}.items():
        table = tables.published_differences(dataset)
        assert table["source"].unique().tolist() == ["the report", "group 75"]
        sources = table.groupby("source", sort=False)["difference"].sum()
        assert sources.tolist() == pytest.approx(sums)
        assert (table["difference"] == table["difference"].round(2)).all()
        at_70 = table[table["sparsity"] == 0.7]["difference"].tolist()
        assert at_70 == {"mnist": [2.34, 0.54], "caltech101": [21.42, -0.98]}[dataset]


def test_published_runs_stand_beside_table_3_by_their_epochs():
    table = tables.published_runs()
    ways = ["Table 3", "20 epochs, after epoch 20", "20 epochs, after epoch 10", "10 epochs, after epoch 10"]
    sparse, plain = ([(model, way) for way in ways] for model in ("SparseConvNet", "ConvNet"))
    assert table.index.tolist() == sparse[:3] + plain[:2] + plain[3:]
    assert table[0.8].tolist() == [86.09, 83.35, 83.24, 85.32, 11.35, 88.99]
    assert list(table.columns) == sorted(table.columns) and table.loc["ConvNet", 0.85].isna().tolist() == [0, 0, 1]


def test_ways_are_means_over_their_runs_with_collapsed_ones_apart():
    def runs(epochs=1, **changes):
        return [
            experiment("caltech101", "controlled", "ConvNet", 0.3, seed, epochs=epochs, **changes) for seed in range(3)
        ]

    ways = {"as it is": runs(), "small": runs(batch_size=32), "dead": runs(batch_size=16), "not run": runs(epochs=2)}
    test = [60.0, 64.0, 68.0, 50.0, 54.0, 9.2, 9.0, 9.1, 9.2]
    of_a_way = [*ways["as it is"], *ways["small"], *ways["dead"]]
    rows = pd.concat(
        [
            rows_of(run, [value], [50.0]).assign(train_accuracy=value + 20)
            for run, value in zip(of_a_way, test, strict=True)
        ]
    )
    table = tables.of_ways(ways, rows).droplevel("model")
    assert table.index.tolist() == ["as it is", "small", "dead"]
    assert table["seeds"].tolist() == [3, 3, 3] and table["collapsed"].tolist() == [0, 1, 3]
    assert table["test"].tolist() == pytest.approx([64.0, 52.0, 9.1])
    assert table["train"].tolist() == pytest.approx([84.0, 72.0, 29.1])
    # Student's t: 4.3027 and 12.706 times the standard error
    assert table["ci95"].tolist() == pytest.approx(
        [4.302653 * 4 / math.sqrt(3), 12.706205 * 2, math.nan], nan_ok=True, abs=1e-4
    )
    assert tables.of_ways({"not run": runs(epochs=2)}, rows).empty


def test_rescaled_starts_are_a_network_and_runs_of_their_own():
    runs = [experiment("mnist", "as_reported", "SparseConvNet", 0.1, seed, epochs=1) for seed in range(2)]
    _, rows = collect({run: ([70.0 + run.seed],) for run in runs})
    _, rescaled = collect({run: ([80.0 + run.seed],) for run in runs})
    both = tables.selected(tables.with_rescaled(rows, rescaled)).sort_values(["model", "seed"])
    assert both["model"].to_list() == ["SparseConvNet"] * 2 + ["SparseConvNet, rescaled"] * 2
    assert both["test_accuracy"].to_list() == [70, 71, 80, 81] and both["run"].is_unique


@pytest.mark.parametrize("page", pages.PAGES)
def test_the_tables_of_pages_are_those_of_the_results(page, tmp_path):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    copy = tmp_path / "page.md"
    copy.write_text(text, encoding="utf-8")
    pages.update_page(copy)
    assert copy.read_text(encoding="utf-8") == text


def test_settings_are_a_line_a_protocol_and_network():
    settings = tables.settings_of(grid("caltech101", sparsity=0.3))
    assert settings["seeds"].tolist() == [1] * 2 + [3] * 5
    assert settings.loc[("as_run", "ConvNet"), ["learning_rate", "batch_size", "epoch_reported"]].tolist() == [
        1e-6,
        32,
        "test",
    ]
    assert settings.loc[("as_reported", "ConvNet"), ["weight_decay", "epoch_reported"]].tolist() == [0.3, "last"]
    assert settings["epoch_reported"].xs("controlled").unique().tolist() == ["validation"]


def test_a_table_is_saved_below_the_output_folder_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    table = pd.DataFrame({"model": ["ConvNet"], "accuracy_mean": [12.34]})
    tables.save(table, "a_table")
    assert (tmp_path / "results/a_table.csv").read_text(encoding="utf-8") == "model,accuracy_mean\nConvNet,12.34\n"
