"""Where the runs of a sweep are trained: in this process, in processes side by side, or on a dask.distributed cluster.

An executor starts runs, one or an ensemble of them, with ``submit(runs, resume, compiled)``, ``runs`` being Experiments
by their numbers. That gives a future of their rows, a frame each. It keeps up to ``width`` of these going, and says at
each ``poll()`` how far they are. Those that ``resumes`` can keep the state of these runs in the file ``resume``, see
training.train. Leaving an executor's ``with`` block on an error ends what still runs.
"""

import multiprocessing
import os
import queue
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from ..checks import SettingError, check_type
from ..experiment import Experiment
from ..training.train import TrainingError, train, train_ensemble

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster", "Here", "Processes", "TimeIsUp", "connect", "refuse_in_a_starting_process", "visible_gpus"]

PATIENCE = 4  # seconds for a scheduler to answer
# A process for training first runs the caller's script, which may call sweep again: it then ends with this status.
UNGUARDED = 77
GUARD = (
    "the processes that train read the script that calls sweep, and came to that call: put it below a line "
    "if __name__ == '__main__': or give it workers=1"
)
# Called with a run's number, the epoch it has finished, and that epoch's training loss and metric.
Show = Callable[[int, int, float, float], None]
Runs = dict[int, Experiment]


class TimeIsUp(Exception):
    """The budget of a sweep is spent."""


class Here:
    """One run, or ensemble, after the other, in this process. One that can be resumed is given up after an epoch, where
    one more as long as that would end after ``end`` on the monotonic clock."""

    width, resumes = 1, True

    def __init__(self, device: str, show: Show, end: float):
        self.device, self.show, self.end = device, show, end

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_) -> None:
        pass

    def submit(self, runs: Runs, resume: Path | None, compiled: bool) -> Future:
        begun, first = time.monotonic(), next(iter(runs))
        earlier = resume is not None and resume.exists()  # then the first epoch told of is an earlier sitting's

        def show(number: int, epoch: int, *measured: float) -> None:
            nonlocal begun, earlier
            self.show(number, epoch, *measured)
            if number != first:  # those that train together end an epoch together
                return
            now = time.monotonic()
            if resume and not earlier and epoch < runs[number].epochs and now + (now - begun) > self.end:
                raise TimeIsUp
            begun, earlier = now, False

        future: Future = Future()
        try:
            future.set_result(_train(runs, self.device, show, resume, compiled))
        except Exception as error:
            future.set_exception(error)
        return future

    def poll(self) -> None:
        pass


class Processes:
    """Runs side by side on this machine, a process each; on CUDA the processes take its GPUs in turn."""

    resumes = True

    def __init__(self, device: str, show: Show, width: int):
        self.device, self.show, self.width = device, show, width
        script = getattr(sys.modules["__main__"], "__file__", None)
        if script and not sys.modules["__main__"].__spec__ and not os.path.exists(script):
            raise SettingError(
                f"workers={width} is not allowed in a script that is read from {script}, which the processes that "
                "train can't read again: put it into a file, or workers=1"
            )
        # Spawned, not forked: a fork of a process with running threads (torch, Jupyter) can hang.
        context = multiprocessing.get_context("spawn")
        self.told, self.gpus = context.SimpleQueue(), context.SimpleQueue()
        names = visible_gpus() or [""]
        for number in range(width):
            self.gpus.put(names[number % len(names)])
        self.pool = ProcessPoolExecutor(width, context, _start_process, (self.told, self.gpus))

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, kind, error, _) -> None:
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:
            for process in processes:
                process.terminate()
        if isinstance(error, BrokenProcessPool):
            for process in processes:
                process.join()
            raise TrainingError(_why_broken([process.exitcode for process in processes])) from None

    def submit(self, runs: Runs, resume: Path | None, compiled: bool) -> Future:
        return self.pool.submit(_in_process, runs, self.device, resume, compiled)

    def poll(self) -> None:
        while not self.told.empty():
            self.show(*self.told.get())


def _why_broken(statuses: list[int]) -> str:
    """What the first of a pool's processes ended for; the others were then terminated."""
    if UNGUARDED in statuses:
        return GUARD
    (status,) = [status for status in statuses if status not in (0, -signal.SIGTERM)][:1] or [-signal.SIGTERM]
    if status == -signal.SIGKILL:
        why = "a training process was killed, as the system does when memory is short: fewer workers need less"
    elif status < 0:
        why = f"a training process was ended by {signal.Signals(-status).name}"
    else:
        why = f"a training process ended with status {status}: what it wrote on stderr says why"
    return f"{why}; what is stored stays as it was, start again to go on"


