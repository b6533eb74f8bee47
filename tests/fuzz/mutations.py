"""Random changes of a file's bytes, of kinds that have broken readers."""

import re
import struct

import numpy as np

#: Integers at which sizes, counts and offsets overflow or wrap.
EXTREMES = (0, 1, 2, 255, 65_535, 10**9, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
#: Replacements of a number in a text file.
TEXTS = (
    b"0", b"-1", b"1e999", b"-0.5", b"NaN", b"Infinity", b"null", b"true", b'""', b"[]", b"{}",
    b"2147483648", b"4294967296", b"99999999999999999999", b"1" * 5_000, b"1.5", b"'a'",
)  # fmt: skip
#: Bytes at the start of a file that get half of all changes: headers are short.
HEADER = 256
LONGEST_REPEAT = 20_000


def mutate(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    """One to four random changes; ``others`` are files from which pieces are inserted."""
    for _ in range(int(generator.integers(1, 5))):
        change = CHANGES[int(generator.integers(len(CHANGES)))]
        content = change(content, others, generator)
    return content


def _place(content: bytes, generator: np.random.Generator) -> int:
    end = len(content) if generator.random() < 0.5 else min(HEADER, len(content))
    place = int(generator.integers(end + 1))
    # Some formats, such as zip, have their table of contents at the end.
    return len(content) - place if generator.random() < 0.15 else place


def _piece(content: bytes, generator: np.random.Generator) -> tuple[int, int]:
    start = _place(content, generator)
    length = int(2 ** generator.uniform(0, 11))
    return start, min(len(content), start + length)


def _flip(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(int(2 ** generator.uniform(0, 4))):
        place = _place(content, generator)
        if place < len(changed):
            changed[place] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def _bytes(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    start, _ = _piece(content, generator)
    new = generator.bytes(int(generator.integers(1, 9)))
    return content[:start] + new + content[start + len(new) :]


def _number(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    start = _place(content, generator)
    size = int(generator.choice((1, 2, 4, 8)))
    order = "<>"[int(generator.integers(2))]
    value = EXTREMES[int(generator.integers(len(EXTREMES)))] % (1 << 8 * size)
    new = struct.pack(f"{order}{'BHxIxxxQ'[size - 1]}", value)
    return content[:start] + new + content[start + size :]


def _text(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", content[:65_536]))
    if not found:
        return _number(content, others, generator)
    place = found[int(generator.integers(len(found)))]
    new = TEXTS[int(generator.integers(len(TEXTS)))]
    return content[: place.start()] + new + content[place.end() :]


def _cut(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    return content[: _place(content, generator)]


def _delete(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    start, end = _piece(content, generator)
    return content[:start] + content[end:]


def _repeat(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    start, end = _piece(content, generator)
    if start == end:
        return content
    times = int(2 ** generator.uniform(0, 14))
    return content[:end] + (content[start:end] * times)[:LONGEST_REPEAT] + content[end:]


def _insert(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    start = _place(content, generator)
    return content[:start] + generator.bytes(int(2 ** generator.uniform(0, 8))) + content[start:]


def _swap(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    start, end = _piece(content, generator)
    to = _place(content[:start] + content[end:], generator)
    rest = content[:start] + content[end:]
    return rest[:to] + content[start:end] + rest[to:]


def _splice(content: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    other = others[int(generator.integers(len(others)))]
    start, end = _piece(other, generator)
    to = _place(content, generator)
    return content[:to] + other[start:end] + content[to + (end - start) :]


CHANGES = (
    _flip, _bytes, _number, _number, _text, _text, _cut, _delete, _repeat, _insert, _swap, _splice,
)  # fmt: skip
