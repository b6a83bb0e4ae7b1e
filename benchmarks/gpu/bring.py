"""Copies the rows of new runs, which have no commit, from the store: `python benchmarks/gpu/bring.py FOLDER`."""

import sys
from pathlib import Path

import pandas as pd

from sparsecnn.files import replacing
from sparsecnn.sweeps.store import runs_folder


def main(to: Path) -> None:
    for file in sorted(runs_folder().glob("*_*.csv")):
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        new = rows[rows["commit"] == ""]
        if len(new):
            with replacing(to / file.name) as copy:
                new.to_csv(copy, index=False)
            print(f"{file.name}: {(new['epoch'] == new['epochs']).sum()} new runs", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
