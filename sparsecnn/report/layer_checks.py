"""What sparse convolutions do to masks, holes and scale before any training: notebook 01's measurements."""

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from ..data.masks import bernoulli_mask, exact_count_mask, square_mask
from ..experiment import SPARSITIES
from ..layers import SparseConv2d
from ..models import ConvNet, ConvNetMask, SparseConvNet, build, count_parameters
from .diagrams import line_panels, picture_grid

__all__ = [
    "edge_of_a_hole", "masks_by_layer", "masks_figure", "parameter_counts", "scale_by_place", "scale_figure",
    "spread_by_layer", "zeros_and_nans",
]  # fmt: skip

TRACED = {"image": 0, "after 5 × 5": 1, "after 1 × 1": 3}  # 2 is a ReLU, which leaves the mask alone


def parameter_counts() -> pd.DataFrame:
    """Of each layer of the MNIST networks, a column a network."""
    networks = {
        "SparseConvNet": SparseConvNet(),
        "ConvNet": ConvNet(),
        "ConvNet + mask": ConvNetMask(),
        "ConvNet as published": ConvNet("mnist_convnet_as_run"),
    }
    columns = {}
    for name, network in networks.items():
        columns[name] = {}
        for layer in network.layers:
            if hasattr(layer, "kernel_size"):
                columns[name]["convolution {} x {}".format(*layer.kernel_size)] = count_parameters(layer)
            elif hasattr(layer, "out_features"):
                columns[name][f"linear {layer.out_features}"] = count_parameters(layer)
        columns[name]["total"] = count_parameters(network)
    # The last network has a layer of each kind.
    return pd.DataFrame(columns, index=list(columns["ConvNet as published"])).fillna(0).astype(int)


@torch.no_grad()
def masks_by_layer(
    sparsity: float, generator: Generator, count: int = 1000
) -> tuple[pd.DataFrame, dict[float, dict[str, Tensor]]]:
    """How SparseConvNet for MNIST hands masks on, at the experiments' levels and at ``sparsity``: the share of observed
    places in the image and after each convolution, in percent, over ``count`` masks; and the first of them, each
    1 x 28 x 28."""
    network, shares, first = SparseConvNet(), {}, {}
    for level in sorted({*SPARSITIES, sparsity}):
        masks = exact_count_mask(count, 28, 28, level, generator)
        trace = network.trace(torch.zeros(count, 1, 28, 28), masks)
        shares[level] = {name: 100 * float(trace[step][1].double().mean()) for name, step in TRACED.items()}
        first[level] = {name: trace[step][1][0] for name, step in TRACED.items()}
    return pd.DataFrame(shares).T.rename_axis("sparsity"), first


def masks_figure(masks: dict[float, dict[str, Tensor]]) -> Figure:
    """Masks as :func:`masks_by_layer` gives them, a column a sparsity, a row a layer."""
    rows = {name: [(of[name].float(), of[name]) for of in masks.values()] for name in TRACED}
    return picture_grid(rows, [f"{level:.0%} missing" for level in masks], shares=True)


