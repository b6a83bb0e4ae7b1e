"""The store's files after what spreadsheets and merges do to them: the same rows, or one line that says why not."""

import io
import re

import pandas as pd
import pytest

from sparsecnn.experiment import experiment
from sparsecnn.files import ResultsError
from sparsecnn.records import COLUMNS, read_rows

RUNS = [experiment("digits", "controlled", "ConvNet", 0.3, seed, epochs=2, learning_rate=1e-3) for seed in (0, 1)]
MEASURED = {
    "train_loss": 1.5, "train_accuracy": 50.25, "validation_accuracy": 52.0, "test_accuracy": 51.1111,
    "test_correct": "3 4 5", "transfer": "", "device": "cpu, 1 thread", "torch": "2.11", "precision": "float32",
    "seconds": 4.5,
}  # fmt: skip


def rows_with(**changes) -> pd.DataFrame:
    rows = [vars(run) | MEASURED | {"commit": "abc1234", "epoch": epoch} | changes for run in RUNS for epoch in (1, 2)]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(
    ("name", "text"),
    [("commit", "0123456"), ("commit", "1234567"), ("commit", "12345e6"), ("commit", "0123456+"), ("torch", "2.10"),
     ("device", "007"), ("test_correct", "17")],
)  # fmt: skip
def test_text_that_looks_like_a_number_stays_text(tmp_path, name, text):
    path = tmp_path / "runs.csv"
    rows_with(**{name: text}).to_csv(path, index=False)
    before = path.read_bytes()
    rows = read_rows(path)
    assert rows[name].tolist() == [text] * 4
    rows.to_csv(path, index=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize("storage", ["python", "pyarrow"])
def test_text_is_checked_however_pandas_stores_it(tmp_path, storage):
    if storage == "pyarrow":
        pytest.importorskip("pyarrow")
    path, transfer = tmp_path / "runs.csv", "uniform:0.3=51.2 blocks:0.9=12.25/1.5"
    rows_with(transfer=transfer).to_csv(path, index=False)
    with pd.option_context("mode.string_storage", storage):
        rows = read_rows(path)
        assert rows["commit"].dtype.storage == storage
        assert rows["transfer"].tolist() == [transfer] * 4 and rows["test_correct"].tolist() == ["3 4 5"] * 4
        assert read_rows(path.with_name("no.csv")).empty
        for name, text in {"transfer": transfer + " ", "test_correct": "3  4", "commit": "abc123"}.items():
            rows_with(**{name: text}).to_csv(path, index=False)
            with pytest.raises(ResultsError, match=f"line 2: {name}={text} is not allowed"):
                read_rows(path)


def columns_with(text: str, **settings) -> str:
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False).to_csv(index=False, **settings)


def conflict(text: str) -> str:
    header, first, second, *rest = text.splitlines(keepends=True)
    return "".join([header, "<<<<<<< HEAD\n", first, "=======\n", second, ">>>>>>> theirs\n", *rest])


def with_decimal_commas(text: str) -> str:
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    number = re.compile(r"\d+\.\d+")
    return frame.map(lambda cell: cell.replace(".", ",") if number.fullmatch(cell) else cell).to_csv(index=False)


SAME = {
    "line ends of Windows": lambda text: text.replace("\n", "\r\n"),
    "everything in quotes": lambda text: columns_with(text, quoting=1),
    "two decimals more": lambda text: text.replace("50.25", "50.2500"),
    "a mark of the byte order": lambda text: "\ufeff" + text,
}
REFUSED = {
    "semicolons": lambda text: columns_with(text, sep=";"),
    "semicolons and decimal commas": lambda text: columns_with(with_decimal_commas(text), sep=";"),
    "tabs": lambda text: columns_with(text, sep="\t"),
    "decimal commas": lambda text: with_decimal_commas(text),
    "a merge conflict": conflict,
    "both sides of a merge": lambda text: text + "".join(text.splitlines(keepends=True)[1:]),
    "half a run from the other side": lambda text: text + text.splitlines(keepends=True)[1],
    "sorted by accuracy": lambda text: "".join([*text.splitlines(True)[:1], *text.splitlines(True)[:0:-1]]),
    "an empty line in the middle": lambda text: text.replace("\n", "\n\n", 2),
    "rows of commas at the end": lambda text: text + "," * text.splitlines()[0].count(",") + "\n",
    "a comma more at each end": lambda text: text.replace("\n", ",\n"),
    "a comma more at the end of rows alone": lambda text: text.replace("\n", ",\n").replace(",\n", "\n", 1),
    "a column lost": lambda text: re.sub(r",[^,\n]*$", "", text, flags=re.M),
    "a column twice": lambda text: re.sub(r"^(\w+),", r"\1,\1,", text, flags=re.M),
    "columns in another order": lambda text: re.sub(r"^(\w+),(\w+),", r"\2,\1,", text, flags=re.M),
    "numbers as dates": lambda text: text.replace(",51.1111,", ",11.51.1111,"),
    "percent signs": lambda text: text.replace(",51.1111,", ",51.1111%,"),
    "hashes for what is too wide": lambda text: text.replace(",51.1111,", ",######,"),
    "a commit as a number": lambda text: text.replace("abc1234", "1.23E+09"),
    "a summary below": lambda text: text + "mean\n",
    "no line end": lambda text: text.rstrip("\n"),
    "another encoding": lambda text: text.replace("ConvNet", "ConvN\u00ebt").encode("latin-1"),
    "UTF-16": lambda text: text.encode("utf-16"),
}


@pytest.mark.parametrize("harm", [*SAME, *REFUSED])
def test_what_spreadsheets_and_merges_do_is_read_the_same_or_refused_in_one_line(tmp_path, harm):
    path = tmp_path / "runs.csv"
    rows_with().to_csv(path, index=False)
    before = read_rows(path)
    changed = (SAME | REFUSED)[harm](path.read_text(encoding="utf-8"))
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    if harm in SAME:
        pd.testing.assert_frame_equal(read_rows(path), before)
        return
    with pytest.raises(ResultsError) as refused:
        read_rows(path)
    message = str(refused.value)
    assert str(path) in message and "\n" not in message and "mend it" in message
    if "semicolons" in harm:
        assert "has semicolons between its columns where commas belong" in message
