import dataclasses
import itertools

import pytest
import torch

from sparsecnn.checks import SettingError
from sparsecnn.data.datasets import load, split
from sparsecnn.experiment import ADAPTED, ALTERNATIVES, MODELS, SPARSITIES, experiment, grid
from sparsecnn.models import build
from sparsecnn.records import SETTINGS
from sparsecnn.report.tables import published
from sparsecnn.studies import (
    STUDIES,
    ablations,
    adaptations,
    alternatives,
    batch_norms,
    bridge,
    depth_training,
    hyperparameters,
    late_drop,
    matrix,
    other_splits,
    rescaled_starts,
    studies_of,
    weight_decay,
)
from sparsecnn.studies.settings import PUBLISHED_TRAINING_IMAGES, TRAINING_IMAGES


def test_rescaled_starts_are_controlled_runs_but_for_the_first_weights():
    runs = rescaled_starts()
    assert len(runs) == 60 and not set(runs) & set(grid())
    assert {dataclasses.replace(run, architecture="mnist") for run in runs} <= set(grid())
    (one,) = rescaled_starts("digits", 0.33, 1, epochs=1)
    assert (one.dataset, one.sparsity, one.epochs) == ("digits", 0.33, 1)
    with pytest.raises(SettingError, match="dataset='shapes'"):
        rescaled_starts("shapes")


@pytest.mark.parametrize(
    ("dataset", "name", "decay"), [("mnist", "table5_mnist", 1e-3), ("caltech101", "table6_caltech101", 1e-3)]
)
def test_the_hyperparameter_grid_is_the_published_one_for_both_networks(dataset, name, decay):
    runs = hyperparameters(dataset)
    cells = {(run.sparsity, run.batch_size, run.learning_rate) for run in runs}
    key = ["sparsity", "batch_size", "learning_rate"]
    assert cells == set(published(name)[key].itertuples(index=False, name=None))
    seeds = {"SparseConvNet": 10 if dataset == "mnist" else 3, "ConvNet": 3}
    assert len(runs) == len(set(runs)) == 2 * 9 * sum(seeds.values())
    assert {(run.model, run.seed) for run in runs} == {(model, k) for model, n in seeds.items() for k in range(n)}
    assert {run.weight_decay for run in runs} == {decay} and {run.mask for run in runs} == {"validity"}
    # The main table's runs of the setting that both have serve both.
    assert len(set(runs) & set(grid(dataset))) == 2 * sum(seeds.values())


def test_a_part_of_the_hyperparameter_grid():
    runs = hyperparameters("digits", 0.3, [0.002], [32, 64], seeds=1, epochs=2)
    assert [(run.model, run.sparsity, run.learning_rate, run.batch_size) for run in runs] == [
        (model, 0.3, 0.002, size) for size in (32, 64) for model in ("SparseConvNet", "ConvNet")
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {"learning_rates": 0.1}, {"learning_rates": []}, {"learning_rates": [0.0]}, {"learning_rates": ["a"]},
        {"learning_rates": [0.1, 0.1]}, {"batch_sizes": [0]}, {"batch_sizes": [1.5]}, {"seeds": 0}, {"sparsity": 30},
    ],
)  # fmt: skip
def test_a_wrong_part_is_refused_by_name(asked):
    (name,) = asked
    with pytest.raises(SettingError, match=f"^{name.rstrip('s')}.*is not allowed"):
        hyperparameters("mnist", **asked)


def test_each_way_to_a_late_drop_changes_one_thing():
    ways = late_drop()
    base, as_run = ways.pop("as it is"), ways.pop("as_run")
    assert {(run.protocol, run.architecture, run.sparsity, run.batch_size, run.learning_rate) for run in as_run} == {
        ("as_run", "caltech_pooled_mask", 0.7, 64, 1e-3)
    }
    assert set(base) <= set(hyperparameters("caltech101"))
    assert {(run.sparsity, run.batch_size, run.learning_rate) for run in base} == {(0.7, 64, 1e-3)}
    for runs in ways.values():
        for run, reference in zip(runs, base, strict=True):
            pairs = zip(dataclasses.astuple(run), dataclasses.astuple(reference), strict=True)
            assert sum(one != other for one, other in pairs) == 1
    assert {run.train_images % 64 for run in ways["last batch full"]} == {0}
    assert {run.train_images % 64 for run in ways["last batch of 6"]} == {6}
    ways = late_drop("shapes")  # whose 256 images are whole batches
    assert len(set(itertools.chain(*ways.values()))) == sum(map(len, ways.values()))
    quick = late_drop("shapes", 0.3, 1, train_images=100, epochs=1)
    assert {run.train_images for run in quick["as it is"] + quick["as_run"]} == {100}
    assert {run.train_images for run in quick["last batch full"]} == {64}


