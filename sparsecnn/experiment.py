"""What identifies one run (:class:`Experiment`), the three protocols, and the grids of the report's tables.

Sources: the report's Tables 1 and 2 and its text, and the notebooks behind it, see results/published/README.md.
"""

from dataclasses import dataclass, fields, replace

from .checks import SettingError, check_choice, check_fraction, check_range, check_seeds, check_type
from .tasks import CLASSIFICATION, DEPTH, Task

__all__ = [
    "ALTERNATIVES",
    "CALTECH_SPARSITIES",
    "KITTI_SPARSITIES",
    "MODELS",
    "PROTOCOLS",
    "SPARSITIES",
    "Experiment",
    "check_experiment",
    "experiment",
    "family_of",
    "grid",
    "levels_of",
    "protocols_of",
    "selection",
    "task_of",
    "with_more_tests",
]


MODELS = ("SparseConvNet", "ConvNet", "ConvNet + mask")
# What else can be done about missing pixels, see models.NETWORKS; no table of the report's has them.
ALTERNATIVES = (
    "ConvNet, input rescaled", "first layer sparse", "division without mask", "mask without division",
    "partial convolution", "normalised convolution",
)  # fmt: skip
MASKS = ("validity", "brighter than the mean")
LEVELS = ("own sparsity", "every sparsity")
ADAPTED = "every sparsity, adapted"
TESTED_AT = (*LEVELS, ADAPTED)  # each measures what those before it do
# What stands in a missing pixel's place: the report's is black on MNIST and the mean colour on Caltech-101.
FILLS = ("own", "black", "mean", "grey", "nearest", "blur", "inpainting")
IMAGES = ("as they are", "inverted")
OPTIMISERS = ("Adam", "AdamW")
SCHEDULES = ("constant", "cosine")
SPLITS = ("own", "stratified", "99 classes, stratified", "99 classes, unstratified", "by drive")
# The second of each pair stands in where the first can't be had.
MNIST, CALTECH, KITTI = ("mnist", "digits"), ("caltech101", "shapes"), ("kitti_range", "street")
FAMILIES = MNIST, CALTECH, KITTI
DATASETS = MNIST + CALTECH + KITTI