def zeros_and_nans(sparsity: float, generator: Generator, count: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Random images of MNIST's size with 0 at missing pixels, the same ones with NaN there, and the masks."""
    images = torch.rand(count, 1, 28, 28, generator=generator)
    mask = exact_count_mask(count, 28, 28, sparsity, generator)
    return torch.where(mask, images, 0), torch.where(mask, images, torch.nan), mask


@torch.no_grad()
def edge_of_a_hole(seed: int, size: int = 112, kernel: int = 11, sparsity: float = 0.3) -> tuple[Figure, pd.DataFrame]:
    """What an edge filter (left half 1, right half -1) answers on a disc that is whole, has pixels missing at random,
    and has a square missing, as a sparse convolution and as a convolution over 0 at missing pixels divided by its
    window's pixels; pictures (-1 black, 1 white), and sizes of answers on the disc's edge and where there is none."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = torch.where((row - size // 2) ** 2 + (column - size // 2) ** 2 < (size // 4) ** 2, 1.0, -1.0)[None, None]
    generator = torch.Generator().manual_seed(seed)
    masks = {
        "whole": torch.ones(1, 1, size, size, dtype=torch.bool),
        f"{sparsity:.0%} at random": bernoulli_mask(1, size, size, sparsity, generator),
        f"{sparsity:.0%} in one piece": square_mask(1, size, size, sparsity, generator),
    }
    edges = SparseConv2d(1, 1, kernel, padding="same", bias=False)
    edges.weight[:] = (kernel // 2 - torch.arange(kernel)).sign()
    dense = [torch.conv2d(disc * mask, edges.weight, padding="same")[0] / kernel**2 for mask in masks.values()]
    found = {"sparse convolution": [edges(disc, mask)[0][0] for mask in masks.values()], "convolution": dense}
    rows = {"picture": [((disc[0] + 1) / 2, mask[0]) for mask in masks.values()]}
    rows |= {name: [((answer + 1) / 2, None) for answer in answers] for name, answers in found.items()}

    inside = torch.zeros(1, size, size, dtype=torch.bool)
    inside[:, kernel:-kernel, kernel:-kernel] = True  # away from the picture's own border
    whole, random, piece = masks
    table = {}
    for name, answers in found.items():
        edge, flat = inside & (answers[0].abs() > 0.5), inside & (answers[0].abs() < 1e-6)
        table[name] = {
            f"the disc's edge, {whole}: mean": answers[0][edge].abs().mean().item(),
            f"the disc's edge, {random}: mean": answers[1][edge].abs().mean().item(),
            f"no edge, {random}: most": answers[1][flat].abs().max().item(),
            f"no edge, {piece}: most": answers[2][flat].abs().max().item(),
        }
    return picture_grid(rows, list(masks)), pd.DataFrame(table)


@torch.no_grad()
def scale_by_place(noise: Tensor, seed: int) -> tuple[pd.DataFrame, float]:
    """What of MNIST's first convolution comes from the image, N x 1 x 28 x 28 with none missing: its standard deviation
    in SparseConv2d and in Conv2d with the same initial weights, and their ratio, by place; and the bias's mean size."""
    torch.manual_seed(seed)
    sparse = SparseConv2d(1, 16, 5, padding="same")
    dense = torch.nn.Conv2d(1, 16, 5, padding="same")
    dense.load_state_dict(sparse.state_dict())
    of_image = sparse(noise, torch.ones(1, 1, 28, 28, dtype=torch.bool))[0] - sparse.bias.view(-1, 1, 1)
    of_image_dense = dense(noise) - dense.bias.view(-1, 1, 1)
    table = {}
    for where, (row, column) in {"inside": (14, 14), "at an edge": (14, 0), "in a corner": (0, 0)}.items():
        spreads = [float(part[:, :, row, column].std()) for part in (of_image, of_image_dense)]
        table[where] = {"SparseConv2d": spreads[0], "Conv2d": spreads[1], "ratio": spreads[1] / spreads[0]}
    return pd.DataFrame(table).T, float(sparse.bias.abs().mean())


@torch.no_grad()
def spread_by_layer(noise: Tensor, seed: int, generator: Generator) -> pd.DataFrame:
    """After each layer of SparseConvNet and ConvNet at initialisation, by sparsity and network: the standard deviation
    over images, the mean over units; ``noise`` N x 1 x 28 x 28 with 0 at missing pixels."""
    spread = {}
    for level in SPARSITIES:
        masks = exact_count_mask(len(noise), 28, 28, level, generator)
        for model in ("SparseConvNet", "ConvNet"):
            torch.manual_seed(seed)
            features, mask, measured = noise * masks, masks, []
            for layer in build(model).layers:
                if isinstance(layer, SparseConv2d):
                    features, mask = layer(features, mask)
                else:
                    features = layer(features)
                if hasattr(layer, "weight"):
                    measured.append(float(features.std(0).mean()))
            spread[level, model] = measured
    columns = ["conv 5 x 5", "conv 1 x 1", "linear 100", "linear 10 (scores)"]
    return pd.DataFrame(spread, index=columns).T.rename_axis(["sparsity", "model"])


def scale_figure(spread: pd.DataFrame) -> Figure:
    """What :func:`spread_by_layer` has after the first convolution, against sparsity."""
    first = spread["conv 5 x 5"].unstack("model")[["SparseConvNet", "ConvNet"]].rename(lambda level: 100 * level)
    title = "What the image moves after the first convolution, at initialisation"
    return line_panels({title: first}, [("missing pixels (%)", "standard deviation over images")])
