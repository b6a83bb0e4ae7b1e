"""The studies' figures: the headline, heat maps of settings, hard and easy classes, train x test matrices, bridges,
masks with structure."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from ..data.datasets import available, load, split
from ..data.images import IMAGENET_SCALE
from ..data.masks import bernoulli_mask
from ..experiment import Experiment
from .claims import CLAIMS, EFFECTS
from .diagrams import picture_grid
from .figures import COLOURS, MARKERS, PUBLISHED, curves_by_setting, shared_legend
from .inference import MARGIN
from .tables import cells as in_words

__all__ = ["bridges", "forest", "hard_and_easy", "headline", "heat_maps", "late_drop", "matrices", "structured_masks"]

FOREST_END = 12  # points; a claim's effect further out is written at the edge
GAIN, LOSS = "#56B4E9", "#E69F00"  # of Okabe and Ito's colours those that no network has


def headline(panels: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Figure:
    """SparseConvNet less ConvNet in points against sparsity, a panel a data set.

    ``panels``: by title, what was measured in ``controlled`` (columns sparsity, difference, ci95: pairs.differences)
    and what others published (columns sparsity, difference, source; each source a grey line).
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6), sharey=True, squeeze=False)
    styles = (("v", ":"), ("P", "--"), ("X", "-."))
    for (title, (ours, published)), panel in zip(panels.items(), axes[0], strict=True):
        panel.axhline(0, color=COLOURS["ConvNet"], label="ConvNet")
        for (source, line), (marker, dashes) in zip(published.groupby("source", sort=False), styles, strict=False):
            panel.plot(
                100 * line["sparsity"], line["difference"], color=PUBLISHED, marker=marker, ls=dashes, lw=1,
                mfc="white", label=f"SparseConvNet, {source}",
            )  # fmt: skip
        panel.errorbar(
            100 * ours["sparsity"], ours["difference"], ours["ci95"].fillna(0),
            color=COLOURS["SparseConvNet"], marker=MARKERS["SparseConvNet"], capsize=2,
            label="SparseConvNet, controlled",
        )  # fmt: skip
        panel.set(title=title, xlabel="missing pixels (%)")
    axes[0, 0].set_ylabel("points of test accuracy above ConvNet")
    shared_legend(figure)
    return figure


