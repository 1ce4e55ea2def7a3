"""Printing an answer: the one place where results reach the terminal."""

import io
import json
import sys
from typing import TYPE_CHECKING

from byol.system.launched import speaker
from byol.system.terminal import plain_cells, write_line, write_lines

if TYPE_CHECKING:
    from byol.answer import Answer

_SENTENCE = 40  # characters, from which a cell is text that may be wrapped rather than a name or a number


def show(answer: "Answer", *, as_json: bool) -> int:
    """Print what a function returned, and return the exit code that goes with it.

    Args:
        answer: its `exit_code`, where it has one, is that of the command, else 0; its `text`, where it has
            one, is what a file would hold, and is printed in place of table and sentence.
        as_json: print one JSON object instead of table and sentence.
    """
    if speaker().rank == 0:  # of the processes of torchrun, one speaks
        if as_json:
            write_line(sys.stdout, json.dumps(answer.to_json()))
        elif text := getattr(answer, "text", None):
            write_lines(sys.stdout, text)
        else:
            _print_table(answer.table())
            write_line(sys.stdout, answer.sentence())
    return int(getattr(answer, "exit_code", 0))


def _print_table(rows: list[list[str]]) -> None:
    if sys.stdout is None or sys.stdout.closed:
        return
    from rich.console import Console
    from rich.table import Table

    cells = [plain_cells(row, sys.stdout) for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    table = Table(box=None, pad_edge=False)
    for title, width in zip(cells[0], widths, strict=True):
        table.add_column(title, no_wrap=width <= _SENTENCE, overflow="fold")
    for row in cells[1:]:
        table.add_row(*row)
    # It is laid out here and written by `write_lines`, as the encoding may lack what rich would add.
    drawn = io.StringIO()
    width = max(Console(file=sys.stdout).width, sum(min(width, _SENTENCE) + 2 for width in widths))
    Console(file=drawn, highlight=False, color_system=None, width=width).print(table)
    write_lines(sys.stdout, drawn.getvalue().rstrip("\n"))
