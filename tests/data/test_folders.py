"""Folders of pictures: which files are used, which are skipped, and which are test data."""

import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcnn import data
from fastcnn.data import folders
from fastcnn.data.split import held_out
from fastcnn.errors import DataError

GENERATOR = np.random.default_rng(0)


def put(path: Path, size: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(GENERATOR.integers(0, 256, (size, size)).astype(np.uint8)).save(path, "png")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        for index in range(20):
            put(tmp_path / "pets" / name / f"{index}.png")
    return tmp_path / "pets"


def names(folder: Path) -> tuple[set[str], set[str]]:
    train, test = data.read_folder(folder)
    return set(train.files), set(test.files)


def test_one_more_picture_moves_no_other(pets: Path) -> None:
    train, test = names(pets)
    assert train | test == {f"{c}/{i}.png" for c in ("cat", "dog") for i in range(20)}
    assert train.isdisjoint(test)
    for index in range(100, 140):
        put(pets / "cat" / f"{index}.png")
    more_train, more_test = names(pets)
    assert train < more_train
    assert test < more_test
    assert 0.05 < len(more_test) / 80 < 0.3
    for index in range(5):
        (pets / "dog" / f"{index}.png").unlink()
    less_train, less_test = names(pets)
    assert less_train <= more_train
    assert less_test <= more_test


def test_the_current_folder_has_its_name(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pets)
    assert [part.name for part in data.load(".")] == [pets.name] * 2


def test_the_part_depends_on_the_name_alone() -> None:
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.png"
    many = [f"{index}.png" for index in range(2000)]
    held = held_out(many)
    assert 0.12 < held.mean() < 0.18
    assert (held_out(many[::-1])[::-1] == held).all()
    assert (held_out(many, seed=1) != held).any()
    assert (held_out([*many, composed]) == held_out([*many, decomposed])).all()
    upper = held_out([name.upper() for name in many])
    assert (upper != held).any()
    # The same on every machine and in every version.
    held = held_out([f"a/{index}.png" for index in range(30)])
    assert np.flatnonzero(held).tolist() == [9, 15, 26]


def test_neither_part_is_empty() -> None:
    for count in range(2, 12):
        held = held_out([str(index) for index in range(count)])
        assert 0 < held.sum() < count
    with pytest.raises(DataError, match="at least two"):
        held_out(["a"])


def test_hidden_files_and_those_of_tools_are_passed_over(
    pets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = names(pets)
    for folder in (
        ".ipynb_checkpoints", "__MACOSX", "@eaDir", "__pycache__", "lost+found", "$RECYCLE.BIN",
        "System Volume Information", "@Recycle", "~snapshot", "Network Trash Folder",
    ):  # fmt: skip
        put(pets / folder / "cat" / "x.png")
        put(pets / folder / "x.png")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._0.png", "notes.txt", "README"):
        (pets / "cat" / name).write_bytes(b"\0\5\x16\7")
    (pets / "labels.csv").write_text("a")
    put(pets / "cover.png")
    (pets / "empty").mkdir()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert names(pets) == before
    said = caplog.messages[0]
    for part in (
        "40 pictures used", "3 hidden", "11 of tools", "1 of another kind (.txt)",
        "1 of another kind (no suffix)", "2 outside the folders of classes",
        "1 with no picture inside",
    ):  # fmt: skip
        assert part in said


def test_suffixes_in_any_case_and_nested_pictures_are_used(pets: Path) -> None:
    put(pets / "cat" / "LOUD.PNG")
    put(pets / "cat" / "holidays" / "2024" / "x.png")
    train, test = data.read_folder(pets)
    assert len(train) + len(test) == 42
    assert {"cat/LOUD.PNG", "cat/holidays/2024/x.png"} <= {*train.files, *test.files}


def test_a_folder_given_with_its_parts(pets: Path) -> None:
    for place in ("train", "test"):
        for name in ("cat", "dog"):
            put(pets.parent / "split" / place / name / f"{place}.png")
    train, test = data.read_folder(pets.parent / "split")
    assert train.files == ("train/cat/train.png", "train/dog/train.png")
    assert test.files == ("test/cat/test.png", "test/dog/test.png")
    put(pets.parent / "split" / "test" / "bird" / "a.png")
    with pytest.raises(DataError, match="without training pictures: bird"):
        data.read_folder(pets.parent / "split")


@pytest.mark.parametrize("first", ["train", "Train", "training"])
@pytest.mark.parametrize("second", ["val", "Test", "validation"])
def test_other_names_of_the_parts(
    first: str, second: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in (first, second, "Extra"):
        for name in ("cat", "dog"):
            put(tmp_path / part / name / "a.png")
    rule, _ = data.chosen_pictures(tmp_path)
    train, test = data.load(tmp_path, pictures=rule)
    assert train.classes == ("cat", "dog")
    assert (len(train), len(test)) == (2, 2)
    assert caplog.text.count("folders not used: Extra") == 1


def test_parts_that_are_not_recognised_are_refused(tmp_path: Path) -> None:
    for part in ("fold1", "fold2"):
        for name in ("cat", "dog"):
            put(tmp_path / "folds" / part / name / "a.png")
    with pytest.raises(DataError, match=r"each of fold1, fold2 holds folders cat, dog"):
        data.read_folder(tmp_path / "folds")
    for name in ("cat", "dog"):
        put(tmp_path / "half" / "train" / name / "a.png")
    with pytest.raises(DataError, match="has train/ but no test/"):
        data.read_folder(tmp_path / "half")


def test_stray_pictures_make_no_classes_of_parts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("train", "test"):
        put(tmp_path / "split" / part / "stray.png")
        for name in ("cat", "dog"):
            put(tmp_path / "split" / part / name / "a.png")
    assert data.read_folder(tmp_path / "split")[0].classes == ("cat", "dog")
    assert "2 outside the folders of classes" in caplog.text
    for name in ("cat", "dog"):
        put(tmp_path / "one" / "train" / name / "a.png")
        put(tmp_path / "two" / name / "a.png")
        put(tmp_path / "two" / "validation" / name / "a.png")
    put(tmp_path / "one" / "test" / "a.png")
    with pytest.raises(DataError, match="test: no pictures in folders of cat, dog"):
        data.read_folder(tmp_path / "one")
    with pytest.raises(DataError, match="validation holds folders called like classes, cat, dog"):
        data.read_folder(tmp_path / "two")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "plane", "test"):
        for index in range(9):
            put(tmp_path / name / f"{index}.png")
    assert data.read_folder(tmp_path)[0].classes == ("plane", "test", "train")


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere know no such names")
def test_names_of_classes_in_any_script(tmp_path: Path) -> None:
    names = ("\u0645\u06cc\u200c\u062e", "\U0001f469\u200d\U0001f467", "\u732b\u3000")
    for name in names:
        for index in range(4):
            put(tmp_path / name / f"{index}.png")
    assert data.load(tmp_path)[0].classes == tuple(sorted(names))
    put(tmp_path / "\u200b\u732b" / "a.png")
    with pytest.raises(DataError, match="cannot be the name of a class"):
        data.load(tmp_path)


def test_classes_that_differ_by_case_or_form(pets: Path) -> None:
    put(pets / "Cat" / "a.png")
    with pytest.raises(DataError, match="classes Cat and cat differ only by case"):
        data.read_folder(pets)
    (pets / "Cat" / "a.png").rename(pets / "a.png")
    for name in ("caf\u00e9", "cafe\u0301"):
        put(pets / name / "a.png")
    with pytest.raises(DataError, match="two forms of Unicode"):
        data.read_folder(pets)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = names(pets)
    (pets / "cat" / "again").symlink_to(pets / "cat")
    (pets / "dog" / "up").symlink_to(pets.parent)
    (pets / "dog" / "gone.png").symlink_to(pets / "nowhere.png")
    os.mkfifo(pets / "dog" / "pipe.png")
    caplog.clear()
    assert names(pets) == before
    assert "2 linked to a folder read already" in caplog.messages[0]
    assert "1 with a broken link" in caplog.messages[0]
    assert "1 neither file nor folder" in caplog.messages[0]
    (pets / "cat" / "linked.png").symlink_to(pets / "dog" / "0.png")
    assert sum(map(len, names(pets))) == 41


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / "pets" / name / "a.png")
        for one, other in (("x", "y"), ("y", "x")):
            put(tmp_path / name / one / "b.png")
            (tmp_path / "pets" / name / one).symlink_to(tmp_path / name / one)
            for index in range(4):
                (tmp_path / name / one / f"{index}").symlink_to(tmp_path / name / other)
    train, test = data.read_folder(tmp_path / "pets")
    assert len(train) + len(test) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("link", ["horse", "cat/inner", "aaa"])
def test_pictures_of_two_classes_are_refused(pets: Path, link: str) -> None:
    (pets / link).symlink_to(pets / "dog")
    with pytest.raises(DataError, match=r"have the same pictures through links"):
        data.read_folder(pets)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_part_that_was_read_before_hides_nothing_else(pets: Path) -> None:
    """In any order of links, of one class or of two of which one has no pictures there."""
    before = sum(map(len, names(pets)))
    for index in range(3):
        put(pets.parent / "store" / "new" / f"{index}.png")
        put(pets.parent / "store" / "old" / f"{index}.png")
        put(pets.parent / "more" / f"{index}.png")
    (pets / "cat" / "a").symlink_to(pets.parent / "store" / "new")
    (pets / "cat" / "b").symlink_to(pets.parent / "store")
    (pets.parent / "more" / "notes").mkdir()
    (pets / "cat" / "notes").symlink_to(pets.parent / "more" / "notes")
    (pets / "horse").symlink_to(pets.parent / "more")
    assert sum(map(len, names(pets))) == before + 9


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_training_pictures_are_not_for_testing_by_a_link(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / "train" / name / "a.png")
        put(tmp_path / "notes" / "read me.txt")
        (tmp_path / "train" / name / "notes").symlink_to(tmp_path / "notes")
    (tmp_path / "test").symlink_to(tmp_path / "train")
    with pytest.raises(DataError, match=r"train/cat and test/cat have the same pictures"):
        data.read_folder(tmp_path)


def test_a_folder_that_ends_nowhere_is_refused_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "MOST_EMPTY", 6)
    for index in range(9):
        (tmp_path / "disk" / f"{index}" / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match="more than 6 folders without a picture"):
        folders.pictures_in(tmp_path / "disk", folders.Found())
    with pytest.raises(DataError, match="more than 6 folders without a picture"):
        data.read_folder(tmp_path / "disk")
    for index in range(9):
        put(tmp_path / "disk" / f"{index}" / "inner" / "a.png")
    assert len(folders.pictures_in(tmp_path / "disk", folders.Found())) == 9


