"""Any torchvision data set with pixels missing."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..checks import check_choice, check_fraction, check_range, check_type
from .masks import bernoulli_mask, exact_count_mask, seed_from

__all__ = ["SparseDataset"]


class SparseDataset(Dataset):
    """Any torchvision data set with pixels missing: yields ``(image, mask, label)``.

    Args:
        dataset: yields ``(image, label)``, the image a PIL image or a C x H x W tensor.
        sparsity: fraction of pixels missing, in [0, 1].
        scheme: "exact" (int(H * W * sparsity) pixels of every image) or "bernoulli" (each pixel with that probability).
        seed: None draws a new mask each time an image is read, from torch's global generator, as the report does on
            MNIST; a number gives every image one mask for good, as the report does on Caltech-101.
        transform: applied to the image *after* its pixels were dropped, say a Normalize.

    The image is a float tensor C x H x W, one of bytes scaled to [0, 1], with 0 at missing pixels before ``transform``;
    the mask is a bool tensor 1 x H x W (True = observed), the same for all channels.
    """

    SCHEMES = {"exact": exact_count_mask, "bernoulli": bernoulli_mask}

    def __init__(
        self,
        dataset: Dataset,
        sparsity: float,
        scheme: str = "exact",
        seed: int | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ):
        check_fraction("sparsity", sparsity, up_to=1)
        check_choice("scheme", scheme, self.SCHEMES)
        if seed is not None:
            check_type("seed", seed, int)
            check_range("seed", seed, least=0)
        self.dataset, self.sparsity, self.scheme = dataset, sparsity, scheme
        self.seed, self.transform = seed, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        from torchvision.transforms.functional import convert_image_dtype, to_tensor

        image, label = self.dataset[index]
        if not isinstance(image, Tensor):
            image = to_tensor(image)
        elif not image.is_floating_point():
            image = convert_image_dtype(image)
        generator = None
        if self.seed is not None:
            # An index may count from the end.
            generator = torch.Generator().manual_seed(seed_from(self.seed, index % len(self)))
        mask = self.SCHEMES[self.scheme](1, *image.shape[1:], self.sparsity, generator)[0]
        image = torch.where(mask, image, 0)
        return (self.transform(image) if self.transform else image), mask, label
