"""How a set is opened by what a person names: a folder, an archive, a list, a pack, or the built-in set."""

from collections.abc import Mapping
from pathlib import Path

from byol.data.builtin import open_builtin
from byol.data.images import Files, Images, in_memory
from byol.data.index import archive
from byol.data.index.folder import Index, index_list, index_splits
from byol.data.index.packfile import PackIndex, is_pack, open_pack
from byol.errors import UserError
from byol.system.cache import cache_folder

LISTS = (".txt", ".csv")


def open_data(data: str, cache: Path | None = None) -> dict[str, Images]:
    """Open images by what a person names: a folder, an archive, a list, a pack or the built-in set.

    Args:
        data: path of a folder (see `index_splits`), an archive of one, a list (`index_list`), a file that
            `byol pack` wrote, or "builtin".
        cache: folder for what is computed once; by default $BYOL_CACHE, or else ~/.cache/byol.

    Returns:
        Split ("train", "val", "test") -> images. Those that were left out are in `bad`.

    Raises:
        UserError: there is nothing to open at `data`, or too many of its images cannot be decoded.
    """
    if data == "builtin":
        return {**open_builtin()}
    if cache is None:
        cache = cache_folder()
    images: dict[str, Images] = {}
    for split, index in indices(data, cache).items():
        small = in_memory(index, cache / "packed")
        images[split] = Files(index) if small is None else small
    return images


def indices(data: str, cache: Path) -> Mapping[str, Index | PackIndex]:
    """Find the images of a folder, an archive, a list or a pack: split -> index.

    Args:
        data: as of `open_data`, but for the built-in set.
        cache: folder for what is computed once.

    Raises:
        UserError: there is nothing to open at `data`.
    """
    path = Path(data).expanduser()
    if path.is_file() and is_pack(path):  # first, as its name may end in anything
        return open_pack(path.resolve())
    if path.is_file() and archive.is_archive(path):
        path = archive.unpack(path, cache / "archives")
    if path.is_dir():
        return index_splits(path, cache / "indices")
    if path.is_file() and path.suffix.lower() in LISTS:
        return index_list(path, cache / "indices")
    raise UserError(
        f"There are no images at {data}: give a folder, an archive ({', '.join(archive.SUFFIXES)}),"
        f" a list of paths ({', '.join(LISTS)}) or a file written by byol pack."
    )
