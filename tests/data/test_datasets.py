import errno
import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparsecnn
from sparsecnn.checks import SettingError
from sparsecnn.data import datasets, downloads, sources
from sparsecnn.data.datasets import available, load, split
from sparsecnn.data.downloads import DataError, data_root
from sparsecnn.data.images import TITLES, Images
from sparsecnn.experiment import experiment
from sparsecnn.training.batches import FixedMaskBatches

# The data root


def test_the_data_root_is_the_environments_or_the_repositorys(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.delenv("SPARSECNN_DATA")
    assert data_root() == Path(sparsecnn.__file__).parent.parent / "data"


@pytest.mark.parametrize("use", [data_root, lambda: load("mnist"), lambda: available("mnist")])
def test_a_data_root_that_is_no_folder_is_an_error_that_names_it(use, monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "nowhere"))):
        use()


@pytest.mark.parametrize("use", [load, available])
def test_an_unknown_data_set_is_refused_with_those_that_exist(use):
    with pytest.raises(SettingError, match="'minst'.*'mnist', 'caltech101', 'digits', 'shapes'"):
        use("minst")


# MNIST


@pytest.fixture
def real_mnist():
    folder = data_root() / "MNIST/raw"
    if not folder.is_dir():
        pytest.skip(f"no MNIST in {data_root()}")
    return folder


def test_mnist_is_what_the_world_knows_as_mnist(real_mnist):
    data = load("mnist")
    assert data.images.shape == (70_000, 1, 28, 28) and data.images.dtype == torch.uint8
    assert data.labels.shape == (70_000,) and data.labels.dtype == torch.int64
    assert data.test_count == 10_000 and data.title == "MNIST" and data.classes == tuple("0123456789")
    counts = [data.labels[part].bincount().tolist() for part in (slice(60_000), slice(60_000, None))]
    assert counts == [
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ]
    sample = data.images[:60_000:7] / 255  # an odd step, since two groups of writers take turns
    assert sample.mean() == pytest.approx(data.mean[0], abs=2e-3)
    assert sample.std() == pytest.approx(data.std[0], abs=2e-3)


@pytest.mark.parametrize(
    ("name", "validation", "sizes"), [("mnist", 5000, [55_000, 5000, 10_000]), ("digits", 125, [1312, 125, 360])]
)
def test_a_split_is_disjoint_stratified_and_always_the_same(name, validation, sizes, request):
    if name == "mnist":
        request.getfixturevalue("real_mnist")
    data = load(name)
    parts = split(data, validation)
    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(sum(sizes)))
    assert parts[2].min() == sum(sizes[:2])  # the data set's own test split
    pool = data.labels[: sum(sizes[:2])].bincount() / sum(sizes[:2])
    for part in parts[:2]:
        assert (data.labels[part].bincount(minlength=10) - pool * len(part)).abs().max() <= 1
    assert all(map(torch.equal, parts, split(data, validation)))


CALTECH_WAYS = {
    "stratified": (1389, [5552, 1389, 1736], "cafdb470"),
    "99 classes, stratified": (1378, [5510, 1378, 1723], "1d9deed3"),
    "99 classes, unstratified": (1378, [5510, 1378, 1723], "8718edf9"),
}


def manifest_labels() -> torch.Tensor:
    """The classes of Caltech-101's images; the photographs need not be here."""
    names = [line.split()[1].split("/")[0] for line in sources.CALTECH_MD5.read_text().splitlines()]
    return torch.tensor([sorted(set(names)).index(name) for name in names])


@pytest.mark.parametrize("kind", CALTECH_WAYS)
def test_caltech_101_is_split_64_16_20_and_always_the_same(kind):
    labels = manifest_labels()
    data = Images("caltech101", labels, labels, tuple(range(101)), (), ())
    validation, sizes, checksum = CALTECH_WAYS[kind]
    parts = split(data, validation, kind)
    assert [len(part) for part in parts] == sizes
    together = torch.cat(parts)
    assert len(together.unique()) == sum(sizes) == (8677 if kind == "stratified" else 8611)
    assert len(labels[together].unique()) == (101 if kind == "stratified" else 99)
    shares = labels[together].bincount(minlength=101) / sum(sizes)
    most = max((labels[part].bincount(minlength=101) - shares * len(part)).abs().max() for part in parts)
    assert (most <= 1) == (not kind.endswith("unstratified"))
    assert hashlib.md5(together.numpy().tobytes()).hexdigest()[:8] == checksum
    again = split(data, validation, kind, seed=1)
    assert [len(part) for part in again] == sizes and not any(map(torch.equal, parts, again))


