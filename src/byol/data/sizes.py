"""How large the images of a set are, as a few of them show."""

import statistics

import numpy as np

from byol.data.image.kinds import UndecodableImage
from byol.data.images import Images
from byol.errors import UserError

_LOOKED_AT = 64


def typical_side(images: Images) -> int:
    """Return the median short side in pixels of up to 64 images, evenly spaced over the set.

    Raises:
        UserError: none of them can be read.
    """
    sides = []
    for i in np.linspace(0, len(images) - 1, min(len(images), _LOOKED_AT)).round().astype(int).tolist():
        try:
            sides.append(min(images.size(i)))
        except UndecodableImage:  # the loader says which
            continue
    if not sides:
        raise UserError(
            f"none of {min(len(images), _LOOKED_AT)} images that were looked at can be read, such as "
            f"{images.name(0)}: repair or remove them."
        )
    return round(statistics.median(sides))
