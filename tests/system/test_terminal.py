import io
import os
from pathlib import Path

import pytest

from byol.answer import Answer
from byol.cli.printing import show
from byol.system.progress import Progress
from byol.system.terminal import fitting, printable, tell, write_line, write_lines

STEERING = {
    "\x1b]0;title\x07.jpg": r"\x1b]0;title\x07.jpg",
    "two\nlines\r.png": r"two\nlines\r.png",
    "\x9b31m": r"\x9b31m",  # a control of eight bits begins a sequence too
    "\u202egpj.exe": r"\u202egpj.exe",
    "a\u2066b\u2028c\ufeff": r"a\u2066b\u2028c\ufeff",
    os.fsdecode(b"caf\xe9.png"): r"caf\xe9.png",
    "\ud800": r"\ud800",
    "\x00\x7f\t": r"\x00\x7f\t",
}
PLAIN = [
    "café 日本語 Ελλάδα.jpg",
    "😀👩‍👩‍👧",
    "IMG[copy].jpg",
    "runs [v2]",
    "[/]",
    ":smile:",
    "a\\b",
    "नमस्ते",
    "שלום",
]


@pytest.mark.parametrize("name", STEERING)
def test_what_could_steer_a_terminal_is_written_out(name: str) -> None:
    assert printable(name) == STEERING[name]
    assert printable(printable(name)) == printable(name)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_ordinary_stays(name: str) -> None:
    assert printable(name) == name


def test_every_character_can_be_shown_on_one_line() -> None:
    shown = printable("".join(map(chr, range(0x110000))))
    assert len(shown.splitlines()) == 1
    assert not {chr(code) for code in [*range(32), *range(127, 160), *range(0xD800, 0xE000)]} & set(shown)
    shown.encode()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8", "utf-16"])
@pytest.mark.parametrize("name", [*STEERING, *PLAIN])
def test_no_encoding_is_too_small(encoding: str, name: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    write_line(stream, name)
    write_lines(stream, f"{name}\nand more")
    stream.flush()
    assert "and more" in raw.getvalue().decode(encoding)
    assert fitting("plain", stream) == "plain"


def test_a_stream_that_is_closed_or_not_there_is_passed_over() -> None:
    closed = io.StringIO()
    closed.close()
    write_line(closed, "a")
    write_line(None, "a")
    tell(None, "a")


def test_nobody_reading_stops_only_what_is_written_for_programs() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", buffering=1)
    tell(stream, "a")
    with pytest.raises(BrokenPipeError):
        write_line(stream, "a")
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # so that what is left can be flushed
    stream.close()


@pytest.mark.parametrize("name", [*STEERING, *PLAIN])
def test_progress_says_names_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.say(f"skipped {name}")
        progress.show(name, last=True)
    assert capsys.readouterr().err == f"skipped {printable(name)}\n{printable(name)}\n"
    with Progress(silent=True) as progress:
        progress.say(name)
        progress.show(name, last=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [*STEERING, *PLAIN])
@pytest.mark.parametrize("width", ["", "0", "20", "many"])
def test_tables_show_names_as_they_are(
    name: str, width: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Found(Answer):
        value = None

        def table(self) -> list[list[str]]:
            return [["encoder", "top-1"], [name, "50.0"]]

        def sentence(self) -> str:
            return f"{name} is better."

        def to_json(self) -> dict[str, object]:
            return {"value": None, "name": name}

    monkeypatch.setenv("COLUMNS", width)
    assert show(Found(), as_json=False) == 0
    header, row, sentence = capsys.readouterr().out.splitlines()
    assert header.split() == ["encoder", "top-1"]
    assert row.rstrip().endswith("50.0")
    assert row.startswith(printable(name))
    assert sentence == f"{printable(name)} is better."
    assert show(Found(), as_json=True) == 0
    assert capsys.readouterr().out.isascii()


def test_nothing_prints_past_this_door() -> None:
    """Whatever is printed goes through `system/terminal.py`; `rich` is given texts, never markup."""
    import ast

    import byol

    source = Path(byol.__file__).parent
    prints = [
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []
    users = {
        str(path.relative_to(source)) for path in source.rglob("*.py") if "from rich" in path.read_text()
    }
    assert users == {"cli/printing.py", "system/progress.py", "system/terminal.py"}
