import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsecnn.checks import SettingError
from sparsecnn.experiment import MODELS, PROTOCOLS, SPARSITIES, experiment, grid, selection

GOOD = experiment("mnist", "controlled", "ConvNet", 0.3)


def test_as_reported_is_the_reports_table_1():
    run = experiment("mnist", "as_reported", "SparseConvNet", 0.3)
    assert (run.epochs, run.batch_size, run.learning_rate, run.weight_decay) == (10, 64, 5e-3, 1e-3)
    assert (run.architecture, run.mask, run.validation) == ("mnist", "validity", 0)


def test_as_run_is_what_the_notebooks_ran():
    sparse = experiment("mnist", "as_run", "SparseConvNet", 0.3)
    plain = experiment("mnist", "as_run", "ConvNet", 0.3)
    assert (sparse.epochs, sparse.mask, sparse.architecture) == (20, "brighter than the mean", "mnist")
    assert (plain.epochs, plain.architecture) == (20, "mnist_convnet_as_run")


def test_controlled_differs_between_models_in_the_model_alone():
    runs = [experiment("mnist", "controlled", model, 0.3) for model in MODELS]
    assert len({dataclasses.replace(run, model="ConvNet") for run in runs}) == 1
    assert (runs[0].learning_rate, runs[0].weight_decay, runs[0].validation) == (1e-3, 0, 5000)


def test_the_grid_is_table_3():
    as_reported = grid(protocol="as_reported", seeds=1)
    assert len(as_reported) == 22
    assert sorted({run.sparsity for run in as_reported}) == sorted(SPARSITIES[1:])
    assert len(grid(protocol="controlled", seeds=2)) == 2 * 3 * 12
    assert len(set(grid())) == len(grid())


def test_caltechs_protocols_are_table_2_section_7_and_the_fair_one():
    for model in MODELS[:2]:
        run = experiment("caltech101", "as_reported", model, 0.3)
        assert (run.epochs, run.batch_size, run.learning_rate, run.weight_decay) == (15, 128, 1e-3, 0.3)
        assert (run.architecture, run.split) == ("caltech", "stratified")
    sparse, plain = (experiment("caltech101", "as_run", model, 0.3) for model in MODELS[:2])
    assert (sparse.architecture, sparse.split) == ("caltech_pooled_mask", "99 classes, stratified")
    assert (sparse.batch_size, sparse.learning_rate, sparse.weight_decay) == (128, 1e-3, 1e-3)
    assert (plain.architecture, plain.split) == ("caltech_convnet_as_run", "99 classes, unstratified")
    assert (plain.batch_size, plain.learning_rate, plain.weight_decay) == (32, 1e-6, 1e-3)
    fair = [experiment("caltech101", "controlled", model, 0.3) for model in MODELS]
    assert len({dataclasses.replace(run, model="ConvNet") for run in fair}) == 1
    assert (fair[0].weight_decay, fair[0].learning_rate, fair[0].batch_size) == (1e-3, 1e-3, 128)
    assert [selection("caltech101", protocol) for protocol in PROTOCOLS] == ["last", "test", "validation"]
    assert [selection("mnist", protocol) for protocol in PROTOCOLS] == ["last", "last", "validation"]


def test_the_caltech_grid_is_table_4():
    as_run = grid("caltech101", "as_run", seeds=1)
    assert sorted({run.sparsity for run in as_run}) == [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7] and len(as_run) == 16
    assert len(grid("caltech101", "controlled", seeds=2)) == 2 * 3 * 9
    assert {run.validation for run in grid("shapes")} == {64, 51}


def test_a_grid_takes_one_sparsity_that_table_3_has_not():
    runs = grid(sparsity=0.33, protocol="as_reported", seeds=1)
    assert [(run.model, run.sparsity) for run in runs] == [("SparseConvNet", 0.33), ("ConvNet", 0.33)]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sparsity", 30), ("sparsity", "abc"), ("sparsity", -0.1), ("sparsity", 1), ("sparsity", float("nan")),
        ("sparsity", True), ("protocol", "foo"), ("model", "ResNet"), ("dataset", "imagenet"), ("mask", "none"),
        ("seed", -1), ("seed", 0.5), ("epochs", 0), ("epochs", "10"), ("batch_size", 0), ("learning_rate", 0),
        ("learning_rate", float("inf")), ("weight_decay", -1e-3), ("validation", -1), ("train_images", None),
        ("fill", "white"), ("fill", None), ("images", "mirrored"), ("tested_at", "adapted"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name_value_and_what_is_allowed(setting, value):
    with pytest.raises(SettingError) as error:
        dataclasses.replace(GOOD, **{setting: value})
    message = str(error.value)
    assert message.startswith(f"{setting}={value!r} is not allowed: ") or f"{setting}={value}" in message
    assert "\n" not in message
    assert error.value._render_traceback_() == [f"SettingError: {message}"]


@pytest.mark.parametrize(
    ("dataset", "setting", "value"),
    [("kitti_range", "fill", "black"), ("street", "fill", "nearest"), ("caltech101", "images", "inverted"),
     ("shapes", "images", "inverted"), ("kitti_range", "images", "inverted")],
)  # fmt: skip
def test_a_setting_that_a_data_set_does_not_have_is_refused(dataset, setting, value):
    with pytest.raises(SettingError, match=f"{setting}='{value}' is not allowed: one of '(own|as they are)'$"):
        experiment(dataset, "controlled", "ConvNet", 0.3, **{setting: value})


def test_who_chooses_the_epoch_on_validation_images_holds_some_out():
    assert experiment("mnist", "as_reported", "ConvNet", 0.1, validation=0).validation == 0
    with pytest.raises(SettingError, match="validation=0 is not allowed"):
        experiment("mnist", "controlled", "ConvNet", 0.1, validation=0)


@pytest.mark.parametrize(
    "asked", [{"sparsity": 30}, {"sparsity": "abc"}, {"protocol": "foo"}, {"seeds": 0}, {"seeds": "two"}, {"epochs": 0}]
)
def test_a_grid_refuses_what_an_experiment_refuses(asked):
    (name,) = asked
    with pytest.raises(SettingError, match=name):
        grid(**asked)


def test_an_unknown_setting_is_refused_with_the_known_ones():
    with pytest.raises(SettingError, match="momentum.*learning_rate"):
        experiment("mnist", "controlled", "ConvNet", 0.3, momentum=0.9)


@given(
    st.sampled_from(sorted(PROTOCOLS)),
    st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans(), st.lists(st.floats())),
)
def test_any_sparsity_is_either_taken_as_it_is_or_refused_in_one_line(protocol, sparsity):
    try:
        run = experiment("mnist", protocol, "ConvNet", sparsity)
    except SettingError as error:
        assert str(error).startswith("sparsity=")
        assert "is not allowed" in str(error)
    else:
        assert 0 <= run.sparsity < 1
