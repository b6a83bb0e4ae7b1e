"""PyTorch's own test inputs for its convolutions, through the sparse ones: the same outputs and gradients where all is
observed, or a refusal that names the argument."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

from sparsecnn import layers

# PyTorch's tests forbid the process to set cuDNN's flags, as soon as they are imported; training sets them.
torch.backends.disable_global_flags.__globals__["__allow_nonbracketed_mutation_flag"] = True

MODULES = {info.name.removeprefix("nn."): info for info in module_db}
FUNCTIONS = {info.name.removeprefix("nn.functional."): info for info in op_db}
NAMES = [f"{kind}{n}d" for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)]
DENSE = {"scale": "window", "padding_observed": True}


def outputs_and_gradients(call, tensors: list[Tensor]) -> list[Tensor]:
    out = call()
    pull = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad(out, tensors, pull)]


def full_mask(features: Tensor, spatial: int) -> Tensor:
    return torch.ones((*[1] * (features.dim() - spatial), *features.shape[-spatial:]), dtype=torch.bool)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_gives_what_pytorchs_gives(name, dtype):
    info = MODULES[name]
    inputs = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
    sparse = getattr(layers, f"Sparse{name}")
    count = 0
    for given in inputs:
        arguments, keywords = given.constructor_input.args, given.constructor_input.kwargs
        (features,) = given.forward_input.args
        plain = getattr(nn, name)(*arguments, **keywords, dtype=dtype)
        layer = sparse(*arguments, **keywords, dtype=dtype, **DENSE)
        layer.load_state_dict(plain.state_dict())
        mask = full_mask(features, sparse.dims)
        wanted = outputs_and_gradients(lambda: plain(features), [features, *plain.parameters()])  # noqa: B023
        for given_mask in (mask, None):
            found = outputs_and_gradients(
                lambda: layer(features, given_mask)[0],  # noqa: B023
                [features, *layer.parameters()],
            )
            torch.testing.assert_close(found, wanted)
        count += 1
    assert count >= 2


@pytest.mark.parametrize(
    "name", ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_a_function_gives_what_pytorchs_gives(name, dtype):
    plain, sparse = getattr(nn.functional, name), getattr(layers, f"sparse_{name}")
    spatial, count = int(name[-2]), 0
    for sample in FUNCTIONS[name].sample_inputs("cpu", dtype, requires_grad=True):
        weight, *rest = sample.args
        tensors = [tensor for tensor in (sample.input, weight, *rest) if isinstance(tensor, Tensor)]
        mask = full_mask(sample.input, spatial)

        def call():
            return sparse(sample.input, mask, weight, *rest, **sample.kwargs, **DENSE)[0]  # noqa: B023

        if dtype.is_complex:
            with pytest.raises(ValueError, match="features of dtype torch.complex64 are not allowed"):
                call()
        else:
            wanted = outputs_and_gradients(lambda: plain(sample.input, *sample.args, **sample.kwargs), tensors)  # noqa: B023
            torch.testing.assert_close(outputs_and_gradients(call, tensors), wanted)
        count += 1
    assert count >= 10
