"""All protocols by name: a new one is a file beside this one and an entry here, and is a command with that.

A protocol is imported when it is made, so that a shell lists them without waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from byol.evaluate.protocol.slot import EvaluationProtocol


class Entry(NamedTuple):
    """A protocol as a person chooses it.

    Args:
        maker: the class or function that makes it, as MODULE.NAME in this folder.
        does: what it does, in the few words of a list.
        flags: some that people use, for an example that can be pasted.
    """

    maker: str
    does: str
    flags: str

    def make(self) -> "EvaluationProtocol":
        """Return the protocol with its default settings; its fields are what can be set."""
        module, name = self.maker.split(".")
        made: EvaluationProtocol = getattr(import_module(f"byol.evaluate.protocol.{module}"), name)()
        return made


PROTOCOLS = {
    "knn": Entry(
        "knn.Knn", "weighted nearest neighbors, of one labelled set alone too", "--against timm:resnet18"
    ),
    "linear": Entry("linear.LinearProbe", "logistic regression on frozen features, 45 strengths", "--json"),
    "linear-paper": Entry(
        "linear_sgd.LinearSgd", "a classifier by SGD on random crops, as published", "--epochs 40"
    ),
    "fewlabel-linear": Entry(
        "few_labels.few_labels_linear", "the same as linear, from a fraction of the labels", "--draws 5"
    ),
    "fewlabel-finetune": Entry(
        "few_labels.few_labels_finetune", "the same as finetune, from a fraction of the labels", "--draws 5"
    ),
    "finetune": Entry("finetune.FineTune", "the whole network learns", "--optimizer adamw"),
}
