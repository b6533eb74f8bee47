"""Compares all deployments of one run on the same pictures, for newcomer.sh.

``newcomer_check.py RUN PICTURES`` uses net.onnx, net.h and net.py in the current folder, starts
``fastcnn serve``, and compares all outputs with ``fastcnn predict``.
"""

import ctypes
import json
import runpy
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np

import fastcnn
from fastcnn.data import read_picture

TOLERANCE = 1e-5
#: Exports the function, which is static.
SOURCE = """#include "net.h"
int (*entry)(const uint8_t *, float *) = net_predict_bytes;
"""


def predicted(run: str, pictures: list[Path]) -> np.ndarray:
    """The output of ``fastcnn predict``."""
    command = ["fastcnn", "predict", run, *map(str, pictures), "--json"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    classes = list(json.loads(lines[0])["probabilities"])
    return np.array(
        [[json.loads(line)["probabilities"][name] for name in classes] for line in lines]
    )


def served(run: str, pictures: list[Path]) -> np.ndarray:
    """The answers of ``fastcnn serve``."""
    command = ["fastcnn", "serve", run, "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = next(
            word for line in server.stdout for word in line.split() if word.startswith("http://")
        ).rstrip("/.,")
        answers = []
        for picture in pictures:
            request = urllib.request.Request(
                f"{address}/api/predict",
                data=picture.read_bytes(),
                headers={"Content-Type": "image/png"},
            )
            with urllib.request.urlopen(request, timeout=300) as reply:
                answers.append(json.load(reply))
    finally:
        server.terminate()
        server.wait(timeout=300)
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def of_onnx(pixels: np.ndarray) -> np.ndarray:
    """The output of the ONNX file in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    samples = pixels.astype(np.float32) / 255
    logits = session.run(None, {session.get_inputs()[0].name: samples})[0]
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def of_c(pixels: np.ndarray) -> np.ndarray:
    """The output of the compiled C file."""
    Path("net.c").write_text(SOURCE, encoding="utf-8")
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "net.c", "-o", "net.so", "-lm"], check=True)
    entry = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p).in_dll(
        ctypes.CDLL("./net.so"), "entry"
    )
    found = np.zeros((len(pixels), 3), np.float32)
    for sample, probabilities in zip(np.ascontiguousarray(pixels), found, strict=True):
        entry(sample.ctypes.data, probabilities.ctypes.data)
    return found


def of_numpy(pixels: np.ndarray) -> np.ndarray:
    """The output of the file that imports only numpy."""
    return runpy.run_path("net.py")["predict"](pixels)


def main(run: str, folder: Path) -> None:
    pictures = [path for number in range(4) for path in sorted(folder.glob(f"*/{number:03d}.png"))]
    expected = predicted(run, pictures)
    model = fastcnn.load(Path(run) / "model.safetensors")
    pixels = np.stack(
        [read_picture(path, model.preprocessing.pictures).pixels for path in pictures]
    )
    found = {
        "model.predict_proba": model.predict_proba(pixels),
        "fastcnn serve": served(run, pictures),
        "net.onnx": of_onnx(pixels),
        "net.py": of_numpy(pixels),
    }
    if shutil.which("gcc"):
        found["net.h"] = of_c(pixels)
    failed = False
    for name, values in found.items():
        apart = float(np.abs(values - expected).max())
        failed |= not apart <= TOLERANCE
        print(f"{name:20s} differs from fastcnn predict by at most {apart:.1e}")
    truth = [path.parent.name for path in pictures]
    names = sorted(path.name for path in folder.iterdir())
    hits = sum(names[row.argmax()] == name for row, name in zip(expected, truth, strict=True))
    print(f"{hits} of {len(pictures)} pictures are classified correctly")
    if failed or hits < 0.8 * len(pictures):
        sys.exit("the deployments disagree, or the network learned nothing")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
