"""What else can be done about missing pixels."""

import itertools

from ..checks import check_choice
from ..experiment import ADAPTED, ALTERNATIVES, CALTECH, MNIST, MODELS, SPARSITIES, Experiment, experiment, family_of
from .common import seeds_of

__all__ = ["alternatives"]

# Telea's method takes ten times as long as all the rest of a run on MNIST.
INPAINTED = (0.3, 0.7, 0.9)
ALTERNATIVE_SPARSITIES = {"mnist": SPARSITIES, "caltech101": (0.05, 0.3, 0.7)}


def alternatives(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[str, list[Experiment]]:
    """What else can be done about missing pixels, by the name of the way: the three networks as ``controlled`` has
    them, other networks, ConvNet on images whose gaps are filled, and on MNIST inverted images. All are tested at every
    sparsity; networks with batch norm, and those whose missing pixels are 0, adapted too.

    Of Caltech-101 at three sparsities. ``seeds`` is the number of seeds, three by default.
    """
    check_choice("dataset", dataset, MNIST + CALTECH)
    of_mnist = dataset in MNIST
    every, adapted = {"tested_at": "every sparsity"}, {"tested_at": ADAPTED}
    zero = {"fill": "mean"} if of_mnist else {}  # normalised, the mean is 0
    ways = {model: (model, every if of_mnist else adapted) for model in MODELS}
    ways |= {model: (model, every | (zero if model == ALTERNATIVES[0] else {})) for model in ALTERNATIVES}
    if of_mnist:
        ways["ConvNet, mean filled"] = ("ConvNet", adapted | zero)
        ways |= {f"{model}, inverted": (model, every | {"images": "inverted"}) for model in MODELS}
    else:
        ways["ConvNet, black filled"] = ("ConvNet", every | {"fill": "black"})
    fills = {"grey": "grey", "nearest": "nearest", "blur": "blur"} | ({"inpainting": "inpainting"} if of_mnist else {})
    ways |= {f"ConvNet, {name} filled": ("ConvNet", every | {"fill": fill}) for name, fill in fills.items()}
    levels = ALTERNATIVE_SPARSITIES[family_of(dataset)] if sparsity is None else (sparsity,)
    return {
        way: [
            experiment(dataset, "controlled", model, level, seed, **settings | changes)
            for seed, level in itertools.product(
                seeds_of(seeds), INPAINTED if settings.get("fill") == "inpainting" and sparsity is None else levels
            )
        ]
        for way, (model, settings) in ways.items()
    }
