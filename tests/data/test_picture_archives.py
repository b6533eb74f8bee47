"""Pictures in archives and tables, and how they are read: sizes, colours, parts, bad files."""

import io
import lzma
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn import data
from fastcnn.data import picture_sets
from fastcnn.errors import ConfigurationError, DataError

GENERATOR = np.random.default_rng(0)


def png(size: tuple[int, int] = (6, 5), colour: bool = True) -> bytes:
    shape = (*size, 3) if colour else size
    buffer = io.BytesIO()
    Image.fromarray(GENERATOR.integers(0, 256, shape).astype(np.uint8)).save(buffer, "png")
    return buffer.getvalue()


FILES = {f"{c}/{i}.png": png() for c in ("cat", "dog") for i in range(12)}
PARTS = {
    f"{part}/{c}/{i}.png": png()
    for part, count in (("train", 5), ("val", 2), ("test", 3))
    for c in ("cat", "dog")
    for i in range(count)
}


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def same(one: data.Dataset, other: data.Dataset) -> None:
    assert one.files == other.files
    assert one.classes == other.classes
    assert (one.images == other.images).all()
    assert (one.labels == other.labels).all()
    assert one.preprocessing == other.preprocessing


@pytest.mark.parametrize("around", ["", "pets/", "a/b/"])
@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_an_archive_is_read_as_its_folder(kind: str, around: str, tmp_path: Path) -> None:
    files = {around + name: content for name, content in {**FILES, "README.txt": b"x"}.items()}
    if kind == "a.zip":
        path = zipped(tmp_path / kind, files)
    else:
        form = {"tar": "", "tgz": "gz", "gz": "gz", "bz2": "bz2", "xz": "xz"}[kind.split(".")[-1]]
        path = tarred(tmp_path / kind, files, f"w:{form}")
    for one, other in zip(
        data.load(path), data.read_folder(folder(tmp_path / "pets", FILES)), strict=True
    ):
        same(one, other)
    assert data.load(path)[0].name == "a"
    assert sorted(os.listdir(tmp_path)) == [kind, "pets"]


