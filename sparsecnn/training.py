"""One Experiment in, its history out."""

import contextlib
import ctypes
import functools
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .checkpoints import save_network
from .datasets import REPOSITORY, Images, load, split
from .experiment import CALTECH, Experiment, SettingError, check_choice, check_experiment
from .masks import bernoulli_mask, exact_count_mask
from .models import Network, build
from .results import check_writable

__all__ = ["Feed", "TrainingError", "choose_device", "initial_network", "train"]

# What a seed's random numbers are for; each purpose has a stream of its own.
WEIGHTS, ORDER, TRAIN_MASKS, VALIDATION_MASKS, TEST_MASKS, FIXED_MASKS, DROPOUT = range(7)
EVALUATION_BATCHES = {28: 500, 224: 128}  # by width; as many images as memory holds well
DEVICES = ("auto", "cpu", "cuda")
Progress = Callable[[int, float, float], None]


class TrainingError(RuntimeError):
    """Training that could not go on. Notebooks show its one line instead of a traceback."""

    _render_traceback_ = SettingError._render_traceback_


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes CUDA where there is one."""
    check_choice("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError("device='cuda' is not allowed: PyTorch finds no CUDA device here, 'cpu' or 'auto' works")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def train(
    experiment: Experiment,
    device: str = "auto",
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
) -> pd.DataFrame:
    """Trains and tests one network.

    The rows are a function of the Experiment and the kind of device alone. On the CPU a run takes one thread, since
    sums come out a little differently with another number; a sweep trains several side by side.

    Args:
        device: "auto", "cpu" or "cuda".
        progress: called after each epoch with its number, its training loss and its training accuracy in percent.
        checkpoint: a file to keep the trained network in, as it is after the last epoch; None = it is not kept.

    Returns:
        One row an epoch, the columns of :mod:`sparsecnn.results`.

    Raises:
        SettingError, DataError, ResultsError: before training, where a setting, the data set or the checkpoint's place
            is not right.
        TrainingError: where memory does not suffice.
    """
    check_experiment(experiment)
    where = choose_device(device)
    if checkpoint is not None:
        check_writable(Path(checkpoint).parent)
    _keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            start = time.perf_counter()
            data = load(experiment.dataset)
            with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
                torch.manual_seed(_seed(experiment, DROPOUT))
                history, network = _train(experiment, data, where, progress)
            seconds = time.perf_counter() - start
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
        if not short:
            raise
        raise TrainingError(
            f"out of memory on {where.type} in {experiment}: a smaller batch_size or fewer runs at once need less; "
            "what is stored stays as it was"
        ) from None
    finally:
        torch.set_num_threads(threads)
    if checkpoint is not None:
        save_network(checkpoint, experiment, network)
    return pd.DataFrame(
        [
            asdict(experiment)
            | measured
            | {
                "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu, 1 thread",
                "torch": version("torch"),
                "precision": "float32",
                "seconds": round(seconds, 1),
                "commit": _commit(),
            }
            for measured in history
        ]
    )


def initial_network(experiment: Experiment) -> Network:
    """The network as the run starts with it, on the CPU."""
    check_experiment(experiment)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(experiment, WEIGHTS))
        return build(experiment.model, experiment.architecture)


def _train(
    experiment: Experiment, data: Images, device: torch.device, progress: Progress | None
) -> tuple[list[dict], Network]:
    train, validation, test = split(data, experiment.validation, experiment.split)
    train = train[: experiment.train_images or None]
    network = initial_network(experiment).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(
        network.parameters(), lr=experiment.learning_rate, weight_decay=experiment.weight_decay, fused=True
    )
    order, masks = _generator(experiment, ORDER), _generator(experiment, TRAIN_MASKS)
    feed = (FixedMaskFeed if experiment.dataset in CALTECH else Feed)(data, experiment, device)

    history = []
    for epoch in range(1, experiment.epochs + 1):
        network.train()
        shuffled = train[torch.randperm(len(train), generator=order)]
        loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        for image, mask, label in feed.ahead(shuffled.split(experiment.batch_size), masks):
            scores = network(image, mask)
            loss = F.cross_entropy(scores, label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss_sum += loss.detach() * len(label)
            correct += (scores.argmax(1) == label).sum()
        validation_masks, test_masks = (_generator(experiment, use, epoch) for use in (VALIDATION_MASKS, TEST_MASKS))
        measured = {
            "epoch": epoch,
            "train_loss": round(float(loss_sum) / len(train), 6),
            "train_accuracy": round(100 * float(correct) / len(train), 4),
            "validation_accuracy": _accuracy(network, feed, validation, validation_masks),
            "test_accuracy": _accuracy(network, feed, test, test_masks),
        }
        history.append(measured)
        if progress:
            progress(epoch, measured["train_loss"], measured["train_accuracy"])
    return history, network


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
        count, size = len(data.images), data.images.shape[2:]
        generator = _generator(experiment, FIXED_MASKS)
        self.masks = torch.empty(count, 1, *size, dtype=torch.bool, device=device)
        for chosen in torch.arange(count).split(256):
            self.masks[chosen] = bernoulli_mask(len(chosen), *size, experiment.sparsity, generator).to(device)
        self.device, self.width = device, data.images.shape[3]

    def __call__(self, chosen: Tensor, _: Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen = chosen.to(self.device)
        mask = self.masks[chosen]
        image = (self.images[chosen].float().div_(255).sub_(self.mean).div_(self.std)).mul_(mask)
        return image.contiguous(memory_format=torch.channels_last), mask, self.labels[chosen]


@torch.no_grad()
def _accuracy(network: torch.nn.Module, feed: Feed, images: Tensor, masks: Generator) -> float:
    """In percent; NaN for no images."""
    if not len(images):
        return float("nan")
    network.eval()
    correct = torch.zeros((), device=feed.device)
    for image, mask, label in feed.ahead(images.split(EVALUATION_BATCHES[feed.width]), masks):
        correct += (network(image, mask).argmax(1) == label).sum()
    return round(100 * float(correct) / len(images), 4)


def _seed(experiment: Experiment, *stream: int) -> int:
    """Of one stream of random numbers; the same for every model, so that networks are compared on the same masks."""
    state = np.random.SeedSequence((experiment.seed, *stream)).generate_state(1, np.uint64)
    return int(state[0] >> 1)


def _generator(experiment: Experiment, *stream: int) -> Generator:
    return torch.Generator().manual_seed(_seed(experiment, *stream))


@functools.cache
def _keep_freed_memory() -> None:
    """Has glibc keep what is freed, instead of fetching every feature map from the kernel anew, page by page: a step on
    the CPU takes half the time. Elsewhere it does nothing."""
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)


@functools.cache
def _commit() -> str:
    """The last commit of the package's code, with a + where it was changed since; empty outside a git checkout."""
    git = ["git", "-C", str(REPOSITORY)]
    try:
        commit, changed = (
            subprocess.run([*git, *command, "--", "sparsecnn"], capture_output=True, text=True, check=True).stdout
            for command in (("log", "-1", "--format=%h"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.strip() + ("+" if changed else "")