@pytest.mark.parametrize("dataset", sorted(TRAINING_IMAGES))
def test_the_numbers_of_training_images_are_those_of_the_splits(dataset):
    run = late_drop(dataset)["as it is"][0]
    assert len(split(load(dataset, pixels=False), run.validation, run.split)[0]) == TRAINING_IMAGES[dataset]
    if dataset == "caltech101":
        as_run = experiment(dataset, "as_run", "SparseConvNet", 0.7)
        train = split(load(dataset, pixels=False), as_run.validation, as_run.split)[0]
        assert len(train) == PUBLISHED_TRAINING_IMAGES


def test_slow_batch_norm_statistics_train_alike_and_evaluate_otherwise():
    networks = []
    for architecture in ("caltech", "caltech_slow_batch_norm"):
        torch.manual_seed(0)
        networks.append(build("ConvNet", architecture))
    image = torch.rand(2, 3, 224, 224)
    scores = []
    for network in networks:
        torch.manual_seed(1)  # dropout
        scores.append(network(image))
    assert torch.equal(*scores)
    assert not torch.allclose(*(network.eval()(image) for network in networks))


@pytest.mark.parametrize(("dataset", "levels", "seeds"), [("mnist", 12, 10), ("caltech101", 9, 3)])
def test_the_matrix_is_the_controlled_table_tested_at_more_and_a_network_trained_on_all(dataset, levels, seeds):
    runs = matrix(dataset)
    own = [run for run in runs if run.trained_at == "own sparsity"]
    assert {dataclasses.replace(run, tested_at="own sparsity") for run in own} == set(grid(dataset, "controlled"))
    assert len(own) == len(set(own)) == 3 * levels * seeds
    mixed = [run for run in runs if run.trained_at == "every sparsity"]
    assert {(run.model, run.seed) for run in mixed} == set(itertools.product(MODELS, range(3)))
    assert len(matrix(dataset, seeds=4)) == 3 * (levels + 1) * 4
    assert {run.tested_at for run in runs} == {"every sparsity"}
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert {run.sparsity for run in matrix(dataset, 0.33, seeds=1)} == {0.33}


def test_weight_decay_is_tried_in_both_forms():
    runs = weight_decay()
    assert len(runs) == len(set(runs)) == 3 * 5 * 2 * 2
    assert {(run.optimiser, run.weight_decay) for run in runs} == {
        ("Adam", 0.0), ("Adam", 1e-3), ("Adam", 0.3), ("AdamW", 1e-3), ("AdamW", 0.3),
    }  # fmt: skip
    for protocol, seeds in {"controlled": 3, "as_reported": 1}.items():
        assert len(set(runs) & set(grid("caltech101", protocol))) == seeds * 2 * 2
    alike = {dataclasses.replace(run, protocol="controlled", optimiser="Adam", weight_decay=0.0) for run in runs}
    assert alike == {run for run in runs if run.weight_decay == 0}


@pytest.mark.parametrize("dataset", ["mnist", "caltech101", "digits", "shapes"])
def test_every_study_of_a_data_set_has_its_runs(dataset):
    runs = studies_of(dataset, sparsity=0.3, seeds=1)
    assert tuple(runs) == STUDIES
    only_caltechs = {"ablations", "late_drop", "weight_decay", "other_splits", "batch_norms"}
    only_here = {"rescaled_starts"} if dataset in ("mnist", "digits") else only_caltechs
    everywhere = {"matrix", "table", "hyperparameters", "bridges", "alternatives", "adaptations"}
    assert {study for study in STUDIES if runs[study]} == everywhere | only_here
    assert {(run.dataset, run.sparsity, run.seed) for part in runs.values() for run in part} == {(dataset, 0.3, 0)}


