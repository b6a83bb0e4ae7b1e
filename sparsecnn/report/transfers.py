"""Tests unlike the training: networks trained at one sparsity and tested at others, or under masks with structure.

``measured`` is what :func:`read_transfers` gives.
"""

import itertools

import numpy as np
import pandas as pd

from ..experiment import MODELS, Experiment, levels_of, task_of
from ..tasks import CLASSIFICATION, DEPTH, Task
from .inference import largest_layout
from .pairs import mean_differences
from .tables import ci95, has_collapsed, over_seeds, selected

__all__ = [
    "beyond_table",
    "levels_compared",
    "levels_text",
    "matrix_table",
    "mismatch",
    "mismatch_differences",
    "mismatch_table",
    "mixed_table",
    "read_transfers",
    "structured_table",
]


def read_transfers(rows: pd.DataFrame, adapted: bool = False) -> pd.DataFrame:
    """The test of each run's reported network under each kind of test masks; a line a run and kind.

    Args:
        rows: those of the store, of one data set, with the column run. Runs that were tested at their own sparsity
            alone are left out.
        adapted: whether tests after adaptation are among them, whose way (see training.adaptation) stands behind the
            kind of masks, as in "random_rescaled".

    Returns:
        Columns model, architecture, trained_at, train_sparsity, seed, collapsed (whether it is at its own level),
        test_mask ("random", "square", "rows" or "rings"), test_sparsity, and the task's metrics.
    """
    runs = selected(rows)
    metrics = list(task_of(runs["dataset"].iloc[0]).metrics) if len(runs) else ["accuracy"]
    runs = runs[runs["transfer"] != ""].rename(columns={"sparsity": "train_sparsity"})
    runs = runs.assign(collapsed=has_collapsed(runs))
    key = ["model", "architecture", "trained_at", "train_sparsity", "seed", "collapsed"]
    lines = []
    for (_, run), text in zip(runs[key].iterrows(), runs["transfer"], strict=True):
        elsewhere = [entry.replace("=", ":").split(":") for entry in text.split()]
        lines += [
            (*run, mask, float(level), *map(float, values.split("/")))
            for mask, level, values in elsewhere
            if adapted or "_" not in mask
        ]
    table = pd.DataFrame(lines, columns=[*key, "test_mask", "test_sparsity", *metrics])
    own = runs[key].assign(
        test_mask="random",
        test_sparsity=runs["train_sparsity"],
        **{metric: runs[f"test_{metric}"] for metric in metrics},
    )
    return pd.concat([table, own], ignore_index=True) if len(table) else table.astype(dict.fromkeys(metrics, float))


def matrix_table(experiments: list[Experiment], measured: pd.DataFrame) -> pd.DataFrame:
    """Train x test: the mean metric of networks trained at one sparsity and tested at each level, run or not.

    Args:
        experiments: those of studies.matrix.
        measured: their :func:`read_transfers`.

    Returns:
        Columns model, train_sparsity, test_sparsity, n_seeds, accuracy_mean, accuracy_ci95 (half width), or mae_mean
        and mae_ci95.
    """
    own = [run for run in experiments if run.trained_at == "own sparsity"]
    key = ["model", "train_sparsity", "test_sparsity"]
    trained = dict.fromkeys((run.model, run.sparsity) for run in own)
    levels = levels_of(own[0].dataset)
    lines = pd.DataFrame([(*line, level) for line in trained for level in levels], columns=key)
    metric = task_of(own[0].dataset).metrics[0]
    return over_seeds(measured[_in_matrix(measured)].groupby(key)[metric], lines, metric)


def beyond_table(measured: pd.DataFrame) -> pd.DataFrame:
    """What :func:`matrix_table` leaves out: tests under masks with structure, and networks trained on every sparsity.

    Args:
        measured: :func:`read_transfers`.

    Returns:
        Columns model, trained_at, train_sparsity (none where trained on every sparsity), test_mask, test_sparsity,
        n_seeds, accuracy_mean, accuracy_ci95 (half width), or mae_mean and mae_ci95; lines for what has been run.
    """
    key = ["model", "trained_at", "train_sparsity", "test_mask", "test_sparsity"]
    metric = _task_of(measured).metrics[0]
    table = over_seeds(measured[~_in_matrix(measured)].groupby(key)[metric], metric=metric)
    return table.assign(train_sparsity=table["train_sparsity"].where(table["trained_at"] == "own sparsity"))


def _task_of(measured: pd.DataFrame) -> Task:
    """What these tests are of."""
    return next(task for task in (CLASSIFICATION, DEPTH) if task.metrics[0] in measured)


def _in_matrix(measured: pd.DataFrame) -> pd.Series:
    """Which of the tests are of the matrix proper: of networks trained on one sparsity, under random masks."""
    return (measured["trained_at"] == "own sparsity") & (measured["test_mask"] == "random")


