import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from sparsecnn.checks import SettingError
from sparsecnn.data.datasets import available
from sparsecnn.experiment import CALTECH_SPARSITIES, MODELS, PROTOCOLS, SPARSITIES, Experiment, experiment
from sparsecnn.records import COLUMNS
from sparsecnn.training.batches import Batches, EnsembleBatches, FixedMaskBatches, generator_of
from sparsecnn.training.devices import compiles
from sparsecnn.training.loop import initial_network
from sparsecnn.training.train import choose_device, precision_of, train

pytestmark = pytest.mark.usefixtures("digits")


def tiny(protocol: str, model: str, **changes) -> Experiment:
    validation = 100 if protocol == "controlled" else 0
    return experiment("mnist", protocol, model, 0.3, **{"epochs": 2, "validation": validation} | changes)


@pytest.mark.parametrize("protocol", ["as_reported", "as_run", "controlled"])
@pytest.mark.parametrize("model", MODELS)
def test_every_protocol_trains(protocol, model):
    # SparseConvNet starts slowly (its first activations are 25 times smaller), so it is given larger steps; at those
    # the plain networks can die, since all they see goes through one channel's ReLU.
    run = tiny(protocol, model, epochs=10, learning_rate=1e-2 if model == "SparseConvNet" else 2e-3)
    rows = train(run, "cpu")
    assert list(rows.columns) == COLUMNS
    assert rows["epoch"].tolist() == list(range(1, 11))
    assert rows["train_loss"].iloc[-1] < rows["train_loss"].iloc[0]
    assert rows["test_accuracy"].iloc[-1] > 40
    assert rows["validation_accuracy"].notna().all() == (protocol == "controlled")
    hits = rows["test_correct"].str.split().map(lambda counts: [int(count) for count in counts])
    assert hits.map(len).eq(10).all()
    assert hits.map(sum).div(3).round(4).tolist() == rows["test_accuracy"].tolist()
    assert (rows["device"] == "cpu, 1 thread").all()


@pytest.mark.parametrize(
    ("protocol", "model"),
    [(protocol, model) for protocol in PROTOCOLS for model in MODELS[: 3 if protocol == "controlled" else 2]],
)
def test_every_protocol_trains_on_caltech(protocol, model, photographs):
    run = experiment(
        "caltech101", protocol, model, 0.3, validation=10, train_images=32, batch_size=8, epochs=2, learning_rate=1e-3
    )
    rows = train(run, "cpu")
    assert rows["epoch"].tolist() == [1, 2]
    assert rows["train_loss"].iloc[1] < rows["train_loss"].iloc[0]
    assert rows["validation_accuracy"].notna().all()
    assert rows["split"].eq(run.split).all()


def test_bf16_stays_close_to_float32_and_is_recorded(photographs):
    run = experiment("caltech101", "controlled", "SparseConvNet", 0.3, validation=10, train_images=8, epochs=1)
    exact, rounded = (train(run, "cpu", precision=precision) for precision in ("float32", "bf16"))
    assert exact["precision"].tolist() == ["float32"] and rounded["precision"].tolist() == ["bf16"]
    assert rounded["train_loss"].item() != exact["train_loss"].item()
    assert rounded["train_loss"].item() == pytest.approx(exact["train_loss"].item(), rel=0.05)


@pytest.mark.parametrize(
    ("dataset", "capabilities", "precision"),
    [
        ("caltech101", {"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ("caltech101", {"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ("caltech101", {"avx512_bf16": False}, "float32"),
        ("caltech101", {}, "float32"),
        ("mnist", {"avx512_bf16": True}, "float32"),
    ],
)
def test_on_the_cpu_only_photographs_take_bf16_and_only_where_it_is_computed_in(
    dataset, capabilities, precision, monkeypatch
):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities, raising=False)
    run = experiment(dataset, "controlled", "ConvNet", 0.3)
    assert precision_of(run, torch.device("cpu")) == precision


def test_the_same_experiment_gives_the_same_rows_whatever_ran_before():
    run = tiny("controlled", "SparseConvNet")
    first = train(run, "cpu")
    train(tiny("as_reported", "ConvNet", seed=5), "cpu")
    torch.rand(7)
    torch.set_num_threads(2)
    again = train(run, "cpu")
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), again.drop(columns="seconds"))


def test_few_training_images_are_spread_over_the_classes(monkeypatch, photographs):
    read = []
    monkeypatch.setattr(EnsembleBatches, "ahead", lambda source, batches, masks: read.extend(batches) or ())
    train(experiment("caltech101", "controlled", "ConvNet", 0.3, validation=10, train_images=12, epochs=1), "cpu")
    assert photographs.labels[read[0]].unique().tolist() == list(range(5))


def test_another_seed_gives_other_rows():
    rows = [train(tiny("controlled", "ConvNet", seed=seed), "cpu")["train_loss"] for seed in (0, 1)]
    assert not np.allclose(*rows)