def heat_maps(table: pd.DataFrame, title: str) -> Figure:
    """Mean accuracy by learning rate and batch size, with its 95% interval; a row a sparsity, a panel a network and one
    for the published values. A row shares one scale of colours, which means 12 points below its best don't stretch.

    ``table``: tables.without_collapsed by model, sparsity, batch_size and learning_rate.
    """
    levels, models = list(dict.fromkeys(table["sparsity"])), list(dict.fromkeys(table["model"]))
    quoted = table["published"].notna().any()
    figure, panels = plt.subplots(
        len(levels), len(models) + quoted, figsize=(3.6 * (len(models) + quoted), 2.9 * len(levels)), squeeze=False
    )
    for level, line in zip(levels, panels, strict=True):
        here = table[table["sparsity"] == level]
        values = pd.concat([here["accuracy_mean"], here["published"]]).dropna()
        top = values.max() if len(values) else 1
        least = values[values > top - 12].min() if len(values) else 0
        shown = [(model, "accuracy_mean", here[here["model"] == model]) for model in models]
        if quoted:
            shown.append((f"{models[0]}, published", "published", here[here["model"] == models[0]]))
        for panel, (name, column, cells) in zip(line, shown, strict=True):
            quote = cells["published"].map("{:.2f}".format)
            cells = cells.assign(
                text=[text.replace(" ±", "\n±") for text in in_words(cells, "\n")]
                if column == "accuracy_mean"
                else quote
            )
            means, texts = (
                cells.pivot(index="learning_rate", columns="batch_size", values=wanted).sort_index(ascending=False)
                for wanted in (column, "text")
            )
            panel.imshow(means, cmap="cividis", vmin=least, vmax=max(top, least + 0.1), aspect="auto")
            panel.grid(False)
            panel.set_xticks(range(means.shape[1]), means.columns)
            panel.set_yticks(range(means.shape[0]), [f"{rate:g}" for rate in means.index])
            panel.set(title=f"{name}\n{level:.0%} missing", xlabel="batch size", ylabel="learning rate")
            for (y, x), mean in np.ndenumerate(means.to_numpy()):
                text = texts.iloc[y, x]
                dark = mean < (least + top) / 2
                panel.text(x, y, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
    figure.suptitle(title)
    return figure


def hard_and_easy(run: Experiment, accuracies: pd.Series, levels: Iterable[float], title: str) -> Figure | None:
    """A test image of each of several classes, a row a sparsity; a missing pixel takes the mean colour. None where the
    data set is Caltech-101 and can't be had.

    Args:
        run: whose data set, validation images and split they are.
        accuracies: of each class, in percent, index class, for the columns' titles.
        levels: sparsities.
    """
    if available(run.dataset) != run.dataset:  # which says so aloud
        return None
    data = load(run.dataset)
    test = split(data, run.validation, run.split, run.split_seed)[2]
    chosen = [test[data.labels[test] == data.classes.index(name)][0] for name in accuracies.index]
    images = data.images[torch.stack(chosen)] / 255
    mean_colour = torch.tensor(IMAGENET_SCALE["mean"]).view(3, 1, 1)
    pictures = {}
    for level in levels:
        masks = bernoulli_mask(len(chosen), *images.shape[2:], level, torch.Generator().manual_seed(0))
        pictures[f"{level:.0%} missing"] = [(image, None) for image in torch.where(masks, images, mean_colour)]
    names = [f"{name}\n{accuracy:.0f}%" for name, accuracy in accuracies.items()]
    return picture_grid(pictures, names, title)


def late_drop(ways: dict[str, pd.DataFrame], title: str) -> Figure:
    """Learning curves of studies.late_drop, a panel for each way that has runs; ``ways``: their rows of the store."""
    curves = pd.concat([rows.assign(way=way) for way, rows in ways.items()], ignore_index=True)
    return curves_by_setting(curves, "way", f"{title}, {curves['sparsity'].iloc[0]:.0%} missing, batch 64")


def matrices(table: pd.DataFrame, beyond: pd.DataFrame, title: str) -> Figure:
    """Train x test: mean accuracy or, of depth, error, a panel a network, a row a sparsity in training, a column one in
    the test. Set apart are networks trained on every sparsity, the last row, and tests under masks with structure, the
    last columns.

    ``table``: the columns of results/matrix_mnist.csv or matrix_kitti_range.csv; ``beyond``: those of the file beside
    it that ends in _beyond. All panels share one scale of colours, that of ``table``, bright for the better and of
    errors logarithmic; what is missing is grey.
    """
    of_depth = "mae_mean" in table
    mean, form, scale = "accuracy_mean", ".0f", "test accuracy (%)"
    if of_depth:
        mean, form, scale = "mae_mean", ".2f", "mean absolute error (m)"
    models = list(dict.fromkeys(table["model"]))
    cells = pd.concat([table.assign(test_mask="random"), beyond], ignore_index=True)
    cells["train_sparsity"] = cells["train_sparsity"].fillna(np.inf)  # every sparsity, last
    tested = ["test_mask", "test_sparsity"]
    grid = cells.pivot(index="train_sparsity", columns=["model", *tested], values=mean)
    tests = pd.MultiIndex.from_frame(cells[tested].drop_duplicates().sort_values(tested))  # "random" comes first
    figure, panels = plt.subplots(1, len(models), figsize=(5 * len(models), 5.2), sharey=True, squeeze=False)
    least, most = table[mean].min(), table[mean].max()
    norm = (LogNorm if of_depth else Normalize)(least, most, clip=True)
    for panel, model in zip(panels[0], models, strict=True):
        means = grid[model].reindex(columns=tests)
        panel.set_facecolor("lightgrey")
        drawn = panel.imshow(means, cmap="cividis_r" if of_depth else "cividis", norm=norm)
        panel.grid(False)
        panel.axhline(table["train_sparsity"].nunique() - 0.5, color="white", lw=3)
        panel.axvline(table["test_sparsity"].nunique() - 0.5, color="white", lw=3)
        names = [f"{100 * level:g}" if kind == "random" else f"{kind} {100 * level:g}" for kind, level in tests]
        panel.set_xticks(range(len(names)), names, fontsize=8)
        for label, (kind, _) in zip(panel.get_xticklabels(), tests, strict=True):
            label.set_rotation(0 if kind == "random" else 90)
        names = [f"{100 * level:g}" if level < np.inf else "all" for level in means.index]
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.set(title=model, xlabel="missing in the test (%)")
        for (y, x), value in np.ndenumerate(means.to_numpy()):
            if value == value:
                colour = "white" if (norm(value) > 0.5) == of_depth else "black"
                panel.text(
                    x, y, f"{value:{form}}", ha="center", va="center", fontsize=7 if of_depth else 9, color=colour
                )
    panels[0, 0].set_ylabel("missing in training (%)")
    if least == least:
        bar = figure.colorbar(drawn, ax=panels[0], label=scale, shrink=0.8)
        for axis in ("major", "minor"):  # of errors, not in powers of ten
            getattr(bar.ax.yaxis, f"set_{axis}_formatter")("{x:g}")
    figure.suptitle(title)
    return figure


def structured_masks(measured: pd.DataFrame, title: str) -> Figure:
    """Accuracy under a missing square and missing rows beside as many random pixels, by sparsity in training.

    ``measured``: analysis.transfers. A panel a kind and level; means over seeds, each run a faint dot.
    """
    own = measured[measured["trained_at"] == "own sparsity"]
    levels = sorted(own.loc[own["test_mask"] != "random", "test_sparsity"].unique())
    kinds = ("random", "square", "rows")
    figure, panels = plt.subplots(
        len(levels), len(kinds), figsize=(3.4 * len(kinds), 2.7 * len(levels)), sharex=True, sharey=True, squeeze=False
    )
    for level, line in zip(levels, panels, strict=True):
        for kind, panel in zip(kinds, line, strict=True):
            here = own[(own["test_mask"] == kind) & np.isclose(own["test_sparsity"], level)]
            for model, part in here.groupby("model", sort=False):
                panel.scatter(
                    100 * part["train_sparsity"], part["accuracy"], color=COLOURS[model], s=9, alpha=0.4, lw=0
                )
                means = part.groupby("train_sparsity")["accuracy"].mean()
                panel.plot(100 * means.index, means, color=COLOURS[model], marker=MARKERS[model], label=model)
            name = {"random": "random pixels", "square": "a square", "rows": "rows"}[kind]
            panel.set_title(f"{level:.0%} missing in the test: {name}")
        line[0].set_ylabel("test accuracy (%)")
    for panel in panels[-1]:
        panel.set_xlabel("missing in training (%)")
    shared_legend(figure)
    figure.suptitle(title)
    return figure


def bridges(tables: dict[str, pd.DataFrame], title: str) -> Figure:
    """Where the points went: a panel a bridge, from its first step's mean, change by change, to its last's.

    ``tables``: those of analysis.bridge_table. Bars of changes hang from the mean before to the mean after, with the
    95% interval of the paired difference; a step without runs is left blank.
    """
    figure, panels = plt.subplots(
        len(tables), 1, figsize=(8, 0.32 * sum(map(len, tables.values())) + 0.9 * len(tables)), squeeze=False,
        gridspec_kw={"height_ratios": [len(table) + 1 for table in tables.values()]},
    )  # fmt: skip
    for (name, table), panel in zip(tables.items(), panels[:, 0], strict=True):
        panel.use_sticky_edges = False  # or a bar's end would be the axis' too
        ends = table["mean"].dropna()
        before = table["mean"].shift()
        for place, (_, step) in enumerate(table.iterrows()):
            if step["mean"] != step["mean"]:
                panel.text(0.5, place, "missing", transform=panel.get_yaxis_transform(), ha="center", va="center")
            elif step["difference"] != step["difference"]:
                panel.plot(step["mean"], place, color="black", marker="D")
            else:
                colour = GAIN if step["difference"] > 0 else LOSS
                panel.barh(place, step["difference"], left=before.iloc[place], color=colour, height=0.55)
                panel.errorbar(step["mean"], place, xerr=np.nan_to_num(step["ci95"]), color="black", capsize=2, lw=1)
            if step["mean"] == step["mean"]:
                shift = "" if step["difference"] != step["difference"] else f" ({step['difference']:+.1f})"
                panel.annotate(
                    f"{step['mean']:.1f}{shift}", (1.01, place), xycoords=("axes fraction", "data"), va="center"
                )
        if len(ends):
            panel.axvline(ends.iloc[0], color=PUBLISHED, lw=0.8, ls=":")
        panel.set_yticks(range(len(table)), table["change"])
        panel.set(title=name, ylim=(len(table) - 0.4, -0.6))
        panel.grid(axis="y", visible=False)
    panels[-1, 0].set_xlabel("test accuracy (%)")
    figure.suptitle(title)
    return figure


def forest(claims: pd.DataFrame, title: str) -> Figure:
    """All ten effects with their 95% intervals on one page: those in points above each other, the margin of "no
    difference" shaded, those in another unit in a panel of their own; the two verdicts at the right.

    ``claims``: the columns of results/claims.csv, all ten.
    """
    units = list(dict.fromkeys(claims["unit"]))
    claims = claims.assign(number=list(CLAIMS))
    beside = {"xycoords": ("axes fraction", "data"), "va": "center"}
    parts = {unit: claims[claims["unit"] == unit] for unit in units}
    figure, panels = plt.subplots(
        len(units), 1, figsize=(9, 0.42 * len(claims) + 1.6), squeeze=False,
        gridspec_kw={"height_ratios": [len(part) + 0.6 for part in parts.values()]},
    )  # fmt: skip
    for (unit, part), panel in zip(parts.items(), panels[:, 0], strict=True):
        in_points = unit == "points"
        if in_points:
            panel.axvspan(-MARGIN, MARGIN, color="0.9", zorder=0)
            panel.axvline(0, color="0.6", lw=0.8, zorder=1)
        ends = (-FOREST_END, FOREST_END) if in_points else (-2, 102)
        for place, line in enumerate(part.itertuples()):
            if line.effect > ends[1]:
                panel.annotate(f"{line.effect:.0f} →", (0.99, place), **beside, ha="right")
            elif line.effect == line.effect:
                panel.plot(line.effect, place, color="black", marker="o" if line.low == line.low else "D", mfc="white")
                panel.plot([line.low, line.high], [place, place], color="black", lw=1.6, zorder=1)
            words = f"{line.numbers_come_back} | {line.conclusion_stands}"
            panel.annotate(words, (1.02, place), **beside)
        panel.set_yticks(range(len(part)), [f"{number}. {EFFECTS[number][1]}" for number in part["number"]])
        name = f'{unit} (shaded: the margin of "no difference")' if in_points else unit
        panel.set(xlim=ends, ylim=(len(part) - 0.4, -0.6), xlabel=name)
        panel.grid(axis="y", visible=False)
    panels[0, 0].annotate("numbers come back |\nconclusion stands", (1.02, -0.7), **beside | {"va": "bottom"})
    figure.suptitle(title)
    return figure
