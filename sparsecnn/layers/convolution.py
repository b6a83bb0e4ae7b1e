"""The convolutions as modules: PyTorch's own, which take and give a mask beside the features."""

from torch import Tensor, nn

from . import functional
from .arguments import (
    channels_of,
    check_choices,
    check_output_padding,
    eps_of,
    factory_of,
    one_of,
    padding_of,
    whole_numbers,
)

CONVOLUTION = """The paper's sparse convolution; weights, initialisation and state_dict are those of
    :class:`torch.nn.Conv{n}d`.

    ``features, mask = layer(features, mask)``, with the shapes of :func:`sparse_conv{n}d`; ``layer(features)`` takes
    all as observed.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as in Conv{n}d,
            whose device and dtype come behind them.
        eps, scale, padding_observed: by keyword only, as in :func:`sparse_conv{n}d`.

    Raises:
        ValueError: for an argument that is not allowed, in one line.
    """

TRANSPOSED = """Sparse transposed convolution; weights, initialisation and state_dict are those of
    :class:`torch.nn.ConvTranspose{n}d`.

    ``features, mask = layer(features, mask)``, with the shapes of :func:`sparse_conv_transpose{n}d`; a third argument
    is ConvTranspose{n}d's ``output_size``.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias: as in ConvTranspose{n}d,
            whose dilation, padding_mode ("zeros"), device and dtype come behind them.
        eps, scale, padding_observed: by keyword only, as in :func:`sparse_conv_transpose{n}d`.

    Raises:
        ValueError: for an argument that is not allowed, in one line.
    """


class _SparseConv(functional.MaskedLayer):
    """What the three have in common; the other base is PyTorch's class."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        eps: float = 1e-8,
        scale: str = "count",
        padding_observed: bool = False,
    ):
        in_channels, out_channels, groups = channels_of(in_channels, out_channels, groups)
        kernel_size = whole_numbers("kernel_size", kernel_size, self.dims, 1)
        stride = whole_numbers("stride", stride, self.dims, 1)
        padding = padding_of(padding, self.dims, stride)
        dilation = whole_numbers("dilation", dilation, self.dims, 1)
        one_of("bias", bias, (True, False))
        check_choices(scale, padding_observed, padding_mode)
        eps = eps_of(eps)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
            **factory_of(device, dtype),
        )  # fmt: skip
        self.eps, self.scale, self.padding_observed = eps, scale, padding_observed

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.function(
            features, mask, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups,
            eps=self.eps, scale=self.scale, padding_observed=self.padding_observed, padding_mode=self.padding_mode,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return _extra_repr(self, super().extra_repr())


class _SparseConvTranspose(functional.MaskedLayer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        eps: float = 1e-8,
        scale: str = "count",
        padding_observed: bool = False,
    ):
        in_channels, out_channels, groups = channels_of(in_channels, out_channels, groups)
        kernel_size = whole_numbers("kernel_size", kernel_size, self.dims, 1)
        stride = whole_numbers("stride", stride, self.dims, 1)
        padding = whole_numbers("padding", padding, self.dims, 0)
        output_padding = whole_numbers("output_padding", output_padding, self.dims, 0)
        dilation = whole_numbers("dilation", dilation, self.dims, 1)
        check_output_padding(output_padding, stride, dilation)
        one_of("bias", bias, (True, False))
        one_of("padding_mode", padding_mode, ("zeros",))
        check_choices(scale, padding_observed)
        eps = eps_of(eps)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation,
            padding_mode, **factory_of(device, dtype),
        )  # fmt: skip
        self.eps, self.scale, self.padding_observed = eps, scale, padding_observed

    def forward(
        self, features: Tensor, mask: Tensor | None = None, output_size: list[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        output_padding = self.output_padding
        if output_size is not None:
            output_padding = self._output_padding(
                features, output_size, self.stride, self.padding, self.kernel_size, self.dims, self.dilation
            )
        return self.function(
            features, mask, self.weight, self.bias, self.stride, self.padding, output_padding, self.groups,
            self.dilation, eps=self.eps, scale=self.scale, padding_observed=self.padding_observed,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return _extra_repr(self, super().extra_repr())


def _extra_repr(layer: nn.Module, plain: str) -> str:
    more = f", scale={layer.scale!r}" * (layer.scale != "count") + ", padding_observed=True" * layer.padding_observed
    return f"{plain}, eps={layer.eps}{more}"


def take_over(cls, conv: nn.Module, *, eps: float = 1e-8, scale: str = "window", padding_observed: bool = True):
    """The sparse layer with the weights (the very Parameters) of one of PyTorch's.

    With the defaults it gives what that gives where all is observed, at the border too; ``scale="count"`` and
    ``padding_observed=False`` are the paper's.

    Raises:
        ValueError: for anything but PyTorch's own class, since what is derived from it may compute something else.
    """
    plain = cls.__bases__[1]
    if type(conv) not in (plain, cls):
        raise ValueError(f"conv of type {type(conv).__name__} is not allowed: torch.nn.{plain.__name__}")
    keywords = {"output_padding": conv.output_padding} if conv.transposed else {}
    layer = cls(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, dilation=conv.dilation,
        groups=conv.groups, bias=conv.bias is not None, padding_mode=conv.padding_mode, device="meta",
        eps=eps, scale=scale, padding_observed=padding_observed, **keywords,
    )  # fmt: skip
    layer.weight, layer.bias = conv.weight, conv.bias
    return layer.train(conv.training)


class SparseConv1d(_SparseConv, nn.Conv1d):
    __doc__ = CONVOLUTION.format(n=1)
    dims, function = 1, staticmethod(functional.sparse_conv1d)
    from_conv1d = classmethod(take_over)


class SparseConv2d(_SparseConv, nn.Conv2d):
    __doc__ = CONVOLUTION.format(n=2)
    dims, function = 2, staticmethod(functional.sparse_conv2d)
    from_conv2d = classmethod(take_over)


class SparseConv3d(_SparseConv, nn.Conv3d):
    __doc__ = CONVOLUTION.format(n=3)
    dims, function = 3, staticmethod(functional.sparse_conv3d)
    from_conv3d = classmethod(take_over)


class SparseConvTranspose1d(_SparseConvTranspose, nn.ConvTranspose1d):
    __doc__ = TRANSPOSED.format(n=1)
    dims, function = 1, staticmethod(functional.sparse_conv_transpose1d)
    from_conv_transpose1d = classmethod(take_over)


class SparseConvTranspose2d(_SparseConvTranspose, nn.ConvTranspose2d):
    __doc__ = TRANSPOSED.format(n=2)
    dims, function = 2, staticmethod(functional.sparse_conv_transpose2d)
    from_conv_transpose2d = classmethod(take_over)


class SparseConvTranspose3d(_SparseConvTranspose, nn.ConvTranspose3d):
    __doc__ = TRANSPOSED.format(n=3)
    dims, function = 3, staticmethod(functional.sparse_conv_transpose3d)
    from_conv_transpose3d = classmethod(take_over)
