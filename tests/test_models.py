import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsecnn import ConvNet, ConvNetMask, SparseConvNet
from sparsecnn.checks import SettingError
from sparsecnn.experiment import ALTERNATIVES, MODELS
from sparsecnn.layers.alternatives import PartialConv2d
from sparsecnn.layers.functional import MaskedLayer
from sparsecnn.models import (
    LAYERS,
    NETWORKS,
    MaxPool,
    build,
    channels_at_work,
    count_parameters,
    output_variances,
)

# Weights plus biases, kernel by kernel.
CONV_5X5 = 5 * 5 * 1 * 16 + 16
CONV_5X5_WITH_MASK = 5 * 5 * 2 * 16 + 16
CONV_3X3 = 3 * 3 * 16 * 16 + 16
CONV_1X1 = 1 * 1 * 16 * 1 + 1
LINEARS = (784 * 100 + 100) + (100 * 10 + 10)
MNIST_TABLES = [name for name in LAYERS if name.startswith("mnist")]
# Figure 5: four convolutions, a weight and a bias a channel in each batch norm, three linear layers.
CALTECH_CONVS = sum(kernel**2 * width * 16 + 16 for kernel, width in ((11, 3), (7, 16), (5, 16), (3, 16)))
CALTECH_LINEARS = (16 * 14 * 14 * 512 + 512) + (512 * 256 + 256) + (256 * 101 + 101)
# Section 7 of the published facts: two convolutions, one batch norm for both.
AS_RUN_CONVS = (11**2 * 3 * 16 + 16) + (7**2 * 16 * 16 + 16)
AS_RUN_LINEARS = (16 * 56 * 56 * 512 + 512) + (512 * 256 + 256) + (256 * 101 + 101)


@pytest.mark.parametrize(
    ("kind", "architecture", "parameters"),
    [
        (SparseConvNet, "mnist", CONV_5X5 + CONV_1X1 + LINEARS),
        (ConvNet, "mnist", CONV_5X5 + CONV_1X1 + LINEARS),
        (ConvNetMask, "mnist", CONV_5X5_WITH_MASK + CONV_1X1 + LINEARS),
        (SparseConvNet, "mnist_convnet_as_run", CONV_5X5 + CONV_3X3 + CONV_1X1 + LINEARS),
        (ConvNet, "mnist_convnet_as_run", CONV_5X5 + CONV_3X3 + CONV_1X1 + LINEARS),
        (ConvNetMask, "mnist_convnet_as_run", CONV_5X5_WITH_MASK + CONV_3X3 + CONV_1X1 + LINEARS),
        (SparseConvNet, "caltech", CALTECH_CONVS + 4 * 32 + CALTECH_LINEARS),
        (SparseConvNet, "caltech_pooled_mask", CALTECH_CONVS + 4 * 32 + CALTECH_LINEARS),
        (ConvNet, "caltech", CALTECH_CONVS + 4 * 32 + CALTECH_LINEARS),
        (ConvNetMask, "caltech", CALTECH_CONVS + 11**2 * 16 + 4 * 32 + CALTECH_LINEARS),
        (ConvNet, "caltech_convnet_as_run", AS_RUN_CONVS + 32 + AS_RUN_LINEARS),
    ],
)
def test_the_number_of_parameters_is_that_of_the_drawing(kind, architecture, parameters):
    assert count_parameters(kind(architecture)) == parameters


def inputs(sparsity=0.6, architecture="mnist"):
    generator = torch.Generator().manual_seed(0)
    shape = LAYERS[architecture].image
    image = torch.randn(3, *shape, generator=generator)
    return image, torch.rand(3, 1, *shape[1:], generator=generator) > sparsity


@pytest.mark.parametrize("architecture", LAYERS)
@pytest.mark.parametrize("model", NETWORKS)
def test_scores_are_one_a_class_and_no_mask_means_all_observed(model, architecture):
    image, mask = inputs(architecture=architecture)
    network = build(model, architecture).eval()
    scores = network(image)
    *_, last = LAYERS[architecture].layers
    assert scores.shape == ((3, last.features) if hasattr(last, "features") else (3, *LAYERS[architecture].image))
    for everything in (torch.ones_like(mask, dtype=torch.float32), torch.ones_like(mask[:1])):
        torch.testing.assert_close(network(image, everything), scores)


