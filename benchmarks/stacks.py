"""What it takes to train MNIST's networks many in one step, as sparsecnn.stacks does, beside one after the other.

At batch 64 and 50% sparsity, on the CPU and, where there is one, on CUDA; in turns. On the CPU both have one thread.
"""

import pandas as pd
import torch
from training import Case, name_of, ours

from sparsecnn.experiment import MODELS, experiment
from sparsecnn.results import output_root, replacing

ROUNDS = 3
STEPS = {"cpu": 20, "cuda": 200}
STACKS = {"cpu": (4,), "cuda": (4, 16, 55)}  # 55: Table 3's levels by five seeds


def measure(model: str, device: str) -> pd.DataFrame:
    case = Case(model, experiment("mnist", "as_reported", model, 0.5), device, STEPS[device], 938, ROUNDS)
    sizes = (1, *STACKS[device])
    for size in sizes:
        ours(case, size)  # warm
    table = pd.DataFrame([{size: ours(case, size) / size for size in sizes} for _ in range(case.rounds)])
    ratio = table.rdiv(table[1], axis=0)
    return pd.DataFrame(
        {
            "network": model,
            "runs": table.columns,
            "seconds_an_epoch_and_run": table.median().round(3).to_list(),
            "ratio": ratio.median().round(2).to_list(),
            "ratio_least": ratio.min().round(2).to_list(),
            "ratio_most": ratio.max().round(2).to_list(),
            "device": name_of(device),
            "torch": torch.__version__,
        }
    )


def main() -> None:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    summary = pd.concat([measure(model, device) for device in devices for model in MODELS[:2]], ignore_index=True)
    print(summary.to_string(index=False))
    with replacing(output_root() / "results/benchmarks_stacks.csv") as file:
        summary.to_csv(file, index=False)


if __name__ == "__main__":
    main()
