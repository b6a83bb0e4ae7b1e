"""The report's ten claims, each asked two questions of the recorded runs: do its numbers come back, in runs made as the
report's notebooks made them, and does its conclusion stand, in the fair experiment.

docs/analysis.md has the plan, and rules.py the rules.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..experiment import grid, levels_of
from ..studies import ablations, alternatives, hyperparameters, late_drop, matrix
from ..sweeps.store import of_experiments
from . import rules
from .alternatives import GROUNDS, INVERTED
from .inference import in_words, of_values
from .pairs import crossed
from .rules import IN_PART, NOT_TESTED, UNDECIDED, YES, Ruling
from .statistics import late_drops
from .tables import has_collapsed, listed, published, selected, within_percent
from .transfers import levels_compared, mismatch, read_transfers

__all__ = ["CLAIMS", "EFFECTS", "judge"]

CLAIMS = {
    1: "On MNIST SparseConvNet handles sparsity without significant loss: above 90% up to 70% missing.",
    2: "On MNIST SparseConvNet has no notable advantage over ConvNet, and both fall alike.",
    3: "On Caltech-101 SparseConvNet beats ConvNet at every sparsity, by about 20 points.",
    4: "On Caltech-101 ConvNet falls with every increase of sparsity while SparseConvNet is stable.",
    5: "MNIST is too easy and already sparse, which is why nothing shows there.",
    6: "On MNIST batch size and learning rate hardly matter.",
    7: "On Caltech-101 a learning rate of 1e-3 is the right order of magnitude.",
    8: "On Caltech-101 batch 64 is unstable at 70% missing (a fall in the last epoch).",
    9: "Batch norm raises accuracy on Caltech-101; without dropout and with a larger first linear layer it overfits.",
    10: "SparseConvNet is invariant to the level of sparsity.",
}
# The unit of each claim's effect, and what it is.
EFFECTS = {
    1: ("points", "least margin above 90%"),
    2: ("points", "SparseConvNet - ConvNet, MNIST"),
    3: ("points", "SparseConvNet - ConvNet, Caltech-101"),
    4: ("points", "ConvNet's fall - SparseConvNet's"),
    5: ("points", "SparseConvNet - ConvNet: white less black"),
    6: ("points", "best setting - worst"),
    7: ("points", "1e-3 - the better of 1e-2 and 1e-4"),
    8: ("% of runs", "batch 64, a fall at the end"),
    9: ("points", "from batch norm"),
    10: ("points", "cost of a wrong sparsity"),
}
SPARSE, PLAIN = NETWORKS = ("SparseConvNet", "ConvNet")
DEPTH_MARGIN = 0.1  # metres
NONE = Ruling(NOT_TESTED)
Judgement = tuple[Ruling, Ruling, list[str]]


def judge(read: Callable = of_experiments) -> pd.DataFrame:
    """Columns claim, numbers_come_back, conclusion_stands, effect, low, high (its 95% interval; NaN = none), unit,
    evidence; a line a claim. Where a conclusion stands in part, the evidence starts with "in part: " and the part.

    Args:
        read: gives the rows of experiments, as results has it.
    """
    asked = (_claim_1, _claim_2, _claim_3, _claim_4, _claim_5, _claim_6, _claim_7, _claim_8, _claim_9, _claim_10)
    lines = []
    for number, claim in enumerate(asked, 1):
        numbers, conclusion, evidence = claim(read)
        if conclusion.verdict == IN_PART:
            evidence = [f"in part: {conclusion.part}", *evidence]
        effect = (round(value, 2) for value in (conclusion.effect, conclusion.low, conclusion.high))
        words = (numbers.verdict, conclusion.verdict)
        lines.append((f"{number}. {CLAIMS[number]}", *words, *effect, EFFECTS[number][0], "; ".join(evidence)))
    columns = ["claim", "numbers_come_back", "conclusion_stands", "effect", "low", "high", "unit", "evidence"]
    return pd.DataFrame(lines, columns=columns)


def _claim_1(read: Callable) -> Judgement:
    runs = _fair(read, "mnist").query("0 < sparsity <= 0.7")
    layout = _layout(runs, [SPARSE])
    numbers, evidence = _numbers(read, "mnist", "table3_mnist", [SPARSE], up_to=0.7)
    if layout is None:
        return numbers, NONE, [_untested("MNIST's SparseConvNet"), *evidence]
    margins = layout[SPARSE]
    ruling = rules.stays_above(margins.to_numpy(), 90)
    means = margins.mean()
    reach = f"means {means.min():.1f} to {means.max():.1f}%, the least {_words(ruling)} above 90%"
    return numbers, ruling, [f"controlled, {_size(margins)}: {reach}", *_collapsed(runs, [SPARSE]), *evidence]


def _claim_2(read: Callable) -> Judgement:
    runs = _fair(read, "mnist").query("sparsity > 0")
    layout = _layout(runs, NETWORKS)
    ends = _layout(runs[runs["sparsity"].isin([0.1, 0.9])], NETWORKS)
    numbers, evidence = _numbers(read, "mnist", "table3_mnist", NETWORKS, apart=True)
    if layout is None or ends is None or len(ends[SPARSE].columns) < 2:
        return numbers, NONE, [_untested("MNIST's SparseConvNet and ConvNet"), *evidence]
    apart = layout[SPARSE] - layout[PLAIN]
    falls = {model: part[0.1] - part[0.9] for model, part in ends.items()}
    falls_apart = (falls[SPARSE] - falls[PLAIN]).to_numpy()
    ruling = rules.alike_and_no_advantage(apart.to_numpy(), falls_apart)
    found = [
        f"controlled, {_size(apart)}: SparseConvNet - ConvNet {_words(ruling)}",
        f"from 10 to 90% missing its fall less ConvNet's {_mean(falls_apart)}",
    ]
    return numbers, ruling, [*found, *_collapsed(runs, NETWORKS), *evidence]


def _claim_3(read: Callable) -> Judgement:
    runs = _fair(read, "caltech101").query("sparsity > 0")
    layout = _layout(runs, NETWORKS)
    numbers, evidence = _numbers(read, "caltech101", "table4_caltech101", NETWORKS, apart=True)
    if layout is None:
        return numbers, NONE, [_untested("Caltech-101's SparseConvNet and ConvNet"), *evidence]
    apart = layout[SPARSE] - layout[PLAIN]
    ruling = rules.ahead_by_20(apart.to_numpy())
    found = f"controlled, {_size(apart)}: SparseConvNet - ConvNet {_words(ruling)}"
    return numbers, ruling, [found, *_collapsed(runs, NETWORKS), *evidence]


def _claim_4(read: Callable) -> Judgement:
    runs = _fair(read, "caltech101").query("sparsity > 0")
    layout = _layout(runs, NETWORKS)
    numbers, evidence = _numbers(read, "caltech101", "table4_caltech101", NETWORKS)
    if layout is None or len(layout[SPARSE].columns) < 2:
        return numbers, NONE, [_untested("two levels of Caltech-101's SparseConvNet and ConvNet"), *evidence]
    first, last = layout[SPARSE].columns[[0, -1]]
    falls = {model: (part[first] - part[last]).to_numpy() for model, part in layout.items()}
    ruling = rules.one_falls_one_stable(falls[PLAIN], falls[SPARSE])
    found = (
        f"controlled, {_size(layout[SPARSE])}: from {first:.0%} to {last:.0%} missing ConvNet falls by "
        f"{_mean(falls[PLAIN])}, SparseConvNet by {_mean(falls[SPARSE])}, ConvNet's more {_words(ruling)}"
    )
    return numbers, ruling, [found, *_collapsed(runs, NETWORKS), *evidence]


def _claim_5(read: Callable) -> Judgement:
    ways = alternatives("mnist")
    grounds = {"": GROUNDS[False], INVERTED: GROUNDS[True]}
    named = {f"{model}, {ground}": ways[model + kind] for model in NETWORKS for kind, ground in grounds.items()}
    runs = pd.concat([selected(read(asked)).assign(model=name) for name, asked in named.items()])
    layout = _layout(runs.query("sparsity > 0"), list(named))
    evidence = ["the report gives no numbers for it"]
    if layout is None:
        return NONE, NONE, [_untested("MNIST's SparseConvNet and ConvNet on inverted images"), *evidence]
    apart = {ground: layout[f"{SPARSE}, {ground}"] - layout[f"{PLAIN}, {ground}"] for ground in grounds.values()}
    ruling = rules.shows_without_black(apart["white"].to_numpy(), apart["black"].to_numpy())
    words = ", ".join(f"on {ground} {_mean(part.mean(axis=1))}" for ground, part in apart.items())
    found = f"controlled, {_size(apart['white'])}: SparseConvNet - ConvNet {words}"
    return NONE, ruling, [found, *_collapsed(runs, list(named)), *evidence]


def _claim_6(read: Callable) -> Judgement:
    runs = selected(read(hyperparameters("mnist")), "last").query("model == @SPARSE")
    numbers, evidence = _table_numbers(runs, "table5_mnist")
    factors, found = [], []
    for level, part in runs.groupby("sparsity"):
        for factor, other in (("learning_rate", "batch_size"), ("batch_size", "learning_rate")):
            sound = part[~has_collapsed(part)].pivot(index=["seed", other], columns=factor, values="test_accuracy")
            layout = sound.dropna().groupby("seed").mean()
            if layout.shape[0] < 2 or layout.shape[1] < 2:
                return numbers, NONE, [_untested("MNIST's learning rates and batch sizes", "as_reported"), *evidence]
            groups = [of_setting["test_accuracy"].to_numpy() for _, of_setting in part.groupby(factor)]
            factors.append((groups, layout.to_numpy()))
            means = layout.mean()
            found.append(f"{factor.replace('_', ' ')} at {level:.0%} missing {means.max() - means.min():.1f}")
    if not factors:
        return numbers, NONE, [_untested("MNIST's learning rates and batch sizes", "as_reported"), *evidence]
    ruling = rules.hardly_matters(factors)
    seeds = min(len(layout) for _, layout in factors)
    words = f"as_reported, SparseConvNet, {seeds} seeds: points between the best mean and the worst: {', '.join(found)}"
    return numbers, ruling, [words, *_collapsed(runs, [SPARSE]), *evidence]


def _claim_7(read: Callable) -> Judgement:
    runs = selected(read(hyperparameters("caltech101")), "last").query("model == @SPARSE")
    numbers, evidence = _table_numbers(runs, "table6_caltech101")
    leads, found = [], []
    for rate in (1e-2, 1e-4):
        layout = _layout(runs.assign(model=runs["learning_rate"]), [1e-3, rate], ["sparsity", "batch_size"])
        if layout is None:
            return numbers, NONE, [_untested(f"Caltech-101's learning rates 1e-3 and {rate:g}"), *evidence]
        apart = layout[1e-3] - layout[rate]
        leads.append(apart.to_numpy())
        found.append(f"1e-3 - {rate:g}, {_size(apart, 'settings')}, {_mean(apart.mean(axis=1))}")
    ruling = rules.order_of_magnitude(leads)
    return numbers, ruling, [f"controlled, SparseConvNet: {', '.join(found)}", *_collapsed(runs, [SPARSE]), *evidence]


def _claim_8(read: Callable) -> Judgement:
    rows = read([run for run in hyperparameters("caltech101", 0.7, [1e-3]) if run.model == SPARSE])
    as_run = read(late_drop()["as_run"])
    quoted = published("late_drop_caltech101")["test_accuracy"]
    numbers, evidence = NONE, ["as_run, batch 64: no two runs yet"]
    if as_run["run"].nunique() > 1:
        last = as_run.sort_values("epoch").groupby("run")["test_accuracy"].agg(lambda part: -part.diff().iloc[-1])
        theirs = -quoted.diff().iloc[-1]
        numbers = rules.numbers_come_back({SPARSE: (last - theirs).to_numpy()[:, None]})
        evidence = [
            f"as_run, batch 64, {len(last)} runs: a fall of {_mean(last)} in the last epoch, theirs {theirs:.1f}"
        ]
    drops = late_drops(rows)
    of_64, others = (drops.loc[chosen, "at_last"] for chosen in (drops["batch_size"] == 64, drops["batch_size"] != 64))
    if len(of_64) < 2 or len(others) < 2:
        return numbers, NONE, [_untested("Caltech-101's batch sizes"), *evidence]
    ruling = rules.unstable(of_64, others)
    found = (
        f"controlled, learning rate 1e-3: in the last epoch {of_64.sum()} of {len(of_64)} runs at batch 64 fall by "
        f"over 5 points ({_words(ruling)}%), {others.sum()} of {len(others)} at 128 and 256"
    )
    return numbers, ruling, [found, *evidence]


def _claim_9(read: Callable) -> Judgement:
    ways = {way: selected(read(runs)).query("model == @SPARSE") for way, runs in ablations().items()}
    whole, bare, wide = (ways[way] for way in ("Figure 5", "no batch norm", "no dropout, 2,048 wide"))
    if min(map(len, (whole, bare, wide))) < 2:
        return NONE, NONE, [_untested("Caltech-101's ablations")]
    train, test = wide["train_accuracy"].to_numpy(), wide["test_accuracy"].to_numpy()
    above_20 = np.clip(test[:, None] - 20, 0, None)
    numbers = rules.numbers_come_back({"train": train[:, None] - 100, "test": above_20})
    dead = {name: has_collapsed(runs) for name, runs in (("with", whole), ("without", bare))}
    sound = [runs[~has_collapsed(runs)].set_index("seed")["test_accuracy"] for runs in (whole, bare)]
    gain = (sound[0] - sound[1]).dropna()
    # Batch norm is in every network of controlled, at each level.
    beside = has_collapsed(_fair(read, "caltech101").query("model == @SPARSE"))
    counts = [(int(part.sum()), len(part)) for part in (dead["without"], beside)]
    ruling = rules.batch_norm_and_overfitting(gain.to_numpy(), *counts, train, test)
    if gain.empty:  # all without it collapsed: no interval, see the plan
        ruling = replace(ruling, effect=whole["test_accuracy"].mean() - bare["test_accuracy"].mean())
    found = [
        f"controlled, 30% missing: SparseConvNet has {_percent(whole['test_accuracy'])}% with batch norm; without it "
        f"{counts[0][0]} of {counts[0][1]} runs collapsed, with it {counts[1][0]} of {counts[1][1]} at any level",
        f"without dropout and 2,048 wide {_percent(train)}% on training and {_percent(test)}% on test images, theirs "
        "almost 100 and under 20",
    ]
    return numbers, ruling, found


def _claim_10(read: Callable) -> Judgement:
    costs, found = {}, []
    for dataset in ("mnist", "caltech101"):
        if of_networks := _cost_of_a_wrong_level(read, dataset):
            costs[dataset], words = of_networks
            found.append(words)
    if not costs:
        return NONE, NONE, [_untested("the train x test matrices")]
    ruling = rules.invariant(costs)
    if ruling.verdict == YES and len(costs) < 2:
        ruling = replace(ruling, verdict=UNDECIDED)
    return (
        NONE,
        ruling,
        [*found, *_invariant_on_depth(read), "the report gives no numbers: it tests each network at its own sparsity"],
    )


def _invariant_on_depth(read: Callable) -> list[str]:
    """The same on the paper's own task, in metres: evidence, since the report's claim is about classification."""
    if not (of_networks := _cost_of_a_wrong_level(read, "kitti_range", 2)):
        return []
    costs, words = of_networks
    ruling = rules.invariant({"kitti_range": costs}, DEPTH_MARGIN)
    return [f"{words} m; on depth: {ruling.verdict}{f', {ruling.part}' if ruling.part else ''}"]


def _cost_of_a_wrong_level(
    read: Callable, dataset: str, digits: int = 1
) -> tuple[tuple[np.ndarray, np.ndarray], str] | None:
    """SparseConvNet's and ConvNet's by seed, and all networks' in words; None where two seeds lack them."""
    measured = read_transfers(read(matrix(dataset)))
    by_seed = mismatch(measured)["mismatch"].unstack("model")
    if not set(NETWORKS) <= set(by_seed) or len(by_seed := by_seed.dropna(subset=list(NETWORKS))) < 2:
        return None
    size = f"{len(by_seed)} seeds, {len(levels_compared(measured))} of {len(levels_of(dataset))} levels"
    numbers = ", ".join(f"{model} {_mean(by_seed[model].dropna(), digits)}" for model in by_seed)
    saved = _mean(by_seed[PLAIN] - by_seed[SPARSE], digits)
    words = f"{dataset}, {size}: a wrong level costs {numbers}; ConvNet more than SparseConvNet by {saved}"
    return (by_seed[SPARSE].to_numpy(), by_seed[PLAIN].to_numpy()), words


