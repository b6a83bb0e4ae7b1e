"""The device that trains, and its memory."""

import contextlib
import ctypes
import functools
import warnings
from collections.abc import Iterator

import torch

from ..checks import SettingError, check_choice

__all__ = [
    "DEVICES",
    "available_devices",
    "choose_device",
    "compiles",
    "computes_in_bf16",
    "exact_float32",
    "keep_freed_memory",
    "name_of",
    "release_freed_memory",
]

DEVICES = ("auto", "cpu", "cuda")


def available_devices() -> list[str]:
    """The names of those here: "cpu", and "cuda" where PyTorch finds one."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes CUDA where there is one."""
    check_choice("device", name, DEVICES)
    if name == "cuda" and name not in available_devices():
        raise SettingError("device='cuda' is not allowed: PyTorch finds no CUDA device here, 'cpu' or 'auto' works")
    if name == "auto":
        name = available_devices()[-1]
    return torch.device(name)


def name_of(device: torch.device) -> str:
    """The name under which a run's rows say where it was trained."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu, 1 thread"


def computes_in_bf16(device: torch.device) -> bool:
    """Whether it has instructions for bf16, without which it would only imitate it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = getattr(torch.cpu, "get_capabilities", dict)()  # not in PyTorch 2.11, which then takes float32
    return known.get("amx_bf16", False) or known.get("avx512_bf16", False)


@functools.cache
def compiles(device: torch.device) -> bool:
    """Whether torch.compile works for it here: for CUDA it asks for Triton and a C compiler. Where not, it warns."""
    try:
        torch.compile(lambda numbers: numbers + 1)(torch.ones(1, device=device))
    except Exception as error:  # of as many kinds as there are things that may be missing
        why = str(error).strip().split("\n")[0]
        warnings.warn(f"torch.compile does not work for {device.type} here ({why}): slower without", stacklevel=2)
        return False
    return True


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Convolutions and matrix products in whole float32, and cuDNN with the same results each time, whatever precision
    the process has asked PyTorch for (TF32 on CUDA, bf16 on a CPU); afterwards that is as it was."""
    backends = torch.backends
    parts = (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    )

    def ask(precisions: list[str]) -> None:
        for part, precision in zip(parts, precisions, strict=True):
            part.fp32_precision = precision

    whole, asked = ["ieee"] * len(parts), [part.fp32_precision for part in parts]
    ask(whole)
    # PyTorch and its compiler read the older settings too, and refuse where one allows what a newer one does not.
    products, tf32 = torch.get_float32_matmul_precision(), True
    with contextlib.suppress(RuntimeError):
        tf32 = backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    backends.cudnn.allow_tf32 = False
    ask(whole)  # again, since the older ones change the newer
    try:
        # ``flags`` alone would switch cuDNN off.
        exact = {"deterministic": True, "allow_tf32": False, "fp32_precision": "ieee"}
        with backends.cudnn.flags(enabled=True, benchmark=False, **exact):
            yield
    finally:
        torch.set_float32_matmul_precision(products)
        backends.cudnn.allow_tf32 = tf32
        ask(asked)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """None elsewhere."""
    with contextlib.suppress(OSError, TypeError):
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def keep_freed_memory() -> None:
    """Has glibc keep what is freed, instead of fetching every feature map from the kernel anew, page by page: a step on
    the CPU takes two thirds of the time on Caltech-101, half on MNIST."""
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never


def release_freed_memory() -> None:
    if libc := _glibc():
        libc.malloc_trim(0)