def test_training_leaves_the_global_random_state_and_threads_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    train(tiny("controlled", "ConvNet", epochs=1), "cpu")
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_progress_is_told_after_each_epoch():
    seen = []
    rows = train(tiny("as_reported", "ConvNet"), "cpu", lambda *told: seen.append(told))
    assert seen == list(rows[["epoch", "train_loss", "train_accuracy"]].itertuples(index=False, name=None))


def test_dropped_pixels_become_black_before_normalisation(digits):
    run = tiny("as_reported", "ConvNet")
    batches = Batches(digits, run, torch.device("cpu"))
    chosen = torch.arange(20, 40)
    image, mask, label = batches(chosen, torch.Generator().manual_seed(1))
    pixels = torch.where(mask, digits.images[chosen] / 255, 0)
    torch.testing.assert_close(image, (pixels - digits.mean[0]) / digits.std[0], atol=1e-5, rtol=1e-5)
    assert (~mask).flatten(1).sum(1).tolist() == [int(784 * 0.3)] * 20
    assert torch.equal(label, digits.labels[chosen])


def test_as_run_takes_brighter_than_the_mean_for_observed(digits):
    batches = Batches(digits, tiny("as_run", "SparseConvNet"), torch.device("cpu"))
    image, mask, _ = batches(torch.arange(20), torch.Generator().manual_seed(1))
    assert torch.equal(mask, image > 0)
    assert mask.float().mean() < 0.5  # most of a digit's picture is black


def test_on_caltech_an_image_keeps_its_mask_and_its_dropped_pixels_take_the_mean_colour(photographs):
    run = experiment("caltech101", "controlled", "SparseConvNet", 0.3)
    batches = FixedMaskBatches(photographs, run, torch.device("cpu"))
    chosen = torch.tensor([7, 3, 7])
    image, mask, label = batches(chosen, None)
    again, same, _ = batches(torch.tensor([3]), None)
    assert torch.equal(image[0], image[2]) and torch.equal(image[1], again[0]) and torch.equal(mask[1], same[0])
    assert not torch.equal(mask[0], mask[1])
    assert label.tolist() == photographs.labels[chosen].tolist()
    assert mask.float().mean() == pytest.approx(0.7, abs=0.01)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (photographs.mean, photographs.std))
    expected = (photographs.images[chosen] / 255 - mean) / std
    torch.testing.assert_close(image, torch.where(mask, expected, 0))
    another = FixedMaskBatches(photographs, dataclasses.replace(run, seed=1), torch.device("cpu"))
    assert not torch.equal(another.fixed["own"], batches.fixed["own"])


def test_images_stay_on_the_device_from_run_to_run_and_a_levels_masks_from_network_to_network(digits, photographs):
    device = torch.device("meta")  # to which a tensor of the CPU must be copied, as to a GPU
    for data, dataset, kind in ((digits, "mnist", Batches), (photographs, "caltech101", FixedMaskBatches)):
        runs = [experiment(dataset, "controlled", model, level) for level in (0.3, 0.5) for model in MODELS]
        batches = [kind(data, run, device) for run in runs]
        name = "above_black" if kind is Batches else "images"
        assert len({id(getattr(each, name)) for each in batches}) == len({id(each.labels) for each in batches}) == 1
    assert len({id(each.fixed["own"]) for each in batches}) == 2


@pytest.mark.parametrize("model", MODELS)
def test_the_reported_network_is_tested_at_every_sparsity_and_under_structure(model):
    run = tiny("controlled", model, epochs=8, learning_rate=1e-2 if model == "SparseConvNet" else 2e-3)
    plain = train(run, "cpu")
    rows = train(dataclasses.replace(run, tested_at="every sparsity"), "cpu")
    settings = ["tested_at", "transfer", "seconds"]
    pd.testing.assert_frame_equal(rows.drop(columns=settings), plain.drop(columns=settings))
    reported = rows["validation_accuracy"].idxmax()
    assert rows["transfer"].ne("").tolist() == [i == reported for i in rows.index] and plain["transfer"].eq("").all()
    found = dict(entry.split("=") for entry in rows["transfer"][reported].split())
    assert set(found) == {f"random:{level:g}" for level in SPARSITIES if level != 0.3} | {
        f"{kind}:{level}" for kind in ("square", "rows") for level in (0.3, 0.5)
    }
    # Near the level that it was trained at a network does about as well as there, at 95% it does not.
    assert float(found["random:0.2"]) == pytest.approx(rows["test_accuracy"][reported], abs=10)
    assert float(found["random:0.95"]) < rows["test_accuracy"][reported] - 10


def test_what_is_tested_elsewhere_is_the_network_of_the_reported_epoch(monkeypatch):
    monkeypatch.setattr("sparsecnn.training.loop._reported_epoch", lambda experiment, history: 1)
    run = tiny("controlled", "ConvNet", epochs=3, tested_at="every sparsity")
    first = train(dataclasses.replace(run, epochs=1), "cpu")
    assert train(run, "cpu")["transfer"].tolist() == [first["transfer"].item(), "", ""]


