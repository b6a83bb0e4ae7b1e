"""Tensors of any kind, and what is none, as any argument: taken, or refused in one line that names it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecnn import layers

DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.complex64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
]


@st.composite
def tensors(draw):
    """Of 0 to 6 axes, on a device or another, dense or not."""
    shape = draw(st.lists(st.integers(0, 4), max_size=6))
    tensor = torch.ones(shape).to(draw(st.sampled_from(DTYPES)))
    if draw(st.integers(0, 5)) == 0:
        return tensor.to("meta")
    if draw(st.integers(0, 5)) == 0 and tensor.dtype == torch.float32:
        return tensor.to_sparse()
    return tensor


@st.composite
def near_misses(draw):
    """What fits but for a dtype or the length of an axis."""
    shape = draw(st.sampled_from([(2, 2, 5, 4), (1, 1, 5, 4), (2, 2, 3, 3), (2,), (2, 5, 4), (1, 5, 4)]))
    return torch.ones(shape, dtype=draw(st.sampled_from(DTYPES)))


anything = (
    tensors()
    | near_misses()
    | st.none()
    | st.sampled_from([1, "a", 0.5, [[1.0]], (1, 2), {}, np.ones((2, 1, 5, 4)), np.ones(2), torch.nn.Linear(1, 1)])
)
GIVEN = {
    "features": torch.ones(2, 2, 5, 4),
    "mask": torch.ones(2, 1, 5, 4),
    "weight": torch.ones(2, 2, 3, 3),
    "bias": torch.ones(2),
}
LAYERS = {
    "SparseMaxPool2d": layers.SparseMaxPool2d(2),
    "SparseAvgPool2d": layers.SparseAvgPool2d(2),
    "SparseAdaptiveAvgPool2d": layers.SparseAdaptiveAvgPool2d(1),
    "SparseBatchNorm2d": layers.SparseBatchNorm2d(2),
}
CALLS = {name: (getattr(layers, name), GIVEN) for name in ("sparse_conv2d", "sparse_conv_transpose2d")}
CALLS |= {name: (layer, {each: GIVEN[each] for each in ("features", "mask")}) for name, layer in LAYERS.items()}


@pytest.mark.parametrize(("call", "argument"), [(call, name) for call, (_, given) in CALLS.items() for name in given])
@given(value=anything)
@settings(max_examples=60)
def test_any_tensor_is_taken_or_refused_in_one_line(call, argument, value):
    function, given = CALLS[call]
    try:
        out, seen = function(**given | {argument: value})
    except ValueError as error:
        assert argument in str(error) and "\n" not in str(error)
        assert "not allowed" in str(error) or "does not fit" in str(error)
    else:
        assert out.dim() in (3, 4) and (seen is None or seen.shape[-2:] == out.shape[-2:])


@pytest.mark.parametrize("kind", ["mask", "weight", "bias"])
def test_another_device_is_refused_with_both(kind):
    with pytest.raises(ValueError, match=f"^{kind} on meta does not fit features on cpu: move one .*$"):
        layers.sparse_conv2d(**GIVEN | {kind: GIVEN[kind].to("meta")})


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_another_dtype_is_refused_with_both(kind):
    with pytest.raises(ValueError, match=f"^{kind} of dtype torch.float64 does not fit features of .*float32$"):
        layers.sparse_conv2d(**GIVEN | {kind: GIVEN[kind].double()})
