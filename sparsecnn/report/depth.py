"""Depth completion's networks beside what needs no training, and what their training brings. Errors are in metres, of
inverse depth in 1/km.

``measured`` is transfers.read_transfers of the train x test matrix; ``filled`` what :func:`without_learning` gives.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ..experiment import MODELS, Experiment
from ..files import output_root
from ..sweeps.store import of_experiments
from ..tasks import DEPTH
from .baselines import baselines
from .figures import COLOURS, MARKERS, PUBLISHED, shared_legend
from .inference import of_values
from .tables import selected, with_interval

__all__ = ["beside_others", "less_nearest", "metrics_at", "training_figure", "training_table", "without_learning"]

METRICS = list(DEPTH.metrics)
UNITS = {
    metric: f"{metric.upper().replace('I', 'i')} ({unit})" for metric, unit in zip(METRICS, DEPTH.unit, strict=True)
}
CONDITION = ["test_mask", "test_sparsity"]
NEAREST = "nearest neighbour"
STYLES = ("--", ":", "-.")


def without_learning(dataset: str) -> pd.DataFrame:
    """results/baselines_<dataset>.csv, or where there is none the nearest neighbour alone, computed now: the other
    methods take minutes."""
    path = output_root() / "results" / f"baselines_{dataset}.csv"
    return pd.read_csv(path) if path.exists() else baselines(dataset, methods=[NEAREST])


def _networks(measured: pd.DataFrame) -> pd.DataFrame:
    """Its lines of networks trained at the test's own level, and of those trained on every level, as ``method``."""
    own = (measured["test_mask"] == "random") & (measured["train_sparsity"] == measured["test_sparsity"])
    every = measured["trained_at"] == "every sparsity"
    named = measured.assign(method=measured["model"].where(~every, measured["model"] + ", every level"))
    return named[every | own]


def beside_others(measured: pd.DataFrame, filled: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute error with its 95% interval over seeds, a line a method or network, a column a kind of test masks;
    networks trained at the test's own level, and below them those trained on every level."""
    networks = _networks(measured).groupby(["method", *CONDITION])["mae"].agg(list)
    cells = pd.concat(
        [
            filled.set_index(["method", *CONDITION])["mae"].map("{:.2f}".format),
            networks.map(of_values).map(lambda mean: with_interval(mean.effect, mean.half())),
        ]
    )
    table = cells.unstack(CONDITION).sort_index(axis=1)
    order = [*filled["method"].unique(), *MODELS, *(f"{model}, every level" for model in MODELS)]
    table = table.reindex([name for name in order if name in table.index])
    columns = [f"{100 * level:g}%" if kind == "random" else f"{kind} {100 * level:g}%" for kind, level in table.columns]
    return table.set_axis(columns, axis=1).rename_axis(None)


def less_nearest(measured: pd.DataFrame, filled: pd.DataFrame) -> pd.DataFrame:
    """By how much each network trained at the test's own level errs more than the nearest neighbour does, a line a
    network, a column a level: mean and 95% interval over seeds."""
    near = filled[(filled["method"] == NEAREST) & (filled["test_mask"] == "random")].set_index("test_sparsity")["mae"]
    own = _networks(measured)
    own = own[own["trained_at"] == "own sparsity"]
    apart = own.assign(more=own["mae"] - own["test_sparsity"].map(near))
    by_level = apart.groupby(["model", "test_sparsity"])["more"].agg(list).map(of_values)
    return by_level.map(lambda mean: with_interval(mean.effect, mean.half(), "+.2f")).unstack()


def metrics_at(measured: pd.DataFrame, filled: pd.DataFrame, level: float) -> pd.DataFrame:
    """All four metrics at one level of random masks, means over seeds, a line a method and network trained there."""
    own = _networks(measured)
    own = own[own["trained_at"] == "own sparsity"]
    both = pd.concat([filled, own[["method", *CONDITION, *METRICS]]])
    here = both[(both["test_mask"] == "random") & (both["test_sparsity"] == level)]
    return here.groupby("method", sort=False)[METRICS].mean().rename(columns=UNITS).rename_axis(None)


def training_table(ways: dict[str, list[Experiment]], recorded: pd.DataFrame) -> pd.DataFrame:
    """What each of studies.depth_training's ways that has runs leads to, means over its seeds.

    Returns:
        Index way, model; epochs, error on training scans (running mean of the reported epoch), and the test's metrics.
    """
    runs = {way: selected(of_experiments(asked, recorded)) for way, asked in ways.items()}
    table = pd.concat({way: found for way, found in runs.items() if len(found)}, names=["way"]).reset_index("way")
    names = {"train_mae": "MAE in training (m)"} | {f"test_{metric}": words for metric, words in UNITS.items()}
    means = table.groupby(["way", "model"], sort=False)[["epochs", *names]].mean()
    return means.astype({"epochs": int}).rename(columns=names)


def training_figure(
    ways: dict[str, list[Experiment]], recorded: pd.DataFrame, filled: pd.DataFrame, title: str
) -> Figure:
    """The test's error against the length of training, a marker a run that differs in nothing else, and what each
    method without learning has."""
    asked = [run for way, runs in ways.items() if way == "as it is" or way.endswith("epochs") for run in runs]
    runs = selected(of_experiments(asked, recorded))
    figure, panel = plt.subplots(figsize=(7, 3.8))
    here = filled[(filled["test_mask"] == "random") & (filled["test_sparsity"] == asked[0].sparsity)]
    for line, style in zip(here.itertuples(), STYLES, strict=False):
        panel.axhline(line.mae, color=PUBLISHED, ls=style, label=line.method)
    for model, part in runs.groupby("model", sort=False):
        panel.plot(part["epochs"], part["test_mae"], color=COLOURS[model], marker=MARKERS[model], label=model)
    panel.set_xscale("log")
    panel.set_xticks(sorted(runs["epochs"].unique()))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set(xlabel="epochs of training", ylabel="mean absolute error (m)", ylim=(0, None))
    shared_legend(figure)
    figure.suptitle(f"{title}, {asked[0].sparsity:.0%} missing: error in the test")
    return figure
