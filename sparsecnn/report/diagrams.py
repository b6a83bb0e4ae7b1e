"""What notebooks 00 and 01 draw: pictures with pixels missing, and networks from their tables of layers.

Every function returns a matplotlib figure. In pictures a pixel that the mask misses is sky blue.
"""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from ..models import LAYERS, Architecture, BatchNorm, Conv, Dropout, Linear, MaxPool
from .figures import COLOURS

__all__ = [
    "answers", "bare", "draw_network", "draw_sparse_convolution", "line_panels", "observed_counts", "picture_grid",
    "worked_example",
]  # fmt: skip

MISSING = "#56B4E9"
LINES = list(COLOURS.values())
FEATURES, MASK, DENSE = ("#D3E6F3", "#0072B2"), ("#FCE8C2", "#9A6500"), ("#E4E4E4", "#555555")  # fill, edge


# Pictures


def picture_grid(
    rows: dict[str, list[tuple[Tensor, Tensor | None]]], columns: list[str], title: str = "", shares: bool = False
) -> Figure:
    """Pictures in named rows and columns, each an image C x H x W in [0, 1] and a mask 1 x H x W or None.

    With ``shares`` the share of observed pixels stands below each.
    """
    size = max(1.0, min(1.9, 9 / len(columns)))
    figsize = (size * len(columns) + 0.4, (size + 0.25 * shares) * len(rows) + 0.7)
    figure, panels = plt.subplots(len(rows), len(columns), figsize=figsize, squeeze=False)
    for line, (name, pictures) in zip(panels, rows.items(), strict=True):
        for panel, (image, mask) in zip(line, pictures, strict=True):
            bare(panel).imshow(_painted(image, mask))
            if shares:
                panel.set_xlabel(f"{mask.float().mean():.1%} observed")
        line[0].set_ylabel(name, fontsize=12)
    for panel, name in zip(panels[0], columns, strict=True):
        panel.set_title(name, fontsize=12)
    figure.suptitle(title, fontsize=13)
    return figure


def answers(image: Tensor, mask: Tensor, scores: dict[str, Tensor], classes: Sequence[str], label: int) -> Figure:
    """A picture with pixels missing, and beside it how probable each network's scores (a number a class) make the
    classes; the right one's name is bold."""
    figure, panels = plt.subplots(1, len(scores) + 1, figsize=(2.4 * len(scores) + 2.4, 2.6))
    bare(panels[0]).imshow(_painted(image, mask))
    panels[0].set_title(f"{1 - mask.float().mean():.0%} missing")
    for panel, (model, given) in zip(panels[1:], scores.items(), strict=True):
        shares = 100 * given.softmax(-1)
        panel.bar(classes, shares.tolist(), color=COLOURS[model])
        panel.set(title=f"{model}: {classes[int(shares.argmax())]}", ylim=(0, 100))
        panel.get_xticklabels()[label].set_weight("bold")
    panels[1].set_ylabel("probability (%)")
    return figure


