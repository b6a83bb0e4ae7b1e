"""The wheel in clean environments: what needs torch alone, and the rest outside the repository."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sparsecnn.files import REPOSITORY

TORCH_ALONE = """
import sys
import torch
import sparsecnn
from sparsecnn import ConvNet, ConvNetMask, SparseConv2d, SparseConvNet, masks_through

image, mask = torch.rand(2, 1, 28, 28), torch.rand(2, 1, 28, 28) > 0.5
out, seen = SparseConv2d(1, 4, 3, padding=1)(image, mask)
out.sum().backward()
assert out.shape == (2, 4, 28, 28)
for kind in (ConvNet, ConvNetMask, SparseConvNet):
    assert kind()(image, mask).shape == (2, 10)
assert masks_through(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.Flatten()))(image, mask).shape == (2, 676)
assert not {"numpy", "pandas", "torchvision", "matplotlib"} & set(sys.modules)
try:
    sparsecnn.SparseDataset
except ImportError as error:
    assert "pip install 'sparsecnn[report]'" in str(error), error
else:
    raise AssertionError("SparseDataset came without numpy")
"""
EVERYTHING = """
import importlib, pkgutil
from pathlib import Path
import sparsecnn
from sparsecnn import SparseConv2d, SparseDataset, load_pretrained
from sparsecnn.data.datasets import load
from sparsecnn.data.downloads import data_root
from sparsecnn.data.kitti import MD5
from sparsecnn.files import output_root
from sparsecnn.report.tables import published

for module in pkgutil.walk_packages(sparsecnn.__path__, "sparsecnn."):
    importlib.import_module(module.name)
assert len(published("table3_mnist")) > 10
assert output_root() == Path.cwd() and data_root() == Path.cwd() / "data"
assert len(load("digits").labels) > 1000
assert len(load("caltech101", pixels=False).labels) == 8677 and len(MD5.read_text().splitlines()) == 251
load_pretrained("mnist", "SparseConvNet")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since a build leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for folder in ("sparsecnn", "results/published"):
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    built = tmp_path_factory.mktemp("built")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", built, source)
    (path,) = built.glob("sparsecnn-*.whl")
    return path


def pip(*arguments) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, arguments)], check=True)


def environment(folder: Path, wheel: Path) -> tuple[Path, Path]:
    """A fresh one with the wheel alone: its Python and its packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    pip("--python", python, "install", "--no-deps", "--no-index", "--no-compile", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    return python, packages


def torch_and_what_it_requires() -> set[str]:
    found, todo = set(), ["torch"]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        wanted = map(Requirement, importlib.metadata.requires(name) or [])
        todo += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def run(python: Path, code: str, folder: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SPARSECNN"))}
    done = subprocess.run([python, "-B", "-c", code], cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_layers_and_networks_need_torch_alone(wheel, tmp_path):
    python, packages = environment(tmp_path / "environment", wheel)
    for name in torch_and_what_it_requires():
        for file in importlib.metadata.files(name):
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (packages / top).exists():
                (packages / top).symlink_to(
                    file.locate().parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate()
                )
    run(python, TORCH_ALONE, tmp_path)


def test_the_wheel_works_outside_the_repository_and_leaves_itself_alone(wheel, tmp_path):
    python, packages = environment(tmp_path / "environment", wheel)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # behind the wheel's own
    before = sorted(packages.rglob("*"))
    run(python, EVERYTHING, tmp_path)
    assert sorted(packages.rglob("*")) == before
