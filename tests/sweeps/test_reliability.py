"""What RELIABILITY.md promises, tried for real: processes killed, writers at once, disks full, workers lost."""

import contextlib
import functools
import itertools
import multiprocessing
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client, LocalCluster
from jupyter_client.manager import start_new_kernel

from sparsecnn.checks import SettingError
from sparsecnn.data.datasets import load
from sparsecnn.data.downloads import data_root
from sparsecnn.experiment import Experiment, experiment
from sparsecnn.files import REPOSITORY, ResultsError
from sparsecnn.sweeps import store
from sparsecnn.sweeps.executors import Processes, connect, visible_gpus
from sparsecnn.sweeps.sweep import missing, sweep
from sparsecnn.training import resuming
from sparsecnn.training.train import TrainingError, train

VOLATILE = ["seconds", "commit"]
# Processes forked from one that has everything imported, what this file imports as well, start in milliseconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([
    "sparsecnn.sweeps.sweep", "sklearn.datasets", "sklearn.model_selection", "torch._dynamo", "pytest", "distributed",
    "jupyter_client.manager",
])  # fmt: skip

brief = functools.partial(experiment, "digits", "controlled", "ConvNet", 0.5, epochs=1, train_images=8)
lengthy = functools.partial(brief, epochs=40, train_images=0)


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path / "output"))
    return tmp_path / "output"


@pytest.fixture
def runs_file(output) -> Path:
    return output / "results/runs/digits_controlled.csv"


def start(work, *arguments) -> multiprocessing.Process:
    """``work(*arguments)`` in a process of its own, with this one's environment."""
    process = CONTEXT.Process(target=_with_environment, args=(dict(os.environ), work, arguments))
    process.start()
    return process


def _with_environment(environment, work, arguments):
    os.environ.update(environment)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):  # progress bars
        work(*arguments)


