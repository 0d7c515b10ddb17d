"""Labelled clips from class folders and manifests, and each way in which they can be wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE

from edgeprune_calibration.manifest import check_audio, read_data
from edgeprune_device.errors import BAD_INPUT, EdgepruneError

GOOD = "path,label\na.wav,x\nb.wav,x\nc.wav,y\nd.wav,y\n"


def written(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


def table(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


def with_sound(folder: Path, count: int = 4) -> Path:
    """Write two labels of ``count`` quiet clips each, and their manifest."""
    (folder / "audio").mkdir(parents=True)
    rows = [f"audio/{i}.wav,{'xy'[i % 2]}" for i in range(2 * count)]
    for i in range(2 * count):
        soundfile.write(folder / f"audio/{i}.wav", np.full(100, 0.001 * (i + 1)), RATE)
    return written(folder, table("path,label", *rows))


def test_class_folders_give_their_names_as_labels(tmp_path: Path) -> None:
    for name in ("wren/1.wav", "wren/deep/2.FLAC", "owl/1.mp3", "owl/2.ogg",
                 "owl/notes.txt", "owl/.hidden.wav", ".cache/1.wav", "loose.wav"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    data = read_data(tmp_path)
    assert data.labels == ("owl", "wren")
    found = {(clip.path.relative_to(tmp_path.resolve()).as_posix(), clip.label)
             for clip in data.clips}  # fmt: skip
    assert found == {("owl/1.mp3", "owl"), ("owl/2.ogg", "owl"),
                     ("wren/1.wav", "wren"), ("wren/deep/2.FLAC", "wren")}  # fmt: skip
    assert data.group_column == ""
    assert all(clip.group is clip.split is None for clip in data.clips)


def test_a_manifest_gives_parts_splits_and_other_columns(tmp_path: Path) -> None:
    source = written(tmp_path, table(
        "path,label,speaker,split,start,end,note",
        'a.wav, x ,anna,training,0.5,1.25,"one, two"',
        "sub/a.wav,x,anna,TRAIN,,,",
        "../b.wav,y,bert,dev,1e-1,,",
        "/far/c.wav,y,cleo,Testing,,2,",
    ))  # fmt: skip
    first, second, third, fourth = read_data(source).clips
    here = tmp_path.resolve()
    assert [first.path, second.path, third.path, fourth.path] == [
        here / "a.wav", here / "sub/a.wav", here.parent / "b.wav", Path("/far/c.wav"),
    ]  # fmt: skip
    assert (first.label, first.group, first.columns["note"]) == ("x", "anna", "one, two")
    assert [c.split for c in (first, second, third, fourth)] == ["train", "train", "valid", "test"]
    assert (first.start_seconds, first.end_seconds) == (0.5, 1.25)
    assert (third.start_seconds, third.end_seconds) == (0.1, None)
    assert (fourth.start_seconds, fourth.end_seconds) == (None, 2.0)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("labels.csv", lambda text: "\ufeff" + text),
        ("LABELS.TSV", lambda text: text.replace(",", "\t")),
        ("labels.csv", lambda text: text.replace("\n", "\r\n")),
        ("labels.csv", lambda text: text.replace("\n", "\n\n")),
        ("labels.csv", lambda text: "," + "\n7,".join(text.splitlines()) + "\n"),
    ],
    ids=["bom", "tsv", "windows line ends", "blank lines", "nameless index column of pandas"],
)  # fmt: skip
def test_a_manifest_is_read_as_spreadsheets_write_it(tmp_path: Path, name: str, change) -> None:  # type: ignore[no-untyped-def]
    data = read_data(written(tmp_path, change(GOOD), name))
    assert [(c.path.name, c.label) for c in data.clips] == [
        ("a.wav", "x"), ("b.wav", "x"), ("c.wav", "y"), ("d.wav", "y"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written_as", "read_as"),
    [("train", "train"), ("Training", "train"), ("valid", "valid"), ("validation", "valid"),
     ("VAL", "valid"), ("dev", "valid"), ("test", "test"), ("testing", "test"),
     ("fold1", "fold1"), ("Fold12", "fold12")],
)  # fmt: skip
def test_a_split_has_its_usual_names(tmp_path: Path, written_as: str, read_as: str) -> None:
    rows = [f"{i}.wav,{'xy'[i % 2]},{written_as}" for i in range(4)]
    data = read_data(written(tmp_path, table("path,label,split", *rows)))
    assert {clip.split for clip in data.clips} == {read_as}


def test_any_column_can_be_the_labelling(tmp_path: Path) -> None:
    rows = ["a.wav,x,wren", "b.wav,x,owl", "c.wav,y,owl", "d.wav,z,wren"]
    data = read_data(written(tmp_path, table("path,label,species", *rows)), label="species")
    assert data.labels == ("owl", "wren")
    assert data.label_column == "species"
    assert [clip.columns["label"] for clip in data.clips] == ["x", "x", "y", "z"]


ROWS = ("a.wav,x", "b.wav,x", "c.wav,y", "d.wav,y")
BAD_MANIFESTS = [
    ("no path", "file,label\na.wav,x\n", {}, ["no column 'path'"]),
    ("no label", "path,species\na.wav,x\n", {}, ["no column 'label'"]),
    ("no chosen label", GOOD, {"label": "species"}, ["no column 'species'"]),
    ("empty", "", {}, ["no column 'path'"]),
    ("no row", "path,label\n", {}, ["names no clip"]),
    ("row without label", GOOD + "e.wav, \n", {}, ["Line 6", "no label"]),
    ("row without path", GOOD + ",x\n", {}, ["Line 6", "no path"]),
    ("single clip", GOOD + "e.wav,z\n", {}, ["'z'", "single clip"]),
    ("two single clips", GOOD + "e.wav,z\nf.wav,w\n", {}, ["'w'", "1 others"]),
    ("one label", "path,label\na.wav,x\nb.wav,x\n", {}, ["single label 'x'", "'label'"]),
    ("group in two splits", table("path,label,site,split", *(f"{row},{rest}" for row, rest in zip(
        ROWS, ("pond,train", "pond,test", "hill,train", "wood,test"), strict=True))),
     {"group": "site"}, ["site 'pond'", "test and train"]),
    ("unknown group", GOOD, {"group": "site"}, ["no column 'site'"]),
    ("empty group", table("path,label,site", *(f"{row},{s}" for row, s in zip(
        ROWS, ("pond", "", "", "hill"), strict=True))), {"group": "site"}, ["2 of 4", "no site"]),
    ("some splits", table("path,label,split", *(f"{row},{s}" for row, s in zip(
        ROWS, ("train", "", "train", "test"), strict=True))), {}, ["1 of 4", "no split"]),
    ("folds and splits", table("path,label,split", *(f"{row},{s}" for row, s in zip(
        ROWS, ("fold1", "fold2", "train", "test"), strict=True))), {}, ["mixes folds"]),
    *((f"split {name}", f"path,label,split\na.wav,x,{name}\n", {}, ["Line 2", f"split {name!r}"])
      for name in ("holdout", "fold", "foldA", "3")),
    *((f"{column} {value}", f"path,label,{column}\na.wav,x,{value}\n", {},
       ["Line 2", f"{column} {value!r}"])
      for column in ("start", "end") for value in ("soon", "-1", "nan", "inf", "0:30")),
    ("ends first", "path,label,start,end\na.wav,x,2,1\n", {}, ["Line 2", "ends (1 s) before"]),
    ("too few cells", GOOD + "e.wav\n", {}, ["Line 6", "number of columns"]),
    ("too many cells", GOOD + "e.wav,x,y\n", {}, ["Line 6", "number of columns"]),
    ("open quote", GOOD + '"e.wav,x\n', {}, ["cannot be read"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "options", "words"), [case[1:] for case in BAD_MANIFESTS],
    ids=[case[0] for case in BAD_MANIFESTS],
)  # fmt: skip
def test_a_wrong_manifest_is_refused_with_file_line_and_value(
    tmp_path: Path, text: str, options: dict[str, str], words: list[str]
) -> None:
    source = written(tmp_path, text)
    with pytest.raises(EdgepruneError) as error:
        read_data(source, **options)
    assert error.value.status == BAD_INPUT
    for word in (str(source), *words):
        assert word in str(error.value)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.wav").touch()
    (tmp_path / "latin.csv").write_bytes("path,label\na.wav,Möwe\n".encode("latin-1"))
    cases = {
        tmp_path / "gone": "There is no data at",
        written(tmp_path, GOOD, "labels.xlsx"): "neither a folder nor a manifest",
        tmp_path / "flat": "holds no class folders",
        tmp_path / "latin.csv": "cannot be read",
    }
    for source, words in cases.items():
        with pytest.raises(EdgepruneError, match=words) as error:
            read_data(source)
        assert str(source) in str(error.value)
    with pytest.raises(EdgepruneError, match="it has no column 'species'"):
        read_data(tmp_path / "flat", label="species")


GROUPED = [  # header after path,label; one row's cells each; options; the column chosen
    ("speaker", ("a", "b", "c", "d"), {}, "speaker"),
    ("site,speaker", ("p,a", "p,b", "q,c", "q,d"), {}, "speaker"),
    ("speaker,site", (",p", "b,p", "c,q", "d,q"), {}, "site"),
    ("speaker,split", ("a,train", "a,test", "b,train", "c,test"), {}, ""),
    ("speaker,site,split", ("a,p,train", "a,q,test", "b,p,train", "c,q,test"), {}, "site"),
    ("speaker,site", ("a,p", "b,p", "a,q", "b,q"), {"label": "speaker"}, "site"),
    ("speaker", ("a", "b", "c", "d"), {"group": "none"}, ""),
    ("speaker,night", ("a,1", "b,1", "c,2", "d,2"), {"group": "night"}, "night"),
    ("colour", ("red", "red", "blue", "blue"), {}, ""),
]


@pytest.mark.parametrize(("header", "cells", "options", "chosen"), GROUPED)
def test_the_group_is_the_first_usual_column_that_can_be_one(
    tmp_path: Path, header: str, cells: tuple[str, ...], options: dict[str, str], chosen: str
) -> None:
    rows = [f"{row},{cell}" for row, cell in zip(ROWS, cells, strict=True)]
    data = read_data(written(tmp_path, table(f"path,label,{header}", *rows)), **options)
    assert data.group_column == chosen
    at = header.split(",").index(chosen) if chosen else None
    expected = [cell.split(",")[at] if at is not None else None for cell in cells]
    assert [clip.group for clip in data.clips] == expected


def test_the_digest_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "here")
    digest = read_data(source).digest
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = tmp_path / "there" / "labels.csv"
    assert read_data(moved).digest == digest
    wave = tmp_path / "there" / "audio" / "0.wav"
    data = bytearray(wave.read_bytes())
    data[-1] ^= 1
    wave.write_bytes(data)
    assert read_data(moved).digest != digest
    source.write_text(source.read_text().replace("audio/0.wav,x", "audio/0.wav,y"))
    assert read_data(source).digest != digest


def spoil(clip: Path, how: str) -> None:
    if how == "unreadable":
        clip.write_bytes(b"this is not sound")
    elif how == "gone":
        clip.unlink()
    else:
        samples = {"empty": np.zeros(0), "nan": np.array([0.0, np.nan, 0.0])}[how]
        soundfile.write(clip, samples, RATE, subtype="FLOAT")


@pytest.mark.parametrize("how", ["unreadable", "gone", "empty", "nan"])
def test_one_bad_clip_of_a_hundred_is_left_out_and_named(tmp_path: Path, how: str) -> None:
    data = read_data(with_sound(tmp_path / "d", 50))
    clip = tmp_path / "d" / "audio" / "7.wav"
    spoil(clip, how)
    good, bad = check_audio(data)
    assert [c.path.name for c in data.clips if c not in good.clips] == ["7.wav"]
    assert len(bad) == 1
    assert str(clip) in bad[0]
    spoil(tmp_path / "d" / "audio" / "8.wav", how)
    with pytest.raises(
        EdgepruneError, match=r"2 of 100 clips .* more than 1 %; the first: .*7\.wav"
    ):
        check_audio(data)


def test_leaving_a_clip_out_may_not_leave_a_label_with_one(tmp_path: Path) -> None:
    data = read_data(with_sound(tmp_path / "d", 2))
    spoil(tmp_path / "d" / "audio" / "0.wav", "empty")
    with pytest.raises(EdgepruneError, match=r"'x' .* single clip"):
        check_audio(data, most_bad=0.5)
