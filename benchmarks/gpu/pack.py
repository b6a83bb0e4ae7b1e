"""Packs what a bare machine with a GPU needs into four folders, one a call: `python benchmarks/gpu/pack.py DATA TO`.

gpu0 has wheels and, by xz, MNIST; gpu1 and gpu2 have half each of Caltech-101's photographs, by Lepton, which gives
each back bit for bit in 83% of the bytes. Every photograph is unpacked again and compared. gpu3 has papermill's wheels.

Needs lepton-jpeg-python: `pip install lepton-jpeg-python`.
"""

import argparse
import itertools
import lzma
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import lepton_jpeg_python as lepton

from sparsecnn.data.sources import CALTECH_MD5, MNIST_MD5

# What is installed there stays, but for Pillow, other versions of which decode other pixels.
WHEELS = ("lepton-jpeg-python", f"pillow=={version('pillow')}")
PLATFORMS = [f"manylinux_2_{number}_x86_64" for number in (34, 28, 27, 26, 17, 12, 5)]  # of glibc
NOTEBOOKS = ("papermill", "ipykernel", "ipywidgets")  # with what they need


def packed(photograph: Path) -> bytes:
    raw = photograph.read_bytes()
    small = lepton.compress_bytes(raw)
    if bytes(lepton.decompress_bytes(small)) != raw:
        sys.exit(f"{photograph} does not come back from Lepton")
    return bytes(small)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("data", type=Path, help="the data root, see the README")
    ask.add_argument("to", type=Path, help="where the folders are made")
    ask.add_argument("--python", default="3.12", help="the bare machine's; 3.12 by default")
    asked = ask.parse_args()
    names = [line.split()[1] for line in CALTECH_MD5.read_text(encoding="utf-8").splitlines()]
    photographs = [asked.data / "caltech101/101_ObjectCategories" / name for name in names]
    with ThreadPoolExecutor() as threads:
        small = list(threads.map(packed, photographs))
    digits = {name: lzma.compress((asked.data / "MNIST/raw" / name).read_bytes(), preset=6) for name in MNIST_MD5}
    folders = [asked.to / f"gpu{number}" for number in range(4)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for name, content in digits.items():
        (folders[0] / f"{name}.xz").write_bytes(content)
    download = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--python-version", asked.python]
    download += [word for name in PLATFORMS for word in ("--platform", name)]
    subprocess.run([*download, "--no-deps", "-d", folders[0], *WHEELS], check=True)
    subprocess.run([*download, "-d", folders[3], *NOTEBOOKS], check=True)
    ends = list(itertools.accumulate(map(len, small)))
    cut = sum(end <= ends[-1] / 2 for end in ends)
    for folder, begin, end in zip(folders[1:3], (0, cut), (cut, len(small)), strict=True):
        with (folder / "photographs").open("wb") as out:
            out.write(struct.pack(f"<II{end - begin}I", begin, end - begin, *map(len, small[begin:end])))
            out.write(b"".join(small[begin:end]))
    for folder in folders:
        print(f"{folder}: {sum(file.stat().st_size for file in folder.iterdir()) / 2**20:.2f} MiB", flush=True)


if __name__ == "__main__":
    main()
