"""Notebooks that train, as papermill runs them, and those over a full store that have runs yet to come; nbval runs them
all as they stand."""

import functools
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest

from sparsecnn.data.datasets import load, split
from sparsecnn.experiment import ADAPTED, SEEDS, Experiment, levels_of
from sparsecnn.files import REPOSITORY
from sparsecnn.records import COLUMNS, LATER, SETTINGS
from sparsecnn.studies import studies_of
from sparsecnn.sweeps import store
from sparsecnn.training.adaptation import WAYS
from sparsecnn.training.evaluation import conditions_of


def execute(name: str, folder: Path, **asked) -> dict[str, list]:
    """The outputs of each cell."""
    executed = papermill.execute_notebook(
        REPOSITORY / f"notebooks/{name}.ipynb",
        folder / "out.ipynb",
        asked,
        cwd=REPOSITORY / "notebooks",
        progress_bar=False,
    )
    return {cell.id: cell.get("outputs", []) for cell in executed.cells}


def has_figure(outputs: list) -> bool:
    return any("image/png" in output.get("data", {}) for output in outputs)


def text_of(outputs: list) -> str:
    return "".join(output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs)


@pytest.fixture
def output(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    return tmp_path


@functools.cache
def count_test_images(dataset: str, validation: int, kind: str) -> int:
    # MNIST itself need not be at hand.
    return 10_000 if dataset == "mnist" else len(split(load(dataset, pixels=False), validation, kind)[2])


def invented(run: Experiment, rng: np.random.Generator) -> pd.DataFrame:
    """Rows as a run of that kind gives, with made-up accuracies."""
    images = count_test_images(run.dataset, run.validation, run.split)
    epochs = np.arange(1, run.epochs + 1)
    accuracy = 60 - 30 / epochs + rng.normal(0, 2, run.epochs) - 20 * (rng.random(run.epochs) < 0.05)
    hits = np.round(images * accuracy / 100).astype(int)
    classes = 10 if run.dataset == "mnist" else 101
    elsewhere = " ".join(
        f"{kind}:{level:g}={60 - 40 * abs(level - run.sparsity) + rng.normal():.2f}"
        for kind, level in conditions_of(run.dataset)
        if (kind, level) != ("random", run.sparsity)
    )
    if run.tested_at == ADAPTED:
        ways = WAYS if run.dataset == "caltech101" else WAYS[:1]
        elsewhere += "".join(f" random_{way}:{level:g}=50" for way in ways for level in levels_of(run.dataset))
    reported = epochs == 1 + accuracy.argmax()
    return pd.DataFrame(LATER | {name: getattr(run, name) for name in SETTINGS} | {
        "epoch": epochs, "train_loss": 1 / epochs, "train_accuracy": 70.0, "validation_accuracy": accuracy.round(4),
        "test_accuracy": accuracy.round(4), "test_correct": [" ".join([str(n // classes)] * classes) for n in hits],
        "transfer": np.where(reported & (run.tested_at != "own sparsity"), elsewhere, ""),
        "device": "invented", "torch": "2", "precision": "float32", "seconds": 1.0, "commit": "",
    })[COLUMNS]  # fmt: skip


@functools.cache
def every_run() -> pd.DataFrame:
    """Every run of every study, invented."""
    rng = np.random.default_rng(0)
    runs = itertools.chain(*studies_of("mnist").values(), *studies_of("caltech101").values())
    return pd.concat([invented(run, rng) for run in dict.fromkeys(runs)])


@pytest.fixture
def full_store(output) -> Path:
    rows = every_run()
    store.runs_folder().mkdir(parents=True)
    for (dataset, protocol), part in rows.groupby(["dataset", "protocol"]):
        part.to_csv(store.runs_folder() / f"{dataset}_{protocol}.csv", index=False)
    return output


def test_the_mnist_notebook_trains_one_point_and_places_it_among_the_others(output):
    outputs = execute(
        "02_mnist", output, protocol="controlled", sparsity=0.9, seeds=1, epochs=1, train_images=100, one_point=True,
        device="cpu",
    )  # fmt: skip
    assert ", table: 3 of 3 runs" in text_of(outputs["scope"])
    live = text_of(outputs["live"])
    assert "the new run has" in live
    assert has_figure(outputs["live"])
    stored = pd.concat(store.read(name, "controlled") for name in ("mnist", "digits"))
    assert set(stored["seed"]) == {0}  # the new one is shown alone


def test_the_caltech_notebook_trains_and_shows_what_it_is_asked_for(output):
    outputs = execute(
        "03_caltech", output, dataset="shapes", protocol="as_reported", sparsity=0.3, seeds=1, epochs=1, batch_size=8,
        train_images=8, device="cpu",
    )  # fmt: skip
    assert "shapes (drawn, standing in for Caltech-101), table: 2 of 2 runs" in text_of(outputs["scope"])
    for figure in ("accuracy-figure", "curves", "classes", "pictures"):
        assert has_figure(outputs[figure]), figure
    assert set(store.read("shapes", "as_reported")["model"]) == {"SparseConvNet", "ConvNet"}
    # A part of a sweep replaces no table.
    assert not list((output / "results").glob("*.csv"))


def test_the_hyperparameter_notebook_trains_the_cells_it_is_asked_for(output):
    outputs = execute(
        "04_hyperparameters", output, dataset="digits", sparsity=0.3, learning_rates=[0.002], batch_sizes=[32, 64],
        seeds=1, epochs=1, device="cpu",
    )  # fmt: skip
    assert "digits (scikit-learn's, standing in for MNIST), table: 4 of 4 runs" in text_of(outputs["scope"])
    assert has_figure(outputs["heat-maps"])
    assert set(store.read("digits", "as_reported")["batch_size"]) == {32, 64}
    assert not list((output / "results").glob("*.csv"))


def test_the_hyperparameter_notebook_shows_a_full_store(full_store):
    outputs = execute("04_hyperparameters", full_store)
    scope = text_of(outputs["scope"])
    assert "MNIST, table: 234 of 234 runs" in scope and "Caltech-101, table: 108 of 108 runs" in scope
    assert "last batch of 6: 6 of 6 runs" in scope and "weight decay: 60 of 60 runs" in scope
    for figure in ("heat-maps", "late-caltech"):
        assert has_figure(outputs[figure]), figure
    assert "learning rate x batch size" in text_of(outputs["variance"])
    assert "last batch of 6" in text_of(outputs["late-caltech"]) and "of 9 runs fall late" in text_of(
        outputs["late-caltech"]
    )
    assert "AdamW" in text_of(outputs["decay"])
    written = {path.name for path in (full_store / "results").glob("*.csv")}
    assert written == {
        f"table{name}{suffix}.csv" for name in ("5_mnist", "6_caltech101") for suffix in ("", "_convnet")
    }
    assert pd.read_csv(full_store / "results/table6_caltech101.csv")["n_seeds"].eq(3).all()


def test_the_discussion_shows_a_full_store(full_store):
    outputs = execute("05_discussion", full_store)
    counts = re.findall(r"(\d+) of (\d+) runs", text_of(outputs["scope"]))
    assert len(counts) == 11 and all(found == asked for found, asked in counts)
    for figure in ("headline", "matrix", "structured", "bridges"):
        assert has_figure(outputs[figure]), figure
    assert "no batch norm" in text_of(outputs["ablations"])
    written = {path.name for path in (full_store / "results").glob("*.csv")}
    assert written == {"claims.csv"} | {
        f"matrix_{name}{suffix}.csv" for name in ("mnist", "caltech101") for suffix in ("", "_beyond")
    }
    matrix = pd.read_csv(full_store / "results/matrix_caltech101.csv")
    assert list(matrix.columns) == [
        "model", "train_sparsity", "test_sparsity", "n_seeds", "accuracy_mean", "accuracy_ci95",
    ]  # fmt: skip
    assert matrix["n_seeds"].eq(SEEDS["caltech101"]["controlled"]).all() and len(matrix) == 3 * 9 * 9
    claims = pd.read_csv(full_store / "results/claims.csv")
    untested = claims.index[claims["conclusion_stands"] == "not tested"]
    assert len(claims) == 10 and not len(untested)


def test_the_discussion_trains_what_it_is_asked_for(output):
    outputs = execute(
        "05_discussion", output, dataset="digits", sparsity=0.3, seeds=1, epochs=1, train_images=200, device="cpu"
    )
    assert "digits (scikit-learn's, standing in for MNIST), matrix: 3 of 3 runs" in text_of(outputs["scope"])
    assert has_figure(outputs["structured"])
    assert not list((output / "results").glob("*.csv"))


def test_the_depth_notebook_trains_what_it_is_asked_for(output):
    outputs = execute(
        "07_depth", output, dataset="street", sparsity=0.8, seeds=1, epochs=1, train_images=2, device="cpu"
    )
    scope = text_of(outputs["scope"])
    assert "matrix: 3 of 3 runs" in scope and "training: 18 of 18 runs" in scope
    for figure in ("matrix", "training", "pictures"):
        assert has_figure(outputs[figure]), figure
    assert "nearest neighbour" in text_of(outputs["others"]) and "edges" in text_of(outputs["errors"])
    assert set(store.read("street", "controlled")["epochs"]) == {1, 2, 4, 8}
    assert not list((output / "results").glob("*.csv"))


def test_the_notebook_of_alternatives_trains_every_way_it_is_asked_for(output):
    outputs = execute(
        "06_alternatives", output, dataset="digits", sparsity=0.5, seeds=1, epochs=1, train_images=100, device="cpu"
    )
    scope = text_of(outputs["scope"])
    assert "standing in for MNIST), alternatives: 17 of 17 runs" in scope and "adaptations: 1 of 1 runs" in scope
    for figure in ("headline", "holes"):
        assert has_figure(outputs[figure]), figure
    assert set(store.read("digits", "controlled")["fill"]) == {"own", "mean", "grey", "nearest", "blur", "inpainting"}
    assert not list((output / "results").glob("*.csv"))