def _fair(read: Callable, dataset: str) -> pd.DataFrame:
    return selected(read(grid(dataset, "controlled")))


def _layout(runs: pd.DataFrame, models: Sequence, by: Sequence[str] = ("sparsity",)) -> dict | None:
    """pairs.crossed; None where two seeds share no level."""
    layout = crossed(runs, models, by)
    return layout if len(layout[models[0]]) > 1 else None


def _numbers(
    read: Callable, dataset: str, table: str, models: Sequence[str], apart: bool = False, up_to: float = 1
) -> tuple[Ruling, list[str]]:
    """Of a table's rows, or of the difference between two of them, in as_run, up to a sparsity."""
    runs = selected(read(grid(dataset, "as_run"))).query("sparsity <= @up_to")
    ours = crossed(runs, models)
    quoted = published(table).pivot(index="sparsity", columns="model", values="accuracy")
    less = {model: part - quoted[model].reindex(part.columns) for model, part in ours.items()}
    if apart:
        less = {" - ".join(models): less[models[0]] - less[models[1]]}
    return _compared(less, "as_run", _collapsed(runs, models, "as_run"))


def _table_numbers(runs: pd.DataFrame, table: str) -> tuple[Ruling, list[str]]:
    """Of Table 5's or 6's cells, in the study that has their settings."""
    by = ["sparsity", "batch_size", "learning_rate"]
    ours = crossed(runs, [SPARSE], by)[SPARSE]
    quoted = published(table).set_index(by)["accuracy"]
    protocol = runs["protocol"].iloc[0] if len(runs) else ""
    return _compared({SPARSE: ours - quoted.reindex(ours.columns)}, protocol, [])


