import dataclasses
import subprocess
import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from sparsecnn.checks import SettingError
from sparsecnn.experiment import TESTED_AT, experiment
from sparsecnn.report.transfers import read_transfers
from sparsecnn.sweeps import store
from sparsecnn.sweeps.sweep import missing, sweep
from sparsecnn.training.train import TrainingError, train

RUNS = [
    experiment("digits", "controlled", model, sparsity, epochs=2)
    for model in ("SparseConvNet", "ConvNet")
    for sparsity in (0.3, 0.7)
]
VOLATILE = ["seconds", "commit"]


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def reference() -> list[pd.DataFrame]:
    return [train(run, "cpu") for run in RUNS]


def same(rows: pd.DataFrame, reference: list[pd.DataFrame]) -> None:
    expected = store.of_experiments(RUNS, pd.concat(reference, ignore_index=True))
    pd.testing.assert_frame_equal(rows.drop(columns=VOLATILE), expected.drop(columns=VOLATILE), check_dtype=False)


def test_side_by_side_alone_and_in_any_order_the_rows_are_the_same(reference):
    same(sweep(RUNS, "cpu", workers=2), reference)
    fresh = sweep(RUNS[::-1], "cpu", rerun=True, workers=1)
    same(store.of_experiments(RUNS, fresh), reference)


def test_a_sweep_trains_only_what_is_missing(reference, monkeypatch):
    store.store(reference[0])
    assert missing(RUNS) == RUNS[1:]
    trained = []
    monkeypatch.setattr(
        "sparsecnn.sweeps.executors.train", lambda run, *_, **__: trained.append(run) or reference[RUNS.index(run)]
    )
    same(sweep(RUNS, "cpu", workers=1), reference)
    assert trained == RUNS[1:]
    same(sweep(RUNS, "cpu"), reference)
    assert trained == RUNS[1:]


def test_a_rerun_is_shown_and_not_stored(reference, output):
    store.store(reference[0].assign(test_accuracy=12.5))
    assert sweep(RUNS[:1], "cpu", rerun=True)["test_accuracy"].tolist() == reference[0]["test_accuracy"].tolist()
    assert sweep(RUNS[:1], "cpu")["test_accuracy"].tolist() == [12.5, 12.5]


def test_a_run_is_stored_once(reference):
    assert store.store(reference[0])
    assert not store.store(reference[0])
    assert len(store.read("digits", "controlled")) == len(reference[0])


def test_rows_come_back_as_they_were_stored(reference):
    for rows in reference:
        store.store(rows)
    same(store.of_experiments(RUNS), reference)
    assert store.of_experiments([experiment("digits", "controlled", "ConvNet", 0.31)]).empty


def test_no_workers_are_refused():
    with pytest.raises(SettingError, match="workers=0"):
        sweep(RUNS, "cpu", workers=0)


def test_runs_that_do_not_end_within_the_budget_are_given_up(reference, capsys):
    lengthy = [experiment("digits", "controlled", "ConvNet", 0.5, seed, epochs=1000) for seed in range(2)]
    store.store(reference[0])
    began = time.monotonic()
    rows = sweep([RUNS[0], *lengthy], "cpu", workers=2, minutes=0.05)
    assert time.monotonic() - began < 30
    assert set(rows["run"]) == {0} and missing([RUNS[0], *lengthy]) == lengthy
    assert "0.05 minutes are over after 0 of 2 runs; start again to go on" in capsys.readouterr().out
    assert all(store.claim(run) for run in lengthy)  # free for the next sweep


def test_no_run_is_started_that_would_end_after_the_budget(monkeypatch, reference):
    now = 0.0  # on a clock that stands still but for training, so that a busy machine is as good as any

    def slow(run, *_, **__):
        nonlocal now
        now += 0.5
        return reference[RUNS.index(run)]

    for module in ("sweep", "executors"):
        monkeypatch.setattr(f"sparsecnn.sweeps.{module}.time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    monkeypatch.setattr("sparsecnn.sweeps.executors.train", slow)
    assert sweep(RUNS, "cpu", workers=1, minutes=1.2 / 60)["run"].nunique() == 2
    assert sweep(RUNS, "cpu", workers=1, minutes=1.2 / 60)["run"].nunique() == 4


def test_the_command_fills_the_store_and_refuses_in_one_line(output):
    command = [sys.executable, "-m", "sparsecnn.sweep", "--dataset", "digits", "--protocol", "as_reported"]
    command += ["--study", "table", "--sparsity", "0.5", "--seeds", "1", "--workers", "1"]
    subprocess.run(command, check=True, capture_output=True)
    assert set(store.read("digits", "as_reported")["model"]) == {"SparseConvNet", "ConvNet"}
    refused = subprocess.run([*command, "--minutes", "-1"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr == "SettingError: minutes=-1.0 is not allowed: above 0, at most 9007199254740992\n"


def test_a_run_tested_at_every_sparsity_serves_for_one_that_is_not(output, monkeypatch):
    run = experiment("digits", "controlled", "ConvNet", 0.5, epochs=1, train_images=100)
    whole = dataclasses.replace(run, tested_at="every sparsity")
    assert missing([run, whole]) == [whole] and missing([run]) == [run]
    rows = sweep([run, whole], "cpu", workers=1)
    assert rows["run"].tolist() == [1]
    assert missing([run, whole]) == missing([run]) == missing([whole]) == []


def test_a_run_with_more_tests_serves_and_none_with_fewer(output):
    run = experiment("digits", "controlled", "ConvNet", 0.5, epochs=1, train_images=100)
    every, adapted = (dataclasses.replace(run, tested_at=tests) for tests in TESTED_AT[1:])
    assert missing([adapted, every, run]) == [adapted]
    sweep([every], "cpu", workers=1)
    assert missing([adapted, every, run]) == [adapted] and missing([run, every]) == []
    rows = sweep([adapted], "cpu", workers=1)
    for asked in (run, every, adapted):
        assert missing([asked]) == [] and len(store.of_experiments([asked])) == 1
    assert store.of_experiments([run])["transfer"].tolist() != rows["transfer"].tolist()
    of_every = read_transfers(store.of_experiments([every]))
    pd.testing.assert_frame_equal(of_every, read_transfers(store.of_experiments([adapted])))
    kinds = set(read_transfers(rows, adapted=True)["test_mask"]) - set(of_every["test_mask"])
    assert kinds == {"random_rescaled", "square_rescaled", "rows_rescaled"}


@pytest.mark.parametrize("number", [10**-3.5, 1 / 15, 0.1 + 0.2])
def test_a_run_is_found_again_whatever_its_numbers(output, number):
    run = experiment("digits", "as_reported", "ConvNet", number, epochs=1, train_images=100, learning_rate=number)
    store.store(train(run, "cpu"))
    assert missing([run]) == [] and not store.store(train(run, "cpu"))


@pytest.mark.cuda
def test_a_gpu_out_of_memory_is_said_and_the_next_run_goes_on():
    torch.cuda.set_per_process_memory_fraction(1e-5)
    try:
        with pytest.raises(TrainingError, match="^out of memory on cuda in Experiment.*batch_size"):
            sweep(RUNS[2:3], "cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(sweep(RUNS[2:3], "cuda")) == 2
