import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from sparsecnn.data import masks
from sparsecnn.data.datasets import load
from sparsecnn.experiment import ADAPTED, ALTERNATIVES, MODELS, Experiment, experiment
from sparsecnn.models import LAYERS, MaxPool
from sparsecnn.sweeps import store
from sparsecnn.sweeps.sweep import missing, sweep
from sparsecnn.training.batches import EnsembleBatches, generator_of
from sparsecnn.training.ensembles import Ensemble, ensembles_of
from sparsecnn.training.loop import initial_network
from sparsecnn.training.train import train, train_ensemble

CASES = [
    *(("controlled", model) for model in MODELS),
    *(("as_run", model) for model in MODELS[:2]),  # another mask, another network
]


def runs_of(protocol: str, model: str, **changes) -> list[Experiment]:
    """Two seeds at two levels; small steps, since at large ones rounding soon grows into another network."""
    settings = {"epochs": 2, "learning_rate": 1e-3, "train_images": 400} | changes
    return [
        experiment("digits", protocol, model, sparsity, seed, **settings) for seed in (0, 1) for sparsity in (0.3, 0.9)
    ]


def transfers(rows: pd.DataFrame) -> list[list[tuple[str, float]]]:
    return [
        [(name, float(accuracy)) for name, accuracy in (part.split("=") for part in cell.split())]
        for cell in rows["transfer"]
    ]


def same_but_for_rounding(stacked: pd.DataFrame, alone: pd.DataFrame) -> None:
    measured = ["train_loss", "train_accuracy", "validation_accuracy", "test_accuracy", "test_correct", "transfer"]
    other = [name for name in alone if name not in [*measured, "seconds", "device"]]
    # Outside git there is no commit, which is read back as missing.
    both = [rows[other].assign(commit=rows["commit"].fillna("")).reset_index(drop=True) for rows in (stacked, alone)]
    pd.testing.assert_frame_equal(*both)
    np.testing.assert_allclose(stacked["train_loss"], alone["train_loss"], rtol=5e-3)
    for name in measured[1:4]:
        np.testing.assert_allclose(stacked[name], alone[name], atol=1.5)
    for here, there in zip(transfers(stacked), transfers(alone), strict=True):
        assert [name for name, _ in here] == [name for name, _ in there]
        np.testing.assert_allclose([value for _, value in here], [value for _, value in there], atol=1.5)


@pytest.mark.parametrize(("protocol", "model"), CASES)
def test_an_ensemble_computes_what_its_networks_do(protocol, model):
    networks = [initial_network(run).double() for run in runs_of(protocol, model)]
    image = torch.randn(4, 5, 1, 28, 28, dtype=torch.float64)
    mask = torch.rand(4, 5, 1, 28, 28) > 0.9  # so that some windows are empty
    ensemble = Ensemble(networks)
    scores = ensemble(image, mask)
    expected = torch.stack([network(image[i], mask[i]) for i, network in enumerate(networks)])
    torch.testing.assert_close(scores, expected)
    scores.square().sum().backward()
    expected.square().sum().backward()
    gradients = zip(*([parameter.grad for parameter in network.parameters()] for network in networks), strict=True)
    for stacked, of_each in zip(ensemble.parameters(), gradients, strict=True):
        torch.testing.assert_close(stacked.grad, torch.stack(of_each))


@pytest.mark.parametrize(("protocol", "model"), CASES)
def test_in_an_ensemble_a_run_has_the_rows_that_it_has_alone(protocol, model):
    runs, told = runs_of(protocol, model), []
    stacked = train_ensemble(runs, "cpu", lambda *seen: told.append(seen))
    assert [place for place, *_ in told] == [0, 1, 2, 3] * 2
    for place, (run, rows) in enumerate(zip(runs, stacked, strict=True)):
        same_but_for_rounding(rows, train(run, "cpu"))
        assert [seen[1:] for seen in told if seen[0] == place] == list(
            rows[["epoch", "train_loss", "train_accuracy"]].itertuples(index=False, name=None)
        )
        assert (rows["device"] == "cpu, 1 thread, an ensemble of 4").all()


