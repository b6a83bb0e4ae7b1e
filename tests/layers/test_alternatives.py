"""The layers to compare with: each place by place as its paper has it, in float64, and what all of them keep."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparsecnn import SparseConv2d
from sparsecnn.layers import arithmetic, counting
from sparsecnn.layers.alternatives import MaskedConv2d, NormalizedConv2d, PartialConv2d

LAYERS = [PartialConv2d, MaskedConv2d, NormalizedConv2d]
GEOMETRIES = [
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 2), "groups": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": 1},
]


def inputs(channels=1, observed=0.4, dtype=torch.float64):
    """Features and a mask whose left part is all missing, so that windows can be empty."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 7, 9, generator=generator, dtype=dtype)
    mask = torch.rand(2, channels, 7, 9, generator=generator) < observed
    mask[..., :4] = False
    return features, mask


def made(kind, **geometry):
    torch.manual_seed(0)
    return kind(4, 6, **geometry).double()


def windows(layer, features, mask):
    """Each window in turn: where its sum comes to lie, its features and its mask (a channel each), its weights."""
    features, mask = features.numpy(), np.broadcast_to(mask.double().numpy(), features.shape)
    weight, (high, wide) = layer.weight.detach().numpy(), layer.kernel_size
    if layer.padding == "same":
        before = [d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    else:
        before = layer.padding
    around = [(0, 0), (0, 0), *((n, n) for n in before)]
    features, mask = np.pad(features, around), np.pad(mask, around)
    outputs, inputs = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    size = [
        (length - d * (k - 1) - 1) // s + 1
        for length, d, k, s in zip(features.shape[2:], layer.dilation, (high, wide), layer.stride, strict=True)
    ]
    for n, d, y, x in np.ndindex(len(features), layer.out_channels, *size):
        group = d // outputs
        rows = y * layer.stride[0] + layer.dilation[0] * np.arange(high)
        columns = x * layer.stride[1] + layer.dilation[1] * np.arange(wide)
        here = np.ix_(np.arange(group * inputs, (group + 1) * inputs), rows, columns)
        yield (n, d, y, x), features[n][here], mask[n][here], weight[d]


def by_loops(layer, features, mask):
    """What the layer must give, and its mask or confidence, a channel each."""
    found, seen = {}, {}
    bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
    for place, window, observed, weight in windows(layer, features, mask):
        b = float(bias[place[1]])
        match layer:
            case PartialConv2d():  # W^T (X . M) sum(1) / sum(M) + b, or 0; and 1 or 0
                some = observed.sum() > 0
                found[place] = (weight * window * observed).sum() * observed.size / observed.sum() + b if some else 0.0
                seen[place] = float(some)
            case MaskedConv2d():
                found[place], seen[place] = (weight * window * observed).sum() + b, float(observed.sum() > 0)
            case NormalizedConv2d():
                positive = np.log1p(np.exp(10 * weight)) / 10
                norm = (positive * observed).sum()
                found[place] = (positive * observed * window).sum() / (norm + 1e-8) + b
                seen[place] = norm / positive.sum()
    shape = [number + 1 for number in max(found)]
    return tuple(torch.tensor(list(numbers.values()), dtype=torch.float64).view(shape) for numbers in (found, seen))


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_its_papers_equation(kind, geometry, channels):
    layer, (features, mask) = made(kind, **geometry), inputs(channels)
    expected, expected_seen = by_loops(layer, features, mask)
    out, seen = layer(features, mask)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-7)  # the paper of partial convolutions has no eps
    torch.testing.assert_close(seen.double().expand_as(out), expected_seen)
    assert (expected_seen == 0).any() or kind is NormalizedConv2d or layer.kernel_size == (1, 1)
    one, one_seen = layer(features[0], mask[0])
    torch.testing.assert_close((one, one_seen), (out[0], seen[0]))


