"""Tables to matplotlib figures: the same network always has the same colour and marker.

Notebooks set the style of all figures with ``plt.style.use("sparsecnn.report.report")``.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .tables import has_collapsed

__all__ = [
    "COLOURS",
    "MARKERS",
    "PUBLISHED",
    "accuracy_against_sparsity",
    "accuracy_by_class",
    "curves_by_setting",
    "difference_against_sparsity",
    "learning_curves",
    "spread_of_runs",
]

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = {
    "SparseConvNet": "#0072B2",
    "ConvNet": "#D55E00",
    "ConvNet + mask": "#009E73",
    "SparseConvNet, rescaled": "#CC79A7",
}
MARKERS = {"SparseConvNet": "o", "ConvNet": "s", "ConvNet + mask": "^", "SparseConvNet, rescaled": "D"}
PUBLISHED = "#888888"


def accuracy_against_sparsity(table: pd.DataFrame, runs: pd.DataFrame, title: str) -> Figure:
    """One panel a protocol: mean test accuracy with its 95% interval, and the published values, against sparsity.

    Args:
        table: tables.without_collapsed.
        runs: a row a run, as tables.selected gives them; each is a faint dot, a collapsed one a cross at the foot.
            The axis spans all else.
    """
    protocols = list(dict.fromkeys(table["protocol"]))
    figure, panels = plt.subplots(1, len(protocols), figsize=(3.6 * len(protocols), 3.6), sharey=True, squeeze=False)
    collapsed = has_collapsed(runs)
    ends = [table["accuracy_mean"] + sign * table["accuracy_ci95"] for sign in (-1, 1)]
    shown = pd.concat([table["accuracy_mean"], table["published"], runs.loc[~collapsed, "test_accuracy"], *ends])
    foot, top = max(0, 5 * np.floor((shown.min() - 1) / 5)), min(100, 5 * np.ceil((shown.max() + 1) / 5))
    for panel, protocol in zip(panels[0], protocols, strict=True):
        here = table[table["protocol"] == protocol]
        models = here["model"].nunique()
        for number, (model, line) in enumerate(here.groupby("model", sort=False)):
            apart = 0.8 * (number - (models - 1) / 2)  # so that intervals at one level don't cover each other
            panel.plot(
                100 * line["sparsity"], line["published"], color=PUBLISHED, marker=MARKERS[model], ls=":", lw=1,
                mfc="white", label=f"{model}, published" if line["published"].notna().any() else None,
            )  # fmt: skip
            dots = runs[(runs["protocol"] == protocol) & (runs["model"] == model)]
            alive, dead = dots[~collapsed[dots.index]], dots[collapsed[dots.index]]
            at = 100 * alive["sparsity"] + apart
            panel.scatter(at, alive["test_accuracy"], color=COLOURS[model], s=9, alpha=0.4, lw=0)
            if len(dead):
                panel.plot(
                    100 * dead["sparsity"] + apart, [foot] * len(dead), color=COLOURS[model], marker="x", ls="", ms=8,
                    mew=2, clip_on=False, zorder=5, label=f"{model}, collapsed run",
                )  # fmt: skip
            if not len(dots):
                continue
            panel.errorbar(
                100 * line["sparsity"] + apart, line["accuracy_mean"], line["accuracy_ci95"].fillna(0),
                color=COLOURS[model], marker=MARKERS[model], capsize=2, label=model,
            )  # fmt: skip
        least, most = here["n_seeds"].min(), here["n_seeds"].max()
        count = f"{most}" if least == most else f"{least} to {most}"
        panel.set(title=f"{protocol} (seeds: {count})", xlabel="missing pixels (%)", ylim=(foot, top))
    panels[0][0].set_ylabel("test accuracy (%)")
    shared_legend(figure)
    figure.suptitle(title)
    return figure


def difference_against_sparsity(differences: pd.DataFrame, baseline: str, title: str) -> Figure:
    """What each network's test accuracy is above or below the baseline's, with its 95% interval where there is one.

    ``differences``: pairs.differences of one protocol.
    """
    figure, panel = plt.subplots(figsize=(7, 3.6))
    panel.axhline(0, color=COLOURS[baseline], label=baseline)
    for number, (model, line) in enumerate(differences.groupby("model", sort=False)):
        # So that intervals at one level don't cover each other.
        apart = 0.5 * (number - (differences["model"].nunique() - 1) / 2)
        panel.errorbar(
            100 * line["sparsity"] + apart, line["difference"], line["ci95"].fillna(0),
            color=COLOURS[model], marker=MARKERS[model], capsize=2, label=model,
        )  # fmt: skip
    panel.set(xlabel="missing pixels (%)", ylabel=f"points above {baseline}")
    shared_legend(figure)
    figure.suptitle(title)
    return figure


def learning_curves(rows: pd.DataFrame, title: str, sparsities: tuple[float, ...]) -> Figure:
    """Test accuracy (solid) and training accuracy (dashed) after each epoch; a row a protocol, a column a sparsity.

    ``rows`` are those of the store; every run is a thin line of its network's colour. A panel without a run says so.
    """
    protocols = list(dict.fromkeys(rows["protocol"]))
    figure, panels = plt.subplots(
        len(protocols), len(sparsities), figsize=(max(5.5, 3.1 * len(sparsities)), 2.6 * len(protocols)),
        squeeze=False, sharex="row", sharey=True,
    )  # fmt: skip
    for protocol, line in zip(protocols, panels, strict=True):
        for sparsity, panel in zip(sparsities, line, strict=True):
            here = rows[(rows["protocol"] == protocol) & np.isclose(rows["sparsity"], sparsity)]
            _draw_curves(panel, here)
            if here.empty:  # not of the protocol, or not recorded
                panel.text(0.5, 0.5, "no runs", transform=panel.transAxes, ha="center", va="center", color="0.4")
            panel.set_title(f"{protocol}, {sparsity:.0%} missing")
    for panel in panels[-1]:
        panel.set_xlabel("epoch")
    for line in panels:
        line[0].set_ylabel("accuracy (%)")
    shared_legend(figure)
    figure.suptitle(f"{title}: test accuracy solid, training accuracy dashed")
    return figure


def curves_by_setting(rows: pd.DataFrame, by: str, title: str) -> Figure:
    """As :func:`learning_curves`, a panel for each value of the column ``by``, in the order in which they come."""
    settings = list(dict.fromkeys(rows[by]))
    figure, panels = plt.subplots(
        1, len(settings), figsize=(max(5.5, 2.6 * len(settings)), 3.2), squeeze=False, sharex=True, sharey=True
    )
    for setting, panel in zip(settings, panels[0], strict=True):
        _draw_curves(panel, rows[rows[by] == setting])
        panel.set(title=setting, xlabel="epoch")
    panels[0, 0].set_ylabel("accuracy (%)")
    shared_legend(figure)
    figure.suptitle(f"{title}\ntest accuracy solid, training accuracy dashed")  # one panel has no room for one line
    return figure


def accuracy_by_class(counts: pd.DataFrame, title: str) -> Figure:
    """One panel a sparsity: the share of each class's test images that a network classifies correctly, seeds together.

    ``counts`` are those of tables.by_class. Classes stand in the order of their mean over all networks and panels.
    """
    sums = counts.groupby(["sparsity", "model", "class"], sort=False)[["images", "correct"]].sum()
    share = (100 * sums["correct"] / sums["images"]).unstack("class")
    share = share[share.mean().sort_values(kind="stable").index]
    levels = share.index.unique("sparsity")
    figure, panels = plt.subplots(len(levels), figsize=(9, 2.8 * len(levels)), sharex=True, sharey=True, squeeze=False)
    for level, panel in zip(levels, panels[:, 0], strict=True):
        for model, line in share.loc[level].iterrows():
            rank = range(1, len(line) + 1)
            panel.plot(rank, line, color=COLOURS[model], marker=MARKERS[model], ls="", alpha=0.7, label=model)
        panel.set(title=f"{level:.0%} missing", ylabel="test accuracy (%)", ylim=(-3, 103))
    panels[-1, 0].set_xlabel("class, from the hardest to the easiest")
    shared_legend(figure)
    figure.suptitle(title)
    return figure


def spread_of_runs(runs: pd.DataFrame, live: pd.DataFrame, title: str) -> Figure:
    """Test accuracies on one line a network: a marker a run, and a star for each of ``live``; both a row a run."""
    models = list(dict.fromkeys(runs["model"]))
    figure, panel = plt.subplots(figsize=(7, 0.5 * len(models) + 1.4))
    for place, model in enumerate(models):
        at = runs.loc[runs["model"] == model, "test_accuracy"]
        panel.plot(at, [place] * len(at), ls="", marker=MARKERS[model], color=COLOURS[model], ms=7, alpha=0.7)
        now = live.loc[live["model"] == model, "test_accuracy"]
        panel.plot(now, [place] * len(now), ls="", marker="*", color="black", ms=15, zorder=5)
    panel.set_yticks(range(len(models)), models)
    panel.set(xlabel="test accuracy (%)", ylim=(len(models) - 0.5, -0.5), title=title)
    return figure


def _draw_curves(panel: Axes, rows: pd.DataFrame) -> None:
    for (model, _), run in rows.groupby(["model", "seed"], sort=False):
        look = {"color": COLOURS[model], "marker": ".", "ms": 3}  # a run of one epoch is a dot
        panel.plot(run["epoch"], run["test_accuracy"], lw=1, label=model, **look)
        panel.plot(run["epoch"], run["train_accuracy"], lw=0.8, ls="--", alpha=0.6, **look)


def shared_legend(figure: Figure) -> None:
    handles = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles[label] = handle
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