def observed_counts(panels: dict[str, tuple[int, Tensor, pd.Series]]) -> Figure:
    """How many pixels masks leave: a panel a title, in it the exact count, numbers measured under the Bernoulli scheme,
    and that scheme's theory (probability against number)."""
    figure, axes = plt.subplots(1, len(panels), figsize=(9, 3.4))
    for axis, (title, (exact, counts, theory)) in zip(axes, panels.items(), strict=True):
        step = max(1, len(theory) // 50)
        bins = np.arange(theory.index[0], theory.index[-1] + step, step) - 0.5
        weights = np.full(len(counts), 100 / len(counts))
        axis.hist(counts, bins, weights=weights, color=LINES[0], alpha=0.5, label="Bernoulli, measured")
        axis.plot(theory.index, 100 * step * theory, color="black", lw=1.2, label="Bernoulli, theory")
        axis.axvline(exact, color=LINES[1], ls="--", lw=2, label="exact count, always the same")
        axis.set(title=title, xlabel="observed pixels", ylabel="share of masks (%)")
        axis.xaxis.set_major_formatter("{x:,.0f}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def line_panels(
    panels: dict[str, pd.DataFrame], labels: list[tuple[str, str]], points: pd.DataFrame | None = None
) -> Figure:
    """Line plots side by side, a line a column of each frame against its index; ``labels`` are those of x and y.
    The first panel is logarithmic and shows ``points`` (same columns) as open markers."""
    figure, axes = plt.subplots(1, len(panels), figsize=(9 if len(panels) > 1 else 6.5, 3.8), squeeze=False)
    for axis, (title, table), (xlabel, ylabel) in zip(axes[0], panels.items(), labels, strict=True):
        for name, colour, marker in zip(table, LINES, "os^", strict=False):
            dotted = points is not None and axis is axes[0, 0]
            axis.plot(table.index, table[name], color=colour, marker="" if dotted else marker, label=name)
            if dotted:
                seen = points[name][points[name] > 0]
                axis.plot(seen.index, seen, marker, color=colour, mfc="white", label=f"{name}, measured")
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
        axis.legend()
    axes[0, 0].set_yscale("log")
    axes[0, 0].yaxis.set(major_locator=LogLocator(subs=(1, 3), numticks=20), minor_formatter=NullFormatter())
    axes[0, 0].yaxis.set_major_formatter("{x:g}")
    return figure


def worked_example(
    image: Tensor, observed: Tensor, weight: Tensor, counts: Tensor, output: Tensor, mask_out: Tensor
) -> Figure:
    """Grids of numbers of a 3 x 3 sparse convolution; the window of row 1, column 1 and what comes of it are framed.

    All are H x W; ``counts`` are the observed pixels in each window.
    """
    grids = {
        "image": image,
        "validity mask": observed.bool(),
        "weights": weight,
        "observed pixels in the window": counts,
        "output": output,
        "output mask": mask_out.bool(),
    }
    window, place = (0, 0, 3, 3), (1, 1, 1, 1)  # top, left, height, width
    frames = {"image": window, "validity mask": window, "observed pixels in the window": place, "output": place,
              "output mask": place}  # fmt: skip
    return _number_grids({title: values.numpy() for title, values in grids.items()}, frames, observed.numpy())


def _number_grids(
    grids: dict[str, np.ndarray], windows: dict[str, tuple[int, int, int, int]], mask: np.ndarray
) -> Figure:
    """Annotated grids of numbers, two rows of three. ``windows`` outlines a part (top, left, height, width) of a grid;
    the first grid is shaded where ``mask`` is 0."""
    figure, panels = plt.subplots(2, 3, figsize=(9, 6.4))
    for panel, (title, values) in zip(panels.flat, grids.items(), strict=True):
        boolean = values.dtype == bool
        shown = values.astype(float).round(2)
        reach = 1 if boolean else max(np.abs(shown).max(), 1e-9)
        colours = ListedColormap([MISSING, "white"]) if boolean else "PuOr_r"
        bare(panel).imshow(shown, cmap=colours, vmin=0 if boolean else -2 * reach, vmax=1 if boolean else 2 * reach)
        for (row, column), value in np.ndenumerate(shown):
            panel.text(column, row, f"{value:.4g}", ha="center", va="center", fontsize=11 if len(shown) > 3 else 13)
        if title == next(iter(grids)):
            for row, column in np.argwhere(mask == 0):
                panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=MISSING))
        if title in windows:
            top, left, height, width = windows[title]
            panel.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, ec="black", lw=2.5, zorder=5))
        panel.set_xticks(np.arange(shown.shape[1] + 1) - 0.5)
        panel.set_yticks(np.arange(shown.shape[0] + 1) - 0.5)
        panel.grid(True, color="white" if not boolean else "#CCCCCC", alpha=1, lw=1)
        panel.tick_params(length=0, labelbottom=False, labelleft=False)
        panel.set_title(title, fontsize=11.5)
    return figure


def _painted(image: Tensor, mask: Tensor | None = None) -> np.ndarray:
    """H x W x 3 in [0, 1], what ``mask`` misses in sky blue."""
    picture = image.expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).numpy().copy()
    if mask is not None:
        picture[~mask[0].bool().numpy()] = to_rgb(MISSING)
    return picture


def bare(panel: Axes) -> Axes:
    """Without ticks, grid and frame lines that a picture does not need."""
    panel.set(xticks=[], yticks=[])
    panel.grid(False)
    for side in panel.spines.values():
        side.set(visible=True, color="#999999", linewidth=0.6)
    return panel


# Diagrams, in inches


