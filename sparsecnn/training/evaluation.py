"""How many images a network classifies correctly: at its own sparsity, at others, under masks with structure.

Tensors have a leading axis of runs, those that train together.
"""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from ..data.masks import row_mask, seed_from, square_mask, unpack
from ..experiment import Experiment, levels_of
from .batches import CONDITION_MASKS, EnsembleBatches, draw_packed, on_device, random_scheme

__all__ = ["CONDITIONS", "conditions_of", "correct_by_class", "transfer"]

Masks = Callable[[Tensor], Tensor]  # for images of these indices, R x N
BATCHES = {28: 500, 224: 128}  # by width; as many images as memory holds well
# Test masks: the data set's own scheme at every level, a missing square, and missing rows, at two levels each.
CONDITIONS = ("random", "square", "rows")
STRUCTURED = (0.3, 0.5)


@torch.no_grad()
def correct_by_class(
    compute: Callable[[Tensor, Tensor], Tensor],
    autocast: torch.autocast,
    source: EnsembleBatches,
    images: Tensor,
    masks: Masks,
    classes: int,
) -> list[list[int]]:
    """How many of the images each run's network classifies correctly, a number a class."""
    size, runs = max(1, min(BATCHES[source.size[1]], len(images))), len(source.of_runs)
    # Every batch is whole, so that a compiled network meets one shape.
    filled_up = on_device(torch.cat([images, images[:1].expand(-len(images) % size)]), source.device)
    correct, left = torch.zeros(runs, classes, dtype=torch.long, device=source.device), len(images)
    batches = filled_up.expand(runs, -1).split(size, dim=1) if len(images) else ()
    for image, mask, label in source.ahead(batches, masks):
        with autocast:
            scores = compute(image, mask)
        hits = scores.argmax(2) == label
        correct.scatter_add_(1, label[:, :left], hits[:, :left].long())
        left -= size
    return correct.tolist()


def conditions_of(dataset: str) -> Iterator[tuple[str, float]]:
    """Kinds of test masks and their sparsities."""
    yield from (("random", level) for level in levels_of(dataset))
    yield from ((kind, level) for kind in CONDITIONS[1:] for level in STRUCTURED)


def transfer(
    experiments: list[Experiment], count: Callable[[Masks], list[int]], test: Tensor, source: EnsembleBatches
) -> list[dict[tuple[str, float], int]]:
    """Correctly classified test images of each run under each of :func:`conditions_of` but the experiment's own.

    Args:
        count: gives those numbers for the networks under given masks.
        test: the test images' indices, ascending.
    """
    found, place = [{} for _ in experiments], test.to(source.device)
    dataset = experiments[0].dataset
    which = torch.arange(len(experiments), device=source.device).unsqueeze(1)
    for kind, level in conditions_of(dataset):
        others = [(kind, level) != ("random", run.sparsity) for run in experiments]
        if any(others):
            of_runs = [_masks(dataset, run.seed, kind, level, len(test), source.size) for run in experiments]
            packed = torch.stack(of_runs).to(source.device)

            def masks(chosen: Tensor, packed: Tensor = packed) -> Tensor:
                return unpack(packed[which, torch.searchsorted(place, chosen)], source.size[1])

            for of_run, other, correct in zip(found, others, count(masks), strict=True):
                if other:
                    of_run[kind, level] = correct
    return found


@functools.lru_cache(maxsize=32)  # all runs of a seed share them
def _masks(dataset: str, seed: int, kind: str, level: float, count: int, size: tuple[int, int]) -> Tensor:
    def structured(count: int, height: int, width: int, generator: Generator) -> Tensor:
        return {"square": square_mask, "rows": row_mask}[kind](count, height, width, level, generator)

    def generator_of_part(part: int) -> Generator:
        numbers = (CONDITION_MASKS, CONDITIONS.index(kind), round(1000 * level), part)
        return Generator().manual_seed(seed_from(seed, *numbers))

    scheme = random_scheme(dataset, level) if kind == "random" else structured
    return draw_packed(scheme, count, size, generator_of_part)
