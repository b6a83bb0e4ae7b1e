import numpy as np
import pandas as pd
import pytest

from sparsecnn.experiment import Experiment
from sparsecnn.records import COLUMNS, SETTINGS, no_rows
from sparsecnn.report.claims import CLAIMS, HOLDS, IN_PART, NOT, UNTESTED, judge
from sparsecnn.studies import studies_of
from sparsecnn.sweeps.store import of_experiments
from sparsecnn.training.evaluation import conditions_of

RUNS = tuple(
    dict.fromkeys(run for name in ("mnist", "caltech101") for part in studies_of(name).values() for run in part)
)


def world(accuracy, elsewhere=None, falls=lambda run: 0.0, train=lambda run: 80.0):
    """A store in which each run ends at ``accuracy`` of its Experiment, give or take its seed."""
    rows = []
    for run in RUNS:
        last = accuracy(run) + 0.1 * run.seed
        test = np.full(run.epochs, last)
        test[-1] -= falls(run)
        frame = pd.DataFrame({name: getattr(run, name) for name in SETTINGS} | {
            "epoch": range(1, run.epochs + 1), "train_loss": 1.0, "train_accuracy": train(run),
            "validation_accuracy": 50.0, "test_accuracy": test, "test_correct": None, "transfer": "",
            "device": "invented", "torch": "2", "precision": "float32", "seconds": 1.0, "commit": "",
        })  # fmt: skip
        if run.tested_at == "every sparsity":
            frame.loc[0, "transfer"] = " ".join(
                f"{kind}:{level:g}={elsewhere(run, level) + 0.1 * run.seed}"
                for kind, level in conditions_of(run.dataset)
                if (kind, level) != ("random", run.sparsity)
            )
        rows.append(frame[COLUMNS])
    return pd.concat(rows, ignore_index=True)


def judged(rows: pd.DataFrame) -> dict[int, str]:
    verdicts = judge(lambda experiments: of_experiments(experiments, rows))["verdict"]
    return dict(zip(CLAIMS, verdicts, strict=True))


def as_the_report_has_it(run: Experiment) -> float:
    sparse = run.model == "SparseConvNet"
    if run.dataset == "mnist":
        return 96 - 4 * run.sparsity
    if run.architecture == "caltech_no_batch_norm":
        return 40.0
    if run.architecture == "caltech_no_dropout_wide":
        return 15.0
    rate = {1e-2: -10, 1e-4: -5}.get(run.learning_rate, 0)
    return (61.0 if sparse else 44 - 10 * run.sparsity) + rate


def test_in_the_reports_world_its_claims_hold():
    verdicts = judged(
        world(
            as_the_report_has_it,
            elsewhere=lambda run, level: as_the_report_has_it(run) if run.model == "SparseConvNet" else 30.0,
            falls=lambda run: 12.0 * (run.dataset == "caltech101" and run.batch_size == 64 and run.sparsity == 0.7),
            train=lambda run: 100.0 if run.architecture == "caltech_no_dropout_wide" else 80.0,
        )
    )
    assert {number for number, verdict in verdicts.items() if verdict == HOLDS} >= {1, 2, 3, 4, 5, 6, 7, 8, 9}
    assert verdicts[10] in (HOLDS, IN_PART)


def test_where_nothing_the_report_says_is_so_its_claims_do_not_hold():
    def opposite(run: Experiment) -> float:
        sparse = run.model == "SparseConvNet"
        if run.dataset == "mnist":
            return 88 - 60 * run.sparsity + 20 * sparse * run.sparsity + 500 * run.learning_rate + run.batch_size / 100
        return 40 - 10 * sparse * run.sparsity + 500 * run.learning_rate

    # A network does worst where it was trained.
    verdicts = judged(world(opposite, elsewhere=lambda run, level: 10.0 if run.model == "SparseConvNet" else 30.0))
    assert {number: verdict for number, verdict in verdicts.items() if verdict != NOT} == {}


def test_without_runs_no_claim_can_be_tested():
    table = judge(lambda experiments: no_rows().assign(run=[]))
    assert list(table.columns) == ["claim", "verdict", "evidence"]
    assert table["verdict"].tolist() == [UNTESTED] * 10
    assert table["evidence"].str.startswith("not yet: ").all()


def test_one_seed_is_no_evidence():
    rows = world(as_the_report_has_it, elsewhere=lambda run, level: 50.0)
    assert set(judged(rows[rows["seed"] == 0]).values()) == {UNTESTED}


def test_one_level_refutes_every_level_and_none_proves_it():
    def caltech(*levels_of_two_seeds):
        rows = world(as_the_report_has_it, elsewhere=lambda run, level: 50.0)
        return rows[(rows["seed"] == 0) | rows["sparsity"].isin(levels_of_two_seeds)]

    assert judged(caltech(0.3))[3] == UNTESTED
    rows = caltech(0.3)
    rows.loc[(rows["sparsity"] == 0.3) & (rows["model"] == "ConvNet"), "test_accuracy"] += 21.0
    assert judged(rows)[3] == NOT
    rows.loc[(rows["sparsity"] == 0.3) & (rows["model"] == "ConvNet"), "test_accuracy"] -= 8.0
    assert judged(rows)[3] == IN_PART


def test_a_part_of_the_learning_rates_holds_in_part_or_not():
    rows = world(as_the_report_has_it, elsewhere=lambda run, level: 50.0)
    part = rows[(rows["dataset"] != "caltech101") | (rows["sparsity"] == 0.7) & (rows["batch_size"] == 128)]
    assert judged(part)[7] == IN_PART
    part = part[(part["learning_rate"] != 1e-4) | (part["seed"] == 0)]
    assert judged(part)[7] == UNTESTED
    rows.loc[rows["learning_rate"] == 1e-2, "test_accuracy"] += 30.0
    part = rows[(rows["dataset"] != "caltech101") | (rows["sparsity"] == 0.7) & (rows["batch_size"] == 128)]
    assert judged(part)[7] == NOT


def test_two_runs_without_a_fall_do_not_refute_falls_and_three_do():
    rows = world(as_the_report_has_it, elsewhere=lambda run, level: 50.0)
    assert judged(rows[rows["seed"] < 2])[8] == UNTESTED
    assert judged(rows)[8] == NOT


@pytest.mark.parametrize("where", ["controlled, in one run", "as_run, in one run"])
def test_a_fall_in_one_run_is_claim_8_in_part(where):
    def falls(run: Experiment) -> float:
        here = run.batch_size == 64 and run.sparsity == 0.7 and run.seed == 0
        return 12.0 * (here and run.protocol == where.split(",")[0])

    assert judged(world(as_the_report_has_it, elsewhere=lambda run, level: 50.0, falls=falls))[8] == IN_PART


def test_levels_with_one_seed_take_no_verdict_from_those_with_more():
    rows = world(as_the_report_has_it, elsewhere=lambda run, level: 50.0)
    few = rows[(rows["seed"] == 0) | rows["sparsity"].isin([0.05, 0.3, 0.7]) | (rows["dataset"] == "mnist")]
    # A level with one seed, and no fall.
    few.loc[(few["sparsity"] == 0.2) & (few["model"] == "ConvNet"), "test_accuracy"] = 60.0
    assert judged(few)[4] == HOLDS
    evidence = judge(lambda experiments: of_experiments(experiments, few))["evidence"]
    assert "ConvNet's mean falls at 2 of 2 steps" in evidence[3]
    assert "caltech101, 3 of 9 levels: " in evidence[9] and "mnist, 12 of 12 levels: " in evidence[9]
