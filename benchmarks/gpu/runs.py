"""What one of many processes on a bare machine trains, all on one store: the missing runs of its own list, then those
of the others, until the time in a file.

    python benchmarks/gpu/runs.py LIST --until FILE [--go FILE] [--device cuda]

LIST is one of lists()'s, or mnist. A list has few networks, since each is compiled by whoever trains it. --until holds
the second, as `date +%s` has it. Training begins when --go is there; until then the list's first network is compiled on
drawings.
"""

import argparse
import itertools
import time
import traceback
from collections import Counter
from pathlib import Path

from sparsecnn.experiment import MODELS, Experiment, experiment, grid
from sparsecnn.models import NETWORKS
from sparsecnn.studies import ablations, alternatives, late_drop, matrix, studies_of
from sparsecnn.sweep import missing
from sparsecnn.sweeps import store
from sparsecnn.training.compiling import network_of
from sparsecnn.training.train import train

LEAST, USUAL = 8, 30  # seconds that a run takes
TO_COMPILE, REPAID_BY = 150, 3  # seconds and runs that must be left for it to pay
FAR = 7  # percentage points between an accuracy and that of the same run compiled, where something is wrong


def lists() -> dict[str, list[Experiment]]:
    """Caltech-101's, the most wanted first in each; what the host fills from around comes last. Nobody begins with
    the rest, which they train when their own is done."""
    ways, tables, every = alternatives("caltech101"), grid("caltech101", "as_run"), matrix("caltech101")
    sparse, plain, mask = ([run for run in every if run.model == model] for model in MODELS)
    plain_as_run, sparse_as_run = ([run for run in tables if run.model == model] for model in (MODELS[1], MODELS[0]))
    fills = ("black", "grey", "nearest", "blur")
    return {
        "mask": mask[::2],
        "masks": mask[1::2],
        "plain": plain,
        "ablated": [*sparse, *itertools.chain(*ablations("caltech101").values())],
        "as_run": plain_as_run[::3],
        "as_run2": plain_as_run[1::3],
        "as_run3": plain_as_run[2::3],
        "pooled": sparse_as_run[::2],
        "pooled2": sparse_as_run[1::2],
        "late": list(itertools.chain(*late_drop("caltech101").values())),
        "ways": [*itertools.chain(*(ways[name] for name in NETWORKS if name in ways))],
        "filled": [run for fill in fills for run in ways[f"ConvNet, {fill} filled"]],
        "rest": [run for runs in studies_of("caltech101").values() for run in runs],
    }


def of_mnist() -> list[Experiment]:
    """Table 3 as_run, the last seeds first: CPUs at home begin with the first."""
    return sorted(grid("mnist", "as_run"), key=lambda run: -run.seed)


def compile_ahead(run: Experiment, device: str) -> None:
    """Of the shapes of Caltech-101: batches, and a last one of 48 images."""
    settings = {"architecture": run.architecture, "batch_size": run.batch_size, "train_images": run.batch_size + 48}
    train(experiment("shapes", run.protocol, run.model, 0.3, epochs=1, **settings), device, compiled=True)


def is_far_off(run: Experiment, device: str) -> bool:
    """A recorded run once more, compiled: whether its accuracy is another."""
    recorded, rows = store.of_experiments([run]), train(run, device, compiled=True)
    there, here = (float(table["test_accuracy"].iloc[-1]) for table in (recorded, rows))
    say(f"twice: {here} compiled, {there} recorded ({recorded['device'].iloc[-1]})")
    return not abs(there - here) < FAR


def say(*words: object) -> None:
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("list")
    ask.add_argument("--until", type=Path, required=True)
    ask.add_argument("--go", type=Path)
    ask.add_argument("--device", default="cuda")
    asked = ask.parse_args()
    until = float(asked.until.read_text(encoding="utf-8"))
    of_list = {"mnist": of_mnist()} if asked.list == "mnist" else lists()
    own = of_list.pop(asked.list)
    everything = list(dict.fromkeys(itertools.chain(own, *of_list.values())))
    todo, compiles = missing(everything), asked.device == "cuda"
    networks = Counter(map(network_of, todo))
    doubtful = asked.until.with_name("compiled_differs")  # a mark for all processes
    say(f"{asked.list}: {sum(run in own for run in todo)} to train, {len(todo)} with the others'")
    if compiles and todo and networks[network_of(todo[0])] >= REPAID_BY:
        try:
            compile_ahead(todo[0], asked.device)
        except Exception:
            traceback.print_exc()
    say(f"{asked.list}: ready")
    while asked.go and not asked.go.exists():
        if time.time() > until:
            return
        time.sleep(0.2)
    known = [run for run in own if run not in todo and run.model == MODELS[1]]
    if compiles and asked.list == "plain" and known and is_far_off(known[0], asked.device):
        doubtful.touch()
    # Not by sweeps.sweep: near the end it starts nothing, since its slowest run so far is one that was compiled first.
    took: dict[tuple, float] = {}  # seconds of the last run of a kind
    compiled_here = {network_of(run) for run in todo[:1] if networks[network_of(run)] >= REPAID_BY}
    for run in todo:
        kind, left = (network_of(run), run.fill, run.tested_at), until - time.time()
        if left < LEAST:
            break
        claimed = store.claim(run) if left > took.get(kind, USUAL) else None
        if claimed is None:
            continue
        try:
            if missing([run]):  # nobody else has trained it
                begun = time.time()
                compiled = compiles and not doubtful.exists()
                pays = left > TO_COMPILE and networks[network_of(run)] >= REPAID_BY
                compiled &= network_of(run) in compiled_here or pays
                store.store(train(run, asked.device, compiled=compiled))
                if not compiled or network_of(run) in compiled_here:
                    took[kind] = time.time() - begun
                if compiled:
                    compiled_here.add(network_of(run))
                say(f"{time.time() - begun:.0f} s{', compiled' * compiled}: {run}")
        except Exception:
            say(f"FAILED: {run}\n{traceback.format_exc()}")
            compiles = False  # perhaps it was the compiler
        finally:
            store.release(claimed)
    say("done")


if __name__ == "__main__":
    main()
