"""A data set's images to what a network takes: batches with pixels missing, on its device, and their random numbers."""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Generator, Tensor

from ..data import inpainting
from ..data.images import Images
from ..data.masks import bernoulli_mask, exact_count_mask, exact_count_masks, pack, seed_from, unpack
from ..experiment import MNIST, Experiment, family_of, levels_of

__all__ = [
    "Batches",
    "EnsembleBatches",
    "FixedMaskBatches",
    "Scheme",
    "draw_packed",
    "generator_of",
    "on_device",
    "random_scheme",
    "seed_of",
]

PART = 256  # images whose fixed masks come from one generator
# What a seed's random numbers are for; each purpose has a stream of its own.
WEIGHTS, ORDER, TRAIN_MASKS, VALIDATION_MASKS, TEST_MASKS, FIXED_MASKS, DROPOUT = range(7)
CONDITION_MASKS, MIXED_MASKS, ADAPTATION_MASKS = range(7, 10)

# Masks of a given count, height and width by a generator.
Scheme = Callable[[int, int, int, Generator], Tensor]


def seed_of(experiment: Experiment, *stream: int) -> int:
    """Of one stream of random numbers; the same for every model, so that networks are compared on the same masks."""
    return seed_from(experiment.seed, *stream)


def generator_of(experiment: Experiment, *stream: int) -> Generator:
    return torch.Generator().manual_seed(seed_of(experiment, *stream))


def random_scheme(dataset: str, sparsity: float | Tensor) -> Scheme:
    """The report's masks: an exact number of missing pixels on MNIST, each missing by chance elsewhere. A tensor
    holds a sparsity for each mask."""
    draw = exact_count_mask if dataset in MNIST else bernoulli_mask
    return lambda count, height, width, generator: draw(count, height, width, sparsity, generator)


def mixed_scheme(dataset: str) -> Scheme:
    """As :func:`random_scheme`, each mask at one of the data set's levels, drawn with equal chances."""
    levels = torch.tensor(levels_of(dataset), dtype=torch.float64)

    def scheme(count: int, height: int, width: int, generator: Generator) -> Tensor:
        sparsity = levels[torch.randint(len(levels), (count,), generator=generator)]
        return random_scheme(dataset, sparsity)(count, height, width, generator)

    return scheme


