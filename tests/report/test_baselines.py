"""Fillings are scored on what they were not given, as networks are."""

import numpy as np
import pytest

from sparsecnn.checks import SettingError
from sparsecnn.data.datasets import load, split
from sparsecnn.report import baselines as module
from sparsecnn.report.baselines import baselines
from sparsecnn.training.evaluation import conditions_of


def test_each_method_has_a_line_a_kind_of_masks_and_knows_better_than_one_depth(monkeypatch):
    methods = ("nearest neighbour", "morphology")
    conditions = [("random", 0.5), ("random", 0.9), ("rings", 0.875)]
    monkeypatch.setattr(module, "conditions_of", lambda dataset: iter(conditions))
    table = baselines("street", methods=methods)
    found = table[["method", "test_mask", "test_sparsity"]].itertuples(index=False, name=None)
    assert set(found) == {(name, *condition) for name in methods for condition in conditions}
    data = load("street")
    scans = data.images[split(data, 2, "by drive")[2]].numpy()
    guess = np.mean([np.abs(scan[scan > 0] - np.median(scan[scan > 0])).mean() for scan in scans])
    assert table["mae"].between(0, guess, inclusive="neither").all() and (table["mae"] <= table["rmse"]).all()
    error = table[table["method"] == "nearest neighbour"].set_index(["test_mask", "test_sparsity"])["mae"]
    assert error["random", 0.5] < error["random", 0.9]


def test_who_fills_with_the_truth_has_no_error_and_is_never_told_what_is_asked(monkeypatch):
    scans = list(load("street").images[split(load("street"), 2, "by drive")[2]][:, 0].numpy())

    def truth(values, observed, around):
        assert around and not observed[scans[0] == 0].any() and observed.mean() < 0.6
        scan = scans.pop(0)
        assert (values == scan).all()
        return scan

    monkeypatch.setattr(module, "METHODS", {"truth": truth})
    monkeypatch.setattr(module, "conditions_of", lambda dataset: iter([("random", 0.5)]))
    (line,) = baselines("street", methods=["truth"]).to_dict("records")
    assert (line["mae"], line["rmse"], line["imae"], line["irmse"]) == (0, 0, 0, 0)


def test_masks_are_those_of_a_seed_the_first_by_default_and_every_scan_is_told(monkeypatch):
    monkeypatch.setattr(module, "conditions_of", lambda dataset: iter([("random", 0.5), ("rings", 0.875)]))
    totals, told = [], []

    class Bar:
        def __init__(self, total, **words):
            totals.append(total)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            told.append("end")

        def update(self):
            told.append("scan")

    monkeypatch.setattr(module, "bar", Bar)
    of_default, of_first, of_second = (
        baselines("street", methods=["nearest neighbour"], **seed) for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert of_default.equals(of_first)
    random = of_first["test_mask"] == "random"
    assert (of_first.loc[random, "mae"] != of_second.loc[random, "mae"]).all()
    assert totals == [2 * len(split(load("street"), 2, "by drive")[2])] * 3
    assert told == ([*["scan"] * totals[0], "end"]) * 3


def test_the_kinds_of_masks_are_the_networks():
    assert {kind for kind, _ in conditions_of("street")} == {"random", "rings"}


def test_another_data_set_is_refused():
    with pytest.raises(SettingError, match="dataset='mnist' is not allowed"):
        baselines("mnist")


def test_another_method_is_refused():
    with pytest.raises(SettingError, match="method='cubic' is not allowed: one of 'nearest neighbour'"):
        baselines("street", methods=["cubic"])
