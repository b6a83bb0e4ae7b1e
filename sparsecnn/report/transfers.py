"""Tables of what networks lose and keep in tests unlike their training; ``measured`` is statistics.transfers."""

import pandas as pd

from .statistics import levels_compared
from .tables import ci95

__all__ = ["levels_text", "mismatch_table", "mixed_table", "structured_table"]


def mismatch_table(costs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of statistics.mismatch, a line a network, with the number of seeds and the 95% interval."""
    by_model = costs.groupby("model", sort=False)
    return by_model.mean().join(by_model["mismatch"].agg(seeds="count", ci95=ci95))


def levels_text(measured: pd.DataFrame) -> str:
    """statistics.levels_compared in words."""
    return ", ".join(f"{level:.0%}" for level in levels_compared(measured)) + " missing"


def mixed_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of networks trained on every sparsity beside those trained at the test's own level, of the same
    seeds; a line a test's sparsity, two columns a network."""
    random = measured[measured["test_mask"] == "random"]
    mixed = random[random["trained_at"] == "every sparsity"]
    own = random[(random["trained_at"] == "own sparsity") & (random["train_sparsity"] == random["test_sparsity"])]
    own = own.merge(mixed[["model", "seed"]].drop_duplicates())
    kinds = {"trained on every sparsity": mixed, "on the test's own": own}
    means = {kind: rows.groupby(["model", "test_sparsity"])["accuracy"].mean() for kind, rows in kinds.items()}
    return pd.DataFrame(means).unstack("test_sparsity").T.unstack(0) if len(mixed) else pd.DataFrame()


def structured_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy under masks with structure, over the levels of training that all networks have; a line a way of
    training and network, a column a mask.
    """
    shown = measured[measured["test_mask"] != "random"]
    networks = shown.groupby(["trained_at", "train_sparsity"])["model"].transform("nunique")
    shown = shown[networks == networks.max()]
    shown = shown.assign(test=shown["test_mask"] + shown["test_sparsity"].map(" {:.0%}".format))
    means = shown.groupby(["trained_at", "model", "train_sparsity", "test"])["accuracy"].mean()
    return means.groupby(["trained_at", "model", "test"]).mean().unstack()
