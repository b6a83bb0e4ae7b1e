"""What identifies one run (:class:`Experiment`), the three protocols, and the grids of the report's tables.

Sources: the report's sections as numbered in results/published/README.md, and the notebooks behind it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

__all__ = ["MODELS", "PROTOCOLS", "SELECTION", "SPARSITIES", "Experiment", "SettingError", "experiment", "grid"]


class SettingError(ValueError):
    """A setting that is not allowed. Notebooks show its one line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook
        return [f"{type(self).__name__}: {self}"]


MODELS = ("SparseConvNet", "ConvNet", "ConvNet + mask")
MASKS = ("validity", "brighter than the mean")
DATASETS = ("mnist", "digits")  # digits stands in where MNIST can't be had

LARGEST = 2**53  # up to it a float, and so any table, holds every whole number

# Table 3 has all of these but 0.
SPARSITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that identifies one run: two equal Experiments give equal rows on one kind of device.

    dataset         "mnist", or "digits", its stand-in
    protocol        "as_reported", "as_run" or "controlled": where the other settings come from
    model           "SparseConvNet", "ConvNet" or "ConvNet + mask"
    sparsity        fraction of pixels missing, in [0, 1)
    seed            at least 0; initial weights, order of samples and masks follow from it, the same for every model
    epochs          at least 1
    batch_size      training images a step, at least 1
    learning_rate   Adam's, above 0
    weight_decay    Adam's L2 term, at least 0
    architecture    name of a table of layers in models.LAYERS
    mask            what the network is told is observed: "validity" (the pixels that were kept) or "brighter than the
                    mean" (normalised value above 0, which the published notebooks used by mistake)
    validation      number of training images held out to choose the epoch; 0 = none
    train_images    train on at most so many images; 0 = on all that are left
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

    def __post_init__(self):
        for field in fields(self):
            check_type(field.name, getattr(self, field.name), field.type)
        check_choice("dataset", self.dataset, DATASETS)
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("model", self.model, MODELS)
        check_choice("mask", self.mask, MASKS)
        check_fraction("sparsity", self.sparsity)
        check_range("learning_rate", self.learning_rate, above=0)
        for name, least in LEAST.items():
            check_range(name, getattr(self, name), least=least)


LEAST = {"seed": 0, "epochs": 1, "batch_size": 1, "weight_decay": 0, "validation": 0, "train_images": 0}

AS_REPORTED = {  # the report's Table 1; it describes no ConvNet, so the same network with plain convolutions
    "epochs": 10, "batch_size": 64, "learning_rate": 5e-3, "weight_decay": 1e-3,
    "architecture": "mnist", "mask": "validity", "validation": 0,
}  # fmt: skip
PROTOCOLS = {
    "as_reported": AS_REPORTED,
    "as_run": AS_REPORTED | {"epochs": 20, "mask": "brighter than the mean"},
    "controlled": AS_REPORTED | {"learning_rate": 1e-3, "weight_decay": 0.0, "validation": 5000},
}
# The published notebooks' ConvNet had one layer more than their SparseConvNet.
AS_RUN_CONVNET = {"architecture": "mnist_convnet_as_run", "mask": "validity"}

# Which epoch's test accuracy a run reports.
SELECTION = {"as_reported": "last", "as_run": "last", "controlled": "validation"}
# Recorded on a CPU; more may be asked for.
SEEDS = {"as_reported": 3, "as_run": 1, "controlled": 3}


def experiment(dataset: str, protocol: str, model: str, sparsity: float, seed: int = 0, **changes) -> Experiment:
    """The Experiment that a protocol prescribes, with ``changes`` to single settings."""
    check_choice("protocol", protocol, PROTOCOLS)
    settings = dict(PROTOCOLS[protocol])
    if protocol == "as_run" and model == "ConvNet":
        settings |= AS_RUN_CONVNET
    if dataset == "digits":
        settings["validation"] //= 40  # as large a part of the 1,437 training images as 5,000 of MNIST's 60,000
    unknown = changes.keys() - {field.name for field in fields(Experiment)}
    if unknown:
        raise SettingError(f"{min(unknown)} is no setting of an experiment: one of {', '.join(settings)}")
    settings |= changes
    return Experiment(dataset=dataset, protocol=protocol, model=model, sparsity=sparsity, seed=seed, **settings)


def grid(
    dataset: str = "mnist",
    protocol: str | None = None,
    sparsity: float | None = None,
    seeds: int | None = None,
    **changes,
) -> list[Experiment]:
    """The runs of Table 3: every network of every protocol (or of one) at every sparsity (or at one).

    ``seeds`` is the number of seeds, None = what the protocol is recorded with; ``changes`` apply to every run.
    Seeds vary slowest, so that a sweep cut short holds a whole table with fewer seeds.
    """
    if protocol is not None:
        check_choice("protocol", protocol, PROTOCOLS)
    if seeds is not None:
        check_type("seeds", seeds, int)
        check_range("seeds", seeds, least=1, most=1000)
    if sparsity is not None:
        check_fraction("sparsity", sparsity)
    protocols = PROTOCOLS if protocol is None else (protocol,)
    runs = []
    for seed in range(max(SEEDS.values()) if seeds is None else seeds):
        for name in protocols:
            if seeds is None and seed >= SEEDS[name]:
                continue
            # Table 3 and section 7 know two networks; the report's sweep has no sparsity 0.
            models = MODELS if name == "controlled" else MODELS[:2]
            levels = SPARSITIES if name == "controlled" else SPARSITIES[1:]
            for level in levels if sparsity is None else (float(sparsity),):
                runs += [experiment(dataset, name, model, level, seed, **changes) for model in models]
    return runs


def check_choice(name: str, value, allowed: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise SettingError(f"{name}={value!r} is not allowed: one of {', '.join(map(repr, allowed))}")


def check_type(name: str, value, kind: type) -> None:
    accepted = (int, float) if kind is float else kind
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, accepted):
        words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
        raise SettingError(f"{name}={value!r} is not allowed: {words[kind]}")


def check_fraction(name: str, value: float, up_to: float | None = None) -> None:
    """In [0, 1), or in [0, up_to]."""
    check_type(name, value, float)
    inside = 0 <= value < 1 if up_to is None else 0 <= value <= up_to
    if not inside:
        end = "1)" if up_to is None else f"{up_to}]"
        raise SettingError(f"{name}={value} is not allowed: a fraction in [0, {end}, 0.3 for 30%")


def check_range(
    name: str, value: float, least: float | None = None, above: float | None = None, most: float = LARGEST
) -> None:
    low = value >= least if least is not None else value > above
    if not (low and value <= most):  # NaN is neither
        bound = f"at least {least}" if least is not None else f"above {above}"
        raise SettingError(f"{name}={value} is not allowed: {bound}, at most {most}")


def check_experiment(value) -> None:
    if not isinstance(value, Experiment):
        raise SettingError(f"experiment={value!r} is not allowed: an Experiment")
