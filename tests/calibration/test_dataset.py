"""Labelled clips: what is read, and one sentence for each thing that can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from manifests import write_manifest, write_sounds

from edgeprune_calibration.dataset import check_audio, read_data
from edgeprune_device.errors import EdgepruneError


def test_tabs_and_another_labelling(tmp_path: Path) -> None:
    text = (
        "path\tlabel\tspeaker\n1.wav\tyes\tann\n2.wav\tno\tann\n3.wav\tyes\tbob\n4.wav\tno\tbob\n"
    )
    data = read_data(write_manifest(tmp_path, text, "labels.tsv"), "speaker")
    assert data.labels == ("ann", "bob")
    assert data.group_column == ""  # the speaker is the label, not a group
    assert data.clips[0].columns["label"] == "yes"


def test_samples_of_a_file_that_is_not_there_are_left_to_the_check_of_the_audio(
    tmp_path: Path,
) -> None:
    write_sounds(tmp_path, ["1.wav"])
    rows = "".join(f"1.wav,{i},{i + 9},{'ab'[i % 2]}\n" for i in range(100))
    head = "path,start_sample,end_sample,label\n"
    data = read_data(write_manifest(tmp_path, head + rows + "2.wav,0,9,a\n"))
    kept, bad = check_audio(data)
    assert len(kept.clips) == 100
    assert bad == [f"There is no sound file {(tmp_path / '2.wav').resolve()}."]


HEAD = "path,label,speaker,split\n"
FOUR = "1.wav,a,s1,train\n2.wav,a,s1,train\n3.wav,b,s2,valid\n4.wav,b,s3,test\n"
BAD = [
    ("path,label\n", "labels.csv has no clips"),
    ("path,label\n1.wav,a\n2.wav,a\n", "has the single label 'a'"),
    ("path,label\n1.wav,a\n2.wav,a\n3.wav,b\n", "The label 'b' of .* has a single clip"),
    (
        "path,label\n1.wav,a\n2.wav,a\n3.wav,b\n4.wav,c\n",
        "has a single clip, and so have other labels: .c.[.]",
    ),
    (HEAD + FOUR.replace("valid", ""), "1 of 4 rows .* have no split"),
    (HEAD + FOUR.replace("valid", "fold1"), "mixes folds with train"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_with_the_data_as_a_whole_is_said(
    text: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match=sentence) as error:
        read_data(write_manifest(tmp_path, text))
    assert error.value.status == 2
    assert "\n" not in str(error.value)


def test_data_that_is_no_data(tmp_path: Path) -> None:
    for path, sentence in (
        (tmp_path / "nothing", "There is no data at"),
        (tmp_path, "has no class folders with sound files"),
        (write_manifest(tmp_path / "x", "a", "data.json"), "neither a folder nor a manifest"),
    ):
        with pytest.raises(EdgepruneError, match=sentence):
            read_data(path)
    (tmp_path / "x" / "latin.csv").write_bytes("path,label\n1.wav,\xe9\n".encode("latin-1"))
    with pytest.raises(EdgepruneError, match="cannot be read"):
        read_data(tmp_path / "x" / "latin.csv")


def test_the_group_is_the_first_usual_column_that_keeps_to_the_splits(tmp_path: Path) -> None:
    assert read_data(write_manifest(tmp_path, HEAD + FOUR)).group_column == "speaker"
    crossing = HEAD + FOUR.replace("s3", "s2")
    assert read_data(write_manifest(tmp_path, crossing)).group_column == ""
    assert read_data(write_manifest(tmp_path, HEAD + FOUR), group="none").group_column == ""
    assert read_data(write_manifest(tmp_path, HEAD + FOUR.replace("s3", ""))).group_column == ""


def test_columns_that_cross_the_splits_are_named(tmp_path: Path) -> None:
    assert read_data(write_manifest(tmp_path, HEAD + FOUR)).crossing == ()
    crossing = HEAD + FOUR.replace("s3", "s2")
    assert read_data(write_manifest(tmp_path, crossing)).crossing == ("speaker",)
    assert read_data(write_manifest(tmp_path, crossing), "speaker").crossing == ()  # it is the task


def test_a_group_that_was_asked_for_must_be_filled_and_keep_to_the_splits(tmp_path: Path) -> None:
    for text, sentence in (
        (FOUR.replace("s3", "s2"), "The speaker 's2' of .* is in two splits: test and valid"),
        (FOUR.replace("s3", ""), "1 of 4 rows of .* have no speaker"),
    ):
        with pytest.raises(EdgepruneError, match=sentence):
            read_data(write_manifest(tmp_path, HEAD + text), group="speaker")
    with pytest.raises(EdgepruneError, match="has no group column 'site'"):
        read_data(write_manifest(tmp_path, HEAD + FOUR), group="site")


def test_the_digest_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(1, 5)]
    for place in ("here", "there"):
        write_sounds(tmp_path / place, names)
        write_manifest(tmp_path / place, HEAD + FOUR)
    here, there = (read_data(tmp_path / p / "labels.csv").digest() for p in ("here", "there"))
    assert here == there
    data = bytearray((tmp_path / "there" / "4.wav").read_bytes())
    data[-1] ^= 1
    (tmp_path / "there" / "4.wav").write_bytes(bytes(data))
    assert read_data(tmp_path / "there" / "labels.csv").digest() != here
    write_manifest(tmp_path / "here", HEAD + FOUR.replace("2.wav,a,s1", "2.wav,a,s9"))
    assert read_data(tmp_path / "here" / "labels.csv").digest() != here


def test_unreadable_clips_are_named_and_left_out_if_they_are_few(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(200)]
    write_sounds(tmp_path, names)
    rows = "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names))
    data = read_data(write_manifest(tmp_path, "path,label\n" + rows))
    (tmp_path / "7.wav").write_text("no sound")
    soundfile.write(tmp_path / "9.wav", np.zeros(0), 8000)
    kept, bad = check_audio(data)
    assert len(kept.clips) == 198
    assert len(bad) == 2
    assert any("7.wav cannot be read as audio" in line for line in bad)
    assert any("9.wav is empty" in line for line in bad)
    (tmp_path / "11.wav").unlink()
    with pytest.raises(
        EdgepruneError, match=r"3 of 200 clips .* \(allowed: at most 1 %\); the first: .*7\.wav"
    ):
        check_audio(data)


def test_segments_of_files_are_left_out_if_their_file_or_their_place_is_bad(
    tmp_path: Path,
) -> None:
    write_sounds(tmp_path, ["1.wav", "2.wav"])  # 800 samples each
    (tmp_path / "3.wav").write_text("no sound")
    good = "".join(f"{1 + i % 2}.wav,{i},{i + 9},{'ab'[i % 2]}\n" for i in range(400))
    outside = (
        "1.wav,800,810,a\n1.wav,790,810,a\n"  # the second begins inside: it ends with the file
    )
    head = "path,start_sample,end_sample,label\n"
    data = read_data(write_manifest(tmp_path, head + good + outside + "3.wav,0,9,a\n"))
    kept, bad = check_audio(data, whole_files=True)
    assert len(kept.clips) == 401
    assert len(bad) == 2
    assert "The part from 0.1 s to 0.10125 s is not in" in bad[0]
    assert "3.wav cannot be read as audio" in bad[1]


def test_a_segment_shorter_than_a_sample_is_left_out(tmp_path: Path) -> None:
    write_sounds(tmp_path, ["1.wav"])
    rows = "".join(f"1.wav,0.0{1 + i % 9},,{'ab'[i % 2]}\n" for i in range(100))
    data = read_data(
        write_manifest(tmp_path, "path,start,end,label\n" + rows + "1.wav,0,0.00001,a\n")
    )
    for whole in (False, True):
        kept, bad = check_audio(data, whole_files=whole)
        assert (len(kept.clips), len(bad)) == (100, 1)
