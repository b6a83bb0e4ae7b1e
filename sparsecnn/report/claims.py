"""The report's ten claims, each judged by rule from the recorded runs: a verdict, and the numbers that it rests on.

Intervals are 95%, Student's t over seeds; differences are paired by seed. A verdict asks for intervals, so for two
seeds at least.
"""

from collections.abc import Callable

import pandas as pd
from scipy import stats

from ..experiment import grid, levels_of
from ..studies import ablations, hyperparameters, late_drop, matrix, rescaled_starts
from ..sweeps.store import of_experiments
from .statistics import late_drops, levels_compared, mismatch, transfers, variance_explained
from .tables import ci95, has_collapsed, paired_difference, selected, span, with_interval, with_rescaled

__all__ = ["CLAIMS", "HOLDS", "IN_PART", "NOT", "UNTESTED", "judge"]

HOLDS, IN_PART, NOT, UNTESTED = VERDICTS = ("holds", "holds in part", "does not hold", "cannot be tested")
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
Judgement = tuple[str, str]


def judge(read: Callable = of_experiments) -> pd.DataFrame:
    """Columns claim, verdict, evidence; a line a claim. ``read`` gives the rows of experiments, as results has it."""
    rules = (_claim_1, _claim_2, _claim_3, _claim_4, _claim_5, _claim_6, _claim_7, _claim_8, _claim_9, _claim_10)
    lines = [(f"{number}. {CLAIMS[number]}", *rule(read)) for number, rule in enumerate(rules, 1)]
    return pd.DataFrame(lines, columns=["claim", "verdict", "evidence"])


def _claim_1(read: Callable) -> Judgement:
    evidence, states = [], []
    for protocol in ("as_reported", "controlled"):
        runs = _fair(read, "mnist", protocol).query("model == 'SparseConvNet' and 0 < sparsity <= 0.7")
        if _seeds(runs) < 2:
            return _untested("MNIST's SparseConvNet", protocol)
        means, halves = (runs.groupby("sparsity")["test_accuracy"].agg(how) for how in ("mean", ci95))
        below = int((means - halves < 90).sum())
        states.append((means.min() > 90, below == 0))
        loss = _change(runs, 0.7, 0.1)
        evidence.append(
            f"{protocol}, {_seeds(runs)} seeds: means from {means.max():.1f}% to {means.min():.1f}%, a loss of "
            f"{_with_interval(loss)} points from 10% to 70% missing; the interval reaches below 90% at {below} of "
            f"{len(means)} levels"
        )
    means_above, clearly = (all(state[i] for state in states) for i in range(2))
    return (HOLDS if clearly else IN_PART if means_above else NOT), "; ".join(evidence)


def _claim_2(read: Callable) -> Judgement:
    evidence, ahead, behind, alike = [], 0, 0, True
    for protocol in ("as_reported", "controlled"):
        rows = read(grid("mnist", protocol))
        levels = paired_difference(rows, "SparseConvNet", "ConvNet").query("sparsity > 0")
        if levels.empty or levels["n_seeds"].min() < 2:
            return _untested("MNIST's SparseConvNet and ConvNet", protocol)
        counts = levels["holds"].value_counts()
        ahead, behind = ahead + counts.get("more", 0), behind + counts.get("less", 0)
        runs = selected(rows)
        falls = [_change(runs[runs["model"] == model], 0.9, 0.1) for model in ("SparseConvNet", "ConvNet")]
        apart = (falls[0] - falls[1]).dropna()
        alike = alike and abs(apart.mean()) <= ci95(apart)
        evidence.append(
            f"{protocol}: SparseConvNet proven ahead at {counts.get('more', 0)} and behind at {counts.get('less', 0)} "
            f"of {len(levels)} levels, {span(levels['difference'])} points; "
            f"from 10% to 90% missing its loss less ConvNet's is {_with_interval(apart)}"
        )
    verdict = NOT if ahead > behind and ahead > 2 else HOLDS if alike and not behind else IN_PART
    return verdict, "; ".join(evidence)


