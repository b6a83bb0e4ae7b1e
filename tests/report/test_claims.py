import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from sparsecnn.experiment import Experiment, levels_of
from sparsecnn.records import COLUMNS, LATER, SETTINGS, no_rows
from sparsecnn.report.claims import CLAIMS, EFFECTS, judge
from sparsecnn.report.pages import verdicts
from sparsecnn.report.rules import IN_PART, NO, NOT_TESTED, UNDECIDED, VERDICTS, YES
from sparsecnn.report.tables import published
from sparsecnn.studies import matrix, studies_of
from sparsecnn.sweeps.store import of_experiments
from sparsecnn.training.evaluation import conditions_of

SEEDS = 3
RUNS = tuple(
    dict.fromkeys(
        run
        for name in ("mnist", "caltech101")
        for studies in [studies_of(name, seeds=SEEDS)]
        for run in itertools.chain(
            *(studies[key] for key in ("matrix", "table", "hyperparameters", "ablations", "late_drop")),
            (run for run in studies["alternatives"] if run.images == "inverted"),
        )
        if run.trained_at == "own sparsity" and run.model != "ConvNet + mask"
    )
)


def world(accuracy, elsewhere=lambda run, level: 50.0, falls=lambda run: 0.0, train=lambda run: 80.0):
    """A store in which each run ends at ``accuracy`` of its Experiment, give or take a little."""
    rng, rows = np.random.default_rng(0), []
    for run in RUNS:
        test = np.full(run.epochs, accuracy(run) + rng.normal(0, 0.1))
        test[-1] -= falls(run)
        measured = {
            "epoch": np.arange(1, run.epochs + 1), "train_loss": 1.0, "train_accuracy": train(run),
            "validation_accuracy": 50.0, "test_accuracy": test, "test_correct": None, "transfer": "",
            "device": "invented", "torch": "2", "precision": "float32", "seconds": 1.0, "commit": "",
        }  # fmt: skip
        if run.tested_at == "every sparsity":
            tested = (condition for condition in conditions_of(run.dataset) if condition != ("random", run.sparsity))
            there = (f"{kind}:{level:g}={elsewhere(run, level) + rng.normal(0, 0.1):.4f}" for kind, level in tested)
            measured["transfer"] = [" ".join(there), *[""] * (run.epochs - 1)]
        columns = LATER | {name: getattr(run, name) for name in SETTINGS} | measured
        rows.append({name: np.broadcast_to(np.asarray(columns[name], dtype=object), run.epochs) for name in COLUMNS})
    table = pd.DataFrame({name: np.concatenate([part[name] for part in rows]) for name in COLUMNS})
    return table.infer_objects()


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    found = judge(lambda experiments: of_experiments(experiments, rows))
    assert set(found["numbers_come_back"]) | set(found["conclusion_stands"]) <= set(VERDICTS)
    return found.set_index(pd.Index(CLAIMS, name="number"))


def quoted(run: Experiment) -> float:
    """What the report's Table 3 or 4 prints for a run."""
    lines = published("table3_mnist" if run.dataset == "mnist" else "table4_caltech101")
    return float(lines[(lines["model"] == run.model) & (lines["sparsity"] == run.sparsity)]["accuracy"].iloc[0])


def as_the_report_has_it(run: Experiment) -> float:
    sparse = run.model == "SparseConvNet"
    if run.images == "inverted":
        return 96.0 if sparse else 85.0
    if run.dataset == "mnist":
        return 97 - 4 * run.sparsity
    if run.architecture == "caltech_no_batch_norm":
        return 40.0
    if run.architecture == "caltech_no_dropout_wide":
        return 15.0
    rate = {1e-2: -10, 1e-4: -5}.get(run.learning_rate, 0)
    return (61.0 if sparse else 44 - 10 * run.sparsity) + rate


@pytest.fixture(scope="module")
def reports_world() -> pd.DataFrame:
    return world(
        lambda run: quoted(run) if run.protocol == "as_run" else as_the_report_has_it(run),
        elsewhere=lambda run, level: as_the_report_has_it(run) if run.model == "SparseConvNet" else 30.0,
        falls=lambda run: 12.4 * (run.dataset == "caltech101" and run.batch_size == 64 and run.sparsity == 0.7),
        train=lambda run: 99.9 if run.architecture == "caltech_no_dropout_wide" else 80.0,
    )


