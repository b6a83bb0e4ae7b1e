"""What can be done about test images of another sparsity than that of training, with the trained network as it is and
without labels.

    rescaled            the input times (1 - training's sparsity) / (1 - the test's): its sums then have training's size
                        where missing pixels are 0
    reestimated_N       batch norm's statistics anew, from N training images under the test's masks; "reestimated_test":
                        from the test images themselves (adaptive batch norm, Li et al., 2016; Schneider et al.,
                        "Improving robustness against common corruptions by covariate shift adaptation", NeurIPS 2020)
"""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..experiment import Experiment
from .batches import ADAPTATION_MASKS, EnsembleBatches
from .evaluation import Masks, conditions_of, masks_under

__all__ = ["IMAGES", "WAYS", "adapted"]

T = TypeVar("T")
Compute = Callable[[Tensor, Tensor], Tensor]
IMAGES = (1, 32, 460)  # of training, evenly spaced among all
WAYS = ("rescaled", *(f"reestimated_{count}" for count in IMAGES), "reestimated_test")
BATCH = 128  # at most, for statistics


def adapted(
    experiment: Experiment,
    network: nn.Module,
    compute: Compute,
    autocast: torch.autocast,
    measure: Callable[[Masks, Compute], list[T]],
    source: EnsembleBatches,
    train: Tensor,
    test: Tensor,
) -> dict[tuple[str, float], T]:
    """What is measured under each of evaluation.conditions_of after each of WAYS, by (kind_way, sparsity); a network
    without batch norm has no statistics. Masks with structure are met by a rescaled input and from 460 images alone.

    Args:
        measure: gives that of the test images for the network under given masks, with what computes its output.
        train, test: indices of images, ascending.
    """
    found, norms = {}, [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    learnt = {name: value.clone() for name, value in network.state_dict().items()}
    images = {f"reestimated_{count}": _spread(train, count) for count in IMAGES}
    images["reestimated_test"] = test
    for kind, level in conditions_of(experiment.dataset):
        ways = images if kind == "random" else {"reestimated_460": images["reestimated_460"]}
        masks = masks_under([experiment], kind, level, test, source)
        factor = (1 - experiment.sparsity) / (1 - level)
        found[f"{kind}_rescaled", level] = measure(
            masks, lambda image, mask, factor=factor: compute(image * factor, mask)
        )[0]
        for way, of_these in ways.items() if norms else ():
            drawn = masks
            if way != "reestimated_test":
                drawn = masks_under([experiment], kind, level, of_these, source, ADAPTATION_MASKS)
            _reestimate(network, norms, compute, autocast, source, of_these, drawn)
            found[f"{kind}_{way}", level] = measure(masks, compute)[0]
            network.load_state_dict(learnt)
    return found


def _spread(images: Tensor, count: int) -> Tensor:
    """So many of them, evenly spaced; all where they are fewer."""
    count = min(count, len(images))
    return images[torch.arange(count) * len(images) // count]


@torch.no_grad()
def _reestimate(
    network: nn.Module,
    norms: list[nn.BatchNorm2d],
    compute: Compute,
    autocast: torch.autocast,
    source: EnsembleBatches,
    images: Tensor,
    masks: Masks,
) -> None:
    """Running statistics as the mean over batches of about equal size, dropout and all else as in evaluation."""
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    size = math.ceil(len(images) / math.ceil(len(images) / BATCH))
    for image, mask, _ in source.ahead(images.to(source.device).unsqueeze(0).split(size, dim=1), masks):
        with autocast:
            compute(image, mask)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
