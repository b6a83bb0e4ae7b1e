"""Rows of the store to the report's tables: one number a run, means with 95% intervals, the published numbers."""

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
from pandas.api.typing import SeriesGroupBy

from ..checks import check_choice
from ..data.datasets import load, split
from ..experiment import Experiment, family_of, selection, task_of
from ..files import PUBLISHED, output_root, replacing
from ..records import SETTINGS, reported_row
from ..sweeps.store import of_experiments
from .inference import of_values

__all__ = [
    "accuracy_table",
    "balanced",
    "by_class",
    "by_selection",
    "cells",
    "ci95",
    "collapsed",
    "has_collapsed",
    "listed",
    "of_ways",
    "over_seeds",
    "published",
    "published_differences",
    "published_runs",
    "save",
    "selected",
    "settings_of",
    "span",
    "wide",
    "wide_by_setting",
    "with_interval",
    "with_rescaled",
    "within_percent",
    "without_collapsed",
]

# At or below this accuracy a run has collapsed. Who always answers with the most frequent class has 11.35% on MNIST,
# 10% on the stand-ins (10 to 80 test images a class), and 9.2% on Caltech-101.
COLLAPSED = {"mnist": 15.0, "digits": 15.0, "caltech101": 10.0, "shapes": 15.0}
# At or above this mean absolute error in metres likewise. Who always answers with the median of the training scans has
# 6.05 m on KITTI's test scans and 4.48 m on the drawn street's.
CONSTANT_DEPTH = {"kitti_range": 6.0, "street": 4.4}
RULES = ("last", "validation", "test")


def published(name: str) -> pd.DataFrame:
    """The report's numbers in results/published/<name>.csv, always those that come with the package."""
    check_choice("name", name, sorted(path.stem for path in PUBLISHED.glob("*.csv")))
    return pd.read_csv(PUBLISHED / f"{name}.csv")


def settings_of(experiments: list[Experiment]) -> pd.DataFrame:
    """The settings of a table's runs, which those of one protocol and network share.

    Returns:
        Index protocol, model; a column a setting, epoch_reported ("last", or the best on "validation" or "test" images)
        and seeds, how many.
    """
    columns = ["epochs", "batch_size", "learning_rate", "weight_decay", "architecture", "mask", "split", "validation"]
    runs = pd.DataFrame([asdict(run) for run in experiments])
    runs["epoch_reported"] = [selection(run.dataset, run.protocol) for run in experiments]
    shared = runs.groupby(["protocol", "model"], sort=False)
    return shared[[*columns, "epoch_reported"]].first().assign(seeds=shared["seed"].nunique())


def selected(rows: pd.DataFrame, rule: str | None = None) -> pd.DataFrame:
    """The row of each run's reported epoch; ``rows`` have the column ``run``.

    Args:
        rule: "last", "validation" or "test", see records.reported_row; None = the rule of each run's protocol.
    """

    if rule is not None:
        check_choice("rule", rule, RULES)

    def choose(run: pd.DataFrame) -> int:
        dataset, protocol = run[["dataset", "protocol"]].iloc[0]
        return reported_row(run, rule or selection(dataset, protocol), task_of(dataset))

    rows = rows.reset_index(drop=True)  # frames put together may have labels twice
    return rows.loc[[choose(run) for _, run in rows.groupby("run")]]


def by_selection(rows: pd.DataFrame) -> pd.DataFrame:
    """What the same runs report by each rule of :func:`selected`: mean test accuracy, a column a rule, with the index
    protocol, model, sparsity."""
    key = ["protocol", "model", "sparsity"]
    return pd.DataFrame({rule: selected(rows, rule).groupby(key, sort=False)["test_accuracy"].mean() for rule in RULES})