def test_another_split_leaves_the_data_sets_own_test_images():
    parts, others = (split(load("digits"), 125, seed=seed) for seed in (0, 1))
    assert torch.equal(parts[2], others[2]) and not torch.equal(parts[1], others[1])
    with pytest.raises(SettingError, match="seed=-1"):
        split(load("digits"), 125, seed=-1)


def mapped_memory() -> int:
    """Of this process's files, in bytes."""
    return int(re.search(r"RssFile:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))[1]) << 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_was_read_of_a_mapped_file_is_given_back(tmp_path):
    np.save(tmp_path / "pixels.npy", np.arange(64 << 20, dtype=np.uint8).reshape(64, 1, 1024, 1024))
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="c")
    data = Images("shapes", torch.from_numpy(pixels), torch.zeros(64), ("",), (0.5,), (0.5,), file=pixels.base)
    before, total = mapped_memory(), data.images.sum()
    assert mapped_memory() > before + (50 << 20)
    batches = FixedMaskBatches(data, experiment("shapes", "controlled", "ConvNet", 0.5), torch.device("cpu"))
    for chosen in torch.arange(64).split(8):
        batches(chosen, torch.Generator())
    assert mapped_memory() < before + (10 << 20)
    assert data.images.sum() == total


def test_a_data_set_without_test_images_needs_a_split():
    with pytest.raises(SettingError, match="split='own' is not allowed: .* has no test images of its own"):
        split(load("shapes"), 64)


def test_a_split_without_validation_trains_on_all_but_the_test_images():
    train, validation, test = split(load("digits"))
    assert torch.equal(torch.cat([train, test]), torch.arange(1797)) and len(test) == 360 and len(validation) == 0


def test_more_validation_than_training_images_is_refused():
    with pytest.raises(SettingError, match="validation=1437"):
        split(load("digits"), 1437)


def cut_short(path, content):
    path.write_bytes(content[:-1])


def altered(path, content):
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def missing(path, content):
    pass


@pytest.mark.parametrize("harm", [cut_short, altered, missing])
@pytest.mark.parametrize("victim", sources.MNIST_MD5)
def test_a_broken_mnist_file_is_an_error_that_names_it(real_mnist, victim, harm, monkeypatch, tmp_path):
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    for name in sources.MNIST_MD5:
        if name == victim:
            harm(folder / name, (real_mnist / name).read_bytes())
        else:
            (folder / name).symlink_to(real_mnist.resolve() / name)
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path))
    assert available("mnist") == "mnist"  # a broken data set is never silently stood in for
    with pytest.raises(DataError, match=rf"^{re.escape(str(folder / victim))} .*$"):
        load("mnist")


# Downloads, from a server of our own


def idx_files():
    """Tiny files in MNIST's format: 30 training and 20 test images."""
    random = np.random.default_rng(0)
    files = {}
    for part, count in (("train", 30), ("t10k", 20)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        sizes = b"".join(size.to_bytes(4, "big") for size in images.shape)
        files[f"{part}-images-idx3-ubyte"] = b"\0\0\x08\x03" + sizes + images.tobytes()
        files[f"{part}-labels-idx1-ubyte"] = b"\0\0\x08\x01" + sizes[:4] + labels.tobytes()
    return files


def serves(request, body, sent=None):
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body if sent is None else sent)


def serves_404(request, body):
    request.send_error(404)


def serves_500(request, body):
    request.send_error(500)