def draw_packed(
    scheme: Scheme, count: int, size: tuple[int, int], generator_of_part: Callable[[int], Generator]
) -> Tensor:
    """``count`` masks as masks.pack has them, drawn side by side in parts of 256 that have a generator each."""
    height, width = size
    # A bit a pixel, or those of Caltech-101 would take as much memory as a third of its images.
    masks = torch.empty(count, 1, height, -(-width // 8), dtype=torch.uint8)

    def draw(part: int) -> None:
        here = masks[PART * part : PART * (part + 1)]
        here.copy_(pack(scheme(len(here), height, width, generator_of_part(part))))

    with ThreadPoolExecutor() as threads:
        list(threads.map(draw, range(-(-count // PART))))
    return masks


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` there; on its way to CUDA from pinned memory, so that the host need not wait for the device."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _normalised(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Of pixels from 0 to 255."""
    return pixels.float().div_(255).sub_(mean).div_(std)


def _around(pixels: Tensor, mask: Tensor, fill: str) -> Tensor:
    """Pixels, uint8, whose missing ones are filled from those around, on their device."""
    filled = inpainting.METHODS[fill](pixels.cpu().numpy(), mask.cpu().numpy())
    return torch.from_numpy(filled).to(pixels.device)


@functools.lru_cache(maxsize=1)  # all runs of a process share it
def _on_black(data: Images, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised images less the value of black, that value, and the labels."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    return (data.images / 255).div_(std).to(device), (-mean / std).to(device), data.labels.to(device)


@functools.lru_cache(maxsize=1)  # likewise
def _inverted(data: Images) -> Images:
    """Black for white."""
    mean = tuple(1 - value for value in data.mean)
    return replace(data, images=255 - data.images, mean=mean)


@functools.lru_cache(maxsize=1)  # likewise: over a gigabyte, on its way to a GPU
def _as_they_are(data: Images, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    return data.images.to(device), data.labels.to(device)


@functools.lru_cache(maxsize=2)  # of the networks of one seed and sparsity; one that is trained at every one has two
def _fixed_masks(
    dataset: str, sparsity: float | str, seed: int, count: int, size: tuple[int, int], device: torch.device
) -> Tensor:
    """A mask for each image, as masks.pack has it; at a sparsity, or at "every sparsity"."""
    mixed = sparsity == "every sparsity"
    scheme, stream = (mixed_scheme(dataset), MIXED_MASKS) if mixed else (random_scheme(dataset, sparsity), FIXED_MASKS)

    def generator_of_part(part: int) -> Generator:
        return torch.Generator().manual_seed(seed_from(seed, stream, part))

    return draw_packed(scheme, count, size, generator_of_part).to(device)


class Batches:
    """Images, masks and labels for a network: the whole data set on the device, its pixels dropped anew at each read.

    The report sets dropped pixels to 0 before it normalises, so they take the value of black.
    """

    def __init__(self, data: Images, experiment: Experiment, device: torch.device):
        if experiment.images == "inverted":
            data = _inverted(data)
        self.hold(data, device)
        self.data, self.fill = data, experiment.fill
        self.mean, self.std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (data.mean, data.std))
        self.brightness_is_mask = experiment.mask == "brighter than the mean"
        self.device, self.size = device, tuple(data.images.shape[2:])
        own = random_scheme(experiment.dataset, experiment.sparsity)
        mixed = experiment.trained_at == "every sparsity"
        self.schemes = {"own": own, "training": mixed_scheme(experiment.dataset) if mixed else own}

    def hold(self, data: Images, device: torch.device) -> None:
        """Has the data set there."""
        self.above_black, self.black, self.labels = _on_black(data, device)

    def __call__(self, chosen: Tensor, masks: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images at the experiment's own sparsity, as :meth:`masked` gives them."""
        return self.masked(chosen, self.draw("own", masks, chosen))

    def draw(self, use: str, masks: Generator, chosen: Tensor) -> Tensor:
        """Masks for these images at the experiment's "own" sparsity, or as its "training" images have them."""
        return self.schemes[use](len(chosen), *self.size, masks)

    def masked(self, chosen: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images, what the network is told is observed, and labels; N x C x H x W, N x 1 x H x W, N."""
        chosen, mask = (on_device(tensor, self.device) for tensor in (chosen, mask))
        if self.fill in inpainting.METHODS:
            pixels = _around(self.data.images[chosen.cpu()].to(self.device), mask, self.fill)
            image = _normalised(pixels, self.mean, self.std)
        else:
            image = self.above_black[chosen] * mask + self.black
            if self.fill not in ("own", "black"):
                image += (self.constant() - self.black) * ~mask
        return image, image > 0 if self.brightness_is_mask else mask, self.labels[chosen]

    def constant(self) -> Tensor:
        """What stands in every missing pixel where the fill is one colour, normalised."""
        colours = {"black": torch.zeros_like(self.mean), "grey": torch.full_like(self.mean, 0.5), "mean": self.mean}
        return (colours[self.fill] - self.mean) / self.std


class FixedMaskBatches(Batches):
    """As :class:`Batches`, with one mask an image for the whole run, drawn pixel by pixel: the report on Caltech-101.

    The report normalises before it sets dropped pixels to 0, so they take the mean colour.
    """

    def __init__(self, data: Images, experiment: Experiment, device: torch.device):
        super().__init__(data, experiment, device)
        self.filled = None
        trained_at = experiment.sparsity if experiment.trained_at == "own sparsity" else experiment.trained_at
        self.fixed = {
            use: _fixed_masks(experiment.dataset, level, experiment.seed, len(data.images), self.size, device)
            for use, level in (("own", experiment.sparsity), ("training", trained_at))
        }

    def hold(self, data: Images, device: torch.device) -> None:
        self.images, self.labels = _as_they_are(data, device)

    def draw(self, use: str, _: Generator, chosen: Tensor) -> Tensor:
        return unpack(self.fixed[use][on_device(chosen, self.device)], self.size[1])

    def masked(self, chosen: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen, mask = (on_device(tensor, self.device) for tensor in (chosen, mask))
        if self.fill in inpainting.METHODS:
            image = _normalised(self._filled(chosen, mask), self.mean, self.std)
        else:
            image = _normalised(self.images[chosen], self.mean, self.std).mul_(mask)
            if self.fill not in ("own", "mean"):
                image += self.constant() * ~mask
        self.data.unload()
        return image.contiguous(memory_format=torch.channels_last), mask, self.labels[chosen]

    def _filled(self, chosen: Tensor, mask: Tensor) -> Tensor:
        """To fill takes longer than a step: what the fixed masks leave is filled once, and kept in whole numbers."""
        if not torch.equal(mask, self.draw("own", None, chosen)):
            return _around(self.images[chosen], mask, self.fill)
        if self.filled is None:
            self.filled, self.known = torch.empty_like(self.images), torch.zeros_like(self.labels, dtype=torch.bool)
        if len(new := chosen[~self.known[chosen]]):
            around = _around(self.images[new], self.draw("own", None, new), self.fill)
            self.filled[new], self.known[new] = around.round_().to(torch.uint8), True
        return self.filled[chosen]


class ScanBatches(Batches):
    """LiDAR scans, whose measured cells are dropped anew at each read; what is asked for is the whole scan.

    A dropped cell is 0, like one without a return.
    """

    def hold(self, data: Images, device: torch.device) -> None:
        self.scans, _ = _as_they_are(data, device)

    def masked(self, chosen: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ranges that are given, where these are, and all that were measured, in metres; each N x 1 x H x W."""
        chosen, mask = (on_device(tensor, self.device) for tensor in (chosen, mask))
        scan = self.scans[chosen]
        given = mask & (scan > 0)
        return scan * given, given, scan


KINDS = {"mnist": Batches, "caltech101": FixedMaskBatches, "kitti_range": ScanBatches}


class EnsembleBatches:
    """Those of runs that train together; every tensor has a leading axis of runs."""

    AT_ONCE = 1024  # images whose masks are drawn in one go, where there are many runs to draw for

    def __init__(self, data: Images, experiments: list[Experiment], device: torch.device):
        kind = KINDS[family_of(experiments[0].dataset)]
        self.of_runs = [kind(data, experiment, device) for experiment in experiments]
        self.size, self.device = self.of_runs[0].size, device
        self.sparsities, self.of_seed = [run.sparsity for run in experiments], defaultdict(list)
        for place, run in enumerate(experiments):
            self.of_seed[run.seed].append(place)

    def draw(self, use: str, masks: list[Generator], chosen: Tensor) -> Tensor:
        """Each run's masks for images of its own, chosen R x N, from a generator of its own. Those of a seed's runs are
        in one state: of several runs, masks are drawn once a seed."""
        if len(self.of_runs) == 1:
            return self.of_runs[0].draw(use, masks[0], chosen[0]).unsqueeze(0)
        drawn = torch.empty(*chosen.shape, 1, *self.size, dtype=torch.bool)

        def draw(places: list[int]) -> None:
            first, *others = (masks[place] for place in places)
            levels = [self.sparsities[place] for place in places]
            drawn[places] = exact_count_masks(chosen.shape[1], *self.size, levels, first)
            for other in others:
                other.set_state(first.get_state())

        with ThreadPoolExecutor() as threads:
            list(threads.map(draw, self.of_seed.values()))
        return drawn

    def masked(self, chosen: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`Batches.masked`."""
        if len(self.of_runs) > 1:
            return self.of_runs[0].masked(chosen, mask)
        return tuple(tensor.unsqueeze(0) for tensor in self.of_runs[0].masked(chosen[0], mask[0]))

    def ahead(
        self, batches: Sequence[Tensor], masks: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Each batch in turn under the masks that ``masks`` gives for it; the next ones are made ready by a thread
        while the network works on this one."""

        def make_ready(chosen: list[Tensor]) -> list[tuple[Tensor, ...]]:
            drawn = on_device(masks(torch.cat(chosen, dim=1)), self.device)
            drawn = drawn.split([batch.shape[1] for batch in chosen], dim=1)
            return [self.masked(*batch) for batch in zip(chosen, drawn, strict=True)]

        at_once = 1
        if len(self.of_runs) > 1 and len(batches):
            at_once = max(1, self.AT_ONCE // batches[0].shape[1])
        with ThreadPoolExecutor(1) as thread:
            ready = None
            for i in range(0, len(batches), at_once):
                coming = thread.submit(make_ready, batches[i : i + at_once])
                if ready is not None:
                    yield from ready.result()
                ready = coming
            if ready is not None:
                yield from ready.result()
