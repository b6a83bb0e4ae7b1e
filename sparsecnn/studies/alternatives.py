"""What else can be done about missing pixels."""

import itertools

from ..checks import check_choice
from ..experiment import ADAPTED, ALTERNATIVES, CALTECH, MNIST, MODELS, SPARSITIES, Experiment, experiment, family_of
from .common import seeds_of
from .matrices import MIXED_TEST_SPARSITY

__all__ = ["adaptations", "alternatives"]

ALTERNATIVE_SPARSITIES = {"mnist": SPARSITIES, "caltech101": (0.05, 0.3, 0.7)}
# Of MNIST, where a missing pixel is black: normalised, the mean is 0.
ZERO = {"fill": "mean"}


def alternatives(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[str, list[Experiment]]:
    """What can be done about missing pixels, by the name of the way: the three networks as ``controlled`` has them,
    other networks, ConvNet on images whose gaps are filled, on MNIST inverted images, and the three networks trained on
    every sparsity at once (not where one is asked for). All are tested at every sparsity.

    Of Caltech-101 at three sparsities. ``seeds`` is the number of seeds, three by default.
    """
    check_choice("dataset", dataset, MNIST + CALTECH)
    of_mnist = dataset in MNIST
    ways = {model: (model, {}) for model in MODELS + ALTERNATIVES}
    fills = ["mean" if of_mnist else "black", "grey", "nearest", "blur"]
    if of_mnist:
        ways[ALTERNATIVES[0]] = (ALTERNATIVES[0], ZERO)
        fills.append("inpainting")
        ways |= {f"{model}, inverted": (model, {"images": "inverted"}) for model in MODELS}
    ways |= {f"ConvNet, {fill} filled": ("ConvNet", {"fill": fill}) for fill in fills}
    every = {"tested_at": "every sparsity"}
    found = {
        way: _runs(dataset, model, sparsity, seeds, every | settings | changes)
        for way, (model, settings) in ways.items()
    }
    if sparsity is None:
        mixed = every | {"trained_at": "every sparsity"} | changes
        found |= {
            f"{model}, trained on every sparsity": _runs(dataset, model, MIXED_TEST_SPARSITY, seeds, mixed)
            for model in MODELS
        }
    return found


def adaptations(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[str, list[Experiment]]:
    """Those of :func:`alternatives` that can be adapted to the test's sparsity, tested so too: networks with batch norm
    and those whose missing pixels are 0."""
    check_choice("dataset", dataset, MNIST + CALTECH)
    ways = {"ConvNet, mean filled": ("ConvNet", ZERO)} if dataset in MNIST else {model: (model, {}) for model in MODELS}
    adapted = {"tested_at": ADAPTED}
    return {
        way: _runs(dataset, model, sparsity, seeds, adapted | settings | changes)
        for way, (model, settings) in ways.items()
    }


def _runs(dataset: str, model: str, sparsity: float | None, seeds: int | None, settings: dict) -> list[Experiment]:
    levels = ALTERNATIVE_SPARSITIES[family_of(dataset)] if sparsity is None else (sparsity,)
    return [
        experiment(dataset, "controlled", model, level, seed, **settings)
        for seed, level in itertools.product(seeds_of(seeds), levels)
    ]
