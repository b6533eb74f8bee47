"""Benchmark of predictions of one image and of a thousand, verified before they are timed."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fastcnn.benchmark.contest import BASELINE, Compared, compete
from fastcnn.benchmark.environment import can_run
from fastcnn.benchmark.layer_cases import relative_difference
from fastcnn.benchmark.results import Result
from fastcnn.benchmark.work import make_model
from fastcnn.execution import predict_logits, session
from fastcnn.execution.workers import workers
from fastcnn.layers import Model
from fastcnn.timing import repeated

TOLERANCE = 1e-4


def _session(model: Model, x: np.ndarray, threads: int) -> Callable[[int], np.ndarray]:
    """The session that ``predict`` uses: a forward pass prepared once."""
    prepared = session(model, max_batch=len(x), threads=threads)
    return repeated(lambda: prepared.logits(x))


def _im2col(model: Model, x: np.ndarray, threads: int) -> Callable[[int], np.ndarray]:
    settings: dict[str, Any] = {"backend": BASELINE, "batch_size": len(x), "threads": threads}
    return repeated(lambda: predict_logits(model, x, **settings), lambda: workers(threads))


def _pytorch(
    variant: str, model: Model, x: np.ndarray, threads: int
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
    makers: list[tuple[str, int, Callable[..., Callable[[int], np.ndarray]]]] = [
        (BASELINE, most, _im2col),
        *(("lanes", count, _session) for count in threads),
    ]
    if peers and can_run("PyTorch"):
        from fastcnn.benchmark.pytorch import VARIANTS

        for variant in VARIANTS:
            run = partial(_pytorch, variant)
            makers += [(f"PyTorch {variant}", count, run) for count in threads]
    if peers and can_run("ONNX Runtime"):
        makers += [("ONNX Runtime", count, _onnxruntime) for count in threads]
    expected = _im2col(model, x, most)(1)

    def compared(make: Callable[..., Callable[[int], np.ndarray]], count: int) -> Compared:
        run = make(model, x, count)
        apart = relative_difference((run(1),), (expected,))
        return Compared(apart, run).within(TOLERANCE, "logits differ")

    return compete(
        [(name, count, partial(compared, make, count)) for name, count, make in makers],
        bases=(("PyTorch", BASELINE),),
        scale=1e6,
        rounds=rounds,
        seconds=seconds,
        suite="inference",
        work=network,
        batch=batch,
        unit="us/batch",
    )
