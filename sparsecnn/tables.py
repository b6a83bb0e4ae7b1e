"""Rows of the store to the report's tables: one number a run, means with 95% intervals, the published numbers."""

from pathlib import Path

import pandas as pd
from scipy import stats

from .datasets import REPOSITORY
from .experiment import Experiment, check_choice, selection
from .results import output_root, replacing

__all__ = [
    "COLLAPSED",
    "accuracy_table",
    "ci95",
    "collapsed",
    "markdown",
    "paired_difference",
    "published",
    "save",
    "selected",
    "update_readme",
    "wide",
]

# Ten balanced classes leave 10% to chance, MNIST's most frequent digit 11.35%: at or below this a run has collapsed.
COLLAPSED = 15.0


def published(name: str) -> pd.DataFrame:
    """The report's numbers in results/published/<name>.csv, always the repository's."""
    folder = REPOSITORY / "results/published"
    check_choice("name", name, sorted(path.stem for path in folder.glob("*.csv")))
    return pd.read_csv(folder / f"{name}.csv")


def selected(rows: pd.DataFrame, rule: str | None = None) -> pd.DataFrame:
    """The row of each run's reported epoch; ``rows`` have the column ``run``.

    Args:
        rule: "last" epoch, best "validation" accuracy or best "test" accuracy (the earliest among equals); None = the
            rule of each run's protocol.
    """

    if rule is not None:
        check_choice("rule", rule, ("last", "validation", "test"))

    def choose(run: pd.DataFrame) -> int:
        by = rule or selection(*run[["dataset", "protocol"]].iloc[0])
        return run["epoch"].idxmax() if by == "last" else run[f"{by}_accuracy"].idxmax()

    return rows.loc[[choose(run) for _, run in rows.groupby("run")]]


def ci95(values: pd.Series) -> float:
    """Half the width of the mean's 95% interval by Student's t; NaN for fewer than two values."""
    if len(values) < 2:
        return float("nan")
    return float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))


def accuracy_table(
    experiments: list[Experiment], rows: pd.DataFrame, reference: pd.DataFrame, rule: str | None = None
) -> pd.DataFrame:
    """Test accuracy over seeds; a line for each protocol, model and sparsity among ``experiments``, run or not.

    Args:
        rows: those of the store for ``experiments``.
        reference: the published numbers, columns model, sparsity, accuracy.
        rule: as for :func:`selected`.

    Returns:
        Columns protocol, model, sparsity, n_seeds, accuracy_mean, accuracy_ci95 (half width), published; accuracies in
        percent, NaN where there is none.
    """
    key = ["protocol", "model", "sparsity"]
    lines = pd.DataFrame(list(dict.fromkeys((e.protocol, e.model, e.sparsity) for e in experiments)), columns=key)
    accuracies = selected(rows, rule).groupby(key)["test_accuracy"]
    measured = accuracies.agg(n_seeds="count", accuracy_mean="mean", accuracy_ci95=ci95).reset_index()
    table = lines.merge(measured, how="left", on=key)
    table = table.merge(reference.rename(columns={"accuracy": "published"}), how="left", on=["model", "sparsity"])
    return table.assign(n_seeds=table["n_seeds"].fillna(0).astype(int)).round({"accuracy_mean": 3, "accuracy_ci95": 3})


def wide(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """One protocol as the report prints it: a column a sparsity, "mean ± interval" a model, published beneath."""
    here = table[table["protocol"] == protocol]
    lines = {}
    for model, line in here.groupby("model", sort=False):
        lines[model] = [
            "missing" if n == 0 else f"{mean:.2f}" + (f" ± {half:.2f}" if half == half else "")
            for n, mean, half in zip(line["n_seeds"], line["accuracy_mean"], line["accuracy_ci95"], strict=True)
        ]
        if line["published"].notna().any():
            lines[f"{model}, published"] = [f"{value:.2f}" if value == value else "" for value in line["published"]]
    levels = [f"{sparsity:.0%}" for sparsity in dict.fromkeys(here["sparsity"])]
    return pd.DataFrame.from_dict(lines, orient="index", columns=levels).rename_axis(columns="missing pixels")


def paired_difference(rows: pd.DataFrame, model: str, baseline: str, rule: str | None = None) -> pd.DataFrame:
    """Test accuracy of ``model`` less that of ``baseline``, by protocol and sparsity, paired by seed.

    Runs of one seed see the same masks and the same order of images, so the pairs' spread is what counts.

    Returns:
        Columns protocol, sparsity, n_seeds, difference (mean, in points of percent), ci95 (half width), holds: "more",
        "less" or "" where the interval contains 0 or there is none.
    """
    key = ["protocol", "sparsity"]
    runs = selected(rows, rule).pivot(index=[*key, "seed"], columns="model", values="test_accuracy")
    if not {model, baseline} <= set(runs.columns):
        return pd.DataFrame(columns=[*key, "n_seeds", "difference", "ci95", "holds"])
    pairs = (runs[model] - runs[baseline]).dropna().groupby(key, sort=False)
    table = pairs.agg(n_seeds="count", difference="mean", ci95=ci95).reset_index()
    clear = table["difference"].abs() > table["ci95"]
    sign = table["difference"].gt(0).map({True: "more", False: "less"})
    return table.assign(holds=sign.where(clear, "")).round({"difference": 2, "ci95": 2})


def collapsed(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs whose reported accuracy is no better than chance, a line each."""
    runs = selected(rows)
    columns = ["protocol", "model", "sparsity", "seed", "epoch", "test_accuracy"]
    return runs.loc[runs["test_accuracy"] <= COLLAPSED, columns].reset_index(drop=True)


def markdown(table: pd.DataFrame) -> str:
    """A wide table for the README."""
    head = [table.columns.name or "", *table.columns]
    lines = [
        head,
        ["---"] * len(head),
        *([name, *cells] for name, cells in zip(table.index, table.values, strict=True)),
    ]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def update_readme(path: Path = REPOSITORY / "README.md") -> None:
    """Writes the tables of results/table3_mnist.csv between the README's markers, each protocol's and <!-- end -->."""
    table = pd.read_csv(REPOSITORY / "results/table3_mnist.csv")
    text = path.read_text()
    for protocol in dict.fromkeys(table["protocol"]):
        start = text.index(f"<!-- {protocol} -->")
        end = text.index("<!-- end -->", start)
        text = f"{text[:start]}<!-- {protocol} -->\n\n{markdown(wide(table, protocol))}\n{text[end:]}"
    path.write_text(text)


def save(table: pd.DataFrame, name: str) -> None:
    """Writes results/<name>.csv under the output root."""
    with replacing(output_root() / "results" / f"{name}.csv") as file:
        table.to_csv(file, index=False)


if __name__ == "__main__":  # make notebooks
    update_readme()
