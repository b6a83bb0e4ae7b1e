"""What a GPU owner runs, in miniature on a CPU; and how rows come home from a machine without git."""

import importlib.util
import sys
import time

import pandas as pd
import pytest

from sparsecnn.experiment import experiment
from sparsecnn.files import REPOSITORY
from sparsecnn.sweeps import store
from sparsecnn.training.train import train


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", REPOSITORY / f"benchmarks/gpu/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def output(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_in_miniature_every_part_is_measured_and_shown(output, monkeypatch, capsys):
    measure = script("measure")
    monkeypatch.setitem(measure.PARTS, "machine", lambda here: here.note("nothing", 1 / 0, ""))
    monkeypatch.setattr(sys, "argv", ["measure.py", "--miniature"])
    with pytest.raises(SystemExit, match="^failed: machine$"):
        measure.main()
    assert "machine FAILED: ZeroDivisionError: division by zero" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(output))
    monkeypatch.setattr(sys, "argv", ["measure.py", "--miniature", "--parts", "machine"])
    script("measure").main()  # beside what is there
    rows = pd.read_csv(output / "results/benchmarks_gpu.csv")
    assert set(rows["part"]) == set(measure.PARTS)
    assert (rows["value"] > 0).all() or set(rows.loc[rows["value"] <= 0, "part"]) == {"tests"}
    assert "test_cuda_and_cpu_agree" in (output / "results/benchmarks_gpu_tests.txt").read_text()
    page = (output / "results/benchmarks_gpu.md").read_text()
    assert all(f"## {part}: " in page for part in measure.PARTS)


def test_the_first_failure_is_still_seen_where_many_follow(output, monkeypatch, capfd):
    measure = script("measure")
    failing = "import pytest\n\n@pytest.mark.cuda\n@pytest.mark.parametrize('i', range(30))\ndef test_it(i):\n"
    failing += "    print('what came before ' * 50)\n    assert i + 1000 == 7"
    (output / "tests").mkdir()
    (output / "tests/test_it.py").write_text(failing)
    monkeypatch.setattr(measure, "REPOSITORY", output)
    with pytest.raises(RuntimeError, match="pytest -m cuda failed"):
        measure.tests(measure.Measurement("cuda", miniature=False))
    printed, log = capfd.readouterr().out, (output / "results/benchmarks_gpu_tests.txt").read_text()
    assert "assert (0 + 1000) == 7" in printed and "FAILED tests/test_it.py::test_it[29]" in printed
    assert log in printed and len(log) > 20_000


def test_without_a_gpu_one_line_says_so(output, monkeypatch):
    measure = script("measure")
    monkeypatch.setattr(measure, "available_devices", lambda: ["cpu"])
    monkeypatch.setattr(sys, "argv", ["measure.py"])
    with pytest.raises(SystemExit, match="^make gpu: PyTorch finds no CUDA device here, .*$"):
        measure.main()
    assert not list(output.iterdir())


@pytest.fixture(scope="module")
def rows() -> list[pd.DataFrame]:
    runs = [experiment("digits", "controlled", "ConvNet", 0.5, seed, epochs=2, train_images=16) for seed in range(3)]
    return [train(run, "cpu").assign(commit="1234567") for run in runs]


@pytest.fixture
def came(output, rows, monkeypatch):
    """A store with two runs; one came back with the first of them and a new one, whose commit is not known there."""
    there = output / "there"
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(there))
    store.store(rows[0])
    store.store(rows[2].assign(commit="", device="a GPU, compiled"))
    monkeypatch.setenv("SPARSECNN_OUTPUT", str(output))
    store.store(rows[0])
    store.store(rows[1])
    return there / "results/runs"


def test_new_rows_come_home_with_their_commit_and_old_ones_stay(came, capsys):
    path = store.runs_folder() / "digits_controlled.csv"
    before, merge = path.read_text(), script("merge")
    merge.main(came, "abcdef0")
    after = path.read_text()
    assert after.startswith(before)
    added = store.read("digits", "controlled").iloc[4:]
    assert added["seed"].tolist() == [2, 2] and set(added["commit"]) == {"abcdef0"}
    merge.main(came, "abcdef0")  # a second time
    assert path.read_text() == after
    assert "1 runs merged, 0 were here already" in capsys.readouterr().out.splitlines()[0]


def test_nothing_comes_home_where_an_old_row_changed(came):
    file, path = came / "digits_controlled.csv", store.runs_folder() / "digits_controlled.csv"
    before, rows = path.read_text(), pd.read_csv(file, dtype=str, keep_default_na=False)
    rows.loc[1, "test_accuracy"] = "99.5"
    rows.to_csv(file, index=False)
    with pytest.raises(SystemExit, match="not what it is here .model=ConvNet, sparsity=0.5, seed=0, epoch=2.; nothing"):
        script("merge").main(came, "abcdef0")
    with pytest.raises(SystemExit, match="COMMIT=main is not allowed"):
        script("merge").main(came, "main")
    assert path.read_text() == before


def test_runs_are_shared_out_by_network_and_each_once():
    networks = {"ConvNet": 5, "SparseConvNet": 2, "ConvNet + mask": 4}
    runs = [experiment("digits", "controlled", name, 0.5, seed) for name, n in networks.items() for seed in range(n)]
    shares = script("runs").shared(runs[::2] + runs[1::2], 3)
    assert {len(share) for share in shares} <= {3, 4} and sorted(map(str, sum(shares, []))) == sorted(map(str, runs))
    assert max(len({run.model for run in share}) for share in shares) == 2
    assert script("runs").shared(runs[:1], 3) == [[], [], runs[:1]]


def test_a_process_trains_its_own_share_first_and_what_fails_ends_nothing(output, rows, monkeypatch, capsys):
    runs = [experiment("digits", "controlled", "ConvNet", 0.5, seed, epochs=2, train_images=16) for seed in range(4)]
    script_of, trained = script("runs"), []

    def trains(run, device, compiled):
        trained.append((run.seed, compiled))
        if run.seed == 1:
            raise RuntimeError("no")
        return rows[0].assign(seed=run.seed, commit="")

    monkeypatch.setattr(script_of, "train", trains)
    monkeypatch.setattr(script_of, "studies_of", lambda dataset: {"first": runs[:2], "second": runs[1:]})
    store.store(rows[2])
    until = output / "until"
    until.write_text(str(time.time() + 60))
    monkeypatch.setattr(sys, "argv", ["runs.py", "2", "--of", "3", "--until", str(until), "--device", "cpu"])
    script_of.main()
    assert trained == [(3, False), (0, False), (1, False)]  # seed 2 is stored
    assert set(store.read("digits", "controlled")["seed"]) == {0, 2, 3}
    assert "FAILED: Experiment" in capsys.readouterr().out
    until.write_text("0")
    script_of.main()
    assert len(trained) == 3
