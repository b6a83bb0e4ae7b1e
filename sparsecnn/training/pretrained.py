"""MNIST's networks and depth's, trained: ``load_pretrained`` reads them, and the command
``python -m sparsecnn.training.pretrained`` wrote them.

Each comes from one of the recorded runs' Experiments, seed 0 of the protocol ``controlled``, and is as it was after the
last epoch. The file's metadata hold the Experiment and what was measured with it.
"""

import json
from dataclasses import asdict
from pathlib import Path

from ..checks import check_choice
from ..experiment import MODELS, Experiment, task_of
from ..files import check_writable, replacing
from ..models import Network, build
from ..studies import matrix

__all__ = ["experiments", "load_pretrained", "write"]

WEIGHTS = Path(__file__).with_name("weights")
SPARSITIES = {"mnist": 0.5, "kitti_range": 0.8}  # of the training images, where all have the same


def load_pretrained(dataset: str, model: str, trained_at: str = "own sparsity") -> Network:
    """A trained network, on the CPU and in evaluation mode; ``scores = network(image, mask)``.

    MNIST's image is N x 1 x 28 x 28, of pixels in [0, 1] of which the missing ones are 0, normalised with MNIST's mean
    0.1307 and standard deviation 0.3081 after they were dropped. KITTI's is N x 1 x 64 x 1024, in metres, of which the
    missing cells are 0, and so are the scores. The mask is as large as the image, 1 = observed.

    Args:
        dataset: "mnist" or "kitti_range".
        model: "SparseConvNet", "ConvNet" or "ConvNet + mask".
        trained_at: "own sparsity", images with half of their pixels missing or scans with four of five, or, of MNIST,
            "every sparsity".

    Raises:
        SettingError: for a name that is not one of these.
        ImportError: where safetensors is not installed.
    """
    check_choice("dataset", dataset, SPARSITIES)
    check_choice("model", model, MODELS)
    runs = {run.trained_at: run for run in experiments() if (run.dataset, run.model) == (dataset, model)}
    check_choice("trained_at", trained_at, runs)
    from safetensors.torch import load_file

    run = runs[trained_at]
    network = build(run.model, run.architecture)
    network.load_state_dict(load_file(WEIGHTS / _name(run)))
    return network.eval()


def experiments() -> list[Experiment]:
    """Those whose networks are here, of the train x test matrices."""
    own = [run for dataset, sparsity in SPARSITIES.items() for run in matrix(dataset, sparsity, seeds=1)]
    return own + [run for run in matrix("mnist", seeds=1) if run.trained_at == "every sparsity"]


def write(runs: list[Experiment], folder: Path = WEIGHTS) -> list[Path]:
    """Trains each on the CPU, and keeps its weights as safetensors in ``folder``: those are the same on every machine
    whose arithmetic is, and within rounding elsewhere."""
    from safetensors.torch import save

    from .checkpoints import load_network
    from .train import train

    check_writable(folder)
    written = []
    for run in runs:
        path = folder / _name(run)
        checkpoint = path.with_suffix(".pt")
        try:
            rows = train(run, "cpu", checkpoint=checkpoint)
            _, network = load_network(checkpoint)
        finally:
            checkpoint.unlink(missing_ok=True)
        last, task = rows.iloc[-1], task_of(run.dataset)
        told = [f"{part}_{task.metrics[0]}" for part in ("validation", "test")]
        measured = {name: str(last[name]) for name in (*told, "torch", "device")}
        with replacing(path) as file:
            file.write(save(network.state_dict(), metadata={"experiment": json.dumps(asdict(run)), **measured}))
        print(f"{path}: {task.words.format(last[told[1]])} in the test", flush=True)
        written.append(path)
    return written


def _name(run: Experiment) -> str:
    return "_".join([run.dataset, run.model, run.trained_at]).replace(" + ", "_").replace(" ", "_") + ".safetensors"


if __name__ == "__main__":
    write(experiments())
