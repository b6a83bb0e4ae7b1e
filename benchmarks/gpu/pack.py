"""Packs what a bare machine with a GPU needs into two folders, one a call: `python benchmarks/gpu/pack.py DATA TO`.

Caltech-101's photographs by Lepton, which gives each back bit for bit in 83% of the bytes, half in each folder; MNIST,
for the first call's checks, by xz; and wheels. Every photograph is unpacked again and compared.

Needs lepton-jpeg-python: `pip install lepton-jpeg-python`.
"""

import argparse
import lzma
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lepton_jpeg_python as lepton

from sparsecnn.data.sources import CALTECH_MD5, MNIST_MD5

WHEELS = ("lepton-jpeg-python", "hypothesis", "sortedcontainers")  # for the first call; what is installed stays


def packed(photograph: Path) -> bytes:
    raw = photograph.read_bytes()
    small = lepton.compress_bytes(raw)
    if bytes(lepton.decompress_bytes(small)) != raw:
        sys.exit(f"{photograph} does not come back from Lepton")
    return bytes(small)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("data", type=Path, help="the data root, see the README")
    ask.add_argument("to", type=Path, help="where the folders gpu1 and gpu2 are made")
    ask.add_argument("--python", default="3.12", help="the bare machine's; 3.12 by default")
    ask.add_argument(
        "--wheels", type=Path, help="a folder of further wheels for the second call: papermill, what it needs"
    )
    asked = ask.parse_args()
    names = [line.split()[1] for line in CALTECH_MD5.read_text(encoding="utf-8").splitlines()]
    photographs = [asked.data / "caltech101/101_ObjectCategories" / name for name in names]
    with ThreadPoolExecutor() as threads:
        small = list(threads.map(packed, photographs))
    digits = {name: lzma.compress((asked.data / "MNIST/raw" / name).read_bytes(), preset=6) for name in MNIST_MD5}
    folders = [asked.to / "gpu1", asked.to / "gpu2"]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for name, content in digits.items():
        (folders[0] / f"{name}.xz").write_bytes(content)
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folders[0]]
    platform = ["--platform", "manylinux_2_34_x86_64", "--platform", "manylinux_2_17_x86_64", "--platform", "any"]
    subprocess.run([*download, *platform, "--python-version", asked.python, *WHEELS], check=True)
    for wheel in asked.wheels.glob("*.whl") if asked.wheels else ():
        shutil.copy(wheel, folders[1])
    # Cut where both folders come out as large.
    first, second = (size_of(folder) for folder in folders)
    half, cut = (first + second + sum(map(len, small))) / 2, 0
    while first < half:
        first += len(small[cut])
        cut += 1
    for folder, begin, end in zip(folders, (0, cut), (cut, len(small)), strict=True):
        with (folder / "photographs").open("wb") as out:
            out.write(struct.pack(f"<II{end - begin}I", begin, end - begin, *map(len, small[begin:end])))
            out.write(b"".join(small[begin:end]))
        print(f"{folder}: {end - begin} photographs, {size_of(folder) / 2**20:.2f} MiB", flush=True)


if __name__ == "__main__":
    main()
