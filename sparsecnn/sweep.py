"""Many Experiments: what is stored is read, the rest is trained, and each finished run is stored at once.

Sweeps on one store share the work, on one machine or on several: a run is claimed before it is trained.
"""

import argparse
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
from tqdm.auto import tqdm

from . import results, resuming
from .datasets import DataError, load, split
from .devices import DEVICES, choose_device
from .engines import Cluster, Here, Processes, TimeIsUp, visible_gpus
from .experiment import (
    PROTOCOLS,
    Experiment,
    SettingError,
    check_choice,
    check_experiment,
    check_range,
    check_type,
)
from .models import LAYERS
from .stacks import stacks_of
from .studies import STUDIES, studies_of
from .training import TrainingError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Interrupted", "missing", "sweep"]

TURN = 0.2  # seconds between two looks at what has finished


class Interrupted(KeyboardInterrupt):
    """A sweep that was interrupted. Notebooks show its one line, not a traceback."""

    _render_traceback_ = SettingError._render_traceback_


def missing(experiments: list[Experiment]) -> list[Experiment]:
    """Those that the store does not hold. One that is among them a second time, there tested at every sparsity, is left
    to that one."""
    stored = set(results.of_experiments(experiments)["run"])
    tested = {experiment for experiment in experiments if experiment.tested_at == "every sparsity"}
    return [
        experiment
        for number, experiment in enumerate(experiments)
        if number not in stored
        and (experiment in tested or replace(experiment, tested_at="every sparsity") not in tested)
    ]


def sweep(
    experiments: list[Experiment],
    device: str = "auto",
    rerun: bool = False,
    workers: int | None = None,
    client: "Client | None" = None,
    minutes: float | None = None,
) -> pd.DataFrame:
    """Trains the experiments that are not stored yet, and returns the rows of all, with ``run``: the index in the list.

    On CUDA those that :mod:`sparsecnn.stacks` says are trained together.

    Args:
        device: "auto", "cpu" or "cuda".
        rerun: train all of them anew; the fresh rows are returned, those in the store stay what they are.
        workers: processes that train side by side; None = one a core on the CPU, one a GPU on CUDA.
        client: of a dask.distributed cluster whose workers then train, one run at a time each; this process alone
            writes the store.
        minutes: a budget; None = as long as it takes. Runs that do not end within it are given up, and go on next time
            at the epoch that was last saved, see training.train (on a cluster, and in a rerun, at the first). No run is
            started that would, going by the slowest so far, be neither ended nor saved within it. A run that trains in
            this process ends its epoch first, if late, and in a rerun all of them. Rows of the finished ones are
            returned; the same call later goes on.

    Raises:
        SettingError, DataError, ResultsError: before any work starts, where a setting, a data set or the store is not
            right.
        TrainingError, ResultsError: where training or storing fails; what is stored by then stays.
        Interrupted: for a KeyboardInterrupt, likewise.
    """
    for experiment in experiments:
        check_experiment(experiment)
        check_choice("architecture", experiment.architecture, LAYERS)
    if len(set(experiments)) < len(experiments):
        raise SettingError("experiments with one of them twice is not allowed: each once")
    check_type("rerun", rerun, bool)
    if workers is not None:
        check_type("workers", workers, int)
        check_range("workers", workers, least=1)
    if minutes is not None:
        check_type("minutes", minutes, float)
        check_range("minutes", minutes, above=0)
    check_choice("device", device, DEVICES)
    if client is None:  # else device and data are the workers' to have
        device = choose_device(device).type
    todo = list(experiments) if rerun else missing(experiments)
    if not todo:
        return results.of_experiments(experiments)
    if client is None:
        for name, validation, kind in sorted({(run.dataset, run.validation, run.split) for run in todo}):
            split(load(name), validation, kind)
    if not rerun:
        results.check_writable(results.runs_folder())

    fresh = []
    with tqdm(total=sum(experiment.epochs for experiment in todo), desc=f"{len(todo)} runs", unit="epoch") as bar:
        reached = [0] * len(todo)

        def show(number: int, epoch: int, loss: float, accuracy: float) -> None:
            run = todo[number]
            name = f"{run.model}, {run.sparsity:.0%} missing, seed {run.seed}"
            bar.set_postfix_str(f"{name}: loss {loss:.3f}, accuracy {accuracy:.1f}%", refresh=False)
            # A run may go on from an earlier sitting, or start again on another worker.
            bar.update(max(0, epoch - reached[number]))
            reached[number] = max(epoch, reached[number])

        if workers is None:
            workers = _cores() if device == "cpu" else len(visible_gpus()) or 1
        # A cluster's device is its workers' to know.
        stacks = stacks_of(todo, device if client is None else "cpu", workers)
        workers = min(workers, len(stacks))
        end = time.monotonic() + 60 * minutes if minutes else math.inf
        if client is not None:
            engine = Cluster(device, show, client)
            if not client.nthreads():
                bar.set_postfix_str("waiting for a worker")
        else:
            engine = Here(device, show, end) if workers == 1 else Processes(device, show, workers)
        try:
            with engine:
                for rows in _train_all(todo, stacks, engine, bar, not rerun, end):
                    fresh.append(rows)
        except TimeIsUp:
            bar.write(f"{minutes} minutes are over after {len(fresh)} of {len(todo)} runs; start again to go on")
        except KeyboardInterrupt:
            kept = "a rerun stores none" if rerun else "they are stored, start again to go on"
            raise Interrupted(f"stopped after {len(fresh)} of {len(todo)} runs: {kept}") from None
    if rerun:
        return results.of_experiments(experiments, pd.concat(fresh, ignore_index=True) if fresh else results.no_rows())
    return results.of_experiments(experiments)


