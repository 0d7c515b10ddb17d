"""Find the depth to keep by trying: around a depth that was proposed, or by halving. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def search(
    curve: Sequence[float], proposed: int, minimum: int, holds: Callable[[Sequence[int]], bool]
) -> list[int]:
    """Find the cut around a depth that convexity proposes.

    Parameters
    ----------
    curve : sequence of float
        Convexity at the first block's input and after every block.
    proposed : int
        The first depth tried, in layers.
    minimum : int
        The shallowest cut the family allows, in layers.
    holds : callable
        Tries the layers it is given; True if the accuracy stays over the floor.

    Returns
    -------
    list of int
        The layers to keep: the shallowest tried cut that held, or all layers if none did.

    """
    layers = len(curve) - 1
    depth = max(proposed, minimum)
    if depth < layers and not holds(range(depth)):
        deeper = (d for d in range(depth + 1, layers) if holds(range(d)))
        return list(range(next(deeper, layers)))
    best, failed = depth, minimum - 1
    for candidate in sorted(range(minimum, depth), key=lambda d: (-curve[d], d)):
        if failed < candidate < best:
            if holds(range(candidate)):
                best = candidate
            else:
                failed = candidate
    return list(range(best))


def halve(
    keep_at: Callable[[int], Sequence[int]], minimum: int, layers: int,
    holds: Callable[[Sequence[int]], bool],
) -> list[int]:  # fmt: skip
    """Find the smallest depth that holds by halving, taking it that deeper cuts hold, too.

    Parameters
    ----------
    keep_at : callable
        Depth -> layers to keep.
    minimum, layers : int
        The shallowest depth allowed, and the whole model's, which holds.
    holds : callable
        Tries the layers it is given.

    """
    failed, held = minimum - 1, layers
    while held - failed > 1:
        middle = (failed + held) // 2
        if holds(keep_at(middle)):
            held = middle
        else:
            failed = middle
    return list(keep_at(held))
