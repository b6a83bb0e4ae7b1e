"""What a row of results holds: a run's Experiment, what was measured after an epoch, and where it was measured."""

import functools
import io
import re
from dataclasses import fields
from pathlib import Path

import pandas as pd

from .checks import SettingError
from .experiment import Experiment, task_of
from .files import ResultsError
from .tasks import CLASSIFICATION, DEPTH, Task

__all__ = [
    "COLUMNS",
    "MEASURED",
    "PROVENANCE",
    "SETTINGS",
    "columns_needed",
    "experiments_in",
    "no_rows",
    "read_rows",
    "reported_row",
]

KINDS = {field.name: field.type for field in fields(Experiment)}
SETTINGS = list(KINDS)
# Loss per image; a metric in its task's unit. Training loss and metric are running means over the epoch. The correctly
# classified test images are a number a class, with blanks between. Transfer, in the row of the reported epoch of runs
# tested at every sparsity, holds the test's metrics under other masks, kind:sparsity=metric, or metric/metric/...,
# with blanks between; else it is empty.
METRICS = [
    f"{part}_{metric}"
    for part, number in (("train", 1), ("validation", 1), ("test", None))
    for task in (CLASSIFICATION, DEPTH)
    for metric in task.metrics[:number]
]
MEASURED = ["epoch", "train_loss", *METRICS, "test_correct", "transfer"]
PATTERNS = {
    "test_correct": r"\d+( \d+)*",
    "transfer": r"(\w+:[\d.]+=[\d.]+(/[\d.]+)*( (?=\w)|$))*",
    "commit": r"[0-9a-f]{7,40}\+?",
}
# Seconds and device are the whole run's; commit is that of the package's code.
PROVENANCE = ["device", "torch", "precision", "seconds", "commit"]
COLUMNS = SETTINGS + MEASURED + PROVENANCE
# Columns that a file may lack, since they came later or are another task's, in their order, and what they are then.
LATER = {
    "split": "own",
    "optimiser": "Adam",
    "trained_at": "own sparsity",
    "tested_at": "own sparsity",
    "split_seed": 0,
    "loss": "cross entropy",
    "schedule": "constant",
    "fill": "own",
    "images": "as they are",
    **dict.fromkeys(METRICS, float("nan")),
    "test_correct": None,
    "transfer": "",
}
# A run is found by these, so they are read by Python, which gives back the very number that was written.
FRACTIONS = [name for name, kind in KINDS.items() if kind is float]
# The columns that must hold a value, and its type, beside the test's metrics. A diverged run has no loss, one without
# validation images measures nothing on them, and code outside git has no commit.
FILLED = KINDS | {"epoch": int, "device": str, "torch": str, "precision": str, "seconds": float}
# What pandas would take for a number where it looks like one.
TEXTS = [name for name, kind in FILLED.items() if kind is str] + list(PATTERNS)
REMEDY = "mend it, take its last version from git, or move it away to train its runs anew"


def no_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=COLUMNS)


def reported_row(epochs: pd.DataFrame, rule: str, task: Task = CLASSIFICATION) -> int:
    """The label of the row that a run with these rows, an epoch each, reports: of the "last" epoch, or of the task's
    best metric on "validation" or "test" images, the earliest among equals."""
    if rule == "last":
        return epochs["epoch"].idxmax()
    metric = epochs[f"{rule}_{task.metrics[0]}"]
    return metric.idxmax() if task.best == "highest" else metric.idxmin()


