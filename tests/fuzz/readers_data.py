"""Readers of data sets."""

import gzip
import io
import zipfile
from collections.abc import Callable

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
    for save, images, labels in (
        (np.savez, IMAGES, LABELS),
        (np.savez_compressed, IMAGES[:, None].astype(np.float64), np.eye(3)[LABELS]),
        (np.savez, IMAGES[..., None].repeat(3, axis=3), np.array(["cat", "dog", "cow"])[LABELS]),
    ):
        buffer = io.BytesIO()
        save(buffer, x_train=images, y_train=labels, x_test=images, y_test=labels)
        files.append(buffer.getvalue())
    return files


def _archive(part: str) -> Callable[[bytes], bytes]:
    """Packs one mutated array twice, with two good ones and the right checksums."""

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
    "npz labels", lambda: [_npy(LABELS), _npy(LABELS[:, None].astype(float))], data.read_npz,
    "x.npz", _archive("y"),
)  # fmt: skip
register("idx", lambda: [_idx(IMAGES), _idx(LABELS)], data.read_idx, "x")
register("idx.gz", lambda: [gzip.compress(_idx(IMAGES))], data.read_idx, "x.gz")
register("idx in gz", lambda: [_idx(IMAGES)], data.read_idx, "x.gz", gzip.compress)