def levels_compared(measured: pd.DataFrame) -> list[float]:
    """The levels of training between which :func:`mismatch` compares: those of inference.largest_layout of what
    SparseConvNet and ConvNet both have; where only one of them is there, it, and where neither is, what is there.

    Args:
        measured: :func:`read_transfers`.
    """
    runs = measured[_in_matrix(measured) & ~measured["collapsed"]]
    models = set(runs["model"]) & set(MODELS[:2]) or set(runs["model"])
    of_both = runs[runs["model"].isin(models)].groupby(["seed", "train_sparsity"])["model"].nunique() == len(models)
    return largest_layout(of_both.unstack(fill_value=False))[1]


def levels_text(measured: pd.DataFrame) -> str:
    """:func:`levels_compared` in words."""
    return ", ".join(f"{level:.0%}" for level in levels_compared(measured)) + " missing"


def mismatch(measured: pd.DataFrame, levels: list[float] | None = None) -> pd.DataFrame:
    """What it costs to be trained at another sparsity than that of the test: 0 for an invariant network.

    For every pair of :func:`levels_compared`, the accuracy of the network trained at the test's own level less that of
    the network trained at the other, both of one seed; the mean over all pairs, in points; of depth, by how many
    metres the error of the other is above. A collapsed network answers alike to everything, which is not meant: it is
    left out.

    Args:
        measured: :func:`read_transfers`.
        levels: others than those.

    Returns:
        Index model, seed (of which every pair was measured), columns mismatch, and of its pairs those whose network
        was trained with fewer pixels missing than in the test (``from_denser``) and with more (``from_sparser``).
    """
    levels, task = levels or levels_compared(measured), _task_of(measured)
    sign = 1 if task.best == "highest" else -1
    lines = {}
    sound = measured[_in_matrix(measured) & ~measured["collapsed"]]
    for run, part in sound.groupby(["model", "seed"], sort=False):
        accuracy = part.pivot(index="train_sparsity", columns="test_sparsity", values=task.metrics[0])
        accuracy = sign * accuracy.reindex(index=levels, columns=levels)
        if len(levels) < 2 or accuracy.isna().any(axis=None):
            continue
        cost = np.diag(accuracy) - accuracy.to_numpy()
        denser = np.triu(np.ones_like(cost, dtype=bool), 1)
        lines[run] = (cost[denser | denser.T].mean(), cost[denser].mean(), cost[denser.T].mean())
    index = pd.MultiIndex.from_tuples(lines, names=["model", "seed"])
    return pd.DataFrame(list(lines.values()), index=index, columns=["mismatch", "from_denser", "from_sparser"])


def mismatch_table(costs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of :func:`mismatch`, a line a network, with the number of seeds and the 95% interval."""
    by_model = costs.groupby("model", sort=False)
    return by_model.mean().join(by_model["mismatch"].agg(seeds="count", ci95=ci95))


def mismatch_differences(costs: pd.DataFrame) -> pd.DataFrame:
    """The columns of :func:`mismatch`, each network less each that comes after it, paired by seed.

    Returns:
        Columns networks, cost, and those of pairs.mean_differences.
    """
    parts = {}
    for cost in costs:
        by_seed = costs[cost].unstack("model")
        for first, second in itertools.combinations([model for model in MODELS if model in by_seed], 2):
            parts[f"{first} less {second}", cost] = (by_seed[first] - by_seed[second]).dropna()
    if not parts:
        return pd.DataFrame(columns=["networks", "cost", "n_seeds", "difference", "ci95", "p", "holds"])
    return mean_differences(pd.concat(parts, names=["networks", "cost"]), ["networks", "cost"])


def mixed_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of networks trained on every sparsity beside those trained at the test's own level, of the same
    seeds; a line a test's sparsity, two columns a network."""
    random = measured[measured["test_mask"] == "random"]
    mixed = random[random["trained_at"] == "every sparsity"]
    own = random[(random["trained_at"] == "own sparsity") & (random["train_sparsity"] == random["test_sparsity"])]
    own = own.merge(mixed[["model", "seed"]].drop_duplicates())
    kinds = {"trained on every sparsity": mixed, "on the test's own": own}
    means = {kind: rows.groupby(["model", "test_sparsity"])["accuracy"].mean() for kind, rows in kinds.items()}
    return pd.DataFrame(means).unstack("test_sparsity").T.unstack(0) if len(mixed) else pd.DataFrame()


def structured_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy under masks with structure, over the levels of training that all networks have; a line a way of
    training and network, a column a mask.
    """
    shown = measured[measured["test_mask"] != "random"]
    networks = shown.groupby(["trained_at", "train_sparsity"])["model"].transform("nunique")
    shown = shown[networks == networks.max()]
    shown = shown.assign(test=shown["test_mask"] + shown["test_sparsity"].map(" {:.0%}".format))
    means = shown.groupby(["trained_at", "model", "train_sparsity", "test"])["accuracy"].mean()
    return means.groupby(["trained_at", "model", "test"]).mean().unstack()
