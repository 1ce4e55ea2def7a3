import io
import os
import tarfile
import zipfile
from pathlib import Path
from random import Random

import pytest

from byol.data.index.archive import is_archive, notes_of, unpack
from byol.errors import UserError


def tar(path: Path, mode: str, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz", "TAR.bz2"])
def test_tar_comes_out_as_it_went_in(tmp_path: Path, ending: str) -> None:
    members = {"a/1.jpg": b"one", "b/2.jpg": b"two"}
    folder = unpack(tar(tmp_path / f"my.set.{ending}", f"w:{ending[4:]}", members), tmp_path / "cache")
    assert folder.parent == tmp_path / "cache"
    assert folder.name.startswith("my.set-")
    assert contents(folder) == members


def test_zip_comes_out_as_it_went_in(tmp_path: Path) -> None:
    members = {"a/1.jpg": b"one", "b/2.jpg": b"two"}
    assert contents(unpack(zipped(tmp_path / "set.zip", members), tmp_path / "cache")) == members


def test_single_top_folder_is_entered(tmp_path: Path) -> None:
    members = {"set/a/1.jpg": b"one", "set/b/2.jpg": b"two", "__MACOSX/set/._1.jpg": b"", ".DS_Store": b""}
    folder = unpack(zipped(tmp_path / "set.zip", members), tmp_path / "cache")
    assert contents(folder) == {"a/1.jpg": b"one", "b/2.jpg": b"two"}


def test_second_time_nothing_is_unpacked(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "set.zip", {"1.jpg": b"one", "2.jpg": b"two"})
    folder = unpack(archive, tmp_path / "cache")
    (folder / "1.jpg").write_bytes(b"seen")
    assert unpack(archive, tmp_path / "cache") == folder
    assert (folder / "1.jpg").read_bytes() == b"seen"


def test_changed_archive_is_unpacked_again(tmp_path: Path) -> None:
    first = unpack(zipped(tmp_path / "set.zip", {"1.jpg": b"one"}), tmp_path / "cache")
    second = unpack(zipped(tmp_path / "set.zip", {"1.jpg": b"two"}), tmp_path / "cache")
    assert first != second
    assert contents(second) == {"1.jpg": b"two"}


@pytest.mark.parametrize("name", ["../outside.jpg", "a/../../outside.jpg"])
@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_member_that_leads_outside_is_refused(tmp_path: Path, suffix: str, name: str) -> None:
    path, members = tmp_path / f"set.{suffix}", {"1.jpg": b"one", name: b"bad"}
    archive = zipped(path, members) if suffix == "zip" else tar(path, "w", members)
    with pytest.raises(UserError, match="not safe to unpack"):
        unpack(archive, tmp_path / "cache")
    assert not list(tmp_path.rglob("outside.jpg"))
    assert not list((tmp_path / "cache").iterdir())


def test_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as packed:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        packed.addfile(link)
    with pytest.raises(UserError, match="not safe to unpack"):
        unpack(tmp_path / "set.tar", tmp_path / "cache")


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("damage", ["cut", "garbled", "text"])
def test_damaged_tar_leaves_nothing_behind(tmp_path: Path, ending: str, damage: str) -> None:
    if damage == "garbled" and ending in ("tar", "tar.gz"):
        return  # plain tar has no checksum of its files, and that of gz comes after the last of them
    members = {f"{k}.jpg": os.urandom(5000) for k in range(20)}
    archive = tar(tmp_path / f"set.{ending}", f"w:{ending[4:]}", members)
    data = archive.read_bytes()
    middle = len(data) // 2
    if damage == "cut":
        archive.write_bytes(data[:middle])
    elif damage == "text":
        archive.write_bytes(b"no archive at all\n" * 100)
    else:
        archive.write_bytes(data[:middle] + bytes(2000) + data[middle + 2000 :])
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_damaged_zip_leaves_nothing_behind(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "set.zip", {f"{k}.jpg": os.urandom(5000) for k in range(20)})
    data = archive.read_bytes()
    for damaged in (data[: len(data) // 2], data[:3000] + bytes(2000) + data[5000:]):
        archive.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged"):
            unpack(archive, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_locked_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "set.zip", {"1.jpg": b"one"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of the central directory that says encrypted
    archive.write_bytes(data)
    with pytest.raises(UserError, match="locked by a password"):
        unpack(archive, tmp_path / "cache")


def test_a_zip_packed_by_an_unknown_method_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.txt", "a")
    data = path.read_bytes()
    entry = data.index(b"PK\x01\x02")  # the method stands 10 bytes into the central entry; 9 is Deflate64
    path.write_bytes(data[: entry + 10] + b"\x09" + data[entry + 11 :])
    with pytest.raises(UserError, match=r"cannot be read.*unpack it yourself"):
        unpack(path, tmp_path / "cache")


def test_missing_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no archive at"):
        unpack(tmp_path / "set.zip", tmp_path / "cache")


def test_archives_are_known_by_their_names() -> None:
    assert all(is_archive(Path(name)) for name in ("a.tar", "a.tar.gz", "a.TGZ", "a.b.tar.xz", "a.zip"))
    assert not any(is_archive(Path(name)) for name in ("a", "a.gz", "tar", "a.jpg", "zip"))


@pytest.mark.parametrize("suffix", ["zip", "tar.xz"])
def test_what_was_not_unpacked_is_counted_by_suffix(tmp_path: Path, suffix: str) -> None:
    names = ("a/1.jpg", "a/2.MOV", "b/3.mov", "README", ".hidden.mov", "__MACOSX/4.mov", "Thumbs.db")
    members = dict.fromkeys(names, b"one")
    path = tmp_path / f"set.{suffix}"
    archive = zipped(path, members) if suffix == "zip" else tar(path, "w:xz", members)
    unpack(archive, tmp_path / "cache")
    assert notes_of(archive, tmp_path / "cache") == ("3 files passed over: 2 .mov, 1 without a suffix.",)
    for file in (tmp_path / "cache").glob("*.json"):
        file.unlink()
    assert notes_of(archive, tmp_path / "cache") == ()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz", "tar.bz2", "zip"])
def test_whatever_is_wrong_with_an_archive_is_said_on_one_line(tmp_path: Path, ending: str) -> None:
    random = Random(ending)
    members = {f"{side}/{k}.jpg": random.randbytes(300 * k) for side in "ab" for k in range(4)}
    path = tmp_path / f"set.{ending}"
    whole = (zipped(path, members) if ending == "zip" else tar(path, f"w:{ending[4:]}", members)).read_bytes()
    said = []
    for _ in range(150):
        data, place = bytearray(whole), random.randrange(len(whole))
        match random.randrange(5):
            case 0:
                del data[place:]
            case 1:
                del data[place : place + random.randrange(600)]
            case 2:
                data[place:place] = random.randbytes(random.randrange(600))
            case 3:
                data[place : place + 8] = random.choice((bytes(8), b"\xff" * 8, b"7" * 8))
            case 4:
                for flipped in random.choices(range(len(data)), k=random.choice((1, 8, 64))):
                    data[flipped] ^= 1 << random.randrange(8)
        path.write_bytes(data)
        try:
            unpack(path, tmp_path / "cache")
        except UserError as error:
            said.append(str(error))
    assert len(said) > 25
    assert not [one for one in said if "\n" in one or len(one) > 500]
    assert {one.name for one in tmp_path.iterdir()} == {"cache", path.name}


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def test_a_chain_of_links_that_ends_outside_writes_nothing_there(tmp_path: Path) -> None:
    """CVE-2025-4517: a path so long that it cannot be resolved hides where its last link leads."""
    (tmp_path / "outside").mkdir()
    name, letters, path = "d" * 247, "abcdefghijklmnop", ""
    with tarfile.open(tmp_path / "set.tar", "w") as packed:
        for letter in letters:
            folder = tarfile.TarInfo(f"{path}{name}")
            folder.type = tarfile.DIRTYPE
            packed.addfile(folder)
            packed.addfile(link(f"{path}{letter}", name))
            path += f"{name}/"
        last = "/".join(letters) + "/" + "l" * 254
        packed.addfile(link(last, "../" * len(letters)))
        packed.addfile(link("escape", f"{last}/../../outside"))
        packed.addfile(picture("escape/written.jpg"), io.BytesIO(b"one"))
    unpacked = unpack(tmp_path / "set.tar", tmp_path / "cache")
    assert not list((tmp_path / "outside").iterdir())
    assert not [one for one in (tmp_path / "cache").rglob("*") if one.is_symlink()]
    assert contents(unpacked) == {"written.jpg": b"one"}  # a folder of that name, inside


def picture(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 3
    return member


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_link_to_a_picture_of_the_archive_is_a_copy_of_it(tmp_path: Path, ending: str) -> None:
    with tarfile.open(tmp_path / f"set.{ending}", f"w:{ending[4:]}") as packed:  # type: ignore[call-overload]
        packed.addfile(link("cat/0.jpg", "../all/1.jpg"))
        packed.addfile(picture("all/1.jpg"), io.BytesIO(b"one"))
        packed.addfile(picture("./all/2.jpg"), io.BytesIO(b"two"))
        packed.addfile(link("dog/2.jpg", "all/2.jpg", tarfile.LNKTYPE))
        packed.addfile(link("README", "all/none.txt"))
        packed.addfile(link("folder", "all"))
    unpacked = unpack(tmp_path / f"set.{ending}", tmp_path / "cache")
    pictures = {"cat/0.jpg": b"one", "all/1.jpg": b"one", "all/2.jpg": b"two", "dog/2.jpg": b"two"}
    assert contents(unpacked) == pictures
    assert not [one for one in unpacked.rglob("*") if one.is_symlink()]


def test_absolute_names_lose_their_slash_as_tar_does(tmp_path: Path) -> None:
    archive = tar(tmp_path / "set.tar", "w", {"/home/a/1.jpg": b"one", "/home/b/2.jpg": b"two"})
    assert contents(unpack(archive, tmp_path / "cache")) == {"a/1.jpg": b"one", "b/2.jpg": b"two"}


def test_what_is_neither_picture_nor_list_is_not_written(tmp_path: Path) -> None:
    wanted = {"a/1.JPG": b"one", "b/2.png": b"two", "all.csv": b"path"}
    members = {**wanted, "run.sh": b"rm", "a/.bashrc": b""}
    assert contents(unpack(zipped(tmp_path / "set.zip", members), tmp_path / "cache")) == wanted
    with tarfile.open(tmp_path / "set.tar", "w") as packed:
        for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE):
            device = tarfile.TarInfo(f"{kind.decode()}.jpg")
            device.type = kind
            packed.addfile(device)
        for name in ("1.jpg", ""):
            packed.addfile(tarfile.TarInfo(name))
    assert contents(unpack(tmp_path / "set.tar", tmp_path / "cache")) == {"1.jpg": b""}


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_an_archive_that_grows_without_measure_is_refused_before_a_byte_is_written(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byol.data.index.archive._MOST_BYTES", 1 << 20)
    members = {f"{number}.bmp": bytes(1 << 20) for number in range(3)}
    path = tmp_path / f"set.{suffix}"
    archive = zipped(path, members) if suffix == "zip" else tar(path, "w:gz", members)
    assert archive.stat().st_size * 100 < 3 << 20
    with pytest.raises(UserError, match="would unpack to more than"):
        unpack(archive, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("name", ["d/" * 40 + "1.jpg", "n" * 256 + ".jpg"])
def test_a_path_that_no_file_system_takes_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="unpack it yourself"):
        unpack(zipped(tmp_path / "set.zip", {name: b"one"}), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_file_that_is_a_folder_too_is_damage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a file and a folder"):
        unpack(zipped(tmp_path / "set.zip", {"a.jpg": b"one", "a.jpg/b.jpg": b"two"}), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
