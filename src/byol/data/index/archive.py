"""Archives of images, unpacked once."""

import errno
import json
import lzma
import os
import posixpath
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from byol.data.image.kinds import SUFFIXES as PICTURES
from byol.data.index.remarks import passed_over_of
from byol.data.index.walking import is_left_behind, suffix
from byol.errors import UserError
from byol.system.digest import digest
from byol.system.files import write_json
from byol.system.home import expanded

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")

_ENDING = re.compile(r"\.(zip|tgz|txz|tbz2|tar(\.(gz|xz|bz2))?)$", re.IGNORECASE)
_FORMAT = 3  # raise it whenever other files are written
_SAMPLE = 1 << 20
_SAID = 160  # characters of what a reader says
_KEPT = (*PICTURES, ".txt", ".csv", ".tsv")
_MOST_BYTES = 1 << 30  # that any archive may unpack to, however small it is
_MOST_GROWTH = 100  # times its own size that it may unpack to; compressed bitmaps come near
_MOST_FILES = 100_000_000
_MOST_PARTS, _LONGEST = 32, 255  # folders of a path, and bytes of a name that file systems take
_DAMAGE = (  # what the readers raise on flipped, lost and lying bytes
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    RecursionError,
)


def is_archive(path: Path) -> bool:
    """Return whether a file's name is an archive's."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, cache: Path) -> Path:
    """Unpack an archive into a folder of its own in the cache, or find it there.

    The folder's name holds a fingerprint of the archive (its size, time stamp, first and last MiB), so a
    changed archive is unpacked again. The folder appears only when it is complete.

    Args:
        archive: a tar (plain, gz, xz or bz2) or zip file.
        cache: where the folder goes.

    Returns:
        The folder; where the archive has one folder at its top, that one.

    Raises:
        UserError: the archive is missing, damaged, locked by a password, or would write outside its folder.
    """
    if not archive.is_file():
        raise UserError(f"there is no archive at {archive}.")
    folder = _folder_of(archive, cache)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        growing = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
        try:
            write_json(_left_of(folder), _extract(archive, growing))
            growing.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster, and its copy is as good
                raise
        finally:
            shutil.rmtree(growing, ignore_errors=True)
    visible = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    return visible[0] if len(visible) == 1 and visible[0].is_dir() else folder


def notes_of(archive: Path, cache: Path) -> tuple[str, ...]:
    """Return what is to be said of an archive that `unpack` has unpacked: how much of it is no image."""
    with suppress(OSError, ValueError):
        left = json.loads(_left_of(_folder_of(archive, cache)).read_text())
        return (passed_over_of(left),) if left else ()
    return ()  # the cache was tidied by hand


def _folder_of(archive: Path, cache: Path) -> Path:
    return expanded(cache).resolve() / f"{_ENDING.sub('', archive.name)}-{_fingerprint(archive)}"


def _left_of(folder: Path) -> Path:
    """Return the file that holds how many files were not written, by suffix."""
    return folder.with_name(f"{folder.name}.json")


def _fingerprint(archive: Path) -> str:
    status = archive.stat()
    with archive.open("rb") as stream:
        first = stream.read(_SAMPLE)
        stream.seek(max(0, status.st_size - _SAMPLE))
        last = stream.read(_SAMPLE)
    return digest(f"{_FORMAT} {status.st_size} {status.st_mtime_ns}", first, last, length=16)


def _extract(archive: Path, folder: Path) -> dict[str, int]:
    """Write the pictures and lists of an archive, in folders of their own names, and nothing else.

    Only regular files are written, under paths that are put together here, and only after the headers of all
    of them have been counted: a link, a device or a file of another kind is never made.

    Returns:
        Suffix -> number of the other files.
    """
    left: Counter[str] = Counter()
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as packed:
                files = _wanted(archive, map(_of_zip, packed.infolist()), left)
                for file in files:
                    with packed.open(file.key) as source:
                        _write(source, folder, file, archive)
        else:
            with tarfile.open(archive, "r:*") as tar:
                files = _wanted(archive, _of_tar(tar), left)
                files.sort(key=lambda file: file.key.offset_data)  # a compressed archive is read once
                for file in files:
                    inside = tar.extractfile(file.key)
                    assert inside is not None, file  # it is a regular file
                    with inside:
                        _write(inside, folder, file, archive)
    except UserError:
        raise
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's trouble, such as being full; readers tell of damage without a number
        raise UserError(f"The archive {archive} is damaged ({_reason(error)}): fetch it again.") from error
    except (NotImplementedError, RuntimeError) as error:
        reason = _reason(error)
        raise UserError(f"The archive {archive} cannot be read ({reason}): unpack it yourself.") from error
    return left


def _reason(error: Exception) -> str:
    """Return what a reader says, on one line."""
    said = " ".join(str(error).split())
    if not said or "opened successfully" in said:  # which goes on with what each of four readers says
        return "it does not begin as an archive does"
    return said if len(said) <= _SAID else f"{said[:_SAID]}..."


@dataclass(frozen=True)
class _File:
    """A file in an archive.

    Args:
        name: its path there.
        size: in bytes, as its header says.
        key: by which the archive opens it.
        is_regular: it is no folder, link or device.
        is_locked: it takes a password.
    """

    name: str
    size: int
    key: Any
    is_regular: bool
    is_locked: bool = False


def _of_zip(member: zipfile.ZipInfo) -> _File:
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive comes from Windows
    is_regular = not member.filename.endswith("/") and kind in (0, stat.S_IFREG)
    return _File(member.filename, member.file_size, member, is_regular, bool(member.flag_bits & 1))


def _of_tar(tar: tarfile.TarFile) -> Iterator[_File]:
    """Yield the files of a tar archive. A link to a file of the archive stands for that file, copied."""
    regular: dict[str, tarfile.TarInfo] = {}
    links = []
    for member in tar:
        name = member.name.lstrip("/")  # absolute names lose their slash, as tar itself does
        if member.isreg():
            regular[posixpath.normpath(name)] = member
            yield _File(name, member.size, member, is_regular=True)
        elif member.islnk() or member.issym():
            beside = "" if member.islnk() else posixpath.dirname(name)
            links.append((name, posixpath.normpath(posixpath.join(beside, member.linkname))))
    for name, to in links:
        if to.startswith(("/", "../")) or to == "..":
            yield _File(f"../{name}", 0, None, is_regular=True)  # refused by its name
        elif to in regular:
            yield _File(name, regular[to].size, regular[to], is_regular=True)


def _wanted(archive: Path, files: Iterable[_File], left: Counter[str]) -> list[_File]:
    """Return the files that are to be written, and count the others by suffix, but for hidden ones.

    Raises:
        UserError: a name leads outside, a file takes a password, or there are too many files or bytes.
    """
    wanted, size = [], 0
    limit = max(_MOST_BYTES, _MOST_GROWTH * archive.stat().st_size)
    for file in files:
        path = PurePosixPath(file.name)
        if path.is_absolute() or ".." in path.parts or "\0" in file.name:
            raise UserError(f"The archive {archive} is not safe to unpack: {file.name!r} leads outside.")
        if file.is_locked:
            raise UserError(f"The archive {archive} is locked by a password: unpack it yourself.")
        if not file.is_regular or not path.name.lower().endswith(_KEPT):
            if file.is_regular and path.name and not any(map(is_left_behind, path.parts)):
                left[suffix(path.name)] += 1
            continue
        if len(path.parts) > _MOST_PARTS or max(len(os.fsencode(part)) for part in path.parts) > _LONGEST:
            raise UserError(
                f"The archive {archive} holds a path of {len(path.parts)} folders or a name of more than "
                f"{_LONGEST} bytes, {file.name[:60]}...: unpack it yourself."
            )
        wanted.append(file)
        size += file.size
        if size > limit or len(wanted) > _MOST_FILES:
            raise UserError(
                f"The archive {archive} would unpack to more than {limit / 1e9:.1f} GB or {_MOST_FILES:,} "
                "files, which pictures do not: unpack it yourself if you trust it."
            )
    return wanted


def _write(source: IO[bytes], folder: Path, file: _File, archive: Path) -> None:
    """Copy a file of an archive below a folder, and no more of it than its header says."""
    place, left = folder.joinpath(*PurePosixPath(file.name).parts), file.size
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = place.open("wb")
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(
            f"The archive {archive} is damaged ({file.name} is a file and a folder): fetch it again."
        ) from error
    with copy:
        while data := source.read(min(_SAMPLE, left + 1)):
            left -= len(data)
            if left < 0:
                raise UserError(
                    f"The archive {archive} is damaged ({file.name} is too long): fetch it again."
                )
            copy.write(data)
    if left:
        raise UserError(f"The archive {archive} is damaged ({file.name} is cut short): fetch it again.")