def cuts_off(request, body):
    serves(request, body, body[: len(body) // 2])


def alters_a_byte(request, body):
    serves(request, body[:-1] + bytes([body[-1] ^ 1]))


def lacks_the_last_file(request, body):
    (serves_404 if "t10k-labels" in request.path else serves)(request, body)


def never_answers(request, body):
    request.server.ended.wait(60)


def stands_still_halfway(request, body):
    cuts_off(request, body)
    request.wfile.flush()
    request.server.ended.wait(60)


def talks_no_http(request, body):
    request.wfile.write(b"220 mail server ready\r\n")


def hangs_up(request, body):
    pass


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """``mirror(behaviour)`` makes a server that so behaves MNIST's only mirror, and tmp_path the empty data root."""
    files = idx_files()
    packed = {f"/{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    servers = []

    def start(behaviour):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.server.requests += 1
                behaviour(self, packed.get(self.path, b""))

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.requests, server.ended = 0, threading.Event()
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        monkeypatch.setitem(downloads.SERVERS, "mnist", f"http://127.0.0.1:{server.server_port}/")
        return server

    registry = {name[1:]: hashlib.md5(content).hexdigest() for name, content in packed.items()}
    monkeypatch.setitem(downloads.ARCHIVES_MD5, "mnist", registry)
    md5s = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(sources, "MNIST_MD5", md5s)
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "SCHEMES", ("http",))  # the server speaks no https
    monkeypatch.setattr(downloads, "RETRIES", 0)
    yield start
    for server in servers:
        server.ended.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "behaviour",
    [
        serves_404,
        serves_500,
        cuts_off,
        alters_a_byte,
        lacks_the_last_file,
        never_answers,
        stands_still_halfway,
        talks_no_http,
        hangs_up,
    ],
)
def test_where_a_download_fails_the_stand_in_is_named_and_nothing_is_left(
    behaviour, mirror, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(downloads, "PATIENCE", 1)
    server = mirror(behaviour)
    start = time.monotonic()
    assert available("mnist") == "digits"
    assert time.monotonic() - start < 15
    assert server.requests
    (line,) = capsys.readouterr().out.splitlines()
    assert "MNIST: not at hand" in line and TITLES["digits"] in line
    assert list(tmp_path.iterdir()) == []
    # The numbers of a stand-in are never taken for MNIST's: who asks for MNIST by name gets an error.
    with pytest.raises(DataError, match="no MNIST in"):
        load("mnist")


def test_a_download_lands_in_torchvisions_layout_and_happens_once(mirror, tmp_path, capsys):
    server = mirror(serves)
    assert available("mnist") == "mnist"
    assert capsys.readouterr().out == ""
    raw = tmp_path / "MNIST/raw"
    for name, content in idx_files().items():
        assert (raw / name).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]
    asked = server.requests
    data = load("mnist")
    assert available("mnist") == "mnist" and server.requests == asked
    assert data.images.shape == (50, 1, 28, 28) and data.test_count == 20
    assert data.labels.tolist() == [i % 10 for i in range(30)] + [i % 10 for i in range(20)]
    assert data.images[:30].numpy().tobytes() == idx_files()["train-images-idx3-ubyte"][16:]


def test_load_downloads_what_is_missing_and_makes_the_data_folder(mirror, monkeypatch, tmp_path):
    mirror(serves)
    monkeypatch.delenv("SPARSECNN_DATA")
    monkeypatch.setattr(downloads, "HOME", tmp_path / "clone")
    assert len(load("mnist").labels) == 50
    assert (tmp_path / "clone/data/MNIST/raw").is_dir()


def test_plain_http_is_refused(mirror, monkeypatch, tmp_path, capsys):
    server = mirror(serves)
    monkeypatch.undo()
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path))
    monkeypatch.setitem(downloads.SERVERS, "mnist", f"http://127.0.0.1:{server.server_port}/")
    assert available("mnist") == "digits"
    assert "plain http, which is refused" in capsys.readouterr().out
    assert server.requests == 0


def test_a_detour_over_plain_http_is_refused_before_it_is_taken(mirror, monkeypatch, capsys):
    def sends_elsewhere(request, _):
        request.send_response(302)
        request.send_header("Location", "ftp://127.0.0.1/train-images-idx3-ubyte.gz")
        request.end_headers()

    server = mirror(sends_elsewhere)
    assert available("mnist") == "digits"
    assert "ftp://127.0.0.1/train-images-idx3-ubyte.gz is plain http" in capsys.readouterr().out
    assert server.requests == 1


def test_a_download_is_tried_again_and_says_how_far_it_is(mirror, monkeypatch, capsys):
    def fails_at_first(request, body):
        (serves if request.server.requests > 1 else cuts_off)(request, body)

    monkeypatch.setattr(downloads, "RETRIES", 1)
    mirror(fails_at_first)
    assert available("mnist") == "mnist"
    assert re.search(r"^MNIST, t10k-labels-idx1-ubyte.gz: (\S+) of \1 bytes, ", capsys.readouterr().err, re.M)