def test_each_run_of_an_ensemble_is_tested_elsewhere_as_of_its_own_best_epoch(monkeypatch):
    runs = runs_of("controlled", "ConvNet", tested_at="every sparsity")[:2]
    best = {0.3: 1, 0.9: 2}
    monkeypatch.setattr("sparsecnn.training.loop._reported_epoch", lambda _, history: len(history))
    alone = [train(dataclasses.replace(run, epochs=best[run.sparsity]), "cpu") for run in runs]
    levels = itertools.cycle(best)  # in which order the runs are asked about
    monkeypatch.setattr(
        "sparsecnn.training.loop._reported_epoch", lambda _, history: min(best[next(levels)], len(history))
    )
    stacked = train_ensemble(runs, "cpu")
    for run, of_ensemble, of_run in zip(runs, stacked, alone, strict=True):
        last = best[run.sparsity]
        assert of_ensemble["transfer"].ne("").tolist() == [epoch == last for epoch in of_ensemble["epoch"]]
        same_but_for_rounding(of_ensemble[:last].assign(epochs=last), of_run)


def test_on_cuda_those_of_one_shape_are_trained_together(monkeypatch):
    monkeypatch.setattr("sparsecnn.training.ensembles._most", lambda run, workers: 3)
    runs = [
        *runs_of("controlled", "ConvNet"),
        *runs_of("controlled", "SparseConvNet")[:2],
        *runs_of("controlled", "ConvNet", learning_rate=5e-3)[:1],
        *runs_of("controlled", "ConvNet", trained_at="every sparsity")[:2],
        *(experiment("shapes", "controlled", "ConvNet", 0.3, seed) for seed in (0, 1)),
    ]
    assert ensembles_of(runs, "cpu") == [[number] for number in range(11)]
    fills = [runs_of("controlled", "ConvNet", fill=fill)[:2] for fill in ("grey", "nearest", "blur", "inpainting")]
    inverted, partial = runs_of("controlled", "ConvNet", images="inverted"), runs_of("controlled", ALTERNATIVES[0])
    adapted = runs_of("controlled", "ConvNet", tested_at=ADAPTED)
    others = [*itertools.chain(*fills), *inverted[:2], *partial[:2], *adapted[:2]]
    alone = [[number] for number in (*range(2, 8), *range(10, 14))]
    assert sorted(ensembles_of(others, "cuda")) == sorted([[0, 1], [8, 9], *alone])
    assert ensembles_of(runs, "cuda") == [[0, 1, 2], [3], [4, 5], [6], [7], [8], [9], [10]]
    assert ensembles_of(runs, "cuda", workers=2)[:4] == [[0, 1], [2, 3], [4], [5]]
    pooled = LAYERS["mnist"]._replace(layers=(*LAYERS["mnist"].layers[:2], MaxPool(2), *LAYERS["mnist"].layers[2:]))
    monkeypatch.setitem(LAYERS, "mnist", pooled)  # a layer that an ensemble does not have
    assert ensembles_of(runs[:2], "cuda") == [[0], [1]]


def test_an_ensemble_fits_into_its_share_of_the_memory(monkeypatch):
    runs = [experiment("mnist", "as_reported", "ConvNet", 0.3, seed) for seed in range(100)]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    sizes = {}
    for gigabytes, workers in ((8, 1), (8, 2), (140, 1)):
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda free=gigabytes: (free * 2**30, 0))
        sizes[gigabytes, workers] = len(ensembles_of(runs, "cuda", workers)[0])
    assert sizes[8, 1] == pytest.approx(2 * sizes[8, 2], abs=1) and 10 < sizes[8, 1] < 50
    assert sizes[140, 1] == 100


