"""The functions against the equations, place by place, over all arguments together; and against PyTorch's own."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import cases, equation, of_channels, random_mask, transposed_equation

from sparsecnn import layers

DENSE = {"scale": "window", "padding_observed": True}  # with which a full mask gives what PyTorch gives


def function(dims, transposed=False):
    return getattr(layers, f"sparse_conv{'_transpose' * transposed}{dims}d")


@pytest.mark.parametrize(("channels", "kernel"), [(8, 11), (4, 8), (1, 16), (1, 17)])
def test_a_windows_count_may_be_more_than_a_byte_holds(channels, kernel):
    features, weight = torch.randn(1, channels, 20, 20), torch.randn(3, channels, kernel, kernel)
    full = torch.ones(features.shape, dtype=torch.bool)
    for mask in (full, full[:, :1]):
        out, seen = layers.sparse_conv2d(features, mask, weight)
        torch.testing.assert_close(out, F.conv2d(features, weight) / kernel**2)
        assert seen.all()


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@given(data=st.data())
@settings(max_examples=40)
def test_it_is_the_papers_equation_whatever_the_arguments(dims, transposed, data):
    (features, mask, *rest), keywords = data.draw(cases(dims, transposed))
    if mask is None:
        features = features.nan_to_num(0, 0, 0).clamp(-9, 9)
    out, seen = function(dims, transposed)(features, mask, *rest, **keywords)
    wanted, wanted_seen = (transposed_equation if transposed else equation)(features, mask, *rest, **keywords)
    torch.testing.assert_close(out, wanted, rtol=1e-9, atol=1e-12)
    assert torch.equal(of_channels(seen, out), wanted_seen)
    assert seen.dtype == (torch.bool if mask is None else mask.dtype) and len(seen) == (
        1 if mask is None else len(mask)
    )

    weight, bias, *order = rest
    single = [None if tensor is None else tensor.float() for tensor in (weight, bias)]
    out, _ = function(dims, transposed)(features.float(), mask, *single, *order, **keywords)
    torch.testing.assert_close(out, wanted.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@given(data=st.data())
@settings(max_examples=30)
def test_where_all_is_observed_it_is_pytorchs(dims, transposed, data):
    (features, _, weight, bias, *order), keywords = data.draw(cases(dims, transposed))
    features = torch.randn(features.shape, dtype=torch.float64)
    mode, padding = keywords.pop("padding_mode", "zeros"), order[1]
    plain = getattr(F, f"conv{'_transpose' * transposed}{dims}d")
    if mode == "zeros":
        wanted = plain(features, weight, bias, *order)
    else:
        module = getattr(torch.nn, f"Conv{dims}d")
        stride, padding, dilation, groups = order
        module = module(features.shape[1], len(weight), weight.shape[2:], stride, padding, dilation, groups,
                        bias is not None, mode, dtype=torch.float64)  # fmt: skip
        module.weight.data = weight
        if bias is not None:
            module.bias.data = bias
        wanted = module(features)
        keywords["padding_mode"] = mode
    mask = data.draw(st.sampled_from([None, torch.ones(features.shape[2:], dtype=torch.bool)[None, None]]))
    out, seen = function(dims, transposed)(features, mask, weight, bias, *order, **keywords | DENSE)
    torch.testing.assert_close(out, wanted)
    assert seen.all()
    one, seen_of_one = function(dims, transposed)(
        features[0], None if mask is None else mask[0], weight, bias, *order, **keywords | DENSE
    )
    torch.testing.assert_close(one, out[0])
    assert torch.equal(seen_of_one, seen[0])


GEOMETRIES = [
    {"padding": 1},
    {"stride": 2, "padding": (1, 0), "dilation": (1, 2), "groups": 2},
    {"padding": "same", "padding_mode": "reflect", "scale": "window"},
    {"padding": 1, "padding_observed": True, "scale": "window", "eps": 0.5},
    {"padding": (2, 1), "padding_mode": "circular", "padding_observed": True},
    {"groups": 2, "channels": 2, "padding_mode": "replicate", "padding": 1},
    {"channels": 2},
]
WAYS = [
    (torch.autograd.gradcheck, {"check_forward_ad": True, "check_batched_grad": True}),
    (torch.autograd.gradgradcheck, {"check_fwd_over_rev": True, "check_batched_grad": True, "fast_mode": True}),
]


@pytest.mark.parametrize("arguments", GEOMETRIES, ids=str)
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
def test_derivatives_are_right_forwards_backwards_and_in_batches(transposed, arguments):
    arguments_given, arguments = arguments, dict(arguments)
    generator = torch.Generator().manual_seed(0)
    mask = random_mask(generator, (1, arguments.pop("channels", 1), 3, 4), 0.5)
    mask[..., :2] = False  # for an empty window
    if transposed:
        arguments.pop("padding_mode", None)
        arguments["padding"] = 1 if arguments.get("padding", 0) != 0 else 0
    features = torch.randn(1, 2, 3, 4, generator=generator, dtype=torch.float64)
    groups = arguments.get("groups", 1)
    weight = torch.randn(2, 2 // groups, 2, 2, generator=generator, dtype=torch.float64)
    bias = torch.randn(2, generator=generator, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (features, weight, bias)]
    call = functools.partial(function(2, transposed), **arguments)
    for check, ways in WAYS[: 1 + (GEOMETRIES.index(arguments_given) < 3)]:  # the second take ten times as long
        assert check(lambda x, w, b: call(x, mask, w, b)[0], inputs, **ways)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
def test_derivatives_are_right_in_one_and_three_dimensions(dims, transposed):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 2, *[3] * dims, generator=generator, dtype=torch.float64)
    mask = random_mask(generator, (2, 1, *[3] * dims), 0.5)
    weight, bias = torch.randn(2, 2, *[2] * dims, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (features, weight, bias)]
    call = function(dims, transposed)
    assert torch.autograd.gradcheck(lambda x, w, b: call(x, mask, w, b, stride=2, padding=1)[0], inputs)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_mask_for_each_channel_alike_is_one_mask_for_all(groups):
    generator = torch.Generator().manual_seed(0)
    features, mask = torch.randn(2, 4, 7, 6, generator=generator), random_mask(generator, (2, 1, 7, 6), 0.4)
    weight = torch.randn(8, 4 // groups, 3, 3, generator=generator)
    wanted, wanted_seen = layers.sparse_conv2d(features, mask, weight, padding=1, groups=groups)
    out, seen = layers.sparse_conv2d(features, mask.expand(-1, 4, -1, -1), weight, padding=1, groups=groups)
    torch.testing.assert_close(out, wanted)
    assert torch.equal(seen, wanted_seen.expand(-1, 1 if groups == 1 else 8, -1, -1))


def test_a_place_that_a_stride_leaves_out_holds_the_bias():
    weight, bias = torch.ones(1, 1, 1, dtype=torch.float64), torch.full((1,), 0.5, dtype=torch.float64)
    features = torch.full((1, 1, 2), 3, dtype=torch.float64)
    out, seen = layers.sparse_conv_transpose1d(features, None, weight, bias, stride=3)
    torch.testing.assert_close(out[0, 0], torch.tensor([3.5, 0.5, 0.5, 3.5], dtype=torch.float64))
    assert seen[0, 0].tolist() == [True, False, False, True]
    assert layers.sparse_conv_transpose1d(features, None, weight, bias, stride=3, padding_observed=True)[1].all()
