"""CSV files of images."""

from pathlib import Path

import numpy as np
import pytest

from fastcnn import data
from fastcnn.errors import DataError

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (60, 16))
LABELS = np.arange(60) % 3
HEADER = "label," + ",".join(f"pixel{index}" for index in range(16))


def lines(pixels: np.ndarray = PIXELS, labels: object = LABELS) -> list[str]:
    rows = zip(np.asarray(labels).tolist(), pixels.tolist(), strict=True)
    return [HEADER, *(f"{label},{','.join(map(str, row))}" for label, row in rows)]


def write(path: Path, content: list[str]) -> Path:
    path.write_text("\n".join(content) + "\n")
    return path


def test_kaggles_digits(tmp_path: Path) -> None:
    train, test = data.load(write(tmp_path / "train.csv", lines()))
    assert train.input_shape == (1, 4, 4)
    assert train.images.dtype == np.uint8
    assert train.classes == ("0", "1", "2")
    assert 0 < len(test) < 20
    both = {
        (int(label), image.tobytes())
        for part in (train, test)
        for label, image in zip(part.labels, part.images, strict=True)
    }
    expected = zip(LABELS.tolist(), PIXELS.astype(np.uint8), strict=True)
    assert both == {(label, image.tobytes()) for label, image in expected}


def test_further_rows_move_no_other(tmp_path: Path) -> None:
    few = write(tmp_path / "few.csv", lines()[:31])
    many = write(tmp_path / "many.csv", [HEADER, *lines()[:0:-1]])
    parts = [{image.tobytes() for image in data.read_csv(path)[1].images} for path in (few, many)]
    assert parts[0] < parts[1]


def test_forms_of_values(tmp_path: Path) -> None:
    reference = data.read_csv(write(tmp_path / "a.csv", lines()))[0]
    content = lines()
    for changed in (
        [content[0].upper(), *content[1:]],
        [content[0], "", *content[1:], ""],
        [",".join(line.split(",")[1:] + line.split(",")[:1]) for line in content],
        [line.replace(",", ", ") for line in content],
    ):
        again = data.read_csv(write(tmp_path / "b.csv", changed))[0]
        assert (again.images == reference.images).all()
        assert (again.labels == reference.labels).all()
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(content).encode())
    assert (data.read_csv(tmp_path / "c.csv")[0].images == reference.images).all()


@pytest.mark.parametrize(
    ("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_other_separators(
    separator: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = data.read_csv(write(tmp_path / "a.csv", lines()))[0]
    assert not caplog.messages
    path = write(tmp_path / "b.tsv", [line.replace(",", separator) for line in lines()])
    again = data.load(path)[0]
    assert (again.images == reference.images).all()
    assert caplog.messages == [f"{path}: columns are separated by {name}"]
    fractions = [line.replace(",", separator).replace("5", "5,0") for line in lines()[1:]]
    with pytest.raises(DataError, match=r"pixels must be numbers, got '.*5,0"):
        data.read_csv(write(path, [HEADER.replace(",", separator), *fractions]))


def test_a_comma_within_quotes_separates_nothing(tmp_path: Path) -> None:
    rows = [f'{index % 2},"1,{index % 4},0,9"' for index in range(40)]
    with pytest.raises(DataError, match="line 2: pixels must be numbers, got '1,0,0,9'"):
        data.read_csv(write(tmp_path / "a.csv", ["label,pixel0", *rows]))


def test_text_labels_and_fractions(tmp_path: Path) -> None:
    words = np.array(["cat", "dog", "cow"])[LABELS]
    train, _ = data.read_csv(write(tmp_path / "a.csv", lines(PIXELS / 255, words)))
    assert train.classes == ("cat", "cow", "dog")
    assert train.images.dtype == np.float32
    assert train.images.max() <= 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "first line must name the columns"),
        (["a,b", "1,2"], "one of them label"),
        (lines()[1:], "first line must name the columns"),
        (["label,label,a", "1,2,3"], "one of them label"),
        (["label,a,b,c", "1,2,3,4"], "3 columns of pixels are not those of a square image"),
        (["label", "1"], "0 columns of pixels"),
        ([HEADER], "has no rows"),
        ([*lines(), "1,2"], "line 62 has 2 values, the first 17"),
        ([*lines(), lines()[1].replace(",", ",x", 1)], "pixels must be numbers"),
        ([*lines(), "1" + ",256" * 16], "must lie in 0..255"),
        ([*lines(), "1" + ",nan" * 16], "must lie in 0..255"),
        ([*lines(), "999999" + ",1" * 16], "would make 1,000,000 classes"),
        (lines()[:2], "at least two samples"),
    ],
)
def test_bad_tables(content: list[str], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(DataError, match=message):
        data.read_csv(path)


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"label,\xff\xfe\n")
    with pytest.raises(DataError, match="not text in UTF-8"):
        data.read_csv(tmp_path / "a.csv")