def read_rows(path: Path) -> pd.DataFrame:
    """The rows in a file, each run whole; none where there is no file.

    Raises:
        ResultsError: for a file that does not hold whole runs as this version writes them; it says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # Blank lines are kept, so that a row's number gives its line.
        rows = pd.read_csv(io.StringIO(text), skip_blank_lines=False, dtype=dict.fromkeys((*TEXTS, *FRACTIONS), str))
    except FileNotFoundError:
        return no_rows()
    except (OSError, ValueError) as error:  # pandas' errors, and those of bytes that are no text, are ValueErrors
        raise ResultsError(f"{path} can't be read ({' '.join(str(error).split())}): {REMEDY}") from error
    if not text.endswith("\n"):
        raise ResultsError(f"{path} is cut short, its last line has no end: {REMEDY}")
    for separator, word in {";": "semicolons", "\t": "tabs"}.items():
        if text.startswith(f"{COLUMNS[0]}{separator}"):
            raise ResultsError(f"{path} has {word} between its columns where commas belong: {REMEDY}")
    if not isinstance(rows.index, pd.RangeIndex):  # pandas then takes the first column for a name of the row
        raise ResultsError(f"{path} has more cells in its rows than in its first line: {REMEDY}")
    if set(rows.columns) | LATER.keys() >= set(COLUMNS):
        for name, default in LATER.items():
            if name not in rows.columns:
                rows.insert(COLUMNS.index(name), name, default)
    if list(rows.columns) != COLUMNS:
        odd = ", ".join(sorted(set(rows.columns) ^ set(COLUMNS))) or "their order"
        raise ResultsError(f"{path} does not hold this version's columns ({odd}): {REMEDY}")

    def refuse(wrong: pd.Series, name: str) -> None:
        if wrong.any():
            row = wrong.idxmax()
            raise ResultsError(f"{path}, line {row + 2}: {name}={rows.at[row, name]!s} is not allowed: {REMEDY}")

    rows["transfer"] = rows["transfer"].fillna("")
    for name in FRACTIONS:
        rows[name] = rows[name].map(_number)
    for name, pattern in PATTERNS.items():
        # By Python: where pyarrow is installed, pandas' own matching is Arrow's, which knows other expressions.
        matches = re.compile(pattern).fullmatch
        wrong = [isinstance(text, str) and not matches(text) for text in rows[name]]
        refuse(pd.Series(wrong, index=rows.index, dtype=bool), name)
    for name in [name for name in COLUMNS if name not in PATTERNS]:
        kind = FILLED.get(name, float)
        values = rows[name] if kind is str else pd.to_numeric(rows[name], errors="coerce")
        refuse(values.isna() & (rows[name].notna() | (name in FILLED)), name)
        if kind is int:
            refuse((values % 1 != 0) | (values.abs() > 2**53), name)
        if name in METRICS:
            refuse((values < 0) | (values > (100 if name.endswith("accuracy") else float("inf"))), name)
    try:
        experiments = experiments_in(rows)
    except SettingError as error:
        raise ResultsError(f"{path} holds a run that this version does not know ({error}): {REMEDY}") from error
    tasks = rows["dataset"].map(task_of)
    for task in set(tasks):
        for metric in task.metrics:
            refuse(rows[f"test_{metric}"].isna() & (tasks == task), f"test_{metric}")
    epochs: dict[Experiment, list[int]] = {}
    for experiment, epoch in zip(experiments, rows["epoch"], strict=True):
        epochs.setdefault(experiment, []).append(int(epoch))
    for experiment, found in epochs.items():
        if found != list(range(1, experiment.epochs + 1)):
            raise ResultsError(
                f"{path} holds the epochs {found} of {experiment}, which are not one whole run: {REMEDY}"
            )
    return rows


def columns_needed(path: Path, rows: pd.DataFrame) -> list[str]:
    """The columns with which a file goes on: those that came after it only once a row needs them, so that the rows in
    it keep their bytes. A new one has all but other tasks' metrics."""
    if path.exists():
        known = pd.read_csv(path, nrows=0).columns
    else:
        asked = {metric for name in rows["dataset"].unique() for metric in task_of(name).metrics}
        known = [name for name in COLUMNS if name not in METRICS or name.split("_")[1] in asked]

    def default(name: str) -> bool:
        return (rows[name].isna() if pd.isna(LATER[name]) else rows[name].eq(LATER[name])).all()

    return [name for name in COLUMNS if name in known or not default(name)]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # for the message


def experiments_in(rows: pd.DataFrame) -> list[Experiment]:
    columns = [rows[name].astype(kind).tolist() for name, kind in KINDS.items()]
    return [_experiment(values) for values in zip(*columns, strict=True)]


@functools.lru_cache(maxsize=100_000)
def _experiment(values: tuple) -> Experiment:
    """A run's rows share one."""
    return Experiment(**dict(zip(KINDS, values, strict=True)))
