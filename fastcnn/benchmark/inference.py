"""Predictions of one image and of a thousand, checked for equality before they are timed."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fastcnn.benchmark.environment import installed
from fastcnn.benchmark.measure import measure
from fastcnn.benchmark.results import Result, result_of
from fastcnn.benchmark.work import make_model
from fastcnn.execution import forward
from fastcnn.layers import Sequential

TOLERANCE = 1e-4
BASELINE = "im2col"


def _own(model: Sequential, x: np.ndarray, backend: str) -> Callable[[int], np.ndarray]:
    def run(times: int) -> np.ndarray:
        for _ in range(times):
            logits = forward(model, x, backend=backend)
        return logits

    return run


def _pytorch(
    model: Sequential, x: np.ndarray, channels_last: bool, threads: int
) -> Callable[[int], np.ndarray]:
    import torch

    from fastcnn.benchmark.peers.pytorch import make_module

    module = make_module(model.graph(), dict(model.state_dict()), set()).eval()
    tensor = torch.from_numpy(x)
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
        tensor = tensor.contiguous(memory_format=torch.channels_last)

    def run(times: int) -> np.ndarray:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            for _ in range(times):
                logits = module(tensor)
        return logits.numpy()

    return run


def _onnxruntime(model: Sequential, x: np.ndarray, threads: int) -> Callable[[int], np.ndarray]:
    import onnxruntime

    from fastcnn.interop import export_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(
            str(Path(folder) / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
    name = session.get_inputs()[0].name

    def run(times: int) -> np.ndarray:
        for _ in range(times):
            logits = session.run(None, {name: x})[0]
        return logits

    return run


def bench_inference(
    network: str,
    batch: int,
    *,
    threads: Sequence[int],
    peers: bool = True,
    rounds: int = 7,
    seconds: float = 0.15,
) -> list[Result]:
    """Time the logits of one batch; lanes takes as many threads as suit it.

    Returns
    -------
    list of Result
        In microseconds a batch.
    """
    model = make_model(network)
    assert model.input_shape is not None
    x = np.random.default_rng(0).standard_normal((batch, *model.input_shape)).astype(np.float32)
    most = max(threads)
    runs: dict[tuple[str, int], Callable[[int], np.ndarray]] = {
        (BASELINE, most): _own(model, x, BASELINE), ("lanes", most): _own(model, x, "lanes")
    }  # fmt: skip
    if peers and installed("torch"):
        for count in threads:
            for channels_last in (False, True):
                name = "PyTorch channels_last" if channels_last else "PyTorch eager"
                runs[name, count] = _pytorch(model, x, channels_last, count)
    if peers and installed("onnxruntime") and installed("onnx"):
        for count in threads:
            runs["ONNX Runtime", count] = _onnxruntime(model, x, count)
    expected = runs[BASELINE, most](1)
    scale = float(np.abs(expected).max())
    differences = {key: float(np.abs(run(1) - expected).max()) / scale for key, run in runs.items()}
    wrong = {key for key, difference in differences.items() if not difference <= TOLERANCE}
    timings = measure(
        {f"{n}/{c}": run for (n, c), run in runs.items() if (n, c) not in wrong},
        rounds=rounds, seconds=seconds,
    )  # fmt: skip
    base = min(
        timings[f"{n}/{c}"].median for n, c in runs if n.startswith("PyTorch") or n == BASELINE
    )
    return [
        result_of(
            timings[f"{n}/{c}"], 1e6, suite="inference", work=network, contestant=n, threads=c,
            batch=batch, unit="us/batch", ratio=base / timings[f"{n}/{c}"].median,
            difference=differences[n, c],
        )
        for n, c in runs
        if (n, c) not in wrong
    ]  # fmt: skip
