"""The well-known networks on the engine, and their page."""

from pathlib import Path

import numpy as np
import pytest

import fastcnn
from bench.networks.check import ENGINE, SAME, Check, check, largest_difference
from bench.networks.exporters import WAYS, check_exporters
from bench.networks.page import CHECKS, EXPORTERS, render_networks
from bench.networks.residual import merged
from bench.networks.tasks import TASKS, evidence_bound
from bench.networks.times import time_steps
from fastcnn.benchmark.records import Records
from fastcnn.errors import FastcnnError
from fastcnn.interop import export_onnx, import_onnx

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks"
#: Maximum difference of gradients without kinks: rounding, through up to 56 layers.
ROUNDING = 2e-4


@pytest.mark.parametrize("name", TASKS)
def test_gradients_on_the_engine_are_those_of_im2col(name: str) -> None:
    made = Check(TASKS[name], batch=8, smooth=True)
    ours, expected = made.own("lanes"), made.own("im2col")
    assert ours.gradients
    assert ours.loss == pytest.approx(expected.loss, rel=1e-5)
    assert largest_difference(ours, expected) < ROUNDING


@pytest.mark.parametrize("name", TASKS)
def test_the_page_has_the_network_as_it_is(name: str) -> None:
    records = {record["network"]: record for record in Records.read(RESULTS / CHECKS).records}
    assert list(records) == list(TASKS)
    record, task = records[name], TASKS[name]
    assert record["parameters"] == task.model().num_parameters
    assert record["engine"] == ENGINE
    assert record["onnx"] == ""
    assert record["smooth_difference"] < ROUNDING


def test_the_page_is_what_the_results_say() -> None:
    assert (ROOT / "docs" / "networks.md").read_text(encoding="utf-8") == render_networks(RESULTS)


def test_published_sizes() -> None:
    """Numbers of parameters from the papers, or of the authors' code with ten classes."""
    sizes = {
        "lenet5_1998": 61_706,
        "resnet20": 272_474,
        "resnet56": 855_770,
        "densenet_bc_40": 176_122,
        "vgg16_bn": 14_724_042,
        "mobilenet_v1": 3_217_226,
        "mobilenet_v2": 2_236_682,
        "shufflenet_v2": 1_263_854,
        "dqn_atari": 1_687_206,
    }
    assert {name: TASKS[name].model().num_parameters for name in sizes} == sizes


def test_the_evidence_bound_has_the_right_gradient() -> None:
    generator = np.random.default_rng(0)
    outputs = generator.uniform(0.5, 1.5, (3, 60))
    targets = generator.integers(0, 2, (3, 60)).astype(float)
    _, gradient = evidence_bound(outputs, targets)
    step = 1e-6
    for place in ((0, 3), (1, 25), (2, 50)):
        moved = outputs.copy()
        moved[place] += step
        up, _ = evidence_bound(moved, targets)
        moved[place] -= 2 * step
        down, _ = evidence_bound(moved, targets)
        assert gradient[place] == pytest.approx((up - down) / (2 * step), rel=1e-6)


def test_branches_of_repvgg_become_one_convolution() -> None:
    model = TASKS["repvgg"].model()
    x = np.random.default_rng(0).standard_normal((16, 3, 32, 32)).astype(np.float32)
    fastcnn.fit(model, (x, np.arange(16) % 10), epochs=2, diagnose=False)
    chain = merged(model)
    kinds = [type(layer).__name__ for layer in chain]
    assert kinds == ["Conv2d", "ReLU"] * 13 + ["GlobalAvgPool2d", "Flatten", "Linear"]
    expected = model.logits(x)
    assert np.abs(chain.logits(x) - expected).max() < 1e-4 * np.abs(expected).max()


def test_an_unknown_network_is_refused() -> None:
    from bench.networks.__main__ import main

    with pytest.raises(FastcnnError, match="no network 'resnet2000'"):
        main(model=["resnet2000"])


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_against_pytorch_and_onnx(name: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    record = check(TASKS[name])
    assert record["engine"] == ENGINE
    assert record["smooth_difference"] < ROUNDING
    assert record["onnx"] == ""


def test_the_page_has_every_network_of_both_exporters() -> None:
    records = Records.read(RESULTS / EXPORTERS).records
    assert [record["network"] for record in records] == list(TASKS)
    for record in records:
        assert all(record[way] is not None and record[way] < SAME for way in WAYS), record


def _expect_all_read(name: str, ways: tuple[str, ...]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    record = check_exporters(TASKS[name], ways)
    assert [record[f"{way}_reason"] for way in ways] == [""] * len(ways)
    assert all(record[way] < SAME for way in ways)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["alexnet_cifar", "vae", "alphazero", "tcn"])
def test_files_of_pytorch_s_exporters(name: str) -> None:
    _expect_all_read(name, ("script_open", "dynamo_fixed"))


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("name", TASKS)
def test_files_of_pytorch_s_exporters_of_each_network(name: str) -> None:
    _expect_all_read(name, tuple(WAYS))


def _expect_same_gradients(name: str, folder: Path) -> None:
    """Gradients of a training step before and after a round trip through an ONNX file."""
    pytest.importorskip("onnx")
    made = Check(TASKS[name], batch=4)
    before = made.own("im2col")
    export_onnx(made.model, folder / "net.onnx")
    made.model = import_onnx(folder / "net.onnx")
    made.start = made.model.copy_state()
    after = made.own("im2col")
    assert after.loss == pytest.approx(before.loss, rel=1e-6)
    # Names of nested layers are joined with underscores, except in a Sequential.
    wanted = {key.replace(".", "_"): value for key, value in before.gradients.items()}
    found = {key.replace(".", "_"): value for key, value in after.gradients.items()}
    assert wanted
    assert found.keys() >= wanted.keys()  # a file does not store what is frozen
    largest = max(float(np.abs(value).max()) for value in wanted.values())
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, abs=1e-5 * largest), key


@pytest.mark.parametrize("name", ["lenet5_1998", "alphazero", "siamese", "tcn"])
def test_gradients_after_onnx_and_back(name: str, tmp_path: Path) -> None:
    _expect_same_gradients(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_gradients_of_each_network_after_onnx_and_back(name: str, tmp_path: Path) -> None:
    _expect_same_gradients(name, tmp_path)


@pytest.mark.slow
def test_steps_are_timed() -> None:
    pytest.importorskip("torch")
    record = time_steps(TASKS["dqn_atari"], threads=1, seconds=0.1)
    assert set(record["times"]) == {"engine", "PyTorch eager", "PyTorch channels_last"}
    assert all(timing["median"] > 0.0 for timing in record["times"].values())
