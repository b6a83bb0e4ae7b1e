"""Prose is short, and the numbers in it are computed, published, or settings: never a typed result."""

import functools
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from sparsecnn.files import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9]*.ipynb"))
GENERATED = re.compile(r"<!-- \w+(?:, \w+)? -->.*?<!-- end -->", re.DOTALL)
# "10, 50 and 70% missing", "5 to 95% of the pixels missing", "95% intervals": settings.
SHARE = r"(?:\d+(?:\.\d+)?%?(?:, | to | and | or |, and ))*\d+(?:\.\d+)?% "
SETTING = re.compile(
    rf"{SHARE}(?:and more |or more )?(?:of (?:the|its|their) pixels )?(?:are |is |go )?(?:missing|gone)|95% intervals?"
)
RESULT = re.compile(r"± ?\d+(?:\.\d+)?|[-+−]?\d+(?:\.\d+)? ?%|[-+−]?\d+(?:\.\d+)?(?: to \d+(?:\.\d+)?)? points?\b")
# Numbers that look like results and are none, by where they come from.
KNOWN = {
    "11.35": "share of MNIST's most frequent test digit",
    "9.2": "share of Caltech-101's most frequent class",
    "15": "the line below which a run on MNIST has collapsed",
    "20": "what the report says of Caltech-101, in points",
    "2": "the margin of no difference, in points",
    "5": "what counts as a late fall, in points",
}


@functools.cache
def published() -> frozenset[str]:
    """The published values, as one would quote them."""
    tables = (pd.read_csv(path) for path in (REPOSITORY / "results/published").glob("*.csv"))
    numbers = [value for table in tables for value in table.select_dtypes("number").stack()]
    return frozenset(form.format(value) for value in numbers for form in ("{:.2f}", "{:.1f}", "{:g}"))


def typed_results(text: str) -> list[str]:
    text = SETTING.sub("", GENERATED.sub("", text))
    allowed = published() | KNOWN.keys()
    found = (match[0] for match in RESULT.finditer(text))
    return [result for result in found if not set(re.findall(r"\d+(?:\.\d+)?", result)) <= allowed or "±" in result]


def prose_of(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_result_is_typed_in_a_notebook(path):
    assert [(result, cell[:60]) for cell in prose_of(path) for result in typed_results(cell)] == []


@pytest.mark.parametrize("page", ["README.md", "site/index.md"])
def test_no_result_is_typed_on_a_page(page):
    assert typed_results((REPOSITORY / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    ["reaches 62.71% there", "ahead by 0.9 ± 1.7", "it loses 7.4 points", "costs 6 to 11 points", "57% of the test"],
)
def test_a_typed_result_is_found(text):
    assert typed_results(f"At 70% missing it {text}.")


def test_what_is_no_result_is_left_alone():
    assert typed_results("With 10, 50 and 70% missing, 5 to 95% of the pixels missing, 95% intervals.") == []
    assert typed_results("The report has 62.80% and 20 points.") == []


def words(text: str) -> int:
    return len(re.findall(r"\S*\w\S*", text))  # a table's lines are none


def test_the_notebooks_can_be_read_in_one_sitting():
    cells = [(path.stem, words(cell), cell) for path in NOTEBOOKS for cell in prose_of(path)]
    assert sum(count for _, count, _ in cells) <= 6000
    assert [(name, count, cell[:40]) for name, count, cell in cells if count > 350] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_its_question_and_the_answer(path):
    cells = nbformat.read(path, 4).cells
    title, answer = cells[0].source.split("\n\n", 1)
    assert title.startswith("# ") and title.endswith("?") and words(answer) <= 80
    headings = [line for cell in prose_of(path) for line in cell.splitlines() if line.startswith("# ")]
    assert headings == [title]
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    imports = [line for source in code for line in source.splitlines() if re.match(r"(import|from) ", line)]
    assert len(imports) <= 5 and all(line in code[0] for line in imports)
    assert "parameters" in cells[3].metadata.get("tags", []) and code[2].rstrip().endswith(")") and "start" in code[2]


def test_the_readme_is_short_and_its_commands_come_early():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert words(text) <= 1400
    lines = text.splitlines()
    assert max(number for number, line in enumerate(lines, 1) if re.match(r"    make (report|test)\b", line)) < 60
