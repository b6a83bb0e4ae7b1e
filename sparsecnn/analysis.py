"""What the rows of many runs say together: variance explained, late drops."""

import numpy as np
import pandas as pd
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.oneway import confint_noncentrality

__all__ = ["late_drops", "variance_explained"]


def variance_explained(runs: pd.DataFrame) -> pd.DataFrame:
    """How much of the variance of test accuracy learning rate, batch size, their interaction and the seed explain.

    Two-way analysis of variance with the seed as a block (statsmodels, type II sums of squares).

    Args:
        runs: a row a run of one network at one sparsity, as tables.selected gives them.

    Returns:
        Index: learning rate, batch size, learning rate x batch size, seed, the rest. Columns: share of the sum of
        squares, in percent; partial, its part of its own sum of squares and the rest's together, in percent, with low
        and high, the 95% interval by the noncentral F distribution (Steiger 2004); p. No line where fewer than two
        values of each, or too few runs for a rest, leave nothing to compare.
    """
    columns = ["share", "partial", "low", "high", "p"]
    factors = {"C(learning_rate)": "learning rate", "C(batch_size)": "batch size"}
    factors |= {"C(learning_rate):C(batch_size)": "learning rate x batch size", "C(seed)": "seed"}
    levels = runs[["learning_rate", "batch_size", "seed"]].nunique()
    if levels.min() < 2 or len(runs) < levels.prod() or runs["test_accuracy"].nunique() == 1:
        return pd.DataFrame(columns=columns)
    model = ols("test_accuracy ~ C(learning_rate) * C(batch_size) + C(seed)", runs).fit()
    table = anova_lm(model, typ=2)
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
