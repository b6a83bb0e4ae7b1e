"""One Experiment in, its history out."""

import contextlib
import copy
import ctypes
import functools
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from .checkpoints import save_network
from .datasets import REPOSITORY, Images, load, split
from .evaluation import Masks, correct_by_class, transfer
from .experiment import CALTECH, Experiment, SettingError, check_choice, check_experiment, selection
from .feeds import (
    DROPOUT,
    ORDER,
    TEST_MASKS,
    TRAIN_MASKS,
    VALIDATION_MASKS,
    WEIGHTS,
    feed_of,
    generator_of,
    seed_of,
)
from .models import Network, build
from .results import COLUMNS, check_writable
from .resuming import Sitting

__all__ = ["TrainingError", "choose_device", "initial_network", "train"]

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bf16")
Progress = Callable[[int, float, float], None]
TOLD = ("epoch", "train_loss", "train_accuracy")


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
    precision: str = "auto",
    resume: str | Path | None = None,
) -> pd.DataFrame:
    """Trains and tests one network.

    The rows are a function of the Experiment and the kind of device alone. On the CPU a run takes one thread, since
    sums come out a little differently with another number; a sweep trains several side by side.

    Args:
        device: "auto", "cpu" or "cuda".
        progress: called after each epoch with its number, its training loss and its training accuracy in percent;
            at the start also for the last epoch of the state that the run goes on from.
        precision: "float32", "bf16" (autocast), or "auto": bf16 for Caltech-101's networks on CUDA, float32 elsewhere.
        checkpoint: a file to keep the trained network in, as it is after the last epoch; None = it is not kept.
        resume: a file for the run's state between two epochs; None = it is not kept. It is written after an epoch, once
            a minute has passed since it was last, and whenever ``progress`` raises an error. The same call then goes on
            from it, to the same rows bit for bit on the CPU; a state that is damaged, or that another Experiment,
            device, precision, torch or commit made, is not taken up, the run starts anew. The file stays afterwards.

    Returns:
        One row an epoch, the columns of :mod:`sparsecnn.results`; ``seconds`` is the sum over all sittings.

    Raises:
        SettingError, DataError, ResultsError: before training, where a setting, the data set or the place of checkpoint
            or resume is not right; ResultsError also where the state can't be written later.
        TrainingError: where memory does not suffice.
    """
    check_experiment(experiment)
    check_choice("precision", precision, PRECISIONS)
    where = choose_device(device)
    if precision == "auto":
        precision = "bf16" if experiment.dataset in CALTECH and where.type == "cuda" else "float32"
    for file in (checkpoint, resume):
        if file is not None:
            check_writable(Path(file).parent)
    provenance = {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu, 1 thread",
        "torch": version("torch"),
        "precision": precision,
        "commit": _commit(),
    }
    _keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            sitting = Sitting(resume, asdict(experiment) | provenance)
            data = load(experiment.dataset)
            with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
                torch.manual_seed(seed_of(experiment, DROPOUT))
                history, network = _train(experiment, data, where, precision, progress, sitting)
            provenance["seconds"] = round(sitting.seconds, 1)
        _release_freed_memory()
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
    return pd.DataFrame([asdict(experiment) | measured | provenance for measured in history], columns=COLUMNS)


def initial_network(experiment: Experiment) -> Network:
    """The network as the run starts with it, on the CPU."""
    check_experiment(experiment)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(experiment, WEIGHTS))
        return build(experiment.model, experiment.architecture)


