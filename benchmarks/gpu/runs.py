"""Caltech-101's runs in the order in which they are wanted, until the minutes are over; each is stored as it ends.

    python benchmarks/gpu/runs.py --minutes 8 [--workers 2] [--miniature]

--miniature: two runs of the list on a CPU, on eight images, so that what goes before and after them can be rehearsed.
"""

import argparse
import time
from dataclasses import replace

from sparsecnn.experiment import Experiment, grid
from sparsecnn.studies import bridges, hyperparameters, matrix, other_splits
from sparsecnn.sweep import missing, sweep


def wanted() -> dict[str, list[Experiment]]:
    """What to train, the most wanted first."""
    steps = [step for steps in bridges("caltech101", seeds=3).values() for step in steps]
    return {
        "controlled, three seeds": matrix("caltech101", seeds=3),
        "as_run, three seeds": grid("caltech101", "as_run", seeds=3),
        "other splits": other_splits("caltech101"),
        "learning rates and batch sizes, three seeds": hyperparameters("caltech101", seeds=3),
        "bridges, three seeds": list(dict.fromkeys(run for step in steps for run in step.runs)),
        "controlled, five seeds": matrix("caltech101", seeds=5),
        "as_run, five seeds": grid("caltech101", "as_run", seeds=5),
    }


def miniature() -> dict[str, list[Experiment]]:
    small = {"epochs": 1, "train_images": 8, "batch_size": 8, "seed": 9}
    runs = [run for run in grid("caltech101", sparsity=0.3, seeds=1) if run.model == "ConvNet"]
    return {run.protocol: [replace(run, **small)] for run in runs if run.protocol != "as_reported"}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--minutes", type=float, required=True)
    ask.add_argument("--workers", type=int)
    ask.add_argument("--miniature", action="store_true")
    asked = ask.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    for name, runs in (miniature() if asked.miniature else wanted()).items():
        left, begun = (end - time.monotonic()) / 60, time.monotonic()
        if left <= 0:
            print(f"{name}: no time left for {len(missing(runs))} runs", flush=True)
            continue
        before = len(missing(runs))
        sweep(runs, "cpu" if asked.miniature else "cuda", workers=asked.workers, minutes=left)
        done = before - len(missing(runs))
        print(f"{name}: {done} of {before} missing runs in {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
