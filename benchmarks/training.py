"""Seconds an epoch of MNIST training takes, the published way and ours, side by side in one run.

Each way trains SparseConvNet at 50% sparsity and batch 64 for some steps, in turns; an epoch has 938. Ours is timed as
a sweep runs it, one thread a run, alone and with as many runs side by side as there are cores.
"""

import itertools
import multiprocessing
import os
import time
from dataclasses import replace

import pandas as pd
import torch
from published_way import train_steps

from sparsecnn.datasets import load
from sparsecnn.experiment import experiment
from sparsecnn.results import output_root, replacing
from sparsecnn.training import train

ROUNDS, STEPS, EPOCH = 5, 100, 938
RUN = experiment("mnist", "as_reported", "SparseConvNet", 0.5, epochs=1, train_images=64 * STEPS)


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ours() -> float:
    """Seconds an epoch: of two runs that differ in their number of steps alone, so set-up and testing cancel out."""
    long, short = (seconds(lambda images=images: train(replace(RUN, train_images=images), "cpu"))
                   for images in (64 * 2 * STEPS, 64 * STEPS))  # fmt: skip
    return (long - short) / STEPS * EPOCH


def side_by_side(_: int) -> float:
    ours()  # warm, and all processes started
    return ours()


def main() -> None:
    data = load("mnist")
    published = train_steps(data, RUN.sparsity, RUN.batch_size)
    steps = itertools.islice(published, 10)
    list(steps)
    ours()
    rows = []
    with multiprocessing.get_context("spawn").Pool(cores := os.cpu_count()) as pool:
        for _ in range(ROUNDS):
            theirs = seconds(lambda: list(itertools.islice(published, STEPS))) / STEPS * EPOCH
            alone = ours()
            many = max(pool.map(side_by_side, range(cores), chunksize=1)) / cores
            rows.append({"published way": theirs, "ours, one run": alone, f"ours, {cores} runs at once": many})
    table = pd.DataFrame(rows)
    ratio = table.rdiv(table["published way"], axis=0)
    summary = pd.DataFrame(
        {
            "benchmark": "MNIST, an epoch of SparseConvNet, batch 64",
            "way": table.columns,
            "seconds_an_epoch": table.median().round(2).to_list(),
            "ratio": ratio.median().round(2).to_list(),
            "ratio_least": ratio.min().round(2).to_list(),
            "ratio_most": ratio.max().round(2).to_list(),
            "device": f"cpu, {cores} cores",
            "torch": torch.__version__,
        }
    )
    print(summary.to_string(index=False))
    with replacing(output_root() / "results/benchmarks.csv") as file:
        summary.to_csv(file, index=False)


if __name__ == "__main__":
    main()
