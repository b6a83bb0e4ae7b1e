"""Networks compared run by run: differences paired by seed, with intervals from a pooled variance and Holm's stars.

Runs of one seed see the same initial weights, masks and order of images, so the pairs' spread is what counts. A pair
with a collapsed run is left out of means and intervals, and counted.
"""

import itertools
from collections.abc import Callable, Sequence

import pandas as pd

from ..experiment import MODELS, grid
from ..studies import other_splits
from ..sweeps.store import of_experiments
from .inference import ALPHA, MARGIN, Estimate, as_cluster, at_levels, holm, largest_layout, of_values
from .tables import has_collapsed, published_differences, selected, with_interval

__all__ = [
    "across_splits",
    "beside_others",
    "crossed",
    "differences",
    "estimates",
    "mean_differences",
    "mean_sentence",
    "precisions_apart",
    "protocols_apart",
    "splits_sentence",
    "wide_difference",
]

SEEN = ("test_accuracy", "sound")
COLUMNS = ["n_seeds", "difference", "ci95", "p", "holds", "collapsed"]


def crossed(runs: pd.DataFrame, models: Sequence[str], by: Sequence[str] = ("sparsity",)) -> dict[str, pd.DataFrame]:
    """The accuracies of networks at the same levels with the same seeds: inference.largest_layout of what all of them
    have. Collapsed runs are left out as if they were not there.

    Args:
        runs: a row a run, as tables.selected gives them.
        by: the settings that make a level.

    Returns:
        By model, frames of seeds by levels; without rows where no two runs share a seed and a level.
    """
    by = list(by)
    sound = runs[~has_collapsed(runs)].set_index(["model", "seed", *by])["test_accuracy"]
    shared = sound.unstack("model").reindex(columns=list(models)).dropna()  # a line a seed and level
    seeds, levels = largest_layout(shared[models[0]].unstack(by).notna())
    return {model: column.unstack(by).loc[seeds, levels] for model, column in shared.items()}


def estimates(apart: pd.DataFrame) -> dict[object, Estimate]:
    """The mean of each column, a level, of a frame of seeds by levels (NaN = no pair). Levels with the same seeds are
    one layout, whose variance is pooled where that is tenable. A level whose seeds no other has takes that of the
    largest layout, where it is pooled there: its few values alone would reward a spread that is small by accident."""
    seeds = {level: tuple(column.index[column.notna()]) for level, column in apart.items()}
    layouts = {of_these: [level for level, own in seeds.items() if own == of_these] for of_these in seeds.values()}
    layouts = {of_these: levels for of_these, levels in layouts.items() if of_these}
    found = {}
    for of_these, levels in layouts.items():
        found |= dict(zip(levels, at_levels(apart.loc[list(of_these), levels].to_numpy()), strict=True))
    largest = max(layouts, key=lambda of_these: (len(of_these) - 1) * len(layouts[of_these]), default=())
    pooled = {found[level].error for level in layouts.get(largest, ())}
    if len(layouts.get(largest, ())) > 1 and len(pooled) == 1:
        error, freedom = pooled.pop() * len(largest) ** 0.5, found[layouts[largest][0]].freedom
        for of_these, levels in layouts.items():
            if len(levels) == 1 < len(of_these):
                found[levels[0]] = Estimate(found[levels[0]].effect, error / len(of_these) ** 0.5, freedom)
    return {level: found[level] for level in apart if level in found}


def differences(
    rows: pd.DataFrame,
    models: Sequence[str],
    baseline: str,
    rule: str | None = None,
    key: Sequence[str] = ("protocol", "sparsity"),
) -> pd.DataFrame:
    """Test accuracy of each of several networks less the baseline's, by protocol and sparsity (or ``key``).

    Args:
        rows: those of the store, with the column run. Holm's family is all pairs of their networks at all levels of a
            data set and protocol.
        models: those that share no run with the baseline are left out.
        rule: as for tables.selected.

    Returns:
        Columns model, those of ``key``, n_seeds, difference (mean, in points of percent), ci95 (half width), p
        (Holm's), holds ("more" or "less" where p < 0.05, else ""), collapsed: the pairs left out for a collapsed run.
    """
    key = list(key)
    runs = selected(rows, rule)
    runs = runs.assign(sound=runs["test_accuracy"].mask(has_collapsed(runs)))
    networks = [model for model in dict.fromkeys((*MODELS, *runs["model"])) if model in set(runs["model"])]
    tables = []
    for _, family in runs.groupby(["dataset", "protocol"], sort=False):
        every, sound = (family.pivot(index=["seed"], columns=["model", *key], values=name) for name in SEEN)
        lines = []
        for first, second in itertools.combinations([model for model in networks if model in every], 2):
            first, second = (second, first) if first == baseline else (first, second)
            apart = (sound[first] - sound[second]).sort_index(axis=1)
            pairs = (every[first] - every[second]).count()
            effects = estimates(apart)
            for level in sorted(set(family.set_index(key).index)):
                if pairs.get(level, 0):
                    level_of = level if len(key) > 1 else (level,)
                    sound_pairs = int(apart[level].count())
                    effect = effects.get(level, Estimate(float("nan")))
                    lines.append((first, second, *level_of, sound_pairs, effect, int(pairs[level]) - sound_pairs))
        table = pd.DataFrame(lines, columns=["model", "baseline", *key, "n_seeds", "effect", "collapsed"])
        tables.append(_with_tests(table))
    columns = ["model", *key, *COLUMNS]
    if not tables:
        return pd.DataFrame(columns=columns)
    table = pd.concat(tables, ignore_index=True)
    table = table[table["model"].isin(models) & (table["baseline"] == baseline)]
    order = table["model"].map(list(models).index).argsort(kind="stable")
    return table.iloc[order][columns].reset_index(drop=True)


