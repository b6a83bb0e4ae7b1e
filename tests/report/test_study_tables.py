import math

import pandas as pd
import pytest

from sparsecnn.experiment import experiment
from sparsecnn.records import SETTINGS
from sparsecnn.report import study_tables, tables
from sparsecnn.report.statistics import gpu_less_cpu, precision_pairs
from sparsecnn.studies import hyperparameters


def rows_of(run, number, *test, train=50.0, precision="float32") -> pd.DataFrame:
    """Rows of the store for a run, the ``number``-th of its list."""
    return pd.DataFrame({name: getattr(run, name) for name in SETTINGS} | {
        "run": number, "epoch": range(1, len(test) + 1), "train_accuracy": train, "validation_accuracy": test[::-1],
        "test_accuracy": test, "precision": precision,
    })  # fmt: skip


def collect(runs: dict, **more) -> pd.DataFrame:
    parts = [rows_of(run, number, *test, **more) for number, (run, test) in enumerate(runs.items())]
    return pd.concat(parts, ignore_index=True)


def caltech(model, level=0.3, seed=0, protocol="controlled", **changes):
    return experiment("caltech101", protocol, model, level, seed, epochs=4, **changes)


def test_networks_are_counted_where_they_are_ahead():
    differences = pd.DataFrame({"model": ["b", "b", "a"], "difference": [1.0, -1.0, 0.0]})
    assert study_tables.ahead_at(differences).to_dict() == {"b": "1 of 2", "a": "0 of 1"}


def test_a_trend_is_of_recorded_levels_with_missing_pixels():
    table = pd.DataFrame({
        "protocol": "controlled", "model": "ConvNet", "sparsity": [0.0, 0.05, 0.1, 0.2, 0.3],
        "accuracy_mean": [99.0, 63.0, 64.0, math.nan, 60.5], "published": [math.nan, 43.0, 42.0, 41.0, 40.0],
    })  # fmt: skip
    (trend,) = study_tables.trends(table).to_dict("records")
    assert trend == {"levels": "5% to 30%", "steps": 2, "falls": 1, "points_lost": 2.5, "published_lost": 3.0}


def test_a_gap_is_the_least_and_the_greatest_of_means_over_seeds():
    runs = {caltech("ConvNet", 0.1): (40.0,), caltech("ConvNet", 0.1, 1): (30.0,), caltech("ConvNet", 0.5): (45.0,)}
    gaps = study_tables.gaps(tables.selected(collect(runs, train=50.0)))
    assert gaps["gap"].to_dict("records") == [{"min": 5.0, "max": 15.0}]


def test_a_choice_on_test_images_is_compared_with_either_honest_one():
    runs = {caltech("ConvNet", 0.1): (40.0, 50.0, 44.0, 41.0), caltech("ConvNet", 0.5): (40.0, 41.0, 42.0, 43.0)}
    (gain,) = study_tables.selection_gains(collect(runs)).to_dict("records")
    # Validation images have the accuracies backwards: they choose the third epoch of one run, the first of the other.
    assert gain == {"last": 42.0, "validation": 42.0, "test": 46.5, "most_over_validation": 6.0, "most_over_last": 9.0}


def test_the_hardest_and_the_easiest_classes_come_in_order():
    counts = pd.DataFrame({
        "class": list("abcd"), "sparsity": 0.1, "model": "ConvNet", "images": 10, "correct": [9, 2, 7, 1],
    })  # fmt: skip
    assert list(study_tables.hardest_and_easiest(counts, 1).index) == ["d", "a"]
    assert list(study_tables.hardest_and_easiest(counts, 2).index) == ["d", "b", "c", "a"]


def test_two_precisions_are_compared_in_words_beside_seeds():
    runs = {caltech("ConvNet"): (60.0,), caltech("ConvNet", seed=1): (62.0,)}
    rows = collect(runs)
    again = collect({run: (test + 1.0,) for run, (test,) in runs.items()}, precision="bf16")
    sentence = study_tables.precision_sentence(precision_pairs(rows, again), rows, again)
    assert "bf16 less float32: +1.00 ± 0.00 points over 2 pairs" in sentence
    assert "deviation is 1.41 points (2 degrees of freedom)" in sentence


def test_two_devices_are_compared_within_settings():
    accuracies = {0.1: (60.0, 61.0, 63.0), 0.3: (50.0, 50.0, 52.0)}  # two runs on the CPU, one on a GPU
    runs = {
        caltech("ConvNet", at, seed): (test,) for at, tests in accuracies.items() for seed, test in enumerate(tests)
    }
    rows = tables.selected(collect(runs | {caltech("ConvNet", 0.5): (90.0,)}))
    rows["device"] = rows["seed"].map({0: "cpu, 1 thread", 1: "cpu, 1 thread", 2: "NVIDIA H200"})
    apart, number = gpu_less_cpu(rows)
    # The mean of 2.5 and 2, and by hand: the residuals' squares add up to 7/12, the devices' to 4/3.
    assert (apart.effect, apart.freedom, number) == (pytest.approx(2.25), 3, 6)
    assert apart.error == pytest.approx((7 / 12 / 3 / (4 / 3)) ** 0.5)
    sentence = study_tables.device_sentence(rows)
    assert sentence == (
        "GPU less CPU, in one setting and precision: +2.25 ± 1.22 points, by 6 runs of settings trained on both."
    )
    assert study_tables.device_sentence(rows[rows["seed"] == 2]) == "No setting was trained on a GPU and on the CPU."


