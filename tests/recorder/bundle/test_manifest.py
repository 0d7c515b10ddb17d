"""The manifest: its digest, its version, and what contradicts itself in it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_edits import edit
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.bundle.manifest import problem_of, seal_problem, sealed, version_problem
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


def test_a_bundle_of_another_schema_names_both_versions(folder: Path) -> None:
    edit(folder, lambda m: m.update(schema_version=99))
    with pytest.raises(
        EdgepruneError, match="has schema version 99, but this edgeprune reads version 2"
    ):
        read_bundle(folder)


@pytest.fixture(scope="module")
def manifest(tiny_bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tiny_bundle / "bundle.json").read_text("utf-8"))
    return found


def test_the_digest_is_that_of_the_file_with_noughts_in_its_place(manifest: dict[str, Any]) -> None:
    raw = sealed(manifest)
    digest = json.loads(raw)["digest"]
    assert raw.startswith(f'{{\n "digest": "{digest}",\n'.encode())
    blank = raw.replace(digest.encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == digest
    assert sealed(json.loads(raw)) == raw
    assert {k: v for k, v in json.loads(raw).items() if k != "digest"} == {
        k: v for k, v in manifest.items() if k != "digest"
    }


@given(data=st.data())
def test_a_manifest_with_any_byte_changed_after_its_seal_is_found_out(
    data: st.DataObject, manifest: dict[str, Any]
) -> None:
    raw = bytearray(sealed(manifest))
    assert seal_problem(bytes(raw)) == ""
    place = data.draw(st.integers(len('{\n "digest": "'), len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    assert "its digest differs" in seal_problem(bytes(raw))


@pytest.mark.parametrize(
    ("version", "raw", "said"),
    [(2, b'{\n "digest": "', ""), (2, b'{"digest": "', "bundle.json does not begin with its digest"),
     (1, b"{", ""), (3, b'{\n "digest": "', None), (True, b"{", None), ("2", b"{", None)],
)  # fmt: skip
def test_a_version_is_read_unread_or_lacks_its_digest(
    version: object, raw: bytes, said: str | None
) -> None:
    assert version_problem({"schema_version": version}, raw) == said


def test_a_manifest_that_the_bundle_was_written_with_has_no_problem(
    manifest: dict[str, Any],
) -> None:
    assert problem_of(manifest) == ""


def transcripts(m: dict[str, Any]) -> None:
    m.update(activation="ctc", tokens="characters")
    m["model"]["output"]["shape"] = [1, 7, len(m["labels"])]
    m["decision"]["thresholds"] = {}


def test_transcripts_have_frames_tokens_and_no_thresholds(manifest: dict[str, Any]) -> None:
    found = copy.deepcopy(manifest)
    transcripts(found)
    found["labels"][0] = "\n"  # a token need not be printable
    assert problem_of(found) == ""
    for change, words in (
        ({"tokens": "syllables"}, "its tokens 'syllables' are not known"),
        ({"activation": "softmax", "labels": manifest["labels"]}, "scores of shape [1, 7, 3]"),
        ({"decision": manifest["decision"]}, "thresholds do not cover"),
        ({"decision": {**found["decision"], "temperature": 2.0}}, "its temperature 2"),
    ):  # fmt: skip
        assert words in problem_of({**found, **change})


PROBLEMS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda m: m["files"].update({"a/b/c": m["files"]["model.onnx"]}), "'a/b/c' is not allowed"),
    (lambda m: m["files"].update({"CON.npy": m["files"]["model.onnx"]}), "'CON.npy' is not allowed"),
    (lambda m: m["files"].update({"bundle.json": m["files"]["model.onnx"]}), "is not allowed"),
    (lambda m: m["files"].update({"Model.onnx": m["files"]["model.onnx"]}), "another one only in case"),
    (lambda m: m["files"].update({"golden": m["files"]["model.onnx"]}), "both a file and a folder"),
    (lambda m: m["files"]["model.onnx"].update(sha256="0" * 63), "no valid SHA-256 or size"),
    (lambda m: m["files"]["model.onnx"].update(bytes=-1), "no valid SHA-256 or size"),
    (lambda m: m["files"].update({f"{i}.x": m["files"]["model.onnx"] for i in range(1001)}),
     "over 1000 files"),
    (lambda m: m["files"].pop("golden/0.input.npy"), "golden/0.input.npy is used but not listed"),
    (lambda m: m.update(privacy={"labels": ["a voice"]}), "privacy entry names unknown labels"),
    (lambda m: m["decision"].update(temperature=0.01), "its temperature 0.01"),
    (lambda m: m["decision"].update(refractory_seconds=-1), "decision rule"),
    (lambda m: m["labels"].__setitem__(0, "\x1b[2J"), "is not printable"),
    (lambda m: m.update(name=""), "it has no name"),
    (lambda m: m["model"]["input"].update(dtype="int8"), "its input is int8"),
    (lambda m: m["audio"].update(hop_seconds=0), "its rate 16000 Hz or hop 0 s"),
    (lambda m: m.update(alternative_golden=m["golden"]), "alternative"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), PROBLEMS, ids=[words for _, words in PROBLEMS])
def test_what_contradicts_itself_is_said(
    change: Callable[[dict[str, Any]], object], words: str, manifest: dict[str, Any]
) -> None:
    found = copy.deepcopy(manifest)
    change(found)
    assert words in problem_of(found)
