"""The decision rule: a bundle's own, with values replaced by a recorder's settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Decide


@dataclass(frozen=True)
class DecisionRule:
    """Thresholds and times that decide what is reported."""

    labels: tuple[str, ...]
    thresholds: Mapping[str, float]
    """Score that each label must reach, 0 to 1."""
    smoothing_windows: int
    """Number of windows over which scores are averaged."""
    refractory_seconds: float
    """Time after its last window for which a reported label is not reported again."""
    ignore: frozenset[str]
    """Labels that are never reported (background)."""
    activation: str = "softmax"
    """``softmax``, ``sigmoid`` or ``ctc``."""
    tokens: str = ""
    """Tokens of a transcript, ``characters`` or ``words``."""
    least_score: float = 0.0
    """Score that a transcript must reach, 0 to 1."""
    temperature: float = 1.0
    """Temperature by which the logits are divided, over 0."""
    confirm_windows: int = 1
    """Number of the last ``of_windows`` that must be over the threshold before an event begins."""
    of_windows: int = 1
    release: float = 0.0
    """Hysteresis: an event continues until its score is this far below the threshold."""
    merge_seconds: float = 0.0
    """Events of a label closer than this are merged."""
    longest_seconds: float = 60.0
    """Length of an event at which merging ends."""


BUNDLES_OWN = Decide()
"""Settings that change nothing."""


def rule_of(bundle: Bundle, decide: Decide = BUNDLES_OWN) -> DecisionRule:
    """Return a bundle's decision rule, with values replaced by a recorder's settings.

    Transcripts have no thresholds per label: all are reported, or those that reach
    ``decide.threshold``. A label allowed by name is reported even if the bundle ignores it.

    Parameters
    ----------
    bundle : Bundle
    decide : settings.Decide
        The threshold of a single label has precedence over that of all labels, and both over the
        bundle's.

    Returns
    -------
    DecisionRule

    Raises
    ------
    EdgepruneError
        A label that the bundle does not have, no remaining label, or settings that do not apply to
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
            f"Every label of {bundle.name} is denied or ignored; nothing would ever be reported.",
            "Remove a label from decide.deny.",
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
    """Reject settings for unknown labels, and settings that do not apply to transcripts."""
    if bundle.activation == "ctc":
        for key in ("thresholds", "smoothing_windows", "confirm_windows", "of_windows", "release",
                    "refractory_seconds", "merge_seconds", "allow", "deny"):  # fmt: skip
            if getattr(decide, key) != getattr(BUNDLES_OWN, key):
                raise EdgepruneError(
                    f"decide.{key} does not apply to the transcripts of {bundle.name}.",
                    "Remove it from the settings; decide.threshold is the lowest score of a text.",
                )
        return
    for key in ("thresholds", "allow", "deny"):
        known_labels(bundle, tuple(getattr(decide, key)), f"decide.{key}")


def known_labels(bundle: Bundle, names: tuple[str, ...], key: str) -> None:
    """Check that a bundle has all labels that a setting names.

    Raises
    ------
    EdgepruneError
        The first label that it does not have, with a similar one.

    """
    for name in names:
        if name not in bundle.labels:
            near = difflib.get_close_matches(name, bundle.labels, 1)
            some = ", ".join(bundle.labels[:8]) + (", ..." if len(bundle.labels) > 8 else "")
            hint = f"Did you mean {near[0]!r}?" if near else f"Its labels: {some}."
            raise EdgepruneError(
                f"{key} names {name!r}, which is not a label of {bundle.name}.", hint
            )