# Data as people have it


def packed(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def with_dots(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("-idx", ".idx"))


def beside_dot_files(folder: Path) -> None:
    (folder / ".DS_Store").touch()


@pytest.mark.parametrize("place", ["MNIST/raw", "MNIST", "mnist", "mnist/raw", "."])
@pytest.mark.parametrize("change", [packed, with_dots, beside_dot_files])
def test_mnist_is_found_as_people_have_it(change, place, mirror, tmp_path):
    server = mirror(serves_404)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name, content in idx_files().items():
        (tmp_path / place / name).write_bytes(content)
    change(tmp_path / place)
    assert available("mnist") == "mnist" and server.requests == 0
    assert load("mnist").images[:30].numpy().tobytes() == idx_files()["train-images-idx3-ubyte"][16:]


@pytest.mark.parametrize("place", ["caltech101/101_ObjectCategories", "caltech-101/101_ObjectCategories",
                                   "101_ObjectCategories", "caltech101", "."])  # fmt: skip
def test_caltech_101_is_found_as_people_have_it(place, tiny_caltech, tmp_path, monkeypatch):
    monkeypatch.setitem(downloads.SIGNS, "caltech101", {"ant", "bee"})
    expected = load("caltech101").images
    datasets._load.cache_clear()
    shutil.rmtree(tmp_path / "build")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(tiny_caltech, elsewhere / place, dirs_exist_ok=True)
    (elsewhere / place / ".DS_Store").touch()
    monkeypatch.setenv("SPARSECNN_DATA", str(elsewhere))
    assert available("caltech101") == "caltech101" and torch.equal(load("caltech101").images, expected)


def test_where_a_data_set_is_not_what_was_looked_for_and_what_is_there_is_said(mirror, tmp_path):
    mirror(serves_404)
    (tmp_path / "mnist.npz").touch()
    (tmp_path / ".DS_Store").touch()
    with pytest.raises(DataError, match="looked for MNIST/raw/, there is mnist.npz; its download failed: 404"):
        load("mnist")


def test_taking_the_named_files_away_helps(mirror, tmp_path):
    mirror(serves)
    load("mnist")
    datasets._load.cache_clear()
    folder = tmp_path / "MNIST/raw"
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"short")
    with pytest.raises(DataError, match=f"take the data set's files out of {folder} to have it downloaded again"):
        load("mnist")
    shutil.rmtree(folder)
    assert len(load("mnist").labels) == 50


def test_a_broken_photograph_names_the_folder_of_all_classes(tiny_caltech):
    (tiny_caltech / "ant/image_0002.jpg").unlink()
    with pytest.raises(DataError, match=f"take the data set's files out of {tiny_caltech} to have"):
        load("caltech101")


@pytest.mark.parametrize("place", ["..", "absolute"])
def test_an_archive_that_is_not_the_known_one_is_never_opened(place, mirror, monkeypatch, tmp_path):
    """One that would write outside the data root, say."""
    outside = tmp_path.parent / f"outside-{tmp_path.name}"
    member = str(outside) if place == "absolute" else f"../../{outside.name}"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(member, "hostile")
    server = mirror(lambda request, _: serves(request, archive.getvalue()))
    monkeypatch.setitem(downloads.SERVERS, "caltech101", downloads.SERVERS["mnist"])
    assert available("caltech101") == "shapes"
    assert server.requests
    assert not outside.exists()
    assert list(tmp_path.iterdir()) == []


def test_caltech_101_comes_out_of_its_archive(mirror, tiny_caltech, monkeypatch, tmp_path):
    inner, outer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as file:
        file.add(tiny_caltech, "101_ObjectCategories")
    with zipfile.ZipFile(outer, "w") as file:
        file.writestr("caltech-101/101_ObjectCategories.tar.gz", inner.getvalue())
    mirror(lambda request, _: serves(request, outer.getvalue()))
    monkeypatch.setitem(downloads.SERVERS, "caltech101", downloads.SERVERS["mnist"])
    known = {"caltech-101.zip": hashlib.md5(outer.getvalue()).hexdigest()}
    monkeypatch.setitem(downloads.ARCHIVES_MD5, "caltech101", known)
    shutil.rmtree(tmp_path / "caltech101")
    assert load("caltech101").labels.tolist() == [1, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "caltech101", "caltech101.md5"]


