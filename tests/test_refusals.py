"""Bad input is refused in one line that names the value, before any work starts; whatever the input."""

import dataclasses
import json
import math
import re
import time

import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from sparsecnn import ConvNet, SparseConv2d, SparseConvNet, SparseDataset, SparseMaxPool2d, sparse_conv2d
from sparsecnn.checks import SettingError
from sparsecnn.data.datasets import available, load, split
from sparsecnn.data.masks import bernoulli_mask, exact_count_mask
from sparsecnn.experiment import Experiment, experiment, grid
from sparsecnn.files import REPOSITORY
from sparsecnn.layers import SparseAdaptiveAvgPool2d, SparseAvgPool2d, SparseConvTranspose2d
from sparsecnn.models import build
from sparsecnn.report import tables
from sparsecnn.studies import hyperparameters
from sparsecnn.sweeps import store
from sparsecnn.sweeps.executors import connect
from sparsecnn.sweeps.store import read
from sparsecnn.sweeps.sweep import sweep
from sparsecnn.training.train import choose_device, initial_network, train

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(10**16, 10**30),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.floats(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    st.binary(max_size=3),
)
valid = experiment("digits", "controlled", "ConvNet", 0.5)


def calls(function, names: str, **settings) -> dict:
    """(function's name, argument's name) -> the call with only that argument in doubt."""
    return {
        (function.__name__, name): lambda value, name=name: function(**settings | {name: value})
        for name in names.split()
    }


CALLS = (
    calls(Experiment, " ".join(vars(valid)), **vars(valid))
    | calls(experiment, " ".join(vars(valid)), **vars(valid))
    | calls(grid, "dataset protocol sparsity seeds epochs train_images learning_rate", sparsity=0.5, seeds=1)
    | calls(exact_count_mask, "count height width sparsity", count=1, height=2, width=2, sparsity=0.5)
    | calls(bernoulli_mask, "count height width sparsity", count=1, height=2, width=2, sparsity=0.5)
    | calls(SparseDataset, "sparsity scheme seed", dataset=[(torch.rand(1, 4, 4), 0)], sparsity=0.5)
    | calls(sweep, "device rerun workers minutes", experiments=[])
    | calls(split, "validation", data=load("digits"))
    | calls(train, "experiment")
    | calls(initial_network, "experiment")
    | calls(SparseConvNet, "architecture")
    | calls(ConvNet, "architecture")
    | calls(build, "model architecture", model="ConvNet")
    | calls(read, "dataset protocol", dataset="digits", protocol="controlled")
    | calls(tables.published, "name")
    | calls(connect, "scheduler")
    | {
        ("available", "dataset"): available,
        ("load", "dataset"): load,
        ("choose_device", "device"): choose_device,
        ("sweep", "experiment"): lambda value: sweep([value]),
        ("sweep", "architecture"): lambda value: sweep([dataclasses.replace(valid, architecture=value)]),
    }
)
LAYER_CALLS = (
    calls(
        SparseConv2d,
        "in_channels out_channels kernel_size stride padding dilation groups bias padding_mode device dtype eps scale "
        "padding_observed",
        in_channels=1,
        out_channels=1,
        kernel_size=3,
    )
    | calls(
        sparse_conv2d,
        "stride padding dilation groups eps scale padding_observed padding_mode",
        features=torch.ones(1, 1, 4, 4),
        mask=torch.ones(1, 1, 4, 4),
        weight=torch.ones(1, 1, 1, 1),
    )
    | calls(
        SparseConvTranspose2d,
        "in_channels out_channels kernel_size stride padding output_padding groups bias dilation padding_mode device "
        "dtype eps scale padding_observed",
        in_channels=1,
        out_channels=1,
        kernel_size=3,
    )
    | calls(SparseMaxPool2d, "kernel_size stride padding dilation ceil_mode return_indices", kernel_size=2)
    | calls(SparseAvgPool2d, "kernel_size stride padding ceil_mode count_include_pad divisor_override", kernel_size=2)
    | calls(SparseAdaptiveAvgPool2d, "output_size")
)


