"""What a measurement of speed depends on beside the code, and what a call takes of the memory."""

import gc
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from byol.system.device import memory_bytes, processor_name, usable_cores


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """Return the most memory that a call takes beyond what is taken before it.

    On CUDA it is what tensors take. On Linux it is the growth of the process, so this has to come before
    other calls have left memory behind that could be taken again.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        before = _status("VmRSS")
        run()
        return _status("VmHWM") - before
    except OSError:
        return None


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status does not tell {name}")


def machine(device: torch.device) -> dict[str, Any]:
    """Return what a measurement depends on beside the code."""
    facts = {
        "processor": processor_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory_bytes(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts
