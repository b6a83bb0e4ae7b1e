"""What it takes to train MNIST's networks many in one step, beside one after the other.

At batch 64 and 50% sparsity, on the CPU and, where there is one, on CUDA; in turns. On the CPU both have one thread.
"""

import pandas as pd
from training import Case, ours, times_as_fast

from sparsecnn.experiment import MODELS, experiment
from sparsecnn.files import output_root, replacing
from sparsecnn.training.devices import available_devices

ROUNDS = 3
WARM, STEPS = 16, {"cpu": 32, "cuda": 192}  # batches are made ready sixteen at a time
ENSEMBLES = {"cpu": (4,), "cuda": (4, 16, 55)}  # 55: Table 3's levels by five seeds


def measure(model: str, device: str) -> pd.DataFrame:
    case = Case(model, experiment("mnist", "as_reported", model, 0.5), device, WARM, STEPS[device], 938, ROUNDS)
    sizes = (1, *ENSEMBLES[device])
    for size in sizes:
        ours(case, size)  # warm
    took = pd.DataFrame([{size: ours(case, size) / size for size in sizes} for _ in range(case.rounds)])  # a run
    table = times_as_fast(took, 1, device).rename_axis("runs").reset_index()
    table.insert(0, "network", model)
    return table


def main() -> None:
    summary = pd.concat(
        [measure(model, device) for device in available_devices() for model in MODELS[:2]], ignore_index=True
    )
    print(summary.to_string(index=False))
    with replacing(output_root() / "results/benchmarks_ensembles.csv") as file:
        summary.to_csv(file, index=False)


if __name__ == "__main__":
    main()