@pytest.fixture
def study() -> pd.DataFrame:
    """MNIST's study at one level: 0.5 points more a batch size, 10 fewer at 1e-2, where one run has collapsed."""
    runs = hyperparameters("mnist", 0.9, batch_sizes=[64, 128], seeds=3, epochs=4)
    accuracy = {
        run: 75 + 0.5 * (run.batch_size == 128) - 10 * (run.learning_rate == 1e-2) + 0.1 * (run.seed == 1)
        for run in runs
    }
    accuracy[next(run for run in runs if run.learning_rate == 1e-2 and run.model == "SparseConvNet")] = 11.35
    return study_tables.last_epochs([collect({run: (test,) for run, test in accuracy.items()})])


def test_spans_leave_collapsed_runs_out(study):
    spans = study_tables.spans(study).set_index("model").loc["SparseConvNet"]
    assert spans["runs"] == 17 and spans["learning_rates"] == pytest.approx(10, abs=0.2)
    assert spans["worst"] == "0.01, batch 64" and spans["best"].endswith("batch 128")


def test_collapsed_runs_are_counted_by_seed_and_learning_rate(study):
    counts = study_tables.collapses(study)
    assert counts.index.tolist() == [("mnist", "SparseConvNet", 0)]
    assert counts.loc["mnist", "SparseConvNet", 0].to_dict() == {1e-3: "0 of 2", 5e-3: "0 of 2", 1e-2: "1 of 2"}
    assert study_tables.collapses(study[study["model"] == "ConvNet"]).empty


def test_variance_is_analysed_again_without_collapsed_runs(study):
    study["test_accuracy"] += 0.01 * (study.index % 7)  # a rest to compare with
    asked = hyperparameters("mnist", 0.9)
    found = study_tables.variances(study, asked).reset_index()
    assert set(zip(found["model"], found["runs"], strict=True)) == {
        ("SparseConvNet", "all"), ("SparseConvNet", "not collapsed"), ("ConvNet", "all"),
    }  # fmt: skip
    assert found["settings"].eq("6 of 9").all() and set(found["runs_analysed"]) == {17, 18}
    assert study_tables.variances(study[:1], asked).empty


def test_batch_sizes_are_paired_by_seed(study):
    compared = study_tables.batch_sizes_compared(study.assign(run=study.index), 1e-3, (64, 128))
    assert compared["difference"].tolist() == [-0.5, -0.5] and compared["n_seeds"].tolist() == [3, 3]


def test_the_report_has_four_settings_twice():
    twice = study_tables.published_twice()
    assert twice["difference"].round(2).tolist() == [0.81, 3.31, 0.89, -4.33]


def test_late_falls_are_counted_by_protocol_and_by_way():
    rows = collect(
        {
            caltech("ConvNet", protocol="as_reported"): (20.0, 20.0, 14.0, 14.0),
            caltech("ConvNet", seed=1, protocol="as_reported"): (20.0, 20.0, 20.0, 14.0),
            caltech("ConvNet"): (20.0, 14.0, 14.0, 14.0),
        }
    )
    falls = study_tables.late_falls(rows, ["protocol", "model"]).droplevel("model")
    assert falls.loc["as_reported"].to_dict() == {
        "runs": 2, "late_epochs": 4, "late": 2, "falls": 2, "at_last": 1, "greatest": 6.0,
    }  # fmt: skip
    assert falls.loc["controlled", "late"] == 0
    causes = study_tables.late_causes({"as it is": rows, "not run": rows[:0]})
    assert list(causes.index) == [("as it is", "ConvNet")]
    assert study_tables.late_share(causes) == "2 of 3 runs fall late; 95% interval 9% to 99% (exact binomial)"
    assert study_tables.late_causes({"not run": rows[:0]}).empty


def test_a_weight_decay_is_named_with_its_optimiser_and_beside_the_report():
    runs = {
        caltech("SparseConvNet", 0.7, seed, optimiser=optimiser, weight_decay=0.3): (test,)
        for optimiser, test in (("Adam", 22.0), ("AdamW", 58.0))
        for seed in range(2)
    }
    decays = study_tables.decay_table(collect(runs)).droplevel(["model", "sparsity", "weight_decay"])
    assert decays["last"].to_dict() == {"Adam": 22.0, "AdamW": 58.0}
    assert decays["seeds"].eq(2).all() and decays["published"].eq(59.26).all()