def _with_tests(table: pd.DataFrame) -> pd.DataFrame:
    """A family's effects, Estimates, as numbers, with Holm's p."""
    effects = table["effect"].tolist()
    p = pd.Series(holm([effect.differs() for effect in effects]), index=table.index, dtype=float)
    sign = pd.Series(["more" if effect.effect > 0 else "less" for effect in effects], index=table.index, dtype=object)
    return table.assign(
        difference=[round(effect.effect, 2) for effect in effects],
        ci95=[round(effect.half(), 2) for effect in effects],
        p=p.round(4),
        holds=sign.where(p < ALPHA, ""),
    )


def protocols_apart(
    rows: pd.DataFrame, model: str, protocol: str, baseline: str, epoch: int
) -> tuple[pd.DataFrame, Estimate]:
    """A network's test accuracy after an epoch in one protocol less that in another, paired by seed: as
    :func:`differences` has it, with the protocol for the model, and the mean over levels, a seed as a cluster. Empty
    and NaN where one of them has no runs."""
    runs = rows[(rows["model"] == model) & (rows["epoch"] == epoch) & rows["protocol"].isin([protocol, baseline])]
    runs = runs.assign(model=runs["protocol"], protocol=" less ".join([protocol, baseline]))
    if runs["model"].nunique() < 2:
        return pd.DataFrame(columns=["model", "protocol", "sparsity", *COLUMNS]), of_values([])
    accuracy = crossed(runs, (protocol, baseline))
    mean = as_cluster((accuracy[protocol] - accuracy[baseline]).to_numpy())
    return differences(runs, [protocol], baseline, "last"), mean


def mean_differences(apart: pd.Series, key: list[str]) -> pd.DataFrame:
    """Differences of unlike things, one a pair of runs, with an index that has ``key``: each with its own variance, the
    table as Holm's family; columns as :func:`differences` has them, but for model and collapsed."""
    groups = apart.groupby(key, sort=False)
    table = groups.agg(n_seeds="count").reset_index()
    return _with_tests(table.assign(effect=[of_values(part) for _, part in groups])).drop(columns="effect")


def wide_difference(differences: pd.DataFrame, index: str | list[str], columns: str) -> pd.DataFrame:
    """:func:`differences` as words, "mean ± interval", with a star where Holm's p < 0.05, and the number of pairs left
    out for a collapsed run; columns in the order in which they come."""
    left_out = differences.get("collapsed", pd.Series(0, index=differences.index))
    words = [
        (with_interval(mean, half, "+.2f") if mean == mean else "none")
        + (" *" if holds else "")
        + (f" ({number} collapsed)" if number else "")
        for mean, half, holds, number in zip(
            differences["difference"], differences["ci95"], differences["holds"], left_out, strict=True
        )
    ]
    wide = differences.assign(words=words).pivot(index=index, columns=columns, values="words")
    return wide[differences[columns].unique()]


def beside_others(dataset: str, differences: pd.DataFrame) -> pd.DataFrame:
    """SparseConvNet less ConvNet in points, a line a sparsity: a column a protocol as :func:`wide_difference` has it,
    and a column for each who published it, from single runs with their own settings, never pooled with ours.

    Args:
        differences: :func:`differences`.
    """
    ours = differences[differences["model"] == "SparseConvNet"]
    quoted = published_differences(dataset)
    quoted = quoted.assign(words=quoted["difference"].map("{:+.2f}".format), source="published, " + quoted["source"])
    others = quoted.pivot(index="sparsity", columns="source", values="words")
    return wide_difference(ours, "sparsity", "protocol").join(others, how="outer")


def precisions_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """The pairs of networks that were not trained at one precision: a line a protocol, sparsity and seed where the
    recorded runs differ in theirs, a column a network.

    Args:
        rows: those of the store for a table, with the column run.
    """
    runs = rows.drop_duplicates("run").pivot(
        index=["protocol", "sparsity", "seed"], columns="model", values="precision"
    )
    return runs[runs.nunique(axis=1) > 1]


def across_splits(dataset: str, read: Callable = of_experiments) -> pd.DataFrame:
    """Points by which SparseConvNet is above ConvNet in runs of seed 0: a line a split of the images (0: that of the
    tables), a column a sparsity, as :func:`crossed` has them with the split for the seed, and the mean over these."""
    sparse, plain = MODELS[:2]
    others = other_splits(dataset)
    runs = selected(read([*grid(dataset, "controlled", seeds=1), *others]))
    runs = runs[runs["sparsity"].isin({run.sparsity for run in others})]
    accuracy = crossed(runs.assign(seed=runs["split_seed"]), (sparse, plain))
    apart = accuracy[sparse] - accuracy[plain]
    return apart.assign(mean=apart.mean(axis=1)).rename_axis(index="split")


def splits_sentence(apart: pd.DataFrame) -> str:
    """The mean of :func:`across_splits` over splits, which are the unit, and the test of less than the margin."""
    mean = of_values(apart["mean"])
    return (
        f"Over {len(apart)} splits: {mean.words('+.2f')} points; less than {MARGIN:g} either way by two one-sided "
        f"tests with p = {mean.within():.3f}."
    )


def mean_sentence(apart: pd.DataFrame, mean: Estimate) -> str:
    """:func:`protocols_apart` in words."""
    less, more = ((apart["holds"] == holds).sum() for holds in ("less", "more"))
    return (
        f"By Holm's correction it loses at {less} of {len(apart)} levels and gains at {more}; on average over levels "
        f"it is {mean.words('+.2f')} points, with seeds as the unit."
    )