def by_class(runs: pd.DataFrame) -> pd.DataFrame:
    """How many test images of each class a run classifies correctly; classes without test images are left out.

    Args:
        runs: a row a run, as :func:`selected` gives them.

    Returns:
        Columns protocol, model, sparsity, seed, class, images, correct.
    """
    parts = []
    for (dataset, validation, kind, seed), alike in runs.groupby(["dataset", "validation", "split", "split_seed"]):
        data = load(dataset, pixels=False)
        images = (
            data.labels[split(data, int(validation), kind, int(seed))[2]].bincount(minlength=len(data.classes)).numpy()
        )
        counted = alike[["protocol", "model", "sparsity", "seed"]].assign(
            correct=[[int(number) for number in counts.split()] for counts in alike["test_correct"]],
            images=[images] * len(alike),
            **{"class": [data.classes] * len(alike)},
        )
        parts.append(counted.explode(["class", "images", "correct"]).query("images > 0"))
    columns = ["protocol", "model", "sparsity", "seed", "class", "images", "correct"]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return table[columns].astype({"sparsity": float, "seed": int, "images": int, "correct": int})


def balanced(runs: pd.DataFrame) -> pd.DataFrame:
    """The same runs by balanced accuracy: the mean over classes of the share that is classified correctly, to which a
    class of few images adds as much as one of many.

    Args:
        runs: a row a run, as :func:`selected` gives them, of different protocol, model, sparsity or seed.

    Returns:
        ``runs`` with that for ``test_accuracy``, in percent, and with classes_known: of how many classes a test image
        was classified correctly; ``collapsed`` stays what it is by plain accuracy.
    """
    key = ["protocol", "model", "sparsity", "seed"]
    counts = by_class(runs)
    counts = counts.assign(
        test_accuracy=100 * counts["correct"] / counts["images"], classes_known=counts["correct"] > 0
    )
    each = counts.groupby(key).agg({"test_accuracy": "mean", "classes_known": "sum"}).reset_index()
    runs = runs.assign(collapsed=has_collapsed(runs)).drop(columns="test_accuracy")
    return runs.merge(each, on=key, validate="one_to_one")


def ci95(values: pd.Series) -> float:
    """Half the width of the mean's 95% interval by Student's t; NaN for fewer than two values."""
    return of_values(values).half()


def over_seeds(values: SeriesGroupBy, lines: pd.DataFrame | None = None, metric: str = "accuracy") -> pd.DataFrame:
    """n_seeds, accuracy_mean and accuracy_ci95 (half width) of each group of runs, beside the columns that it is by.

    Args:
        lines: those columns of the groups that the table is to have, run or not; None = of those that have been run.
        metric: what the values are, if not accuracies.
    """
    mean, half = f"{metric}_mean", f"{metric}_ci95"
    table = values.agg(**{"n_seeds": "count", mean: "mean", half: ci95}).reset_index().round({mean: 4, half: 4})
    if lines is None:
        return table
    table = lines.merge(table, how="left")
    return table.assign(n_seeds=table["n_seeds"].fillna(0).astype(int))


def accuracy_table(
    experiments: list[Experiment],
    rows: pd.DataFrame,
    reference: pd.DataFrame,
    rule: str | None = None,
    key: Sequence[str] = ("protocol", "model", "sparsity"),
) -> pd.DataFrame:
    """Test accuracy over seeds; a line for each protocol, model and sparsity among ``experiments``, run or not. Mean
    and interval (Student's t) are those of all runs, collapsed ones too; :func:`without_collapsed` is for reading.

    Args:
        rows: those of the store for ``experiments``.
        reference: the published numbers: accuracy, and columns of ``key`` that say of what.
        rule: as for :func:`selected`.
        key: the settings that tell lines apart, if others than these three.

    Returns:
        Columns of ``key``, n_seeds, accuracy_mean, accuracy_ci95 (half width), published; accuracies in
        percent, NaN where there is none.
    """
    key = list(key)
    lines = pd.DataFrame([asdict(run) for run in experiments], columns=key).drop_duplicates()
    table = over_seeds(selected(rows, rule).groupby(key)["test_accuracy"], lines)
    known = [name for name in key if name in reference]
    return table.merge(reference.rename(columns={"accuracy": "published"}), how="left", on=known)


