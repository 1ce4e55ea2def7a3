"""What a run folder may delete, and what is in its way."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from byol.errors import UserError
from byol.run.folder import RunFolder


def written(folder: RunFolder) -> None:
    folder.create(overwrite=False)
    folder.has_checkpoint()
    for file in (folder.recipe, folder.provenance, folder.metrics, folder.encoder, folder.summary):
        file.write_text("{}")
    (folder.checkpoints / "step-000000001.pt").write_bytes(b"state")
    for inner, name in ((folder.results, "results.jsonl"), (folder.tensorboard, "events.out.tfevents.1.x")):
        inner.mkdir()
        (inner / name).write_text("written by a run")


def test_a_run_is_replaced_and_what_others_put_beside_it_stays(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    written(folder)
    (folder.path / "photos").mkdir()
    (folder.path / "photos" / "1.jpg").write_bytes(b"the only copy")
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds a run"):
        folder.create(overwrite=False)
    folder.create(overwrite=True)
    left = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*")}
    assert left == {".begun", "checkpoints", "photos", "photos/1.jpg", "notes.txt"}


def test_a_run_that_was_killed_before_its_first_checkpoint_is_begun_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(overwrite=False)
    folder.recipe.write_text("{}")
    assert folder.is_begun
    folder.refuse_occupied(overwrite=False)
    folder.create(overwrite=False)
    folder.recipe.write_text("{}")
    folder.has_checkpoint()
    with pytest.raises(UserError, match="already holds a run"):
        folder.refuse_occupied(overwrite=False)


def test_a_folder_of_somebody_else_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a run folder"):
        RunFolder(tmp_path).create(overwrite=True)
    assert (tmp_path / "notes.txt").exists()


def test_what_others_put_into_the_folders_of_a_run_stays(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    written(folder)
    (folder.results / "1.jpg").write_bytes(b"the only copy")
    folder.create(overwrite=True)
    assert (folder.results / "1.jpg").exists()
    assert not list(folder.checkpoints.iterdir())


def test_checkpoints_behind_a_link_are_those_of_the_run(tmp_path: Path) -> None:
    """Else the new run's would be taken for the older ones, and deleted."""
    large = tmp_path / "large disk"
    large.mkdir()
    (large / "mine.txt").write_text("mine")
    folder = RunFolder(tmp_path / "run")
    written(folder)
    (folder.checkpoints / "step-000000001.pt").unlink()
    folder.checkpoints.rmdir()
    folder.checkpoints.symlink_to(large)
    (large / "step-000009000.pt").write_bytes(b"state")
    folder.create(overwrite=True)
    assert [path.name for path in large.iterdir()] == ["mine.txt"]
    assert folder.checkpoints.is_symlink()


def test_a_run_killed_before_its_recipe_was_there_leaves_no_wall(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.in_use():
        folder.create(overwrite=False)
    (folder.path / ".recipe.json.tmp").write_text("{")
    folder.create(overwrite=False)


def test_a_file_system_without_locks_is_worked_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with RunFolder(tmp_path / "run {lr}").in_use():
        pass


def test_a_folder_in_use_is_refused_to_others_and_free_when_its_holder_dies(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run {lr}")
    code = (
        "import sys, time; from pathlib import Path; from byol.run.folder import RunFolder\n"
        f"with RunFolder(Path({str(folder.path)!r})).in_use():\n"
        "    print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        with pytest.raises(UserError, match=rf"a run is going on in .*run {{lr}} \(process {holder.pid}\)"):
            folder.in_use().__enter__()
        assert folder.is_in_use
        holder.kill()
    assert not folder.is_in_use
    with folder.in_use():
        folder.create(overwrite=False)  # its lock alone does not fill a folder