def test_parts_of_a_folder(tmp_path: Path) -> None:
    train, test = data.load(folder(tmp_path / "pets", PARTS))
    assert train.validation is not None
    assert [len(part) for part in (train, train.validation, test)] == [10, 4, 6]
    assert all(name.startswith("val/") for name in train.validation.files)
    assert train.validation.preprocessing == train.preprocessing
    without = {name: content for name, content in PARTS.items() if not name.startswith("test/")}
    train, test = data.load(folder(tmp_path / "two", without))
    assert train.validation is None
    assert len(test) == 4
    train, test = data.load(zipped(tmp_path / "a.zip", PARTS))
    assert train.validation is not None
    assert len(train.validation) == 4


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_matter(threads: int, tmp_path: Path, monkeypatch: Any) -> None:
    path = folder(tmp_path / "pets", FILES)
    expected = data.load(path)
    monkeypatch.setattr(picture_sets, "available_cores", lambda: threads)
    monkeypatch.setattr(picture_sets, "BLOCK", 3)
    for one, other in zip(data.load(path), expected, strict=True):
        same(one, other)
    (path / "dog" / "3.png").write_bytes(b"x")
    (path / "cat" / "4.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"4\.png: not a picture"):
        data.load(path)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (3, 6, 5)),
        ({"image_size": 8}, (3, 8, 8)),
        ({"image_size": (4, 9)}, (3, 4, 9)),
        ({"image_size": "4x9"}, (3, 4, 9)),
        ({"gray": True}, (1, 6, 5)),
        ({"gray": False, "image_size": "7"}, (3, 7, 7)),
    ],
)
def test_size_and_colour(options: Any, shape: Any, tmp_path: Path) -> None:
    mixed = {**FILES, "dog/99.png": png((11, 17), colour=False)}
    for path in (folder(tmp_path / "pets", mixed), zipped(tmp_path / "a.zip", mixed)):
        train, test = data.load(path, **options)
        assert train.input_shape == test.input_shape == shape
        assert train.preprocessing.pictures is not None
        assert train.preprocessing.pictures.shape == shape
        again, _ = data.load(path, pictures=train.preprocessing.pictures)
        assert (again.images == train.images).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be a number of pixels"),
        ({"image_size": "big"}, "image_size must be a number of pixels"),
        ({"image_size": (1, 2, 3)}, "image_size must be a number of pixels"),
        ({"image_size": 8.0}, "image_size must be a number of pixels"),
        ({"gray": 1}, "gray must be True or False"),
        ({"gray": True, "pictures": data.Pictures((1, 4, 4))}, "gray has no effect with pictures"),
    ],
)
def test_options_that_make_no_sense(options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        data.load(folder(tmp_path / "pets", FILES), **options)


def test_options_of_pictures_are_for_pictures(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="image_size and gray are for picture files, not for mnist"
    ):
        data.load("mnist", image_size=8)
    train, test = data.digits_dataset(20, 10, classes=(0, 1))
    data.write_npz(tmp_path / "a.npz", train, test)
    with pytest.raises(ConfigurationError, match="image_size and gray are for picture files, not"):
        data.load(tmp_path / "a.npz", gray=True)


# -- archives that are not honest -------------------------------------------------------------


def test_names_lead_nowhere(tmp_path: Path) -> None:
    """Whatever a member's name, nothing is written and nothing outside is read."""
    evil = {
        "../../escape/a.png": png(), "/abs/a.png": png(), "C:/x/a.png": png(),
        "a/../b/c.png": png(), "..\\w\\a.png": png(),
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    for path in (
        zipped(tmp_path / "in" / "a.zip", FILES | evil),
        tarred(tmp_path / "in" / "a.tar", FILES | evil),
    ):
        train, test = data.load(path)
        assert set(train.files) | set(test.files) == set(FILES)
    assert sorted(os.listdir(tmp_path)) == ["in"]
    assert sorted(os.listdir(tmp_path / "in")) == ["a.tar", "a.zip"]


def test_links_and_devices_are_passed_over(tmp_path: Path, caplog: Any) -> None:
    path = tarred(tmp_path / "a.tar", FILES)
    with tarfile.open(path, "a") as archive:
        for name, kind in (
            ("cat/l.png", tarfile.SYMTYPE), ("cat/h.png", tarfile.LNKTYPE),
            ("dog/f.png", tarfile.FIFOTYPE), ("dog/d.png", tarfile.CHRTYPE),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    train, test = data.load(path)
    assert set(train.files) | set(test.files) == set(FILES)
    assert "2 linked, 2 neither file nor folder" in caplog.text


def test_bombs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("fastcnn.data.reading.FREE_BYTES", 2**16)
    bomb = FILES | {"dog/big.png": bytes(2**25)}
    with pytest.raises(DataError, match="suspiciously many"):
        data.load(zipped(tmp_path / "a.zip", bomb))
    with pytest.raises(DataError, match=r"unpacks to more than .* suspiciously many"):
        data.load(tarred(tmp_path / "a.tar.xz", bomb, "w:xz"))
    with pytest.raises(DataError, match="suspiciously many"):
        data.load(tarred(tmp_path / "a.tar.gz", bomb, "w:gz"))
    # A header that claims more data than there are.
    path = tarred(tmp_path / "b.tar", FILES)
    content = path.read_bytes()
    start = content.index(b"dog/0.png")
    member = bytearray(content[start : start + 512])
    member[124:136] = b"77777777777\0"
    member[148:156] = b" " * 8
    member[148:156] = f"{sum(member):06o}\0 ".encode()
    path.write_bytes(content[:start] + bytes(member) + content[start + 512 :])
    with pytest.raises(DataError):
        data.load(path)


def test_damaged_archives_are_refused_by_name(tmp_path: Path) -> None:
    """Truncated anywhere, or with any byte changed: a fastcnn error, or the same pictures."""
    wholes = [
        zipped(tmp_path / "a.zip", FILES),
        tarred(tmp_path / "a.tar", FILES),
        tarred(tmp_path / "a.tar.gz", FILES, "w:gz"),
        tarred(tmp_path / "a.tar.xz", FILES, "w:xz"),
    ]
    rng = np.random.default_rng(1)
    messages = []
    for path in wholes:
        content = path.read_bytes()
        for number in range(40):
            place = int(rng.integers(len(content)))
            if number % 2:
                changed = content[:place]
            else:
                changed = content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]
            path.write_bytes(changed)
            try:
                data.load(path)
            except DataError as error:
                messages.append(str(error))
    assert len(messages) > 80
    assert all(str(tmp_path) in message for message in messages)


def test_encrypted_members_are_passed_over(tmp_path: Path, caplog: Any) -> None:
    path = zipped(tmp_path / "a.zip", FILES)
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")  # the directory's first entry, that of cat/0.png
    content[place + 8 : place + 10] = struct.pack("<H", 1)
    path.write_bytes(content)
    train, test = data.load(path)
    assert set(train.files) | set(test.files) == set(FILES) - {"cat/0.png"}
    assert "1 encrypted" in caplog.text


def test_other_compressed_files_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "a.xz").write_bytes(lzma.compress(b"hello"))
    with pytest.raises(DataError, match="not a zip archive"):
        data.load(tmp_path / "a.xz")
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(b"hello"))
    with pytest.raises(DataError, match="cannot be read as a tar archive"):
        data.load(tmp_path / "a.tar.xz")
    tarfile.open(tmp_path / "empty.tar", "w").close()
    with pytest.raises(DataError, match="not a zip archive"):
        data.load(tmp_path / "empty.tar")


# -- tables -----------------------------------------------------------------------------------


