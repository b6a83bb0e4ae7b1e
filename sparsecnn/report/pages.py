"""The tables of pages, the README's first, written from those of results/."""

import re
from functools import partial
from pathlib import Path

import pandas as pd

from ..experiment import grid
from ..files import REPOSITORY
from ..sweeps.store import of_experiments
from .claims import EFFECTS
from .inference import in_words
from .tables import selected, wide, without_collapsed

__all__ = ["PAGES", "markdown", "update_page", "verdicts"]


def markdown(table: pd.DataFrame) -> str:
    """A table for a page, the index's name above its first column."""
    head = [table.index.name or "", *table.columns]
    lines = [
        head,
        ["---"] * len(head),
        *([name, *cells] for name, cells in zip(table.index, table.values, strict=True)),
    ]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def verdicts(claims: pd.DataFrame, _: str | None = None) -> pd.DataFrame:
    """results/claims.csv for reading: a line a claim, its two verdicts, its effect with the 95% interval, its unit
    and what it is."""
    parts = claims["evidence"].str.extract("^in part: ([^;]*)", expand=False)
    signs = {"points": "+.1f", "% of runs": ".0f"}
    effects = [
        f"{in_words(line.effect, line.low, line.high, signs[line.unit])} {line.unit} ({what})"
        if line.effect == line.effect
        else ""
        for line, (_, what) in zip(claims.itertuples(), EFFECTS.values(), strict=True)
    ]
    columns = {
        "do the numbers come back": claims["numbers_come_back"],
        "does the conclusion stand": claims["conclusion_stands"] + (": " + parts).fillna(""),
        "effect [95% interval]": effects,
    }
    return pd.DataFrame(columns).set_index(claims["claim"])


def _accuracies(dataset: str, table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Table 3 or 4, whose cells count collapsed runs, which the table's file has in its means."""
    return wide(without_collapsed(table, selected(of_experiments(grid(dataset, protocol)))), protocol)


def _speeds(measured: pd.DataFrame, _) -> pd.DataFrame:
    """Of training, results/benchmarks.csv."""
    between = measured["ratio_least"].map("{:.2f}".format) + " to " + measured["ratio_most"].map("{:.2f}".format)
    columns = {
        "way": measured["way"],
        "device": measured["device"],
        "seconds an epoch": measured["seconds_an_epoch"].map("{:.1f}".format),
        "times as fast": measured["ratio"].map("{:.2f}".format),
        "between rounds": between.where(measured["way"] != "published way", ""),
    }
    return pd.DataFrame(columns).set_index(measured["benchmark"])


def _costs(measured: pd.DataFrame, mode: str) -> pd.DataFrame:
    """Of the layer, "eager" or "compiled", as multiples of nn.Conv2d's, results/benchmarks_layer.csv."""
    here = measured[(measured["mode"] == mode) & (measured["way"] != "nn.Conv2d")]
    here = here.assign(column=here["way"] + ", " + here["precision"])
    ratios = here.pivot_table(index=["shape", "batch", "device"], columns="column", values="ratio", sort=False)
    ratios = ratios.map("{:.2f}".format, na_action="ignore").fillna("")
    return ratios.reset_index(["batch", "device"]).rename_axis(index="convolution", columns=None)


ON_PAGES = {
    "claims": verdicts,
    "benchmarks": _speeds,
    "benchmarks_layer": _costs,
    "table3_mnist": partial(_accuracies, "mnist"),
    "table4_caltech101": partial(_accuracies, "caltech101"),
}
PAGES = ("README.md", "benchmarks/README.md")


def update_page(path: Path) -> None:
    """Writes tables of results/ between a page's markers for them, which end with <!-- end -->: a table at
    <!-- its name -->, a protocol's or mode's part of it at <!-- its name, part -->."""

    def fill(marker: re.Match) -> str:
        name, part = marker.groups()
        shown = ON_PAGES[name](pd.read_csv(REPOSITORY / f"results/{name}.csv"), part)
        head = marker[0].split(" -->")[0]
        return f"{head} -->\n\n{markdown(shown)}\n<!-- end -->"

    text = path.read_text(encoding="utf-8")
    filled = re.sub(r"<!-- (\w+)(?:, (\w+))? -->.*?<!-- end -->", fill, text, flags=re.DOTALL)
    path.write_text(filled, encoding="utf-8")


if __name__ == "__main__":  # make notebooks
    for page in PAGES:
        update_page(REPOSITORY / page)