def draw_sparse_convolution(kernel: int) -> Figure:
    """The sparse convolution module: how features and mask go through one layer with windows of that side."""
    axis = _canvas(10, 4.1)
    window = f"{kernel} × {kernel}"
    top, middle, low = 3.5, 2.0, 0.5
    for x, y, width, height, text, colours, size in (
        (0.95, top, 1.6, 0.8, "features $x$\nC × H × W", FEATURES, 11),
        (2.45, top, 0.5, 0.5, r"$\odot$", FEATURES, 15),
        (4.1, top, 1.9, 0.8, f"convolution with $w$\n{window}, no bias", FEATURES, 11),
        (6.3, top, 0.5, 0.5, r"$\times$", FEATURES, 15),
        (7.6, top, 0.5, 0.5, "$+$", FEATURES, 15),
        (9.05, top, 1.6, 0.8, "features\nD × H × W", FEATURES, 11),
        (7.6, middle, 0.9, 0.5, "bias $b$", FEATURES, 11),
        (0.95, low, 1.6, 0.8, "mask $o$\n1 × H × W", MASK, 11),
        (4.1, middle, 1.9, 0.8, f"number observed\nin {window}", MASK, 11),
        (6.3, middle, 1.5, 0.8, r"$\dfrac{1}{\mathrm{number} + \epsilon}$", MASK, 13),
        (4.1, low, 1.9, 0.8, f"maximum\nover {window}", MASK, 11),
        (9.05, low, 1.6, 0.8, "mask\n1 × H × W", MASK, 11),
    ):
        corner, shape = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.08"
        axis.add_patch(FancyBboxPatch(corner, width, height, shape, fc=colours[0], ec=colours[1], zorder=3))
        axis.text(x, y, text, ha="center", va="center", fontsize=size, zorder=4)
    for start, end in ((1.75, 2.2), (2.7, 3.15), (5.05, 6.05), (6.55, 7.35), (7.85, 8.25)):
        _arrow(axis, (start, top), (end, top), FEATURES[1])
    _arrow(axis, (7.6, middle + 0.25), (7.6, top - 0.25), FEATURES[1])
    for start, end in (((1.75, low), (3.15, low)), ((5.05, low), (8.25, low)), ((2.45, low), (2.45, top - 0.25)),
                       ((2.45, middle), (3.15, middle)), ((5.05, middle), (5.55, middle)),
                       ((6.3, middle + 0.4), (6.3, top - 0.25))):  # fmt: skip
        _arrow(axis, start, end, MASK[1])
    axis.plot((2.45, 2.45), (low, middle), "o", color=MASK[1], ms=5)
    axis.set_title("Sparse convolution: blue = features, orange = validity mask (1 = observed)", fontsize=12)
    return axis.figure


