"""Fill the table of docs/reliability.md from what the campaigns wrote.

    python benchmarks/reliability/page.py docs/reliability/*.json

The table lies between two comments of the page. A campaign without a file keeps "not run yet"; one that
failed says how often. Nothing else of the page is touched.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
FIRST, LAST = "<!-- table -->", "<!-- /table -->"
PROMISES = {
    "pictures": "10,000 damaged pictures of ten formats: read or refused with the reason",
    "archives": "1,000 hostile or damaged archives: nothing outside of the cache",
    "kills": "200 runs killed at random moments: equal to an undisturbed one",
    "damage": "400 truncations and 400 flipped bits: none is silent",
    "disk_full": "50 moments at which the disk is full: a sentence, and equal after a resume",
    "memory": "60 minutes of training from files: flat memory",
    "phone": "a phone's photo folder, copied by hand: the whole way",
}
Json = dict[str, Any]


def row(name: str, found: Json | None) -> list[str]:
    """Return the cells of a campaign: what is promised, what came of it, and when and how long it ran."""
    link = f"`{name}.py`"
    if found is None:
        return [PROMISES[name], link, "not run yet", "", ""]
    counts = ", ".join(f"{count:,} {what}" for what, count in found["counts"].items())
    if name == "memory" and "main_mib" in found:
        slopes = (f"{what.removesuffix('_mib')} {curve(found[what])}" for what in ("main_mib", "workers_mib"))
        counts = f"{found['minutes']:g} minutes; {'; '.join(slopes)} MiB a minute; {counts}"
    verdict = f"**{len(found['failed'])} failed**" if found["failed"] else "0 failed"
    return [PROMISES[name], link, f"{verdict}: {counts}", duration(found["seconds"]), found["date"]]


def curve(values: Json) -> str:
    """Return a slope with its interval."""
    low, high = values["interval"]
    return f"{values['slope_a_minute']:+.2f} [{low:+.2f}, {high:+.2f}]"


def duration(seconds: float) -> str:
    """Return seconds in words."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def table(files: Iterable[Path]) -> str:
    """Return the table in Markdown."""
    found = {one["name"]: one for one in (json.loads(file.read_text()) for file in files)}
    unknown = found.keys() - PROMISES.keys()
    if unknown:
        raise SystemExit(f"there is no promise for {', '.join(sorted(unknown))}.")
    header = ["promise", "campaign", "found", "took", "on"]
    rows = [header, ["---"] * len(header), *(row(name, found.get(name)) for name in PROMISES)]
    machines = {json.dumps(one["machine"], sort_keys=True): one["machine"] for one in found.values()}
    where = "".join(
        f"\n\nRun on {one['cores']} cores of {one['processor']}, {one['memory_bytes'] / 2**30:.0f} GiB, "
        f"{one['system']}, Python {one['python']}, torch {one['torch']}."
        for one in list(machines.values())[:1]
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + where


def main() -> None:
    """Fill the page."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("files", type=Path, nargs="*", help="JSON of campaigns")
    text = PAGE.read_text()
    before, rest = text.split(FIRST)
    after = rest.split(LAST)[1]
    PAGE.write_text(f"{before}{FIRST}\n{table(asked.parse_args().files)}\n{LAST}{after}")


if __name__ == "__main__":
    main()
