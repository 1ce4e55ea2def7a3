"""On the site long names in tables may break after a dot, so that other columns keep their width."""

import re
from typing import Any

LONG = 24  # characters: shorter names stay whole


def on_page_content(html: str, **kwargs: Any) -> str:
    """Give mkdocs the page with places to break."""
    return re.sub(r"<td[^>]*>.*?</td>", _cell, html, flags=re.DOTALL)


def _cell(found: re.Match[str]) -> str:
    return re.sub(r"<code>([^<]*)</code>", _name, found[0])


def _name(found: re.Match[str]) -> str:
    return found[0] if len(found[1]) <= LONG else re.sub(r"(\.)(?=\w)", r"\1<wbr>", found[0])
