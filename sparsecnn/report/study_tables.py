"""Rows of the store to the tables of notebooks 03 and 04 that stand beside the report's own."""

from collections.abc import Iterable, Sequence

import pandas as pd

from ..experiment import MNIST, MODELS, Experiment
from .inference import share_interval
from .pairs import differences
from .statistics import gpu_less_cpu, largest_whole_grid, late_drops, spread_between_seeds, variance_explained
from .tables import (
    accuracy_table,
    by_selection,
    ci95,
    has_collapsed,
    published,
    save,
    selected,
    with_interval,
)

__all__ = [
    "ahead_at",
    "batch_sizes_compared",
    "classes_known",
    "collapses",
    "decay_table",
    "first_epochs",
    "gaps",
    "hardest_and_easiest",
    "last_epochs",
    "late_causes",
    "late_falls",
    "late_share",
    "precision_sentence",
    "published_twice",
    "save_settings",
    "selection_gains",
    "setting_table",
    "spans",
    "trends",
    "variances",
]

SETTING = ["learning_rate", "batch_size"]


# Notebook 03


def ahead_at(apart: pd.DataFrame) -> pd.Series:
    """At how many of the levels each network is ahead of the baseline, in words.

    Args:
        apart: pairs.differences of one protocol.
    """
    ahead = apart.groupby("model", sort=False)["difference"]
    return ahead.agg(lambda values: f"{(values > 0).sum()} of {len(values)}")


def trends(table: pd.DataFrame) -> pd.DataFrame:
    """How mean accuracy goes from one recorded sparsity to the next, of those with missing pixels.

    Args:
        table: tables.accuracy_table.

    Returns:
        Index protocol, model; levels, from the first recorded to the last; steps between them; falls, how many of the
        steps go down; points_lost from the first to the last; published_lost, the same of the published numbers.
    """
    lines = {}
    recorded = table[table["sparsity"] > 0].dropna(subset="accuracy_mean")
    for key, line in recorded.groupby(["protocol", "model"], sort=False):
        line = line.sort_values("sparsity")
        step = line["accuracy_mean"].diff().dropna()
        quoted = line["published"].dropna()
        lost = quoted.iloc[0] - quoted.iloc[-1] if len(quoted) else float("nan")
        levels = f"{line['sparsity'].iloc[0]:.0%} to {line['sparsity'].iloc[-1]:.0%}"
        lines[key] = (levels, len(step), int((step < 0).sum()), -step.sum(), lost)
    index = pd.MultiIndex.from_tuples(lines, names=["protocol", "model"])
    return pd.DataFrame(
        list(lines.values()), index=index, columns=["levels", "steps", "falls", "points_lost", "published_lost"]
    )


