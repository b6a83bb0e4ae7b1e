"""The store of finished runs: results/runs/<dataset>_<protocol>.csv, one row an epoch of a run.

A row holds the Experiment's fields, what was measured after that epoch, and where it was measured. A file is only ever
replaced as a whole, under a lock, so a reader never sees half a run. Whoever trains a run holds its claim meanwhile: a
lock that the system takes back when its holder dies, so that sweeps on one store share the work.
"""

import contextlib
import functools
import hashlib
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from ..checks import check_choice
from ..experiment import DATASETS, PROTOCOLS, Experiment, with_more_tests
from ..files import naming_failures, output_root, replacing
from ..records import COLUMNS, KINDS, columns_needed, experiments_in, no_rows, read_rows

__all__ = [
    "claim",
    "of_experiments",
    "read",
    "release",
    "retrained",
    "retrained_path",
    "runs_folder",
    "store",
    "unfinished",
]


def read(dataset: str, protocol: str) -> pd.DataFrame:
    """Every stored row of a data set and protocol, with the columns settings, measured, provenance.

    Raises:
        ResultsError: for a file that does not hold whole runs as this version writes them; it says where.
    """
    check_choice("dataset", dataset, DATASETS)
    check_choice("protocol", protocol, PROTOCOLS)
    path = _path(dataset, protocol)
    try:
        status = path.stat()
    except OSError:
        return read_rows(path)  # which says what is wrong
    return _read(path, status.st_ino, status.st_size, status.st_mtime_ns).copy()


@functools.lru_cache(maxsize=16)
def _read(path: Path, *_) -> pd.DataFrame:
    """As read_rows, which takes most of a second for a long file, once for each state that a file has been in."""
    return read_rows(path)


def retrained_path() -> Path:
    return output_root() / "results/precision_caltech101.csv"


def retrained() -> pd.DataFrame:
    """The rows in :func:`retrained_path`, as :func:`read` has them: runs that are stored in float32, trained once more
    in bf16 by benchmarks/precision.py."""
    return read_rows(retrained_path())


def of_experiments(experiments: list[Experiment], rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The stored rows (or those of ``rows``) of these experiments, with the column ``run``: the index in the list.

    A run with more tests serves for one with fewer that is not there itself, where no other in the list has its rows.
    """
    if rows is None:
        groups = sorted({(experiment.dataset, experiment.protocol) for experiment in experiments})
        tables = [table for table in (read(*group) for group in groups) if len(table)]
        rows = pd.concat(tables, ignore_index=True) if tables else no_rows()
    position = {experiment: i for i, experiment in enumerate(experiments)}
    of_rows = experiments_in(rows)
    there = set(of_rows)
    for experiment, number in list(position.items()):
        serve = [experiment, *with_more_tests(experiment)]
        position.setdefault(next((run for run in serve if run in there), experiment), number)
    runs = [position.get(experiment, -1) for experiment in of_rows]
    return rows.assign(run=runs).query("run >= 0").sort_values(["run", "epoch"], ignore_index=True)


def store(rows: pd.DataFrame) -> bool:
    """Adds one finished run; False, and nothing changes, where that run is stored already.

    Raises:
        ResultsError: where the store can't be written; what it held stays as it was.
    """
    runs = set(experiments_in(rows))
    if len(runs) != 1:
        raise ValueError(f"the rows of {len(runs)} runs are not allowed: those of one")
    (experiment,) = runs
    path = _path(experiment.dataset, experiment.protocol)
    with naming_failures(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            stored = read_rows(path)
            if experiment in set(experiments_in(stored)):
                return False
            both = pd.concat([stored, rows[COLUMNS]], ignore_index=True) if len(stored) else rows[COLUMNS]
            with replacing(path) as file:
                both[columns_needed(path, both)].to_csv(file, index=False)
    return True


def claim(experiment: Experiment) -> FileLock | None:
    """The right to train a run, until :func:`release`; None where another process has it.

    Whoever had it before may have stored the run: look into the store after claiming, not before.
    """
    lock = FileLock(runs_folder() / "claims" / _name(experiment))
    with naming_failures(_path(experiment.dataset, experiment.protocol)):
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
    return lock


def release(claimed: FileLock) -> None:
    """Gives a claim back."""
    # Removed while it is held; filelock sees that the file it then locked is gone, and tries again.
    with contextlib.suppress(PermissionError):  # Windows removes no open file
        Path(claimed.lock_file).unlink(missing_ok=True)
    claimed.release()


def unfinished(experiment: Experiment) -> Path:
    """Where the state of a run lies until it is stored; only whoever has its claim may touch it."""
    return output_root() / "results/unfinished" / f"{_name(experiment)}.pt"


def runs_folder() -> Path:
    """Where the store lies."""
    return output_root() / "results/runs"


def _path(dataset: str, protocol: str) -> Path:
    return runs_folder() / f"{dataset}_{protocol}.csv"


def _name(experiment: Experiment) -> str:
    """A file name for a run."""
    values = [kind(getattr(experiment, name)) for name, kind in KINDS.items()]  # 0 and 0.0 are one sparsity
    return f"{experiment.dataset}_{experiment.protocol}_{hashlib.sha256(repr(values).encode()).hexdigest()[:16]}"
