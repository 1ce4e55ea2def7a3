import os
import pwd
from pathlib import Path

import pytest

from byol.errors import UserError
from byol.system.cache import cache_folder
from byol.system.home import expanded


def unknown_user(uid: int) -> None:
    raise KeyError(uid)


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~") == tmp_path
    assert expanded("~/a b/~c") == expanded(Path("~/a b/~c")) == tmp_path / "a b" / "~c"
    assert expanded("a/~/b") == Path("a/~/b")


@pytest.mark.parametrize("home", [None, ""])
def test_without_home_the_system_is_asked(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    assert expanded("~/a") == Path(pwd.getpwuid(os.getuid()).pw_dir) / "a"


@pytest.mark.parametrize("home", [None, ""])
def test_a_user_without_a_home_is_told_what_to_do(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", unknown_user)
    with pytest.raises(UserError, match=r"~/photos begins at the home folder, .* give the whole path"):
        expanded("~/photos")
    monkeypatch.setenv("BYOL_CACHE", "")
    with pytest.raises(UserError, match=r"set BYOL_CACHE to a folder of your own"):
        cache_folder()


def test_a_user_who_is_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"home folder of nobody-here, .*\./~nobody-here/a"):
        expanded("~nobody-here/a")


def test_a_cache_is_made_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "deep" / "cache"))
    assert cache_folder() == tmp_path / "deep" / "cache"
    assert cache_folder().stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("BYOL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "byol"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_cache_that_others_can_change_is_refused(
    mode: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "cache"))
    cache_folder().chmod(mode)
    with pytest.raises(UserError, match=r"chmod go-w .*, or set BYOL_CACHE"):
        cache_folder()
    (tmp_path / "cache").chmod(mode & ~0o022)
    assert cache_folder() == tmp_path / "cache"


def test_a_cache_of_another_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "cache"))
    cache_folder()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(UserError, match=f"belongs to user {owner}, .* set BYOL_CACHE"):
        cache_folder()


def test_a_cache_that_cannot_be_made_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot be made .* set BYOL_CACHE to a folder of your own"):
        cache_folder()
