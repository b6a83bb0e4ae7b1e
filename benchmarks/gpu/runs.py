"""What one of many processes on a bare machine trains, all on one store: its share of the runs of Caltech-101 that are
missing, then the others', until the time in a file. MNIST's are left to `python -m sparsecnn.sweep`.

    python benchmarks/gpu/runs.py NUMBER --of PROCESSES --until FILE [--go FILE] [--device cuda]

A share has few networks, since each is compiled by whoever trains it. --until holds the second, as `date +%s` has it.
Training begins when --go is there; until then the share's first network is compiled on drawings.
"""

import argparse
import itertools
import time
import traceback
from collections import Counter
from pathlib import Path

from sparsecnn.experiment import MODELS, Experiment, experiment
from sparsecnn.studies import studies_of
from sparsecnn.sweep import missing
from sparsecnn.sweeps import store
from sparsecnn.training.compiling import network_of
from sparsecnn.training.train import train

LEAST, USUAL = 8, 30  # seconds that a run takes
TO_COMPILE, REPAID_BY = 150, 3  # seconds and runs that must be left for it to pay
FITTING = 100  # runs, the first of the studies, that are shared out; what is left when these are done comes after
FAR = 7  # percentage points between an accuracy and that of the same run compiled, where something is wrong


def shared(runs: list[Experiment], processes: int) -> list[list[Experiment]]:
    """As many lists of about as many runs, those of a network side by side."""
    order = {network: number for number, network in enumerate(dict.fromkeys(map(network_of, runs)))}
    runs = sorted(runs, key=lambda run: order[network_of(run)])
    ends = [len(runs) * number // processes for number in range(processes + 1)]
    return [runs[begin:end] for begin, end in itertools.pairwise(ends)]


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
    ask.add_argument("number", type=int)
    ask.add_argument("--of", type=int, required=True)
    ask.add_argument("--until", type=Path, required=True)
    ask.add_argument("--go", type=Path)
    ask.add_argument("--device", default="cuda")
    asked = ask.parse_args()
    until, compiles = float(asked.until.read_text(encoding="utf-8")), asked.device == "cuda"
    everything = list(dict.fromkeys(itertools.chain(*studies_of("caltech101").values())))
    todo = missing(everything)
    own = shared(todo[:FITTING], asked.of)[asked.number]
    todo = list(dict.fromkeys([*own, *todo]))
    repaid = {network for network, number in Counter(map(network_of, todo)).items() if number >= REPAID_BY}
    doubtful = asked.until.with_name("compiled_differs")  # a mark for all processes
    say(f"{len(own)} to train, {len(todo)} with the others'")
    compiled_here = {network_of(run) for run in todo[:1]} & repaid
    if compiles and compiled_here:
        try:
            compile_ahead(todo[0], asked.device)
        except Exception:
            traceback.print_exc()
    say("ready")
    while asked.go and not asked.go.exists():
        if time.time() > until:
            return
        time.sleep(0.2)
    known = [run for run in everything if run not in todo and run.model == MODELS[1]]
    if compiles and asked.number == 0 and known and is_far_off(known[0], asked.device):
        doubtful.touch()
    # Not by sweeps.sweep: near the end it starts nothing, since its slowest run so far is one that was compiled first.
    took: dict[tuple, float] = {}  # seconds of the last run of a kind
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
                pays = left > TO_COMPILE and network_of(run) in repaid
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


if __name__ == "__main__":
    main()
