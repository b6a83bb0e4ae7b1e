import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from sparsecnn import results
from sparsecnn.experiment import SettingError, experiment
from sparsecnn.sweep import missing, sweep
from sparsecnn.training import train

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
    expected = results.of_experiments(RUNS, pd.concat(reference, ignore_index=True))
    pd.testing.assert_frame_equal(rows.drop(columns=VOLATILE), expected.drop(columns=VOLATILE), check_dtype=False)


def test_side_by_side_alone_and_in_any_order_the_rows_are_the_same(reference):
    same(sweep(RUNS, "cpu", workers=2), reference)
    fresh = sweep(RUNS[::-1], "cpu", rerun=True, workers=1)
    same(results.of_experiments(RUNS, fresh), reference)


def test_a_sweep_trains_only_what_is_missing(reference, monkeypatch):
    results.store(reference[0])
    assert missing(RUNS) == RUNS[1:]
    trained = []
    monkeypatch.setattr("sparsecnn.engines.train", lambda run, *_: trained.append(run) or reference[RUNS.index(run)])
    same(sweep(RUNS, "cpu", workers=1), reference)
    assert trained == RUNS[1:]
    same(sweep(RUNS, "cpu"), reference)
    assert trained == RUNS[1:]


def test_a_rerun_is_shown_and_not_stored(reference, output):
    results.store(reference[0].assign(test_accuracy=12.5))
    assert sweep(RUNS[:1], "cpu", rerun=True)["test_accuracy"].tolist() == reference[0]["test_accuracy"].tolist()
    assert sweep(RUNS[:1], "cpu")["test_accuracy"].tolist() == [12.5, 12.5]


def test_a_killed_sweep_keeps_what_it_had_and_is_taken_up_again(reference, output):
    code = (
        "from sparsecnn.experiment import experiment; from sparsecnn.sweep import sweep\n"
        "sweep([experiment('digits', 'controlled', m, s, epochs=2) for m in ('SparseConvNet', 'ConvNet')"
        " for s in (0.3, 0.7)], 'cpu', workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    store = output / "results/runs/digits_controlled.csv"
    deadline = time.monotonic() + 120
    while not store.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(missing(RUNS)) < len(RUNS)
    same(sweep(RUNS, "cpu", workers=1), reference)


def test_a_run_is_stored_once(reference):
    assert results.store(reference[0])
    assert not results.store(reference[0])
    assert len(results.read("digits", "controlled")) == len(reference[0])


def _store(rows: pd.DataFrame, output: str) -> None:
    os.environ["SPARSECNN_OUTPUT"] = output
    results.store(rows)


def test_writers_at_the_same_time_lose_and_double_nothing(reference, output):
    runs = [reference[0].assign(seed=seed) for seed in range(20)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_store, [(rows, str(output)) for rows in runs + runs])
    stored = results.read("digits", "controlled")
    assert sorted(stored["seed"]) == sorted(list(range(20)) * len(reference[0]))


def test_rows_come_back_as_they_were_stored(reference):
    for rows in reference:
        results.store(rows)
    same(results.of_experiments(RUNS), reference)
    assert results.of_experiments([experiment("digits", "controlled", "ConvNet", 0.31)]).empty


def test_a_store_with_other_columns_is_named(reference, output):
    results.store(reference[0])
    path = output / "results/runs/digits_controlled.csv"
    path.write_text(path.read_text().replace("weight_decay", "decay", 1))
    with pytest.raises(results.ResultsError, match=r"digits_controlled\.csv.*decay"):
        missing(RUNS)


def test_no_workers_are_refused():
    with pytest.raises(SettingError, match="workers=0"):
        sweep(RUNS, "cpu", workers=0)
