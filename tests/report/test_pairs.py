import math

import numpy as np
import pandas as pd
import pytest
from test_tables import collect

from sparsecnn.experiment import experiment
from sparsecnn.records import no_rows
from sparsecnn.report import pairs
from sparsecnn.report.inference import at_levels, holm
from sparsecnn.report.tables import selected
from sparsecnn.sweeps.store import of_experiments

NETWORKS = ("SparseConvNet", "ConvNet", "ConvNet + mask")


def runs_of(layouts: dict[str, np.ndarray], levels=(0.1, 0.2, 0.3), protocol="controlled"):
    """Rows of runs of one epoch: layouts of seeds by levels; NaN = not run."""
    runs = {
        experiment("mnist", protocol, model, level, seed, epochs=1): ([value], [50.0])
        for model, layout in layouts.items()
        for seed, line in enumerate(layout)
        for level, value in zip(levels, line, strict=True)
        if value == value
    }
    return collect(runs)[1]


def a_study(seeds=4, apart=(2.0, 0.0, 5.0), noise=0.3, number=0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    base = 80 + rng.normal(0, 1, (seeds, 1)) + np.zeros((1, 3))
    return {
        model: base + np.array(shift) + rng.normal(0, noise, (seeds, 3))
        for model, shift in zip(NETWORKS, (apart, (0, 0, 0), (0, 0, 9)), strict=True)
    }


def test_differences_are_those_of_the_layout_with_holm_over_all_pairs_of_networks():
    study = a_study()
    found = pairs.differences(runs_of(study), ["SparseConvNet", "ConvNet + mask"], "ConvNet")
    assert list(found.columns) == [
        "model", "protocol", "sparsity", "n_seeds", "difference", "ci95", "p", "holds", "collapsed",
    ]  # fmt: skip
    assert found["model"].tolist() == ["SparseConvNet"] * 3 + ["ConvNet + mask"] * 3
    every = [
        effect
        for one, other in (
            ("SparseConvNet", "ConvNet"),
            ("SparseConvNet", "ConvNet + mask"),
            ("ConvNet", "ConvNet + mask"),
        )
        for effect in at_levels(study[one] - study[other])
    ]
    assert found["difference"].iloc[:3].tolist() == pytest.approx([effect.effect for effect in every[:3]], abs=0.006)
    assert found["ci95"].iloc[:3].tolist() == pytest.approx([effect.half() for effect in every[:3]], abs=0.006)
    shown = found[["difference", "ci95"]]
    assert (shown == shown.round(2)).all(axis=None)
    corrected = holm([effect.differs() for effect in every])
    assert found["p"].tolist() == pytest.approx([*corrected[:3], *corrected[6:]], abs=1e-4)
    assert found["holds"].tolist() == ["more", "", "more", "", "", "more"]
    # Turned round, and asked for alone, a pair is in the same family.
    (one,) = pairs.differences(runs_of(study), ["ConvNet"], "SparseConvNet").iloc[:1].to_dict("records")
    assert (one["difference"], one["p"], one["holds"]) == (-found["difference"][0], found["p"][0], "less")


def test_protocols_are_families_of_their_own_and_a_missing_pair_is_no_pair():
    study = a_study(apart=(1, 1, 1), noise=1.0)
    study["SparseConvNet"][3] = math.nan
    both = pd.concat(
        [runs_of(study), runs_of(a_study(), protocol="as_reported").assign(run=lambda rows: rows["run"] + 99)]
    )
    found = pairs.differences(both, ["SparseConvNet"], "ConvNet")
    alone = pairs.differences(runs_of(study), ["SparseConvNet"], "ConvNet")
    assert found["n_seeds"].tolist() == [3, 3, 3, 4, 4, 4]
    pd.testing.assert_frame_equal(found[found["protocol"] == "controlled"], alone)
    assert pairs.differences(both, ["ConvNet + mask"], "nobody").empty
    assert pairs.differences(both.iloc[:0], ["SparseConvNet"], "ConvNet").empty


def test_levels_with_other_seeds_are_another_layout():
    study = a_study()
    study["SparseConvNet"][1:, 1] = math.nan
    found = pairs.differences(runs_of(study), ["SparseConvNet"], "ConvNet")
    assert found["n_seeds"].tolist() == [4, 1, 4] and found["ci95"].isna().tolist() == [False, True, False]
    whole = at_levels((study["SparseConvNet"] - study["ConvNet"])[:, [0, 2]])
    assert found["ci95"].dropna().tolist() == pytest.approx([effect.half() for effect in whole], abs=0.006)


def test_a_level_of_a_third_network_alone_has_no_line():
    study = a_study()
    for model in NETWORKS[:2]:
        study[model][:, 2] = math.nan
    found = pairs.differences(runs_of(study), ["SparseConvNet", "ConvNet + mask"], "ConvNet")
    assert found["sparsity"].tolist() == [0.1, 0.2] * 2
    by_sparsity = pairs.differences(runs_of(study), ["SparseConvNet", "ConvNet + mask"], "ConvNet", key=["sparsity"])
    pd.testing.assert_frame_equal(by_sparsity, found.drop(columns="protocol"))


def test_a_collapsed_run_is_counted_and_in_no_difference():
    study = a_study()
    study["ConvNet"][2, 1] = 11.35
    found = pairs.differences(runs_of(study), ["SparseConvNet"], "ConvNet")
    assert found["n_seeds"].tolist() == [4, 3, 4] and found["collapsed"].tolist() == [0, 1, 0]
    assert found["difference"].abs().max() < 6
    words = pairs.wide_difference(found, "sparsity", "model")["SparseConvNet"]
    assert words[0.2].endswith("(1 collapsed)") and words[0.1].endswith("*") and "±" in words[0.1]
    dead = runs_of({"SparseConvNet": np.full((1, 3), 11.35), "ConvNet": np.full((1, 3), 90.0)})
    nothing = pairs.differences(dead, ["SparseConvNet"], "ConvNet")
    assert pairs.wide_difference(nothing, "sparsity", "model")["SparseConvNet"].tolist() == ["none (1 collapsed)"] * 3
    # A table of unlike things counts none.
    uncounted = pairs.wide_difference(found.drop(columns="collapsed"), "sparsity", "model")["SparseConvNet"]
    assert uncounted[0.2] == words[0.2].removesuffix(" (1 collapsed)")


def test_networks_are_crossed_at_the_levels_that_most_seeds_share():
    study = a_study()
    study["ConvNet"][1:, 0] = math.nan
    found = pairs.crossed(selected(runs_of(study)), NETWORKS)
    assert {model: part.shape for model, part in found.items()} == dict.fromkeys(NETWORKS, (4, 2))
    assert found["ConvNet"].columns.tolist() == [0.2, 0.3] and found["ConvNet"].index.tolist() == [0, 1, 2, 3]
    # Of a single level with four seeds there is no layout: those with the next most join it.
    study["ConvNet"][2:, 1] = math.nan
    found = pairs.crossed(selected(runs_of(study)), NETWORKS)
    assert found["ConvNet"].shape == (2, 2) and found["ConvNet"].columns.tolist() == [0.2, 0.3]
    assert pairs.crossed(selected(runs_of({"ConvNet": study["ConvNet"]})), NETWORKS)["ConvNet"].empty


def test_the_other_group_stands_beside_ours():
    found = pairs.differences(runs_of(a_study()), ["SparseConvNet"], "ConvNet")
    table = pairs.beside_others("mnist", found)
    assert table.columns.tolist() == ["controlled", "published, group 75", "published, the report"]
    assert table.loc[0.1, "published, group 75"] == "+0.07" and table.loc[0.7, "published, the report"] == "+2.34"
    assert table.index.tolist() == [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
    assert table.loc[0.3, "controlled"].endswith("*")
    caltech = pairs.beside_others("caltech101", found)
    assert caltech.loc[0.5, ["published, group 75", "published, the report"]].tolist() == ["-4.26", "+22.87"]
    assert caltech.loc[0.3, ["published, group 75", "published, the report"]].tolist() == ["-0.57", "+23.50"]


def test_each_protocol_has_a_column_beside_the_others_and_nobody_published_every_level():
    rows = pd.concat([runs_of(a_study(), (0.1, 0.2, 0.35), protocol) for protocol in ("as_run", "controlled")])
    rows["run"] += 100 * (rows["protocol"] == "controlled")
    table = pairs.beside_others("caltech101", pairs.differences(rows, ["SparseConvNet"], "ConvNet"))
    assert table.columns.tolist() == ["as_run", "controlled", "published, group 75", "published, the report"]
    assert table.loc[0.35].isna().tolist() == [False, False, True, True]
    assert table.loc[0.8, ["as_run", "controlled", "published, the report"]].isna().all()


def test_pairs_of_two_precisions_are_found():
    rows = runs_of(a_study(seeds=2))
    assert pairs.precisions_apart(rows).empty
    rows.loc[(rows["model"] == "ConvNet") & (rows["sparsity"] == 0.2) & (rows["seed"] == 1), "precision"] = "bf16"
    (line,) = pairs.precisions_apart(rows).reset_index().to_dict("records")
    assert (line["sparsity"], line["seed"], line["ConvNet"], line["SparseConvNet"]) == (0.2, 1, "bf16", "float32")


def test_a_level_whose_seeds_no_other_has_takes_the_variance_of_the_largest_layout():
    rng = np.random.default_rng(1)
    apart = pd.DataFrame(rng.normal(0, 1, (4, 4)), columns=[0.1, 0.2, 0.3, 0.5])
    apart.loc[3, [0.1, 0.2, 0.3]] = np.nan  # a seed that the last level alone has, and there
    apart[0.5] = -2 + 0.01 * rng.normal(size=4)  # all runs happen to be alike
    found = pairs.estimates(apart)
    layout = at_levels(apart.loc[:2, [0.1, 0.2, 0.3]].to_numpy(), pool=True)
    assert [found[level] for level in (0.1, 0.2, 0.3)] == layout
    assert found[0.5].effect == pytest.approx(apart[0.5].mean())
    assert found[0.5].error == pytest.approx(layout[0].error * math.sqrt(3 / 4))
    assert found[0.5].freedom == layout[0].freedom
    # Where nothing is pooled each has its own, and a single run has none.
    alone = pairs.estimates(apart[[0.5]])
    assert alone[0.5].error == pytest.approx(apart[0.5].std() / 2)
    first = apart.copy()
    first.loc[1:] = np.nan
    assert math.isnan(pairs.estimates(first)[0.5].error)


def test_splits_are_the_unit_where_images_are_split_anew():
    accuracies = {(0, 0.05): 1.0, (0, 0.3): 2.0, (0, 0.7): 3.0, (1, 0.05): -1.0, (1, 0.3): 0.0, (1, 0.7): 1.0}
    accuracies |= {(2, 0.05): 9.0}  # whose other levels are missing
    runs = {}
    for (split, level), apart in accuracies.items():
        for model, value in (("SparseConvNet", 60 + apart), ("ConvNet", 60.0)):
            run = experiment("caltech101", "controlled", model, level, epochs=1, split_seed=split)
            runs[run] = ([value], [50.0])
    found = pairs.across_splits("caltech101", lambda _: collect(runs)[1])
    assert found.index.tolist() == [0, 1] and found["mean"].tolist() == [2.0, 0.0]
    assert found[0.3].tolist() == [2.0, 0.0]
    said = "Over 2 splits: +1.00 [-11.71, +13.71] points; less than 2 either way by two one-sided tests with p = 0.250."
    assert pairs.splits_sentence(found) == said
    assert pairs.across_splits("caltech101", lambda wanted: of_experiments(wanted, no_rows())).empty


def test_protocols_are_compared_after_an_epoch_that_both_have_by_seeds_that_both_have():
    accuracies = {"as_reported": 80.0, "as_run": 78.0}
    runs = {
        experiment("mnist", protocol, model, level, seed, epochs=2): ([value + 0.1 * seed * step, 95.0], [50.0] * 2)
        for (protocol, value), step in zip(accuracies.items(), (0, 1), strict=True)
        for model in NETWORKS[:2]
        for level in (0.1, 0.3)
        for seed in range(3 if protocol == "as_run" else 4)
    }
    _, rows = collect(runs)
    rows.loc[rows["model"] == "ConvNet", "test_accuracy"] -= 9
    apart, mean = pairs.protocols_apart(rows, "SparseConvNet", "as_run", "as_reported", epoch=1)
    assert apart["sparsity"].tolist() == [0.1, 0.3] and set(apart["n_seeds"]) == {3} and set(apart["holds"]) == {"less"}
    assert apart["difference"].tolist() == [-1.9, -1.9] and mean.effect == pytest.approx(-1.9)
    assert mean.half() == pytest.approx(0.1 * 4.3027 / 3**0.5, rel=1e-4)  # t with 2 degrees of freedom
    assert pairs.mean_sentence(apart, mean) == (
        "By Holm's correction it loses at 2 of 2 levels and gains at 0; on average over levels it is "
        "-1.90 [-2.15, -1.65] points, with seeds as the unit."
    )
    one = rows[rows["seed"] == 2]
    assert "it is -1.80 points, with" in pairs.mean_sentence(
        *pairs.protocols_apart(one, "SparseConvNet", *reversed(accuracies), 1)
    )
    alone, nothing = pairs.protocols_apart(rows[rows["protocol"] == "as_run"], "SparseConvNet", *accuracies, epoch=1)
    assert alone.empty and math.isnan(nothing.effect)