def same_rows(rows: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(rows.drop(columns=VOLATILE), expected.drop(columns=VOLATILE), check_exact=True)


def until(condition, seconds: float = 60):
    """What ``condition()`` gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    pytest.fail(f"not so within {seconds} s")


def answer(work, *arguments) -> str:
    """The error that ``work(*arguments)`` in another process ends with: one line, type and message."""
    told = CONTEXT.SimpleQueue()
    start(_tell_error, told, work, arguments).join()
    message = told.get()
    assert "\n" not in message
    return message


def _tell_error(told, work, arguments):
    message = "no error"
    try:
        work(*arguments)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    told.put(message)


# Killed


def _sweep_and_tell(runs: list[Experiment], begun) -> None:
    """A sweep that releases the semaphore ``begun`` whenever it begins to train."""
    import sparsecnn.sweeps.executors

    def telling(*arguments, **settings):
        begun.release()
        return train(*arguments, **settings)

    sparsecnn.sweeps.executors.train = telling
    sweep(runs, "cpu", workers=1)


def test_fifty_kills_lose_and_double_nothing(output, runs_file, monkeypatch):
    runs = [brief(seed=seed) for seed in range(1000)]
    moments = random.Random(0)
    stored: set[int] = set()
    train(runs[0], "cpu")  # the first one imports and loads
    begun = time.perf_counter()
    train(runs[0], "cpu")
    pace = time.perf_counter() - begun
    for _ in range(50):
        # A few to be stored, and one at the end that no process lives to finish.
        begun = CONTEXT.Semaphore(0)
        process = start(_sweep_and_tell, [*runs[: len(stored) + 4], lengthy(seed=1000)], begun)
        if moments.random() < 0.9:  # else it dies wherever it is
            assert begun.acquire(timeout=60)
        process.join(moments.uniform(0, 4 * pace))
        assert process.is_alive()
        process.kill()
        process.join()
        # Reading refuses half rows, half runs and doubled ones.
        now = set(store.read("digits", "controlled")["seed"])
        assert stored <= now
        # As long as it has got, beside whatever else the machine does, and not longer than to store two or so.
        pace *= 1.2 if stored == now else 0.8 if len(now - stored) > 2 else 1
        stored = now
    assert len(stored) >= 20
    runs = runs[: len(stored) + 3]
    interrupted = sweep(runs, "cpu", workers=1)
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(output / "uninterrupted"))
    same_rows(interrupted, sweep(runs, "cpu", workers=1))


def _sweep_and_save(runs: list[Experiment], die_at: int | None) -> None:
    """A sweep that saves after every epoch; it is killed when it has written that state, before it is in its place."""
    resuming.SAVE_AFTER = 0
    numbers, to_disk = itertools.count(1), os.fsync

    def fsync(file: int) -> None:
        if next(numbers) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        to_disk(file)

    os.fsync = fsync
    sweep(runs, "cpu", workers=1)


def _epochs_told(runs: list[Experiment], monkeypatch) -> list[int]:
    """Those that a sweep of these runs in this process tells of."""
    told = []

    def listening(run, device, progress, **settings):
        return train(run, device, lambda *seen: (told.append(seen[0]), progress(*seen)), **settings)

    monkeypatch.setattr("sparsecnn.sweeps.executors.train", listening)
    sweep(runs, "cpu", workers=1)
    return told


def test_a_killed_sweep_goes_on_at_the_epoch_that_was_saved(monkeypatch):
    run, moments = lengthy(seed=0, epochs=25), random.Random(0)
    state = store.unfinished(run)
    for _ in range(5):
        before = state.read_bytes() if state.exists() else None
        process = start(_sweep_and_save, [run], None)
        until(lambda before=before: state.exists() and state.read_bytes() != before)
        process.join(moments.uniform(0, 0.1))
        process.kill()
        process.join()
    told = _epochs_told([run], monkeypatch)
    assert told == list(range(told[0], 26)) and told[0] >= 5
    same_rows(store.read("digits", "controlled"), train(run, "cpu"))
    assert not list(state.parent.iterdir())


def test_a_kill_in_the_middle_of_saving_leaves_the_state_before(monkeypatch):
    run = brief(epochs=5)
    process = start(_sweep_and_save, [run], 3)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(store.unfinished(run).parent.iterdir())) == 2  # the third beside the second
    assert _epochs_told([run], monkeypatch) == [2, 3, 4, 5]
    same_rows(store.read("digits", "controlled"), train(run, "cpu"))
    assert not list(store.unfinished(run).parent.iterdir())


def test_a_killed_sweep_leaves_no_process_behind(output):
    code = "from tests.sweeps.test_reliability import lengthy; from sparsecnn.sweep import sweep\n"
    code += "if __name__ == '__main__': sweep([lengthy(seed=0), lengthy(seed=1)], 'cpu', workers=2)"
    script = output.parent / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, script], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until(lambda: "The first epoch took" in process.stderr.readline(), 120)  # processes are at work
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    def all_gone():
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True

    until(all_gone, 20)


def test_where_a_training_process_is_killed_the_sweep_says_so_and_goes_on_at_the_next_start(runs_file):
    def kill_one():
        (child, *_) = until(lambda: [c for c in multiprocessing.active_children() if "Spawn" in type(c).__name__])
        until(runs_file.exists, 120)
        child.kill()

    runs = [brief(seed=0), lengthy(seed=1), lengthy(seed=2)]
    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(TrainingError, match="^a training process was killed.*start again to go on$"):
        sweep(runs, "cpu", workers=2)
    killer.join()
    assert missing(runs) == runs[1:]
    assert sweep([brief(seed=0), brief(seed=3)], "cpu", workers=1)["run"].nunique() == 2


def test_an_interrupt_in_a_notebook_is_one_line_and_the_cell_can_be_run_again(runs_file):
    manager, client = start_new_kernel(kernel_name="python3", env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    try:
        ask = functools.partial(client.execute_interactive, output_hook=lambda _: None, timeout=120)
        ask("from tests.sweeps.test_reliability import brief, lengthy; from sparsecnn.sweep import sweep")

        def interrupt():
            until(runs_file.exists)
            time.sleep(0.5)
            manager.interrupt_kernel()

        thread = threading.Thread(target=interrupt)
        thread.start()
        content = ask("sweep([brief(seed=0), lengthy(seed=1)], 'cpu', workers=1)")["content"]
        thread.join()
        assert content["ename"] == "Interrupted"
        assert content["traceback"] == ["Interrupted: stopped after 1 of 2 runs: they are stored, start again to go on"]
        assert missing([brief(seed=0)]) == []
        content = ask("assert len(sweep([brief(seed=0), lengthy(seed=1, epochs=2)], 'cpu', workers=1)) == 3")["content"]
        assert content["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


# Several at once


def _store_all(rows: list[pd.DataFrame]) -> None:
    for run in rows:
        store.store(run)


def test_four_writers_of_200_runs_lose_and_double_nothing():
    rows = train(brief(), "cpu")
    runs = [rows.assign(seed=seed) for seed in range(200)]
    # Each run is written by two of the four.
    shares = [runs[first:] + runs[:first] for first in (0, 50, 100, 150)]
    writers = [start(_store_all, share[:100]) for share in shares]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(store.read("digits", "controlled")["seed"]) == list(range(200))


@pytest.mark.parametrize("sweeps", [2, 4])
def test_sweeps_at_once_share_the_work(sweeps, output):
    runs = [brief(seed=seed) for seed in range(40)]
    trained = CONTEXT.Semaphore(0)
    processes = [start(_sweep_and_tell, runs, trained) for _ in range(sweeps)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert all(trained.acquire(block=False) for _ in runs) and not trained.acquire(block=False)  # each once
    assert sorted(store.read("digits", "controlled")["seed"]) == list(range(40))
    assert not list((output / "results/runs/claims").iterdir())


def test_the_claim_of_a_killed_sweep_is_free_again():
    run = lengthy(seed=0)
    process = start(sweep, [run], "cpu", False, 1)
    until(lambda: not _is_free(run))
    process.kill()
    process.join()
    assert _is_free(run)


def _is_free(run: Experiment) -> bool:
    claim = store.claim(run)
    if claim:
        store.release(claim)
    return bool(claim)


# A store that can't be written


def _within(limit: int, runs: list[Experiment]) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sweep(runs, "cpu", workers=1)


def test_a_full_disk_is_said_and_what_is_stored_stays(runs_file):
    runs = [brief(seed=seed) for seed in range(3)]
    sweep(runs[:2], "cpu", workers=1)
    before = runs_file.read_bytes()
    message = answer(_within, len(before) + 10, runs)
    assert message.startswith(f"ResultsError: {runs_file} can't be written (File too large): what is stored stays")
    assert runs_file.read_bytes() == before
    assert sorted(path.name for path in runs_file.parent.iterdir() if path.is_file()) == [
        runs_file.name,
        f"{runs_file.stem}.lock",
    ]
    assert sweep(runs, "cpu", workers=1)["run"].nunique() == 3


def _as_nobody(work, *arguments) -> None:
    load("digits")  # while the files it needs may be read
    if os.geteuid() == 0:  # whom no mode stops
        os.setuid(65534)
    work(*arguments)


@pytest.fixture
def public_output(monkeypatch):
    """An output folder that any user may enter; pytest's own may not be."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setenv("SPARSECNN_OUTPUT", folder)
        monkeypatch.delenv("SPARSECNN_DATA", raising=False)
        yield Path(folder)


def test_a_read_only_store_is_said_before_any_work_starts(public_output):
    runs = [brief(seed=0), brief(seed=1)]
    sweep(runs[:1], "cpu", workers=1)
    folder = public_output / "results/runs"
    before = (folder / "digits_controlled.csv").read_bytes()
    folder.chmod(0o555)
    message = answer(_as_nobody, sweep, [runs[0], lengthy(seed=1)], "cpu")
    assert message.startswith(f"ResultsError: {folder} can't be written (Permission denied)")
    folder.chmod(0o755)
    assert (folder / "digits_controlled.csv").read_bytes() == before
    assert sweep(runs, "cpu", workers=1)["run"].nunique() == 2


def test_a_data_root_that_may_not_be_read_is_an_error_that_names_it(public_output, monkeypatch):
    folder = public_output / "data"
    folder.mkdir(mode=0o000)
    monkeypatch.setenv("SPARSECNN_DATA", str(folder))
    message = answer(_data_root_as_nobody)
    assert message.startswith(f"DataError: SPARSECNN_DATA={folder} may not be read")


def _data_root_as_nobody() -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    data_root()


# A store that was edited

EDITS = {
    "a column's name is gone": (
        lambda text: text.replace("weight_decay,", "", 1),
        "more cells in its rows than in its first line",
    ),
    "a column has another name": (lambda text: text.replace("weight_decay", "decay", 1), "decay"),
    "text in a number": (lambda text: text.replace(",64,", ",sixty-four,", 1), "line 2: batch_size=sixty-four"),
    "a fraction in a whole number": (lambda text: text.replace(",64,", ",64.5,", 1), "line 2: batch_size=64.5"),
    "nothing in a setting": (lambda text: text.replace("mnist,validity", ",validity", 1), "line 2: architecture=nan"),
    "a setting that is not allowed": (lambda text: text.replace("ConvNet", "TransformerNet", 1), "TransformerNet"),
    "an accuracy above 100": (lambda text: _last(text, "test_accuracy", "101.5"), "test_accuracy=101.5"),
    "an accuracy that is none": (lambda text: _last(text, "test_accuracy", ""), "test_accuracy=nan"),
    "hits that are no numbers": (lambda text: _last(text, "test_correct", "3 four 5"), "test_correct=3 four 5"),
    "a line twice": (lambda text: text + text.splitlines(True)[-1], "epochs [1, 2, 2]"),
    "a run twice": (lambda text: text + "".join(text.splitlines(True)[1:]), "epochs [1, 2, 1, 2]"),
    "a line too few": (lambda text: "".join(text.splitlines(True)[:-1]), "epochs [1]"),
    "cut short": (lambda text: text[:-3], "cut short"),
    "a line with too many values": (lambda text: text + text.splitlines()[-1] + ",1\n", "line 4"),
    "empty": (lambda text: "", "can't be read"),
    "blank lines": (lambda text: text + "\n\n", "line 4"),
    "not text": (lambda text: "\udcff\udcfe", "can't be read"),
}


def _last(text: str, column: str, value: str) -> str:
    rows = text.splitlines()
    cells = rows[-1].split(",")
    cells[rows[0].split(",").index(column)] = value
    return "\n".join([*rows[:-1], ",".join(cells)]) + "\n"


@pytest.fixture(scope="module")
def two_epochs() -> pd.DataFrame:
    return train(brief(epochs=2), "cpu")


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_store_is_an_error_that_names_the_file_and_is_left_alone(edit, runs_file, two_epochs):
    store.store(two_epochs)
    change, named = EDITS[edit]
    broken = change(runs_file.read_text()).encode(errors="surrogateescape")
    runs_file.write_bytes(broken)
    for use in (lambda: sweep([brief()], "cpu"), lambda: store.store(two_epochs.assign(seed=1))):
        with pytest.raises(ResultsError) as error:
            use()
        message = str(error.value)
        assert str(runs_file) in message and named in message and "move it away" in message and "\n" not in message
    assert runs_file.read_bytes() == broken


def test_rows_from_before_a_setting_came_are_read_with_its_default(runs_file, two_epochs):
    store.store(two_epochs)
    older = pd.read_csv(runs_file).drop(columns=["optimiser", "split_seed", "fill", "images", "test_correct"])
    older.to_csv(runs_file, index=False)
    before = runs_file.read_text()
    assert missing([brief(epochs=2)]) == []
    others = [brief(epochs=2, optimiser="AdamW"), brief(epochs=2, split_seed=1), brief(epochs=2, fill="grey")]
    assert missing(others) == others
    # What was written stays to the byte until a run needs a column that came later.
    store.store(two_epochs.assign(seed=1, test_correct=None))
    assert runs_file.read_text().startswith(before)
    store.store(two_epochs.assign(seed=2, split_seed=1))
    assert pd.read_csv(runs_file)["split_seed"].tolist() == [0, 0, 0, 0, 1, 1]
    assert "optimiser" not in pd.read_csv(runs_file)
    assert missing([brief(epochs=2), brief(epochs=2, seed=2, split_seed=1)]) == []


def test_rows_of_several_runs_are_not_stored_as_one(two_epochs):
    with pytest.raises(ValueError, match="2 runs"):
        store.store(pd.concat([two_epochs, two_epochs.assign(seed=1)]))


# Short of memory


def _short_of_memory(run: Experiment, spare: int) -> None:
    train(brief(), "cpu")  # what is loaded once is there
    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, used + spare))
    sweep([run], "cpu", workers=1)


