"""Training as the notebooks behind the report do it, written anew from their description: the baseline.

MNIST: a pandas row an image, a random permutation an image for its mask, ToTensor and Normalize an image.
Caltech-101: a list of float images, each with its mask. Both: a DataLoader, and a sparse convolution that finds its
counts by a second convolution over the mask; contiguous float32, eager.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sparsecnn.data.images import Images


class RowDataset(Dataset):
    """MNIST; an image is a row of a table: its label, then its 784 pixels."""

    def __init__(self, data: Images, sparsity: float):
        pixels = data.images[: len(data.images) - data.test_count].flatten(1).numpy()
        self.table = pd.DataFrame(np.column_stack([data.labels[: len(pixels)].numpy(), pixels]))
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])
        self.sparsity = sparsity

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int):
        row = self.table.iloc[index]
        pixels = row.iloc[1:].to_numpy(dtype=np.uint8).copy()
        dropped = torch.randperm(784)[: int(784 * self.sparsity)].numpy()
        pixels[dropped] = 0
        image = self.transform(pixels.reshape(28, 28))
        return image, (image > 0).float(), int(row.iloc[0])


def photographs(data: Images, sparsity: float) -> list[tuple[Tensor, Tensor, int]]:
    """Caltech-101, or what stands in for it: normalised images, their missing pixels 0, with masks and labels."""
    normalise = transforms.Normalize(data.mean, data.std)
    masks = (torch.rand(len(data.images), 1, *data.images.shape[2:]) >= sparsity).float()
    return [
        (normalise(image / 255) * mask, mask, label)
        for image, mask, label in zip(data.images, masks, data.labels.tolist(), strict=True)
    ]


class SparseConvolution(nn.Module):
    def __init__(self, channels: int, channels_out: int, kernel: int):
        super().__init__()
        self.kernel = kernel
        self.convolution = nn.Conv2d(channels, channels_out, kernel, padding=kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.register_buffer("ones", torch.ones(1, 1, kernel, kernel))

    def forward(self, features, mask):
        features = self.convolution(features * mask)
        features = features / (F.conv2d(mask, self.ones, padding=self.kernel // 2) + 1e-8)
        features = features + self.bias.view(1, -1, 1, 1)
        return features, F.max_pool2d(mask, self.kernel, stride=1, padding=self.kernel // 2)


class MNISTNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = SparseConvolution(1, 16, 5), SparseConvolution(16, 1, 1)
        self.hidden, self.out = nn.Linear(784, 100), nn.Linear(100, 10)

    def forward(self, image, mask):
        features, mask = self.first(image, mask)
        features, mask = self.second(F.relu(features), mask)
        return self.out(F.relu(self.hidden(F.relu(features).flatten(1))))


class CaltechNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        kernels = {11: 3, 7: 16, 5: 16, 3: 16}
        self.convolutions = nn.ModuleList(SparseConvolution(channels, 16, k) for k, channels in kernels.items())
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in kernels)
        self.head = nn.Sequential(
            *(nn.Linear(16 * 14 * 14, 512), nn.ReLU(), nn.Dropout(0.2)),
            *(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 101)),
        )

    def forward(self, image, mask):
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            image, mask = convolution(image, mask)
            image, mask = F.max_pool2d(F.relu(norm(image)), 2), F.max_pool2d(mask, 2)
        return self.head(image.flatten(1))


def train_steps(data: Images, sparsity: float, batch_size: int, device: str) -> Iterator[None]:
    """Yields after each training step, for ever."""
    of_digits = data.images.shape[1] == 1
    network = (MNISTNetwork() if of_digits else CaltechNetwork()).to(device)
    dataset = (RowDataset if of_digits else photographs)(data, sparsity)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-3)
    while True:
        for batch in DataLoader(dataset, batch_size, shuffle=True, drop_last=True):
            image, mask, label = (tensor.to(device) for tensor in batch)
            optimiser.zero_grad()
            F.cross_entropy(network(image, mask), label).backward()
            optimiser.step()
            if device == "cuda":
                torch.cuda.synchronize()
            yield
