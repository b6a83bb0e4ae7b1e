import hashlib
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from sparsecnn.checks import SettingError
from sparsecnn.data import datasets, kitti, standins
from sparsecnn.data.datasets import available, load, split
from sparsecnn.data.downloads import DataError, data_root, md5_sums
from sparsecnn.data.images import METRES, TITLES, Images
from sparsecnn.files import ResultsError

# From points to range images


def drawn_cells(seed=0):
    """A range image with gaps, all of whose rings reach around."""
    random = np.random.default_rng(seed)
    cells = random.integers(400, 80 * 256, (64, 1024)) * (random.random((64, 1024)) < 0.9)
    cells[:, 507:517] = 400  # forwards, where rings begin and end
    return cells.astype(np.uint16)


def points_of(cells):
    """The points in the middles of the cells as KITTI has them: ring after ring, each from forwards over the left."""
    order = np.r_[511:-1:-1, 1023:511:-1]
    azimuth = np.pi * (1 - (2 * order + 1) / 1024)
    elevation = np.radians(np.linspace(2, -24.8, 64))[:, None]
    ranges = cells[:, order] / 256
    x, y = (ranges * np.cos(elevation) * turn for turn in (np.cos(azimuth), np.sin(azimuth)))
    points = np.stack([x, y, ranges * np.sin(elevation), np.ones_like(x)], axis=-1).astype(np.float32)
    return points[ranges > 0]


def test_the_range_images_are_what_the_conversion_makes_of_the_raw_scans():
    scans = sorted((data_root() / "kitti_range/raw_scans").glob("*.bin"))
    if not scans:
        pytest.skip(f"no raw scans in {data_root()}/kitti_range")
    for path in scans:
        drive, frame = path.stem.rsplit("_", 1)
        with Image.open(data_root() / f"kitti_range/{drive}/{int(frame):06d}.png") as image:
            assert np.array_equal(kitti.range_image(kitti.read_points(path)), np.asarray(image))


def test_a_range_image_made_into_points_and_back_is_the_same():
    cells = drawn_cells()
    again = kitti.range_image(points_of(cells))
    assert again.dtype == np.uint16 and np.array_equal(again, cells)


@pytest.mark.parametrize("order", [(3000, 2000), (2000, 3000)])
def test_of_two_returns_in_a_cell_the_nearest_counts(order):
    points = points_of(drawn_cells())
    first = points[100] / np.linalg.norm(points[100, :3]) * 256**-1
    points = np.insert(points, 100, [first * steps for steps in order], axis=0)
    points = np.delete(points, 102, axis=0)
    cells, expected = kitti.range_image(points), drawn_cells()
    ring, column = np.argwhere(cells != expected)[0]
    assert ring == 0 and cells[ring, column] == 2000
    assert (cells != expected).sum() == 1


def test_what_lies_exactly_backwards_is_in_the_first_or_last_column_by_the_sign_of_zero():
    cells = np.zeros((64, 1024), dtype=np.uint16)
    cells[:, 1:-1] = 400
    for zero, column in ((0.0, 0), (-0.0, 1023)):
        points = np.insert(points_of(cells), 511, [-4, zero, 0, 0], axis=0).astype(np.float32)
        assert kitti.range_image(points)[0, column] == 4 * 256


def test_what_is_too_far_for_a_cell_is_no_return():
    points = points_of(drawn_cells())
    points[10] *= 300 / np.linalg.norm(points[10, :3])
    assert (kitti.range_image(points) > 0).sum() == len(points) - 1


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (points_of(drawn_cells())[:40_000], r"\d\d rings, not 64"),
        (points_of(drawn_cells())[:-600], "the last quarter of its last ring is missing"),
        (np.concatenate([points_of(drawn_cells())] * 2), "128 rings, not 64"),
    ],
)
def test_a_scan_without_all_its_rings_is_cut_short(points, reason):
    with pytest.raises(kitti.CutShort, match=f"^{reason}$"):
        kitti.range_image(points)


# From KITTI raw to a data set


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Two drives of KITTI raw; the data root is empty, and the report's only scan the second one of drive_0048."""
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(kitti, "MD5", tmp_path / "kitti_range.md5")
    kitti.MD5.write_text(f"{hashlib.md5(drawn_cells(11).tobytes()).hexdigest()}  sequence_b/000003.png\n")
    for drive, count in (("0005", 3), ("0048", 2)):
        folder = tmp_path / f"raw/2011_09_26/2011_09_26_drive_{drive}_sync/velodyne_points/data"
        folder.mkdir(parents=True)
        for i in range(count):
            points_of(drawn_cells(10 * (count == 2) + i)).tofile(folder / f"{i:010d}.bin")
    return tmp_path / "raw"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["kitti", *map(str, arguments)])
    kitti.main()


