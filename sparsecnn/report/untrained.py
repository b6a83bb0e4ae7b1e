"""What reaches the layers of a network that has not been trained."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from ..data.datasets import available, load
from ..experiment import MODELS, experiment
from ..models import channels_at_work, output_variances
from ..training.batches import Batches, FixedMaskBatches
from ..training.loop import initial_network

__all__ = ["initial_variances", "variances_without_batch_norm", "working_channels"]


def initial_variances(architecture: str, sparsity: float = 0.3) -> pd.DataFrame:
    """models.output_variances of SparseConvNet and ConvNet, a column each, before training, on four pictures of the
    drawn stand-in for Caltech-101; in float64, in which small ones are not rounding alone."""
    variances = {}
    for model in MODELS[:2]:
        run = experiment("shapes", "controlled", model, sparsity, architecture=architecture)
        image, mask, _ = FixedMaskBatches(load(run.dataset), run, torch.device("cpu"))(torch.arange(4), None)
        variances[model] = output_variances(initial_network(run).double(), image.double(), mask)
    return pd.DataFrame(variances)


def working_channels(dataset: str, levels: Sequence[float], seeds: int, images: int = 500) -> pd.Series:
    """models.channels_at_work of MNIST's SparseConvNet and ConvNet before training, by model, seed and sparsity."""
    dataset = available(dataset)  # which says so aloud where a stand-in serves
    data = load(dataset)
    few = replace(data, images=data.images[:images], labels=data.labels[:images])
    counts = {}
    for model, seed, level in itertools.product(MODELS[:2], range(seeds), levels):
        run = experiment(dataset, "as_reported", model, level, seed)
        batches = Batches(few, run, torch.device("cpu"))
        image, mask, _ = batches(torch.arange(images), torch.Generator().manual_seed(seed))
        counts[model, seed, level] = channels_at_work(initial_network(run), image, mask)
    return pd.Series(counts).rename_axis(["model", "seed", "sparsity"])


def variances_without_batch_norm() -> pd.DataFrame:
    """:func:`initial_variances` of Figure 5's network, and of it without batch norm, up to the first linear layer
    (behind it dropout varies too), as texts of one digit."""
    architectures = {"Figure 5": "caltech", "no batch norm": "caltech_no_batch_norm"}
    parts = {name: initial_variances(table)[:5].map("{:.0e}".format) for name, table in architectures.items()}
    return pd.concat(parts, axis=1)
