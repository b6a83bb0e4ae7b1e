"""A data set's images to what a network takes: batches with pixels missing, on its device, and their random numbers."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Generator, Tensor

from .datasets import Images
from .experiment import CALTECH, Experiment
from .masks import bernoulli_mask, exact_count_mask, pack, seed_from, unpack

__all__ = ["Feed", "FixedMaskFeed", "feed_of", "generator_of", "seed_of"]

PART = 256  # images whose fixed masks come from one generator
# What a seed's random numbers are for; each purpose has a stream of its own.
WEIGHTS, ORDER, TRAIN_MASKS, VALIDATION_MASKS, TEST_MASKS, FIXED_MASKS, DROPOUT = range(7)


def seed_of(experiment: Experiment, *stream: int) -> int:
    """Of one stream of random numbers; the same for every model, so that networks are compared on the same masks."""
    return seed_from(experiment.seed, *stream)


def generator_of(experiment: Experiment, *stream: int) -> Generator:
    return torch.Generator().manual_seed(seed_of(experiment, *stream))


def feed_of(experiment: Experiment, data: Images, device: torch.device) -> "Feed":
    """The way in which the report feeds that data set."""
    return (FixedMaskFeed if experiment.dataset in CALTECH else Feed)(data, experiment, device)


class Feed:
    """Images, masks and labels for a network: the whole data set on the device, its pixels dropped anew at each read.

    The report sets dropped pixels to 0 before it normalises, so they take the value of black.
    """

    def __init__(self, data: Images, experiment: Experiment, device: torch.device):
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
        self.above_black = (data.images / 255 / std).to(device)  # normalised values less that of black
        self.black = (-mean / std).to(device)
        self.labels = data.labels.to(device)
        self.sparsity = experiment.sparsity
        self.brightness_is_mask = experiment.mask == "brighter than the mean"
        self.device, self.width = device, data.images.shape[3]

    def __call__(self, chosen: Tensor, masks: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images, what the network is told is observed, and labels; N x C x H x W, N x 1 x H x W, N."""
        mask = exact_count_mask(len(chosen), *self.above_black.shape[2:], self.sparsity, masks).to(self.device)
        chosen = chosen.to(self.device)
        image = self.above_black[chosen] * mask + self.black
        return image, image > 0 if self.brightness_is_mask else mask, self.labels[chosen]

    def ahead(self, batches: Iterable[Tensor], masks: Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Each batch in turn; the next is made ready by a thread while the network works on this one."""
        with ThreadPoolExecutor(1) as thread:
            ready = None
            for chosen in batches:
                coming = thread.submit(self, chosen, masks)
                if ready is not None:
                    yield ready.result()
                ready = coming
            if ready is not None:
                yield ready.result()


class FixedMaskFeed(Feed):
    """As :class:`Feed`, with one mask an image for the whole run, drawn pixel by pixel: the report on Caltech-101.

    The report normalises before it sets dropped pixels to 0, so they take the mean colour.
    """

    def __init__(self, data: Images, experiment: Experiment, device: torch.device):
        self.mean, self.std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (data.mean, data.std))
        self.images, self.labels = data.images.to(device), data.labels.to(device)
        count, (height, width) = len(data.images), data.images.shape[2:]
        # A bit a pixel, or they would take as much memory as a third of the images.
        self.masks = torch.empty(count, 1, height, -(-width // 8), dtype=torch.uint8, device=device)

        def draw(part: int) -> None:
            here = self.masks[PART * part : PART * (part + 1)]
            generator = generator_of(experiment, FIXED_MASKS, part)
            here.copy_(pack(bernoulli_mask(len(here), height, width, experiment.sparsity, generator)))

        with ThreadPoolExecutor() as threads:
            list(threads.map(draw, range(-(-count // PART))))
        self.device, self.width = device, width

    def __call__(self, chosen: Tensor, _: Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen = chosen.to(self.device)
        mask = unpack(self.masks[chosen], self.width)
        image = (self.images[chosen].float().div_(255).sub_(self.mean).div_(self.std)).mul_(mask)
        return image.contiguous(memory_format=torch.channels_last), mask, self.labels[chosen]
