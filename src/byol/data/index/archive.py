"""Archives of images, unpacked once."""

import lzma
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from byol.errors import UserError
from byol.system.digest import digest

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")

_ENDING = re.compile(r"\.(zip|tgz|txz|tbz2|tar(\.(gz|xz|bz2))?)$", re.IGNORECASE)
_SAMPLE = 1 << 20
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError)


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
    name = _ENDING.sub("", archive.name)
    folder = cache.expanduser().resolve() / f"{name}-{_fingerprint(archive)}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        growing = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
        try:
            _extract(archive, growing)
            growing.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster, and its copy is as good
                raise
        finally:
            shutil.rmtree(growing, ignore_errors=True)
    visible = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    return visible[0] if len(visible) == 1 and visible[0].is_dir() else folder


def _fingerprint(archive: Path) -> str:
    status = archive.stat()
    with archive.open("rb") as stream:
        first = stream.read(_SAMPLE)
        stream.seek(max(0, status.st_size - _SAMPLE))
        last = stream.read(_SAMPLE)
    return digest(f"{status.st_size} {status.st_mtime_ns}", first, last, length=16)


def _extract(archive: Path, folder: Path) -> None:
    try:
        if archive.suffix.lower() == ".zip":
            _extract_zip(archive, folder)
        else:
            with tarfile.open(archive, "r:*") as tar:
                tar.extractall(folder, filter="data")  # refuses links and names that lead outside
    except tarfile.FilterError as error:
        raise UserError(f"The archive {archive} is not safe to unpack: {error}.") from error
    except NotImplementedError as error:
        raise UserError(f"The archive {archive} cannot be read ({error}): unpack it yourself.") from error
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's trouble, such as being full; gzip and bz2 tell of damage without a number
        raise UserError(f"The archive {archive} is damaged ({error}): fetch it again.") from error


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            name = PurePosixPath(member.filename)
            if name.is_absolute() or ".." in name.parts:  # extractall would put it elsewhere and say nothing
                raise UserError(f"The archive {archive} is not safe to unpack: {name} leads outside.")
            if member.flag_bits & 1:
                raise UserError(f"The archive {archive} is locked by a password: unpack it yourself.")
        packed.extractall(folder)