@given(st.integers(0, 1000))
def test_normalised_convolution_takes_any_confidence(seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, 4, 4, 5, generator=generator, dtype=torch.float64)
    confidence = torch.rand(1, 4, 4, 5, generator=generator, dtype=torch.float64)
    confidence[torch.rand(confidence.shape, generator=generator) < 0.3] = 0
    layer = made(NormalizedConv2d, kernel_size=3, padding=1)
    out, passed_on = layer(features, confidence)
    torch.testing.assert_close((out, passed_on), by_loops(layer, features, confidence), rtol=1e-6, atol=1e-9)
    assert (passed_on >= 0).all() and (passed_on <= 1 + 1e-12).all()
    # A mean lies between what it is of.
    assert ((out - layer.bias.view(-1, 1, 1)).abs() <= features.abs().max() + 1e-12).all()


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_are_those_of_differences(kind):
    features, mask = inputs()
    layer = kind(4, 2, 3, padding=1).double()

    def run(features, weight, bias, confidence=None):
        given = mask if confidence is None else confidence
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (features, given))

    values = (features[:1, :, :4, 2:6].clone().requires_grad_(), layer.weight, layer.bias)
    mask = mask[:1, :, :4, 2:6]
    assert torch.autograd.gradcheck(lambda *values: run(*values)[0], values)
    if kind is NormalizedConv2d:
        confidence = torch.rand(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(run, (*values, confidence))


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("kind", LAYERS)
def test_what_lies_under_a_zero_of_the_mask_changes_neither_output_nor_gradients(kind, garbage):
    layer, (features, mask) = made(kind, kernel_size=3, padding=1), inputs()

    def gradients(features):
        features = features.clone().requires_grad_()
        out, seen = layer(features, mask)
        return out.detach(), seen, *torch.autograd.grad(out.square().sum(), [features, *layer.parameters()])

    clean = gradients(torch.where(mask, features, 0))
    dirty = gradients(torch.where(mask, features, garbage))
    assert all(map(torch.equal, clean, dirty))
    missing = ~mask.expand_as(features)
    assert not dirty[2][missing].any() and dirty[2][~missing].any()


@pytest.mark.parametrize(
    ("dtype", "autocast"), [(half, autocast) for half in (torch.bfloat16, torch.float16) for autocast in (True, False)]
)
@pytest.mark.parametrize("kind", LAYERS)
def test_in_16_bits_it_stays_close_and_empty_windows_are_exact(kind, dtype, autocast):
    layer, (features, mask) = made(kind, kernel_size=3, padding=1), inputs()
    exact, _ = layer(features, mask)
    layer = layer.float() if autocast else layer.to(dtype)
    with torch.autocast("cpu", dtype, enabled=autocast):
        out, seen = layer(features.float() if autocast else features.to(dtype), mask)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), exact, rtol=3e-2, atol=3e-2)
    empty = (seen == 0).expand_as(out)
    bias = 0 * layer.bias if kind is PartialConv2d else layer.bias
    assert empty.any() and torch.equal(out[empty], bias.to(dtype).view(-1, 1, 1).expand_as(out)[empty])


@pytest.mark.parametrize("kind", LAYERS)
def test_an_empty_window_is_exact_however_sums_are_rounded(kind, monkeypatch):
    # Winograd convolutions, which cuDNN has, take neighbours into a sum and out again: a rounding error stays.
    layer, (features, mask) = made(kind, kernel_size=3, padding=1), inputs()
    before, _ = layer(features, mask)
    monkeypatch.setitem(counting.CONVOLVE, 2, lambda *args, **geometry: F.conv2d(*args, **geometry) - 1e-8)
    assert arithmetic.CONVOLVE is counting.CONVOLVE
    out, seen = layer(features, mask)
    empty = (seen == 0).expand_as(out)
    assert empty.any() and torch.equal(out[empty], before[empty]) and not (out == before)[~empty].all()


@pytest.mark.parametrize("kind", LAYERS)
def test_no_mask_means_all_observed(kind):
    layer, (features, mask) = made(kind, kernel_size=3, padding=1), inputs()
    for everything in (torch.ones_like(mask), torch.ones_like(mask[:1]), torch.full_like(features, 1)):
        torch.testing.assert_close(layer(features, everything)[0], layer(features)[0])


