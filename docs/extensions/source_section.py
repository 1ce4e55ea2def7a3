"""On the site a docstring's `Source:` is a section of its own; Markdown would run it into the text above."""

import re
from typing import Any

from griffe import Extension, Object

SOURCE = re.compile(r"^Source: ((?:.+\n?)+)", re.MULTILINE)


class SourceSection(Extension):
    """Set `Source: paper, equation` apart, up to the next empty line."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object that has been read."""
        if obj.docstring is not None:
            obj.docstring.value = SOURCE.sub(_as_block, obj.docstring.value)


def _as_block(found: re.Match[str]) -> str:
    lines = "".join(f"    {line.strip()}\n" for line in found.group(1).splitlines())
    return f"\nSource:\n{lines}"
