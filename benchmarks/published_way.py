"""MNIST training as the notebooks behind the report do it, written anew from their description: the baseline.

A pandas row an image, a random permutation an image for its mask, ToTensor and Normalize an image, a DataLoader, and a
sparse convolution that finds its counts by a second convolution over the mask. Contiguous float32, eager.
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sparsecnn.datasets import Images


class RowDataset(Dataset):
    """An image is a row of a table: its label, then its 784 pixels."""

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
        return self.transform(pixels.reshape(28, 28)), int(row.iloc[0])


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


class SparseConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = SparseConvolution(1, 16, 5), SparseConvolution(16, 1, 1)
        self.hidden, self.out = nn.Linear(784, 100), nn.Linear(100, 10)

    def forward(self, image):
        features, mask = self.first(image, (image > 0).float())
        features, mask = self.second(F.relu(features), mask)
        return self.out(F.relu(self.hidden(F.relu(features).flatten(1))))


def train_steps(data: Images, sparsity: float, batch_size: int):
    """Yields after each training step, for ever."""
    network = SparseConvNet()
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3, weight_decay=1e-3)
    while True:
        for image, label in DataLoader(RowDataset(data, sparsity), batch_size, shuffle=True):
            optimiser.zero_grad()
            F.cross_entropy(network(image), label).backward()
            optimiser.step()
            yield