@pytest.mark.parametrize("model", MODELS[:2])
@pytest.mark.parametrize(("dataset", "level"), [("mnist", 0.9), ("caltech101", 0.3)])
def test_a_bridge_leads_from_as_run_to_controlled_one_change_at_a_time(dataset, level, model):
    steps = bridge(dataset, model, level)
    assert steps[0].runs == [experiment(dataset, "as_run", model, level, seed) for seed in range(3)]
    assert steps[-1].runs == [experiment(dataset, "controlled", model, level, seed) for seed in range(3)]
    for one, other in itertools.pairwise(steps):
        pairs = [(name, getattr(one.runs[0], name), getattr(other.runs[0], name)) for name in SETTINGS]
        changed = {name for name, old, new in pairs if old != new} - {"protocol"}
        together = {"split", "validation"} if dataset == "caltech101" else {"validation"}
        assert len(changed) == 1 or changed == together or (not changed and one.rule != other.rule), other.change


def test_other_splits_are_controlled_runs_but_for_the_split():
    runs = other_splits()
    assert len(runs) == len(set(runs)) == 3 * 3 * 2 and {run.split_seed for run in runs} == {1, 2, 3}
    assert {dataclasses.replace(run, split_seed=0) for run in runs} <= set(grid("caltech101", "controlled"))
    assert not set(runs) & set(grid("caltech101"))


def test_depths_training_changes_one_thing_about_the_matrix_runs():
    ways = depth_training()
    base = ways.pop("as it is")
    assert set(base) <= set(grid("kitti_range")) and {run.sparsity for run in base} == {0.8}
    assert [run.model for run in base] == list(MODELS)
    assert len(set(itertools.chain(base, *ways.values()))) == 4 * 3 + 3 * 2
    for runs in ways.values():
        for run, reference in zip(runs, base, strict=False):
            assert run != reference
            pairs = zip(dataclasses.astuple(run), dataclasses.astuple(reference), strict=True)
            assert sum(one != other for one, other in pairs) == 1
    (longest,) = {run.epochs for run in depth_training("street", 0.5, epochs=2)["8 times the epochs"]}
    assert longest == 16
    with pytest.raises(SettingError, match="dataset='mnist'"):
        depth_training("mnist")


def test_ablations_take_out_one_thing():
    ways = ablations()
    assert set(ways["Figure 5"]) <= set(grid("caltech101", "controlled"))
    layers = {
        way: [type(layer).__name__ for layer in build("ConvNet", runs[0].architecture).layers]
        for way, runs in ways.items()
    }
    whole = layers["Figure 5"]
    assert layers["no batch norm"] == [name for name in whole if name != "BatchNorm2d"]
    assert layers["no dropout"] == layers["no dropout, 2,048 wide"] == [name for name in whole if name != "Dropout"]


def test_the_bridges_half_way_house_shares_one_batch_norm_between_four_convolutions():
    layers = build("ConvNet", "caltech_shared_batch_norm").layers
    norms = [layer for layer in layers if isinstance(layer, torch.nn.BatchNorm2d)]
    assert len(norms) == 4 and len(set(norms)) == 1
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in layers) == 4


def test_batch_norms_are_the_bridges_steps_and_the_one_that_it_lacks():
    ways, levels = batch_norms(), (0.3, 0.7)
    assert list(ways) == [(2, "shared"), (2, "each"), (4, "shared"), (4, "each")]
    runs = list(itertools.chain(*ways.values()))
    assert len(runs) == len(set(runs)) == 4 * 2 * 3
    # They differ in their networks alone.
    assert len({dataclasses.replace(run, architecture="caltech", sparsity=0.3, seed=0) for run in runs}) == 1
    steps = itertools.chain(*(bridge("caltech101", "ConvNet", level) for level in levels))
    of_bridge = set(itertools.chain(*(step.runs for step in steps)))
    for (convolutions, which), of_way in ways.items():
        assert {(run.sparsity, run.seed) for run in of_way} == set(itertools.product(levels, range(3)))
        assert set(of_way) & of_bridge == (set() if (convolutions, which) == (2, "each") else set(of_way))
        (architecture,) = {run.architecture for run in of_way}
        layers = build("ConvNet", architecture).layers
        assert sum(isinstance(layer, torch.nn.Conv2d) for layer in layers) == convolutions
        norms = [layer for layer in layers if isinstance(layer, torch.nn.BatchNorm2d)]
        assert len(norms) == convolutions and len(set(norms)) == (1 if which == "shared" else convolutions)


