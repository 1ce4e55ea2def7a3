"""TensorBoard's event files, written as they come and by the one who calls: no thread, no queue.

Source: tensorflow/core/lib/io/record_writer.h and lib/hash/crc32c.h for the frames,
    tensorboard/compat/proto/event.proto for what they hold.
"""

import os
import socket
import struct
import time
from pathlib import Path
from types import TracebackType

from byol.system.files import write_all

_POLYNOMIAL = 0x82F63B78  # of CRC-32C (Castagnoli), bits reversed


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_entry(byte) for byte in range(256)]


class EventFile:
    """An event file of its own in a folder, whose records are in the system's hands when a call returns.

    Args:
        folder: where it is written; made if missing.
        purge_step: events of other files from this step on are void, since they will be written again.

    Raises:
        OSError: as every call may, the system says so: a full disk, no permission.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns() / 1e9:.6f}.{socket.gethostname()}.{os.getpid()}.0"
        self._file = (folder / name.replace("/", "_")).open("xb", buffering=0)
        start = SessionLog(status=SessionLog.START)
        try:
            self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
            self._write(Event(wall_time=time.time(), step=purge_step, session_log=start))
        except OSError:
            self._file.close()
            raise

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write numbers of a step under their tags."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=numbers)))

    def _write(self, event: object) -> None:
        write_all(self._file, frame(event.SerializeToString()))  # type: ignore[attr-defined]

    def __enter__(self) -> "EventFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def frame(data: bytes) -> bytes:
    """Return a record as it stands in a file: its length and its bytes, each with a checksum behind it."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    masked = (crc >> 15 | crc << 17) + 0xA282EAD8  # so that a checksum of checksums is still one
    return struct.pack("<I", masked & 0xFFFFFFFF)
