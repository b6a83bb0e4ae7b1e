"""KITTI's laser scans as range images: made from KITTI raw, read, and split by drive.

``python -m sparsecnn.data.kitti RAW_FOLDER`` makes them from the drives of KITTI raw (Geiger, Lenz, Stiller, Urtasun:
Vision meets robotics, 2013; CC BY-NC-SA 3.0) that lie under RAW_FOLDER, and writes them into the data root.
"""

import argparse
import hashlib
import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..checks import SettingError, check_range
from ..files import ResultsError, replacing
from ..progress import bar
from .downloads import BY_HAND, DataError, data_root, md5_sums
from .images import METRES, Images

__all__ = ["COLUMNS", "RINGS", "CutShort", "by_drive", "convert", "range_image", "read_points", "scans"]

RINGS, COLUMNS = 64, 1024
STEP = 256  # a metre has so many
NO_RETURN = 1 << 16  # beyond what a cell holds
# One line a scan of the report: the md5 of its cells, as uint16 with the low byte first, ring after ring; its place.
MD5 = Path(__file__).with_name("kitti_range.md5")
DRIVE = re.compile(r"2011_09_26_(drive_\d{4})_sync")
# Of a drive's test scans every so-manieth; of the others all.
THINNED = {"sequence_c": 4}


class CutShort(DataError):
    """A scan that does not hold all of its rings; whoever reads it says which."""