def gaps(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on training images, and how far it is above that on test images, at the reported epoch: the least and
    the greatest over levels of sparsity, of means over seeds, by protocol and model."""
    means = runs.assign(gap=runs["train_accuracy"] - runs["test_accuracy"])
    means = means.groupby(["protocol", "model", "sparsity"], sort=False)[["train_accuracy", "gap"]].mean()
    return means.groupby(["protocol", "model"], sort=False).agg(["min", "max"])


def selection_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What the rule that chooses the epoch is worth, by protocol and model, of means over seeds: the mean over levels
    by each of tables.by_selection's rules, and the most that a choice on the test images adds at one level."""
    rules = by_selection(rows)
    rules = rules.assign(
        over_validation=rules["test"] - rules["validation"], over_last=rules["test"] - rules["last"]
    ).groupby(["protocol", "model"], sort=False)
    most = rules[["over_validation", "over_last"]].max().add_prefix("most_")
    return rules[["last", "validation", "test"]].mean().join(most)


def first_epochs(rows: pd.DataFrame, epochs: int = 3) -> pd.DataFrame:
    """Accuracies after the first epochs, means over runs, by protocol, model and epoch."""
    early = rows[rows["epoch"] <= epochs].groupby(["protocol", "model", "epoch"], sort=False)
    return early[["train_accuracy", "validation_accuracy", "test_accuracy"]].mean()


def hardest_and_easiest(counts: pd.DataFrame, number: int = 5) -> pd.DataFrame:
    """The classes of which the networks classify the smallest and the largest shares correctly, in percent, seeds
    together, from the hardest to the easiest by the mean over all columns.

    Args:
        counts: tables.by_class.
        number: how many of either.

    Returns:
        Index class, a column a sparsity and model.
    """
    sums = counts.groupby(["class", "sparsity", "model"])[["images", "correct"]].sum()
    share = (100 * sums["correct"] / sums["images"]).unstack(["sparsity", "model"])
    order = share.mean(axis=1).round(3).sort_values(kind="stable").index
    return share.loc[[*order[:number], *order[-number:]]]


def classes_known(alike: pd.DataFrame) -> pd.DataFrame:
    """Of how many classes a run gets at least one test image right, by protocol and model.

    Args:
        alike: tables.balanced.
    """
    known = alike.groupby(["protocol", "model"], sort=False)["classes_known"]
    return known.agg(runs="count", fewest="min", most="max")


def precision_sentence(pairs: pd.DataFrame, rows: pd.DataFrame, again: pd.DataFrame) -> str:
    """What bf16 changes, in words, beside the spread between seeds of one setting and precision.

    Args:
        pairs: statistics.precision_pairs of ``rows`` and ``again``.
    """
    apart = pairs["difference"]
    runs = pd.concat([selected(rows), selected(again)])
    between, freedom = spread_between_seeds(runs, ["protocol", "model", "sparsity", "precision"])
    sentence = (
        f"bf16 less float32: {with_interval(apart.mean(), ci95(apart), '+.2f')} points over {len(pairs)} pairs, "
        f"which differ by {apart.std():.2f} points (standard deviation), {apart.abs().max():.2f} at most."
    )
    if freedom:
        sentence += (
            f" Between seeds of one setting and precision the standard deviation is {between:.2f} points "
            f"({freedom} degrees of freedom)."
        )
    return sentence


def device_sentence(runs: pd.DataFrame) -> str:
    """:func:`statistics.gpu_less_cpu` of a row a run, in words."""
    apart, number = gpu_less_cpu(runs)
    if not number:
        return "No setting was trained on a GPU and on the CPU."
    points = with_interval(apart.effect, apart.half(), "+.2f")
    return f"GPU less CPU, in one setting and precision: {points} points, by {number} runs of settings trained on both."


# Notebook 04


def setting_table(experiments: list[Experiment], rows: pd.DataFrame) -> pd.DataFrame:
    """tables.accuracy_table of studies.hyperparameters on one data set, after the last epoch, with the published Table
    5 or 6."""
    reference = published("table5_mnist" if experiments[0].dataset in MNIST else "table6_caltech101")
    return accuracy_table(experiments, rows, reference, "last", ("model", "sparsity", "batch_size", "learning_rate"))


def save_settings(table: pd.DataFrame, dataset: str) -> None:
    """Writes :func:`setting_table` as results/table5_mnist.csv or table6_caltech101.csv, ConvNet's part beside it in a
    file that ends in _convnet."""
    columns = ["sparsity", "batch_size", "learning_rate", "n_seeds", "accuracy_mean", "accuracy_ci95", "published"]
    for model, suffix in zip(MODELS, ("", "_convnet"), strict=False):
        save(table.loc[table["model"] == model, columns], f"table{5 if dataset in MNIST else 6}_{dataset}{suffix}")


def last_epochs(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """A row a run, its last, of several studies' rows, each by sparsity; their column run may count anew in each."""
    parts = [selected(rows, "last").sort_values("sparsity", kind="stable") for rows in parts]
    return pd.concat(parts, ignore_index=True)


def collapses(runs: pd.DataFrame) -> pd.DataFrame:
    """How many runs of a seed collapsed, by learning rate: "m of n", of the seeds of which one did.

    Args:
        runs: :func:`last_epochs` of studies.hyperparameters.

    Returns:
        Index data_set, model, seed; a column a learning rate.
    """
    key = ["data_set", "model", "seed"]
    runs = runs.rename(columns={"dataset": "data_set"}).assign(collapsed=has_collapsed(runs))
    runs = runs[runs.groupby(key)["collapsed"].transform("any")]
    counts = runs.groupby([*key, "learning_rate"])["collapsed"].agg(lambda dead: f"{dead.sum()} of {len(dead)}")
    return counts.unstack(fill_value="")


def variances(runs: pd.DataFrame, experiments: Iterable[Experiment]) -> pd.DataFrame:
    """statistics.variance_explained for each data set, sparsity and model, and without collapsed runs where there are.

    Args:
        runs: :func:`last_epochs`.
        experiments: those of the study, which say how many settings there are.

    Returns:
        Index data_set, sparsity, model, runs ("all" or "not collapsed"), source; variance_explained's columns, p as
        words, and of the analysed part runs_analysed and settings, "m of n". No line where there are too few runs.
    """
    asked = pd.DataFrame([(run.dataset, run.learning_rate, run.batch_size) for run in experiments]).drop_duplicates()
    settings = asked[0].value_counts()
    dead = has_collapsed(runs)
    found = {}
    for key, part in runs.groupby(["dataset", "sparsity", "model"], sort=False):
        for which, chosen in {"all": part, "not collapsed": part[~dead[part.index]]}.items():
            analysed = largest_whole_grid(chosen)
            table = variance_explained(analysed)
            if len(table) and (which == "all" or len(chosen) < len(part)):
                share = f"{analysed.groupby(SETTING).ngroups} of {settings[key[0]]}"
                found[*key, which] = table.assign(runs_analysed=len(analysed), settings=share)
    names = ["data_set", "sparsity", "model", "runs", "source"]
    if not found:
        return pd.DataFrame(index=pd.MultiIndex.from_tuples([], names=names))
    table = pd.concat(found, names=names)
    return table.assign(p=table["p"].map(lambda p: f"{p:.4f}" if p == p else ""))


def spans(runs: pd.DataFrame) -> pd.DataFrame:
    """Points between the best and the worst mean over settings, learning rates and batch sizes, the two settings, and
    the standard deviation between seeds of one setting, by data set, sparsity and model; collapsed runs are left out.

    Args:
        runs: :func:`last_epochs` of studies.hyperparameters.
    """
    lines = []
    for (dataset, level, model), part in runs[~has_collapsed(runs)].groupby(
        ["dataset", "sparsity", "model"], sort=False
    ):
        line = {"data_set": dataset, "sparsity": level, "model": model, "runs": len(part)}
        keys = {"settings": SETTING, "learning_rates": SETTING[:1], "batch_sizes": SETTING[1:]}
        means = {name: part.groupby(key)["test_accuracy"].mean() for name, key in keys.items()}
        line |= {name: of_name.max() - of_name.min() for name, of_name in means.items()}
        for name, (rate, size) in {"best": means["settings"].idxmax(), "worst": means["settings"].idxmin()}.items():
            line[name] = f"{rate:g}, batch {size}"
        lines.append(line | {"sd_between_seeds": spread_between_seeds(part, SETTING)[0]})
    return pd.DataFrame(lines)


def batch_sizes_compared(rows: pd.DataFrame, learning_rate: float, sizes: tuple[int, int]) -> pd.DataFrame:
    """Accuracy after the last epoch in batches of the first size less that in batches of the second, paired by seed, of
    each network and sparsity; columns as pairs.differences has them."""
    runs = rows[rows["learning_rate"] == learning_rate]
    runs = runs.assign(network=runs["model"], model=runs["batch_size"])
    return differences(runs, sizes[:1], sizes[1], "last", ("network", "sparsity"))


def published_twice() -> pd.DataFrame:
    """The settings of which the report has two runs, one in Table 5 or 6 and one in Table 3 or 4."""
    lines = []
    for dataset, study, main, rate, size in (("mnist", 5, 3, 5e-3, 64), ("caltech101", 6, 4, 1e-3, 128)):
        here = published(f"table{study}_{dataset}")
        here = here[(here["learning_rate"] == rate) & (here["batch_size"] == size)]
        both = here.merge(published(f"table{main}_{dataset}"), on=["model", "sparsity"], suffixes=("_here", "_there"))
        for line in both.itertuples():
            apart = line.accuracy_here - line.accuracy_there
            lines.append((dataset, line.sparsity, line.accuracy_here, line.accuracy_there, apart))
    return pd.DataFrame(lines, columns=["data_set", "sparsity", "Table 5 or 6", "Table 3 or 4", "difference"])


def late_falls(rows: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """statistics.late_drops counted by settings.

    Args:
        rows: those of the store, with the column run.
        key: the settings to count by.

    Returns:
        Index ``key``; runs, late_epochs (of their second halves), late (runs with a fall in one of these), falls,
        at_last (runs with one in the last epoch), greatest fall in points.
    """
    drops = late_drops(rows)
    more = rows.drop_duplicates("run").set_index("run")[[name for name in key if name not in drops]]
    runs = drops.join(more).assign(late=drops["drops"] > 0).groupby(list(key), sort=False)
    return runs.agg(
        runs=("drops", "size"),
        late_epochs=("epochs_late", "sum"),
        late=("late", "sum"),
        falls=("drops", "sum"),
        at_last=("at_last", "sum"),
        greatest=("greatest", "max"),
    )


def late_causes(ways: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """:func:`late_falls` by model of each of studies.late_drop's ways that has runs, index way, model."""
    parts = {way: late_falls(rows, ["model"]) for way, rows in ways.items() if len(rows)}
    return pd.concat(parts, names=["way"]) if parts else pd.DataFrame()


def late_share(falls: pd.DataFrame) -> str:
    """How many of the runs of :func:`late_falls` have a late fall, with the exact binomial 95% interval, in words."""
    late, runs = int(falls["late"].sum()), int(falls["runs"].sum())
    low, high = share_interval(late, runs)
    return f"{late} of {runs} runs fall late; 95% interval {low:.0%} to {high:.0%} (exact binomial)"


def decay_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy by each of tables.by_selection's rules, by model, sparsity, optimiser and weight decay, with the
    interval of the last epoch's (half width), the number of seeds, and the published Table 4."""
    index = ["model", "sparsity", "optimiser", "weight_decay"]
    parts = {rule: selected(rows, rule).groupby(index)["test_accuracy"] for rule in ("last", "validation", "test")}
    table = pd.DataFrame({rule: part.mean() for rule, part in parts.items()})
    table = table.assign(**{"ci95 of last": parts["last"].agg(ci95), "seeds": parts["last"].size()})
    reference = published("table4_caltech101").set_index(["model", "sparsity"])["accuracy"]
    return table.join(reference.rename("published"))