def test_a_name_builds_its_network():
    assert [type(build(model)) for model in ("SparseConvNet", "ConvNet", "ConvNet + mask")] == [
        SparseConvNet,
        ConvNet,
        ConvNetMask,
    ]


@pytest.mark.parametrize("architecture", LAYERS)
@pytest.mark.parametrize("model", ["ConvNet", *ALTERNATIVES])
def test_a_seed_gives_the_networks_of_as_many_channels_the_same_initial_weights(architecture, model):
    weights = []
    for name in ("SparseConvNet", model):
        torch.manual_seed(0)
        weights.append(build(name, architecture).state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_rescaled_start_is_the_same_but_for_the_first_weights():
    image, mask = inputs()
    networks = []
    for architecture in ("mnist", "mnist_rescaled"):
        torch.manual_seed(0)
        networks.append(SparseConvNet(architecture))
    plain, rescaled = (network.state_dict() for network in networks)
    assert torch.equal(rescaled.pop("layers.0.weight"), 25 * plain.pop("layers.0.weight"))
    assert all(torch.equal(rescaled[name], plain[name]) for name in plain)
    # With nothing missing it starts, but for the border, as a ConvNet does.
    torch.manual_seed(0)
    as_convnet, (sparse, _) = ConvNet().layers[0](image), networks[1].layers[0](image, torch.ones_like(mask))
    torch.testing.assert_close(sparse[..., 2:-2, 2:-2], as_convnet[..., 2:-2, 2:-2])


@pytest.mark.parametrize(
    "model",
    ["SparseConvNet", "first layer sparse", "mask without division", "partial convolution", "normalised convolution"],
)
@pytest.mark.parametrize("architecture", ["mnist", "caltech"])
def test_networks_with_masked_layers_never_see_the_value_of_a_missing_pixel(model, architecture):
    image, mask = inputs(architecture=architecture)
    torch.manual_seed(1)  # one of MNIST's few that start alive
    network = build(model, architecture).eval()
    scores = network(image, mask)
    assert torch.equal(network(torch.where(mask, image, torch.nan), mask), scores)
    assert not torch.equal(network(image), scores)


def test_convnet_ignores_the_mask_and_sees_missing_pixels_values():
    image, mask = inputs()
    network = ConvNet()
    assert torch.equal(network(image, mask), network(image))
    assert not torch.equal(network(torch.where(mask, image, 0), mask), network(image, mask))


def test_the_networks_are_those_that_an_experiment_names():
    assert tuple(NETWORKS) == MODELS + ALTERNATIVES
    assert len(set(NETWORKS.values())) == len(NETWORKS)


def test_a_rescaled_input_is_divided_by_the_share_of_its_image_that_is_observed():
    image, mask = inputs()
    mask[1] = True
    mask[2] = False  # of whose pixels none is known: none is seen
    network, plain = build("ConvNet, input rescaled"), ConvNet()
    plain.load_state_dict(network.state_dict())
    image = torch.where(mask, image, 0)
    shares = torch.tensor([mask[0].sum() / 784, 1, 1]).view(3, 1, 1, 1)
    torch.testing.assert_close(network(image, mask), plain(image / shares))
    torch.testing.assert_close(network(image, mask[:1]), plain(image / shares[:1]))
    assert not torch.allclose(network(image, mask)[0], plain(image)[0])


@pytest.mark.parametrize("architecture", ["mnist", "caltech", "range_image"])
def test_of_the_first_layer_sparse_the_others_are_plain(architecture):
    layers = [layer for layer in build("first layer sparse", architecture).layers if isinstance(layer, nn.Conv2d)]
    assert [isinstance(layer, MaskedLayer) for layer in layers] == [True] + [False] * (len(layers) - 1)
    image, mask = inputs(architecture=architecture)
    network = build("first layer sparse", architecture).eval()
    first = next(i for i, layer in enumerate(network.layers) if isinstance(layer, nn.Conv2d))
    *_, (scores, _) = network.trace(image, mask)
    filled, _ = network.trace(image, mask)[first + 1]
    torch.testing.assert_close(nn.Sequential(*network.layers[first + 1 :])(filled.clone()), scores)


def test_the_division_without_the_mask_is_that_of_sparse_convolutions_where_all_is_observed():
    image, mask = inputs(architecture="caltech")
    network, sparse = build("division without mask", "caltech").eval(), SparseConvNet("caltech").eval()
    sparse.load_state_dict(network.state_dict())
    assert torch.equal(network(image, mask), network(image))
    for layer, other in zip(network.layers, sparse.layers, strict=True):
        if isinstance(layer, nn.Conv2d):
            features = torch.randn(1, layer.in_channels, 20, 20)
            reach = layer.kernel_size[0] // 2
            inside = (..., slice(reach, -reach), slice(reach, -reach))
            torch.testing.assert_close(layer(features)[inside], other(features)[0][inside])


def test_the_mask_without_the_division_is_convnet_on_black_until_a_window_is_empty():
    image, mask = inputs(sparsity=0.3)
    network, plain = build("mask without division"), ConvNet()
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(image, mask), plain(torch.where(mask, image, 0)))
    *_, (_, last) = network.trace(image, mask)
    assert last.all()