def _claim_3(read: Callable) -> Judgement:
    runs = grid("caltech101", "controlled")
    levels = paired_difference(read(runs), "SparseConvNet", "ConvNet").query("sparsity > 0")
    tested, alone = levels[levels["n_seeds"] > 1], levels[levels["n_seeds"] == 1]
    ahead = tested["holds"].eq("more")
    about_20 = (tested["difference"] + tested["ci95"] >= 15).all()
    evidence = []
    if len(tested):
        evidence.append(
            f"controlled: SparseConvNet less ConvNet is {span(tested['difference'])} points, proven ahead at "
            f"{ahead.sum()} of {len(tested)} levels"
        )
    if len(alone):
        by_level = (f"{line.difference:+.1f} at {line.sparsity:.0%} missing" for line in alone.itertuples())
        evidence.append(f"one seed in controlled: SparseConvNet less ConvNet is {', '.join(by_level)}")
    if not (ahead.all() and about_20):  # "every" level falls with one
        return (IN_PART if ahead.any() else NOT), "; ".join(evidence)
    if len(tested) < len({run.sparsity for run in runs} - {0}):
        verdict, why = _untested("Caltech-101's SparseConvNet and ConvNet at every level", "controlled")
        return verdict, "; ".join([why, *evidence])
    return HOLDS, "; ".join(evidence)


def _claim_4(read: Callable) -> Judgement:
    rows = read(grid("caltech101", "controlled"))
    levels = paired_difference(rows, "SparseConvNet", "ConvNet").query("sparsity > 0 and n_seeds > 1")["sparsity"]
    if len(levels) < 3:
        return _untested("three levels of Caltech-101's SparseConvNet and ConvNet", "controlled")
    runs = selected(rows)
    runs = runs[runs["sparsity"].isin(levels)]
    parts = {model: runs[runs["model"] == model] for model in ("SparseConvNet", "ConvNet")}
    falls = {model: _change(part, part["sparsity"].max(), part["sparsity"].min()) for model, part in parts.items()}
    steps = parts["ConvNet"].groupby("sparsity")["test_accuracy"].mean().diff().dropna()
    apart = (falls["ConvNet"] - falls["SparseConvNet"]).dropna()
    every, steadier = (steps < 0).all(), apart.mean() > ci95(apart)
    evidence = (
        f"controlled: ConvNet's mean falls at {int((steps < 0).sum())} of {len(steps)} steps, by "
        f"{_with_interval(falls['ConvNet'])} points in all; SparseConvNet falls by "
        f"{_with_interval(falls['SparseConvNet'])}; ConvNet's fall is larger by {_with_interval(apart)}"
    )
    return _of_halves(every, steadier), evidence


def _claim_5(read: Callable) -> Judgement:
    rows = read(grid("mnist", "controlled"))
    plain = selected(rows)
    loss = _change(plain[plain["model"] == "ConvNet"], 0.6, 0.0)
    if len(loss) < 2:
        return _untested("MNIST's ConvNet", "controlled")
    evidence = [f"controlled: ConvNet loses {_with_interval(loss)} points from 0% to 60% missing, so little can show"]
    masked = paired_difference(rows, "ConvNet + mask", "ConvNet").query("sparsity >= 0.8")
    both = with_rescaled(rows, read(rescaled_starts()))
    sparse = paired_difference(both, "SparseConvNet, rescaled", "ConvNet").query("sparsity >= 0.8")
    shown = 0
    for name, levels in (("ConvNet + mask", masked), ("SparseConvNet from a rescaled start", sparse)):
        proven = levels[levels["holds"] == "more"]
        shown += len(proven)
        if len(levels):
            evidence.append(
                f"at 80% and more {name} is proven ahead of ConvNet at {len(proven)} of {len(levels)} levels, by up to "
                f"{levels['difference'].max():.1f} points"
            )
    little_room = loss.mean() + ci95(loss) < 5
    return (IN_PART if little_room and shown else HOLDS if little_room else NOT), "; ".join(evidence)