def test_caltechs_networks_are_tested_at_every_sparsity(photographs):
    run = experiment(
        "caltech101", "controlled", "SparseConvNet", 0.3, validation=10, train_images=8, batch_size=8, epochs=1,
        tested_at="every sparsity", trained_at="every sparsity",
    )  # fmt: skip
    (found,) = train(run, "cpu")["transfer"]
    assert len(found.split()) == len(CALTECH_SPARSITIES) - 1 + 4


def test_training_at_every_sparsity_mixes_levels_and_leaves_the_test_at_its_own(digits, photographs):
    run = tiny("controlled", "ConvNet", trained_at="every sparsity")
    batches = Batches(digits, run, torch.device("cpu"))
    missing = {
        use: (~batches.draw(use, torch.Generator().manual_seed(0), torch.arange(300))).flatten(1).sum(1).tolist()
        for use in ("own", "training")
    }
    assert set(missing["own"]) == {int(784 * 0.3)}
    assert set(missing["training"]) == {int(784 * level) for level in SPARSITIES}
    run = experiment("caltech101", "controlled", "ConvNet", 0.3, trained_at="every sparsity")
    fixed = FixedMaskBatches(photographs, run, torch.device("cpu"))
    own, training = (
        fixed.draw(use, None, torch.arange(100)).float().mean(dim=(1, 2, 3)) for use in ("own", "training")
    )
    assert own.min() > 0.68 and own.max() < 0.72
    assert training.min() < 0.35 and training.max() == 1


def test_a_network_learns_from_images_of_every_sparsity():
    rows = train(tiny("controlled", "ConvNet", epochs=8, learning_rate=2e-3, trained_at="every sparsity"), "cpu")
    assert rows["test_accuracy"].iloc[-1] > 40


def test_all_models_of_a_seed_see_the_same_masks_and_another_seed_sees_others(digits):
    device = torch.device("cpu")

    def masks(model: str, seed: int):
        run = tiny("controlled", model, seed=seed)
        return Batches(digits, run, device)(torch.arange(9), generator_of(run, 2))[1]

    assert torch.equal(masks("SparseConvNet", 0), masks("ConvNet", 0))
    assert not torch.equal(masks("ConvNet", 0), masks("ConvNet", 1))


def test_a_device_that_is_not_there_or_not_known_is_refused():
    with pytest.raises(SettingError, match="device='tpu'.*'cuda'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(SettingError, match="device='cuda'.*no CUDA device"):
            choose_device("cuda")


def test_stand_ins_need_no_download():
    assert available("digits") == "digits"


def test_cudnn_is_on_and_deterministic_while_a_network_trains():
    seen = []

    def look(*_) -> None:
        cudnn = torch.backends.cudnn
        seen.append((cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32))

    train(tiny("as_reported", "ConvNet", epochs=1, train_images=64), "cpu", look)
    assert seen == [(True, True, False, False)]


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
        (torch.backends.mkldnn.conv, "fp32_precision", "bf16"),
        (torch.backends.cuda.matmul, "fp32_precision", "tf32"),
        (torch.backends.cudnn.conv, "fp32_precision", "ieee"),  # PyTorch then refuses to read cudnn.allow_tf32
        (torch.backends.cudnn, "allow_tf32", False),
        (torch.backends.cuda.matmul, "allow_tf32", True),
    ],
)
def test_float32_is_whole_whatever_precision_the_process_has_asked_for(settings, name, value):
    backends = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    seen = []

    def look(*_) -> None:
        seen.append([part.fp32_precision for part in parts])

    run = tiny("as_reported", "ConvNet", epochs=1, train_images=64)
    expected = train(run, "cpu")
    usual = getattr(settings, name)
    setattr(settings, name, value)
    try:
        asked = [part.fp32_precision for part in parts]
        rows = train(run, "cpu", look)
        assert seen == [["ieee"] * len(parts)]
        assert getattr(settings, name) == value and [part.fp32_precision for part in parts] == asked
        assert rows["train_loss"].tolist() == expected["train_loss"].tolist()
    finally:
        setattr(settings, name, usual)


def test_initial_weights_leave_every_generator_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    initial_network(tiny("as_reported", "ConvNet"))
    assert seeded == [] and torch.equal(torch.get_rng_state(), before)


def test_where_torch_compile_does_not_work_it_is_said_once(monkeypatch):
    def compile_nothing(_):
        raise RuntimeError("Failed to find C compiler.\nMore about it.")

    monkeypatch.setattr(torch, "compile", compile_nothing)
    compiles.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"for cpu here \(Failed to find C compiler.\)"):
            assert not compiles(torch.device("cpu"))
        assert not compiles(torch.device("cpu"))
    finally:
        compiles.cache_clear()