def draw_network(name: str, title: str) -> Figure:
    """A SparseConvNet from its table in models.LAYERS: feature maps above, masks below them, then the linear layers.

    Knows convolutions, batch norm, ReLU, max-pooling, flatten, linear layers and dropout.
    """
    architecture = LAYERS[name]
    stages = _stages(architecture)
    maps = [stage for stage in stages if len(stage[1]) == 3]
    dense = stages[len(maps) :]
    one_row = len(stages) <= 6
    width = 2.0 * len(maps) + (1.3 * len(dense) if one_row else 0) + 0.3
    lines = max(len(words) for words, _ in maps)
    high = 0.19 * lines + 4.0 + (0 if one_row else 2.7)
    axis = _canvas(width, high)
    level = high - 0.19 * lines - 1.1
    edges = [_feature_maps(axis, 1.1 + 2 * i, level, *stage, architecture.image[1]) for i, stage in enumerate(maps)]
    for i, (before, after) in enumerate(zip(edges, edges[1:], strict=False)):
        x, (conv, *rest) = 2.1 + 2 * i, maps[i + 1][0]
        pool = [word for word in rest if word.startswith("max pool")]
        _arrow(axis, (before[1] + 0.06, level), (after[0] - 0.06, level), FEATURES[1])
        _arrow(axis, (1.5 + 2 * i, level - 2), (2.7 + 2 * i, level - 2), MASK[1])
        _arrow(axis, (x, level - 2), (x, level - 0.05), MASK[1], "--")
        axis.text(x, level - 2.12, "\n".join([conv.replace("sparse conv", "max"), *pool]),
                  ha="center", va="top", color=MASK[1])  # fmt: skip
    for i, (_, (_, height, wide)) in enumerate(maps):
        label = f"mask\n1 × {height} × {wide}" + ("\n(not used further)" if i == len(maps) - 1 else "")
        _sheets(axis, 1.1 + 2 * i, level - 2, 0.66 * (height / architecture.image[1]) ** 0.5, 1, MASK)
        axis.text(1.1 + 2 * i, level - 2.42, label, ha="center", va="top", color=MASK[1])
    x0, base = (2.0 * len(maps) + 0.75, level) if one_row else (width / 2 - 0.9 * (len(dense) - 1), 0.95)
    step, previous = (1.3 if one_row else 1.8), None
    for i, (words, (size,)) in enumerate(dense):
        x, tall = x0 + step * i, 1.4 * math.log(size + 1) / math.log(dense[0][1][0] + 1)
        axis.add_patch(Rectangle((x - 0.1, base - tall / 2), 0.2, tall, fc=DENSE[0], ec=DENSE[1]))
        axis.text(x, base + 0.82, "\n".join(words), ha="center", va="bottom")
        axis.text(x, base - 0.8, f"{size:,}" + (" scores" if i == len(dense) - 1 else ""), ha="center", va="top")
        if previous is not None:
            _arrow(axis, (previous + 0.16, base), (x - 0.16, base), DENSE[1])
        elif one_row:
            _arrow(axis, (edges[-1][1] + 0.06, level), (x - 0.16, level), DENSE[1])
        else:  # around the masks, down to the second row
            right, left = width - 0.1, x - 0.9
            axis.plot((edges[-1][1] + 0.06, right, right, left, left), (level, level, 2.62, 2.62, base),
                      color=DENSE[1], lw=1.2)  # fmt: skip
            _arrow(axis, (left, base), (x - 0.16, base), DENSE[1])
        previous = x
    axis.set_title(title, fontsize=12)
    return axis.figure


def _stages(architecture: Architecture) -> list[tuple[list[str], tuple[int, ...]]]:
    """What is drawn as one thing: the words over it (a convolution or linear layer and what follows) and its shape."""
    shape = architecture.image
    stages = [(["image"], shape)]
    for layer in architecture.layers:
        match layer:
            case Conv(channels, kernel):
                shape = (channels, *shape[1:])
                stages.append(([f"sparse conv {kernel} × {kernel}"], shape))
            case Linear(features):
                shape = (features,)
                stages.append((["linear"], shape))
            case "flatten":
                shape = (math.prod(shape),)
                stages.append((["flatten"], shape))
            case MaxPool(kernel):
                shape = (shape[0], *(size // kernel for size in shape[1:]))
                stages[-1] = ([*stages[-1][0], f"max pool {kernel} × {kernel}"], shape)
            case Dropout(rate):
                stages[-1][0].append(f"dropout {rate}")
            case BatchNorm():
                stages[-1][0].append("batch norm")
            case "relu":
                stages[-1][0].append("ReLU")
    return stages


def _feature_maps(axis: Axes, x: float, y: float, words: list[str], shape: tuple, full: int) -> tuple[float, float]:
    """Draws a stack of feature maps with its words; returns its left and right edge."""
    side, count = 1.1 * (shape[1] / full) ** 0.5, min(shape[0], 6)
    _sheets(axis, x, y, side, count, FEATURES)
    axis.text(x, y + 0.82, "\n".join(words), ha="center", va="bottom")
    axis.text(x, y - 0.8, " × ".join(map(str, shape)), ha="center", va="top")
    half = side / 2 + 0.025 * (count - 1)
    return x - half, x + half


def _sheets(axis: Axes, x: float, y: float, side: float, count: int, colours: tuple[str, str]) -> None:
    for i in reversed(range(count)):
        shift = 0.05 * (i - (count - 1) / 2)
        corner = (x - side / 2 + shift, y - side / 2 + shift)
        axis.add_patch(Rectangle(corner, side, side, fc=colours[0], ec=colours[1], lw=1, zorder=3))


def _canvas(width: float, height: float) -> Axes:
    """An axis whose unit is the inch."""
    axis = plt.figure(figsize=(width, height + 0.35)).subplots()
    axis.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axis.axis("off")
    return axis


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, style: str = "-") -> None:
    look = {"arrowstyle": "-|>", "color": colour, "ls": style, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=look)
