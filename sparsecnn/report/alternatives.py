"""What can be done about missing pixels, way by way: its accuracy at training's own sparsity, what another sparsity
costs it, and how much of SparseConvNet's steadiness it has.

A way is one of studies.alternatives, or one of studies.adaptations after a step of training.adaptation. ``measured``
is :func:`tests_of`; in it and in the tables a way stands as the model.
"""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..experiment import MODELS
from ..files import REPOSITORY
from ..models import NETWORKS
from .figures import COLOURS
from .inference import MARGIN, of_values, ratio
from .tables import ci95, over_seeds, within_percent
from .transfers import mismatch, read_transfers

__all__ = [
    "backgrounds",
    "by_level",
    "compared",
    "costs_of",
    "decisions",
    "explained",
    "figure",
    "summary",
    "table",
    "tests_of",
    "times",
    "without_inverted",
]

SPARSE, PLAIN = MODELS[:2]
EVERY = "trained on every sparsity"
STEPS = {
    "rescaled": "input rescaled in the test",
    "reestimated_1": "batch norm anew from 1 image",
    "reestimated_32": "batch norm anew from 32 images",
    "reestimated_460": "batch norm anew from 460 images",
    "reestimated_test": "batch norm anew from test images",
}
INVERTED, GROUNDS = ", inverted", {False: "black", True: "white"}
OTHER = "#56B4E9"  # no network's colour

CPU, GPU = "ms an image, CPU thread", "us an image, GPU"
GPU_CASE = ", Caltech-101, batch 128, bf16"
# By what is known: in what the best way is best, and which ways can be used.
SITUATIONS = {
    "the share missing, and it stays": ("own", lambda way: True),
    "the share missing varies": ("other", lambda way: True),
    "it varies, and the network is trained": (
        "other",
        lambda way: way in MODELS or {*_steps_of(way)} & {*STEPS.values()},
    ),
    "a hole": ("square 30%", lambda way: True),
    "not even which pixels": ("other", lambda way: way in (PLAIN, f"{PLAIN}, {EVERY}", f"{PLAIN}, {LABEL_FREE}")),
}
LABEL_FREE = STEPS["reestimated_test"]
ACCURACIES = {"own": "own share (%)", "other": "another (%)", "square 30%": "square hole (%)"}
# Statements beside those of a ConvNet, with scipy, OpenCV, this package's layers and torch's update_bn at hand.
LINES = {"nearest": 2, "blur": 3, "inpainting": 2, "black": 1, "mean": 1, "grey": 1, EVERY: 1, STEPS["rescaled"]: 1}
LINES |= {step: 2 for step in STEPS.values() if "anew" in step} | {LABEL_FREE: 1}
LINES |= {name: 2 for name in NETWORKS} | {PLAIN: 0, "ConvNet, input rescaled": 1}


