"""A run that is interrupted between two epochs goes on from there, to the rows of one that is not."""

import dataclasses
import functools
import itertools
import os
import time

import pandas as pd
import pytest
import torch

from sparsecnn.data.datasets import load
from sparsecnn.experiment import Experiment, experiment
from sparsecnn.files import ResultsError
from sparsecnn.sweeps import store
from sparsecnn.sweeps.sweep import missing, sweep
from sparsecnn.training import resuming
from sparsecnn.training.resuming import Sitting
from sparsecnn.training.train import train

DIGITS = experiment(
    "digits", "controlled", "SparseConvNet", 0.5, epochs=4, train_images=100,
    tested_at="every sparsity", trained_at="every sparsity",
)  # fmt: skip
SHAPES = experiment(  # with dropout and batch norm
    "shapes", "controlled", "ConvNet", 0.3, validation=5, train_images=12, batch_size=4, epochs=3,
    tested_at="every sparsity",
)  # fmt: skip
brief = functools.partial(experiment, "digits", "controlled", "ConvNet", 0.5, epochs=4, train_images=100)


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    return tmp_path


@pytest.fixture
def each_epoch(monkeypatch):
    """States are saved after every epoch."""
    monkeypatch.setattr("sparsecnn.training.resuming.SAVE_AFTER", 0)


@pytest.fixture(scope="module")
def few_shapes():
    whole = load("shapes")
    chosen = torch.cat([torch.nonzero(whole.labels == label)[:6, 0] for label in range(5)])
    return dataclasses.replace(
        whole, images=whole.images[chosen], labels=whole.labels[chosen], classes=whole.classes[:5]
    )


class Stop(Exception):
    pass


def train_until(run: Experiment, epoch: int, path, device: str = "cpu", **settings) -> None:
    def progress(reached: int, *_) -> None:
        if reached == epoch:
            raise Stop

    with pytest.raises(Stop):
        train(run, device, progress, resume=path, **settings)


def told_epochs(run: Experiment, path=None, **settings) -> tuple[pd.DataFrame, list[int]]:
    """The rows of a run, and the epochs that its progress told of."""
    told = []
    rows = train(run, "cpu", lambda epoch, *_: told.append(epoch), resume=path, **settings)
    return rows, told


def same_rows(rows: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        rows.drop(columns="seconds"), expected.drop(columns="seconds"), check_dtype=False, check_exact=True
    )


@functools.cache
def uninterrupted(run: Experiment) -> pd.DataFrame:
    return train(run, "cpu")


# The same rows


@pytest.mark.parametrize("epoch", [1, 3, 4])
@pytest.mark.parametrize("changes", [{}, {"optimiser": "AdamW", "weight_decay": 0.1, "tested_at": "own sparsity"}])
def test_a_resumed_run_gives_the_rows_of_an_uninterrupted_one(epoch, changes, tmp_path):
    run, path = dataclasses.replace(DIGITS, **changes), tmp_path / "state.pt"
    train_until(run, epoch, path)
    torch.rand(7)
    rows, told = told_epochs(run, path)
    assert told == list(range(epoch, 5))  # where it goes on, and what is new
    same_rows(rows, uninterrupted(run))


def test_so_does_one_with_dropout_that_is_resumed_after_every_epoch(few_shapes, monkeypatch, tmp_path):
    monkeypatch.setattr("sparsecnn.training.train.load", lambda name: few_shapes)
    monkeypatch.setattr("sparsecnn.training.evaluation.STRUCTURED", {"square": (0.3,), "rows": (0.3,)})
    monkeypatch.setattr("sparsecnn.training.evaluation.levels_of", lambda dataset: (0.3, 0.6))
    for epoch in (1, 2):
        train_until(SHAPES, epoch, tmp_path / "state.pt")
    rows, told = told_epochs(SHAPES, tmp_path / "state.pt")
    assert told == [2, 3]
    same_rows(rows, train(SHAPES, "cpu"))
    assert len(set(rows["train_loss"])) == 3 and rows["transfer"].ne("").sum() == 1


