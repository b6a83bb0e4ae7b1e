"""What pack.py made back into a data root, on the bare machine: `python benchmarks/gpu/unpack.py build/gpu1 DATA`."""

import hashlib
import lzma
import os
import struct
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import lepton_jpeg_python as lepton

from sparsecnn.data.sources import CALTECH_MD5


def unpacked(folder: Path, photographs: list[tuple[str, str, bytes]]) -> list[str]:
    """Writes these, each with its md5 and name; the names of those that came out wrong."""
    wrong = []
    for md5, name, small in photographs:
        raw = bytes(lepton.decompress_bytes(small))
        if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
            wrong.append(name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    return wrong


def main(part: Path, root: Path) -> None:
    for file in part.glob("*.xz"):
        (root / "MNIST/raw").mkdir(parents=True, exist_ok=True)
        (root / "MNIST/raw" / file.stem).write_bytes(lzma.decompress(file.read_bytes()))
    if not (part / "photographs").exists():
        return
    begun = time.perf_counter()
    content = (part / "photographs").read_bytes()
    begin, count = struct.unpack_from("<II", content)
    at, photographs = 8 + 4 * count, []
    lines = CALTECH_MD5.read_text(encoding="utf-8").splitlines()[begin : begin + count]
    for size, line in zip(struct.unpack_from(f"<{count}I", content, 8), lines, strict=True):
        photographs.append((*line.split(), content[at : at + size]))
        at += size
    cores = len(os.sched_getaffinity(0))
    shares = [photographs[share :: 4 * cores] for share in range(4 * cores)]
    with ProcessPoolExecutor(cores) as pool:
        to = root / "caltech101/101_ObjectCategories"
        wrong = sum(pool.map(unpacked, [to] * len(shares), shares), [])
    print(f"unpacked {count} photographs in {time.perf_counter() - begun:.1f} s", flush=True)
    if wrong:
        sys.exit(f"{len(wrong)} photographs came out wrong, {wrong[0]} the first")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