def test_every_value_in_quotes(tmp_path: Path) -> None:
    quoted = [",".join(f'"{value}"' for value in line.split(",")) for line in lines()]
    reference = data.read_csv(write(tmp_path / "a.csv", lines()))[0]
    again = data.read_csv(write(tmp_path / "b.csv", quoted))[0]
    assert (again.images == reference.images).all()
    assert again.classes == reference.classes


def test_a_first_line_in_quotes(tmp_path: Path) -> None:
    """As in csv: quoted commas do not separate, and spaces before quotes are ignored."""
    with pytest.raises(DataError, match="must name the columns, one of them label"):
        data.load(write(tmp_path / "a.csv", ['"x,path,y",class', "a,1"]))
    rows = [f"{index % 2},{index}.png" for index in range(20)]
    with pytest.raises(DataError, match=r"\.png: no such file"):
        data.load(write(tmp_path / "b.csv", ['label, "path"', *rows]))


@pytest.mark.parametrize("form", ["pixel{0}", "{0}", "{1}x{2}"])
def test_sorted_columns_are_put_in_order(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Programs that sort columns put pixel10 before pixel2."""
    names = [form.format(i, i // 4 + 8, i % 4 + 8) for i in range(16)]
    order = sorted(range(16), key=names.__getitem__)
    header = ",".join(["label", *(names[i] for i in order)])
    reference = data.read_csv(write(tmp_path / "a.csv", lines()))[0]
    again = data.read_csv(write(tmp_path / "b.csv", [header, *lines(PIXELS[:, order])[1:]]))[0]
    assert {x.tobytes() for x in again.images} <= {x.astype(np.uint8).tobytes() for x in PIXELS}
    assert again.input_shape == reference.input_shape
    assert "sorted by their numbers" in caplog.text


def test_two_numbers_in_another_order_are_left_as_they_are(tmp_path: Path) -> None:
    """x3y0 may be the fourth column of the first row."""
    names = [f"x{i % 4}y{i // 4}" for i in range(16)]
    header = ",".join(["label", *names])
    reference = data.read_csv(write(tmp_path / "a.csv", lines()))[0]
    again = data.read_csv(write(tmp_path / "b.csv", [header, *lines()[1:]]))[0]
    assert (again.images == reference.images).all()


def test_quotes_after_spaces(tmp_path: Path) -> None:
    words = np.array(["cat", "dog", "cow"])[LABELS]
    plain = lines(labels=words)
    quoted = plain[:1]
    for line in plain[1:]:
        label, rest = line.split(",", 1)
        quoted.append(f' "{label}", {rest}')
    train, _ = data.read_csv(write(tmp_path / "a.csv", quoted))
    assert train.classes == ("cat", "cow", "dog")
    long = '"' + "1" * 140_000
    with pytest.raises(DataError, match="line 62: field larger than"):
        data.read_csv(write(tmp_path / "b.csv", [*plain, long]))


def test_columns_that_are_no_pixels(tmp_path: Path) -> None:
    """With an index column, 3 by 3 pixels minus one look like a square."""
    for odd, pixels in (("id", 15), ("", 15), ("", 16)):
        header = ",".join(["label", odd, *(f"pixel{i}" for i in range(pixels))])
        with pytest.raises(DataError, match=f"column '{odd}' is not called like"):
            data.read_csv(write(tmp_path / "a.csv", [header, *lines()[1:]]))
    header = ",".join(["label", *(f"pixel{i // 2}" for i in range(16))])
    with pytest.raises(DataError, match="two columns of pixels have the same number"):
        data.read_csv(write(tmp_path / "a.csv", [header, *lines()[1:]]))


@pytest.mark.parametrize("missing", ["", "nan", "None"])
def test_rows_without_a_label(missing: str, tmp_path: Path) -> None:
    """They are not a separate class."""
    labels = [missing if index == 7 else str(index % 3) for index in range(60)]
    with pytest.raises(DataError, match="row 8 of 60 has no label"):
        data.read_csv(write(tmp_path / "a.csv", lines(labels=labels)))
    mixed = [missing if index == 31 else ["none", "cat"][index % 2] for index in range(60)]
    table = write(tmp_path / "d.csv", lines(labels=mixed))
    if missing == "None":
        assert data.read_csv(table)[0].classes == ("None", "cat", "none")
    else:
        with pytest.raises(DataError, match="row 32 of 60 has no label"):
            data.read_csv(table)
    named = ["none" if index % 2 else "some" for index in range(60)]
    assert data.read_csv(write(tmp_path / "b.csv", lines(labels=named)))[0].classes[0] == "none"
    paths = ["path,label", "a.png,1", f"b.png,{missing}"]
    with pytest.raises(DataError, match="row 2 of 2 has no label"):
        data.load(write(tmp_path / "c.csv", paths))


@pytest.mark.parametrize("odd", ["\0{}", "{}\x7f", "\ufeff{}", "\u202a{}"])
@pytest.mark.parametrize("names", [("1", "2"), ("cat", "dog")])
def test_labels_that_only_look_alike(odd: str, names: tuple[str, str], tmp_path: Path) -> None:
    labels = [names[index % 2] for index in range(60)]
    labels[6] = odd.format(labels[6])
    with pytest.raises(DataError, match=r"row 7 of 60: label '.*' contains a control"):
        data.read_csv(write(tmp_path / "a.csv", lines(labels=labels)))


def test_labels_in_any_script(tmp_path: Path) -> None:
    """Joiners and marks of direction are part of words and emoji."""
    names = (
        "\u0645\u06cc\u200c\u062e",
        "\U0001f469\u200d\U0001f467",
        "\u05d0\u200f!",
        "co\u00adop",
    )
    labels = [names[index % 4] for index in range(60)]
    found, _ = data.read_csv(write(tmp_path / "a.csv", lines(labels=labels)))
    assert found.classes == tuple(sorted(names))


def test_equal_images_of_other_labels_stay_together(tmp_path: Path) -> None:
    content = [HEADER, *lines()[1:], *lines(labels=(LABELS + 1) % 3)[1:]]
    train, test = data.read_csv(write(tmp_path / "twice.csv", content))
    trained_on = {image.tobytes() for image in train.images}
    assert len(test) > 0
    assert trained_on.isdisjoint(image.tobytes() for image in test.images)


def test_one_fraction_moves_no_other_row(tmp_path: Path) -> None:
    content = lines()
    whole = data.read_csv(write(tmp_path / "whole.csv", content))[1]
    fraction = data.read_csv(write(tmp_path / "fraction.csv", [*content, "0" + ",0.5" * 16]))[1]
    seen = {np.rint(255.0 * image).astype(np.uint8).tobytes() for image in fraction.images}
    assert {image.tobytes() for image in whole.images} <= seen


@pytest.mark.parametrize(
    ("one", "same", "classes"),
    [
        *(("0", same, ("0", "1")) for same in ("0.0", "+0", "0e0", "\uff10", "-0", " 0")),
        ("-1", "-1.0", ("-1", "1")),
        ("1234567890123456789", "+1234567890123456789", ("1", "1234567890123456789")),
        ("caf\u00e9", "cafe\u0301", ("1", "caf\u00e9")),
    ],
)
def test_a_label_may_be_written_in_several_ways(
    one: str, same: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    labels = [one, "1", same, "1"] * 15
    assert data.read_csv(write(tmp_path / "a.csv", lines(labels=labels)))[0].classes == classes


def test_labels_that_python_would_read_as_numbers(tmp_path: Path) -> None:
    labels = ["1_0", "10"] * 30
    assert len(data.read_csv(write(tmp_path / "a.csv", lines(labels=labels)))[0].classes) == 2


def test_equal_numbers_are_one_label(tmp_path: Path) -> None:
    content = lines()
    content[4] = "1.0" + content[4][1:]
    assert data.read_csv(write(tmp_path / "a.csv", content))[0].classes == ("0", "1", "2")
    content[4] = "1.5" + content[4][3:]
    with pytest.raises(DataError, match=r"row 4 of 60: labels must be whole numbers or text"):
        data.read_csv(write(tmp_path / "b.csv", content))


@pytest.mark.parametrize("word", ["-1", "256", "nan", "", "abc", "0x10", '"1,000"'])
def test_the_line_of_a_bad_pixel_is_said(word: str, tmp_path: Path) -> None:
    content = lines()
    content[7] = ",".join([*content[7].split(",")[:-1], word])
    with pytest.raises(DataError, match=r"bad\.csv: line 8: "):
        data.read_csv(write(tmp_path / "bad.csv", content))
