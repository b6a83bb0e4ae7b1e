"""The runs of the studies beside Tables 3 and 4: each grid changes the protocols' settings one or two at a time."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .checks import SettingError, check_choice, check_fraction, check_seeds, check_type
from .experiment import (
    ADAPTED,
    ALTERNATIVES,
    CALTECH,
    KITTI,
    MNIST,
    MODELS,
    SETTINGS,
    SPARSITIES,
    Experiment,
    experiment,
    family_of,
    grid,
)

__all__ = [
    "BATCH_SIZES",
    "BRIDGE_SPARSITIES",
    "LEARNING_RATES",
    "STUDIES",
    "STUDY_SPARSITIES",
    "WEIGHT_DECAYS",
    "Step",
    "ablations",
    "alternatives",
    "batch_norms",
    "bridge",
    "bridges",
    "depth_training",
    "discussion",
    "hyperparameters",
    "late_drop",
    "matrix",
    "other_splits",
    "rescaled_starts",
    "studies_of",
    "weight_decay",
]

STUDIES = (
    "matrix", "table", "rescaled_starts", "hyperparameters", "bridges", "ablations", "late_drop", "weight_decay",
    "other_splits", "batch_norms", "alternatives", "depth_training",
)  # fmt: skip

RESCALED_SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.9, 0.95)

# Where networks trained on images of every sparsity are tested after each epoch.
MIXED_TEST_SPARSITY = 0.5

# Tables 5 and 6.
LEARNING_RATES = {"mnist": (1e-2, 5e-3, 1e-3), "caltech101": (1e-2, 1e-3, 1e-4)}
BATCH_SIZES = (64, 128, 256)
STUDY_SPARSITIES = {"mnist": (0.1, 0.9), "caltech101": (0.05, 0.7)}
STUDY_SEEDS = 3
# Table 5's own network on MNIST: whether settings matter there is a question of a point.
HYPERPARAMETER_SEEDS = {("mnist", "SparseConvNet"): 10}
# The weight decay that the published notebooks ran with, on both data sets; controlled has it on Caltech-101.
STUDY_PROTOCOL = {"mnist": "as_reported", "caltech101": "controlled"}

# MNIST's are those of Table 5, whose runs some steps share. Of Caltech-101 one at which the two rules for passing the
# mask on hardly differ, and one at which they do.
BRIDGE_SPARSITIES = {"mnist": (0.1, 0.9), "caltech101": (0.3, 0.7)}

ABLATION_SPARSITY = 0.3

# Telea's method takes ten times as long as all the rest of a run on MNIST.
INPAINTED = (0.3, 0.7, 0.9)
ALTERNATIVE_SPARSITIES = {"mnist": SPARSITIES, "caltech101": (0.05, 0.3, 0.7)}

SPLIT_SPARSITIES = (0.05, 0.3, 0.7)
SPLIT_SEEDS = (1, 2, 3)

WEIGHT_DECAYS = (("Adam", 0.0), ("Adam", 1e-3), ("Adam", 0.3), ("AdamW", 1e-3), ("AdamW", 0.3))
# Where four of five returns are missing; so many times the epochs of the settings.
DEPTH_SPARSITY, LONGER = 0.8, (2, 4, 16)

TRAINING_IMAGES = {"caltech101": 5552, "shapes": 256}  # of the stratified split
PUBLISHED_TRAINING_IMAGES = 5510  # of the published notebooks' split, with two classes left out


def rescaled_starts(
    dataset: str = "mnist", sparsity: float | None = None, seeds: int | None = None, **changes
) -> list[Experiment]:
    """MNIST's SparseConvNet as ``controlled`` has it, but for initial weights of its first convolution that make up for
    what it divides by. Arguments as for :func:`sparsecnn.experiment.grid`, which does not have these runs."""
    check_choice("dataset", dataset, MNIST)
    runs = grid(dataset, "controlled", sparsity, seeds, architecture="mnist_rescaled", **changes)
    levels = RESCALED_SPARSITIES if sparsity is None else (sparsity,)
    return [run for run in runs if run.model == "SparseConvNet" and run.sparsity in levels]


def matrix(
    dataset: str = "mnist", sparsity: float | None = None, seeds: int | None = None, **changes
) -> list[Experiment]:
    """Train x test: the ``controlled`` runs, each tested at every sparsity and under masks with structure, and beside
    them networks of each kind trained on images of every sparsity; with ``sparsity``, those trained at that one alone.

    ``seeds`` is the number of seeds, None = the table's of the former and three of the latter.
    """
    tested = {"tested_at": "every sparsity"} | changes
    runs = grid(dataset, "controlled", sparsity, seeds, **tested)
    if sparsity is None:
        tested["trained_at"] = "every sparsity"
        runs += grid(dataset, "controlled", MIXED_TEST_SPARSITY, STUDY_SEEDS if seeds is None else seeds, **tested)
    return sorted(runs, key=lambda run: run.seed)


def hyperparameters(
    dataset: str,
    sparsity: float | None = None,
    learning_rates: Sequence[float] | None = None,
    batch_sizes: Sequence[int] | None = None,
    seeds: int | None = None,
    **changes,
) -> list[Experiment]:
    """Learning rate by batch size, for SparseConvNet and ConvNet: Table 5 (MNIST, ``as_reported``) or Table 6
    (Caltech-101, ``controlled``), or the part of it that is asked for. Weight decay is 1e-3 in both.

    ``seeds`` is the number of seeds, None = ten of SparseConvNet on MNIST and three else; ``changes`` apply to every
    run. Seeds vary slowest.
    """
    check_choice("dataset", dataset, MNIST + CALTECH)
    family = family_of(dataset)
    if sparsity is not None:
        check_fraction("sparsity", sparsity)
    levels = STUDY_SPARSITIES[family] if sparsity is None else (float(sparsity),)
    rates = _several("learning_rates", learning_rates, float, LEARNING_RATES[family])
    sizes = _several("batch_sizes", batch_sizes, int, BATCH_SIZES)
    recorded = {model: HYPERPARAMETER_SEEDS.get((family, model), STUDY_SEEDS) for model in MODELS[:2]}
    return [
        experiment(dataset, STUDY_PROTOCOL[family], model, level, seed, learning_rate=rate, batch_size=size, **changes)
        for seed, rate, size, level, model in itertools.product(
            _seeds(seeds, max(recorded.values())), rates, sizes, levels, MODELS[:2]
        )
        if seeds is not None or seed < recorded[model]
    ]


def late_drop(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[str, list[Experiment]]:
    """Table 6's cell that fell in its last epoch (70%, batch 64, 1e-3), four ways to change one thing about it, and
    SparseConvNet as the published notebooks ran it, with their split and their rule for the mask.

    A last batch that is not full takes a step as large as any other, from fewer images: 48 here, 6 in the published
    notebooks. It is changed by training on a few images less.
    """
    check_choice("dataset", dataset, CALTECH)
    level, batch = STUDY_SPARSITIES["caltech101"][1] if sparsity is None else sparsity, 64
    images = changes.pop("train_images", 0) or TRAINING_IMAGES[dataset]
    whole_batches = max((images - 1) // batch, 1) * batch  # less than all
    ways = {
        "as it is": {"train_images": images if images < TRAINING_IMAGES[dataset] else 0},
        "learning rate 1e-4": {"learning_rate": 1e-4},
        "slow batch-norm statistics": {"architecture": "caltech_slow_batch_norm"},
        "last batch full": {"train_images": whole_batches},
        "last batch of 6": {"train_images": whole_batches + PUBLISHED_TRAINING_IMAGES % batch},
    }
    base = {"batch_size": batch} | ways["as it is"]
    runs = {
        way: [
            experiment(dataset, "controlled", model, level, seed, **base | change | changes)
            for seed, model in itertools.product(_seeds(seeds), MODELS[:2])
        ]
        for way, change in ways.items()
    }
    runs["as_run"] = [
        experiment(dataset, "as_run", "SparseConvNet", level, seed, **base | changes) for seed in _seeds(seeds)
    ]
    return runs


def weight_decay(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> list[Experiment]:
    """Weight decay of 0, 1e-3 and 0.3, as Adam's L2 term and as AdamW's decoupled one, SparseConvNet and ConvNet on
    Caltech-101; all else as ``controlled`` has it. Adam's 1e-3 is that protocol's own, its 0.3 is ``as_reported``'s."""
    check_choice("dataset", dataset, CALTECH)
    levels = STUDY_SPARSITIES["caltech101"] if sparsity is None else (sparsity,)
    runs = []
    for seed, form, level, model in itertools.product(_seeds(seeds), WEIGHT_DECAYS, levels, MODELS[:2]):
        protocol = "as_reported" if form == ("Adam", 0.3) else "controlled"
        form = dict(zip(("optimiser", "weight_decay"), form, strict=True))
        runs.append(experiment(dataset, protocol, model, level, seed, **form, **changes))
    return runs


