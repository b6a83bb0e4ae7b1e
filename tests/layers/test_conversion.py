"""Whole networks with masks."""

import pytest
import torch
import torchvision
from torch import nn

from sparsecnn import layers
from sparsecnn.layers import masks_through


def lively(network):
    """With running statistics other than 0 and 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return lively(torchvision.models.resnet18(weights=None))


@pytest.fixture(scope="module")
def image():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_resnet_18_gives_its_scores_where_all_is_observed(resnet, image):
    sparse, wanted = masks_through(resnet), resnet(image)
    assert wanted.std() > 0.1
    for mask in (torch.ones(2, 1, 64, 64), torch.ones(1, 1, 64, 64, dtype=torch.bool), None):
        torch.testing.assert_close(sparse(image, mask), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sparse(image), wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_in_resnet_18_masks_flow_so_that_nothing_missing_matters(resnet, image):
    sparse = masks_through(resnet)
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    mask[:, :, :32] = torch.rand(2, 1, 32, 64, generator=torch.Generator().manual_seed(2)) < 0.5
    scores = sparse(torch.where(mask, image, torch.nan), mask)
    assert torch.equal(scores, sparse(torch.where(mask, image, 1e30), mask)) and scores.isfinite().all()
    assert not torch.allclose(scores, resnet(image), rtol=0.01)
    one = sparse(torch.where(mask, image, torch.nan)[:1], mask[:1])  # no image has a part in another's
    torch.testing.assert_close(one, scores[:1], rtol=1e-4, atol=1e-4)


def test_the_parameters_are_the_networks_own_and_training_moves_them(resnet, image):
    sparse = masks_through(resnet)
    assert list(sparse.state_dict()) == list(resnet.state_dict())
    parameters = dict(resnet.named_parameters())
    assert all(parameter is parameters[name] for name, parameter in sparse.named_parameters())
    assert isinstance(resnet.conv1, nn.Conv2d) and type(resnet.conv1) is nn.Conv2d  # the network is as it was
    sparse(image, torch.rand(2, 1, 64, 64) < 0.5).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in resnet.parameters())
    resnet.zero_grad()


@torch.no_grad()
def test_by_the_papers_count_the_scores_are_others(resnet, image):
    sparse = masks_through(resnet, scale="count", padding_observed=False, eps=0)
    first = sparse.get_submodule("conv1")
    assert isinstance(first, layers.SparseConv2d)
    assert (first.scale, first.padding_observed, first.eps) == ("count", False, 0)
    assert not torch.allclose(sparse(image), resnet(image), rtol=0.01)


@torch.no_grad()
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_networks_with_concatenations_and_products_give_their_scores_too(name, image):
    torch.manual_seed(0)
    network = lively(getattr(torchvision.models, name)(weights=None))
    sparse = masks_through(network)
    torch.testing.assert_close(sparse(image), network(image), rtol=1e-3, atol=1e-5)
    mask = torch.rand(2, 1, 64, 64) < 0.5
    assert sparse(torch.where(mask, image, torch.nan), mask).isfinite().all()


class Of(nn.Module):
    """A convolution and what ``then`` makes of its features."""

    def __init__(self, then):
        super().__init__()
        self.conv, self.then = nn.Conv2d(3, 4, 3, padding=1), then

    def forward(self, image):
        return self.then(self.conv(image))


def test_features_that_are_returned_come_with_their_mask(image):
    torch.manual_seed(0)
    network = Of(nn.Sequential(nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 2, 1)))
    mask = torch.rand(2, 1, 64, 64) < 0.1
    out, seen = masks_through(network, padding_observed=False)(image, mask)
    assert out.shape == (2, 2, 32, 32) and seen.shape == (2, 1, 32, 32)
    assert torch.equal(seen, torch.nn.functional.max_pool2d(mask.float(), 4, 2, 1).bool())


def test_a_sum_counts_the_terms_that_are_observed():
    a, b = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), torch.tensor([[[[10.0, 20.0, 30.0, 40.0]]]])
    of_a, of_b = torch.tensor([[[[True, True, False, False]]]]), torch.tensor([[[[True, False, True, False]]]])
    out, seen = layers.conversion.masked_sum(a, of_a, b, of_b)
    assert out.flatten().tolist() == [11, 2, 30, 0] and seen.flatten().tolist() == [True, True, True, False]
    out, seen = layers.conversion.masked_product(a, of_a, b, of_b)
    assert out.flatten()[0] == 10 and seen.flatten().tolist() == [True, False, False, False]
    assert layers.conversion.masked_sum(a, of_a, 1, None)[1] is of_a
    out, seen = layers.conversion.masked_cat(a, of_a, b, None)
    assert seen.shape == (1, 2, 1, 4) and seen[0, 1].all()
    assert layers.conversion.masked_mean(a, of_a, (2, 3)).item() == 1.5


@pytest.mark.parametrize(("function", "wanted"), [("masked_sum", [4, 5, 6, 7]), ("masked_product", [3, 6, 9, 12])])
def test_what_has_no_mask_is_everywhere_and_leaves_the_others_as_it_is(function, wanted):
    a, of_a = torch.tensor([[[[1.0, 2, 3, 4]]]]), torch.tensor([[[[True, True, False, False]]]])
    for three in (3, torch.full_like(a, 3)):
        for terms in ((a, of_a, three, None), (three, None, a, of_a)):
            out, seen = getattr(layers.conversion, function)(*terms)
            assert out.flatten().tolist() == wanted and seen is of_a


@pytest.mark.parametrize("dim", [(2, 3), [3, 2], (-1, -2)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_a_mean_is_over_the_observed_places_of_each_image_and_0_without_any(dim, keepdim):
    features = torch.arange(1.0, 25).view(3, 2, 2, 2)
    mask = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 0, 1]]).view(3, 1, 2, 2)
    mean = layers.conversion.masked_mean(features / mask, mask, dim, keepdim)  # inf where missing
    assert mean.shape == ((3, 2, 1, 1) if keepdim else (3, 2))
    expected = [0, 0, 11, 15, (17 + 18 + 20) / 3, (21 + 22 + 24) / 3]
    torch.testing.assert_close(mean.flatten(), torch.tensor(expected))
    everywhere = layers.conversion.masked_mean(features, None, dim, keepdim)
    torch.testing.assert_close(everywhere, features.mean((2, 3), keepdim))


@pytest.mark.parametrize("dim", [1, 2, -1, (2,), (3,), (0, 2, 3), (1, 2, 3), (2, 2)])
def test_a_mean_over_other_axes_is_refused(dim):
    features = torch.ones(1, 1, 2, 2)
    for mask in (features, None):
        with pytest.raises(
            ValueError, match=r"^dim=.* is not allowed on features under a mask: all axes but the first"
        ):
            layers.conversion.masked_mean(features, mask, dim)


@torch.no_grad()
def test_more_inputs_come_behind_the_mask_and_have_none(image):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, image, gain, offset=0.5):
            return self.conv(image) * gain + offset

    network, mask = Scaled(), torch.rand(2, 1, 64, 64) < 0.1
    sparse, gain = masks_through(network), torch.randn(1, 4, 1, 1)
    conv = layers.SparseConv2d.from_conv2d(network.conv)
    features, seen = conv(image, mask)
    for more in ((), (2.0,)):
        out, seen_there = sparse(image, mask, gain, *more)
        torch.testing.assert_close(out, features * gain + (*more, 0.5)[0])
        assert torch.equal(seen_there, seen)
        torch.testing.assert_close(sparse(image, None, gain, *more)[0], network(image, gain, *more))


@torch.no_grad()
@pytest.mark.parametrize(
    "then",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.reshape(x.shape[0], -1) / x.size()[2],
        lambda x: x.flatten(1) * x.dim(),
    ],
)
def test_features_may_be_asked_for_their_size(then, image):
    network = Of(then)
    torch.testing.assert_close(masks_through(network)(image), network(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("then", "named"),
    [
        (nn.LayerNorm(64), r"layer then \(LayerNorm\)"),
        (nn.Linear(64, 2), r"layer then \(Linear\)"),
        (lambda x: x.softmax(1), "operation softmax"),
        (lambda x: x[:, :2], "operation getitem"),
        (nn.MaxPool2d(2, return_indices=True), "return_indices=True"),
        (lambda x: nn.functional.max_pool2d(x.view(2, 4, 64, 64), 2), "where masks have ended"),
    ],
)
def test_what_nothing_stands_for_is_refused_by_name(then, named):
    with pytest.raises(ValueError, match=named):
        masks_through(Of(then))


def test_a_network_that_torch_fx_can_not_trace_is_refused():
    with pytest.raises(ValueError, match=r"^Of is not allowed: torch.fx can't trace it .*$"):
        masks_through(Of(lambda x: x if x.sum() > 0 else -x))
    with pytest.raises(ValueError, match="^network of type int is not allowed"):
        masks_through(3)


class Mine(nn.Conv2d):
    pass


def test_only_pytorchs_own_layers_are_taken_over():
    with pytest.raises(ValueError, match="^conv of type Mine is not allowed: torch.nn.Conv2d$"):
        layers.SparseConv2d.from_conv2d(Mine(1, 1, 3))
    with pytest.raises(ValueError, match="^conv of type Conv1d is not allowed: torch.nn.Conv2d$"):
        layers.SparseConv2d.from_conv2d(nn.Conv1d(1, 1, 3))
    with pytest.raises(ValueError, match="operation conv2d"):
        masks_through(Of(Mine(4, 4, 1)))


NAMES = (("Conv", "conv"), ("ConvTranspose", "conv_transpose"))
KINDS = [(f"{kind}{n}d", f"from_{name}{n}d", n) for kind, name in NAMES for n in (1, 2, 3)]


@pytest.mark.parametrize(("kind", "method", "dims"), KINDS)
def test_a_trained_convolution_is_taken_over_and_gives_the_same(kind, method, dims):
    plain = getattr(nn, kind)(4, 6, 3, stride=2, padding=1, groups=2, dtype=torch.float64).eval()
    layer = getattr(getattr(layers, f"Sparse{kind}"), method)(plain)
    assert layer.weight is plain.weight and layer.bias is plain.bias and not layer.training
    features = torch.randn(2, 4, *[7] * dims, dtype=torch.float64)
    torch.testing.assert_close(layer(features)[0], plain(features))
    paper = getattr(getattr(layers, f"Sparse{kind}"), method)(plain, scale="count", padding_observed=False)
    assert (paper.scale, paper.padding_observed) == ("count", False)