def table(path: Path, rows: list[str]) -> Path:
    folder(path.parent / "pictures", FILES)
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_csv_file_of_paths(tmp_path: Path) -> None:
    rows = [f'"pictures/{name}",{name[:3]}' for name in FILES]
    train, test = data.load(table(tmp_path / "a.csv", ["File,label", *rows]), image_size=4)
    assert train.classes == ("cat", "dog")
    assert set(train.files) | set(test.files) == {f"pictures/{name}" for name in FILES}
    assert train.input_shape == (3, 4, 4)
    assert all(
        train.classes[label] in name for name, label in zip(train.files, train.labels, strict=True)
    )
    parts = ["train", "val", "test", "train"] * 6
    rows = [f"pictures/{name},{i % 2},{parts[i]}" for i, name in enumerate(FILES)]
    train, test = data.load(table(tmp_path / "b.csv", ["path,label,split", *rows]))
    assert train.validation is not None
    assert [len(part) for part in (train, train.validation, test)] == [12, 6, 6]
    assert train.classes == ("0", "1")
    rows = ["path;label;split", *(row.replace(",", ";") for row in rows)]
    semicolons = table(tmp_path / "c.csv", rows)
    data.chosen_pictures(semicolons)
    again, _ = data.load(semicolons)
    assert (again.images == train.images).all()
    assert again.files == train.files


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["path,label"], "has no rows"),
        (["path,kind", "a.png,cat"], "needs a column label"),
        (["path,label", "a.png"], "row 2 has 1 value, the first 2"),
        (["path,label", "missing.png,a", "other.png,b"], "no such file"),
        (["path,label,split", "a.png,a,train", "b.png,b,later"], "parts must be train, val or"),
        (["path,label,split", "a.png,a,train", "b.png,b,train"], "needs rows of train, and of"),
        (["path,label", "a.png,cat", "b.png,cat"], "needs at least two classes, has cat"),
        (["path,label", "a.png,cat"], r"a\.csv: needs at least two samples"),
        (["path,label,split", "a.png,a,train", "b.png,b,test"], "has classes that .* lacks: b"),
    ],
)  # fmt: skip
def test_tables_that_are_not_so(rows: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        data.load(table(tmp_path / "a.csv", rows))


def test_parquet_files(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    def write(name: str, columns: dict[str, Any], metadata: dict[str, str] | None = None) -> Path:
        made = arrow.table(columns)
        parquet.write_table(made.replace_schema_metadata(metadata), tmp_path / name)
        return tmp_path / name

    folder(tmp_path, FILES)
    labels = [name[:3] for name in FILES]
    contents = list(FILES.values())
    expected, _ = data.load(write("p.parquet", {"path": list(FILES), "label": labels}))
    assert expected.classes == ("cat", "dog")
    assert expected.input_shape == (3, 6, 5)
    train, test = data.load(write("b.parquet", {"image": contents, "label": labels}), image_size=4)
    assert len(train) + len(test) == 24
    assert train.input_shape == (3, 4, 4)
    images = [{"bytes": one, "path": name} for name, one in FILES.items()]
    kept = '{"info": {"features": {"label": {"names": ["feline", "canine"]}}}}'
    numbers = [int(label == "dog") for label in labels]
    path = write("h.parquet", {"image": images, "label": numbers}, {"huggingface": kept})
    assert data.load(path)[0].classes == ("canine", "feline")
    same = kept.replace("feline", "canine")
    path = write("t.parquet", {"image": images, "label": numbers}, {"huggingface": same})
    assert data.load(path)[0].classes == ("0", "1")
    path = write("s.parquet", {"image": images, "label": [-1, *numbers[1:]]}, {"huggingface": kept})
    with pytest.raises(DataError, match="label: some rows have none"):
        data.load(path)
    path = write("o.parquet", {"image": images, "label": [[0, 1]] * 24})
    with pytest.raises(DataError, match=r"label: must be text or whole numbers, got \[0, 1\]"):
        data.load(path)
    pixels = GENERATOR.integers(0, 256, (24, 9))
    columns = {f"pixel{index}": pixels[:, index] for index in range(9)}
    train, test = data.load(write("x.parquet", {"label": numbers, **columns}))
    assert train.input_shape == (1, 3, 3)
    rows = np.concatenate([train.images, test.images]).reshape(24, 9)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, pixels))
    listed, _ = data.load(write("l.parquet", {"label": numbers, "image": pixels.tolist()}))
    assert (listed.images == train.images).all()
    for columns, message in (
        ({"image": contents}, "needs a column label"),
        ({"image": contents, "label": [None] * 24}, "some rows have none"),
        ({"image": [None, *contents[1:]], "label": labels}, "row 0 has no picture"),
        ({"image": [[1], [1, 2]], "label": [0, 1]}, "pixels must be numbers"),
    ):
        with pytest.raises(DataError, match=message):
            data.load(write("e.parquet", columns))
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place])
        with pytest.raises(DataError):
            data.load(path)
