"""The machine as the training loop sees it: device, precision, and this process among others."""

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch

PrecisionName = Literal["auto", "bf16", "float32"]


@dataclass(frozen=True)
class Device:
    """Where this process computes, in which precision, and its rank among the processes.

    Args:
        device: of networks and views.
        precision: "bf16" (autocast; loss, normalization and statistics stay float32) or "float32".
        rank: of this process, in [0, world_size).
        world_size: processes that train together.
    """

    # Of networks and views: convolutions are up to a third faster in it, in either precision (docs/log.md).
    memory_format: ClassVar[torch.memory_format] = torch.channels_last

    device: torch.device
    precision: Literal["bf16", "float32"]
    rank: int = 0
    world_size: int = 1

    @property
    def autocast(self) -> Callable[[], AbstractContextManager[object]]:
        """Makes the context in which networks run."""
        if self.precision == "float32":
            return nullcontext
        return partial(torch.autocast, self.device.type, dtype=torch.bfloat16)


def pick_device(precision: PrecisionName = "auto", gpu: int | None = None) -> Device:
    """Return a CUDA device, or the CPU, with the precision that is fast there.

    Args:
        precision: "auto" takes bf16 on CUDA and where the processor has bf16 units, else float32.
        gpu: number of the CUDA device, by default the first.
    """
    cuda = "cuda" if gpu is None else f"cuda:{gpu}"
    device = torch.device(cuda if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = "bf16" if _has_bf16_units(device) else "float32"
    return Device(device, precision)


def _has_bf16_units(device: torch.device) -> bool:
    if device.type == "cuda":
        native: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return native
    # Without units of its own a processor emulates bf16, which is slower than float32.
    units: bool = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return units


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Return what the processor is called: on Linux its model, elsewhere what Python knows."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed instead of handing it back to the system; elsewhere do nothing.

    A step frees and takes the same hundreds of megabytes again; each time they come back as fresh pages
    that have to be cleared. Measured: a quarter to a third more images per second (docs/log.md).
    """
    if os.name != "posix":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
        libc.mallopt(mmap_threshold, 32 << 20)  # the largest value that glibc takes
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 64 << 20)


def peak_memory() -> int | None:
    """Return the most memory that this process has had, in bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_bytes() -> int | None:
    """Return how much memory the machine has; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
