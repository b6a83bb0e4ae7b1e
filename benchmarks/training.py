"""Seconds an epoch of training takes, the published way and ours, side by side in one run; on CUDA where there is one.

SparseConvNet at 50% sparsity: MNIST's at batch 64, Caltech-101's at batch 128. Each way trains for some steps, in
turns, timed from step to step after a few. On the CPU ours is timed as a sweep runs it, one thread a run, alone and
with as many runs side by side as there are cores; the published way has all cores. Each has processes of its own, since
ours changes how a process keeps memory. Caltech-101's step is timed on drawn pictures of the same size, which cost the
same, each several times over.
"""

import contextlib
import functools
import itertools
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.pool import Pool
from typing import NamedTuple
from unittest.mock import patch

import pandas as pd
import torch
from published_way import train_steps
from torch import Tensor

from sparsecnn.data.datasets import load, split
from sparsecnn.data.images import Images
from sparsecnn.experiment import CALTECH, Experiment, experiment
from sparsecnn.files import output_root, replacing
from sparsecnn.training.batches import EnsembleBatches
from sparsecnn.training.devices import available_devices
from sparsecnn.training.train import precision_of, train, train_ensemble


class Case(NamedTuple):
    title: str
    run: Experiment
    device: str
    warm: int  # steps before those that are timed
    steps: int  # timed in one go
    epoch: int  # steps of an epoch
    rounds: int


DIGITS = ("MNIST, SparseConvNet, batch 64", experiment("mnist", "as_reported", "SparseConvNet", 0.5))
PHOTOGRAPHS = ("Caltech-101, SparseConvNet, batch 128", experiment("shapes", "controlled", "SparseConvNet", 0.5))
CASES = (
    Case(*DIGITS, "cpu", 10, 100, 938, 5),
    Case(*PHOTOGRAPHS, "cpu", 1, 1, 44, 3),
    Case(*DIGITS, "cuda", 20, 400, 938, 5),
    Case(*PHOTOGRAPHS, "cuda", 5, 40, 44, 5),
)


def name_of(device: str, part: str | None = None) -> str:
    """The device; of a CPU its vector instructions, and the part of it that is used if not all cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"cpu ({torch.backends.cpu.get_cpu_capability()}), {part or f'{len(os.sched_getaffinity(0))} cores'}"


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@functools.cache
def images_for(case: Case) -> Images:
    """The data set, as many times over as it takes for the case's steps without an image twice."""
    data = load(case.run.dataset)
    needed = (case.warm + case.steps + 1) * case.run.batch_size
    times = math.ceil(needed / len(split(data, case.run.validation, case.run.split, case.run.split_seed)[0]))
    if times == 1:
        return data
    # Validation images are a fixed number, so there is one time more.
    return replace(data, images=data.images.repeat(times + 1, 1, 1, 1), labels=data.labels.repeat(times + 1))


@functools.cache
def steps_of(case: Case) -> Iterator[None]:
    steps = train_steps(images_for(case), case.run.sparsity, case.run.batch_size, case.device)
    next(steps)  # warm
    return steps


def published_way(case: Case) -> float:
    """Seconds an epoch."""
    steps = steps_of(case)
    return seconds(lambda: list(itertools.islice(steps, case.steps))) / case.steps * case.epoch


class _Timed(Exception):
    """A training whose steps are timed."""


def ours(case: Case, ensemble: int = 1, compiled: bool = False) -> float:
    """Seconds an epoch, of so many runs in one ensemble: from the moment at which training asks for one batch to that
    at which it asks for another, so that set-up and testing have no part in it."""
    clock: list[float] = []

    def timed(source: EnsembleBatches, batches: Sequence[Tensor], masks: Callable) -> Iterator[tuple[Tensor, ...]]:
        for step, batch in enumerate(ahead(source, batches, masks)):
            if step in (case.warm, case.warm + case.steps):
                if case.device == "cuda":
                    torch.cuda.synchronize()
                clock.append(time.perf_counter())
            if len(clock) == 2:
                raise _Timed
            yield batch

    ahead, images = EnsembleBatches.ahead, (case.warm + case.steps + 1) * case.run.batch_size
    runs = [replace(case.run, epochs=1, train_images=images, seed=seed) for seed in range(ensemble)]
    with (
        patch("sparsecnn.training.train.load", return_value=images_for(case)),
        patch.object(EnsembleBatches, "ahead", timed),
        contextlib.suppress(_Timed),
    ):
        if ensemble == 1:
            train(*runs, case.device, compiled=compiled)
        else:
            train_ensemble(runs, case.device)
    begun, ended = clock
    return (ended - begun) / case.steps * case.epoch


def times_as_fast(took: pd.DataFrame, as_what: str | int, device: str) -> pd.DataFrame:
    """A line a column of ``took``, which has the seconds an epoch of one round a line: their median, how many times as
    fast as the column ``as_what`` that is, and between which ratios the rounds lie."""
    ratio = took.rdiv(took[as_what], axis=0)
    parts = [took.median(), ratio.median(), ratio.min(), ratio.max()]
    table = pd.concat(parts, axis=1, keys=["seconds_an_epoch", "ratio", "ratio_least", "ratio_most"])
    return table.round(3).assign(device=name_of(device), torch=torch.__version__)


def measure(case: Case, theirs: Pool, alone: Pool, many: Pool, cores: int) -> pd.DataFrame:
    precision = precision_of(case.run, torch.device(case.device))
    ways = {
        "published way": lambda: theirs.apply(published_way, [case]),
        f"ours, {precision}, one run": lambda: alone.apply(ours, [case]),
    }
    if case.device == "cuda" and case.run.dataset in CALTECH:
        ways[f"ours, {precision}, one run, compiled"] = lambda: alone.apply(ours, [case, 1, True])
    if case.device == "cpu":
        at_once = f"ours, {precision}, {cores} runs at once"
        ways[at_once] = lambda: max(many.map(ours, [case] * cores, chunksize=1)) / cores
    for way in ways.values():
        way()  # warm
    took = pd.DataFrame([{name: way() for name, way in ways.items()} for _ in range(case.rounds)])
    table = times_as_fast(took, "published way", case.device).rename_axis("way").reset_index()
    table.insert(0, "benchmark", case.title)
    return table


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as theirs, spawn.Pool(1) as alone, spawn.Pool(cores) as many:
        cases = [case for case in CASES if case.device in available_devices()]
        summary = pd.concat([measure(case, theirs, alone, many, cores) for case in cases], ignore_index=True)
    print(summary.to_string(index=False))
    with replacing(output_root() / "results/benchmarks.csv") as file:
        summary.to_csv(file, index=False)


if __name__ == "__main__":
    main()