def test_with_all_observed_they_are_what_they_vary():
    features, _ = inputs()
    plain, inside = made(nn.Conv2d, kernel_size=3, padding=1), (..., slice(1, -1), slice(1, -1))
    expected = plain(features)
    torch.testing.assert_close(made(MaskedConv2d, kernel_size=3, padding=1)(features)[0], expected)
    partial, sparse = (made(kind, kernel_size=3, padding=1) for kind in (PartialConv2d, SparseConv2d))
    torch.testing.assert_close(partial(features)[0][inside], expected[inside])
    out, _ = sparse(features, inputs()[1])
    same, seen = partial(features, inputs()[1])
    bias = sparse.bias.view(-1, 1, 1)
    torch.testing.assert_close(torch.where(seen, same - bias, 0), 9 * (out - bias))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_mask_comes_out_as_the_layer_says(kind):
    layer, (features, mask) = made(kind, kernel_size=3, padding=1), inputs()
    for dtype in (torch.bool, torch.uint8, torch.float32, torch.float64):
        _, seen = layer(features, mask.to(dtype))
        assert seen.dtype == (features.dtype if kind is NormalizedConv2d else dtype)
    minus = layer(features, -mask.long())  # whatever is not 0 is observed
    torch.testing.assert_close(minus[0], layer(features, mask)[0], rtol=0, atol=0)
    assert torch.equal(minus[1] != 0, layer(features, mask)[1] != 0)
    twice = torch.where(mask, torch.tensor(255, dtype=torch.uint8), 0)  # as images have it
    assert all(map(torch.equal, layer(features, twice), layer(features, mask.to(torch.uint8)))) or (
        kind is not NormalizedConv2d and torch.equal(layer(features, twice)[0], layer(features, mask)[0])
    )


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda layer, features, mask: layer(features[:, :3], mask), "(2, 3, 7, 9)"),
        (lambda layer, features, mask: layer(features, mask[..., :5]), "(2, 1, 7, 5)"),
        (lambda layer, features, mask: layer(features.long(), mask), "torch.int64"),
        (lambda layer, features, mask: layer(7, mask), "int"),
        (lambda layer, features, mask: layer(features, 7), "int"),
        (lambda layer, features, mask: layer(features[..., :2], mask[..., :2]), "its window is larger"),
        (lambda layer, features, mask: type(layer)(4, 0, 3), "out_channels=0"),
        (lambda layer, features, mask: type(layer)(4, 6, 3, groups=4), "groups=4"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(kind, call, named):
    layer, (features, mask) = made(kind, kernel_size=3), inputs()
    with pytest.raises(ValueError) as refusal:
        call(layer, features, mask)
    assert named in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("argument", ["padding_mode", "scale", "padding_observed", "eps"])
def test_they_have_no_arguments_without_a_meaning(kind, argument):
    with pytest.raises(TypeError, match=argument):
        kind(4, 6, 3, **{argument: 0})


def test_masks_are_not_confidences_but_where_they_weigh():
    features, mask = inputs()
    for kind in (PartialConv2d, MaskedConv2d):
        with pytest.raises(ValueError, match="0.5"):
            made(kind, kernel_size=3)(features, 0.5 * mask.double())


@pytest.mark.parametrize("kind", LAYERS)
def test_weights_and_state_are_conv2ds(kind):
    plain, layer = made(nn.Conv2d, kernel_size=3), made(kind, kernel_size=3)
    assert layer.state_dict().keys() == plain.state_dict().keys()
    assert all(map(torch.equal, layer.state_dict().values(), plain.state_dict().values()))


@pytest.mark.parametrize("kind", LAYERS)
def test_it_compiles_whole(kind):
    layer, (features, mask) = made(kind, kernel_size=3, padding=1), inputs()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(features, mask), layer(features, mask))