def test_in_the_reports_world_its_numbers_come_back_and_its_conclusions_stand(reports_world):
    found = judged(reports_world)
    assert found["conclusion_stands"].eq(YES).all()
    numbers = found["numbers_come_back"]
    assert numbers[[1, 2, 3, 4, 8, 9]].eq(YES).all() and numbers[[5, 10]].eq(NOT_TESTED).all()
    assert found["unit"].tolist() == [unit for unit, _ in EFFECTS.values()]
    assert found["effect"].between(found["low"], found["high"]).all()


def test_where_nothing_the_report_says_is_so_its_claims_do_not_stand():
    def opposite(run: Experiment) -> float:
        sparse = run.model == "SparseConvNet"
        if run.images == "inverted":
            return 80.0
        if run.dataset == "mnist":
            return 88 - 60 * run.sparsity + 20 * sparse * run.sparsity + 900 * run.learning_rate + run.batch_size / 20
        return 40 - 10 * sparse * run.sparsity + 500 * run.learning_rate

    # A network does worst where it was not trained, and SparseConvNet more.
    found = judged(world(opposite, elsewhere=lambda run, level: 10.0 if run.model == "SparseConvNet" else 20.0))
    assert found["conclusion_stands"].drop(index=8).eq(NO).all()
    # Three runs without a fall leave up to 71%.
    assert found["conclusion_stands"][8] == UNDECIDED and found["high"][8] == pytest.approx(70.76, abs=0.01)
    assert found["numbers_come_back"].drop(index=[5, 10]).eq(NO).all()


def test_without_runs_no_claim_is_tested():
    table = judge(lambda experiments: no_rows().assign(run=[]))
    assert list(table.columns) == [
        "claim", "numbers_come_back", "conclusion_stands", "effect", "low", "high", "unit", "evidence",
    ]  # fmt: skip
    assert table["numbers_come_back"].eq(NOT_TESTED).all() and table["conclusion_stands"].eq(NOT_TESTED).all()
    assert table[["effect", "low", "high"]].isna().all(axis=None) and table["evidence"].str.contains("not tested").all()
    assert verdicts(table)["effect [95% interval]"].eq("").all()


def test_one_seed_is_no_evidence_for_a_conclusion(reports_world):
    found = judged(reports_world[reports_world["seed"] == 0])
    assert found["conclusion_stands"].eq(NOT_TESTED).all()
    # But it may show a table's numbers, by pairs over levels.
    assert found["numbers_come_back"][[1, 2, 3, 4]].eq(YES).all()


def test_a_conclusion_in_part_names_its_part(reports_world):
    rows = reports_world.copy()
    fair = (rows["dataset"] == "caltech101") & (rows["protocol"] == "controlled")
    rows.loc[fair & (rows["model"] == "ConvNet"), "test_accuracy"] += 14.0
    rows.loc[fair & (rows["architecture"] == "caltech_no_dropout_wide"), "test_accuracy"] = 60.0
    found = judged(rows)
    parts = {3: "ahead, by less than 20", 9: "batch norm raises accuracy"}
    for number, part in parts.items():
        assert found["conclusion_stands"][number] == IN_PART
        assert found["evidence"][number].startswith(f"in part: {part}; ") and len(part.split()) <= 5
    shown = verdicts(found)
    assert shown["does the conclusion stand"].iloc[2] == "in part: ahead, by less than 20"
    assert shown["effect [95% interval]"].iloc[2].endswith("] points (SparseConvNet - ConvNet, Caltech-101)")