def _compared(less: dict[str, pd.DataFrame], protocol: str, collapsed: list[str]) -> tuple[Ruling, list[str]]:
    first = next(iter(less.values()))
    if first.empty or first.size < 2:
        return NONE, ["no runs yet whose numbers could come back"]
    ruling = rules.numbers_come_back({name: part.to_numpy() for name, part in less.items()})
    by_unit = {name: part.mean(axis=1) if len(part) > 1 else part.iloc[0] for name, part in less.items()}
    words = ", ".join(f"{name} {_mean(values)}" for name, values in by_unit.items())
    return ruling, [f"{protocol}, {_size(first)}: ours less theirs {words}", *collapsed]


def _size(layout: pd.DataFrame, of: str = "levels") -> str:
    seeds, levels = layout.shape
    return f"{seeds} seed{'s' * (seeds > 1)}, {levels} {of}"


def _mean(values: Sequence[float], digits: int = 1) -> str:
    """The mean with its 95% interval."""
    return of_values(values).words(f".{digits}f")


def _percent(values: Sequence[float]) -> str:
    """As :func:`_mean`, of two values or more; the values where the interval leaves 0 to 100, see tables.listed."""
    mean = of_values(values)
    return mean.words(".1f") if within_percent(mean.effect, mean.half()) else listed(values, ".1f")


def _words(ruling: Ruling) -> str:
    return in_words(ruling.effect, ruling.low, ruling.high, ".1f")


def _collapsed(runs: pd.DataFrame, models: Sequence[str], where: str = "") -> list[str]:
    runs = runs[runs["model"].isin(models)]
    dead = int(has_collapsed(runs).sum())
    return [f"{where + ': ' if where else ''}{dead} of {len(runs)} runs collapsed, and are left out"] if dead else []


def _untested(what: str, protocol: str = "controlled") -> str:
    return f"not tested: {what} need runs of two seeds or more in {protocol}"
