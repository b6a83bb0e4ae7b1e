"""Brings rows home from a machine without git: `python benchmarks/gpu/merge.py FOLDER COMMIT`.

FOLDER holds files of results/runs/ as they came back. Their rows with a commit went there from here and must still be
what they are here; else nothing is touched. Those without are new: they are stored here with COMMIT, that of the
package that was packed. A run that was stored here meanwhile stays what it is.
"""

import re
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from sparsecnn.records import SETTINGS, experiments_in, no_rows, read_rows
from sparsecnn.sweeps import store


def rows_in(path: Path) -> pd.DataFrame:
    """As records.read_rows, with commits as text: some are all digits."""
    if not path.exists():
        return no_rows()
    return read_rows(path).assign(commit=pd.read_csv(path, dtype=str, keep_default_na=False)["commit"])


def changed(old: pd.DataFrame, here: pd.DataFrame) -> str:
    """The first row of ``old`` that is not ``here``; "" where all are."""
    key = [*SETTINGS, "epoch"]
    known = {tuple(row[name] for name in key): row for row in here.astype(str).to_dict("records")}
    for row in old.astype(str).to_dict("records"):
        if known.get(tuple(row[name] for name in key)) != row:
            return ", ".join(f"{name}={row[name]}" for name in ("model", "sparsity", "seed", "epoch"))
    return ""


def main(folder: Path, commit: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{7,40}", commit):
        sys.exit(f"COMMIT={commit} is not allowed: a commit of this repository, as git names it")
    files = sorted(folder.glob("*_*.csv"))
    came = {file: rows_in(file) for file in files}
    for file, rows in came.items():
        if row := changed(rows[rows["commit"] != ""], rows_in(store.runs_folder() / file.name)):
            sys.exit(f"{file}: a row that went there is not what it is here ({row}); nothing is merged")
    for file, rows in came.items():
        new = rows[rows["commit"] == ""].reset_index(drop=True)
        runs = new.groupby(pd.Series([repr(asdict(run)) for run in experiments_in(new)], dtype=str), sort=False)
        stored = [store.store(of_run.assign(commit=commit)) for _, of_run in runs]
        print(f"{file.name}: {sum(stored)} runs merged, {len(stored) - sum(stored)} were here already", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
