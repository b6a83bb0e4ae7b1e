"""Settings of the tests; `pytest --nbval` also runs the notebooks and compares their outputs."""

import pytest
import torch
from hypothesis import settings

# What papermill leaves behind is nobody's test.
collect_ignore_glob = ["notebooks/out*.ipynb", "build/*"]
settings.register_profile("sparsecnn", deadline=None)  # the first example pays for torch's start
settings.load_profile("sparsecnn")


def pytest_collectstart(collector: pytest.Collector) -> None:
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)  # progress bars


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The slowest file first, so that of two processes none is left alone with it in the end.
    items.sort(key=lambda item: item.path.name != "test_reliability.py")
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
