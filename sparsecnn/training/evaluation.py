"""What networks are measured by on test images: at their own sparsity, at others, under masks with structure.

Tensors have a leading axis of runs, those that train together.
"""

import functools
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Generator, Tensor

from ..data.masks import ring_mask, row_mask, seed_from, square_mask, unpack
from ..experiment import KITTI, Experiment, levels_of
from .batches import CONDITION_MASKS, EnsembleBatches, draw_packed, on_device, random_scheme

__all__ = ["CONDITIONS", "conditions_of", "masks_of_test", "masks_under", "tallies", "transfer"]

T = TypeVar("T")
Masks = Callable[[Tensor], Tensor]  # for images of these indices, R x N
BATCHES = {28: 500, 224: 128, 256: 16, 1024: 4}  # by width; as many images as memory holds well
# Test masks: the data set's own scheme at every level; of images a missing square, and missing rows, at two levels
# each; of LiDAR scans the rings of sensors with half, a quarter and an eighth as many.
CONDITIONS = ("random", "square", "rows", "rings")
STRUCTURED = {"square": (0.3, 0.5), "rows": (0.3, 0.5)}
RINGS = {"rings": (0.5, 0.75, 0.875)}


@torch.no_grad()
def tallies(
    compute: Callable[[Tensor, Tensor], Tensor],
    autocast: torch.autocast,
    source: EnsembleBatches,
    images: Tensor,
    masks: Masks,
    tally: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> list[list[float]]:
    """The sum over these images of what an objective (see objectives) tallies of each run's network."""
    size, runs = max(1, min(BATCHES[source.size[1]], len(images))), len(source.of_runs)
    # Every batch is whole, so that a compiled network meets one shape.
    filled_up = on_device(torch.cat([images, images[:1].expand(-len(images) % size)]), source.device)
    parts, left = [], len(images)
    batches = filled_up.expand(runs, -1).split(size, dim=1) if len(images) else ()
    for image, mask, label in source.ahead(batches, masks):
        with autocast:
            output = compute(image, mask)
        parts.append(tally(output, label, mask)[:, :left].sum(dim=1))
        left -= size
    return torch.stack(parts).sum(dim=0).tolist() if parts else [[] for _ in source.of_runs]


def conditions_of(dataset: str) -> Iterator[tuple[str, float]]:
    """Kinds of test masks and their sparsities."""
    yield from (("random", level) for level in levels_of(dataset))
    structured = RINGS if dataset in KITTI else STRUCTURED
    yield from ((kind, level) for kind, levels in structured.items() for level in levels)


def transfer(
    experiments: list[Experiment], measure: Callable[[Masks], list[T]], test: Tensor, source: EnsembleBatches
) -> list[dict[tuple[str, float], T]]:
    """What is measured of each run on the test images under each of :func:`conditions_of` but the experiment's own.

    Args:
        measure: gives that for the networks under given masks.
        test: the test images' indices, ascending.
    """
    found, dataset = [{} for _ in experiments], experiments[0].dataset
    for kind, level in conditions_of(dataset):
        others = [(kind, level) != ("random", run.sparsity) for run in experiments]
        if any(others):
            measured = measure(masks_under(experiments, kind, level, test, source))
            for of_run, other, of_test in zip(found, others, measured, strict=True):
                if other:
                    of_run[kind, level] = of_test
    return found


def masks_under(
    experiments: list[Experiment],
    kind: str,
    level: float,
    images: Tensor,
    source: EnsembleBatches,
    stream: int = CONDITION_MASKS,
) -> Masks:
    """One of :func:`conditions_of`'s masks for each of these images (indices, ascending), by each run's seed."""
    place, which = images.to(source.device), torch.arange(len(experiments), device=source.device).unsqueeze(1)
    dataset, count = experiments[0].dataset, len(images)
    of_runs = [masks_of_test(dataset, run.seed, kind, level, count, source.size, stream) for run in experiments]
    packed = torch.stack(of_runs).to(source.device)
    return lambda chosen: unpack(packed[which, torch.searchsorted(place, chosen)], source.size[1])


@functools.lru_cache(maxsize=32)  # all runs of a seed share them
def masks_of_test(
    dataset: str, seed: int, kind: str, level: float, count: int, size: tuple[int, int], stream: int = CONDITION_MASKS
) -> Tensor:
    """Masks for so many test images under one of :func:`conditions_of`, as masks.pack has them; by the seed alone."""

    def structured(count: int, height: int, width: int, generator: Generator) -> Tensor:
        if kind == "rings":
            return ring_mask(count, height, width, round((1 - level) * height))
        return {"square": square_mask, "rows": row_mask}[kind](count, height, width, level, generator)

    def generator_of_part(part: int) -> Generator:
        numbers = (stream, CONDITIONS.index(kind), round(1000 * level), part)
        return Generator().manual_seed(seed_from(seed, *numbers))

    scheme = random_scheme(dataset, level) if kind == "random" else structured
    return draw_packed(scheme, count, size, generator_of_part)