def _train_all(
    experiments: list[Experiment],
    stacks: list[list[int]],
    engine: Here | Processes | Cluster,
    bar: tqdm,
    shared: bool,
    end: float,
) -> Iterator[pd.DataFrame]:
    """The rows of each run as it finishes; where ``shared``, claimed first, stored then, and left out if it is another
    sweep that trains it. ``stacks`` says which are trained together."""
    waiting, running, claims = deque(stacks), {}, {}
    slowest = 0.0  # how long it took at most until a run was ended, or saved if that is sooner
    try:
        while waiting or running:
            if time.monotonic() > end or (not running and time.monotonic() + slowest > end):
                raise TimeIsUp
            for _ in range(len(waiting)):
                if len(running) >= engine.width or time.monotonic() + slowest > end:
                    break
                numbers = waiting.popleft()
                runs = {number: experiments[number] for number in numbers}
                if shared:
                    for number, run in runs.items():
                        if claim := results.claim(run):
                            claims[number] = claim
                    if others := [number for number in numbers if number not in claims]:
                        waiting.append(others)
                    unstored = missing([run for number, run in runs.items() if number in claims])
                    for number in claims.keys() & runs.keys():
                        if runs[number] not in unstored:
                            results.release(claims.pop(number))
                            bar.update(runs[number].epochs)
                    runs = {number: run for number, run in runs.items() if number in claims}
                if runs:
                    # Those that are trained together are saved together, by the name of the first.
                    resume = results.unfinished(next(iter(runs.values()))) if shared and engine.resumes else None
                    running[engine.submit(runs, resume)] = runs, resume, time.monotonic()
            if not running:
                bar.set_postfix_str("the last ones are in the hands of another sweep")
                time.sleep(TURN)
                continue
            done, _ = wait(running, timeout=TURN, return_when=FIRST_COMPLETED)
            engine.poll()
            for future in done:
                tables = future.result()
                runs, resume, begun = running.pop(future)
                took = time.monotonic() - begun
                if resume:
                    seconds = sum(rows["seconds"].iloc[0] for rows in tables)
                    took = min(took, max(resuming.SAVE_AFTER, seconds / len(tables[0])))
                slowest = max(slowest, took)
                for number, rows in zip(runs, tables, strict=True):
                    if shared:
                        results.store(rows)
                        resuming.forget(results.unfinished(runs[number]))
                        results.release(claims.pop(number))
                    yield rows
    finally:
        for claim in claims.values():
            results.release(claim)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def main() -> None:
    """Fills the store: ``python -m sparsecnn.sweep --help``."""
    ask = argparse.ArgumentParser(prog="python -m sparsecnn.sweep", description=main.__doc__.split(":")[0])
    ask.add_argument("--dataset", help="mnist or caltech101; both by default")
    ask.add_argument("--study", help=f"{', '.join(STUDIES)}; all by default")
    ask.add_argument("--protocol", help="as_reported, as_run or controlled; all three by default")
    ask.add_argument("--sparsity", type=float, help="one fraction of pixels missing; each study's own by default")
    ask.add_argument("--seeds", type=int, help="number of seeds; by default what each study is recorded with")
    ask.add_argument("--device", default="auto", help="auto (the default), cpu or cuda")
    ask.add_argument("--workers", type=int, help="runs side by side; by default one a core, or one a GPU")
    ask.add_argument("--minutes", type=float, help="stop cleanly within so many minutes")
    asked = ask.parse_args()
    for name, allowed in (("study", STUDIES), ("protocol", PROTOCOLS)):
        if getattr(asked, name) is not None:
            check_choice(name, getattr(asked, name), allowed)
    experiments = []
    for dataset in ("mnist", "caltech101") if asked.dataset is None else (asked.dataset,):
        for study, runs in studies_of(dataset, asked.sparsity, asked.seeds).items():
            if asked.study in (None, study):
                experiments += [run for run in runs if asked.protocol in (None, run.protocol)]
    # A run may serve several studies.
    sweep(list(dict.fromkeys(experiments)), device=asked.device, workers=asked.workers, minutes=asked.minutes)


if __name__ == "__main__":  # make full
    try:
        main()
    except (SettingError, DataError, results.ResultsError, TrainingError, Interrupted) as error:
        sys.exit(f"{type(error).__name__}: {error}")
