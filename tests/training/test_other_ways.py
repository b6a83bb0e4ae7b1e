"""What else can be done about missing pixels, trained for real: every way of the study, of either data set."""

import functools
import itertools
from dataclasses import replace

import pandas as pd
import pytest

from sparsecnn.studies import alternatives
from sparsecnn.training.train import train

# To be tested elsewhere would take longer than all of these runs.
FEW = {
    "digits": {"epochs": 8, "validation": 100, "train_images": 500},
    "shapes": {"batch_size": 8, "epochs": 2, "validation": 5, "train_images": 16},
}
WAYS = {dataset: alternatives(dataset, 0.3, 1, tested_at="own sparsity", **few) for dataset, few in FEW.items()}
SLOW = ("SparseConvNet", "first layer sparse", "division without mask")  # to start, since sums are divided
# At this sparsity no window of MNIST's first convolution is empty, and its second looks at one pixel: these compute the
# same but for rounding.
ALIKE = {
    "digits": {("SparseConvNet", "first layer sparse"), ("mask without division", "ConvNet, mean filled")},
    "shapes": set(),
}
# So do these on photographs, whose missing pixels are 0. But what rounding leaves of the gradient of a bias in front of
# a batch norm is as large a step as any to Adam: whether they stay together depends on the processor.
ALIKE_ON_SOME_PROCESSORS = {("ConvNet", "mask without division")}


@functools.cache
def trained(dataset: str, way: str) -> pd.DataFrame:
    (run,) = WAYS[dataset][way]
    if dataset == "digits":
        run = replace(run, learning_rate=1e-2 if way in SLOW else 5e-3)
    return train(run, "cpu")


@pytest.mark.parametrize("way", WAYS["digits"])
def test_every_way_learns_digits(digits, way):
    rows = trained("digits", way)
    assert rows["train_loss"].iloc[-1] < rows["train_loss"].iloc[0]
    assert rows["test_accuracy"].max() > 30


@pytest.mark.parametrize("way", WAYS["shapes"])
def test_every_way_learns_photographs(drawings, way):
    rows = trained("shapes", way)
    assert rows["train_loss"].iloc[-1] < rows["train_loss"].iloc[0]


@pytest.mark.parametrize(("dataset", "few"), [("digits", "digits"), ("shapes", "drawings")])
def test_ways_come_to_the_same_only_where_they_are_and_rows_say_which_it_was(dataset, few, request):
    request.getfixturevalue(few)
    losses = {}
    for way, (run,) in WAYS[dataset].items():
        rows = trained(dataset, way)
        losses[way] = rows["train_loss"].tolist()
        for setting in ("model", "fill", "images"):
            assert rows[setting].eq(getattr(run, setting)).all()
    pairs = itertools.combinations(losses, 2)
    alike = {(a, b) for a, b in pairs if losses[a] == pytest.approx(losses[b], rel=3e-4)}
    assert alike - (ALIKE_ON_SOME_PROCESSORS if dataset == "shapes" else set()) == ALIKE[dataset]
