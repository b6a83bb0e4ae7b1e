"""Of depth: whether longer training, another start or another loss brings its networks further."""

import itertools

from ..checks import check_choice, check_type
from ..experiment import KITTI, MODELS, SETTINGS, Experiment, experiment, family_of
from .common import seeds_of

__all__ = ["depth_training"]

# Where four of five returns are missing; so many times the epochs of the settings.
DEPTH_SPARSITY, LONGER = 0.8, (2, 4, 8)


def depth_training(
    dataset: str = "kitti_range", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[str, list[Experiment]]:
    """Whether longer training brings depth's networks to what needs none, or another start or loss does: all three
    networks as ``controlled`` has them, and with 2, 4 and 8 times its epochs; SparseConvNet and ConvNet with a start
    that makes up for what the layer divides by, and by the other losses. One seed by default."""
    check_choice("dataset", dataset, KITTI)
    level = DEPTH_SPARSITY if sparsity is None else sparsity
    epochs = changes.pop("epochs", SETTINGS[family_of(dataset), "controlled"]["epochs"])
    check_type("epochs", epochs, int)
    ways = {"as it is": (MODELS, {})}
    ways |= {f"{times} times the epochs": (MODELS, {"epochs": times * epochs}) for times in LONGER}
    ways |= {"rescaled start": (MODELS[:2], {"architecture": "range_image_rescaled"})}
    ways |= {loss: (MODELS[:2], {"loss": loss}) for loss in ("squared error", "absolute error of inverse depth")}
    base = {"epochs": epochs}
    return {
        way: [
            experiment(dataset, "controlled", model, level, seed, **base | change | changes)
            for seed, model in itertools.product(seeds_of(seeds, 1), models)
        ]
        for way, (models, change) in ways.items()
    }