@pytest.fixture(autouse=True, scope="module")
def output(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSECNN_OUTPUT", str(tmp_path_factory.mktemp("output")))
        yield


def taken_or_refused(call, argument: str, value) -> None:
    began = time.monotonic()
    try:
        call(value)
    except ValueError as error:
        message = str(error)
        assert argument in message and "not allowed" in message
        assert repr(value) in message or str(value) in message
        assert "\n" not in message.replace(str(value), "")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("function", "argument"), CALLS)
@settings(max_examples=40)
@given(value=anything)
@example(value="../../etc/passwd")
@example(value=math.nan)
@example(value=10**400)
def test_any_value_is_taken_or_refused_in_one_line(function, argument, value):
    taken_or_refused(CALLS[function, argument], argument, value)


@pytest.mark.parametrize(("function", "argument"), LAYER_CALLS)
@settings(max_examples=40)
@given(value=anything.filter(lambda value: not isinstance(value, int) or value < 1000))  # which memory holds
def test_the_layers_take_or_refuse_any_value_in_one_line(function, argument, value):
    taken_or_refused(LAYER_CALLS[function, argument], argument, value)


# Notebooks

NOTEBOOKS = sorted(REPOSITORY.glob("notebooks/[0-9]*.ipynb"))
WRONG = [30, -0.1, math.nan, math.inf, "abc", "", "a\nb", True, [0.3], {"a": 1}, 10**30]
# What a parameter takes of these.
RIGHT = dict.fromkeys(["seed", "seeds", "epochs", "batch_size", "train_images"], [30])
RIGHT |= {"rerun": [True], "one_point": [True], "learning_rates": [[0.3]]}


def code_cells(notebook) -> tuple[list[str], int]:
    """The sources of the code cells, and which of them holds the parameters."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    (at,) = [i for i, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])]
    return ["".join(cell["source"]) for cell in cells], at


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_wrong_parameter_of_a_notebook_is_answered_in_one_line(notebook, monkeypatch):
    monkeypatch.chdir(notebook.parent)
    # What is right is neither looked for nor trained here.
    monkeypatch.delenv("SPARSECNN_OUTPUT", raising=False)
    some = store.of_experiments(grid("mnist", "controlled", 0.5, 1))
    monkeypatch.setattr("sparsecnn.report.notebook.rows_of", lambda *_, **__: some)
    monkeypatch.setattr("sparsecnn.report.notebook.available", lambda name: name)
    cells, at = code_cells(notebook)
    shell = InteractiveShell()
    with capture_output():
        for cell in cells[: at + 1]:
            assert shell.run_cell(cell).success
    defaults = {}
    exec(cells[at], defaults)
    names = [name for name in defaults if name != "__builtins__"]
    assert "sparsity" in names
    for name in names:
        for value in WRONG:
            for other in names:
                shell.user_ns[other] = value if other == name else defaults[other]
            began = time.monotonic()
            with capture_output() as shown:
                success = shell.run_cell(cells[at + 1]).success
            assert success or time.monotonic() - began < 5  # what is right is loaded and drawn
            assert success == (value in RIGHT.get(name, [])), f"{name}={value!r}: {shown.stdout}"
            if not success:
                assert shown.stdout.startswith("SettingError: ") and f"{name}=" in shown.stdout
                assert "Traceback" not in shown.stdout and len(shown.stdout.strip().splitlines()) == 1


@pytest.mark.parametrize(("text", "written"), [("1e-3", "1.0e-3"), ("5E-3", "5.0e-3"), ("2e2", "2.0e+2"), ("0.3",) * 2])
def test_a_number_that_yaml_takes_for_a_text_is_told_how_to_write_it(text, written):
    says = rf"^learning_rates='{text}' is not allowed: a number, not a text, write {re.escape(written)}$"
    with pytest.raises(SettingError, match=says):
        hyperparameters("mnist", learning_rates=[text])
    assert yaml.safe_load(written) == float(text)
    with pytest.raises(SettingError, match="a number$"):
        hyperparameters("mnist", learning_rates=["little"])
