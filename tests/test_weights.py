"""Weights in files: no damaged bit goes unnoticed, and files of other programs are read."""

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn.errors import CheckpointError
from fastcnn.interop import load_state, save_state
from fastcnn.layers import BatchNorm2d, Conv2d, Flatten, Linear, Sequential
from fastcnn.training import fit
from fastcnn.training.checkpoints import Checkpoint
from fastcnn.training.run import Run
from fastcnn.weights import read_weights, weights_from_bytes, weights_to_bytes

CLASSES = 2


def network(seed: int = 0) -> Sequential:
    return Sequential(
        Conv2d(1, 2, 3, seed=seed), BatchNorm2d(2), Flatten(), Linear(8, CLASSES, seed=seed),
        input_shape=(1, 4, 4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "run"
    x = np.random.default_rng(0).standard_normal((6, 1, 4, 4)).astype(np.float32)
    fit(network(), (x, np.arange(6) % CLASSES), epochs=1, out=folder, backend="im2col")
    save_state(network(), folder / "exported.safetensors")
    return folder


READERS: dict[str, Callable[[Path], object]] = {
    "checkpoints/last.safetensors": Checkpoint.read,
    "checkpoints/best.safetensors": lambda path: load_state(network(), path),
    "exported.safetensors": lambda path: load_state(network(), path),
    "model.safetensors": lambda path: Run.open(path.parent).load_model(),
}


@pytest.mark.parametrize("name", READERS)
def test_every_damaged_bit_is_noticed(run: Path, name: str) -> None:
    path, read = run / name, READERS[name]
    good = path.read_bytes()
    read(path)
    generator = np.random.default_rng(0)
    header = 8 + int.from_bytes(good[:8], "little")
    places = [*range(min(header, 700)), *generator.integers(len(good), size=300)]
    try:
        for place in places:
            damaged = bytearray(good)
            damaged[place] ^= 1 << int(generator.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=path.stem):
                read(path)
    finally:
        path.write_bytes(good)


def test_no_damaged_bit_of_a_config_changes_what_it_says(run: Path) -> None:
    path = run / "config.json"
    good = path.read_bytes()
    expected = Run.open(run).config
    generator = np.random.default_rng(0)
    refused = 0
    try:
        for _ in range(500):
            damaged = bytearray(good)
            damaged[int(generator.integers(len(good)))] ^= 1 << int(generator.integers(8))
            path.write_bytes(damaged)
            try:
                read = Run.open(run).config
            except CheckpointError:
                refused += 1
                continue
            assert {key: read[key] for key in expected} == expected
    finally:
        path.write_bytes(good)
    assert refused > 400


def test_a_config_may_be_edited_without_its_checksum(run: Path) -> None:
    path = run / "config.json"
    good = path.read_text()
    config = json.loads(good)
    config["data"]["source"] = "elsewhere"
    try:
        path.write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match='remove the line "checksum"'):
            Run.open(run)
        del config["checksum"]
        path.write_text(json.dumps(config))
        assert Run.open(run).config["data"]["source"] == "elsewhere"
    finally:
        path.write_text(good)


def safetensors(entries: dict[str, tuple[str, list[int], bytes]], metadata: object = None) -> bytes:
    """A file as another program writes it."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (kind, shape, content) in entries.items():
        places = [len(data), len(data) + len(content)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": places}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_files_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    values = np.array([1.0, -2.5], np.float32)
    kinds = {
        "F32": values.tobytes(),
        "F64": values.astype(np.float64).tobytes(),
        "F16": values.astype(np.float16).tobytes(),
        "BF16": values.view(np.uint16)[1::2].tobytes(),
    }
    model = Sequential(Flatten(), Linear(2, 1, bias=False, seed=0), input_shape=(2, 1, 1))
    for metadata in (None, {"format": "pt"}, {"checksum": "mine"}):
        for kind, content in kinds.items():
            path.write_bytes(safetensors({"1.weight": (kind, [1, 2], content)}, metadata))
            load_state(model, path)
            assert model.layers["1"].parameters["weight"].tolist() == [[1.0, -2.5]]
            model.layers["1"].parameters["weight"][...] = 0.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (safetensors({"1.weight": ("F8_E4M3", [1, 2], b"ab")}), "F8_E4M3"),
        (safetensors({"1.weight": ("F32", [1, 2], b"abcd")}), "damaged"),
        (safetensors({"1.weight": ("F32", [2**62, 2], b"abcdefgh")}), "damaged"),
        (safetensors({"1.weight": ("I32", [1, 2], b"abcdefgh"), "x": ("U8", [1], b"a")}), "unexp"),
        (safetensors({"1.weight": ("F64", [1, 2], b"\xff" * 7 + b"\x7e" * 9)}), "do not fit"),
        (weights_to_bytes({"1.weight": np.ones((1, 3), np.float32)}), "shape"),
        (b"PK\x03\x04" + b"a" * 100, "torch.save or numpy.savez"),
        (b"\x80\x02}q\x00.", "torch.save"),
        (b"\xff" * 7, "damaged"),
        (b"\xff" * 100, "damaged"),
        (b"", "damaged"),
        (struct.pack("<Q", 2**40) + b"{}", "damaged"),
        (struct.pack("<Q", 40_000) + b"[" * 40_000, "damaged"),
    ],
)
def test_files_that_are_no_good(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    model = Sequential(Flatten(), Linear(2, 1, bias=False, seed=0), input_shape=(2, 1, 1))
    before = model.parameter_vector.copy()
    with pytest.raises(CheckpointError, match=message):
        load_state(model, path)
    assert (model.parameter_vector == before).all()


def test_a_header_of_any_length_is_read(tmp_path: Path) -> None:
    # 640 are b"\x80\x02", how pickles begin.
    path = tmp_path / "m.safetensors"
    weight = np.ones((1, 2), np.float32)
    bare = int.from_bytes(weights_to_bytes({"w": weight}, {"note": ""})[:8], "little")
    for length in (640, 0x10280):
        content = weights_to_bytes({"w": weight}, {"note": "a" * (length - bare)})
        assert int.from_bytes(content[:8], "little") == length
        path.write_bytes(content)
        assert read_weights(path)[0]["w"].tolist() == [[1.0, 1.0]]


def test_a_float_is_no_count_of_batches(tmp_path: Path) -> None:
    model = network()
    state = model.copy_state() | {"1.num_batches_tracked": np.float32(np.nan)}
    with pytest.raises(CheckpointError, match=r"num_batches_tracked: .*float32 .*int64"):
        model.load_state_dict(state)


@pytest.mark.posix
def test_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match=path.name):
            read_weights(path)


def test_a_folder_with_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    for read in (read_weights, fastcnn.load):
        with pytest.raises(CheckpointError, match=f"; did you mean {re.escape(str(path))}"):
            read(tmp_path)


def test_the_package_safetensors_reads_the_files() -> None:
    from safetensors.numpy import load

    state = network().state_dict()
    found = load(weights_to_bytes(state))
    assert found.keys() == state.keys()
    assert all((found[key] == value).all() for key, value in state.items())


def test_texts_and_arrays_come_back() -> None:
    arrays = {
        "turned": np.arange(6.0).reshape(2, 3).T,
        "count": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "flags": np.array([True, False]),
    }
    content = weights_to_bytes(arrays, {"format": "fastcnn-test", "words": "ä"})
    assert content == weights_to_bytes(arrays, {"words": "ä", "format": "fastcnn-test"})
    back, texts = weights_from_bytes(content, "m")
    assert texts == {"format": "fastcnn-test", "words": "ä"}
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert (back[name] == array).all()
        assert back[name].shape == array.shape


def test_a_negative_variance_is_refused(run: Path, tmp_path: Path) -> None:
    arrays, metadata = read_weights(run / "model.safetensors")
    key = next(name for name in arrays if name.endswith("running_var"))
    bad = {**arrays, key: np.array([1.0, -0.25], arrays[key].dtype)}
    path = tmp_path / "bad.safetensors"
    path.write_bytes(weights_to_bytes(bad, metadata))
    model = network()
    before = model.state_dict()
    message = rf"{key} holds a negative variance, -0\.25"
    for load in (
        lambda: load_state(model, path),
        lambda: fastcnn.load(path),
        lambda: model.load_state_dict(bad),
    ):
        with pytest.raises(CheckpointError, match=message):
            load()
    for name, array in before.items():
        np.testing.assert_array_equal(model.state_dict()[name], array)
    model.buffers[key][:] = -0.25
    with pytest.raises(CheckpointError, match=f"was not written: {message}"):
        model.save(path)
