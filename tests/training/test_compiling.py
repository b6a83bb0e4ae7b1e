import pandas as pd
import pytest
import torch

from sparsecnn.experiment import experiment
from sparsecnn.sweeps.sweep import sweep
from sparsecnn.training.compiling import REPAID_BY, SECONDS_A_RUN, network_of, worth_compiling


def runs(count: int, model: str = "SparseConvNet", dataset: str = "shapes", **changes) -> list:
    return [experiment(dataset, "controlled", model, 0.3, seed, **changes) for seed in range(count)]


def test_a_network_is_compiled_where_a_process_has_runs_enough_to_repay_it():
    many, few = runs(REPAID_BY), runs(REPAID_BY - 1, "ConvNet")
    compiled, why = worth_compiling(many + few, "cuda", workers=1)
    assert compiled == {network_of(many[0])}
    assert why == (
        f"SparseConvNet (caltech, batch 128) compiled, {REPAID_BY} left to train, "
        f"ConvNet (caltech, batch 128) not compiled, {REPAID_BY - 1} left to train; that pays from about {REPAID_BY} on"
    )
    assert worth_compiling(many, "cuda", workers=2)[0] == set()
    enough = REPAID_BY * SECONDS_A_RUN / 60
    assert worth_compiling(many, "cuda", workers=1, minutes=enough)[0] == {network_of(many[0])}
    assert worth_compiling(many, "cuda", workers=1, minutes=0.9 * enough)[0] == set()
    other_shapes = many[1:] + runs(1, batch_size=64)  # each is compiled by itself
    assert worth_compiling(other_shapes, "cuda", workers=1)[0] == set()


@pytest.mark.parametrize(("dataset", "device"), [("shapes", "cpu"), ("digits", "cuda")])
def test_on_the_cpu_and_of_digits_none_is_compiled_and_nothing_is_said(dataset, device):
    assert worth_compiling(runs(REPAID_BY, dataset=dataset), device, workers=1) == (set(), "")


def test_a_sweep_says_what_it_compiles_and_does_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    monkeypatch.setattr("sparsecnn.training.compiling.REPAID_BY", 2)
    monkeypatch.setattr("sparsecnn.sweeps.sweep.choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr("sparsecnn.sweeps.sweep.expected_seconds", lambda *_: None)
    trained = []

    def train(run, *_, compiled, **__) -> pd.DataFrame:
        trained.append((run.model, compiled))
        return pd.DataFrame({"seconds": [1.0]})

    monkeypatch.setattr("sparsecnn.sweeps.executors.train", train)
    monkeypatch.setattr("sparsecnn.sweeps.store.store", lambda rows: True)
    sweep(runs(1, "ConvNet") + runs(2), "cuda", workers=1)
    assert trained == [("ConvNet", False), ("SparseConvNet", True), ("SparseConvNet", True)]
    assert "SparseConvNet (caltech, batch 128) compiled, 2 left to train" in capsys.readouterr().err