def test_the_network_of_the_reported_epoch_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr("sparsecnn.training.loop._reported_epoch", lambda experiment, history: 1)
    run = dataclasses.replace(DIGITS, model="ConvNet", learning_rate=5e-3)  # which learns something in an epoch
    train_until(run, 3, tmp_path / "state.pt")
    rows = train(run, "cpu", resume=tmp_path / "state.pt")
    assert rows["transfer"].tolist() == [
        train(dataclasses.replace(run, epochs=1), "cpu")["transfer"].item(),
        "",
        "",
        "",
    ]


def an_hour_passes(monkeypatch) -> None:
    """Whenever the clock is read."""
    monkeypatch.setattr("sparsecnn.training.resuming.time.perf_counter", itertools.count(0, 3600).__next__)


def test_seconds_are_the_sum_over_the_sittings(monkeypatch, tmp_path):
    with monkeypatch.context() as slow:
        an_hour_passes(slow)
        train_until(DIGITS, 1, tmp_path / "state.pt")
    (seconds,) = train(DIGITS, "cpu", resume=tmp_path / "state.pt")["seconds"].unique()
    assert seconds >= 3600 and seconds % 3600 < 600


@pytest.mark.cuda
def test_a_run_is_resumed_on_cuda(few_shapes, monkeypatch, tmp_path):
    monkeypatch.setattr("sparsecnn.training.train.load", lambda name: few_shapes)
    train_until(SHAPES, 2, tmp_path / "state.pt", "cuda")
    told = []
    rows = train(SHAPES, "cuda", lambda epoch, *_: told.append(epoch), resume=tmp_path / "state.pt")
    assert told == [2, 3]
    assert rows["train_loss"].tolist() == pytest.approx(train(SHAPES, "cuda")["train_loss"].tolist(), rel=0.01)


# When a state is saved


def test_runs_of_seconds_save_nothing_and_longer_ones_after_every_epoch(monkeypatch, tmp_path):
    train(DIGITS, "cpu", resume=tmp_path / "state.pt")
    assert not (tmp_path / "state.pt").exists()
    monkeypatch.setattr("sparsecnn.training.resuming.SAVE_AFTER", 0)
    saved = []
    monkeypatch.setattr(Sitting, "save", lambda sitting, state: saved.append(len(state["histories"][0])))
    train(DIGITS, "cpu", resume=tmp_path / "state.pt")
    assert saved == [1, 2, 3, 4]


def test_a_place_that_can_not_be_written_is_named(tmp_path, each_epoch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="file can't be written"):
        train(DIGITS, "cpu", lambda *_: pytest.fail("trained first"), resume=tmp_path / "file/state.pt")
    (tmp_path / "state.pt").mkdir()  # later, as with a disk that fills up
    with pytest.raises(ResultsError, match="state.pt can't be written.*start again"):
        train(DIGITS, "cpu", resume=tmp_path / "state.pt")


# A state that is not to be trusted

