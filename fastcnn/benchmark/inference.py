"""Predictions of one image and of a thousand, checked for equality before they are timed."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fastcnn.benchmark.environment import can_run
from fastcnn.benchmark.measure import measure
from fastcnn.benchmark.results import Result, not_timed, result_of
from fastcnn.benchmark.work import make_model
from fastcnn.execution import predict_logits, session
from fastcnn.execution.workers import workers
from fastcnn.layers import Model

TOLERANCE = 1e-4
BASELINE = "im2col"


def _session(model: Model, x: np.ndarray, threads: int) -> Callable[[int], np.ndarray]:
    """What ``predict`` runs as well: a pass that was prepared once."""
    prepared = session(model, max_batch=len(x), threads=threads)

    def run(times: int) -> np.ndarray:
        for _ in range(times):
            logits: np.ndarray = prepared.logits(x)
        return logits

    return run


def _im2col(model: Model, x: np.ndarray, threads: int) -> Callable[[int], np.ndarray]:
    def run(times: int) -> np.ndarray:
        with workers(threads):
            for _ in range(times):
                logits = predict_logits(
                    model, x, backend=BASELINE, batch_size=len(x), threads=threads
                )
        return logits

    return run


def _pytorch(
    model: Model, x: np.ndarray, variant: str, threads: int
) -> Callable[[int], np.ndarray]:
    import torch

    from fastcnn.benchmark.pytorch import compiled, make_module

    module = make_module(model.graph(), dict(model.state_dict()), set()).eval()
    tensor = torch.from_numpy(x)
    if variant != "eager":
        module = module.to(memory_format=torch.channels_last)
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    if variant == "compile":
        module = compiled(module)

    def run(times: int) -> np.ndarray:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            for _ in range(times):
                logits = module(tensor)
        return logits.numpy()

    return run


def _onnxruntime(model: Model, x: np.ndarray, threads: int) -> Callable[[int], np.ndarray]:
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
    """Time the logits of one batch, on the engine by a session.

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
        (BASELINE, most): _im2col(model, x, most),
        **{("lanes", count): _session(model, x, count) for count in threads},
    }
    if peers and can_run("PyTorch"):
        from fastcnn.benchmark.pytorch import VARIANTS

        for variant in VARIANTS:
            for count in threads:
                runs[f"PyTorch {variant}", count] = _pytorch(model, x, variant, count)
    if peers and can_run("ONNX Runtime"):
        for count in threads:
            runs["ONNX Runtime", count] = _onnxruntime(model, x, count)
    expected = runs[BASELINE, most](1)
    scale = float(np.abs(expected).max())
    apart = {key: float(np.abs(run(1) - expected).max()) / scale for key, run in runs.items()}
    right = {key: run for key, run in runs.items() if apart[key] <= TOLERANCE}
    timings = measure(right, rounds=rounds, seconds=seconds)
    base = min(timings[key].median for key in right if key[0].startswith(("PyTorch", BASELINE)))
    names = {"suite": "inference", "work": network, "batch": batch, "unit": "us/batch"}
    return [
        result_of(
            timings[key],
            1e6,
            contestant=key[0],
            threads=key[1],
            ratio=base / timings[key].median,
            difference=apart[key],
            **names,
        )
        if key in right
        else not_timed(
            f"not timed: logits differ by {apart[key]:.1e}",
            contestant=key[0],
            threads=key[1],
            **names,
        )
        for key in runs
    ]
