"""Accuracy against minutes: what a planned run reaches on a set in the time it is given.

    python benchmarks/minutes.py --data caltech101 --fit-in 5m 20m --seeds 0 1 2 >> docs/minutes/caltech.jsonl

Each run is `byol pretrain --data DATA --out RUN --fit-in TIME --seed SEED`, and then `byol eval knn` and
`byol eval linear` on the set's own test (or val) images, beside random initialization with statistics, raw
pixels and histograms. One JSON object a line on stdout; accuracies are percents, with 95 % intervals over the
judged images. `lead` is the smallest lead over a baseline, with the interval of that difference. A run that
is there already is judged and not made again.

`--draw FILE.png FILE.jsonl ...` draws the lines of such files, a panel for each set and protocol.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import byol
from byol.lab.machine import machine
from byol.system.device import pick_device

Json = dict[str, Any]
PROTOCOLS = {"knn": byol.Knn(), "linear": byol.LinearProbe()}
BASELINES = ("random initialization", "raw pixels", "histograms")


def measured(data: Path, fit_in: str, seed: int, out: Path) -> Json:
    """Return what a run came to; it is made where it is not there."""
    folder = out / f"{data.name.split('.')[0]}-{fit_in}-{seed}"
    if (folder / "summary.json").is_file():
        run = byol.Run(folder)
    else:
        recipe = byol.plan(data, fit_in=fit_in, seed=seed).recipe
        run = byol.pretrain(data, folder, recipe=recipe)
    summary, recipe = run.summary, run.recipe
    line: Json = {
        "data": data.name.split(".")[0],
        "fit_in": fit_in,
        "seed": seed,
        "minutes": summary["wall_seconds"] / 60,
        "steps": summary["steps"],
        "epochs": recipe.epochs,
        "images_per_second": summary["images_per_second"],
        "forecast_error_percent": summary.get("forecast_error_percent"),
    }
    for name, protocol in PROTOCOLS.items():
        result = byol.judge(run, data, protocol=protocol)
        rows = result.rows
        found = [row.metrics[result.metric] for row in rows]
        line[name] = {
            "encoder" if row is rows[0] else row.encoder: [metric.value, metric.low, metric.high]
            for row, metric in zip(rows, found, strict=True)
        }
        behind = [row.behind for row in rows[1:] if row.behind is not None]
        nearest = min(behind, key=lambda it: it.value)
        line[name]["lead"] = [nearest.value, nearest.low, nearest.high]
    return line | {"date": datetime.now(UTC).date().isoformat(), "machine": machine(pick_device().device)}


def draw(files: Sequence[Path], path: Path) -> None:
    """Draw accuracy against minutes, with the baselines as level lines."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    sets = list(dict.fromkeys(line["data"] for line in lines))
    figure, axes = plt.subplots(
        len(PROTOCOLS), len(sets), figsize=(3.6 * len(sets), 5.6), squeeze=False, layout="constrained"
    )
    for column, name in enumerate(sets):
        own = [line for line in lines if line["data"] == name]
        for panel, protocol in zip(axes[:, column], PROTOCOLS, strict=True):
            points = defaultdict(list)
            for line in own:
                points[line["fit_in"]].append((line["minutes"], line[protocol]["encoder"][0]))
            means = sorted(
                (sum(m for m, _ in some) / len(some), sum(a for _, a in some) / len(some))
                for some in points.values()
            )
            panel.plot(*zip(*means, strict=True), marker="o", color="tab:blue", label="byol, planned")
            every = [point for some in points.values() for point in some]
            panel.scatter(*zip(*every, strict=True), s=12, color="tab:blue", alpha=0.5)
            for baseline, style in zip(BASELINES, ("--", ":", "-."), strict=True):
                level = [line[protocol][baseline][0] for line in own if baseline in line[protocol]]
                if level:
                    panel.axhline(sum(level) / len(level), ls=style, color="0.45", lw=1, label=baseline)
            panel.set(xlim=(0, None), xlabel="minutes", title=f"{name}, {protocol}", ylabel="accuracy, %")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=140)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, help="labelled images with train and test (or val)")
    parser.add_argument("--fit-in", nargs="+", default=["5m", "20m"], metavar="TIME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/minutes"), help="where the runs are kept")
    parser.add_argument("--draw", type=Path, metavar="FILE.png", help="draw files instead")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.jsonl")
    asked = parser.parse_args()
    if asked.draw is not None:
        draw(asked.files, asked.draw)
        return
    if asked.data is None:
        parser.error("say which images: --data PATH")
    for seed in asked.seeds:
        for fit_in in asked.fit_in:
            print(json.dumps(measured(asked.data, fit_in, seed, asked.out)), flush=True)
            print(f"{asked.data.name}: {fit_in}, seed {seed} done", file=sys.stderr)


if __name__ == "__main__":
    main()
