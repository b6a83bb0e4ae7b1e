"""What can be done about missing pixels, way by way: its accuracy at training's own sparsity, what another sparsity
costs it, and how much of SparseConvNet's steadiness it has.

A way is one of studies.alternatives, or one of studies.adaptations after a step of training.adaptation. ``measured``
is :func:`tests_of`; in it and in the tables a way stands as the model.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..experiment import MODELS
from .figures import COLOURS
from .inference import largest_layout, ratio
from .statistics import mismatch, transfers
from .tables import ci95, over_seeds

__all__ = ["compared", "costs_of", "explained", "figure", "summary", "table", "tests_of"]

ADAPTED = {
    "rescaled": "input rescaled in the test",
    "reestimated_1": "batch norm anew, 1 image",
    "reestimated_32": "batch norm anew, 32 images",
    "reestimated_460": "batch norm anew, 460 images",
    "reestimated_test": "batch norm anew, test images",
}
SPARSE, PLAIN = MODELS[:2]
OTHER = "#56B4E9"


def tests_of(ways: dict[str, pd.DataFrame], adapted: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """statistics.transfers of both studies' rows by way, with ``model`` the way's name; a way that is adapted has the
    step behind its name."""
    parts = [transfers(rows).assign(model=way) for way, rows in ways.items() if len(rows)]
    for way, rows in adapted.items():
        if len(rows):
            tests = transfers(rows, adapted=True)
            kinds = tests["test_mask"].str.partition("_")
            steps = tests.assign(model=way + ", " + kinds[2].map(ADAPTED), test_mask=kinds[0])
            parts.append(steps[kinds[2] != ""])
    return pd.concat(parts, ignore_index=True)


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """results/alternatives_*.csv: columns model, train_sparsity (none where trained on every sparsity), test_sparsity,
    n_seeds, accuracy_mean, accuracy_ci95 (half width); a line for what has been run, under random masks."""
    shown = _trained_at(measured[measured["test_mask"] == "random"])
    key = ["model", "train_sparsity", "test_sparsity"]
    return over_seeds(shown.groupby(key, sort=False, dropna=False)["accuracy"])


def _trained_at(measured: pd.DataFrame) -> pd.DataFrame:
    """With no train_sparsity where trained on every one."""
    own = measured["trained_at"] == "own sparsity"
    return measured.assign(train_sparsity=measured["train_sparsity"].where(own))


def compared(measured: pd.DataFrame) -> tuple[pd.DataFrame, list[float]]:
    """Those tests of ``measured`` whose networks were trained at the levels that most ways have, and these levels: the
    largest layout of ways by levels, and all ways that have them. Networks trained on every level are among them."""
    shown = _trained_at(measured)
    sound = shown[~shown["collapsed"]]
    there = pd.crosstab(sound["model"], sound["train_sparsity"]) > 0
    levels = largest_layout(there)[1]
    whole = there.index[there[levels].all(axis=1)]
    mixed = shown["train_sparsity"].isna()
    return shown[mixed | shown["train_sparsity"].isin(levels) & shown["model"].isin(whole)], levels


def costs_of(measured: pd.DataFrame) -> pd.DataFrame:
    """Accuracies of each way and seed that has every level of :func:`compared`, collapsed runs left out: at the level
    of training, the mean over levels (``own``); at another one, the mean over pairs of levels (``other``); what that
    costs (``wrong``, statistics.mismatch); and under masks with structure, a column a kind ("square 30%", ...). A
    network trained on every level has one accuracy, the mean over levels.

    Returns:
        Index model, seed.
    """
    shown, levels = compared(measured[~measured["collapsed"]])
    random = shown[(shown["test_mask"] == "random") & shown["test_sparsity"].isin(levels)]
    wrong = mismatch(shown)["mismatch"]
    own = random[random["train_sparsity"] == random["test_sparsity"]].groupby(["model", "seed"])["accuracy"].mean()
    mixed = random[random["train_sparsity"].isna()].groupby(["model", "seed"])["accuracy"].mean()
    costs = pd.DataFrame({"own": own.loc[wrong.index], "wrong": wrong})
    costs = pd.concat([costs, pd.DataFrame({"own": mixed, "wrong": 0.0})])
    structured = shown[shown["test_mask"] != "random"]
    kinds = structured["test_mask"] + structured["test_sparsity"].map(" {:.0%}".format)
    by_kind = structured.assign(kind=kinds).pivot_table(index=["model", "seed"], columns="kind", values="accuracy")
    costs.insert(1, "other", costs["own"] - costs["wrong"])
    return costs.join(by_kind)


def summary(costs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of :func:`costs_of` with the 95% interval of ``wrong``, best at another level first."""
    by_way = costs.groupby("model")
    shown = by_way.mean().join(by_way["wrong"].agg(seeds="count", ci95=ci95))
    return shown.sort_values("other", ascending=False)


def explained(costs: pd.DataFrame) -> pd.DataFrame:
    """How much of what a wrong level costs ConvNet more than SparseConvNet each way saves, in percent, with the 95%
    interval by Fieller's theorem over the seeds that all three have: 0% is ConvNet as it is, 100% SparseConvNet.

    Args:
        costs: :func:`costs_of`.

    Returns:
        Index model; columns points (ConvNet's cost less the way's), seeds, and share, low and high in percent; the
        bounds are NaN for one seed, and infinite where the seeds can't tell the two networks apart.
    """
    by_seed = costs["wrong"].unstack("model")
    if not {SPARSE, PLAIN} <= set(by_seed):
        return pd.DataFrame(columns=["points", "seeds", "share", "low", "high"])
    lines = {}
    for way in by_seed.columns.drop([SPARSE, PLAIN]):
        paired = by_seed[[way, SPARSE, PLAIN]].dropna()
        if len(paired):
            saved, whole = paired[PLAIN] - paired[way], paired[PLAIN] - paired[SPARSE]
            lines[way] = (saved.mean(), len(paired), *(100 * value for value in ratio(saved, whole)))
    return pd.DataFrame(lines, index=["points", "seeds", "share", "low", "high"]).T.rename_axis("model")


def figure(summaries: dict[str, pd.DataFrame]) -> Figure:
    """Accuracy at the sparsity of training (full dot) and at another one (open), a line a way, a panel a data set.

    ``summaries``: :func:`summary` by title.
    """
    most = max(map(len, summaries.values()))
    figure, panels = plt.subplots(1, len(summaries), figsize=(6 * len(summaries), 1 + 0.26 * most), squeeze=False)
    for (title, shown), panel in zip(summaries.items(), panels[0], strict=True):
        for place, way in enumerate(shown.itertuples()):
            colour = COLOURS.get(way.Index, OTHER)
            panel.plot([way.other, way.own], [place, place], color=colour, lw=2)
            panel.errorbar(way.other, place, xerr=way.ci95 if way.seeds > 1 else None, color=colour, lw=1, capsize=2)
            panel.plot(way.own, place, "o", color=colour)
            panel.plot(way.other, place, "o", color=colour, mfc="white")
        panel.set_yticks(range(len(shown)), shown.index)
        panel.invert_yaxis()
        panel.grid(axis="x")
        panel.set(title=title, xlabel="test accuracy (%)")
    marks = [Line2D([], [], color="black", marker="o", ls="", mfc=fill) for fill in ("black", "white")]
    figure.legend(marks, ["at the sparsity of training", "at another"], loc="upper center", ncols=2, frameon=False)
    return figure
