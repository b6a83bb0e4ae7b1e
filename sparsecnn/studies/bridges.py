"""From one protocol to another a change at a time, and what parts of a network are worth."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from ..checks import check_choice
from ..experiment import CALTECH, MNIST, MODELS, Experiment, experiment, family_of
from .common import seeds_of

__all__ = ["Step", "ablations", "batch_norms", "bridge", "bridges"]

# MNIST's are those of Table 5, whose runs some steps share. Of Caltech-101 one at which the two rules for passing the
# mask on hardly differ, and one at which they do.
BRIDGE_SPARSITIES = {"mnist": (0.1, 0.9), "caltech101": (0.3, 0.7)}
ABLATION_SPARSITY = 0.3


class Step(NamedTuple):
    """A step of a bridge: the change that leads to it, its runs, and which epoch they report (see tables.selected)."""

    change: str
    runs: list[Experiment]
    rule: str


def bridge(dataset: str, model: str, sparsity: float, seeds: int | None = None, **changes) -> list[Step]:
    """From ``as_run`` to ``controlled``, one change after the other, for SparseConvNet or ConvNet.

    ``changes`` apply to every run of every step. Where two protocols name one setting, a step takes the run that a
    table has.
    """
    check_choice("dataset", dataset, MNIST + CALTECH)
    check_choice("model", model, MODELS[:2])
    steps = (_mnist_bridge if dataset in MNIST else _caltech_bridge)(model)
    return [
        Step(
            change,
            [experiment(dataset, protocol, model, sparsity, seed, **settings | changes) for seed in seeds_of(seeds)],
            rule,
        )
        for change, protocol, settings, rule in steps
    ]


def bridges(
    dataset: str, sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[tuple[float, str], list[Step]]:
    """:func:`bridge` of a data set's levels, or of one, and both models."""
    levels = BRIDGE_SPARSITIES[family_of(dataset)] if sparsity is None else (sparsity,)
    pairs = itertools.product(levels, MODELS[:2])
    return {(level, model): bridge(dataset, model, level, seeds, **changes) for level, model in pairs}


def _mnist_bridge(model: str) -> Iterator[tuple[str, str, dict, str]]:
    yield "as_run", "as_run", {}, "last"
    if model == "SparseConvNet":
        yield "true validity mask", "as_run", {"mask": "validity"}, "last"
    else:
        yield "extra layer out", "as_run", {"architecture": "mnist"}, "last"
    yield "20 to 10 epochs", "as_reported", {}, "last"
    yield "learning rate 5e-3 to 1e-3", "as_reported", {"learning_rate": 1e-3}, "last"
    yield "weight decay 1e-3 to 0", "as_reported", {"learning_rate": 1e-3, "weight_decay": 0.0}, "last"
    yield "5,000 images held out, epoch chosen on them", "controlled", {}, "validation"


def _caltech_bridge(model: str) -> Iterator[tuple[str, str, dict, str]]:
    yield "as_run", "as_run", {}, "test"
    if model == "SparseConvNet":
        yield "mask dilated, then pooled", "as_run", {"architecture": "caltech"}, "test"
    else:
        settings = {}
        for change, setting in (
            ("learning rate 1e-6 to 1e-3", {"learning_rate": 1e-3}),
            ("two convolutions to four", {"architecture": "caltech_shared_batch_norm"}),
            ("a batch norm each", {"architecture": "caltech_no_dropout"}),
            ("dropout", {"architecture": "caltech"}),
            ("batch 32 to 128", {"batch_size": 128}),
        ):
            settings = settings | setting
            yield change, "as_run", settings, "test"
    yield "all classes, stratified split", "controlled", {}, "test"
    yield "epoch chosen on validation images", "controlled", {}, "validation"


def ablations(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[str, list[Experiment]]:
    """Figure 5's network as ``controlled`` trains it, and without batch norm, without dropout, and without dropout but
    with a first linear layer four times as wide."""
    check_choice("dataset", dataset, CALTECH)
    ways = {
        "Figure 5": "caltech",
        "no batch norm": "caltech_no_batch_norm",
        "no dropout": "caltech_no_dropout",
        "no dropout, 2,048 wide": "caltech_no_dropout_wide",
    }
    level = ABLATION_SPARSITY if sparsity is None else sparsity
    return {
        way: [
            experiment(dataset, "controlled", model, level, seed, architecture=architecture, **changes)
            for seed, model in itertools.product(seeds_of(seeds), MODELS[:2])
        ]
        for way, architecture in ways.items()
    }


def batch_norms(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[tuple[int, str], list[Experiment]]:
    """Which of two steps of ConvNet's bridge on Caltech-101 matters: two or four convolutions, by a batch norm that
    they share or one each; by these two. All else is as in the bridge there, three of the four are its steps."""
    check_choice("dataset", dataset, CALTECH)
    ways = {
        (2, "shared"): "caltech_convnet_as_run",
        (2, "each"): "caltech_two_convolutions",
        (4, "shared"): "caltech_shared_batch_norm",
        (4, "each"): "caltech_no_dropout",
    }
    levels = BRIDGE_SPARSITIES["caltech101"] if sparsity is None else (sparsity,)
    settings = {"learning_rate": 1e-3} | changes
    return {
        way: [
            experiment(dataset, "as_run", "ConvNet", level, seed, architecture=architecture, **settings)
            for seed, level in itertools.product(seeds_of(seeds), levels)
        ]
        for way, architecture in ways.items()
    }
