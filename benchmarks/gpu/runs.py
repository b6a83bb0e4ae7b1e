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
from pathlib import Path

from sparsecnn.experiment import MODELS, Experiment, experiment
from sparsecnn.studies import adaptations, alternatives, batch_norms, matrix, other_splits
from sparsecnn.sweep import missing
from sparsecnn.sweeps import store
from sparsecnn.training.compiling import network_of
from sparsecnn.training.train import train

LEAST = 8  # seconds that any run takes
TO_COMPILE = 150  # seconds that must be left for it to pay
FAR = 7  # percentage points between an accuracy and that of the same run compiled, where something is wrong


def lists() -> dict[str, list[Experiment]]:
    """Caltech-101's, the most wanted first in each; what the host fills from around comes last."""
    ways, adapted, every = alternatives("caltech101"), adaptations("caltech101"), matrix("caltech101")
    splits = other_splits("caltech101")
    sparse, plain, mask = (
        [run for run in every if run.model == model and run.trained_at == "own sparsity"] for model in MODELS
    )
    black, grey, nearest, blur = (ways[f"ConvNet, {fill} filled"] for fill in ("black", "grey", "nearest", "blur"))

    def of(model: str) -> list[Experiment]:
        return [run for run in splits if run.model == model]

    return {
        "sparse": [*adapted[MODELS[0]], *of(MODELS[0]), *sparse],
        "plain": [*of(MODELS[1]), *black[:3], *grey[:6], *black[:6], *plain, *grey, *black],
        "mask": [*adapted[MODELS[2]], *ways[MODELS[2]], *mask],
        "divided": [*ways["division without mask"], *ways["ConvNet, input rescaled"]],
        "masked": [*ways["mask without division"], *ways["first layer sparse"]],
        "normalised": ways["normalised convolution"],
        "rest": [*batch_norms("caltech101")[2, "each"], *ways["partial convolution"]],
        "filled": [*blur[0:3:2], *nearest],
        "blurred": [*blur[1:2], *blur],
    }


def of_mnist() -> list[Experiment]:
    """The last seeds first: CPUs at home begin with the first. What is filled from around comes last, since it takes
    longest; Telea's inpainting takes longer than such a machine is at hand."""
    ways = [*adaptations("mnist").values(), *alternatives("mnist").values()]
    runs = (run for run in itertools.chain(*ways) if run.fill != "inpainting")
    return sorted(dict.fromkeys(runs), key=lambda run: (run.fill in ("nearest", "blur"), -run.seed))


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
    doubtful = asked.until.with_name("compiled_differs")  # a mark for all processes
    say(f"{asked.list}: {sum(run in own for run in todo)} to train, {len(todo)} with the others'")
    if compiles and todo:
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
    compiled_here = {network_of(run) for run in todo[:1]}
    for run in todo:
        kind, left = (network_of(run), run.fill, run.tested_at), until - time.time()
        if left < LEAST:
            break
        claimed = store.claim(run) if left > took.get(kind, 0) else None
        if claimed is None:
            continue
        try:
            if missing([run]):  # nobody else has trained it
                begun = time.time()
                compiled = compiles and not doubtful.exists()
                compiled &= network_of(run) in compiled_here or left > TO_COMPILE
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
