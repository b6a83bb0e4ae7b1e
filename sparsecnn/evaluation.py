"""How many images a network classifies correctly: at its own sparsity, at others, under masks with structure."""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from .experiment import Experiment, levels_of
from .feeds import CONDITION_MASKS, Feed, draw_packed, on_device, random_scheme
from .masks import row_mask, seed_from, square_mask, unpack

__all__ = ["CONDITIONS", "conditions_of", "correct_by_class", "transfer"]

Masks = Callable[[Tensor], Tensor]  # for images of these indices
BATCHES = {28: 500, 224: 128}  # by width; as many images as memory holds well
# Test masks: the data set's own scheme at every level, a missing square, and missing rows, at two levels each.
CONDITIONS = ("random", "square", "rows")
STRUCTURED = (0.3, 0.5)


@torch.no_grad()
def correct_by_class(
    network: torch.nn.Module,
    autocast: torch.autocast,
    feed: Feed,
    images: Tensor,
    masks: Masks,
    classes: int,
) -> list[int]:
    """How many of the images are classified correctly, a number a class."""
    network.eval()
    size = max(1, min(BATCHES[feed.size[1]], len(images)))
    # Every batch is whole, so that a compiled network meets one shape.
    filled_up = on_device(torch.cat([images, images[:1].expand(-len(images) % size)]), feed.device)
    correct, left = torch.zeros(classes, dtype=torch.long, device=feed.device), len(images)
    for image, mask, label in feed.ahead(filled_up.split(size) if len(images) else (), masks):
        with autocast:
            scores = network(image, mask)
        hits = scores.argmax(1) == label
        correct.scatter_add_(0, label[:left], hits[:left].long())
        left -= size
    return correct.tolist()


def conditions_of(dataset: str) -> Iterator[tuple[str, float]]:
    """Kinds of test masks and their sparsities."""
    yield from (("random", level) for level in levels_of(dataset))
    yield from ((kind, level) for kind in CONDITIONS[1:] for level in STRUCTURED)


def transfer(
    experiment: Experiment, count: Callable[[Masks], int], test: Tensor, feed: Feed
) -> dict[tuple[str, float], int]:
    """Correctly classified test images under each of :func:`conditions_of` but the experiment's own.

    Args:
        count: gives that number for the network under given masks.
        test: the test images' indices, ascending.
        feed: theirs.
    """
    found, place = {}, test.to(feed.device)
    for kind, level in conditions_of(experiment.dataset):
        if (kind, level) != ("random", experiment.sparsity):
            packed = _masks(experiment.dataset, experiment.seed, kind, level, len(test), feed.size).to(feed.device)

            def masks(chosen: Tensor, packed: Tensor = packed) -> Tensor:
                return unpack(packed[torch.searchsorted(place, chosen)], feed.size[1])

            found[kind, level] = count(masks)
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