def test_a_lack_of_memory_is_said():
    hungry = brief(train_images=0, batch_size=1300)  # 65 MB a feature map
    message = answer(_short_of_memory, hungry, 100 << 20)
    assert message.startswith("TrainingError: out of memory on cpu in Experiment(") and "batch_size" in message


# A cluster


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs="ERROR"
    ) as cluster:
        yield cluster


def test_a_cluster_gives_the_rows_that_this_machine_gives(cluster, capfd):
    runs = [brief(seed=seed, epochs=2) for seed in range(6)]
    with Client(cluster) as client:
        rows = sweep(runs, "cpu", client=client)
        same_rows(rows, store.of_experiments(runs))
        assert "12 of 12 epochs" in capfd.readouterr().err  # progress came back
    same_rows(rows, sweep(runs, "cpu", rerun=True, workers=1))


def test_the_run_of_a_lost_worker_is_tried_again_elsewhere(cluster):
    runs = [lengthy(seed=seed, epochs=5) for seed in range(2)]
    with Client(cluster) as client:
        pids = client.run(os.getpid)

        def kill_one():
            busy = until(lambda: [worker for worker, tasks in client.processing().items() if tasks])
            time.sleep(0.5)
            os.kill(pids[busy[0]], signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        rows = sweep(runs, "cpu", client=client)
        killer.join()
        assert rows.groupby("run").size().tolist() == [5, 5]
    same_rows(rows, sweep(runs, "cpu", rerun=True, workers=1))


def test_a_scheduler_that_dies_ends_the_sweep_in_one_line():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--port",
        address.split(":")[-1],
        "--no-dashboard",
    ]
    scheduler = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    client = until(lambda: _connected(address))
    killer = threading.Timer(1, scheduler.kill)
    killer.start()
    with pytest.raises(TrainingError, match="^the scheduler at .* is gone: what is stored stays as it was"):
        sweep([brief()], "cpu", client=client)
    client.close()


