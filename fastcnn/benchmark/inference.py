"""Benchmark of predictions of one image and of a thousand, verified before they are timed."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fastcnn.benchmark.environment import can_run
from fastcnn.benchmark.results import Result, not_timed, timed
from fastcnn.benchmark.work import make_model
from fastcnn.execution import predict_logits, session
from fastcnn.execution.workers import workers
from fastcnn.layers import Model
from fastcnn.timing import measure, repeated

TOLERANCE = 1e-4
BASELINE = "im2col"


def _session(model: Model, x: np.ndarray, threads: int) -> Callable[[int], np.ndarray]:
    """The session that ``predict`` uses: a forward pass prepared once."""
    prepared = session(model, max_batch=len(x), threads=threads)
    return repeated(lambda: prepared.logits(x))


def _im2col(model: Model, x: np.ndarray, threads: int) -> Callable[[int], np.ndarray]:
    settings: dict[str, Any] = {"backend": BASELINE, "batch_size": len(x), "threads": threads}
    return repeated(lambda: predict_logits(model, x, **settings), lambda: workers(threads))


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


def onnx_session(
    model: Model, threads: int, settings: Mapping[str, str] = MappingProxyType({})
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs a network with ONNX Runtime; ``settings`` are session options."""
    import onnxruntime

    from fastcnn.interop import export_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, path)
        made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name
    return lambda x: made.run(None, {name: x})[0]


def _onnxruntime(model: Model, x: np.ndarray, threads: int) -> Callable[[int], np.ndarray]:
    call = onnx_session(model, threads)
    return repeated(lambda: call(x))


def bench_inference(
    network: str,
    batch: int,
    *,
    threads: Sequence[int],
    peers: bool = True,
    rounds: int = 7,
    seconds: float = 0.15,
) -> list[Result]:
    """Time the logits of one batch; the engine runs them in a session.

    Returns
    -------
    list of Result
        In microseconds per batch.
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
    names: dict[str, Any] = {
        "suite": "inference",
        "work": network,
        "batch": batch,
        "unit": "us/batch",
    }
    return timed(timings, apart, base, 1e6, **names) + [
        not_timed(
            f"not timed: logits differ by {apart[key]:.1e}",
            contestant=key[0],
            threads=key[1],
            **names,
        )
        for key in runs
        if key not in right
    ]
