"""CTC data from TIMIT's phone segmentation: one row per sentence, its phones as the transcript.

    python benchmarks/timit_ctc.py ../shared/data/timit_sample timit
    edgeprune compress MODEL timit/labels.csv ...   # with clips.task = "ctc", clips.tokens = "words"

The 61 symbols are folded to the usual 39 (Lee and Hon 1989): closures and pauses become ``sil``,
repeated ones a single ``sil``; the glottal stop is removed. ``--symbols 61`` keeps all symbols. The
two SA sentences, which every speaker reads, are left out as usual, because the test split would
contain training texts. Every speaker is in one split, that of the sample's labels.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

SILENCE = "sil"
FOLDED = {  # Lee and Hon 1989, IEEE Trans. ASSP 37(11), table II
    "ux": "uw", "axr": "er", "ax-h": "ah", "ax": "ah", "ix": "ih", "el": "l", "em": "m", "en": "n",
    "eng": "ng", "nx": "n", "zh": "sh", "ao": "aa", "hv": "hh",
    **dict.fromkeys(("h#", "pau", "epi", "bcl", "dcl", "gcl", "pcl", "tcl", "kcl"), SILENCE),
    "q": "",
}  # fmt: skip


def fold(phones: Sequence[str]) -> list[str]:
    """Return phones in the 39 symbols; neighbouring silences become one."""
    folded = [symbol for phone in phones if (symbol := FOLDED.get(phone, phone))]
    return [
        symbol for symbol, run in groupby(folded)
        for _ in (range(1) if symbol == SILENCE else run)
    ]  # fmt: skip


def sentences(sample: Path) -> dict[str, list[str]]:
    """Return path -> its phones in order of time."""
    found: dict[str, list[tuple[int, str]]] = {}
    with (sample / "phones.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["path"], []).append((int(row["start_sample"]), row["phone"]))
    return {path: [phone for _, phone in sorted(phones)] for path, phones in found.items()}


def make(sample: Path, out: Path, symbols: int, with_sa: bool) -> tuple[int, int]:
    """Write ``out/labels.csv``; return the numbers of sentences and of different phones."""
    said = sentences(sample)
    with (sample / "labels.csv").open(encoding="utf-8", newline="") as file:
        clips = list(csv.DictReader(file))
    rows, known = [], set()
    for clip in clips:
        if clip["path"] not in said or (Path(clip["path"]).name.startswith("sa") and not with_sa):
            continue
        phones = said[clip["path"]] if symbols == 61 else fold(said[clip["path"]])
        known |= set(phones)
        rows.append(((sample / clip["path"]).resolve(), " ".join(phones), clip["speaker"],
                     clip["split"]))  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "speaker", "split"), *rows])
    return len(rows), len(known)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sample", type=Path, help="folder with labels.csv and phones.csv")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--symbols", type=int, choices=(39, 61), default=39, help="phone symbols")
    parser.add_argument(
        "--with-sa", action="store_true", help="keep the sentences all speakers read"
    )
    given = parser.parse_args()
    for name in ("labels.csv", "phones.csv"):
        if not (given.sample / name).is_file():
            print(f"error: {given.sample} holds no {name}.", file=sys.stderr)
            return 2
    made, phones = make(given.sample, given.out, given.symbols, given.with_sa)
    print(f"{made} sentences of {phones} phones in {given.out / 'labels.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