def _claim_6(read: Callable) -> Judgement:
    runs = selected(read(hyperparameters("mnist")), "last").query("model == 'SparseConvNet'")
    evidence, matters, large = [], [], []
    for level, part in runs.groupby("sparsity"):
        dead = has_collapsed(part)
        collapsed = f"; {dead.sum()} of {len(part)} runs collapsed, and are left out" if dead.any() else ""
        part = part[~dead]
        explained = variance_explained(part)
        if not {"learning rate", "batch size"} <= set(explained.index):
            return _untested("MNIST's learning rates and batch sizes", "as_reported")
        factors = explained.loc[["learning rate", "batch size"]]
        spans = []
        for factor in ("learning_rate", "batch_size"):
            means = part.groupby(factor)["test_accuracy"].mean()
            spans.append(means.max() - means.min())
        matters += list(factors["low"] > 0)
        large += [span > 1 for span in spans]
        sources = [
            f"{name} {line['share']:.0f}% of all variance, {line['partial']:.0f}% (interval: {line['low']:.0f} to "
            f"{line['high']:.0f}%) of what the others leave, {span:.1f} points between its best mean and its worst"
            for (name, line), span in zip(factors.iterrows(), spans, strict=True)
        ]
        evidence.append(f"SparseConvNet, {level:.0%} missing: {', '.join(sources)}{collapsed}")
    if not evidence:
        return _untested("MNIST's learning rates and batch sizes", "as_reported")
    proven = [both for both in zip(matters, large, strict=True) if both[0]]
    verdict = HOLDS if not proven else NOT if all(both[1] for both in proven) and len(proven) > 1 else IN_PART
    return verdict, "two-way analysis of variance; " + "; ".join(evidence)


def _claim_7(read: Callable) -> Judgement:
    asked = hyperparameters("caltech101")
    combination = ["model", "sparsity", "batch_size"]
    of_all = len({tuple(getattr(run, name) for name in combination) for run in asked})
    accuracies = selected(read(asked), "last").groupby([*combination, "learning_rate"])["test_accuracy"]
    grids = accuracies.mean()[accuracies.count() > 1].unstack("learning_rate").dropna()
    if grids.shape[1] < 3 or grids.empty:
        return _untested("Caltech-101's learning rates", "controlled")
    best = grids.idxmax(axis=1) == 1e-3
    lead = grids[1e-3] - grids.drop(columns=1e-3).max(axis=1)
    evidence = (
        f"of {of_all} combinations of network, sparsity and batch size {len(best)} have two seeds or more at every "
        f"rate; there 1e-3 has the best mean in {best.sum()}, {span(lead)} points from the next"
    )
    return (HOLDS if best.sum() == of_all else IN_PART if best.mean() > 0.5 else NOT), evidence


def _claim_8(read: Callable) -> Judgement:
    rows = read([run for run in hyperparameters("caltech101", 0.7, [1e-3]) if run.model == "SparseConvNet"])
    drops = late_drops(rows)
    of_64, others = drops[drops["batch_size"] == 64], drops[drops["batch_size"] != 64]
    if len(of_64) < 2 or len(others) < 2:
        return _untested("Caltech-101's batch sizes", "controlled")
    table = [[part["drops"].sum(), part["epochs_late"].sum() - part["drops"].sum()] for part in (of_64, others)]
    more = stats.fisher_exact(table, alternative="greater").pvalue
    # The report's one run has one fall, in its last epoch.
    of_a_run = 1 / of_64["epochs_late"].iloc[0]
    fewer = stats.binomtest(int(table[0][0]), int(sum(table[0])), of_a_run, alternative="less").pvalue
    evidence = (
        f"SparseConvNet, learning rate 1e-3: a fall of more than 5 points in {table[0][0]} of {sum(table[0])} late "
        f"epochs at batch 64 ({of_64['at_last'].sum()} of {len(of_64)} runs at the last), in {table[1][0]} of "
        f"{sum(table[1])} at 128 and 256; more often at 64: Fisher's exact test, one-sided, p = {more:.3f}; less often "
        f"than once a run: exact binomial test, one-sided, p = {fewer:.3f}"
    )
    as_run = late_drops(read(late_drop()["as_run"]))
    if len(as_run):
        evidence += (
            f"; as_run, batch 64: in {as_run['drops'].sum()} of {as_run['epochs_late'].sum()} late epochs "
            f"({as_run['at_last'].sum()} of {len(as_run)} runs at the last)"
        )
    if more >= 0.05 and fewer >= 0.05 and not table[0][0]:
        return UNTESTED, f"not yet: too few runs to tell; {evidence}"
    return (HOLDS if more < 0.05 else NOT if fewer < 0.05 and not as_run["drops"].any() else IN_PART), evidence