def test_a_part_of_batch_norms():
    ways = batch_norms("shapes", 0.5, 1, learning_rate=1e-2, epochs=2)
    assert {(run.sparsity, run.seed, run.learning_rate, run.epochs) for (run,) in ways.values()} == {(0.5, 0, 1e-2, 2)}
    with pytest.raises(SettingError, match="dataset='mnist'"):
        batch_norms("mnist")


FILLED = ("grey", "nearest", "blur")  # of both data sets


@pytest.mark.parametrize(
    ("dataset", "levels", "own"),
    [
        ("mnist", SPARSITIES, {"mean", "inpainting"}),
        ("caltech101", (0.05, 0.3, 0.7), {"black"}),  # whose own colour is the mean
    ],
)
def test_the_alternatives_are_networks_fills_and_on_mnist_inverted_images(dataset, levels, own):
    ways = alternatives(dataset)
    for model in MODELS:  # whose other levels say nothing
        mixed = ways.pop(f"{model}, trained on every sparsity")
        assert set(mixed) <= set(matrix(dataset)) and len(mixed) == 3
        assert {(run.model, run.trained_at) for run in mixed} == {(model, "every sparsity")}
    assert {run.tested_at for run in itertools.chain(*ways.values())} == {"every sparsity"}
    inverted = {f"{model}, inverted" for model in MODELS} if dataset == "mnist" else set()
    filled = {f"ConvNet, {fill} filled": fill for fill in {*FILLED, *own}}
    assert ways.keys() == {*MODELS, *ALTERNATIVES, *filled, *inverted}
    for way, runs in ways.items():
        assert {run.model for run in runs} == {way.split(", ")[0] if way in filled or way in inverted else way}
        # On MNIST an input is rescaled whose missing pixels are 0, as they are on Caltech-101 by themselves.
        zero = "mean" if dataset == "mnist" and way == "ConvNet, input rescaled" else "own"
        assert {run.fill for run in runs} == {filled.get(way, zero)}
        assert {run.images for run in runs} == {"inverted" if way in inverted else "as they are"}
        assert {(run.sparsity, run.seed) for run in runs} == set(itertools.product(levels, range(3)))
        assert len(runs) == len(levels) * 3
    # But for what the name says they are the table's runs.
    every = list(itertools.chain(*ways.values()))
    assert len(set(every)) == len(every)
    plain = {"fill": "own", "images": "as they are", "tested_at": "own sparsity", "model": "ConvNet"}
    assert {dataclasses.replace(run, **plain) for run in every} <= set(grid(dataset, "controlled", seeds=3))


def test_those_are_adapted_that_batch_norm_or_a_mean_of_0_is_asked_about():
    assert {dataset: set(adaptations(dataset)) for dataset in ("mnist", "caltech101")} == {
        "mnist": {"ConvNet, mean filled"},
        "caltech101": set(MODELS),
    }
    for dataset in ("mnist", "caltech101"):
        for way, runs in adaptations(dataset).items():
            assert {run.tested_at for run in runs} == {ADAPTED}
            # Adaptation changes tests alone: one network, trained alike, serves for both.
            plain = [dataclasses.replace(run, tested_at="every sparsity") for run in runs]
            assert plain == alternatives(dataset)[way]


@pytest.mark.parametrize("dataset", ["mnist", "caltech101"])
def test_of_the_alternatives_those_of_the_matrix_are_shared_with_it_and_no_others(dataset):
    shared = {way for way, runs in alternatives(dataset).items() if set(runs) & set(matrix(dataset))}
    assert shared == {*MODELS, *(f"{model}, trained on every sparsity" for model in MODELS)}
    for way in shared:
        assert set(alternatives(dataset)[way]) <= set(matrix(dataset))


def test_a_part_of_the_alternatives():
    ways = alternatives("digits", 0.33, 1, epochs=2, tested_at="own sparsity")
    mixed = {f"{model}, trained on every sparsity" for model in MODELS}
    assert ways.keys() == alternatives("mnist").keys() - mixed
    assert {(run.sparsity, run.seed, run.epochs, run.tested_at) for (run,) in ways.values()} == {
        (0.33, 0, 2, "own sparsity")
    }
    assert [run.seed for run in studies_of("digits")["alternatives"]] == sorted([0, 1, 2] * (17 * 12 + 3))
    with pytest.raises(SettingError, match="dataset='street'"):
        alternatives("street")
