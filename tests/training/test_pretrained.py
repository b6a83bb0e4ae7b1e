"""The trained networks that come with the package."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sparsecnn import load_pretrained
from sparsecnn.checks import SettingError
from sparsecnn.data.datasets import available, load
from sparsecnn.data.images import MNIST_SCALE
from sparsecnn.data.masks import exact_count_mask
from sparsecnn.experiment import LEVELS, MODELS, Experiment, experiment
from sparsecnn.models import build
from sparsecnn.sweeps.store import of_experiments
from sparsecnn.training import pretrained


def metadata(run):
    with safe_open(pretrained.WEIGHTS / pretrained._name(run), "pt") as file:
        return file.metadata()


def test_there_are_six_of_recorded_runs_each_under_half_a_megabyte():
    runs = pretrained.experiments()
    assert {(run.model, run.trained_at) for run in runs} == {(model, at) for model in MODELS for at in LEVELS}
    assert {path.name for path in pretrained.WEIGHTS.iterdir()} == {pretrained._name(run) for run in runs}
    for run in runs:
        assert (run.protocol, run.sparsity, run.seed) == ("controlled", 0.5, 0)
        assert Experiment(**json.loads(metadata(run)["experiment"])) == run
        assert (pretrained.WEIGHTS / pretrained._name(run)).stat().st_size < 500_000
        # Trained on another machine than the recorded run, a network may differ by rounding and what becomes of it.
        recorded = of_experiments([run])["test_accuracy"].iloc[-1]
        assert abs(float(metadata(run)["test_accuracy"]) - recorded) < 1.5


@pytest.mark.parametrize("trained_at", LEVELS)
@pytest.mark.parametrize("model", MODELS)
def test_they_know_digits_as_well_as_their_files_say(model, trained_at):
    if available("mnist") != "mnist":
        pytest.skip("MNIST is not at hand")
    network = load_pretrained("mnist", model, trained_at)
    assert not network.training
    data = load("mnist")
    count = 2000
    mask = exact_count_mask(count, 28, 28, 0.5, torch.Generator().manual_seed(0))
    images = torch.where(mask, data.images[-count:] / 255, 0)
    images = (images - MNIST_SCALE["mean"][0]) / MNIST_SCALE["std"][0]
    with torch.no_grad():
        accuracy = (network(images, mask).argmax(1) == data.labels[-count:]).double().mean().item()
    (run,) = (run for run in pretrained.experiments() if (run.model, run.trained_at) == (model, trained_at))
    # The last images are easier than most; three standard errors are a point and a half.
    assert abs(100 * accuracy - float(metadata(run)["test_accuracy"])) < 4


def test_the_command_writes_what_it_trained_the_same_each_time(tmp_path):
    run = experiment("digits", "controlled", "ConvNet + mask", 0.5, epochs=1, train_images=8)
    (path,) = pretrained.write([run], tmp_path)
    first = load_file(path)
    (path,) = pretrained.write([run], tmp_path)
    again = load_file(path)
    assert list(first) == list(again) and all(torch.equal(again[name], first[name]) for name in first)
    assert list(tmp_path.iterdir()) == [path]
    assert path.name == "digits_ConvNet_mask_own_sparsity.safetensors"
    build(run.model, run.architecture).load_state_dict(load_file(path))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("caltech101", "ConvNet"), "dataset='caltech101'"),
        (("mnist", "sparse"), "model='sparse'"),
        (("mnist", "ConvNet", "all"), "trained_at='all'"),
    ],
)
def test_another_name_is_refused_with_those_that_there_are(arguments, named):
    with pytest.raises(SettingError, match=f"^{named} is not allowed: one of "):
        load_pretrained(*arguments)