def tests_of(ways: dict[str, pd.DataFrame], adapted: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """transfers.read_transfers of both studies' rows by way, with ``model`` the way's name; a way that is adapted has
    the step behind its name. Networks trained on every sparsity have no train_sparsity."""
    parts = [read_transfers(rows).assign(model=way) for way, rows in ways.items() if len(rows)]
    for way, rows in adapted.items():
        if len(rows):
            tests = read_transfers(rows, adapted=True)
            kinds = tests["test_mask"].str.partition("_")
            steps = tests.assign(model=way + ", " + kinds[2].map(STEPS), test_mask=kinds[0])
            parts.append(steps[kinds[2] != ""])
    measured = pd.concat(parts, ignore_index=True) if parts else read_transfers(pd.DataFrame())
    own = measured["trained_at"] == "own sparsity"
    return measured.assign(train_sparsity=measured["train_sparsity"].where(own))


def without_inverted(measured: pd.DataFrame) -> pd.DataFrame:
    """The ways on the data set's own images."""
    return measured[~measured["model"].str.endswith(INVERTED)]


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """results/alternatives_*.csv: columns model, train_sparsity, test_sparsity, n_seeds, accuracy_mean, accuracy_ci95
    (half width); a line for what has been run, under random masks."""
    random = measured[measured["test_mask"] == "random"]
    key = ["model", "train_sparsity", "test_sparsity"]
    return over_seeds(random.groupby(key, sort=False, dropna=False)["accuracy"])


def compared(measured: pd.DataFrame) -> tuple[pd.DataFrame, list[float]]:
    """Those tests of ``measured`` whose networks were trained at the levels that most ways have, two at least, and
    these levels. Networks trained on every level are among them."""
    sound = measured[~measured["collapsed"]]
    there = pd.crosstab(sound["model"], sound["train_sparsity"]) > 0
    pairs = itertools.combinations(there.columns, min(2, len(there.columns)))
    of_pairs = [there[there[list(pair)].all(axis=1)] for pair in pairs]
    whole = max(of_pairs, key=lambda ways: (len(ways), ways.all().sum()))
    levels = list(whole.columns[whole.all()]) if len(whole) else []
    here = measured["train_sparsity"].isin(levels) & measured["model"].isin(whole.index)
    return measured[here | measured["train_sparsity"].isna()], levels


def costs_of(measured: pd.DataFrame) -> pd.DataFrame:
    """Accuracies of each way and seed that has every level of :func:`compared`, collapsed runs left out: at the level
    of training, the mean over levels (``own``); at another one, the mean over pairs of levels (``other``); what that
    costs (``wrong``, transfers.mismatch); and under masks with structure, a column a kind ("square 30%", ...). A
    network trained on every level has one accuracy, the mean over levels, and no ``wrong``; where there is a single
    level, no network has.

    Returns:
        Index model, seed.
    """
    shown, levels = compared(measured[~measured["collapsed"]])
    by_way = ["model", "seed"]
    random = shown[(shown["test_mask"] == "random") & shown["test_sparsity"].isin(levels)]
    wrong = mismatch(shown, levels)["mismatch"]
    own = random[random["train_sparsity"] == random["test_sparsity"]]
    own = own.pivot(index=by_way, columns="train_sparsity", values="accuracy").dropna().mean(axis=1)
    mixed = random[random["train_sparsity"].isna()].groupby(by_way)["accuracy"].mean()
    costs = [{"own": own, "other": own - wrong, "wrong": wrong}, {"own": mixed, "other": mixed}]
    structured = shown[shown["test_mask"] != "random"]
    kinds = structured["test_mask"] + structured["test_sparsity"].map(" {:.0%}".format)
    by_kind = structured.assign(kind=kinds).pivot_table(index=by_way, columns="kind", values="accuracy")
    return pd.concat(map(pd.DataFrame, costs)).join(by_kind)


def summary(costs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of :func:`costs_of`, the 95% interval of ``wrong``, and how many seeds; best at another level
    first."""
    by_way = costs.groupby("model")
    shown = by_way.mean().join(by_way["wrong"].agg(ci95=ci95)).join(by_way["own"].agg(seeds="count"))
    return shown.sort_values(["other", "own"], ascending=False)


def by_level(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over seeds of what was trained at the least level of :func:`compared`, which names the index: a
    line a way, whether or not it has the other levels, a column a sparsity in the test and one of how many seeds, the
    best at the last sparsity first.
    """
    sound = measured[~measured["collapsed"]]
    levels = compared(sound)[1]
    if not levels:  # all collapsed
        return pd.DataFrame()
    here = sound[(sound["test_mask"] == "random") & (sound["train_sparsity"] == levels[0])]
    means = here.pivot_table(index="model", columns="test_sparsity", values="accuracy")
    means = means.sort_values(means.columns[-1], ascending=False).rename_axis(f"trained with {levels[0]:.0%} missing")
    return means.assign(seeds=here.groupby("model")["seed"].nunique())


def backgrounds(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over seeds at the sparsity of training, collapsed runs left out, on MNIST as it is and inverted: a
    line a sparsity, two columns a network. ``measured`` has the ways of both."""
    sound = measured[~measured["collapsed"] & (measured["test_mask"] == "random")]
    own = sound[sound["train_sparsity"] == sound["test_sparsity"]]
    white = own["model"].str.endswith(INVERTED)
    own = own.assign(network=own["model"].str.removesuffix(INVERTED), background=white.map(GROUNDS))
    means = own.pivot_table(index="test_sparsity", columns=["network", "background"], values="accuracy")
    return means.reindex(columns=MODELS, level=0).dropna()


def explained(costs: pd.DataFrame) -> pd.DataFrame:
    """How much of what a wrong level costs ConvNet more than SparseConvNet each way saves, with the 95% interval by
    Fieller's theorem over the seeds that all three have: 0% is ConvNet as it is, 100% SparseConvNet. Where the seeds
    can't tell these two apart there is nothing to share.

    Args:
        costs: :func:`costs_of`.

    Returns:
        Index model; columns points (ConvNet's cost less the way's), seeds, and share, low and high in percent, the
        bounds NaN where the way has too few seeds to give any.
    """
    columns = ["points", "seeds", "share", "low", "high"]
    by_seed = costs["wrong"].unstack("model").dropna(axis=1, how="all")
    if not {SPARSE, PLAIN} <= set(by_seed):
        return pd.DataFrame(columns=columns)
    lines, apart = {}, of_values((by_seed[PLAIN] - by_seed[SPARSE]).dropna())
    if not apart.interval[0] > 0:
        return pd.DataFrame(columns=columns)
    for way in by_seed.columns.drop([SPARSE, PLAIN]):
        paired = by_seed[[way, SPARSE, PLAIN]].dropna()
        if len(paired):
            saved, whole = paired[PLAIN] - paired[way], paired[PLAIN] - paired[SPARSE]
            lines[way] = (saved.mean(), len(paired), *(100 * value for value in ratio(saved, whole)))
    shown = pd.DataFrame(lines, index=columns).T.rename_axis("model")
    bounds = shown[["low", "high"]]
    shown[["low", "high"]] = bounds.where(np.isfinite(bounds))
    return shown.astype({"seeds": int}).sort_values("share", ascending=False)


def times() -> pd.DataFrame:
    """What a network's output for an image of Caltech-101's size costs, or what fills it: milliseconds on a CPU thread
    in float32, from results/benchmarks_alternatives.csv, and microseconds on a GPU in batches of 128 in bf16, from
    results/benchmarks_gpu.csv, both the repository's; NaN where it was not measured."""
    results = REPOSITORY / "results"
    on_cpu = pd.read_csv(results / "benchmarks_alternatives.csv").set_index("way")["milliseconds_an_image"]
    on_gpu = pd.read_csv(results / "benchmarks_gpu.csv").query("part == 'inference'")
    on_gpu = on_gpu.set_index(on_gpu["what"].str.removesuffix(GPU_CASE))["value"]
    return pd.DataFrame({CPU: on_cpu, GPU: on_gpu})


def decisions(shown: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """For each of SITUATIONS the way to use: of those that can be used and come within the margin of no difference of
    the best, in what counts there, the one that takes the fewest lines of code, and of these the best.

    Args:
        shown: :func:`summary`.
        costs: :func:`times`.

    Returns:
        Index what is known of the missing pixels; columns the way, its accuracies, its seeds, what an image costs, and
        how many lines of code it takes beside a ConvNet's.
    """
    lines = {}
    for situation, (what_counts, usable) in SITUATIONS.items():
        ways = shown.reindex(columns=[what_counts]).loc[filter(usable, shown.index), what_counts].dropna()
        if len(ways):
            way = min(ways.index[ways > ways.max() - MARGIN], key=lambda way: (_lines_of(way), -ways[way]))
            priced = costs.index.intersection([_network_of(way), *_steps_of(way)])
            price = costs.loc[priced].sum(skipna=False)  # what fills images does so on the CPU
            accuracies = shown.loc[way].reindex(list(ACCURACIES)).rename(ACCURACIES)
            counts = {"seeds": int(shown.loc[way, "seeds"]), "lines": _lines_of(way)}
            lines[situation] = {"use": way, **accuracies, **price, **counts}
    return pd.DataFrame(lines).T.rename_axis("what is known")


def _lines_of(way: str) -> int:
    return sum(LINES[part] for part in (_network_of(way), *_steps_of(way)))


def _network_of(way: str) -> str:
    return max((name for name in NETWORKS if f"{way}, ".startswith(f"{name}, ")), key=len)


def _steps_of(way: str) -> list[str]:
    """What is done beside the network: a fill, a way of training, an adaptation."""
    steps = way.removeprefix(_network_of(way)).split(", ")[1:]
    return [step.removesuffix(" filled") for step in steps]


def figure(summaries: dict[str, pd.DataFrame]) -> Figure:
    """Accuracy at the sparsity of training (full dot) and at another one (open, with the 95% interval of what that
    costs, unless it leaves 0 to 100%), a line a way with its number of seeds in brackets, a panel a data set.

    ``summaries``: :func:`summary` by title.
    """
    most = max(map(len, summaries.values()))
    figure, panels = plt.subplots(1, len(summaries), figsize=(7.5 * len(summaries), 1.2 + 0.26 * most), squeeze=False)
    for (title, shown), panel in zip(summaries.items(), panels[0], strict=True):
        for place, way in enumerate(shown.itertuples()):
            colour = COLOURS.get(way.Index, OTHER)
            panel.plot([way.other, way.own], [place, place], color=colour, lw=2)
            half = way.ci95 if within_percent(way.other, way.ci95) else None
            panel.errorbar(way.other, place, xerr=half, color=colour, capsize=2)
            panel.plot(way.own, place, "o", color=colour)
            panel.plot(way.other, place, "o", color=colour, mfc="white")
        seeds = [f"{way} ({count})" for way, count in shown["seeds"].items()]
        panel.set_yticks(range(len(shown)), seeds)
        panel.invert_yaxis()
        panel.set(title=f"{title} (seeds)", xlabel="test accuracy (%)")
    marks = [Line2D([], [], color="black", marker="o", ls="", mfc=fill) for fill in ("black", "white")]
    words = ["at the sparsity of training", "at another"]
    figure.legend(marks, words, loc="outside lower center", ncols=2, frameon=False)
    return figure
