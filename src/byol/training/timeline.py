"""What happens at which step, as a function of the recipe and the number of images alone."""

from dataclasses import dataclass

from byol.recipe.spec import Recipe
from byol.schedule import learning_rate


@dataclass(frozen=True)
class Timeline:
    """The steps of a run; there is nothing to save, since a resumed run computes the same.

    Args:
        recipe: whose epochs and schedules they are.
        num_images: of the set that it learns from.
    """

    recipe: Recipe
    num_images: int

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps of one pass over the images, which need not be whole."""
        return self.num_images / self.recipe.batch_size

    @property
    def total_steps(self) -> int:
        """K of the paper."""
        return self.recipe.steps(self.recipe.epochs, self.num_images)

    @property
    def warmup_steps(self) -> int:
        """Steps during which the learning rate rises."""
        return self.recipe.steps(self.recipe.warmup_epochs, self.num_images)

    def lr(self, step: int) -> float:
        """Learning rate of a step."""
        return learning_rate(step, self.total_steps, self.warmup_steps, self.recipe.peak_lr)

    def predictor_lr(self, step: int) -> float:
        """Learning rate of the predictor at a step."""
        return self.recipe.predictor_lr.at(self.lr(step), self.recipe.peak_lr)

    def tau(self, step: int) -> float:
        """Fraction of the target kept at a step."""
        return self.recipe.target.tau(step, self.total_steps)

    def is_recorded(self, step: int) -> bool:
        """A hundred records or more, one per 50 steps in long runs."""
        return step % max(1, min(50, self.total_steps // 100)) == 0 or step == self.total_steps

    def is_judged(self, step: int) -> bool:
        """Ten kNN judgements, evenly spaced."""
        return step % max(1, self.total_steps // 10) == 0