def _train(
    experiment: Experiment,
    data: Images,
    device: torch.device,
    precision: str,
    progress: Progress | None,
    sitting: Sitting,
) -> tuple[list[dict], Network]:
    train, validation, test = split(data, experiment.validation, experiment.split)
    if 0 < (few := experiment.train_images) < len(train):
        train = train[torch.arange(few) * len(train) // few]
    if device.type == "cuda" and experiment.dataset in CALTECH:  # where a step is long enough to repay compiling
        network, compute = _compiled(experiment.model, experiment.architecture, device)
        network.load_state_dict(initial_network(experiment).state_dict())
    else:
        network = compute = initial_network(experiment).to(device, memory_format=torch.channels_last)
    optimiser = getattr(torch.optim, experiment.optimiser)(
        network.parameters(), lr=experiment.learning_rate, weight_decay=experiment.weight_decay, fused=True
    )
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    feed = feed_of(experiment, data, device)
    order, holes = generator_of(experiment, ORDER), generator_of(experiment, TRAIN_MASKS)
    training_masks = partial(feed.draw, "training", holes)

    # What training and evaluation leave free in pieces adds up to gigabytes where images are large; else to have it
    # back costs more time than it is worth.
    release = _release_freed_memory if experiment.dataset in CALTECH else lambda: None

    def count(images: Tensor, masks: Masks) -> list[int]:
        release()
        return correct_by_class(compute, autocast, feed, images, masks, len(data.classes))

    history, chosen = [], None
    # Those that outlive an epoch; dropout has torch's own. Masks are drawn ahead of the network, but within an epoch.
    generators = [order, holes, torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])

    def state() -> dict:
        return {
            "history": history,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "generators": [generator.get_state() for generator in generators],
            "chosen": chosen,
        }

    if saved := sitting.take_up():
        history, chosen = saved["history"], saved["chosen"]
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        for generator, reached in zip(generators, saved["generators"], strict=True):
            generator.set_state(reached)
        if progress:
            progress(*(history[-1][name] for name in TOLD))
    for epoch in range(len(history) + 1, experiment.epochs + 1):
        release()
        network.train()
        shuffled = train[torch.randperm(len(train), generator=order)].to(device)
        loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        for image, mask, label in feed.ahead(shuffled.split(experiment.batch_size), training_masks):
            with autocast:
                scores = compute(image, mask)
            loss = F.cross_entropy(scores.float(), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss_sum += loss.detach() * len(label)
            correct += (scores.argmax(1) == label).sum()
        validation_masks = partial(feed.draw, "training", generator_of(experiment, VALIDATION_MASKS, epoch))
        of_test = count(test, partial(feed.draw, "own", generator_of(experiment, TEST_MASKS, epoch)))
        measured = {
            "epoch": epoch,
            "train_loss": round(float(loss_sum) / len(train), 6),
            "train_accuracy": round(100 * float(correct) / len(train), 4),
            "validation_accuracy": _percent(sum(count(validation, validation_masks)), len(validation)),
            "test_accuracy": _percent(sum(of_test), len(test)),
            "test_correct": " ".join(map(str, of_test)),
            "transfer": "",
        }
        history.append(measured)
        if experiment.tested_at == "every sparsity" and _reported_epoch(experiment, history) == epoch:
            chosen = copy.deepcopy(network.state_dict())
        try:
            if progress:
                progress(*(measured[name] for name in TOLD))
        except BaseException:  # whoever ends a run here goes on here
            sitting.save(state())
            raise
        if sitting.is_due():
            sitting.save(state())
    if experiment.tested_at == "every sparsity":
        last = copy.deepcopy(network.state_dict())
        network.load_state_dict(chosen)
        hits = transfer(experiment, lambda masks: sum(count(test, masks)), test, feed)
        network.load_state_dict(last)
        reported = history[_reported_epoch(experiment, history) - 1]
        reported["transfer"] = " ".join(
            f"{kind}:{level:g}={_percent(correct, len(test))}" for (kind, level), correct in hits.items()
        )
    return history, network


@functools.cache
def _compiled(model: str, architecture: str, device: torch.device) -> tuple[Network, torch.nn.Module]:
    """A network of that kind and its compiled form, for every run that this process trains: compiling takes longer than
    a run. For fixed shapes, of which there are three: whole batches and the last in training, batches in evaluation."""
    torch._dynamo.config.recompile_limit = 64  # beyond it, it stops compiling without a word
    network = build(model, architecture).to(device, memory_format=torch.channels_last)
    return network, torch.compile(network, dynamic=False)


def _percent(correct: int, count: int) -> float:
    """NaN for no images."""
    return round(100 * correct / count, 4) if count else float("nan")


def _reported_epoch(experiment: Experiment, history: list[dict]) -> int:
    """The number of the epoch that a run of this history reports; the earliest of equals."""
    rule = selection(experiment.dataset, experiment.protocol)
    if rule == "last":
        return len(history)
    accuracies = [measured[f"{rule}_accuracy"] for measured in history]
    return 1 + accuracies.index(max(accuracies))


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """None elsewhere."""
    with contextlib.suppress(OSError, TypeError):
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def _keep_freed_memory() -> None:
    """Has glibc keep what is freed, instead of fetching every feature map from the kernel anew, page by page: a step on
    the CPU takes two thirds of the time on Caltech-101, half on MNIST."""
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never


def _release_freed_memory() -> None:
    if libc := _glibc():
        libc.malloc_trim(0)


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