def test_a_sweep_stores_a_stacks_runs_and_leaves_to_others_what_they_have(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    monkeypatch.setattr("sparsecnn.sweeps.sweep.ensembles_of", lambda runs, *_: [list(range(len(runs)))])
    sizes = []
    monkeypatch.setattr(
        "sparsecnn.sweeps.executors.train_ensemble",
        lambda runs, *arguments: sizes.append(len(runs)) or train_ensemble(runs, *arguments),
    )
    runs = runs_of("controlled", "ConvNet", epochs=1)
    store.store(train(runs[0], "cpu"))
    others = store.claim(runs[1])
    rows = sweep(runs, "cpu", workers=1, minutes=0.05)  # waits for the other until its time is up
    assert sizes == [2] and set(rows["run"]) == {0, 2, 3} and missing(runs) == [runs[1]]
    store.release(others)
    assert set(sweep(runs, "cpu", workers=1)["run"]) == {0, 1, 2, 3} and sizes == [2]
    assert all(store.claim(run) for run in runs)


def test_an_ensemble_that_is_interrupted_goes_on_where_it_was_saved(tmp_path):
    runs = runs_of("controlled", "SparseConvNet", epochs=3, tested_at="every sparsity")
    told = []

    def stop_after_two(place: int, epoch: int, *_) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ensemble(runs, "cpu", stop_after_two, tmp_path / "ensemble.pt")
    resumed = train_ensemble(runs, "cpu", lambda *seen: told.append(seen[:2]), tmp_path / "ensemble.pt")
    assert told == [(place, epoch) for epoch in (2, 3) for place in range(4)]
    for here, there in zip(resumed, train_ensemble(runs, "cpu"), strict=True):
        pd.testing.assert_frame_equal(here.drop(columns="seconds"), there.drop(columns="seconds"))


def test_a_sweep_gives_an_ensemble_up_when_its_time_is_up_and_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    monkeypatch.setattr("sparsecnn.sweeps.sweep.ensembles_of", lambda runs, *_: [list(range(len(runs)))])
    runs = runs_of("controlled", "ConvNet", epochs=2, train_images=0)
    sweep(runs, "cpu", workers=1, minutes=0.005)
    assert missing(runs) == runs and store.unfinished(runs[0]).exists()
    epochs = []
    monkeypatch.setattr("sparsecnn.sweeps.executors.train_ensemble", lambda runs, device, told, resume: train_ensemble(
        runs, device, lambda *seen: epochs.append(seen[1]) or told(*seen), resume
    ))  # fmt: skip
    sweep(runs, "cpu", workers=1)
    assert epochs == [1] * 4 + [2] * 4 and missing(runs) == [] and not store.unfinished(runs[0]).exists()


def test_an_ensembles_masks_are_those_of_its_runs_and_are_drawn_once_a_seed(monkeypatch):
    runs = [
        experiment("digits", "controlled", "ConvNet", sparsity, seed)
        for sparsity in (0.0, 0.3, 0.9) for seed in (0, 1)
    ]  # fmt: skip
    device, chosen = torch.device("cpu"), torch.arange(20).expand(len(runs), -1)
    ensemble = EnsembleBatches(load("digits"), runs, device)
    alone, together = ([generator_of(run, 2) for run in runs] for _ in range(2))
    expected = [
        torch.stack([
            single.draw("training", generator, own)
            for single, generator, own in zip(ensemble.of_runs, alone, chosen, strict=True)
        ])
        for _ in range(3)
    ]  # fmt: skip
    draws = []
    distinct_keys = masks._distinct_keys
    monkeypatch.setattr(masks, "_distinct_keys", lambda *how: draws.append(how) or distinct_keys(*how))
    for one_after_the_other in expected:
        assert torch.equal(ensemble.draw("training", together, chosen), one_after_the_other)
    assert len(draws) == 3 * 2
    # A run that goes on alone goes on with the masks it would have had.
    for sparsity, here, there in zip((run.sparsity for run in runs), alone, together, strict=True):
        assert sparsity == 0 or torch.equal(here.get_state(), there.get_state())


@pytest.mark.cuda
@pytest.mark.parametrize("model", MODELS)
def test_on_cuda_an_ensemble_gives_the_rows_of_single_runs(model, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    runs = runs_of("controlled", model, tested_at="every sparsity")
    together = sweep(runs, "cuda")
    assert together["device"].str.endswith("an ensemble of 4").all()
    for number, run in enumerate(runs):
        rows = together[together["run"] == number].drop(columns="run")
        same_but_for_rounding(rows[train(run, "cpu").columns], train(run, "cuda"))