def without_collapsed(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """An accuracy table for reading. Where runs collapsed, its mean and interval are those of the rest, and
    ``collapsed`` counts them; where an interval would leave 0 to 100%, there is none, and ``values`` holds the runs,
    of more than two the least and the greatest.

    Args:
        table: of :func:`accuracy_table`, whose mean and interval are those of all runs.
        runs: a row a run, as :func:`selected` gives them.
    """
    key = [name for name in table if name in SETTINGS]
    dead = has_collapsed(runs)
    rest = table[key].merge(over_seeds(runs[~dead].groupby(key)["test_accuracy"]), how="left")
    number = table[key].merge(dead.groupby([runs[name] for name in key]).sum().rename("n").reset_index(), how="left")[
        "n"
    ]
    values = runs[~dead].groupby(key)["test_accuracy"].agg(listed)
    mean, half = rest["accuracy_mean"], rest["accuracy_ci95"]
    inside = within_percent(mean, half)
    return table.assign(
        accuracy_mean=mean.to_numpy(),
        accuracy_ci95=half.where(inside).to_numpy(),
        collapsed=number.fillna(0).astype(int).to_numpy(),
        values=table[key]
        .merge(values.rename("values").reset_index(), how="left")["values"]
        .where(~inside, "")
        .to_numpy(),
    )


def listed(values: Sequence[float], form: str = ".2f") -> str:
    """Values in words, of more than two the least and the greatest."""
    if len(values) > 2:
        return f"{min(values):{form}} to {max(values):{form}}"
    return ", ".join(f"{value:{form}}" for value in values)


def within_percent(mean: pd.Series | float, half: pd.Series | float) -> pd.Series | bool:
    """Whether an interval, a mean and half its width, stays within 0 to 100%; not where it is NaN."""
    return (mean - half >= 0) & (mean + half <= 100)


def wide(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """One protocol of :func:`without_collapsed` for reading: a line a sparsity, "mean ± interval" a model, published
    beside it."""
    here = table[table["protocol"] == protocol]
    columns = {}
    for model, part in here.groupby("model", sort=False):
        columns[model] = cells(part)
        if part["published"].notna().any():
            columns[f"{model}, published"] = [f"{value:.2f}" if value == value else "" for value in part["published"]]
    levels = [f"{sparsity:.0%}" for sparsity in dict.fromkeys(here["sparsity"])]
    return pd.DataFrame(columns, index=pd.Index(levels, name="missing pixels"))


def with_interval(mean: float, half: float, form: str = ".2f") -> str:
    """A mean in the given format ± half its interval, or alone where there is none (NaN)."""
    return f"{mean:{form}}" + (f" ± {half:{form.lstrip('+')}}" if half == half else "")


def span(values: pd.Series) -> str:
    """The least and the greatest of differences, with their signs, to one place; one number where these read alike."""
    return " to ".join(dict.fromkeys(f"{value:+.1f}" for value in (values.min(), values.max())))


def cells(table: pd.DataFrame, between: str = " ") -> list[str]:
    """The lines of :func:`without_collapsed` in words: mean ± interval, or the values where there is no interval among
    several, and how many runs collapsed."""
    words = []
    for line in table.itertuples():
        parts = []
        if line.n_seeds == 0:
            parts.append("missing")
        elif line.n_seeds - line.collapsed > 1 and line.values:
            parts.append(line.values)
        elif line.n_seeds > line.collapsed:
            parts.append(with_interval(line.accuracy_mean, line.accuracy_ci95))
        if line.collapsed:
            parts.append(f"({line.collapsed} collapsed)")
        words.append(between.join(parts))
    return words


def wide_by_setting(table: pd.DataFrame, sparsity: float) -> pd.DataFrame:
    """Table 5 or 6 at one sparsity: a line a learning rate, a column a batch size, for each model and the published."""
    here = table[table["sparsity"] == sparsity]
    parts = {model: line.assign(text=cells(line)) for model, line in here.groupby("model", sort=False)}
    quoted = here[here["published"].notna()]
    if len(quoted):
        parts[f"{quoted['model'].iloc[0]}, published"] = quoted.assign(text=quoted["published"].map("{:.2f}".format))
    blocks = [part.pivot(index="learning_rate", columns="batch_size", values="text") for part in parts.values()]
    return pd.concat(blocks, axis=1, keys=parts).sort_index(ascending=False)


def of_ways(ways: dict[str, list[Experiment]], recorded: pd.DataFrame) -> pd.DataFrame:
    """Accuracies at the reported epoch of runs that differ in one thing, a line a way and model: means over seeds in
    percent, the test's 95% interval, and how many runs collapsed; these are in no interval, and in a mean only where
    all have.

    Args:
        ways: the runs by what differs, say studies.ablations'.
        recorded: rows of the store, theirs among them.
    """
    found = {way: selected(of_experiments(runs, recorded)) for way, runs in ways.items()}
    found = {way: runs.assign(collapsed=has_collapsed) for way, runs in found.items() if len(runs)}
    if not found:
        return pd.DataFrame()
    runs = pd.concat(found, names=["network"]).reset_index()
    by = ["network", "model"]
    shown = ~runs["collapsed"] | runs.groupby(by)["collapsed"].transform("all")
    runs["sound"] = runs["test_accuracy"].mask(runs["collapsed"])
    runs["train"], runs["test"] = (runs[f"{part}_accuracy"].where(shown) for part in ("train", "test"))
    sums = {"train": ("train", "mean"), "test": ("test", "mean"), "ci95": ("sound", lambda part: ci95(part.dropna()))}
    return runs.groupby(by, sort=False).agg(seeds=("seed", "size"), **sums, collapsed=("collapsed", "sum"))


def published_differences(dataset: str) -> pd.DataFrame:
    """SparseConvNet less ConvNet as others published it on a data set, in points: columns source, sparsity,
    difference; see results/published/README.md."""
    family = family_of(dataset)
    sources = {"the report": {"mnist": "table3_mnist", "caltech101": "table4_caltech101"}[family]}
    sources["group 75"] = f"group75_{family}"
    parts = []
    for source, name in sources.items():
        accuracy = published(name).pivot(index="sparsity", columns="model", values="accuracy")
        difference = (accuracy["SparseConvNet"] - accuracy["ConvNet"]).round(2).rename("difference").reset_index()
        parts.append(difference.assign(source=source))
    return pd.concat(parts, ignore_index=True)


def published_runs() -> pd.DataFrame:
    """What the outputs of the published notebooks on MNIST show, a line a set of runs, and Table 3 beside it."""
    of_notebooks = published("notebook_runs_mnist")
    run = of_notebooks["epochs"].map("{} epochs".format) + of_notebooks["epoch"].map(", after epoch {}".format)
    both = pd.concat([of_notebooks.assign(run=run), published("table3_mnist").assign(run="Table 3")])
    return both.pivot(index=["model", "run"], columns="sparsity", values="accuracy").sort_index(ascending=False)


def with_rescaled(rows: pd.DataFrame, rescaled: pd.DataFrame) -> pd.DataFrame:
    """A table's rows and those of studies.rescaled_starts, as a network of its own: "SparseConvNet, rescaled"."""
    return pd.concat([rows, rescaled.assign(model="SparseConvNet, rescaled", run=-1 - rescaled["run"])])


def has_collapsed(runs: pd.DataFrame) -> pd.Series:
    """Whether a run's test is about that of always answering with the most frequent class, or with one depth; by
    another measure of accuracy it can't be told, so there a column ``collapsed`` says it."""
    if "collapsed" in runs:
        return runs["collapsed"]
    dead = runs["test_accuracy"] <= runs["dataset"].map(COLLAPSED)
    return dead | (runs["test_mae"] >= runs["dataset"].map(CONSTANT_DEPTH)) if "test_mae" in runs else dead


def collapsed(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that have collapsed, a line each."""
    runs = selected(rows)
    columns = ["protocol", "model", "sparsity", "seed", "epoch", "test_accuracy"]
    return runs.loc[has_collapsed(runs), columns].reset_index(drop=True)


def save(table: pd.DataFrame, name: str) -> None:
    """Writes results/<name>.csv under the output root."""
    with replacing(output_root() / "results" / f"{name}.csv") as file:
        table.to_csv(file, index=False)