def _connected(address: str) -> Client | None:
    with contextlib.suppress(SettingError):
        return connect(address)


def test_processes_take_the_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-7")
    assert visible_gpus() == ["2", "GPU-7"]
    with Processes("cpu", print, 3) as executor:
        assert executor.pool.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result() == "2"
        assert [executor.gpus.get() for _ in range(2)] == ["GPU-7", "2"]


def test_a_scheduler_that_does_not_answer_is_refused_in_one_line():
    for wrong in ("foo", "tcp://127.0.0.1", "http://127.0.0.1:9", "tcp://127.0.0.1:9", 5):
        began = time.monotonic()
        with pytest.raises(SettingError, match=r"^scheduler=.*is not allowed.*$") as error:
            connect(wrong)
        assert repr(wrong) in str(error.value) and time.monotonic() - began < 5
    assert connect(None) is None


# The same rows


def test_rows_do_not_depend_on_process_or_thread_count():
    code = (
        "from sparsecnn.experiment import experiment; from sparsecnn.training.train import train\n"
        "for model in ('SparseConvNet', 'ConvNet', 'ConvNet + mask'):\n"
        "    run = experiment('digits', 'controlled', model, 0.5, epochs=2, train_images=200)\n"
        "    print(train(run, 'cpu').drop(columns=['seconds', 'commit']).to_csv())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "3")
    }
    assert len(outputs) == 1 and "SparseConvNet" in outputs.pop()


def test_every_promise_names_a_test_that_exists():
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "RELIABILITY.md").read_text()))
    there = {
        name
        for file in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert named and named <= there
