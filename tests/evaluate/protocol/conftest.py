"""Every protocol with settings that take a second, and a task."""

from pathlib import Path

import pytest
from tests.evaluate.conftest import MakeSet

from byol.evaluate.protocol.few_labels import FewLabels
from byol.evaluate.protocol.finetune import FineTune
from byol.evaluate.protocol.knn import Knn
from byol.evaluate.protocol.linear import LinearProbe
from byol.evaluate.protocol.linear_sgd import LinearSgd
from byol.evaluate.protocol.retrain import Retrain
from byol.evaluate.protocol.slot import Context, EvaluationProtocol
from byol.evaluate.task import Task, open_task
from byol.system.device import Device
from byol.system.progress import Progress

QUICK: list[EvaluationProtocol] = [
    Knn(k=5),
    LinearProbe(strengths=(1e-2, 1.0)),
    LinearSgd(epochs=2, lrs=(0.1, 1.0)),
    FineTune(at_least=1, epochs=2, lrs=(0.1, 1.0)),
    FewLabels(fraction=0.5, draws=2, by=LinearProbe(strengths=(1e-2, 1.0), held_out=0.2)),
    FewLabels(fraction=0.5, draws=2, by=Retrain(lrs=(0.1, 1.0), epochs=(1, 2))),
]
every_protocol = pytest.mark.parametrize("protocol", QUICK, ids=lambda protocol: protocol.name)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def task(make_set: MakeSet) -> Task:
    return open_task(str(make_set()))


@pytest.fixture
def context(device: Device, quiet: Progress) -> Context:
    return Context(device, quiet, seed=0)
