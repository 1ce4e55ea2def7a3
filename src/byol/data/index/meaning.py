"""What the numbers of deep pictures mean: which of them is black and which white, found once for a set.

A picture of 16 bits a sample seldom uses them all: a camera gives 12, a scanner 10, computed tomography
numbers below zero. So by itself it says neither what is black nor what is white. Some pictures, spread evenly
over the images to learn from, are looked at. Where no sample lies below zero, black is 0, and white is the
largest number of as many bits as the largest sample takes: 4,095 where that is 3,817. Else black and white
are the smallest and the largest sample. All pictures of more than 8 bits in all splits are read by this one
range, so that equal numbers look equal; what lies beyond is black or white.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from byol.data.image.depth import Deep, PixelRange
from byol.data.index.slot import Index

_LOOKED_AT = 64
_CLIPPED = 0.01  # of the samples that were looked at; more than that is told
_DARK = 8  # a range that is as many times wider than what was looked at is told


def with_meaning(sets: Mapping[str, Index], known: PixelRange | None = None) -> dict[str, Index]:
    """Return the same splits, whose deep pictures are all read by one range, with a note that says so.

    Args:
        sets: split -> index.
        known: the range of the encoder that is going to look at them; by default it is found here.
    """
    index = sets["train"] if "train" in sets else next(iter(sets.values()))
    if index.pixel_range is not None:  # of a pack, whose pixels are made
        if known in (None, index.pixel_range):
            return dict(sets)
        said = f"the pixels were packed so that {index.pixel_range}, and the encoder learned that {known}."
        return {split: one.meaning(index.pixel_range, (said,)) for split, one in sets.items()}
    positions = np.linspace(0, len(index) - 1, min(_LOOKED_AT, len(index))).astype(np.int64).tolist()
    found = [samples for i in positions if (samples := index.deep(i)) is not None]
    if not found:
        return dict(sets)
    where = f"as found in {len(found)} of {len(positions)} pictures looked at"
    pixel_range, notes = said_of(found, where, known)
    return {split: one.meaning(pixel_range, notes) for split, one in sets.items()}


def said_of(
    found: Sequence[Deep], where: str, known: PixelRange | None = None
) -> tuple[PixelRange, tuple[str, ...]]:
    """Return the range of some deep pictures and what a person has to know of it.

    Args:
        found: the pictures, one or more.
        where: in which they were found, as a clause.
        known: the range of the encoder that is going to look at them; by default it is found here.
    """
    pixel_range, where = (range_of(found), where) if known is None else (known, "as the encoder learned it")
    said = f"pixels of more than 8 bits: {pixel_range}, {where}."
    return pixel_range, (said, *([] if known is None else _beyond(found, known)))


def range_of(found: Sequence[Deep]) -> PixelRange:
    """Return what is black and what is white in some deep pictures, one or more."""
    low, high = min(int(one.samples.min()) for one in found), max(int(one.samples.max()) for one in found)
    if low < 0:
        return PixelRange(low, max(high, low + 1))
    return PixelRange(0, (1 << max(high.bit_length(), 1)) - 1)


def _beyond(found: Sequence[Deep], known: PixelRange) -> list[str]:
    """Return what is to be said where deep pictures have another range than that of an encoder."""
    outside = sum(int(((one.samples < known.low) | (one.samples > known.high)).sum()) for one in found)
    fraction, own = outside / sum(one.samples.size for one in found), range_of(found)
    if fraction > _CLIPPED:
        return [
            f"{fraction:.0%} of the samples looked at lie outside of this range and become black or white: "
            f"by themselves, {own}; the encoder learned from pictures of another kind."
        ]
    if _DARK * (own.high - own.low) <= known.high - known.low:
        return [
            f"the samples looked at take less than {1 / _DARK:.0%} of this range, so that the pictures have "
            f"little contrast: by themselves, {own}; the encoder learned from pictures of another kind."
        ]
    return []
