"""What pytest needs to know of the notebooks; `pytest --nbval` runs them and compares their outputs."""

import pytest
import torch

# What papermill leaves behind is nobody's test.
collect_ignore_glob = ["notebooks/out*.ipynb", "build/*"]


def pytest_collectstart(collector: pytest.Collector) -> None:
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)  # progress bars


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
