"""What the layers take, and the one line that refuses the rest; and what of their tensors Python may look at."""

import math
import numbers
import operator

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SCALES = ("count", "window")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
AXES = ("", " x L", " x H x W", " x D x H x W")  # by their number


def whole(name: str, value, least: int) -> int:
    """``value`` as an int: one of Python's, of numpy's or a tensor without axes; bool is none."""
    number = _int(value)
    if number is None or number < least:
        raise ValueError(f"{name}={value!r} is not allowed: a whole number of at least {least}")
    return number


def whole_numbers(name: str, value, dims: int, least: int) -> tuple[int, ...]:
    """One number an axis, from a number for all of them, or a tuple or list."""
    if type(value) is tuple and len(value) == dims and set(map(type, value)) == {int} and min(value) >= least:
        return value  # as modules give them
    many = value if isinstance(value, (tuple, list)) else (value,)
    found = tuple(_int(number) for number in many)
    if len(found) not in (1, dims) or any(number is None or number < least for number in found):
        others = ", or a pair" if dims == 2 else f", or {dims} of them" if dims > 2 else ""
        words = ", 'same' or 'valid'" if name == "padding" else ""
        raise ValueError(f"{name}={value!r} is not allowed: a whole number of at least {least}{others}{words}")
    return found * dims if len(found) == 1 else found


def _int(value) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, bool) or (isinstance(value, Tensor) and (value.dim() > 0 or value.dtype == torch.bool)):
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):
        return None


def padding_of(value, dims: int, stride: tuple[int, ...]) -> tuple[int, ...] | str:
    """As :func:`whole_numbers`, or "same", which goes with a stride of 1 alone."""
    if isinstance(value, str) and value in ("same", "valid"):
        if value == "same" and any(step != 1 for step in stride):
            raise ValueError(f"stride={stride!r} is not allowed with padding='same': 1")
        return value if value == "same" else (0,) * dims
    return whole_numbers("padding", value, dims, 0)


def channels_of(in_channels, out_channels, groups) -> tuple[int, int, int]:
    """The three as ints, where groups divides both numbers of channels."""
    in_channels, out_channels = whole("in_channels", in_channels, 1), whole("out_channels", out_channels, 1)
    groups = whole("groups", groups, 1)
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"groups={groups} is not allowed: a divisor of in_channels={in_channels} and out_channels={out_channels}"
        )
    return in_channels, out_channels, groups


def one_of(name: str, value, allowed: tuple) -> None:
    for choice in allowed:
        if value is choice or (isinstance(value, str) and value == choice):
            return
    raise ValueError(f"{name}={value!r} is not allowed: {', '.join(map(repr, allowed))}")


def eps_of(value) -> float:
    if type(value) is float and 0 <= value < math.inf:
        return value
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if isinstance(value, Tensor):
        is_number = value.dim() == 0 and value.dtype != torch.bool and not value.is_complex() and not value.is_meta
    if not is_number or not 0 <= value < math.inf:
        raise ValueError(f"eps={value!r} is not allowed: a number of at least 0")
    return float(value)


def factory_of(device, dtype) -> dict:
    """The two keywords with which PyTorch's modules make their parameters."""
    if not (dtype is None or (isinstance(dtype, torch.dtype) and dtype in FLOATS)):
        raise ValueError(f"dtype={dtype!r} is not allowed: None, {', '.join(map(str, FLOATS))}")
    try:
        torch.empty(0, device=device)
    except Exception:  # of a kind for each way to be no device, or one that is not there
        raise ValueError(f"device={device!r} is not allowed: None, or a device of this machine") from None
    return {"device": device, "dtype": dtype}


def check_tensors(features, mask, spatial: int) -> None:
    """Features with so many axes beside their channels, a batch or a single one, and a mask that fits, or None."""
    check_dense("features", features)
    if features.dtype not in FLOATS:
        raise ValueError(f"features of dtype {features.dtype} are not allowed: {', '.join(map(str, FLOATS))}")
    if features.dim() - spatial not in (1, 2):
        raise ValueError(
            f"features {tuple(features.shape)} are not allowed: N x C{AXES[spatial]}, or one image C{AXES[spatial]}"
        )
    if mask is None:
        return
    check_dense("mask", mask)
    if mask.is_complex() or (mask.is_floating_point() and mask.dtype not in FLOATS):
        raise ValueError(
            f"mask of dtype {mask.dtype} is not allowed: bool, whole numbers, {', '.join(map(str, FLOATS))}"
        )
    if mask.device != features.device:
        raise ValueError(f"mask on {mask.device} does not fit features on {features.device}: move one to the other")
    if mask.is_floating_point() and mask.requires_grad:
        raise ValueError(
            "mask that requires a gradient is not allowed, since an observed place weighs 1 and a missing one 0: "
            "give mask > 0; confidences are for normalised convolution, which weighs by them"
        )
    if torch.jit.is_tracing():  # where sizes are no numbers
        return
    channels = features.dim() - spatial - 1
    fits = (
        mask.dim() == features.dim()
        and (channels == 0 or mask.shape[0] in (1, features.shape[0]))
        and mask.shape[channels] in (1, features.shape[channels])
        and mask.shape[channels + 1 :] == features.shape[channels + 1 :]
    )
    if not fits:
        raise ValueError(
            f"mask {tuple(mask.shape)} does not fit features {tuple(features.shape)}: expected as many axes, 1 channel "
            "or the features', a batch of 1 or the features', and the rest alike"
        )