def test_the_folder_within_is_meant(pets: Path) -> None:
    with pytest.raises(DataError, match=r"found pets; did you mean .*pets\?"):
        data.read_folder(pets.parent)


def test_folders_without_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at least two classes, found none$"):
        data.load(tmp_path)
    put(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.tiff.txt").write_text("x")
    with pytest.raises(DataError, match=r"found cat; .*1 of another kind"):
        data.load(tmp_path)


def test_a_part_without_a_class_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / "train" / name / "a.png")
    put(tmp_path / "test" / "cat" / "a.png")
    data.read_folder(tmp_path)
    assert "no test picture of dog" in caplog.text


def test_pictures_larger_than_the_memory_are_kept_in_a_file(
    pets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected, _ = data.read_folder(pets)
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("fastcnn.data.storage.machine_memory", lambda: 1000)
    train, _ = data.read_folder(pets)
    assert isinstance(train.images, np.memmap)
    assert (train.images == expected.images).all()
    assert "pictures of 6 x 6 pixels: 1,188 bytes are more than half" in caplog.text
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(9, 0, 9))
    with pytest.raises(DataError, match=r"more than half of the memory, and the disk of .* has 9"):
        data.read_folder(pets)


def test_files_follow_their_pictures(pets: Path) -> None:
    train, _ = data.read_folder(pets)
    dogs = train.select_classes(["dog"])
    assert len(dogs.files) == len(dogs)
    assert all(name.startswith("dog/") for name in dogs.files)
    assert train.subset([1, 0]).files == (train.files[1], train.files[0])
