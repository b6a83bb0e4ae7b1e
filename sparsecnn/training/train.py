"""One Experiment in, its history out."""

import functools
import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from ..checks import SettingError, check_choice, check_type
from ..data.datasets import load
from ..data.inpainting import check_installed
from ..experiment import CALTECH, MNIST, Experiment, check_experiment
from ..files import REPOSITORY, check_writable
from ..records import COLUMNS
from .batches import DROPOUT, seed_of
from .checkpoints import save_network
from .devices import (
    choose_device,
    compiles,
    computes_in_bf16,
    exact_float32,
    keep_freed_memory,
    name_of,
    release_freed_memory,
)
from .loop import Told, initial_network, run_epochs
from .resuming import Sitting

__all__ = ["TrainingError", "choose_device", "initial_network", "precision_of", "train", "train_ensemble"]

PRECISIONS = ("auto", "float32", "bf16")
# In the errors of CUDA, cuBLAS and PyTorch's allocator for the CPU.
OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
Progress = Callable[[int, float, float], None]


class TrainingError(RuntimeError):
    """Training that could not go on. Notebooks show its one line instead of a traceback."""

    _render_traceback_ = SettingError._render_traceback_


def train(
    experiment: Experiment,
    device: str = "auto",
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
    precision: str = "auto",
    resume: str | Path | None = None,
    compiled: bool = False,
) -> pd.DataFrame:
    """Trains and tests one network.

    The rows are a function of the Experiment and the kind of device alone. On the CPU a run takes one thread, since
    sums come out a little differently with another number; a sweep trains several side by side.

    Args:
        device: "auto", "cpu" or "cuda".
        progress: called after each epoch with its number, its training loss and the task's first metric in training;
            at the start also for the last epoch of the state that the run goes on from.
        precision: "float32", "bf16" (autocast), or "auto", see :func:`precision_of`.
        checkpoint: a file to keep the trained network in, as it is after the last epoch; None = it is not kept.
        resume: a file for the run's state between two epochs; None = it is not kept. It is written after an epoch, once
            a minute has passed since it was last, and whenever ``progress`` raises an error. The same call then goes on
            from it, to the same rows bit for bit on the CPU; a state that is damaged, or that another Experiment,
            device, precision, torch or commit made, is not taken up, the run starts anew. The file stays afterwards.
        compiled: on CUDA, train a compiled network of Caltech-101's, which pays where one process trains many, see
            training.compiling; ``device`` then says so, since rounding differs. Nowhere else does it do anything.

    Returns:
        One row an epoch, the columns of :mod:`sparsecnn.sweeps.store`; ``seconds`` is the sum over all sittings.

    Raises:
        SettingError, DataError, ResultsError: before training, where a setting, the data set or the place of checkpoint
            or resume is not right; ResultsError also where the state can't be written later.
        TrainingError: where memory does not suffice.
    """
    check_experiment(experiment)
    check_choice("precision", precision, PRECISIONS)
    check_type("compiled", compiled, bool)
    where = choose_device(device)
    if precision == "auto":
        precision = precision_of(experiment, where)
    for file in (checkpoint, resume):
        if file is not None:
            check_writable(Path(file).parent)
    told = (lambda _, *measured: progress(*measured)) if progress else None
    (rows,), network = _train([experiment], where, precision, told, resume, compiled)
    if checkpoint is not None:
        save_network(checkpoint, experiment, network)
    return rows


def train_ensemble(
    experiments: list[Experiment],
    device: str = "auto",
    progress: Told | None = None,
    resume: str | Path | None = None,
) -> list[pd.DataFrame]:
    """Trains and tests networks that take every step together, see :mod:`sparsecnn.training.ensembles`.

    Args:
        experiments: those of one of ensembles.ensembles_of's ensembles.
        progress: as :func:`train` has it, with the experiment's place in the list in front.
        resume: as :func:`train` has it, for all of them together.

    Returns:
        The rows of each experiment, those of :func:`train` but for float32's rounding; ``seconds`` is its share, and
        ``device`` names the ensemble.
    """
    return _train(experiments, choose_device(device), "float32", progress, resume)[0]


def precision_of(experiment: Experiment, device: torch.device) -> str:
    """The precision that "auto" stands for: float32 for MNIST's networks, bf16 for the larger ones where the device
    computes in it (AMX or AVX-512 BF16 on a CPU). 03_caltech shows what it does to Caltech-101's accuracies."""
    return "bf16" if experiment.dataset not in MNIST and computes_in_bf16(device) else "float32"


def _train(
    experiments: list[Experiment],
    device: torch.device,
    precision: str,
    progress: Told | None,
    resume: str | Path | None,
    compiled: bool = False,
) -> tuple[list[pd.DataFrame], nn.Module]:
    check_installed(experiments[0].fill)
    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        name = name_of(device)
        compiled = compiled and device.type == "cuda" and experiments[0].dataset in CALTECH and compiles(device)
        if compiled:
            name += ", compiled"
        provenance = {
            "device": name if len(experiments) == 1 else f"{name}, an ensemble of {len(experiments)}",
            "torch": version("torch"),
            "precision": precision,
            "commit": _commit(),
        }
        with exact_float32():
            sitting = Sitting(resume, {"runs": [asdict(run) for run in experiments]} | provenance)
            data = load(experiments[0].dataset)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(seed_of(experiments[0], DROPOUT))
                histories, network = run_epochs(experiments, data, device, precision, progress, sitting, compiled)
            provenance["seconds"] = round(sitting.seconds / len(experiments), 1)
        release_freed_memory()
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
        if not short:
            raise
        raise TrainingError(
            f"out of memory on {device.type} in {experiments[0]}: a smaller batch_size or fewer runs at once need "
            "less; what is stored stays as it was"
        ) from None
    finally:
        torch.set_num_threads(threads)
    rows = [
        pd.DataFrame([asdict(run) | measured | provenance for measured in history], columns=COLUMNS)
        for run, history in zip(experiments, histories, strict=True)
    ]
    return rows, network


@functools.cache
def _commit() -> str:
    """The last commit of the package's code, with a + where it was changed since; empty outside a checkout of it."""
    if not (REPOSITORY / ".git").exists():  # else git looks further up, and finds what the package lies in
        return ""
    git = ["git", "-C", str(REPOSITORY)]
    elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        commit, changed = (
            subprocess.run(
                [*git, *command, "--", "sparsecnn"], capture_output=True, encoding="utf-8", check=True, env=elsewhere
            ).stdout.strip()
            for command in (("log", "-1", "--format=%h"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if commit and changed else "")