def read_points(path: Path) -> np.ndarray:
    """A scan of KITTI raw: N x 4, float32; x (forwards), y (left) and z (up) in metres, and reflectance in [0, 1].

    Raises:
        CutShort: where it ends within a point, or holds none.
        DataError: where it can't be read, or a number in it is not finite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror or error}): mend that and start again") from error
    if not content or len(content) % 16:
        raise CutShort(f"{len(content)} bytes, where a point has 16")
    points = np.frombuffer(content, "<f4").reshape(-1, 4)
    if not np.isfinite(points).all():
        raise DataError(f"{path} is no scan of KITTI raw: a number in it is not finite; unpack its archive again")
    return points


def range_image(points: np.ndarray) -> np.ndarray:
    """The distances of a scan's points, seen from the sensor: 64 x 1024, uint16, 1/256 m; 0 = no return.

    Row 0 is the first ring in the file, the top one: a new one starts where azimuth modulo 2 pi jumps by more than pi.
    Column 0 starts at azimuth pi, which looks backwards, the middle looks forwards, and the right of it to the right.
    Of several returns in a cell the nearest counts.

    Args:
        points: N x 4, as :func:`read_points` gives them.

    Raises:
        CutShort: where there are not 64 rings, or the last one lacks its last quarter.
    """
    x, y, z = points[:, :3].T.astype(np.float64)
    azimuth = np.arctan2(y, x)
    turned = azimuth % (2 * np.pi)
    ring = np.cumsum(np.abs(np.diff(turned, prepend=turned[0])) > np.pi)
    if ring[-1] != RINGS - 1:
        raise CutShort(f"{ring[-1] + 1} rings, not {RINGS}")
    if turned[-1] < 1.5 * np.pi:
        raise CutShort("the last quarter of its last ring is missing")
    column = ((np.pi - azimuth) / (2 * np.pi) * COLUMNS).astype(int)
    cells = np.full((RINGS, COLUMNS), NO_RETURN)
    # An azimuth of exactly -pi closes the last column.
    cell = ring, np.minimum(column, COLUMNS - 1)
    np.minimum.at(cells, cell, np.rint(np.sqrt(x**2 + y**2 + z**2) * STEP).astype(int))
    cells[cells == NO_RETURN] = 0
    return cells.astype(np.uint16)


def _md5(cells: np.ndarray) -> str:
    return hashlib.md5(cells.astype("<u2").tobytes(), usedforsecurity=False).hexdigest()


def scans(folder: Path) -> Images:
    """The report's 251 scans from the folders of their drives in ``folder``; what else lies there is not read.

    Images are N x 1 x 64 x 1024, float32, in metres, 0 = no return; labels are the drives.

    Raises:
        DataError: for the first one that is missing or not the one that it should be.
    """
    md5_of = md5_sums(MD5)
    drives = sorted({name.split("/")[0] for name in md5_of})
    images = torch.empty(len(md5_of), 1, RINGS, COLUMNS)
    for image, (name, md5) in zip(images, md5_of.items(), strict=True):
        image[0] = torch.from_numpy(_read_cells(folder / name, md5).astype(np.float32) / STEP)
    labels = torch.tensor([drives.index(name.split("/")[0]) for name in md5_of])
    return Images("kitti_range", images, labels, tuple(drives), **METRES)


def _read_cells(path: Path, expected: str) -> np.ndarray:
    anew = f"to have it made anew, {BY_HAND['kitti_range']}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror or error}): {anew}") from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = f"{image.width} x {image.height}, mode {image.mode}"
            if not image.mode.startswith("I") or image.size != (COLUMNS, RINGS):  # I;16, in older Pillows I
                raise DataError(f"{path} is no range image of {COLUMNS} x {RINGS}, 16 bits ({kind}): {anew}")
            cells = np.asarray(image).astype(np.uint16)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise DataError(f"{path} is cut short or no picture ({len(content)} bytes): {anew}") from error
    if _md5(cells) != expected:
        raise DataError(f"{path} is not the report's scan (its cells' md5 differs): {anew}")
    return cells


def convert(raw: Path, folder: Path) -> str:
    """Writes a range image of each scan of the drives of 2011_09_26 under ``raw``, the same bytes each time; a line on
    what came of it. A scan that is cut short is left out, and said.

    A scan of the report takes its place there, known by its cells, since of two of the three drives the numbers are not
    known. Any other is written to ``folder``/drive_0005/000042.png and so on, and :func:`scans` does not read it.

    Raises:
        DataError: where there are no such drives, all scans are cut short, or one can't be read.
        ResultsError: where ``folder`` can't be written to.
    """
    if not raw.is_dir():
        raise DataError(f"{raw} is no folder: name the one that holds KITTI raw's drives")
    found = [(DRIVE.fullmatch(data.parts[-3]), data) for data in sorted(raw.resolve().rglob("velodyne_points/data"))]
    paths = [(drive[1], path) for drive, data in found if drive for path in sorted(data.glob("*.bin"))]
    paths = [(drive, path) for drive, path in paths if path.stem.isdecimal()]  # macOS leaves others
    if not paths:
        raise DataError(
            f"no scans in {raw}: looked for 2011_09_26_drive_0005_sync/velodyne_points/data/*.bin or the like"
        )
    place_of = {md5: name for name, md5 in md5_sums(MD5).items()}
    written, cut_short = set(), []
    with bar(len(paths), desc="Range images", unit="scan") as shown:
        for drive, path in paths:
            try:
                cells = range_image(read_points(path))
            except CutShort as error:
                cut_short.append(f"{path} ({error})")
            else:
                place = place_of.get(_md5(cells), f"{drive}/{int(path.stem):06d}.png")
                with replacing(folder / place, "SPARSECNN_DATA") as file:
                    Image.fromarray(cells).save(file, "png")
                written.add(place)
            shown.update()
    left_out = f"{len(cut_short)} left out that are cut short: {', '.join(cut_short)}" if cut_short else "none left out"
    if not written:
        raise DataError(f"no whole scan in {raw}: {left_out}")
    known = len(written & set(place_of.values()))
    return (
        f"{len(written)} range images written to {folder}, {known} of them the report's, which has {len(place_of)}; "
        + left_out
    )


def by_drive(data: Images, validation: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the train, validation and test scans, see datasets.split."""
    first, *others = (np.flatnonzero(data.labels.numpy() == label) for label in range(len(data.classes)))
    gap = math.ceil(len(first) / 10)
    check_range("validation", validation, least=0, most=len(first) - gap - 1)
    test = [drive[:: THINNED.get(name, 1)] for name, drive in zip(data.classes[1:], others, strict=True)]
    train = first[: len(first) - validation - gap] if validation else first
    return train, first[len(first) - validation :], np.concatenate(test)


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m sparsecnn.data.kitti", description="Makes KITTI's range images.")
    where = "the folder under which 2011_09_26_drive_0005_sync and other drives of KITTI raw lie"
    ask.add_argument("raw", type=Path, metavar="RAW_FOLDER", help=where)
    print(convert(ask.parse_args().raw, data_root() / "kitti_range"))


if __name__ == "__main__":
    try:
        main()
    except (SettingError, DataError, ResultsError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
