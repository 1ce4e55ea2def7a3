"""Where the images of a set are: what every kind of index answers."""

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from byol.data.identity import Identity
from byol.data.image.decode import Decoded, Jpeg
from byol.data.image.depth import Deep, PixelRange


class Index(Protocol):
    """The N images of one split, one by one; sent to a worker it should be small."""

    @property
    def root(self) -> str:
        """What the images are below, in words for a person: a folder, a file, a class."""
        ...

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) int64, numbers of `classes`; (N, C) int64 of 0 and 1 for any number of labels; or None."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes, the same for every labelled split; empty without labels."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person has to know of how the set was found: a sentence each, in all splits alike."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of where the images are, their names and labels; not of what is in them."""
        ...

    @property
    def is_stored(self) -> bool:
        """Whether the images lie in files, so that a later process can find again what was made of them."""
        ...

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """Return what image i is called."""
        ...

    def bytes(self, i: int) -> bytes:
        """Return image i as it is stored."""
        ...

    @property
    def pixel_range(self) -> PixelRange | None:
        """What becomes black and white where there are more than 8 bits a sample; None where nobody said."""
        ...

    def meaning(self, pixel_range: PixelRange, notes: tuple[str, ...]) -> Self:
        """Return the same images, read by a range, with notes more."""
        ...

    def deep(self, i: int) -> Deep | None:
        """Return the samples of image i if they have more than 8 bits each and can be read; else None."""
        ...

    def open(self, i: int) -> Decoded | Jpeg:
        """Return image i with its size known.

        Raises:
            UndecodableImage: it is missing, damaged or no image.
        """
        ...

    def identity(self) -> Identity:
        """Return which images these are, wherever they lie: their number, and a digest."""
        ...

    def stamps(self) -> NDArray[np.int64]:
        """Return the bytes of each image, -1 if it is missing, and what changes when it does, (N, 2)."""
        ...

    def pixels(self) -> NDArray[np.uint8] | None:
        """Return all images at once (N, H, W, 3) where they are stored so; None where they are not."""
        ...