def refuse_in_a_starting_process() -> None:
    """Ends a process for training that has come to the call that started it, see ``UNGUARDED``."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # multiprocessing's own mark of them
        sys.exit(UNGUARDED)


def visible_gpus() -> list[str]:
    """The names that CUDA_VISIBLE_DEVICES has, or would have, for this machine's GPUs."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def _start_process(told, gpus) -> None:
    global _told
    _told = told
    if gpu := gpus.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # which CUDA reads when it is first used
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the sweep's to handle, which ends its processes
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A sweep that is killed can't end its processes, and nothing else would."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _in_process(runs: Runs, device: str, resume: Path | None, compiled: bool) -> list[pd.DataFrame]:
    return _train(runs, device, lambda *seen: _told.put(seen), resume, compiled)


def _train(runs: Runs, device: str, show: Show, resume: Path | None, compiled: bool) -> list[pd.DataFrame]:
    numbers, experiments = list(runs), list(runs.values())
    if len(runs) > 1:
        return train_ensemble(experiments, device, lambda place, *seen: show(numbers[place], *seen), resume)
    return [train(experiments[0], device, partial(show, numbers[0]), resume=resume, compiled=compiled)]


class Cluster:
    """Runs on the workers of a dask.distributed cluster, one at a time on each; those of a lost worker start again on
    another, from the beginning: a worker may lie where no file of this machine's can be read."""

    resumes = False

    def __init__(self, device: str, show: Show, client: "Client"):
        self.device, self.show, self.client = device, show, client
        self.executor = client.get_executor(pure=False)
        self.told: queue.SimpleQueue = queue.SimpleQueue()
        self.topic = f"sparsecnn-{uuid.uuid4()}"
        client.subscribe_topic(self.topic, lambda event: self.told.put(event[1]))

    @property
    def width(self) -> int:
        return max(1, len(self.client.nthreads()))  # workers may come and go

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, kind, error, _) -> None:
        from distributed import CancelledError, KilledWorker

        if self.client.status == "running":
            self.client.unsubscribe_topic(self.topic)
            self.executor.shutdown(wait=kind is None)
        if isinstance(error, KilledWorker):
            raise TrainingError(
                f"a run was lost with {error.allowed_failures + 1} workers one after the other, perhaps for want of "
                f"memory; the last was {error.last_worker.address}: what is stored stays as it was"
            ) from None
        if isinstance(error, CancelledError):
            raise TrainingError(
                f"the scheduler at {self.client.scheduler.address} is gone: what is stored stays as it was, "
                "start again to go on"
            ) from None

    def submit(self, runs: Runs, _: None, compiled: bool) -> Future:
        return self.executor.submit(_on_worker, runs, self.device, self.topic, compiled)

    def poll(self) -> None:
        while not self.told.empty():
            self.show(*self.told.get())


_alone = threading.Lock()


def _on_worker(runs: Runs, device: str, topic: str, compiled: bool) -> list[pd.DataFrame]:
    from distributed import get_worker

    worker = get_worker()
    with _alone:  # whatever the number of threads that the worker was started with
        return _train(runs, device, lambda *seen: worker.log_event(topic, seen), None, compiled)


def connect(scheduler: str | None) -> "Client | None":
    """A client of the dask.distributed scheduler at that address, say "tcp://127.0.0.1:8786"; None for None.

    Raises:
        SettingError: where none answers, or dask.distributed is not installed.
    """
    if scheduler is None:
        return None
    check_type("scheduler", scheduler, str)
    if not re.fullmatch(r"\w+://[^/\s]+:\d{1,5}", scheduler):
        raise SettingError(f"scheduler={scheduler!r} is not allowed: an address like 'tcp://127.0.0.1:8786'")
    try:
        from distributed import Client
    except ImportError:
        raise SettingError(
            f"scheduler={scheduler!r} is not allowed: dask.distributed is not installed, pip install '.[cluster]' does"
        ) from None
    try:
        return Client(scheduler, timeout=PATIENCE)
    except Exception as error:  # of many kinds: OSError, ValueError, AssertionError, by address and by version
        raise SettingError(
            f"scheduler={scheduler!r} is not allowed: no dask scheduler answers there ({' '.join(str(error).split())})"
        ) from None