def check_dense(name: str, tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} of type {type(tensor).__name__} is not allowed: a tensor")
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} of layout {tensor.layout} is not allowed: torch.strided, a dense tensor")


def check_parameters(features: Tensor, weight, bias, channels: int, outputs: int) -> None:
    """``channels``, ``outputs``: how many the weight takes and gives."""
    check_dense("weight", weight)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        check_dense(name, tensor)
        if tensor.device != features.device:
            raise ValueError(f"{name} on {tensor.device} does not fit features on {features.device}: move one of them")
        if tensor.dtype != features.dtype and not autocasts(features.device.type):
            raise ValueError(f"{name} of dtype {tensor.dtype} does not fit features of dtype {features.dtype}")
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(
            f"bias {tuple(bias.shape)} does not fit weight {tuple(weight.shape)}: expected {outputs} numbers"
        )
    if not torch.jit.is_tracing() and features.shape[1] != channels:
        raise ValueError(
            f"weight {tuple(weight.shape)} does not fit features {tuple(features.shape)}: it takes {channels} channels"
        )


def check_weight(features: Tensor, weight, dims: int, groups: int, shape: str) -> None:
    check_dense("weight", weight)
    if weight.dim() != dims + 2 or 0 in weight.shape:
        raise ValueError(
            f"weight {tuple(weight.shape)} does not fit features {tuple(features.shape)}: "
            f"expected {shape} x {' x '.join('KLM'[:dims])}"
        )
    if weight.shape[0] % groups:
        raise ValueError(f"groups={groups} is not allowed: a divisor of {weight.shape[0]}, as the weight has it")


def check_choices(scale, padding_observed, padding_mode="zeros") -> None:
    one_of("scale", scale, SCALES)
    one_of("padding_observed", padding_observed, (True, False))
    one_of("padding_mode", padding_mode, PADDING_MODES)


def check_window(features: Tensor, weight: Tensor, padding, edges, dilation, padding_mode: str) -> None:
    """What the arguments must be together, each of them allowed. Compiled, exported or traced the sizes stay open."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return
    for size, length, edge, apart in zip(weight.shape[2:], features.shape[2:], edges, dilation, strict=True):
        if length + sum(edge) < apart * (size - 1) + 1:
            raise ValueError(
                f"weight {tuple(weight.shape)} with padding={padding!r} and dilation={dilation!r} does not fit "
                f"features {tuple(features.shape)}: its window is larger than the padded image"
            )
        most = {"reflect": length - 1, "circular": length}.get(padding_mode, math.inf)
        if max(edge) > most:
            raise ValueError(
                f"padding={padding!r} with padding_mode={padding_mode!r} is not allowed for features "
                f"{tuple(features.shape)}: at most {most} on an axis of {length}"
            )


def check_output_padding(output_padding, stride, dilation) -> None:
    if any(more >= max(step, apart) for more, step, apart in zip(output_padding, stride, dilation, strict=True)):
        raise ValueError(
            f"output_padding={output_padding!r} is not allowed with stride={stride!r} and dilation={dilation!r}: "
            "less than one of them"
        )


def check_room(features: Tensor, kernel, stride, padding, output_padding, dilation) -> None:
    """Whether a transposed convolution's padding leaves a pixel."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return
    geometry = zip(features.shape[2:], kernel, stride, padding, output_padding, dilation, strict=True)
    for length, size, step, off, more, apart in geometry:
        if (length - 1) * step - 2 * off + apart * (size - 1) + more + 1 < 1:
            raise ValueError(
                f"padding={padding!r} is not allowed for features {tuple(features.shape)}: it leaves no pixel"
            )


# Asked here, since PyTorch 2.11 does not compile the question.
AUTOCAST = {kind for kind in ("cpu", "cuda", "mps", "xpu", "hpu", "mtia") if torch.amp.is_autocast_available(kind)}


def autocasts(device: str) -> bool:
    return device in AUTOCAST and torch.is_autocast_enabled(device)


def may_look(tensor: Tensor) -> bool:
    """Whether a branch on values is open: not where a call is recorded, transformed or works without values."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or type(tensor) not in (Tensor, torch.nn.Parameter)
        or tensor.is_meta
        or torch._C._len_torch_dispatch_stack() > 0  # FakeTensorMode, make_fx
        or is_transformed(tensor)
        or (tensor.is_cuda and torch.cuda.is_current_stream_capturing())
    )


def is_transformed(tensor: Tensor) -> bool:
    """Whether torch.func, vmap or forward-mode differentiation are at work, which don't see into functions of ours."""
    return (
        torch._C._are_functorch_transforms_active()
        or torch._C._functorch.is_legacy_batchedtensor(tensor)  # autograd.grad(is_grads_batched=True)
        or torch.autograd.forward_ad._current_level >= 0
    )


def observed_of(features: Tensor, mask: Tensor | None, spatial: int) -> Tensor:
    """The mask as bool: any number but 0 is observed, and all is for None.

    Raises:
        ValueError: for a number that is not whole, in a floating mask whose values may be looked at.
    """
    if mask is None:
        around = (1,) * (features.dim() - spatial)
        return torch.ones((*around, *features.shape[len(around) :]), dtype=torch.bool, device=features.device)
    if mask.is_floating_point() and may_look(mask) and not torch.equal(mask, mask.floor()):
        wrong = mask[mask != mask.floor()].flatten()[0].item()
        raise ValueError(
            f"mask that holds {wrong:g} is not allowed, since a place is observed or missing: give mask > 0 to have it "
            "count as observed; confidences are for normalised convolution, which weighs by them"
        )
    return mask.bool()
