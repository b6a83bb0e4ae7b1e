"""What the rows of many runs say together: variance explained, late drops, precisions, devices, bridges."""

import itertools
from collections.abc import Callable, Sequence
from math import nan

import numpy as np
import pandas as pd
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.oneway import confint_noncentrality

from ..records import SETTINGS
from ..studies import Step, batch_norms
from ..sweeps.store import of_experiments
from .inference import Estimate
from .pairs import mean_differences
from .tables import ci95, has_collapsed, of_ways, selected

__all__ = [
    "batch_norm_table",
    "bridge_ends",
    "bridge_steps",
    "bridge_table",
    "gpu_less_cpu",
    "largest_whole_grid",
    "late_drops",
    "precision_pairs",
    "spread_between_seeds",
    "variance_explained",
]


def largest_whole_grid(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the largest part of a grid, learning rates by batch sizes, of which every setting has been run."""
    cells = runs.groupby(["learning_rate", "batch_size"]).size().unstack(fill_value=0)
    rates, sizes = (
        [list(part) for number in range(1, len(axis) + 1) for part in itertools.combinations(axis, number)]
        for axis in (cells.index, cells.columns)
    )
    whole = [part for part in itertools.product(rates, sizes) if (cells.loc[part] > 0).all(axis=None)]
    rates, sizes = max(whole, key=lambda part: cells.loc[part].sum(axis=None), default=([], []))
    return runs[runs["learning_rate"].isin(rates) & runs["batch_size"].isin(sizes)]


def variance_explained(runs: pd.DataFrame) -> pd.DataFrame:
    """How much of the variance of test accuracy learning rate, batch size, their interaction and the seed explain.

    Two-way analysis of variance with the seed as a block (statsmodels, type II sums of squares); one-way where there is
    one learning rate or one batch size.

    Args:
        runs: a row a run of one network at one sparsity, as tables.selected gives them; of a study that is not yet
            done, those of :func:`largest_whole_grid`.

    Returns:
        Index: learning rate, batch size, learning rate x batch size, seed, the rest. Columns: share of the sum of
        squares, in percent; partial, its part of its own sum of squares and the rest's together, in percent, with low
        and high, the 95% interval by the noncentral F distribution (Steiger 2004); p. No line where there is one
        setting or one seed, a setting without runs, or too few runs for a rest.
    """
    columns = ["share", "partial", "low", "high", "p"]
    names = {"learning_rate": "learning rate", "batch_size": "batch size"}
    cells = runs.groupby(list(names)).size()
    varied = [factor for factor in names if runs[factor].nunique() > 1]
    freedom = len(runs) - len(cells) - runs["seed"].nunique() + 1  # of the rest
    whole = len(cells) == runs["learning_rate"].nunique() * runs["batch_size"].nunique()
    blocks = runs["seed"].nunique() > 1
    if not varied or not blocks or not whole or freedom < 1 or runs["test_accuracy"].nunique() == 1:
        return pd.DataFrame(columns=columns)
    factors = {f"C({factor})": names[factor] for factor in varied}
    if len(varied) == 2:
        factors |= {":".join(factors): " x ".join(factors.values())}
    factors |= {"C(seed)": "seed"}
    table = anova_lm(ols(f"test_accuracy ~ {' + '.join(factors)}", runs).fit(), typ=2)
    rest = table.loc["Residual"]
    lines = {}
    for term, name in factors.items():
        square, freedom, f, p = table.loc[term]
        bounds = np.nan_to_num(confint_noncentrality(f, (freedom, rest["df"])))  # NaN: nothing above 0 fits
        low, high = np.clip(bounds, 0, None) / (np.clip(bounds, 0, None) + len(runs))
        lines[name] = (square / table["sum_sq"].sum(), square / (square + rest["sum_sq"]), low, high, p)
    lines["the rest"] = (rest["sum_sq"] / table["sum_sq"].sum(), *[np.nan] * 4)
    found = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    return found.assign(**{name: 100 * found[name] for name in columns[:-1]})


def late_drops(rows: pd.DataFrame, points: float = 5) -> pd.DataFrame:
    """Where test accuracy falls by more than ``points`` from one epoch to the next, in the second half of a run.

    Args:
        rows: those of the store, with the column run.

    Returns:
        A line a run, index run: its model, sparsity, batch size, learning rate and seed; ``epochs_late``, the epochs of
        its second half; ``drops``, in how many of them accuracy falls so; ``at_last``, whether it does in the last; and
        ``greatest``, the largest fall in points.
    """
    rows = rows.sort_values(["run", "epoch"])
    fall = -rows.groupby("run")["test_accuracy"].diff()
    late = rows["epoch"] > rows["epochs"] / 2
    marked = rows.assign(
        epochs_late=late,
        drops=late & (fall > points),
        at_last=(rows["epoch"] == rows["epochs"]) & (fall > points),
        greatest=fall.where(late),
    )
    late = marked.groupby("run")
    counts = late.agg(epochs_late=("epochs_late", "sum"), drops=("drops", "sum"), at_last=("at_last", "any"))
    settings = rows.drop_duplicates("run").set_index("run")[
        ["model", "sparsity", "batch_size", "learning_rate", "seed"]
    ]
    return settings.join(counts).assign(greatest=late["greatest"].max())


def precision_pairs(rows: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of runs that were trained in float32 and once more in bf16.

    Args:
        rows, again: those of the same experiments from the store and from store.retrained, with the column run.

    Returns:
        Columns model, sparsity, seed, float32, bf16, difference (bf16 less float32, in points); a line a pair.
    """
    runs, once_more = (selected(part).set_index("run") for part in (rows, again))
    pairs = runs.loc[runs["precision"] == "float32", ["model", "sparsity", "seed", "test_accuracy"]]
    pairs = pairs.rename(columns={"test_accuracy": "float32"}).join(
        once_more.loc[once_more["precision"] == "bf16", "test_accuracy"].rename("bf16"), how="inner"
    )
    return pairs.assign(difference=pairs["bf16"] - pairs["float32"]).reset_index(drop=True)


def gpu_less_cpu(runs: pd.DataFrame) -> tuple[Estimate, int]:
    """Test accuracy on a GPU less that on the CPU, by least squares with a mean for each setting, and how many runs it
    rests on: those of settings that were trained on both, by other seeds.

    Args:
        runs: a row a run, as tables.selected gives them.
    """
    alike = [name for name in SETTINGS if name != "seed"] + ["precision"]
    runs = runs.assign(gpu=~runs["device"].str.startswith("cpu"), setting=runs.groupby(alike).ngroup())
    runs = runs[runs.groupby("setting")["gpu"].transform("nunique") == 2]
    if runs.empty:
        return Estimate(nan), 0
    fit = ols("test_accuracy ~ C(setting) + C(gpu)", runs).fit()
    return Estimate(fit.params.iloc[-1], fit.bse.iloc[-1], fit.df_resid), len(runs)


def spread_between_seeds(runs: pd.DataFrame, key: Sequence[str]) -> tuple[float, int]:
    """The standard deviation of test accuracy between runs that differ in their seed alone, pooled over all such, and
    its degrees of freedom; NaN and 0 where there are none.

    Args:
        runs: a row a run, as tables.selected gives them.
        key: the settings in which they may differ otherwise.
    """
    accuracies = runs.groupby(list(key))["test_accuracy"]
    freedom = int((accuracies.count() - 1).sum())
    squares = (runs["test_accuracy"] - accuracies.transform("mean")).pow(2).sum()
    return (float((squares / freedom) ** 0.5) if freedom else float("nan")), freedom


def bridge_table(steps: list[Step], rows: pd.DataFrame) -> pd.DataFrame:
    """What each change of a bridge does to test accuracy, over the seeds that every recorded step has: with others, a
    step's mean would not be the one before and the change. Collapsed runs are counted, and in no mean.

    Args:
        steps: those of studies.bridge.
        rows: those of the store for their runs.

    Returns:
        Columns change, n_seeds, mean, difference (to the step before, paired by seed), ci95 (its interval's half
        width), collapsed (how many runs have); NaN where runs are missing.
    """
    of_step = [selected(of_experiments(step.runs, rows), step.rule).set_index("seed") for step in steps]
    recorded = [set(runs.index) for runs in of_step if len(runs)]
    shared = set.intersection(*recorded) if recorded else set()
    lines, before = [], pd.Series(dtype=float)
    for step, runs in zip(steps, of_step, strict=True):
        runs = runs[runs.index.isin(shared)]
        sound = _sound(runs.reset_index())
        change = (sound - before).dropna()
        dead = len(runs) - len(sound)
        lines.append((step.change, len(runs), sound.mean(), change.mean(), ci95(change), dead))
        before = sound
    return pd.DataFrame(lines, columns=["change", "n_seeds", "mean", "difference", "ci95", "collapsed"])


def _sound(runs: pd.DataFrame) -> pd.Series:
    """Test accuracy by seed of the runs that did not collapse."""
    return runs[~has_collapsed(runs)].set_index("seed")["test_accuracy"].sort_index()


def bridge_steps(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Several of :func:`bridge_table` below each other, by the name of each and the change."""
    return pd.concat(tables, names=["bridge"]).droplevel(1).set_index("change", append=True)


def bridge_ends(bridges: dict[tuple[float, str], list[Step]], rows: pd.DataFrame) -> pd.DataFrame:
    """What the changes come to, paired by seed: each model's last step less its first, and SparseConvNet less ConvNet
    at either end. Pairs with a collapsed run are left out.

    Args:
        bridges: those of studies.bridge by sparsity and model.
        rows: those of the store for their runs.

    Returns:
        Columns sparsity, difference_of, n_seeds, difference, ci95, p, holds, as pairs.mean_differences has them.
    """
    ends = {
        (sparsity, model, place): _sound(selected(of_experiments(steps[place].runs, rows), steps[place].rule))
        for (sparsity, model), steps in bridges.items()
        for place in (0, -1)
    }
    apart = {}
    for sparsity in dict.fromkeys(sparsity for sparsity, _ in bridges):
        for place, name in ((0, "at the start"), (-1, "at the end")):
            sparse, plain = (ends[sparsity, model, place] for model in ("SparseConvNet", "ConvNet"))
            apart[sparsity, f"SparseConvNet less ConvNet, {name}"] = sparse - plain
        for model in ("SparseConvNet", "ConvNet"):
            apart[sparsity, f"{model}, from start to end"] = ends[sparsity, model, -1] - ends[sparsity, model, 0]
    key = ["sparsity", "difference_of"]
    return mean_differences(pd.concat(apart, names=key).dropna(), key)


def batch_norm_table(dataset: str, read: Callable = of_experiments) -> pd.DataFrame:
    """tables.of_ways of studies.batch_norms, a line a sparsity, number of convolutions and kind of batch norm."""
    studied = {f"{number}, batch norm {kind}": runs for (number, kind), runs in batch_norms(dataset).items()}
    recorded = read([run for runs in studied.values() for run in runs])
    parts = {}
    for level in sorted(set(recorded["sparsity"])):
        ways = {way: [run for run in runs if run.sparsity == level] for way, runs in studied.items()}
        parts[f"{level:.0%}"] = of_ways(ways, recorded).droplevel("model").rename_axis("convolutions")
    return pd.concat(parts, names=["missing"]) if parts else pd.DataFrame()
