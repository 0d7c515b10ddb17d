"""Search for the number of layers to keep, by trial: around a proposed depth, or by bisection."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def search(
    curve: Sequence[float], proposed: int, minimum: int, holds: Callable[[Sequence[int]], bool]
) -> list[int]:
    """Search around the depth that convexity proposes.

    Parameters
    ----------
    curve : sequence of float
        Convexity at the first block's input and after every block.
    proposed : int
        First depth to try, in layers.
    minimum : int
        Smallest depth the family allows, in layers.
    holds : callable
        Tries the layers it is given; True if the accuracy is high enough.

    Returns
    -------
    list of int
        Layers to keep: the smallest depth that was tried and accepted, or all layers.

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


def bisect(
    keep_at: Callable[[int], Sequence[int]], minimum: int, layers: int,
    holds: Callable[[Sequence[int]], bool],
) -> list[int]:  # fmt: skip
    """Find the smallest accepted depth by bisection, assuming that larger depths are accepted, too.

    Parameters
    ----------
    keep_at : callable
        Depth -> layers to keep.
    minimum, layers : int
        Smallest depth allowed, and the depth of the whole model, which counts as accepted.
    holds : callable
        Tries the layers it is given; True if the accuracy is high enough.

    """
    failed, held = minimum - 1, layers
    while held - failed > 1:
        middle = (failed + held) // 2
        if holds(keep_at(middle)):
            held = middle
        else:
            failed = middle
    return list(keep_at(held))
