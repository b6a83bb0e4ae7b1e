"""The runs of a bare machine with a GPU in the order in which they are wanted, until the minutes are over; each is
stored as it ends.

    python benchmarks/gpu/runs.py LIST --minutes 8 [--workers 2] [--device cuda] [--miniature]

LIST is one of wanted()'s. --miniature: two runs on a CPU, on eight images, so that what goes before and after them can
be rehearsed.
"""

import argparse
import itertools
import time
from dataclasses import replace

from sparsecnn.experiment import MODELS, Experiment, grid
from sparsecnn.studies import (
    adaptations,
    alternatives,
    batch_norms,
    depth_training,
    hyperparameters,
    matrix,
    other_splits,
)
from sparsecnn.sweep import missing, sweep

HOST = (
    "ConvNet, nearest filled",
    "ConvNet, blur filled",
    "ConvNet, inpainting filled",
)  # the host's work takes longest


def wanted(name: str) -> dict[str, list[Experiment]]:
    """What to train, the most wanted first."""
    if name == "kitti":
        longer = [run for run in itertools.chain(*depth_training().values()) if 20 < run.epochs < 100]
        return {"longer training": longer, "matrix": matrix("kitti_range")[::-1]}
    of_way = alternatives("mnist" if name == "mnist" else "caltech101")
    if name == "filled":
        return {"from around": of_way[HOST[0]]}
    if name == "mnist":
        runs = itertools.chain(*adaptations("mnist").values(), *of_way.values())
        runs = sorted((run for run in runs if run.fill != "inpainting"), key=lambda run: run.seed)
        return {"matrix": matrix("mnist"), "alternatives": runs}
    adapted = list(itertools.chain(*adaptations("caltech101").values()))

    def of_seed(seed: int, *ways: str) -> list[Experiment]:
        return [run for way in ways for run in of_way[way] if run.seed == seed]

    told = ("ConvNet, input rescaled", "first layer sparse", "partial convolution", "ConvNet, grey filled")
    others = [way for way in of_way if way not in (*MODELS, *told, *HOST)]
    return {
        "adapted": [run for run in adapted if run.seed == 0],
        "alternatives, one seed": of_seed(0, *told),
        "adapted, second seed": [run for run in adapted if run.seed == 1],
        "adapted, third seed": [run for run in adapted if run.seed == 2],
        "learning rate of 1e-4": hyperparameters("caltech101", learning_rates=(1e-4,), batch_sizes=(64, 128)),
        "more alternatives, one seed": of_seed(0, *others),
        "trained on every sparsity": [run for run in matrix("caltech101") if run.trained_at == "every sparsity"],
        "two convolutions, a batch norm each": batch_norms("caltech101")[2, "each"],
        "other splits": other_splits("caltech101"),
        "as_run, three seeds": [run for run in grid("caltech101", "as_run") if run.sparsity in (0.3, 0.7)],
        "matrix": matrix("caltech101"),
        "alternatives, two seeds": [*of_seed(1, *told, *others), *of_seed(2, *told, *others)],
        "batch norms": list(itertools.chain(*batch_norms("caltech101").values())),
    }


def miniature() -> dict[str, list[Experiment]]:
    small = {"epochs": 1, "train_images": 8, "batch_size": 8, "seed": 9}
    runs = [run for run in grid("caltech101", sparsity=0.3, seeds=1) if run.model == "ConvNet"]
    return {run.protocol: [replace(run, **small)] for run in runs if run.protocol != "as_reported"}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("list", choices=("caltech", "filled", "kitti", "mnist"))
    ask.add_argument("--minutes", type=float, required=True)
    ask.add_argument("--workers", type=int)
    ask.add_argument("--device", default="cuda")
    ask.add_argument("--miniature", action="store_true")
    asked = ask.parse_args()
    groups = miniature() if asked.miniature else wanted(asked.list)
    before = {name: len(missing(runs)) for name, runs in groups.items()}
    everything = list(dict.fromkeys(itertools.chain(*groups.values())))  # one sweep, whose processes start once
    begun = time.monotonic()
    sweep(everything, "cpu" if asked.miniature else asked.device, workers=asked.workers, minutes=asked.minutes)
    for name, runs in groups.items():
        print(f"{asked.list}, {name}: {before[name] - len(missing(runs))} of {before[name]} missing runs", flush=True)
    print(f"{asked.list}: {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
