import subprocess
import sys
from pathlib import Path

import pytest

import byol.run.provenance
from byol.run.provenance import provenance

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]


def repository(folder: Path) -> str:
    """Make a repository with one commit and return its number."""
    subprocess.run([*GIT, "init", "-q", str(folder)], check=True)
    subprocess.run([*GIT, "-C", str(folder), "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    done = subprocess.run(
        [*GIT, "-C", str(folder), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def standing_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Return what is told where the package lies elsewhere."""
    monkeypatch.setattr(byol.run.provenance, "__file__", str(place / "run" / "provenance.py"))
    return provenance()


def test_the_commit_is_that_of_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = repository(tmp_path)
    told = standing_at(tmp_path / "src" / "byol", monkeypatch)
    assert (told["commit"], told["uncommitted_changes"]) == (number, False)
    (tmp_path / "new").touch()
    assert standing_at(tmp_path / "src" / "byol", monkeypatch)["uncommitted_changes"] is True


@pytest.mark.parametrize("place", [".venv/lib/python3.12/site-packages/byol", "vendor/src/byol", "byol"])
def test_a_repository_around_an_installed_package_is_another(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path)
    monkeypatch.chdir(tmp_path)
    told = standing_at(tmp_path / place, monkeypatch)
    assert (told["commit"], told["uncommitted_changes"]) == (None, False)
    assert isinstance(told["versions"], dict)
    assert told["versions"]["byol"]


def test_a_repository_that_the_environment_names_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = repository(tmp_path / "ours")
    repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert standing_at(tmp_path / "ours" / "src" / "byol", monkeypatch)["commit"] == number


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert provenance()["commit"] is None
