"""How well does each measure that needs no labels rank finished runs as kNN does?

    python benchmarks/unlabelled_agreement.py RUN [RUN ...] --data DATA --out agreement.json

Spearman's rank correlation over the runs, with a bootstrap 95 % interval over them; measures of which less is
better are turned round. kNN top-1 is the final one of each run's own summary.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import byol
from byol.data.opening import open_data
from byol.evaluate.features import encode_with
from byol.evaluate.unlabelled import unlabelled
from byol.run.folder import RunFolder
from byol.run.provenance import provenance
from byol.system.device import pick_device

LESS_IS_BETTER = {"alignment", "uniformity", "alpha_req"}
RESAMPLES = 2_000


def main() -> None:
    """Measure every run and write what was found."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("runs", nargs="+", type=Path)
    asked.add_argument("--data", required=True)
    asked.add_argument("--out", required=True, type=Path)
    given = asked.parse_args()
    sets = open_data(given.data)
    images = next(sets[split] for split in ("test", "val", "train") if split in sets)
    device, rows = pick_device("float32"), []
    for run in given.runs:
        folder = RunFolder(run)
        if not folder.summary.is_file():
            continue
        summary = json.loads(folder.summary.read_text())
        encoder = byol.load(run)
        encode = encode_with(encoder, device)
        measured = asdict(unlabelled(encode, images, encoder.preprocessing))
        rows.append(
            {
                "run": run.name,
                "recipe": summary["recipe"],
                "knn_top1": summary["knn_top1"],
                "random": summary["knn_top1_random"],
                **measured,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    groups = {
        "all": rows,
        # Those that learned something: telling a collapsed run from a healthy one is the easy part.
        "better than random": [row for row in rows if row["knn_top1"] > row["random"]],
    }
    agreement = {name: _agreement(group) for name, group in groups.items() if len(group) > 2}
    given.out.write_text(
        json.dumps({"agreement": agreement, "rows": rows, "provenance": provenance(device="cpu")}, indent=1)
    )
    print(json.dumps(agreement, indent=1))


def _agreement(rows: list[dict[str, float]]) -> dict[str, object]:
    names = [name for name in rows[0] if name not in ("run", "recipe", "knn_top1", "random", "num_images")]
    knn = np.array([row["knn_top1"] for row in rows])
    found: dict[str, object] = {"runs": len(rows), "knn_top1": [float(knn.min()), float(knn.max())]}
    for name in names:
        values = np.array([row[name] for row in rows]) * (-1 if name in LESS_IS_BETTER else 1)
        random = np.random.default_rng(0)
        draws = (random.integers(0, len(rows), len(rows)) for _ in range(RESAMPLES))
        resampled = [spearmanr(values[i], knn[i]).statistic for i in draws if np.ptp(knn[i]) > 0]
        low, high = np.nanpercentile(resampled, [2.5, 97.5])
        found[name] = [float(spearmanr(values, knn).statistic), float(low), float(high)]
    return found


if __name__ == "__main__":
    main()