def test_where_caltech_101_cannot_be_had_the_shapes_stand_in(monkeypatch, tmp_path, capsys):
    def download(*_):
        raise OSError("the drive\nis full")

    monkeypatch.setattr(downloads, "_download", download)
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path))
    assert available("caltech101") == "shapes"
    (line,) = capsys.readouterr().out.splitlines()
    assert "Caltech-101" in line and "the drive is full" in line and TITLES["shapes"] in line
    assert list(tmp_path.iterdir()) == []


# Stand-ins


@pytest.mark.parametrize(
    ("name", "shape", "least", "real"),
    [("digits", (1797, 1, 28, 28), 174, "MNIST"), ("shapes", (400, 3, 224, 224), 40, "Caltech-101")],
)
def test_a_stand_in_is_shaped_like_what_it_stands_in_for(name, shape, least, real):
    data = load(name)
    assert data.images.shape == shape and data.images.dtype == torch.uint8
    assert data.labels.shape == shape[:1] and data.labels.dtype == torch.int64
    assert len(data.mean) == len(data.std) == shape[1]
    assert len(data.classes) == 10 and data.labels.bincount().tolist() >= [least] * 10
    assert f"standing in for {real}" in data.title and name in data.title
    assert data.images.amin() == 0 and data.images.amax() == 255
    assert len({image.numpy().tobytes() for image in data.images}) > 0.99 * len(data.images)

    datasets._load.cache_clear()
    again = load(name)
    assert again.images is not data.images
    assert torch.equal(again.images, data.images) and torch.equal(again.labels, data.labels)


def test_both_parts_of_the_digits_hold_every_class():
    data = load("digits")
    train, _, test = split(data)
    assert data.labels[train].bincount().min() > 130 and data.labels[test].bincount().min() > 30


# Caltech-101


def manifest():
    return {name: md5 for md5, name in (line.split("  ") for line in sources.CALTECH_MD5.read_text().splitlines())}


def test_the_manifest_lists_8677_images_of_101_classes():
    names = manifest()
    assert len(names) == 8677 == len(sources.CALTECH_MD5.read_text().splitlines())
    assert len({name.split("/")[0] for name in names}) == 101
    assert not any("BACKGROUND" in name for name in names)
    assert all(re.fullmatch(r"[\w-]+/image_\d{4}\.jpg", name) for name in names)
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in names.values())


def test_the_manifest_agrees_with_the_real_folder():
    folder = data_root() / "caltech101/101_ObjectCategories"
    if not folder.is_dir():
        pytest.skip(f"no Caltech-101 in {data_root()}")
    names = manifest()
    there = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.jpg")}
    assert names.keys() == {name for name in there if not name.startswith("BACKGROUND_Google/")}
    for name in list(names)[::200]:
        assert hashlib.md5((folder / name).read_bytes()).hexdigest() == names[name]


@pytest.fixture
def tiny_caltech(monkeypatch, tmp_path):
    """A data root with three images of two classes, and a manifest that lists them; the cache goes to tmp_path too."""
    random = np.random.default_rng(0)
    folder = tmp_path / "caltech101/101_ObjectCategories"
    pictures = {
        "bee/image_0001.jpg": random.integers(0, 256, (30, 20, 3), dtype=np.uint8),
        "ant/image_0001.jpg": random.integers(0, 256, (300, 200, 3), dtype=np.uint8),
        "ant/image_0002.jpg": random.integers(0, 256, (40, 50), dtype=np.uint8),
    }
    lines = []
    for name, pixels in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
        lines.append(f"{hashlib.md5((folder / name).read_bytes()).hexdigest()}  {name}\n")
    (tmp_path / "caltech101.md5").write_text("".join(lines))
    monkeypatch.setattr(sources, "CALTECH_MD5", tmp_path / "caltech101.md5")
    monkeypatch.setattr(downloads, "HOME", tmp_path)
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path))
    return folder


