"""Splits into train, validation and test clips: those of the data, or automatic ones.

An automatic split is seeded, keeps every group (speaker, recording, site) in one part, and gives
every part about the same share of each label; for transcripts, of all clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune_calibration.dataset import Dataset
from edgeprune_calibration.manifest import Clip
from edgeprune_device.errors import EdgepruneError

PARTS = ("train", "valid", "test")
ATTEMPTS = 50  # random orders of the groups that are tried; the best result is used
MISSING = 1e6  # cost of a label without clips in a part


def split_clips(
    dataset: Dataset, seed: int = 0, fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    test_fold: str | None = None,
) -> dict[str, tuple[Clip, ...]]:  # fmt: skip
    """Return the clips of each split.

    Parameters
    ----------
    dataset : Dataset
        Clips, all with a split or all without. Of folds, the last (or ``test_fold``) becomes the
        test split, the one before it (of three or more) the validation split. A part the data
        does not have is taken from its training clips.
    seed : int
        Random seed of an automatic split.
    fractions : tuple of float
        Shares of train, valid and test in an automatic split.
    test_fold : str or None
        Fold to use as test split; None: the last.

    Raises
    ------
    EdgepruneError
        A label is not in every split, or there is no such fold.

    """
    given = _given(dataset, test_fold)
    parts = {part: tuple(c for c, p in zip(dataset.clips, given, strict=True) if p == part)
             for part in PARTS}  # fmt: skip
    missing = [part for part in PARTS if not parts[part]]
    if missing:
        wanted = [part for part in PARTS if part == "train" or part in missing]
        shares = [fractions[PARTS.index(part)] for part in wanted]
        parts |= _deal(parts["train"], dataset.labelling.stratify_by, wanted, shares, seed)
    _check(dataset, parts, made=bool(missing))
    return parts


def _given(dataset: Dataset, test_fold: str | None) -> list[str]:
    """Return the part of each clip by the data's split column; ``train`` without one."""
    names = [clip.split or "train" for clip in dataset.clips]
    folds = sorted({name for name in names if name.startswith("fold")}, key=lambda f: int(f[4:]))
    if not folds:
        if test_fold:
            raise EdgepruneError(f"{dataset.source} has no folds, so there is no {test_fold!r}.")
        return names
    test = test_fold or folds[-1]
    if test not in folds:
        raise EdgepruneError(f"{dataset.source} has no fold {test!r}.", f"Known: {folds}.")
    valid = folds[folds.index(test) - 1] if len(folds) > 2 else None
    return ["test" if n == test else "valid" if n == valid else "train" for n in names]


def _deal(
    clips: Sequence[Clip], kinds: Callable[[str], tuple[str, ...]], parts: Sequence[str],
    shares: Sequence[float], seed: int,
) -> dict[str, tuple[Clip, ...]]:  # fmt: skip
    """Distribute groups over the parts so that each gets its share of every label."""
    held = [(row, kind) for row, clip in enumerate(clips) for kind in kinds(clip.label)]
    labels, label = np.unique([kind for _, kind in held], return_inverse=True)
    names = [clip.group if clip.group else f"\0{i}" for i, clip in enumerate(clips)]
    groups, group = np.unique(names, return_inverse=True)
    counts = np.zeros((len(groups), len(labels)))
    np.add.at(counts, (group[[row for row, _ in held]], label), 1)
    target = np.outer(np.asarray(shares) / sum(shares), counts.sum(axis=0))
    best: tuple[float, NDArray[np.int64]] | None = None
    attempts = ATTEMPTS if len(groups) < len(clips) else 1
    for cover in (False, True):  # a rare label may need every part to be served first
        for attempt in range(ATTEMPTS if cover else attempts):
            order = np.random.default_rng([seed, attempt]).permutation(len(groups))
            if not cover:
                size = np.round(np.log2(counts[order].sum(axis=1)))  # large ones first, roughly
                order = order[np.argsort(-size, kind="stable")]
            cost, dealt = _deal_once(counts, target, order, cover)
            if best is None or cost < best[0]:
                best = (cost, dealt)
        if best is not None and best[0] < MISSING:
            break
    assert best is not None
    chosen = best[1][group]
    return {part: tuple(c for c, p in zip(clips, chosen, strict=True) if p == index)
            for index, part in enumerate(parts)}  # fmt: skip


def _deal_once(
    counts: NDArray[np.float64], target: NDArray[np.float64], order: NDArray[np.int64],
    cover: bool,
) -> tuple[float, NDArray[np.int64]]:  # fmt: skip
    """Assign each group in turn to the part whose labels it brings closest to their target.

    With ``cover``, a part that has none of its labels yet takes precedence. Returns the cost
    (missing labels in a part weigh most) and each group's part.
    """
    have = np.zeros_like(target)
    dealt = np.zeros(len(counts), dtype=np.int64)
    scale = 1.0 / np.maximum(target, 1e-9)
    for index in order:
        lack = np.clip(target - have, 0, None)
        use = np.minimum(counts[index], lack)
        over = counts[index] - use
        gain = ((use - over) * scale).sum(axis=1)
        if cover:
            gain += MISSING * ((have == 0) & (counts[index] > 0)).sum(axis=1)
        dealt[index] = int(gain.argmax())
        have[dealt[index]] += counts[index]
    missing = float((have == 0).sum())
    return missing * MISSING + float((np.square(have - target) * scale).sum()), dealt


def _check(dataset: Dataset, parts: dict[str, tuple[Clip, ...]], *, made: bool) -> None:
    kinds = dataset.labelling.stratify_by
    there = {part: {kind for clip in parts[part] for kind in kinds(clip.label)} for part in PARTS}
    if empty := [part for part in PARTS if not parts[part]]:
        raise EdgepruneError(
            f"The {len(dataset.clips)} clips of {dataset.source} leave none for the {empty[0]} split.",
            "Add clips, choose another --group, or add a split column.",
        )
    for label in sorted(set().union(*there.values()) - {""}):
        for part in PARTS:
            if label in there[part]:
                continue
            if made:
                groups = len({c.group or str(i) for i, c in enumerate(dataset.clips)
                              if label in kinds(c.label)})  # fmt: skip
                raise EdgepruneError(
                    f"The label {label!r} cannot be in train, valid and test: it has clips of only "
                    f"{groups} {dataset.group_column or 'source'}{'s' if groups != 1 else ''}.",
                    "Add clips, choose another --group, or add a split column.",
                )
            if part == "train":
                raise EdgepruneError(
                    f"The label {label!r} of {dataset.source} has no clips in the train split."
                )
