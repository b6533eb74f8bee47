"""Readers of data sets."""

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fastcnn import data
from tests.fuzz.registry import register

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (12, 6, 6)).astype(np.uint8)
LABELS = np.arange(12) % 3


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _npz() -> list[bytes]:
    files = []
    words = np.array(["cat", "dog", "cow"])
    for save, images, labels, others in (
        (np.savez, IMAGES, LABELS, {"classes": words}),
        (np.savez_compressed, IMAGES[:, None].astype(np.float64), np.eye(3)[LABELS], {}),
        (np.savez, IMAGES[..., None].repeat(3, axis=3), words[LABELS], {"layout": "NHWC"}),
    ):
        buffer = io.BytesIO()
        save(buffer, x_train=images, y_train=labels, x_test=images, y_test=labels, **others)
        files.append(buffer.getvalue())
    return files


def _archive(part: str) -> Callable[[bytes], bytes]:
    """Packs one mutated array twice, with two valid ones and correct checksums."""

    def wrap(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in (("x", IMAGES), ("y", LABELS)):
                for half in ("train", "test"):
                    member = content if name == part else _npy(array)
                    archive.writestr(f"{name}_{half}.npy", member)
        return buffer.getvalue()

    return wrap


def _idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


register("npz", _npz, data.read_npz, "x.npz")
register(
    "npz images", lambda: [_npy(IMAGES), _npy(IMAGES[:, None])], data.read_npz, "x.npz",
    _archive("x"),
)  # fmt: skip
register(
    "npz labels", lambda: [
        _npy(LABELS), _npy(LABELS[:, None].astype(float)), _npy(np.eye(3)[LABELS]),
        _npy(np.array(["cat", "dog", "cow"])[LABELS]), _npy(np.array([b"a", b"b"])[LABELS % 2]),
    ], data.read_npz,
    "x.npz", _archive("y"),
)  # fmt: skip
register("idx", lambda: [_idx(IMAGES), _idx(LABELS)], data.read_idx, "x")
register("idx.gz", lambda: [gzip.compress(_idx(IMAGES))], data.read_idx, "x.gz")
register("idx in gz", lambda: [_idx(IMAGES)], data.read_idx, "x.gz", gzip.compress)


def _table() -> list[bytes]:
    header = "label," + ",".join(f"pixel{index}" for index in range(36))
    rows = [
        ",".join(map(str, [label, *image.ravel()]))
        for label, image in zip(LABELS, IMAGES, strict=True)
    ]
    return ["\n".join([header, *rows]).encode()]


def _records(labels: int, count: int) -> bytes:
    records = GENERATOR.integers(0, 10, (count, labels + 3072)).astype(np.uint8)
    return records.tobytes()


def _pickled(label: str) -> list[bytes]:
    """A file as Python 2 wrote it, and as later versions do."""
    pixels = GENERATOR.integers(0, 256, (3, 3072)).astype(np.uint8)
    values = {"data": pixels, label: [1, 2, 3], "batch_label": "training batch 1 of 5"}
    return [pickle.dumps(values, protocol) for protocol in (2, 4, 5)]


def _in_folder(
    read: Callable[[Path], object], others: dict[str, bytes]
) -> Callable[[Path], object]:
    """Reads a folder with one mutated file, and otherwise valid files."""

    def read_all(path: Path) -> object:
        for name, content in others.items():
            if name != path.name:
                (path.parent / name).write_bytes(content)
        return read(path.parent)

    return read_all


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


BATCHES = {f"data_batch_{number}": content for number in range(1, 6)
           for content in _pickled("labels")[:1]}  # fmt: skip
BINARY = {f"{name}.bin": _records(1, 2) for name in (*BATCHES, "test_batch")}
FINE = {"train": _pickled("fine_labels")[1], "test": _pickled("fine_labels")[0]}

register("csv", _table, data.read_csv, "x.csv")
register(
    "cifar records", lambda: [_records(1, 3)], _in_folder(data.read_cifar10, BINARY),
    "test_batch.bin",
)  # fmt: skip
register("cifar tar", lambda: [_tar(BINARY)], data.read_cifar10, "x.tar")
register("cifar tar in gz", lambda: [_tar(BINARY)], data.read_cifar10, "x.tgz", gzip.compress)
register(
    "cifar pickled", lambda: _pickled("labels"), _in_folder(data.read_cifar10, BATCHES),
    "test_batch",
)  # fmt: skip
register(
    "cifar100 pickled", lambda: _pickled("fine_labels"), _in_folder(data.read_cifar100, FINE),
    "test",
)  # fmt: skip


def _picture(kind: str) -> list[bytes]:
    from PIL import Image

    files = []
    for pixels in (IMAGES[0], IMAGES[:3].transpose(1, 2, 0)):
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, kind)
        files.append(buffer.getvalue())
    return files


for suffix in ("png", "jpeg", "gif", "bmp", "webp"):
    register(
        f"picture {suffix}", partial(_picture, suffix), partial(data.read_image, shape=(3, 8, 8)),
        f"x.{suffix}",
    )  # fmt: skip


def _read_folder(path: Path) -> object:
    """Reads a folder whose first picture is the mutated one."""
    (path.parent / "a").mkdir()
    path.rename(path.parent / "a" / path.name)
    for name in ("b/1.png", "b/2.png", "a/y.png"):
        (path.parent / name).parent.mkdir(exist_ok=True)
        (path.parent / name).write_bytes(_picture("png")[0])
    return data.read_folder(path.parent)


register("folder", partial(_picture, "png"), _read_folder, "0.png")