def test_caltech_101_is_decoded_resized_and_made_rgb(tiny_caltech):
    data = load("caltech101")
    assert data.images.shape == (3, 3, 224, 224) and data.images.dtype == torch.uint8
    assert data.classes == ("ant", "bee") and data.labels.tolist() == [1, 0, 0] and data.labels.dtype == torch.int64
    assert data.title == "Caltech-101" and data.test_count == 0
    for i, name in enumerate(["bee/image_0001.jpg", "ant/image_0001.jpg", "ant/image_0002.jpg"]):
        wanted = Image.open(tiny_caltech / name).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        assert np.array_equal(data.images[i].permute(1, 2, 0), wanted)
    assert torch.equal(data.images[2, 0], data.images[2, 1])  # the grey one


def test_caltech_101s_labels_need_no_data_at_hand(tiny_caltech, monkeypatch, tmp_path):
    whole = load("caltech101")
    monkeypatch.setenv("SPARSECNN_DATA", str(tmp_path / "nowhere"))
    labelled = load("caltech101", pixels=False)
    assert torch.equal(labelled.labels, whole.labels) and labelled.classes == whole.classes
    assert labelled.images.shape == whole.images.shape and labelled.images.is_meta


def test_caltech_101_is_decoded_only_once(tiny_caltech, monkeypatch):
    first = load("caltech101").images
    datasets._load.cache_clear()
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(load("caltech101").images, first)


@pytest.mark.parametrize("harm", [lambda cache: cache[:-7], lambda cache: b"", lambda cache: cache[:200] + cache])
def test_a_broken_cache_is_an_error_that_names_it(tiny_caltech, tmp_path, harm):
    load("caltech101")
    datasets._load.cache_clear()
    (cache,) = (tmp_path / "build/cache").iterdir()
    cache.write_bytes(harm(cache.read_bytes()))
    with pytest.raises(DataError, match=rf"^{re.escape(str(cache))} .*delete it to decode the images again$"):
        load("caltech101")


@pytest.mark.parametrize("harm", [cut_short, altered, missing])
def test_a_broken_caltech_image_is_an_error_that_names_it_and_leaves_no_cache(tiny_caltech, tmp_path, harm):
    victim = tiny_caltech / "ant/image_0002.jpg"
    content = victim.read_bytes()
    victim.unlink()
    harm(victim, content)
    with pytest.raises(DataError, match=rf"^{re.escape(str(victim))} .*$"):
        load("caltech101")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "build" in path.parts] == []
    victim.write_bytes(content)
    assert len(load("caltech101").labels) == 3


def test_where_the_cache_has_no_room_it_is_said_and_nothing_is_left(tiny_caltech, tmp_path, monkeypatch):
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"build/cache can't take .*\(No space left on device\): .* GB must be free"):
        load("caltech101")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "build" in path.parts] == []


def test_pictures_read_one_by_one_are_those_that_are_loaded_together(tiny_caltech):
    pictures, whole = datasets.Pictures("caltech101"), load("caltech101")
    assert len(pictures) == 3
    for index in (0, 1, 2, -1):
        image, label = pictures[index]
        assert image.dtype == torch.uint8 and torch.equal(image, whole.images[index])
        assert label == whole.labels[index]
    assert len(list(pictures)) == 3  # it ends


def test_a_picture_is_checked_when_it_is_read_and_no_other_is(tiny_caltech, tmp_path):
    victim = tiny_caltech / "ant/image_0002.jpg"
    cut_short(victim, victim.read_bytes())
    pictures = datasets.Pictures("caltech101")
    assert pictures[1][1] == 0
    with pytest.raises(DataError, match=rf"^{re.escape(str(victim))} is cut short or altered .*$"):
        pictures[2]
    assert not (tmp_path / "build").exists()


def test_pictures_of_a_data_set_with_test_images_are_these_after_the_transform():
    data = load("digits")
    pictures = datasets.Pictures("digits", lambda image: image.neg())
    assert len(pictures) == data.test_count == 360
    for index, place in ((0, -360), (359, -1), (-360, -360)):
        image, label = pictures[index]
        assert torch.equal(image, data.images[place].neg()) and label == data.labels[place]
    with pytest.raises(IndexError):
        pictures[360]


def test_an_empty_data_set_folder_counts_as_missing(tiny_caltech, monkeypatch):
    shutil.rmtree(tiny_caltech)
    tiny_caltech.mkdir()

    def download(*_):
        raise OSError("no network")

    monkeypatch.setattr(downloads, "_download", download)
    assert available("caltech101") == "shapes"
