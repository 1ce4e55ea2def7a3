"""All protocols by name: a new one is a file beside this one and a line here.

The first line of what makes a protocol describes it; its fields are what can be set.
"""

from collections.abc import Callable

from byol.evaluate.protocol.few_labels import few_labels_finetune, few_labels_linear
from byol.evaluate.protocol.finetune import FineTune
from byol.evaluate.protocol.knn import Knn
from byol.evaluate.protocol.linear import LinearProbe
from byol.evaluate.protocol.linear_sgd import LinearSgd
from byol.evaluate.protocol.slot import EvaluationProtocol

PROTOCOLS: dict[str, Callable[[], EvaluationProtocol]] = {
    "knn": Knn,
    "linear": LinearProbe,
    "linear-paper": LinearSgd,
    "finetune": FineTune,
    "fewlabel-linear": few_labels_linear,
    "fewlabel-finetune": few_labels_finetune,
}