@pytest.mark.parametrize(("model", "layer"), [("partial convolution", PartialConv2d)])
def test_an_empty_windows_zero_goes_on_as_missing(model, layer):
    image, mask = inputs(sparsity=0.999)
    network = build(model)
    features, seen = network.trace(image, mask)[1]
    assert isinstance(network.layers[0], layer) and 0 < seen.sum() < seen.numel()
    assert not features[~seen.expand_as(features)].any()


def test_confidences_go_on_by_channel_and_are_pooled_as_features_are():
    image, mask = inputs(sparsity=0.9, architecture="caltech")
    network = build("normalised convolution", "caltech").eval()
    steps = network.trace(image, mask)
    (_, confidence), *_ = [step for step, layer in zip(steps[1:], network.layers, strict=True)
                           if isinstance(layer, nn.Conv2d)]  # fmt: skip
    assert confidence.shape == (3, 16, 224, 224) and len(confidence.unique()) > 1000
    assert confidence.min() >= 0 and confidence.max() <= 1 + 1e-5
    (_, pooled), *_ = [step for step, layer in zip(steps[1:], network.layers, strict=True)
                       if isinstance(layer, nn.MaxPool2d)]  # fmt: skip
    assert torch.equal(pooled, F.max_pool2d(confidence, 2))


def test_convnet_with_mask_reacts_to_the_mask_and_to_missing_pixels_values():
    image, mask = inputs()
    network = ConvNetMask()
    assert not torch.equal(network(image, mask), network(image))
    assert not torch.equal(network(torch.where(mask, image, 0), mask), network(image, mask))
    assert torch.equal(network(image, mask.float()), network(image, mask))


def test_the_caltech_networks_maps_are_those_of_figure_5():
    image, mask = inputs(architecture="caltech")
    steps = SparseConvNet("caltech").eval().trace(image, mask)
    pooled = [features.shape[1:] for (features, _), layer in zip(steps[1:], LAYERS["caltech"].layers, strict=True)
              if isinstance(layer, MaxPool)]  # fmt: skip
    assert pooled == [(16, 112, 112), (16, 56, 56), (16, 28, 28), (16, 14, 14)]


