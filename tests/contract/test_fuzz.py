"""F14: corrupted bundles by the thousand; every one refused in a sentence, none reaches a parser.

Every seventh of them each time (a byte has 8 bits: another bit of every byte); all, and counted for
the table of faults, with the slow tests.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import chain, islice, permutations
from pathlib import Path

import pytest
from faults_table import Tally
from repository import shared
from spoiled import Spoiler, all_bits, flips, no_parser, other_damage, some_bits

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.signature import make_keys, read_private, signature_of
from edgeprune_device.bundle.strict_zip import pack
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Security

often_and_thoroughly = pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.slow, id="all"), pytest.param(7, id="every-7th")]
)


@pytest.fixture(params=["onnx", "tflite"])
def real(
    request: pytest.FixtureRequest, tiny_bundle: Path, pytestconfig: pytest.Config
) -> Iterator[Path]:
    """Copy a bundle to where writing is cheap: one with an ONNX file, one with a TFLite file."""
    if request.param == "tflite":
        from edgeprune.deployment.wrap import Wrap, wrap

        model = shared("models/mlperf_tiny/kws_ref_model.tflite", pytestconfig)
    ram = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=ram if os.access(ram, os.W_OK) else None) as folder:
        bundle = Path(folder) / "bundle"
        if request.param == "tflite":
            wrap(model, bundle, Wrap(kind="mlperf-keywords"))
        else:
            shutil.copytree(tiny_bundle, bundle)
        yield bundle


def state_of(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*"))


def files_of(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file())


@often_and_thoroughly
@pytest.mark.fault("F14")
def test_a_bundle_with_any_file_damaged_is_refused(real: Path, tally: Tally, every: int) -> None:
    """Every bit of bundle.json, 300 bits of every other file; cuts, zeroed 4-KiB blocks, bursts,
    added bytes, every two files swapped, every file missing: over 10,000 for each of two bundles."""
    before, spoiler = state_of(real), Spoiler()
    with no_parser():
        for seed, file in enumerate(files_of(real)):
            data = file.read_bytes()
            whole = file.name == "bundle.json"
            bits = all_bits(0, len(data)) if whole else some_bits(len(data), 300, seed)
            spoilt = chain(flips(data, bits), other_damage(data, 40, seed))
            spoiler.try_all(real, file, islice(spoilt, None, None, every))
        for one, other in permutations(files_of(real), 2):
            if one.read_bytes() != other.read_bytes():
                swap(one, other)
                spoiler.try_one(real, "files swapped")
                swap(one, other)
        for file in files_of(real):
            file.rename(real.parent / "away")
            spoiler.try_one(real, "file missing")
            (real.parent / "away").rename(file)
    assert spoiler.accepted == []
    assert state_of(real) == before  # nothing was written, and all of it was put back
    read_bundle(real)
    assert spoiler.counts.total() > 10_000 // every
    if every == 1:
        tally(spoiler.counts.total(), 0, f"{real_kind(real)}: all refused, {said(spoiler)}")


@often_and_thoroughly
@pytest.mark.fault("F14")
def test_a_sealed_zip_with_any_byte_damaged_is_refused(
    real: Path, tally: Tally, every: int
) -> None:
    """Every bit of the directory and the seal, 400 bits of the rest, and the same damage as above."""
    files = {path.relative_to(real).as_posix(): path.read_bytes() for path in files_of(real)}
    data, path, spoiler = pack(files), real.parent / "bundle.zip", Spoiler()
    path.write_bytes(data)
    assert read_bundle(path).digest == read_bundle(real).digest
    directory = data.rindex(b"PK\x05\x06")
    start = int.from_bytes(data[directory + 16 : directory + 20], "little")
    with no_parser():
        bits = chain(all_bits(start, len(data)), some_bits(len(data), 400, 0))
        spoilt = chain(flips(data, bits), other_damage(data, 100, 1))
        spoiler.try_all(path, path, islice(spoilt, None, None, every))
    assert spoiler.accepted == []
    if every == 1:
        tally(spoiler.counts.total(), 0, f"{real_kind(real)} as zip: all refused, {said(spoiler)}")


@often_and_thoroughly
@pytest.mark.fault("F14")
def test_damage_to_any_other_zip_is_refused_or_changes_nothing_in_the_bundle(
    real: Path, tally: Tally, every: int
) -> None:
    """A zip without a seal (zip -r), every bit of its directory: a date or a permission may differ,
    a byte of a file may not."""
    import zipfile

    path = real.parent / "plain.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files_of(real):
            archive.write(file, file.relative_to(real).as_posix())
    data, bundle = path.read_bytes(), read_bundle(path)
    tried = harmless = 0
    start = int.from_bytes(data[-6:-2], "little")
    with no_parser():
        spoilt = flips(data, chain(all_bits(start, len(data)), all_bits(0, 80)))
        for _, changed in islice(spoilt, None, None, every):
            path.write_bytes(changed)
            tried += 1
            try:
                read = read_bundle(path)
            except EdgepruneError:
                continue
            assert (read.digest, read.model_bytes) == (bundle.digest, bundle.model_bytes)
            harmless += 1
    assert harmless < tried / 5
    if every == 1:
        refused = f"{tried - harmless:,} refused"
        tally(tried, 0, f"a zip without a seal: {refused}, {harmless} the same bundle")


@pytest.mark.fault("F14")
def test_a_damaged_signature_or_a_damaged_signed_bundle_is_refused(
    tiny_bundle: Path, tmp_path: Path, tally: Tally
) -> None:
    """Every bit of the signature, cuts and bursts in it, and 1,000 bits of the signed bundle.json."""
    shutil.copytree(tiny_bundle, tmp_path / "b")
    private, public, _ = make_keys(tmp_path / "keys")
    path, raw = tmp_path / "b/bundle.json.sig", (tmp_path / "b/bundle.json").read_bytes()
    signature = signature_of(raw, read_private(private))
    security = Security(True, (str(public),))
    tried = 0
    for _, changed in chain(
        flips(signature, all_bits(0, len(signature))), other_damage(signature, 40, 0)
    ):
        path.write_bytes(changed)
        tried += 1
        with pytest.raises(EdgepruneError, match="sign"):
            read_bundle(tmp_path / "b", security)
    path.write_bytes(signature)
    assert read_bundle(tmp_path / "b", security).signed_by
    for _, changed in flips(raw, some_bits(len(raw), 1000, 0)):
        (tmp_path / "b/bundle.json").write_bytes(changed)
        tried += 1
        with pytest.raises(EdgepruneError, match="is invalid"):
            read_bundle(tmp_path / "b", security)
    tally(tried, 0, "signatures: all refused")


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def real_kind(bundle: Path) -> str:
    return "ONNX" if (bundle / "model.onnx").exists() else "TFLite"


def said(spoiler: Spoiler) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in spoiler.counts.most_common())