class Step(NamedTuple):
    """A step of a bridge: the change that leads to it, its runs, and which epoch they report (see tables.selected)."""

    change: str
    runs: list[Experiment]
    rule: str


def bridge(dataset: str, model: str, sparsity: float, seeds: int | None = None, **changes) -> list[Step]:
    """From ``as_run`` to ``controlled``, one change after the other, for SparseConvNet or ConvNet.

    ``changes`` apply to every run of every step. Where two protocols name one setting, a step takes the run that a
    table has.
    """
    check_choice("dataset", dataset, MNIST + CALTECH)
    check_choice("model", model, MODELS[:2])
    steps = (_mnist_bridge if dataset in MNIST else _caltech_bridge)(model)
    return [
        Step(
            change,
            [experiment(dataset, protocol, model, sparsity, seed, **settings | changes) for seed in _seeds(seeds)],
            rule,
        )
        for change, protocol, settings, rule in steps
    ]


def bridges(
    dataset: str, sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[tuple[float, str], list[Step]]:
    """:func:`bridge` of a data set's levels, or of one, and both models."""
    levels = BRIDGE_SPARSITIES[family_of(dataset)] if sparsity is None else (sparsity,)
    pairs = itertools.product(levels, MODELS[:2])
    return {(level, model): bridge(dataset, model, level, seeds, **changes) for level, model in pairs}


def discussion(dataset: str, **asked) -> dict[str, list[Experiment]]:
    """The runs of the matrix, of the bridges and of the ablations; arguments as for these."""
    found = {"matrix": matrix(dataset, **asked)}
    for (level, model), steps in bridges(dataset, **asked).items():
        runs = (run for step in steps for run in step.runs)
        found[f"bridge of {model} at {level:.0%}"] = list(dict.fromkeys(runs))
    if dataset in CALTECH:
        found["ablations"] = list(itertools.chain(*ablations(dataset, **asked).values()))
    return found


def _mnist_bridge(model: str) -> Iterator[tuple[str, str, dict, str]]:
    yield "as_run", "as_run", {}, "last"
    if model == "SparseConvNet":
        yield "true validity mask", "as_run", {"mask": "validity"}, "last"
    else:
        yield "extra layer out", "as_run", {"architecture": "mnist"}, "last"
    yield "20 to 10 epochs", "as_reported", {}, "last"
    yield "learning rate 5e-3 to 1e-3", "as_reported", {"learning_rate": 1e-3}, "last"
    yield "weight decay 1e-3 to 0", "as_reported", {"learning_rate": 1e-3, "weight_decay": 0.0}, "last"
    yield "5,000 images held out, epoch chosen on them", "controlled", {}, "validation"


def _caltech_bridge(model: str) -> Iterator[tuple[str, str, dict, str]]:
    yield "as_run", "as_run", {}, "test"
    if model == "SparseConvNet":
        yield "mask dilated, then pooled", "as_run", {"architecture": "caltech"}, "test"
    else:
        settings = {}
        for change, setting in (
            ("learning rate 1e-6 to 1e-3", {"learning_rate": 1e-3}),
            ("two convolutions to four", {"architecture": "caltech_shared_batch_norm"}),
            ("a batch norm each", {"architecture": "caltech_no_dropout"}),
            ("dropout", {"architecture": "caltech"}),
            ("batch 32 to 128", {"batch_size": 128}),
        ):
            settings = settings | setting
            yield change, "as_run", settings, "test"
    yield "all classes, stratified split", "controlled", {}, "test"
    yield "epoch chosen on validation images", "controlled", {}, "validation"


def ablations(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[str, list[Experiment]]:
    """Figure 5's network as ``controlled`` trains it, and without batch norm, without dropout, and without dropout but
    with a first linear layer four times as wide."""
    check_choice("dataset", dataset, CALTECH)
    ways = {
        "Figure 5": "caltech",
        "no batch norm": "caltech_no_batch_norm",
        "no dropout": "caltech_no_dropout",
        "no dropout, 2,048 wide": "caltech_no_dropout_wide",
    }
    level = ABLATION_SPARSITY if sparsity is None else sparsity
    return {
        way: [
            experiment(dataset, "controlled", model, level, seed, architecture=architecture, **changes)
            for seed, model in itertools.product(_seeds(seeds), MODELS[:2])
        ]
        for way, architecture in ways.items()
    }


def other_splits(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> list[Experiment]:
    """``controlled`` SparseConvNet and ConvNet on Caltech-101 under three further splits of its images, one seed by
    default: every run of the tables shares one split, so what these give says nothing beyond its test images."""
    check_choice("dataset", dataset, CALTECH)
    levels = SPLIT_SPARSITIES if sparsity is None else (sparsity,)
    return [
        experiment(dataset, "controlled", model, level, seed, split_seed=split_seed, **changes)
        for seed, split_seed, level, model in itertools.product(_seeds(seeds, 1), SPLIT_SEEDS, levels, MODELS[:2])
    ]


def batch_norms(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[tuple[int, str], list[Experiment]]:
    """Which of two steps of ConvNet's bridge on Caltech-101 matters: two or four convolutions, by a batch norm that
    they share or one each; by these two. All else is as in the bridge there, three of the four are its steps."""
    check_choice("dataset", dataset, CALTECH)
    ways = {
        (2, "shared"): "caltech_convnet_as_run",
        (2, "each"): "caltech_two_convolutions",
        (4, "shared"): "caltech_shared_batch_norm",
        (4, "each"): "caltech_no_dropout",
    }
    levels = BRIDGE_SPARSITIES["caltech101"] if sparsity is None else (sparsity,)
    settings = {"learning_rate": 1e-3} | changes
    return {
        way: [
            experiment(dataset, "as_run", "ConvNet", level, seed, architecture=architecture, **settings)
            for seed, level in itertools.product(_seeds(seeds), levels)
        ]
        for way, architecture in ways.items()
    }


def alternatives(
    dataset: str = "caltech101", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[str, list[Experiment]]:
    """What else can be done about missing pixels, by the name of the way: the three networks as ``controlled`` has
    them, other networks, ConvNet on images whose gaps are filled, and on MNIST inverted images. All are tested at every
    sparsity; networks with batch norm, and those whose missing pixels are 0, adapted too.

    Of Caltech-101 at three sparsities. ``seeds`` is the number of seeds, three by default.
    """
    check_choice("dataset", dataset, MNIST + CALTECH)
    of_mnist = dataset in MNIST
    every, adapted = {"tested_at": "every sparsity"}, {"tested_at": ADAPTED}
    zero = {"fill": "mean"} if of_mnist else {}  # normalised, the mean is 0
    ways = {model: (model, every if of_mnist else adapted) for model in MODELS}
    ways |= {model: (model, every | (zero if model == ALTERNATIVES[0] else {})) for model in ALTERNATIVES}
    if of_mnist:
        ways["ConvNet, mean filled"] = ("ConvNet", adapted | zero)
        ways |= {f"{model}, inverted": (model, every | {"images": "inverted"}) for model in MODELS}
    else:
        ways["ConvNet, black filled"] = ("ConvNet", every | {"fill": "black"})
    fills = {"grey": "grey", "nearest": "nearest", "blur": "blur"} | ({"inpainting": "inpainting"} if of_mnist else {})
    ways |= {f"ConvNet, {name} filled": ("ConvNet", every | {"fill": fill}) for name, fill in fills.items()}
    levels = ALTERNATIVE_SPARSITIES[family_of(dataset)] if sparsity is None else (sparsity,)
    return {
        way: [
            experiment(dataset, "controlled", model, level, seed, **settings | changes)
            for seed, level in itertools.product(
                _seeds(seeds), INPAINTED if settings.get("fill") == "inpainting" and sparsity is None else levels
            )
        ]
        for way, (model, settings) in ways.items()
    }


def depth_training(
    dataset: str = "kitti_range", sparsity: float | None = None, seeds: int | None = None, **changes
) -> dict[str, list[Experiment]]:
    """Whether longer training brings depth's networks to what needs none, or another start or loss does: all three
    networks as ``controlled`` has them, and with 2, 4 and 16 times its epochs; SparseConvNet and ConvNet with a start
    that makes up for what the layer divides by, and by the other losses. One seed by default."""
    check_choice("dataset", dataset, KITTI)
    level = DEPTH_SPARSITY if sparsity is None else sparsity
    epochs = changes.pop("epochs", SETTINGS[family_of(dataset), "controlled"]["epochs"])
    check_type("epochs", epochs, int)
    ways = {"as it is": (MODELS, {})}
    ways |= {f"{times} times the epochs": (MODELS, {"epochs": times * epochs}) for times in LONGER}
    ways |= {"rescaled start": (MODELS[:2], {"architecture": "range_image_rescaled"})}
    ways |= {loss: (MODELS[:2], {"loss": loss}) for loss in ("squared error", "absolute error of inverse depth")}
    base = {"epochs": epochs}
    return {
        way: [
            experiment(dataset, "controlled", model, level, seed, **base | change | changes)
            for seed, model in itertools.product(_seeds(seeds, 1), models)
        ]
        for way, (models, change) in ways.items()
    }


def studies_of(dataset: str, sparsity: float | None = None, seeds: int | None = None) -> dict[str, list[Experiment]]:
    """The runs of a data set by the study that they are for; some serve several studies.

    The matrix comes first, since its runs also serve as the table's ``controlled`` ones, and not the other way round.
    """
    asked = {"dataset": dataset, "sparsity": sparsity, "seeds": seeds}
    of_mnist, of_caltech = dataset in MNIST, dataset in CALTECH
    of_report = of_mnist or of_caltech
    runs = (
        matrix(**asked),
        grid(**asked),
        rescaled_starts(**asked) if of_mnist else [],
        hyperparameters(**asked) if of_report else [],
        [run for steps in bridges(**asked).values() for step in steps for run in step.runs] if of_report else [],
        list(itertools.chain(*ablations(**asked).values())) if of_caltech else [],
        list(itertools.chain(*late_drop(**asked).values())) if of_caltech else [],
        weight_decay(**asked) if of_caltech else [],
        other_splits(**asked) if of_caltech else [],
        list(itertools.chain(*batch_norms(**asked).values())) if of_caltech else [],
        sorted(itertools.chain(*alternatives(**asked).values()), key=lambda run: run.seed) if of_report else [],
        list(itertools.chain(*depth_training(**asked).values())) if dataset in KITTI else [],
    )
    return dict(zip(STUDIES, runs, strict=True))


def _seeds(seeds: int | None, recorded: int = STUDY_SEEDS) -> range:
    if seeds is None:
        return range(recorded)
    check_seeds(seeds)
    return range(seeds)


def _several(name: str, values: Sequence | None, kind: type, default: tuple) -> tuple:
    """A setting's values, each once; the Experiments check what they are."""
    if values is None:
        return default
    if not isinstance(values, (list, tuple)) or not values or len(set(map(repr, values))) < len(values):
        raise SettingError(f"{name}={values!r} is not allowed: a list of numbers, each once, say {list(default)}")
    for value in values:
        check_type(name, value, kind)
    return tuple(map(kind, values))