def pictures(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_raw_drives_become_range_images_the_same_bytes_each_time(raw, monkeypatch, capsys):
    root = data_root()
    run(monkeypatch, raw)
    first = pictures(root)
    names = {"drive_0005/000000", "drive_0005/000001", "drive_0005/000002", "drive_0048/000000", "sequence_b/000003"}
    assert set(first) == {f"kitti_range/{name}.png" for name in names}
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (f"5 range images written to {root}/kitti_range, 1 of them the report's, which has 1; none left out")
    with Image.open(root / "kitti_range/drive_0005/000002.png") as image:
        assert np.array_equal(np.asarray(image), drawn_cells(2))
    run(monkeypatch, next(raw.rglob("*0005_sync")))  # a drive itself
    run(monkeypatch, raw)
    assert pictures(root) == first
    data = load("kitti_range")
    assert torch.equal(data.images[0, 0], torch.from_numpy(drawn_cells(11) / np.float32(256)))


def test_scans_that_are_cut_short_are_left_out_and_named(raw, monkeypatch, capsys):
    short = sorted(raw.rglob("*.bin"))[:3]
    short[0].write_bytes(short[0].read_bytes()[:-5])
    short[1].write_bytes(short[1].read_bytes()[: 16 * 30_000])
    short[2].write_bytes(b"")
    run(monkeypatch, raw)
    assert len(pictures(data_root())) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert "; 3 left out that are cut short: " in line and all(str(path) in line for path in short)


def test_files_beside_the_scans_are_passed_over(raw, monkeypatch, capsys):
    folder = next(raw.rglob("velodyne_points/data"))
    for name in (".DS_Store", "._0000000000.bin", "0000000000 copy.bin", "timestamps.txt"):
        (folder / name).write_bytes(b"odd")
    other_day = raw / "2011_09_28_drive_0001_sync/velodyne_points/data"
    other_day.mkdir(parents=True)
    (other_day / "0000000000.bin").write_bytes(b"odd")
    run(monkeypatch, raw)
    assert "5 range images" in capsys.readouterr().out


def no_folder(raw):
    return raw / "nowhere", "{raw} is no folder: name the one that holds KITTI raw's drives"


def no_drives(raw):
    return raw.parent / "data", "no scans in {raw}: looked for 2011_09_26_drive_0005_sync/velodyne_points/data/*.bin or"


def none_whole(raw):
    for path in raw.rglob("*.bin"):
        path.write_bytes(b"short")
    return raw, "no whole scan in {raw}: 5 left out that are cut short: "


def not_finite(raw):
    first = min(raw.rglob("*.bin"))
    points = np.fromfile(first, "<f4")
    points[7] = np.nan
    points.tofile(first)
    return raw, f"{first} is no scan of KITTI raw: a number in it is not finite"


def unreadable(raw):
    first = min(raw.rglob("*.bin"))
    first.unlink()
    first.mkdir()
    return raw, f"{first} can't be read (Is a directory)"


@pytest.mark.parametrize("harm", [no_folder, no_drives, none_whole, not_finite, unreadable])
def test_raw_folders_that_can_not_be_converted_are_an_error_in_one_line(raw, harm, monkeypatch):
    folder, reason = harm(raw)
    with pytest.raises(DataError, match="^" + re.escape(reason.format(raw=folder)) + ".*$"):
        run(monkeypatch, folder)
    assert pictures(data_root()) == {}


def test_a_data_root_that_can_not_be_written_to_is_named(raw, monkeypatch):
    (data_root() / "kitti_range").write_text("a file")
    with pytest.raises(ResultsError, match=r"kitti_range/drive_0005/000000\.png can't be written .*SPARSECNN_DATA"):
        run(monkeypatch, raw)


def test_the_command_ends_with_its_error_as_one_line(tmp_path):
    asked = [sys.executable, "-m", "sparsecnn.data.kitti", str(tmp_path / "nowhere")]
    done = subprocess.run(asked, env=os.environ | {"SPARSECNN_DATA": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"DataError: {tmp_path}/nowhere is no folder: name the one that holds KITTI raw's drives\n"


# Reading


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A data set of three scans of two drives."""
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path))
    monkeypatch.setattr(kitti, "MD5", tmp_path / "kitti_range.md5")
    lines = []
    for i, name in enumerate(("drive_0005/000000.png", "drive_0005/000002.png", "sequence_b/000000.png")):
        path = tmp_path / "kitti_range" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn_cells(i)).save(path)
        lines.append(f"{hashlib.md5(drawn_cells(i).tobytes()).hexdigest()}  {name}\n")
    kitti.MD5.write_text("".join(lines))
    return tmp_path / "kitti_range"


def test_scans_are_depths_in_metres_and_labels_their_drives(tiny):
    for odd in (".DS_Store", "drive_0005/.DS_Store", "drive_0005/000001.png", "drive_0001", "raw_scans"):
        (tiny / odd).write_bytes(b"odd")
    data = load("kitti_range")
    assert data.images.shape == (3, 1, 64, 1024) and data.images.dtype == torch.float32
    expected = np.stack([drawn_cells(i) for i in range(3)]) / 256
    assert np.array_equal(data.images[:, 0].numpy(), expected)
    assert data.labels.tolist() == [0, 0, 1] and data.labels.dtype == torch.int64
    assert data.classes == ("drive_0005", "sequence_b") and data.title == "KITTI range images"
    image, label = datasets.Pictures("kitti_range")[2]
    assert torch.equal(image, data.images[2]) and label == 1


def gone(path):
    path.unlink()


def folder_instead(path):
    path.unlink()
    path.mkdir()


def cut_short(path):
    path.write_bytes(path.read_bytes()[:1000])


def empty(path):
    path.write_bytes(b"")


def bit_flipped(path):
    content = path.read_bytes()
    path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])


def cell_changed(path):
    cells = drawn_cells(1)
    cells[3, 4] += 1
    Image.fromarray(cells).save(path)


def turned(path):
    Image.fromarray(np.ascontiguousarray(drawn_cells(1).T)).save(path)


def eight_bits(path):
    Image.fromarray((drawn_cells(1) >> 8).astype(np.uint8)).save(path)


def in_colours(path):
    Image.fromarray(np.zeros((64, 1024, 3), dtype=np.uint8)).save(path)


HARMS = {
    gone: r"can't be read \(No such file or directory\)",
    folder_instead: r"can't be read \(Is a directory\)",
    cut_short: r"is cut short or no picture \(1000 bytes\)",
    empty: r"is cut short or no picture \(0 bytes\)",
    bit_flipped: r"is cut short or no picture \(\d+ bytes\)",
    cell_changed: r"is not the report's scan \(its cells' md5 differs\)",
    turned: r"is no range image of 1024 x 64, 16 bits \(64 x 1024, mode I;?1?6?\)",
    eight_bits: r"is no range image of 1024 x 64, 16 bits \(1024 x 64, mode L\)",
    in_colours: r"is no range image of 1024 x 64, 16 bits \(1024 x 64, mode RGB\)",
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_broken_scan_is_an_error_in_one_line_that_names_it_and_what_helps(tiny, harm):
    victim = tiny / "drive_0005/000002.png"
    harm(victim)
    assert available("kitti_range") == "kitti_range"  # a broken data set is never silently stood in for
    helps = ".*raw_data.php .*python -m sparsecnn.data.kitti RAW_FOLDER"
    with pytest.raises(DataError, match=rf"^{re.escape(str(victim))} {HARMS[harm]}: {helps}$"):
        load("kitti_range")


def test_where_there_are_no_scans_the_street_stands_in_and_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path))
    assert available("kitti_range") == "street"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("KITTI range images: not at hand") and TITLES["street"] in line and str(tmp_path) in line
    for word in ("cvlibs.net/datasets/kitti/raw_data.php", "registration", "CC BY-NC-SA 3.0", "sparsecnn.data.kitti"):
        assert word in line
    with pytest.raises(DataError, match=f"^no KITTI range images in {re.escape(str(tmp_path))}: .*$"):
        load("kitti_range")


def test_the_real_scans_are_read_as_their_description_has_them():
    if not (data_root() / "kitti_range").is_dir():
        pytest.skip(f"no KITTI range images in {data_root()}")
    data = load("kitti_range")
    assert data.images.shape == (251, 1, 64, 1024) and data.labels.bincount().tolist() == [152, 22, 77]
    assert data.classes == ("drive_0005", "sequence_b", "sequence_c")
    filled = [(data.images[data.labels == drive] > 0).float().mean().item() for drive in range(3)]
    assert filled == pytest.approx([0.90, 0.88, 0.83], abs=0.005)
    measured = data.images[data.images > 0]
    assert measured.min() > 1.4 and measured.max() <= 80.1 and 7 < measured.median() < 9


# The split


def kitti_labels():
    """The report's scans without what they show; they need not be at hand."""
    names = list(md5_sums(kitti.MD5))
    drives = sorted({name.split("/")[0] for name in names})
    labels = torch.tensor([drives.index(name.split("/")[0]) for name in names])
    return Images("kitti_range", labels, labels, tuple(drives), **METRES), names


def test_kitti_is_split_by_drive_with_a_gap_and_always_the_same():
    data, names = kitti_labels()
    train, validation, test = split(data, 24, "by drive")
    assert (len(train), len(validation), len(test)) == (112, 24, 42)
    assert names[train[0]] == "drive_0005/000000.png" and names[validation[-1]] == "drive_0005/000152.png"
    assert train.tolist() == list(range(112)) and validation.tolist() == list(range(128, 152))
    tested = [names[i] for i in test]
    assert tested[:22] == [f"sequence_b/{i:06d}.png" for i in range(22)]
    assert tested[22:] == [f"sequence_c/{i:06d}.png" for i in range(0, 77, 4)]
    assert all(map(torch.equal, (train, validation, test), split(data, 24, "by drive")))


@pytest.mark.parametrize("validation", [0, 1, 2, 9])
def test_no_frame_is_in_two_parts_nor_a_drive_both_trained_with_and_tested(validation):
    data = load("street")
    parts = train, held_out, test = split(data, validation, "by drive")
    assert len(train) >= 1 and len(held_out) == validation and len(test) == 8
    together = torch.cat(parts)
    assert len(together.unique()) == len(together) and torch.equal(together, together.sort().values)
    assert not set(data.labels[test].tolist()) & set(data.labels[torch.cat([train, held_out])].tolist())
    assert not validation or held_out.min() - train.max() == 3  # two scans between
    assert all(part.dtype == torch.int64 for part in parts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation": 10}, "validation=10 is not allowed: at least 0, at most 9"),
        ({"validation": -1}, "validation=-1 is not allowed"),
        ({"seed": 1}, "seed=1 is not allowed: a split by drive is not drawn, there is but 0"),
        ({"kind": "own"}, "split='own' is not allowed: street .* has 'by drive'"),
        ({"kind": "stratified"}, "split='stratified' is not allowed: street .* has 'by drive'"),
    ],
)
def test_range_images_are_split_in_no_other_way(settings, message):
    with pytest.raises(SettingError, match=f"^{message}"):
        split(load("street"), **{"kind": "by drive"} | settings)


def test_what_has_no_drives_is_not_split_by_them():
    with pytest.raises(SettingError, match="^split='by drive' is not allowed: digits .* has 'own', 'stratified', "):
        split(load("digits"), 125, "by drive")


# The stand-in


def test_the_street_is_always_the_same_and_quickly_drawn():
    began = time.process_time()
    images, labels = standins.street()
    assert time.process_time() - began < 2
    assert images.shape == (20, 1, 64, 256) and images.dtype == torch.float32
    assert labels.tolist() == [0] * 12 + [1] * 4 + [2] * 4
    assert torch.equal(images, standins.street()[0]) and torch.equal(images, load("street").images)
    assert load("street").classes == ("street_a", "street_b", "street_c")
    assert torch.equal(images * 256, (images * 256).round())


def test_the_street_is_a_street():
    images, labels = standins.street()
    measured = images[images > 0]
    assert measured.min() > 1.5 and measured.max() <= 80 and 5 < measured.median() < 10
    filled = (images > 0).float().mean((1, 2, 3))
    assert filled.min() > 0.8 and filled.max() < 0.92
    # The lowest ring reaches the ground, and nothing under it.
    assert images[:, :, -1].max() < 1.73 / np.sin(np.radians(24.8)) + 0.1

    def apart(one, other):
        both = (images[one] > 0) & (images[other] > 0)
        return (images[one] - images[other])[both].abs().mean()

    within = [apart(i, i + 1) for i in range(19) if labels[i] == labels[i + 1]]
    across = [apart(0, 12), apart(0, 16), apart(12, 16)]
    assert max(within) < min(across)


def test_a_ray_ends_at_the_nearest_box_or_on_the_ground():
    ahead, behind_it = [[10, -1, -1.73], [12, 1, 5]], [[20, -9, -1.73], [21, 9, 5]]
    ranges = standins._ranges(np.array([behind_it, ahead], dtype=float))
    assert ranges.shape == (64, 256)
    ring, column = 10, 127
    elevation, azimuth = standins.RINGS[ring], standins.COLUMNS[column]
    assert 0 < azimuth < 0.02 and -3 < np.degrees(elevation) < 0
    assert ranges[ring, column] == pytest.approx(10 / np.cos(elevation) / np.cos(azimuth))
    beside = 120  # 0.18 of the half circle to the left, past the first box
    assert ranges[ring, beside] == pytest.approx(20 / np.cos(elevation) / np.cos(standins.COLUMNS[beside]))
    assert ranges[ring, 0] == pytest.approx(1.73 / np.sin(-elevation)) and np.isinf(ranges[0, 0])
