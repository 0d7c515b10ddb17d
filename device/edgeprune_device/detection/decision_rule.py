"""The rule of a decision: a bundle's own, with what a recorder's settings put in its place. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Decide


@dataclass(frozen=True)
class DecisionRule:
    """How sure a listener must be."""

    labels: tuple[str, ...]
    thresholds: Mapping[str, float]
    """Score a label must reach, 0 to 1."""
    smoothing_windows: int
    """Scores are averaged over so many windows."""
    refractory_seconds: float
    """A label that was reported stays quiet for so long after its last window."""
    ignore: frozenset[str]
    """Labels that are never reported (background)."""
    activation: str = "softmax"
    """``softmax``, ``sigmoid`` or ``ctc``."""
    tokens: str = ""
    """What a transcript is made of, ``characters`` or ``words``."""
    least_score: float = 0.0
    """Score that a transcript must reach, 0 to 1."""
    temperature: float = 1.0
    """What the logits behind the scores are divided by, over 0."""
    confirm_windows: int = 1
    """Of the last ``of_windows`` so many must be over the threshold before an event begins."""
    of_windows: int = 1
    release: float = 0.0
    """An event goes on until its score is so far under the threshold."""
    merge_seconds: float = 0.0
    """Events of a label with less than this between them are one."""
    longest_seconds: float = 60.0
    """Merging ends with an event of this length."""


BUNDLES_OWN = Decide()
"""Settings that change nothing."""


def rule_of(bundle: Bundle, decide: Decide = BUNDLES_OWN) -> DecisionRule:
    """Return a bundle's decision rule, with what a recorder's settings put in its place.

    Transcripts have no thresholds of their own: all are reported, or those that reach
    ``decide.threshold``. A label that is allowed by name is reported even where the bundle ignores it.

    Parameters
    ----------
    bundle : Bundle
    decide : settings.Decide
        A single label's threshold wins over that of all, and both over the bundle's.

    Raises
    ------
    EdgepruneError
        A label that the bundle does not have, no label left, or settings that say nothing about
        transcripts.

    """
    _check_labels(bundle, decide)
    decision = bundle.manifest["decision"]
    thresholds = {label: float(value) for label, value in decision["thresholds"].items()}
    if decide.threshold is not None and bundle.activation != "ctc":
        thresholds = dict.fromkeys(bundle.labels, decide.threshold)
    ignore = set(bundle.labels) - set(decide.allow) if decide.allow else set(decision["ignore"])
    ignore |= set(decide.deny)
    if bundle.activation != "ctc" and ignore >= set(bundle.labels):
        raise EdgepruneError(
            f"Every label of {bundle.name} is denied or ignored: nothing would ever be reported.",
            "Take one out of decide.deny.",
        )
    smoothing, refractory = decide.smoothing_windows, decide.refractory_seconds
    return DecisionRule(
        bundle.labels, thresholds | dict(decide.thresholds),
        max(1, int(decision["smoothing_windows"] if smoothing is None else smoothing)),
        float(decision["refractory_seconds"] if refractory is None else refractory),
        frozenset(ignore), bundle.activation, bundle.tokens, decide.threshold or 0.0,
        bundle.temperature, decide.confirm_windows, decide.of_windows, decide.release,
        decide.merge_seconds, decide.longest_seconds,
    )  # fmt: skip


def _check_labels(bundle: Bundle, decide: Decide) -> None:
    """Refuse settings of labels that are not there, and those that transcripts know nothing of."""
    if bundle.activation == "ctc":
        for key in ("thresholds", "smoothing_windows", "confirm_windows", "of_windows", "release",
                    "refractory_seconds", "merge_seconds", "allow", "deny"):  # fmt: skip
            if getattr(decide, key) != getattr(BUNDLES_OWN, key):
                raise EdgepruneError(
                    f"decide.{key} says nothing about transcripts, which {bundle.name} makes.",
                    "Take it out of the settings; decide.threshold is the least score of a text.",
                )
        return
    for key in ("thresholds", "allow", "deny"):
        known_labels(bundle, tuple(getattr(decide, key)), f"decide.{key}")


def known_labels(bundle: Bundle, names: tuple[str, ...], key: str) -> None:
    """Check that a bundle has all labels that a setting names.

    Raises
    ------
    EdgepruneError
        The first that it does not have, and one that looks like it.

    """
    for name in names:
        if name not in bundle.labels:
            near = difflib.get_close_matches(name, bundle.labels, 1)
            some = ", ".join(bundle.labels[:8]) + (", ..." if len(bundle.labels) > 8 else "")
            hint = f"Did you mean {near[0]!r}?" if near else f"It has {some}."
            raise EdgepruneError(
                f"{key} names {name!r}, a label {bundle.name} does not have.", hint
            )