HARMS = {
    "empty": lambda good: b"",
    "cut short": lambda good: good[: len(good) // 2],
    "without its end": lambda good: good[:-1],
    "one bit of a weight is another": lambda good: good[: len(good) // 2] + flipped(good[len(good) // 2 :]),
    "one bit of the seal is another": lambda good: flipped(good),
    "another program's": lambda good: b"hello" * 100,
    "a checkpoint": lambda good: good[resuming.SEAL :],
}


def flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_state_is_as_good_as_none(harm, tmp_path):
    run, path = brief(), tmp_path / "state.pt"
    train_until(run, 2, path)
    path.write_bytes(HARMS[harm](path.read_bytes()))
    rows, told = told_epochs(run, path)
    assert told == [1, 2, 3, 4]
    same_rows(rows, uninterrupted(run))


@pytest.mark.parametrize("other", ["run", "precision", "torch", "commit", "code", "device"])
def test_so_is_one_that_something_else_made(other, monkeypatch, tmp_path):
    path = tmp_path / "state.pt"
    run, precision = brief(), "float32"
    with monkeypatch.context() as elsewhere:
        match other:
            case "run":
                run = brief(seed=1)
            case "precision":
                precision = "bf16"
            case "torch":
                elsewhere.setattr("sparsecnn.training.train.version", lambda name: "2.0")
            case "commit":
                elsewhere.setattr("sparsecnn.training.train._commit", lambda: "0123abc")
            case "code":
                elsewhere.setattr("sparsecnn.training.resuming._code", lambda: "0123abc")
            case "device":  # as on a GPU of that name, whose state this machine need not be able to make
                made_by = vars(run) | {"device": "NVIDIA"}
                elsewhere.setattr("sparsecnn.training.train.Sitting", lambda path, _: Sitting(path, made_by))
        train_until(run, 2, path, precision=precision)
        assert Sitting(path, {}).take_up() is None
    rows, told = told_epochs(brief(), path)
    assert told == [1, 2, 3, 4]
    same_rows(rows, uninterrupted(brief()))


class Hostile:
    def __reduce__(self):
        return os.mkdir, (os.environ["HOSTILE"],)


def test_code_in_a_state_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HOSTILE", str(tmp_path / "harm"))
    Sitting(tmp_path / "state.pt", {}).save({"network": Hostile()})
    assert Sitting(tmp_path / "state.pt", {}).take_up() is None
    assert not (tmp_path / "harm").exists()


# In a sweep


@pytest.fixture
def told(monkeypatch) -> list[tuple[int, int]]:
    """Seed and epoch, whenever a run in this process tells a sweep of one."""
    heard = []

    def telling(run, device, progress, **settings):
        def both(epoch, *measured):
            heard.append((run.seed, epoch))
            progress(epoch, *measured)

        return train(run, device, both, **settings)

    monkeypatch.setattr("sparsecnn.sweeps.executors.train", telling)
    return heard


def test_a_sweep_goes_on_where_a_run_was_left_and_forgets_its_state(told, capfd):
    run = brief()
    train_until(run, 3, store.unfinished(run))
    store.unfinished(run).with_suffix(".new.pt").write_text("of a process that was killed while it saved")
    same_rows(sweep([run], "cpu", workers=1).drop(columns="run"), uninterrupted(run))
    assert told == [(0, 3), (0, 4)]
    assert "4 of 4 epochs" in capfd.readouterr().err
    assert not list(store.unfinished(run).parent.iterdir())


def test_so_do_processes_side_by_side(monkeypatch):
    runs = [brief(), brief(seed=1)]
    with monkeypatch.context() as slow:
        an_hour_passes(slow)
        train_until(runs[0], 3, store.unfinished(runs[0]))
    rows = sweep(runs, "cpu", workers=2)
    same_rows(rows.drop(columns="run"), pd.concat(map(uninterrupted, runs), ignore_index=True))
    assert (rows["seconds"] > 3600).tolist() == [True] * 4 + [False] * 4


def test_a_rerun_neither_reads_nor_writes_states(told, each_epoch):
    run = brief()
    train_until(run, 3, store.unfinished(run))
    before = store.unfinished(run).read_bytes()
    sweep([run], "cpu", workers=1, rerun=True, minutes=1e-4)
    assert told == [(0, epoch) for epoch in range(1, 5)]
    assert store.unfinished(run).read_bytes() == before


def test_a_budget_shorter_than_an_epoch_still_gets_an_epoch_on_at_a_time(told):
    runs = [brief(), brief(seed=1)]
    for _ in range(30):
        sweep(runs, "cpu", workers=1, minutes=1e-4)
        if not missing(runs):
            break
    same_rows(store.of_experiments(runs).drop(columns="run"), pd.concat(map(uninterrupted, runs), ignore_index=True))
    # Every sitting but the first of a run tells the epoch before, adds one, and stops there.
    assert told == [(seed, epoch) for seed in (0, 1) for epoch in (1, 1, 2, 2, 3, 3, 4)]


@pytest.mark.parametrize(("seconds_an_epoch", "started"), [(0.01, 3), (3600, 2)])
def test_a_run_is_started_where_it_would_be_saved_within_the_budget(seconds_an_epoch, started, monkeypatch, each_epoch):
    def slow(run, *_, **__):
        time.sleep(0.5)
        return uninterrupted(brief()).assign(seed=run.seed, seconds=4 * seconds_an_epoch)

    uninterrupted(brief())
    monkeypatch.setattr("sparsecnn.sweeps.executors.train", slow)
    runs = [brief(seed=seed) for seed in range(4)]
    assert sweep(runs, "cpu", workers=1, minutes=1.35 / 60)["run"].nunique() == started
