"""The store of finished runs: results/runs/<dataset>_<protocol>.csv, one row an epoch of a run.

A row holds the Experiment's fields, what was measured after that epoch, and where it was measured. A file is only ever
replaced as a whole, under a lock, so a reader never sees half a run.
"""

import os
from dataclasses import fields
from pathlib import Path

import pandas as pd
from filelock import FileLock

from .datasets import REPOSITORY
from .experiment import Experiment, SettingError

__all__ = ["MEASURED", "PROVENANCE", "ResultsError", "of_experiments", "output_root", "read", "store"]

SETTINGS = [field.name for field in fields(Experiment)]
# Loss per image; accuracies in percent. Training loss and accuracy are running means over the epoch.
MEASURED = ["epoch", "train_loss", "train_accuracy", "validation_accuracy", "test_accuracy"]
# Seconds and device are the whole run's; commit is that of the package's code.
PROVENANCE = ["device", "torch", "precision", "seconds", "commit"]
COLUMNS = SETTINGS + MEASURED + PROVENANCE


class ResultsError(RuntimeError):
    """Results that are not there, or can't be read as this code's. Notebooks show its one line, not a traceback."""

    _render_traceback_ = SettingError._render_traceback_


def output_root() -> Path:
    """The folder of results/ and figures/: the environment's SPARSECNN_OUTPUT, or the repository."""
    return Path(os.environ.get("SPARSECNN_OUTPUT") or REPOSITORY)


def read(dataset: str, protocol: str) -> pd.DataFrame:
    """Every stored row of a data set and protocol, with the columns settings, measured, provenance."""
    return _read(_path(dataset, protocol))


def of_experiments(experiments: list[Experiment], rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The stored rows (or those of ``rows``) of these experiments, with the column ``run``: the index in the list."""
    if rows is None:
        groups = sorted({(experiment.dataset, experiment.protocol) for experiment in experiments})
        tables = [table for table in (read(*group) for group in groups) if len(table)]
        rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    position = {experiment: i for i, experiment in enumerate(experiments)}
    runs = [position.get(experiment, -1) for experiment in _experiments(rows)]
    return rows.assign(run=runs).query("run >= 0").sort_values(["run", "epoch"], ignore_index=True)


def store(rows: pd.DataFrame) -> bool:
    """Adds one finished run; False, and nothing changes, where that run is stored already."""
    (experiment,) = set(_experiments(rows))
    path = _path(experiment.dataset, experiment.protocol)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        stored = _read(path)
        if experiment in set(_experiments(stored)):
            return False
        both = pd.concat([stored, rows[COLUMNS]], ignore_index=True) if len(stored) else rows[COLUMNS]
        aside = path.with_suffix(".new")
        with aside.open("w") as file:
            both.to_csv(file, index=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    return True


def _path(dataset: str, protocol: str) -> Path:
    return output_root() / "results/runs" / f"{dataset}_{protocol}.csv"


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    rows = pd.read_csv(path)
    if list(rows.columns) != COLUMNS:
        odd = sorted(set(rows.columns) ^ set(COLUMNS)) or "their order"
        raise ResultsError(f"{path} does not hold this version's columns ({odd}): move it away, or mend it")
    return rows


def _experiments(rows: pd.DataFrame) -> list[Experiment]:
    kinds = {field.name: field.type for field in fields(Experiment)}
    columns = [rows[name].astype(kind).tolist() for name, kind in kinds.items()]
    known: dict[tuple, Experiment] = {}  # a run's rows share one
    found = []
    for values in zip(*columns, strict=True):
        if values not in known:
            known[values] = Experiment(**dict(zip(kinds, values, strict=True)))
        found.append(known[values])
    return found
