"""What bf16 does to accuracies: Caltech-101's `controlled` runs that are stored in float32, trained once more in bf16.

Their rows go into results/precision_caltech101.csv, in the form of results/runs/, and 03_caltech sets the two side by
side. Stopped, it goes on with the runs that are not in that file; it takes as long as a sweep of them.
"""

import pandas as pd

from sparsecnn.files import replacing
from sparsecnn.studies import matrix
from sparsecnn.sweeps.store import of_experiments, retrained, retrained_path
from sparsecnn.training.train import train


def main() -> None:
    runs = matrix("caltech101")
    stored = of_experiments(runs).query("precision == 'float32'")
    for number in sorted(set(stored["run"]) - set(of_experiments(runs, retrained())["run"])):
        rows = pd.concat([retrained(), train(runs[number], precision="bf16")], ignore_index=True)
        with replacing(retrained_path()) as file:
            rows.to_csv(file, index=False)


if __name__ == "__main__":
    main()