# Tables 3 and 4 have all of these but 0.
SPARSITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
CALTECH_SPARSITIES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
# The paper keeps 5, 10, 20, ..., 70 and 95% of the measured points.
KITTI_SPARSITIES = (0.05, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
LEVELS_OF = {"mnist": SPARSITIES, "caltech101": CALTECH_SPARSITIES, "kitti_range": KITTI_SPARSITIES}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that identifies one run: two equal Experiments give equal rows on one kind of device.

    dataset         "mnist", "caltech101" or "kitti_range", or "digits", "shapes" or "street", their stand-ins
    protocol        "as_reported", "as_run" or "controlled": where the other settings come from
    model           "SparseConvNet", "ConvNet" or "ConvNet + mask", or one of ALTERNATIVES
    sparsity        fraction of pixels missing, in [0, 1)
    seed            at least 0; initial weights, order of samples and masks follow from it, the same for every model
    epochs          at least 1
    batch_size      training images a step, at least 1
    learning_rate   the optimiser's, above 0
    weight_decay    the optimiser's, at least 0
    architecture    name of a table of layers in models.LAYERS
    mask            what the network is told is observed: "validity" (the pixels that were kept) or "brighter than the
                    mean" (normalised value above 0, which the published notebooks used by mistake)
    validation      number of training images held out to choose the epoch; 0 = none, which `controlled` may not have
    train_images    train on at most so many images, evenly spaced among those that are left; 0 = on all of these
    split           how test images are set apart: "own" (the data set's own), "stratified" (20%, by class),
                    or the published notebooks' two ways on Caltech-101, or "by drive", see datasets.split
    optimiser       "Adam", which adds weight decay to the gradient as an L2 term, or "AdamW", which decouples it
    trained_at      the sparsity of training and validation images: "own sparsity", or "every sparsity", each image at
                    one of its data set's levels, drawn at random; the test images after each epoch are at its own
    tested_at       "every sparsity" also tests the network of the reported epoch at every level of its data set, and
                    under masks with structure, see evaluation.CONDITIONS; "every sparsity, adapted" also after what
                    can be done about another sparsity without labels, see adaptation.WAYS; "own sparsity" does not
    split_seed      0 to 1000; another one draws the split anew: validation images, and test images but where split is
                    "own"; 0 = the split of the report's tables
    loss            what training minimises: "cross entropy", or for depth "absolute error" or "squared error", in
                    metres, or "absolute error of inverse depth"; see training.objectives
    schedule        of the learning rate: "constant", or "cosine", from epoch to epoch along half a cosine to nearly 0
    fill            what a missing pixel holds: "own" (black on MNIST, the mean colour on Caltech-101, 0 m in a scan);
                    of an image also "black", "mean" (colour), "grey", or from around it, see data.inpainting:
                    "nearest", "blur" or "inpainting"; always so in training and test
    images          "as they are", or for MNIST "inverted": black digits on white
    """

    dataset: str
    protocol: str
    model: str
    sparsity: float
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    architecture: str
    mask: str
    validation: int
    train_images: int = 0
    split: str = "own"
    optimiser: str = "Adam"
    trained_at: str = "own sparsity"
    tested_at: str = "own sparsity"
    split_seed: int = 0
    loss: str = "cross entropy"
    schedule: str = "constant"
    fill: str = "own"
    images: str = "as they are"

    def __post_init__(self):
        for field in fields(self):
            check_type(field.name, getattr(self, field.name), field.type)
        check_choice("dataset", self.dataset, DATASETS)
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("model", self.model, MODELS + ALTERNATIVES)
        check_choice("mask", self.mask, MASKS)
        check_choice("split", self.split, SPLITS)
        check_choice("trained_at", self.trained_at, LEVELS)
        check_choice("tested_at", self.tested_at, TESTED_AT)
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("loss", self.loss, task_of(self.dataset).losses)
        check_choice("fill", self.fill, FILLS[:1] if self.dataset in KITTI else FILLS)
        check_choice("images", self.images, IMAGES if self.dataset in MNIST else IMAGES[:1])
        check_fraction("sparsity", self.sparsity)
        check_range("learning_rate", self.learning_rate, above=0)
        for name, least in LEAST.items():
            check_range(name, getattr(self, name), least=least)
        check_range("split_seed", self.split_seed, least=0, most=1000)
        if selection(self.dataset, self.protocol) == "validation":
            check_range("validation", self.validation, least=1)


LEAST = {"seed": 0, "epochs": 1, "batch_size": 1, "weight_decay": 0, "validation": 0, "train_images": 0}

PROTOCOLS = ("as_reported", "as_run", "controlled")
TABLE_1 = {  # the report describes no ConvNet, so it is the same network with plain convolutions
    "epochs": 10, "batch_size": 64, "learning_rate": 5e-3, "weight_decay": 1e-3,
    "architecture": "mnist", "mask": "validity", "validation": 0,
}  # fmt: skip
TABLE_2 = {  # 16% of the images to validate on, as the published notebooks have it; the report does not say
    "epochs": 15, "batch_size": 128, "learning_rate": 1e-3, "weight_decay": 0.3,
    "architecture": "caltech", "mask": "validity", "validation": 1389, "split": "stratified",
}  # fmt: skip
SETTINGS = {
    ("mnist", "as_reported"): TABLE_1,
    ("mnist", "as_run"): TABLE_1 | {"epochs": 20, "mask": "brighter than the mean"},
    ("mnist", "controlled"): TABLE_1 | {"learning_rate": 1e-3, "weight_decay": 0.0, "validation": 5000},
    ("caltech101", "as_reported"): TABLE_2,
    ("caltech101", "as_run"): TABLE_2
    | {
        "weight_decay": 1e-3, "architecture": "caltech_pooled_mask",
        "split": "99 classes, stratified", "validation": 1378,
    },
    ("caltech101", "controlled"): TABLE_2 | {"weight_decay": 1e-3},
    # The report has no such experiment: one network for all, the paper's.
    ("kitti_range", "controlled"): {
        "epochs": 20, "batch_size": 1, "learning_rate": 5e-3, "weight_decay": 0.0, "architecture": "range_image",
        "mask": "validity", "validation": 24, "split": "by drive", "loss": "absolute error", "schedule": "cosine",
    },
}  # fmt: skip
# The published notebooks' ConvNets were other networks: one layer more on MNIST, two convolutions less on Caltech-101.
AS_RUN_CONVNET = {
    "mnist": {"architecture": "mnist_convnet_as_run", "mask": "validity"},
    "caltech101": {
        "architecture": "caltech_convnet_as_run", "learning_rate": 1e-6, "batch_size": 32,
        "split": "99 classes, unstratified",
    },
}  # fmt: skip
# A stand-in holds out as large a part of its images.
STAND_IN_VALIDATION = {"digits": {5000: 125}, "shapes": {1389: 64, 1378: 51}, "street": {24: 2}}

# What results/ is to hold; more may be asked for. On Caltech-101 nothing learns in as_reported, which one seed shows.
SEEDS = {
    "mnist": {"as_reported": 10, "as_run": 10, "controlled": 10},
    "caltech101": {"as_reported": 1, "as_run": 3, "controlled": 3},
    "kitti_range": {"controlled": 3},
}


def selection(dataset: str, protocol: str) -> str:
    """Which epoch's test a run reports: the "last", or that of the best metric (see tasks) on "validation" or "test"
    images; the published SparseConvNet on Caltech-101 was chosen on the test images."""
    if protocol == "controlled":
        return "validation"
    return "test" if protocol == "as_run" and dataset in CALTECH else "last"


def experiment(dataset: str, protocol: str, model: str, sparsity: float, seed: int = 0, **changes) -> Experiment:
    """The Experiment that a protocol prescribes, with ``changes`` to single settings."""
    check_choice("dataset", dataset, DATASETS)
    check_choice("protocol", protocol, PROTOCOLS)
    family = family_of(dataset)
    if protocol not in protocols_of(dataset):
        raise SettingError(f"protocol={protocol!r} is not allowed: {dataset} has {', '.join(protocols_of(dataset))}")
    settings = dict(SETTINGS[family, protocol])
    if protocol == "as_run" and model == "ConvNet":
        settings |= AS_RUN_CONVNET[family]
    if dataset != family:
        validation = settings["validation"]
        settings["validation"] = STAND_IN_VALIDATION[dataset].get(validation, validation)
    unknown = changes.keys() - {field.name for field in fields(Experiment)}
    if unknown:
        raise SettingError(f"{min(unknown)} is no setting of an experiment: one of {', '.join(settings)}")
    settings |= changes
    return Experiment(dataset=dataset, protocol=protocol, model=model, sparsity=sparsity, seed=seed, **settings)


def with_more_tests(experiment: Experiment) -> list[Experiment]:
    """The same run with more tests of its network, whose rows serve for it too."""
    more = TESTED_AT[TESTED_AT.index(experiment.tested_at) + 1 :]
    return [replace(experiment, tested_at=tests) for tests in more]


def family_of(dataset: str) -> str:
    """The real data set whose settings a data set takes."""
    return next(real for real, stand_in in FAMILIES if dataset in (real, stand_in))


def task_of(dataset: str) -> Task:
    """What a data set asks of a network."""
    return DEPTH if dataset in KITTI else CLASSIFICATION


def protocols_of(dataset: str) -> tuple[str, ...]:
    """The protocols under which a data set has runs; what the report did not do has only the fair one."""
    return tuple(name for name in PROTOCOLS if (family_of(dataset), name) in SETTINGS)


def levels_of(dataset: str) -> tuple[float, ...]:
    """The sparsities of a data set's table; for images also 0."""
    return LEVELS_OF[family_of(dataset)]


def grid(
    dataset: str = "mnist",
    protocol: str | None = None,
    sparsity: float | None = None,
    seeds: int | None = None,
    **changes,
) -> list[Experiment]:
    """The runs of Table 3 or 4, or of depth completion: every network of every protocol (or of one) at every sparsity
    (or at one).

    ``seeds`` is the number of seeds, None = what the protocol is recorded with; ``changes`` apply to every run.
    Seeds vary slowest, so that a sweep cut short holds a whole table with fewer seeds.
    """
    check_choice("dataset", dataset, DATASETS)
    if protocol is not None:
        check_choice("protocol", protocol, PROTOCOLS)
    if seeds is not None:
        check_seeds(seeds)
    if sparsity is not None:
        check_fraction("sparsity", sparsity)
    recorded = SEEDS[family_of(dataset)]
    all_levels = levels_of(dataset)
    runs = []
    for seed in range(max(recorded.values()) if seeds is None else seeds):
        for name in protocols_of(dataset) if protocol is None else (protocol,):
            if seeds is None and seed >= recorded[name]:
                continue
            # The report knows two networks, and its sweeps no sparsity 0.
            models = MODELS if name == "controlled" else MODELS[:2]
            levels = all_levels if name == "controlled" else all_levels[1:]
            for level in levels if sparsity is None else (float(sparsity),):
                runs += [experiment(dataset, name, model, level, seed, **changes) for model in models]
    return runs


def check_experiment(value) -> None:
    if not isinstance(value, Experiment):
        raise SettingError(f"experiment={value!r} is not allowed: an Experiment")
