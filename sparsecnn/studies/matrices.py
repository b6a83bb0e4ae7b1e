"""Every network tested at every sparsity, and what else concerns Tables 3 and 4: another start, other splits."""

import itertools

from ..checks import check_choice
from ..experiment import CALTECH, MNIST, MODELS, Experiment, experiment, grid
from .common import STUDY_SEEDS, seeds_of

__all__ = ["matrix", "other_splits", "rescaled_starts"]

RESCALED_SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.9, 0.95)
# Where networks trained on images of every sparsity are tested after each epoch.
MIXED_TEST_SPARSITY = 0.5
SPLIT_SPARSITIES = (0.05, 0.3, 0.7)
SPLIT_SEEDS = (1, 2, 3)


def matrix(
    dataset: str = "mnist", sparsity: float | None = None, seeds: int | None = None, **changes
) -> list[Experiment]:
    """Train x test: the ``controlled`` runs, each tested at every sparsity and under masks with structure, and beside
    them networks of each kind trained on images of every sparsity; with ``sparsity``, those trained at that one alone.

    ``seeds`` is the number of seeds, None = the table's of the former and three of the latter.
    """
    tested = {"tested_at": "every sparsity"} | changes
    runs = grid(dataset, "controlled", sparsity, seeds, **tested)
    if sparsity is None:
        tested["trained_at"] = "every sparsity"
        runs += grid(dataset, "controlled", MIXED_TEST_SPARSITY, STUDY_SEEDS if seeds is None else seeds, **tested)
    return sorted(runs, key=lambda run: run.seed)


def rescaled_starts(
    dataset: str = "mnist", sparsity: float | None = None, seeds: int | None = None, **changes
) -> list[Experiment]:
    """MNIST's SparseConvNet as ``controlled`` has it, but for initial weights of its first convolution that make up for
    what it divides by. Arguments as for :func:`sparsecnn.experiment.grid`, which does not have these runs."""
    check_choice("dataset", dataset, MNIST)
    runs = grid(dataset, "controlled", sparsity, seeds, architecture="mnist_rescaled", **changes)
    levels = RESCALED_SPARSITIES if sparsity is None else (sparsity,)
    return [run for run in runs if run.model == "SparseConvNet" and run.sparsity in levels]


def other_splits(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> list[Experiment]:
    """``controlled`` SparseConvNet and ConvNet on Caltech-101 under three further splits of its images, one seed by
    default: every run of the tables shares one split, so what these give says nothing beyond its test images."""
    check_choice("dataset", dataset, CALTECH)
    levels = SPLIT_SPARSITIES if sparsity is None else (sparsity,)
    return [
        experiment(dataset, "controlled", model, level, seed, split_seed=split_seed, **changes)
        for seed, split_seed, level, model in itertools.product(seeds_of(seeds, 1), SPLIT_SEEDS, levels, MODELS[:2])
    ]
