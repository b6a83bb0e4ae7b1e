"""The tables of pages, the README's first, written from those of results/."""

import re
from pathlib import Path

import pandas as pd

from ..files import REPOSITORY
from .tables import wide

__all__ = ["PAGES", "markdown", "update_page"]


def markdown(table: pd.DataFrame) -> str:
    """A wide table for a page."""
    head = [table.columns.name or "", *table.columns]
    lines = [
        head,
        ["---"] * len(head),
        *([name, *cells] for name, cells in zip(table.index, table.values, strict=True)),
    ]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _verdicts(claims: pd.DataFrame, _) -> pd.DataFrame:
    return claims.set_index("claim")[["verdict"]].rename_axis(columns="claim")


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
    return pd.DataFrame(columns).set_index(measured["benchmark"]).rename_axis(columns="benchmark")


def _costs(measured: pd.DataFrame, mode: str) -> pd.DataFrame:
    """Of the layer, "eager" or "compiled", as multiples of nn.Conv2d's, results/benchmarks_layer.csv."""
    here = measured[(measured["mode"] == mode) & (measured["way"] != "nn.Conv2d")]
    here = here.assign(column=here["way"] + ", " + here["precision"])
    ratios = here.pivot_table(index=["shape", "batch", "device"], columns="column", values="ratio", sort=False)
    ratios = ratios.map("{:.2f}".format, na_action="ignore").fillna("")
    return ratios.reset_index(["batch", "device"]).rename_axis(columns="convolution")


ON_PAGES = {"claims": _verdicts, "benchmarks": _speeds, "benchmarks_layer": _costs}  # and otherwise wide
PAGES = ("README.md", "benchmarks/README.md")


def update_page(path: Path) -> None:
    """Writes tables of results/ between a page's markers for them, which end with <!-- end -->: a table at
    <!-- its name -->, a protocol's or mode's part of it at <!-- its name, part -->."""

    def fill(marker: re.Match) -> str:
        name, part = marker.groups()
        shown = ON_PAGES.get(name, wide)(pd.read_csv(REPOSITORY / f"results/{name}.csv"), part)
        head = marker[0].split(" -->")[0]
        return f"{head} -->\n\n{markdown(shown)}\n<!-- end -->"

    text = path.read_text(encoding="utf-8")
    filled = re.sub(r"<!-- (\w+)(?:, (\w+))? -->.*?<!-- end -->", fill, text, flags=re.DOTALL)
    path.write_text(filled, encoding="utf-8")


if __name__ == "__main__":  # make notebooks
    for page in PAGES:
        update_page(REPOSITORY / page)
