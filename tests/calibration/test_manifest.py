"""Rows of labelled clips: what is read of folders and manifests, and one sentence a wrong line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from manifests import write_manifest, write_sounds

from edgeprune_calibration.manifest import Clip, clips_of_folders, clips_of_manifest
from edgeprune_device.errors import EdgepruneError

ROWS = "path,label\n1.wav,a\n2.wav,a\n3.wav,b\n4.wav,b\n"
HEAD = "path,label,speaker,split\n"
FOUR = "1.wav,a,s1,train\n2.wav,a,s1,train\n3.wav,b,s2,valid\n4.wav,b,s3,test\n"


def test_class_folders_are_labels(tmp_path: Path) -> None:
    write_sounds(tmp_path, ["robin/a.wav", "robin/deep/b.flac", "wren/c.wav", "wren/D.WAV"])
    (tmp_path / "robin" / "notes.txt").write_text("no sound")
    (tmp_path / "robin" / ".hidden.wav").write_text("no sound")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.wav").write_text("no sound")
    found = clips_of_folders(tmp_path, "label")
    assert [(c.label, c.path.name) for c in found] == [
        ("robin", "a.wav"), ("robin", "b.flac"), ("wren", "D.WAV"), ("wren", "c.wav"),
    ]  # fmt: skip
    assert {(c.group, c.split, c.columns["label"] == c.label) for c in found} == {
        (None, None, True)
    }


def test_folders_have_no_other_labelling_than_their_names(tmp_path: Path) -> None:
    write_sounds(tmp_path, ["robin/a.wav"])
    with pytest.raises(EdgepruneError, match="has no column 'species'") as error:
        clips_of_folders(tmp_path, "species")
    assert "manifest" in error.value.hint
    (tmp_path / "empty" / "wren").mkdir(parents=True)
    with pytest.raises(EdgepruneError, match="has no class folders with sound files"):
        clips_of_folders(tmp_path / "empty", "label")


def test_a_manifests_columns_are_read(tmp_path: Path) -> None:
    text = (
        "\ufeffpath,label,speaker,split,start,end,mood\n"
        "a/1.wav,yes,ann,train,0.5,1.25,calm\na/2.wav,no,ann,training,,,\n"
        "b/3.wav,yes,bob,validation,,,\nb/4.wav,no,cem,TEST,,,\n"
    )
    found = clips_of_manifest(write_manifest(tmp_path, text), "label")
    first = found[0]
    assert first.path == (tmp_path / "a/1.wav").resolve()
    assert (first.label, first.columns["speaker"], first.split) == ("yes", "ann", "train")
    assert (first.start_seconds, first.end_seconds) == (0.5, 1.25)
    assert dict(first.columns) == {"label": "yes", "speaker": "ann", "mood": "calm"}
    assert [c.split for c in found] == ["train", "train", "valid", "test"]
    assert found[1].start_seconds is None


def test_starts_and_ends_in_samples_are_at_the_files_own_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "slow.wav", np.zeros(8000), 8000)
    soundfile.write(tmp_path / "fast.wav", np.zeros(44100), 44100)
    text = (
        "path,start_sample,end_sample,phone\nslow.wav,2000,6000,sh\nfast.wav,11025,33075.0,sh\n"
        "slow.wav,,100,iy\nfast.wav,,,iy\n"
    )
    found = clips_of_manifest(write_manifest(tmp_path, text), "phone")
    times = [(c.start_seconds, c.end_seconds) for c in found]
    assert times == [(0.25, 0.75), (0.25, 0.75), (None, 0.0125), (None, None)]
    assert [dict(c.columns) for c in found] == [{"phone": p} for p in ("sh", "sh", "iy", "iy")]


@pytest.mark.parametrize(
    "text",
    [
        ROWS.replace("\n", "\r\n"), ROWS.replace("\n", "\n\n"), ROWS.replace("a\n", " a \n"),
        "," + "\n0,".join(ROWS.splitlines()) + "\n",  # pandas writes its index under no name
    ],
    ids=["windows line ends", "blank lines", "blanks", "nameless index"],
)  # fmt: skip
def test_a_manifest_is_read_as_spreadsheets_write_it(text: str, tmp_path: Path) -> None:
    found = clips_of_manifest(write_manifest(tmp_path, text), "label")
    assert [(c.path.name, c.label) for c in found] == [
        ("1.wav", "a"), ("2.wav", "a"), ("3.wav", "b"), ("4.wav", "b"),
    ]  # fmt: skip


def test_tabs_separate_cells_where_the_name_says_so(tmp_path: Path) -> None:
    text = 'path\tlabel\n1.wav\t"a, or so"\n2.wav\tb\n'
    first, _ = clips_of_manifest(write_manifest(tmp_path, text, "l.TSV"), "label")
    assert first == Clip((tmp_path / "1.wav").resolve(), "a, or so", columns={"label": "a, or so"})


def test_a_row_without_a_label_is_data_where_tags_may_be_none(tmp_path: Path) -> None:
    text = "path,label\n1.wav,\n2.wav,rain\n"
    found = clips_of_manifest(write_manifest(tmp_path, text), "label", may_be_empty=True)
    assert [clip.label for clip in found] == ["", "rain"]
    with pytest.raises(EdgepruneError, match=r"Line 2 of .* has no label"):
        clips_of_manifest(tmp_path / "labels.csv", "label")


def test_folds_are_kept_as_they_are_called(tmp_path: Path) -> None:
    text = HEAD + FOUR.replace("valid", "Fold12")
    found = clips_of_manifest(write_manifest(tmp_path, text), "label")
    assert [clip.split for clip in found] == ["train", "train", "fold12", "test"]


def test_each_header_is_read_once_however_many_segments_a_file_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def rate_of(path: Path) -> int:
        asked.append(path)
        return 8000

    monkeypatch.setattr("edgeprune_calibration.manifest.rate_of", rate_of)
    rows = "".join(f"{i % 2}.wav,{i},{i + 8},a\n" for i in range(20))
    clips_of_manifest(
        write_manifest(tmp_path, "path,start_sample,end_sample,label\n" + rows), "label"
    )
    assert sorted(path.name for path in asked) == ["0.wav", "1.wav"]


BAD = [
    ("name,label\n1.wav,a\n", "has no column 'path'"),
    ("path,species\n1.wav,a\n", "has no column 'label'"),
    ("", "has no column 'path'"),
    ("path,label\n1.wav,a\n2.wav,\n", "Line 3 of .*labels.csv has no label"),
    ("path,label\n1.wav,a\n,a\n", "Line 3 of .* has no path"),
    ("path,label\n1.wav,a,b\n", "Line 2 of .* another number of columns"),
    ("path,label,start,end\n1.wav,a,2,1\n", "Line 2 of .* ends .1 s. before it starts"),
    (
        "path,label,start,end\n1.wav,a,soon,\n",
        "Line 2 of .*: start = 'soon' is not a number of seconds",
    ),
    ("path,label,start,end\n1.wav,a,-1,\n", "start = '-1' is not a number of seconds"),
    (HEAD + FOUR.replace("valid", "maybe"), "Line 4 of .* has the split 'maybe'"),
    (HEAD + FOUR.replace("valid", "3"), "Line 4 of .* has the split '3'"),
    (HEAD + FOUR.replace("valid", "fold"), "Line 4 of .* has the split 'fold'"),
    ("path,label,start,end\n1.wav,a,,nan\n", "end = 'nan' is not a number of seconds"),
    ("path,label,start,end\n1.wav,a,,inf\n", "end = 'inf' is not a number of seconds"),
    (
        "path,label,end_sample\n1.wav,a,1.5\n",
        "Line 2 of .*labels.csv: end_sample = '1.5' is not a number of samples",
    ),
    ("path,label,start_sample\n1.wav,a,-1\n", "start_sample = '-1' is not a number of samples"),
    (
        "path,label,start_sample,end_sample\n1.wav,a,1234567,1234567\n",
        "Line 2 of .* ends .1234567 samples. before it starts",
    ),
    (
        "path,label,start,end_sample\n1.wav,a,0,100\n",
        "in seconds .start. and in samples .end_sample.",
    ),
    ("path,label,note\n1.wav,a\n", "Line 2 of .* another number of columns"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_said_with_the_line(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match=sentence) as error:
        clips_of_manifest(write_manifest(tmp_path, text), "label")
    assert error.value.status == 2
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [("data.json", b"[]", "neither a folder nor a manifest in CSV or TSV"),
     ("nothing.csv", None, "cannot be read"),
     ("latin.csv", "path,label\n1.wav,\u00e9\n".encode("latin-1"), "cannot be read"),
     ("quotes.csv", b'path,label\n1.wav,"a\n', "cannot be read")],
)  # fmt: skip
def test_what_is_no_manifest_is_refused_in_a_sentence(
    name: str, data: bytes | None, sentence: str, tmp_path: Path
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(EdgepruneError, match=sentence) as error:
        clips_of_manifest(tmp_path / name, "label")
    assert "\n" not in str(error.value)