def _claim_9(read: Callable) -> Judgement:
    ways = {way: selected(read(runs)).query("model == 'SparseConvNet'") for way, runs in ablations().items()}
    asked = "Figure 5", "no batch norm", "no dropout, 2,048 wide"
    if min(_seeds(ways[way]) for way in asked) < 2:
        return _untested("Caltech-101's ablations", "controlled")
    whole, bare, wide = (ways[way] for way in asked)
    gain = (whole.set_index("seed")["test_accuracy"] - bare.set_index("seed")["test_accuracy"]).dropna()
    overfits = wide["train_accuracy"].min() > 95 and wide["test_accuracy"].max() < 20
    raises = gain.mean() > ci95(gain)
    evidence = (
        f"SparseConvNet, 30% missing: batch norm gives {_with_interval(gain)} points; without dropout and 2,048 wide "
        f"{wide['train_accuracy'].mean():.1f}% on training and {wide['test_accuracy'].mean():.1f}% on test images, as "
        f"it is {whole['train_accuracy'].mean():.1f}% and {whole['test_accuracy'].mean():.1f}%"
    )
    return _of_halves(raises, overfits), evidence


def _claim_10(read: Callable) -> Judgement:
    evidence, states = [], []
    for dataset in ("mnist", "caltech101"):
        measured = transfers(read(matrix(dataset)))
        costs = mismatch(measured)["mismatch"].unstack("model")
        if len(costs) < 2 or not {"SparseConvNet", "ConvNet"} <= set(costs):
            continue
        apart = (costs["ConvNet"] - costs["SparseConvNet"]).dropna()
        own = costs["SparseConvNet"]
        states.append((own.mean() + ci95(own) < 1, apart.mean() > ci95(apart)))
        numbers = ", ".join(f"{model} {_with_interval(costs[model].dropna())}" for model in costs)
        levels = f"{len(levels_compared(measured))} of {len(levels_of(dataset))} levels"
        evidence.append(f"{dataset}, {levels}: trained at another level than tested costs {numbers} points on average")
    if not states:
        return _untested("train x test matrices", "controlled")
    flat, flatter = (all(state[i] for state in states) for i in range(2))
    return (HOLDS if flat else IN_PART if flatter else NOT), "; ".join(evidence)


def _of_halves(first: bool, second: bool) -> str:
    """The verdict on a claim of two halves."""
    return HOLDS if first and second else IN_PART if first or second else NOT


def _fair(read: Callable, dataset: str, protocol: str) -> pd.DataFrame:
    return selected(read(grid(dataset, protocol)))


def _seeds(runs: pd.DataFrame) -> int:
    """How many seeds every level has at least."""
    return int(runs.groupby("sparsity")["seed"].nunique().min()) if len(runs) else 0


def _change(runs: pd.DataFrame, to: float, start: float) -> pd.Series:
    """What each seed's accuracy loses from one sparsity to another."""
    accuracy = runs.pivot(index="seed", columns="sparsity", values="test_accuracy")
    if not {to, start} <= set(accuracy):
        return pd.Series(dtype=float)
    return (accuracy[start] - accuracy[to]).dropna()


def _with_interval(values: pd.Series) -> str:
    return with_interval(values.mean(), ci95(values), ".1f")


def _untested(what: str, protocol: str) -> Judgement:
    return UNTESTED, f"not yet: {what} need runs of two seeds or more in {protocol}"
