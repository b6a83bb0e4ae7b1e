"""Small parts of the data sets, which training then takes for the whole."""

import dataclasses

import pytest
import torch

from sparsecnn.data.datasets import load
from sparsecnn.data.downloads import data_root
from sparsecnn.data.images import Images
from sparsecnn.data.sources import CALTECH_MD5


def caltech101_or_shapes() -> str:
    """Caltech-101 where all of its photographs lie here, else its stand-in."""
    folder = data_root() / "caltech101/101_ObjectCategories"
    names = (line.split()[1] for line in CALTECH_MD5.read_text().splitlines())
    return "caltech101" if all((folder / name).exists() for name in names) else "shapes"


@pytest.fixture
def digits(monkeypatch) -> Images:
    """800 images to train with and 300 to test with, of real MNIST where it lies here, else of its stand-in."""
    whole = load("mnist" if (data_root() / "MNIST/raw").is_dir() else "digits")
    chosen = torch.cat([torch.arange(800), torch.arange(300) + len(whole.labels) - whole.test_count])
    few = dataclasses.replace(whole, images=whole.images[chosen], labels=whole.labels[chosen], test_count=300)
    monkeypatch.setattr("sparsecnn.training.train.load", lambda name: few)
    return few


@pytest.fixture
def photographs(monkeypatch) -> Images:
    """Twenty photographs of each of five classes: of Caltech-101 if all of it lies here, else of its stand-in."""
    return _twenty_of_five_classes(load(caltech101_or_shapes()), monkeypatch)


@pytest.fixture
def drawings(monkeypatch) -> Images:
    """As photographs, always of the stand-in."""
    return _twenty_of_five_classes(load("shapes"), monkeypatch)


def _twenty_of_five_classes(whole: Images, monkeypatch) -> Images:
    chosen = torch.cat([torch.nonzero(whole.labels == label)[:20, 0] for label in range(5)])
    few = dataclasses.replace(
        whole, images=whole.images[chosen], labels=whole.labels[chosen], classes=whole.classes[:5]
    )
    monkeypatch.setattr("sparsecnn.training.train.load", lambda name: few)
    return few