@pytest.mark.parametrize(("architecture", "dilates"), [("caltech", True), ("caltech_pooled_mask", False)])
def test_the_caltech_mask_is_dilated_then_pooled_or_only_pooled(architecture, dilates):
    image, mask = inputs(sparsity=0.999, architecture=architecture)
    steps = SparseConvNet(architecture).eval().trace(image, mask)
    masks = [seen for (_, seen), layer in zip(steps[1:], LAYERS[architecture].layers, strict=True)
             if isinstance(layer, MaxPool)]  # fmt: skip
    expected = mask.float()
    for kernel, found in zip((11, 7, 5, 3), masks, strict=True):
        if dilates:
            expected = F.max_pool2d(expected, kernel, 1, kernel // 2)
        expected = F.max_pool2d(expected, 2)
        assert torch.equal(found, expected > 0)
    assert (masks[0].float().mean() > 0.01) == dilates


@pytest.mark.parametrize("model", [SparseConvNet, ConvNet])
def test_pooling_ahead_of_the_relu_changes_neither_scores_nor_gradients(model):
    image, mask = inputs(sparsity=0.5, architecture="caltech")
    torch.manual_seed(0)
    network = model("caltech")
    as_drawn = copy.deepcopy(network)
    layers = list(as_drawn.layers)
    for i in [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]:
        layers[i], layers[i + 1] = layers[i + 1], layers[i]
    as_drawn.layers = nn.ModuleList(layers)
    assert [str(layer) for layer in as_drawn.layers] != [str(layer) for layer in network.layers]
    for each in (network, as_drawn):
        torch.manual_seed(0)  # dropout
        each(image, mask).square().sum().backward()
    for ours, drawn in zip(network.parameters(), as_drawn.parameters(), strict=True):
        assert torch.equal(ours.grad, drawn.grad)


def test_the_published_caltech_convnet_has_one_batch_norm():
    norms = {id(layer) for layer in ConvNet("caltech_convnet_as_run").layers if isinstance(layer, nn.BatchNorm2d)}
    assert len(norms) == 1


@pytest.mark.parametrize("architecture", MNIST_TABLES)
def test_a_trace_holds_the_input_and_what_each_layer_made_of_it(architecture):
    image, mask = inputs(sparsity=0.95)
    network = SparseConvNet(architecture)
    steps = network.trace(image, mask)
    assert len(steps) == len(LAYERS[architecture].layers) + 1
    assert torch.equal(steps[0][0], image) and torch.equal(steps[0][1], mask)
    # ReLU works in place: it must not reach back into the step before.
    first, seen = network.layers[0](image, mask)
    assert torch.equal(steps[1][0], first) and (first < 0).any()
    assert torch.equal(steps[2][0], first.relu()) and torch.equal(steps[2][1], seen)
    assert torch.equal(steps[-1][0], network(image, mask))
    # Each 5 x 5 window that sees an observed pixel is observed itself: the mask grows.
    grown = torch.nn.functional.max_pool2d(mask.float(), 5, 1, 2) > 0
    assert torch.equal(seen, grown) and grown.sum() > mask.sum()


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(SettingError, match="'Convnet'.*'SparseConvNet', 'ConvNet', 'ConvNet . mask'"):
        build("Convnet")
    for make in (SparseConvNet, ConvNet, lambda name: build("ConvNet", name)):
        with pytest.raises(SettingError, match="'resnet'.*'mnist', .*'mnist_convnet_as_run'"):
            make("resnet")


def test_channels_at_work_are_those_that_the_relu_both_passes_and_stops():
    image, mask = torch.randn(8, 1, 28, 28), torch.ones(8, 1, 28, 28)
    for network in (SparseConvNet(), ConvNet()):
        with torch.no_grad():
            network.layers[0].bias[:] = 0
            network.layers[0].bias[:3] = 100
            network.layers[0].bias[3:5] = -100
        assert channels_at_work(network, image, mask) == 11


def test_output_variances_are_over_batch_and_places_and_leave_the_network_alone():
    image, mask = torch.randn(2, 3, 224, 224), torch.rand(2, 1, 224, 224) > 0.3
    sparse, plain = SparseConvNet("caltech").eval(), ConvNet("caltech").eval()
    with torch.no_grad():
        outputs = sparse.layers[0](image, mask)[0], plain.layers[0](image)
    for network, output in zip((sparse, plain), outputs, strict=True):
        before = copy.deepcopy(network.state_dict())
        variances = output_variances(network, image, mask)
        assert list(variances) == [f"convolution {i}" for i in range(1, 5)] + [f"linear layer {i}" for i in range(1, 4)]
        assert variances["convolution 1"] == pytest.approx(output.var(dim=(0, 2, 3)).mean().item(), rel=1e-4)
        assert not network.training
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    image, mask = torch.randn(4, 1, 28, 28), torch.ones(4, 1, 28, 28)
    network = ConvNet()
    with torch.no_grad():
        scores = network(image)
    assert output_variances(network, image, mask)["linear layer 2"] == pytest.approx(scores.var(dim=0).mean().item())


@pytest.mark.parametrize("model", NETWORKS)
def test_a_network_is_traced_as_one_graph(model):
    network = build(model, "caltech")
    image, mask = torch.randn(1, 3, 224, 224), torch.rand(1, 1, 224, 224) > 0.5
    traced = torch.compile(network, backend="eager", fullgraph=True)  # an error where it is not one
    with torch.no_grad():
        torch.testing.assert_close(traced.eval()(image, mask), network(image, mask))
