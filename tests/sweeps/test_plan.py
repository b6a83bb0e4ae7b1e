"""What is shown as recorded, what is trained, and what is said before that."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from sparsecnn.experiment import experiment, grid
from sparsecnn.records import COLUMNS
from sparsecnn.studies import matrix
from sparsecnn.sweeps import store
from sparsecnn.sweeps.cost import after_first_epoch, announcement, expected_seconds
from sparsecnn.sweeps.plan import rows_of, to_train
from sparsecnn.sweeps.sweep import sweep
from sparsecnn.training.devices import choose_device
from sparsecnn.training.train import precision_of

STUDY = grid("digits", "controlled", 0.3)  # three networks, three seeds
FIRST = STUDY[:3]


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    return tmp_path


def record(*runs, accuracy: float = 50.0, **changes) -> None:
    for run in runs:
        measured = {"train_loss": 1.0, "train_accuracy": 50.0, "test_accuracy": accuracy, "transfer": "",
                    "device": "cpu, 1 thread", "torch": "2", "seconds": 10.0 * run.epochs, "commit": "",
                    "precision": precision_of(run, choose_device("cpu"))}  # fmt: skip
        rows = [vars(run) | measured | {"epoch": epoch + 1} | changes for epoch in range(run.epochs)]
        store.store(pd.DataFrame(rows, columns=COLUMNS))


def test_a_recorded_level_is_shown_as_recorded_and_nothing_is_trained(monkeypatch):
    record(*FIRST, STUDY[3])
    monkeypatch.setattr("sparsecnn.sweeps.plan.sweep", lambda *_, **__: pytest.fail("trains"))
    rows = rows_of(STUDY, train=True)
    assert sorted(set(rows["run"])) == [0, 1, 2, 3]


def test_a_network_without_any_run_is_trained_with_one_seed_and_with_more_by_seeds():
    assert to_train(STUDY) == FIRST
    record(STUDY[0], STUDY[4])  # SparseConvNet's first seed, ConvNet's second
    assert to_train(STUDY) == [STUDY[2]]
    assert to_train(STUDY, seeds=3) == [run for run in STUDY if run not in (STUDY[0], STUDY[4])]


def test_a_rerun_trains_the_first_seed_of_all_or_as_many_as_asked_for():
    record(*STUDY)
    assert to_train(STUDY, rerun=True) == FIRST
    assert to_train(STUDY, seeds=3, rerun=True) == STUDY


def test_a_run_tested_at_every_sparsity_is_a_network_of_its_own_and_serves_for_the_other():
    table, tested = grid("digits", "controlled", 0.3, 1), matrix("digits", 0.3, 1)
    assert to_train([*table, *tested]) == tested
    record(*table)
    assert to_train([*table, *tested]) == tested
    record(*tested)
    assert to_train([*table, *tested]) == []


def test_nothing_is_trained_that_is_not_asked_for(monkeypatch):
    monkeypatch.setattr("sparsecnn.sweeps.plan.sweep", lambda *_, **__: pytest.fail("trains"))
    assert rows_of(STUDY, train=False).empty


def test_a_rerun_shows_only_what_it_trained():
    runs = [replace(run, epochs=1, train_images=50) for run in (STUDY[1], STUDY[4])]
    record(*runs, accuracy=12.5)
    rows = rows_of(runs, train=True, rerun=True, device="cpu")
    assert rows["run"].tolist() == [0] and rows["test_accuracy"].tolist() != [12.5]
    assert rows_of(runs, train=True, device="cpu")["test_accuracy"].tolist() == [12.5, 12.5]


def test_the_time_is_that_of_recorded_runs_that_did_the_same_work():
    runs = grid("digits", "as_reported", 0.7, 2)  # 10 epochs each, recorded in another protocol and at another level
    assert expected_seconds(runs, "cpu", 1) is None
    record(STUDY[0], STUDY[1], seconds=200.0)
    assert expected_seconds(runs, "cpu", 1) == 4 * 200
    assert expected_seconds(runs, "cpu", 2) == 2 * 200
    assert expected_seconds(runs[:1], "cpu", 2) == 200
    for other in (
        {"batch_size": 32},
        {"train_images": 100},
        {"architecture": "mnist_convnet_as_run"},
        {"fill": "blur"},
    ):
        assert expected_seconds([replace(runs[1], **other)], "cpu", 1) is None


def test_a_time_that_another_device_took_says_nothing():
    record(STUDY[0], device="a GPU")
    record(STUDY[1], precision="bf16" if precision_of(STUDY[1], choose_device("cpu")) == "float32" else "float32")
    assert expected_seconds([STUDY[0]], "cpu", 1) is None
    assert expected_seconds([STUDY[1]], "cpu", 1) is None


def test_the_line_says_how_many_runs_for_how_long_and_what_makes_it_shorter():
    mine = ("sparsity", "protocol", "seeds", "epochs")
    line = announcement(grid("digits", seeds=2), 2, 3 * 3600, mine)
    assert line == (
        "To train: 160 runs, 2 at once, about 3 hours on this machine, going by recorded runs; "
        "shorter with seeds=1 or protocol='controlled' or sparsity=0.0 or epochs=1"
    )
    line = announcement([experiment("digits", "controlled", "ConvNet", 0.3, epochs=2)], 1, None, mine)
    assert line == "To train: 1 run, how long it takes is said after the first epoch; shorter with epochs=1"
    assert announcement([experiment("digits", "as_run", "ConvNet", 0.3, epochs=1)], 1, 50.2, ()) == (
        "To train: 1 run, about 50 seconds on this machine, going by recorded runs"
    )
    assert after_first_epoch(100, 30, 2) == "The first epoch took 2 minutes, so all 30 take about 25 minutes"


def test_a_sweep_says_so_before_it_trains_and_shows_the_time_left(output, capsys):
    runs = [experiment("digits", "controlled", "ConvNet", 0.5, seed, epochs=2, train_images=100) for seed in (0, 1)]
    sweep(runs[:1], "cpu", workers=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Data in ") and lines[0].endswith(f", results and figures in {output}")
    assert lines[1].startswith("To train: 1 run, how long it takes is said after the first epoch; shorter with minutes")
    assert any(line.startswith("The first epoch took ") for line in lines)
    assert re.match(r"1 run: 2 of 2 epochs, \d+:\d+ passed, 00:00 left, ConvNet", lines[-1])
    sweep(runs, "cpu", workers=1)
    assert re.search(r"^To train: 1 run, about \d+ seconds? on this machine", capsys.readouterr().err, re.M)
    sweep(runs, "cpu", workers=1)
    assert capsys.readouterr().err == ""