@pytest.mark.parametrize(
    ("of_sparse", "of_plain", "words"),
    [
        (0.02, 0.5, "on depth: yes"),
        (0.3, 0.9, "on depth: in part, loses less than ConvNet"),
        (0.3, 0.2, "on depth: no"),
    ],
)
def test_claim_10_on_depth_is_evidence_in_metres(reports_world, of_sparse, of_plain, words):
    def tested(run, level):
        wrong = (of_sparse if run.model == "SparseConvNet" else of_plain) * (level != run.sparsity)
        return 1 + wrong + run.seed / 1000

    rows = []
    for run in matrix("kitti_range"):
        if run.trained_at == "own sparsity" and run.model != "ConvNet + mask":
            others = (level for level in levels_of(run.dataset) if level != run.sparsity)
            there = " ".join(f"random:{level:g}={tested(run, level):.4f}/2/3/4" for level in others)
            measured = {"epoch": 1, "test_mae": tested(run, run.sparsity), "validation_mae": 1.0, "transfer": there}
            rows.append(dataclasses.asdict(run) | {"epochs": 1} | measured)
    depth = pd.DataFrame(rows, columns=COLUMNS).assign(run=range(len(rows)))

    def read(experiments):
        return depth if experiments[0].dataset == "kitti_range" else of_experiments(experiments, reports_world)

    line = judge(read).iloc[9]
    assert line["conclusion_stands"] == YES and line["unit"] == "points"  # the report's claim is another task's
    cost = f"ConvNet {of_plain:.2f} [{of_plain:.2f}, {of_plain:.2f}], SparseConvNet {of_sparse:.2f} ["
    assert f"kitti_range, 3 seeds, 9 of 9 levels: a wrong level costs {cost}" in line["evidence"]
    assert words in line["evidence"]


def test_levels_with_one_seed_take_no_verdict_from_those_with_more(reports_world):
    few = reports_world[(reports_world["seed"] == 0) | reports_world["sparsity"].isin([0.05, 0.3, 0.7])]
    found = judged(few)
    assert found["conclusion_stands"][[3, 4]].eq(YES).all()
    assert f"{SEEDS} seeds, 3 levels: SparseConvNet - ConvNet" in found["evidence"][3]


def test_collapsed_runs_are_counted_and_left_out(reports_world):
    rows = reports_world.copy()
    dead = (
        (rows["dataset"] == "mnist")
        & (rows["protocol"] == "controlled")
        & (rows["sparsity"] == 0.4)
        & (rows["seed"] == 1)
    )
    rows.loc[dead & (rows["model"] == "ConvNet"), "test_accuracy"] = 11.35
    found = judged(rows)
    assert found["conclusion_stands"][2] == YES
    assert f"{SEEDS} seeds, 10 levels" in found["evidence"][2] and "1 of 66 runs collapsed" in found["evidence"][2]


def test_without_batch_norm_collapsed_runs_count_and_have_no_interval(reports_world):
    rows = reports_world.copy()
    rows.loc[rows["architecture"] == "caltech_no_batch_norm", "test_accuracy"] = 9.2
    found = judged(rows)
    assert (
        found["conclusion_stands"][9] == YES
        and np.isnan(found["low"][9])
        and found["effect"][9] == pytest.approx(51.8, abs=0.2)
    )
    assert "without it 3 of 3 runs collapsed" in found["evidence"][9]


@pytest.mark.parametrize(
    ("train", "test", "come_back"),
    [(98.5, 15, YES), (97.5, 15, NO), (100, 21.5, YES), (100, 22.5, NO), (100, 0.5, YES)],
)
def test_claim_9s_numbers_are_100_on_training_images_and_under_20_on_the_tests(reports_world, train, test, come_back):
    rows = reports_world.copy()
    wide = rows["architecture"] == "caltech_no_dropout_wide"
    apart = (rows.loc[wide, "seed"] - 1) / 100
    rows.loc[wide, "train_accuracy"], rows.loc[wide, "test_accuracy"] = train + apart, test + apart
    assert judged(rows)["numbers_come_back"][9] == come_back


@pytest.mark.parametrize(
    ("apart", "words"),
    [(2, "2,048 wide 96.0 to 100.0% on training and 15.0 [10.0, 20.0]%"), (0.1, "98.0 [97.8, 98.2]% on training")],
)
def test_an_interval_that_leaves_100_percent_is_not_printed(reports_world, apart, words):
    rows = reports_world.copy()
    wide = rows["architecture"] == "caltech_no_dropout_wide"
    seeds = apart * (rows.loc[wide, "seed"] - 1)
    rows.loc[wide, "train_accuracy"], rows.loc[wide, "test_accuracy"] = 98 + seeds, 15 + seeds
    assert words in judged(rows)["evidence"][9]
