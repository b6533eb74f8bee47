"""A network's C file compiles without warnings and computes the model's predictions."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import kernel
from fastcnn import layers as nn
from fastcnn.data import Preprocessing
from fastcnn.errors import ConfigurationError, DataError
from fastcnn.interop.c import CExport, export_c
from fastcnn.interop.numpy_source import export_numpy
from fastcnn.operations import elementwise_operations
from fastcnn.operations.record import CASE_CHANNELS

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion"]
SANITIZED = ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SAMPLES = 40

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def activation_layers() -> Iterator[tuple[str, nn.Layer]]:
    """A layer for every case of every element-wise operation."""
    by_operation = {
        getattr(kind, "operation", None): kind for kind in vars(fastcnn.layers).values()
    }
    for record in elementwise_operations():
        for index, arguments in enumerate(record.cases):
            yield f"{record.name}_{index}", by_operation[record.name](**arguments)


def networks() -> dict[str, nn.Model]:
    """Every kind of layer, with arguments that affect its loops."""
    shape = (CASE_CHANNELS, 7, 6)
    found: dict[str, nn.Model] = {}
    layers: dict[str, nn.Layer] = {
        "conv": nn.Conv2d(3, 4, 3, seed=0),
        "conv_strided": nn.Conv2d(3, 4, (2, 3), stride=(2, 3), padding=(1, 2), seed=0),
        "conv_dilated": nn.Conv2d(3, 6, 2, dilation=(2, 3), groups=3, bias=False, seed=0),
        "conv_same": nn.Conv2d(3, 2, 4, padding="same", seed=0),
        "transposed": nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1, seed=0),
        "transposed_groups": nn.ConvTranspose2d(
            3, 6, 2, stride=(1, 3), groups=3, bias=False, seed=0
        ),
        "max_pool": nn.MaxPool2d((2, 3), stride=(1, 2), padding=1),
        "avg_pool": nn.AvgPool2d(3, stride=2, padding=1),
        "avg_pool_inside": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        "adaptive": nn.AdaptiveAvgPool2d((3, 4)),
        "global": nn.GlobalAvgPool2d(),
        "norm": nn.BatchNorm2d(3),
        "norm_plain": nn.BatchNorm2d(3, affine=False),
    }
    for name, layer in layers.items():
        after = nn.Sequential(layer).output_shape(shape)
        tail = (nn.Flatten(), nn.Linear(int(np.prod(after)), 4, seed=1))
        found[name] = nn.Sequential(layer, *tail, input_shape=shape)
    block = nn.Residual(
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False, seed=2), nn.BatchNorm2d(3))
    )
    head = (nn.GlobalAvgPool2d(), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, 2, seed=1))
    found["residual"] = nn.Sequential(block, nn.ReLU(), nn.Dropout(0.5), *head, input_shape=shape)
    found["ends_in_pooling"] = nn.Sequential(
        nn.Conv2d(3, 4, 3, seed=0), nn.GlobalAvgPool2d(), nn.Flatten(), input_shape=shape
    )
    found["first_add"] = nn.Sequential(
        nn.Residual(nn.Sequential(nn.ReLU()), nn.Sequential(nn.Conv2d(3, 3, 1, seed=0))),
        nn.Flatten(),
        nn.Linear(126, 3, seed=1),
        input_shape=shape,
    )
    found["joined"] = joined(shape)
    found["report_cnn"] = fastcnn.models.report_cnn(seed=0)
    found["lenet5"] = fastcnn.models.lenet5(seed=0)
    # At the end: indices of those above stay the same when operations are added.
    found |= {
        name: nn.Sequential(layer, nn.Flatten(), nn.Linear(3 * 42, 4, seed=1), input_shape=shape)
        for name, layer in activation_layers()
    }
    for index, model in enumerate(found.values()):
        randomise(model, index)
    return found


def sample_networks() -> dict[str, nn.Model]:
    """Layers that move elements, normalise within a sample or interpolate."""
    shape = (3, 6, 6)
    layers: dict[str, list[nn.Layer]] = {
        "zero_pad": [nn.ZeroPad2d((1, 2, 0, 1))],
        "reflection_pad": [nn.ReflectionPad2d(2)],
        "replication_pad": [nn.ReplicationPad2d((0, 3, 1, 0))],
        "circular_pad": [nn.CircularPad2d((0, 3, 1, 0))],
        "upsample": [nn.Upsample(scale_factor=2)],
        "bilinear": [nn.Upsample(scale_factor=(2, 3), mode="bilinear")],
        "bilinear_corners": [nn.Upsample(size=(9, 4), mode="bilinear", align_corners=True)],
        "adaptive_max": [nn.AdaptiveMaxPool2d((4, 5))],
        "global_max": [nn.GlobalMaxPool2d()],
        "pixel_shuffle": [nn.Conv2d(4, 8, 1, seed=0), nn.PixelShuffle(2)],
        "pixel_unshuffle": [nn.PixelUnshuffle(3)],
        "channel_shuffle": [nn.ChannelShuffle(2)],
        "layer_norm": [nn.LayerNorm((4, 6, 6))],
        "layer_norm_rows": [nn.LayerNorm((6,))],
        "layer_norm2d": [nn.LayerNorm2d(4)],
        "group_norm": [nn.GroupNorm(2, 4)],
        "instance_norm": [nn.InstanceNorm2d(4, affine=True)],
        "rms_norm": [nn.RMSNorm((6, 6))],
        "narrow": [nn.Conv2d(4, 6, 1, seed=3), nn.Narrow(1, 4)],
        "response": [nn.LocalResponseNorm(3, alpha=0.4, beta=0.6, k=1.5)],
        "response_even": [nn.LocalResponseNorm(2)],
        "softmax": [nn.Softmax(1)],
        "log_softmax": [nn.LogSoftmax(1)],
        # The windows of the last ones extend beyond the padding, or have gaps.
        "max_pool_dilated": [nn.MaxPool2d((2, 3), stride=(2, 1), padding=1, dilation=(3, 2))],
        "max_pool_ceil": [nn.MaxPool2d(3, stride=2, padding=(1, 0), ceil_mode=True)],
        "max_pool_dilated_ceil": [nn.MaxPool2d(2, stride=3, dilation=2, ceil_mode=True)],
        "avg_pool_ceil": [nn.AvgPool2d((4, 3), stride=(3, 2), padding=(1, 0), ceil_mode=True)],
        "avg_pool_ceil_inside": [
            nn.AvgPool2d(4, stride=3, padding=1, ceil_mode=True, count_include_pad=False)
        ],
    }
    found = {}
    for index, (name, chosen) in enumerate(layers.items()):
        body = [nn.Conv2d(3, 4, 1, seed=9), *chosen, nn.Flatten()]
        size = int(np.prod(nn.Sequential(*body).output_shape(shape)))
        found[name] = nn.Sequential(*body, nn.Linear(size, 4, seed=1), input_shape=shape)
        randomise(found[name], index)
    return found


#: Operations without integer arithmetic: powers and logarithms across channels.
FLOAT_ONLY = ("log_softmax", "response", "response_even")


def with_integers(models: dict[str, nn.Model]) -> dict[str, nn.Model]:
    """Networks that can be computed in integers."""
    return {name: model for name, model in models.items() if name not in FLOAT_ONLY}


def sequence_networks() -> dict[str, nn.Model]:
    """Sequences: one-dimensional layers."""
    found: dict[str, nn.Model] = {
        "sequence": nn.Sequential(
            nn.Conv1d(2, 6, 5, stride=2, padding=2, seed=0),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(6, 6, 3, groups=3, dilation=2, bias=False, seed=1),
            nn.Sigmoid(),
            nn.AvgPool1d(2),
            nn.GlobalAvgPool1d(),
            nn.Flatten(),
            nn.Linear(6, 3, seed=2),
            input_shape=(2, 40),
        ),
        "sequence_back": nn.Sequential(
            nn.Linear(5, 12, seed=0),
            nn.Unflatten(1, (3, 4)),
            nn.ConvTranspose1d(3, 2, 4, stride=2, seed=1),
            nn.Flatten(),
            nn.Linear(20, 3, seed=2),
            input_shape=(5,),
        ),
    }
    for index, model in enumerate(found.values()):
        randomise(model, index)
    return found


def joined(shape: tuple[int, ...]) -> nn.Model:
    """Branches that are joined in every way."""
    x = nn.Input(shape)
    left, right = (nn.Conv2d(3, 4, 3, padding=1, seed=seed)(x) for seed in (0, 1))
    gate = nn.Sigmoid()(nn.Conv2d(4, 4, 1, seed=2)(nn.GlobalAvgPool2d()(right)))
    pixels = nn.Conv2d(4, 1, 1, seed=3)(left)
    y = nn.Concat()(left, gate * (left - right), pixels * right, left * right)
    flat = nn.Flatten()(nn.MaxPool2d(2)(y))
    return nn.Model(x, nn.Linear(148, 4, seed=4)(nn.Concat()(flat, nn.Flatten()(gate))))


def randomise(model: nn.Model, seed: int) -> None:
    """Set statistics and biases other than 0 and 1, and a preprocessing for each channel."""
    generator = np.random.default_rng(seed)
    for key, value in model.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            value[...] = generator.normal(size=value.shape) / 4
        elif key.endswith("running_var"):
            value[...] = generator.uniform(0.5, 2, value.shape)
    assert model.input_shape is not None
    if seed % 3:
        channels = model.input_shape[0]
        mean, std = generator.uniform(0.2, 0.6, (2, channels))
        model.preprocessing = Preprocessing(tuple(mean), tuple(std))


def written(
    folder: Path, models: dict[str, nn.Model], integers: bool = False
) -> tuple[Path, dict[str, CExport]]:
    """All networks in one C file: they must not interfere."""
    lines, made = [], {}
    for name, model in models.items():
        calibration = samples_for(model, np.uint8, 1) if integers else None
        made[name] = export_c(
            model, folder / f"{name}.h", name=f"n_{name}", calibration=calibration
        )
        lines.append(f'#include "{name}.h"')
    lines += [
        f"int f_{name}(const float *x, float *y);\n"
        f"int f_{name}(const float *x, float *y) {{ return n_{name}_predict(x, y); }}\n"
        f"int b_{name}(const uint8_t *x, float *y);\n"
        f"int b_{name}(const uint8_t *x, float *y) {{ return n_{name}_predict_bytes(x, y); }}"
        for name in models
    ]
    source = folder / "all.c"
    source.write_text("\n".join(lines))
    return source, made


def library(source: Path, *flags: str) -> Any:
    """A C file compiled to a library and loaded."""
    target = source.with_suffix(".so")
    command = ["gcc", *STRICT, *flags, "-shared", "-fPIC", "-o", target, source, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    return ctypes.CDLL(str(target))


def samples_for(model: nn.Model, dtype: Any, seed: int) -> np.ndarray:
    assert model.input_shape is not None
    shape, generator = (SAMPLES, *model.input_shape), np.random.default_rng(seed)
    if dtype == np.uint8:
        return generator.integers(0, 256, shape, np.uint8)
    return generator.random(shape, np.float32)


def call(
    function: "ctypes._FuncPointer", sample: np.ndarray, outputs: int
) -> tuple[int, np.ndarray]:
    made = np.full(outputs, np.nan, np.float32)
    sample = np.ascontiguousarray(sample)
    best = function(sample.ctypes.data_as(ctypes.c_void_p), made.ctypes.data_as(ctypes.c_void_p))
    return best, made


@needs_gcc
def test_it_computes_what_the_model_predicts(tmp_path: Path) -> None:
    models = networks() | sample_networks() | sequence_networks()
    source, _ = written(tmp_path, models)
    functions = library(source, "-O1")
    for name, model in models.items():
        for kind, dtype in (("f", np.float32), ("b", np.uint8)):
            function, samples = functions[f"{kind}_{name}"], samples_for(model, dtype, 0)
            expected = model.predict_proba(samples)
            for sample, want in zip(samples, expected, strict=True):
                best, got = call(function, sample, len(want))
                np.testing.assert_allclose(got, want, atol=1e-5, err_msg=name)
                assert got[best] == got.max()


def odd(x: Any, a: float = 0.5) -> Any:
    either = np.where((x > -1.0) & ~(x == 0.25) | (x != x), x**3, np.clip(x, -3.0, 2.0))
    drop = np.exp(-abs(x)) * ~(x <= a) + np.float64(0.5) * x / (1.0 + x**-2)
    return either + drop + np.square(x) * np.sign(x) + np.minimum(x, 1.5) + kernel.sigmoid(x)


def odd_slope(x: Any, a: float = 0.5) -> Any:
    inside = np.where((x > -3.0) & (x < 2.0), 1.0, 0.0)
    either, square = np.where((x > -1.0) & ~(x == 0.25), 3.0 * x**2, inside), x * x
    drop = -np.sign(x) * np.exp(-abs(x)) * (x > a)
    drop = drop + 0.5 * (square * square + 3.0 * square) / (1.0 + square) ** 2
    s = kernel.sigmoid(x)
    return either + drop + 2.0 * np.abs(x) + (x < 1.5) * 1.0 + s * (1.0 - s)


@needs_gcc
@pytest.mark.usefixtures("own_kernels")
def test_own_activations_may_use_all_that_formulas_may(tmp_path: Path) -> None:
    own = kernel.activation("Odd", odd, odd_slope)
    model = nn.Sequential(nn.Linear(4, 5, seed=0), own(0.3), input_shape=(4,))
    source, _ = written(tmp_path, {"own": model})
    functions = library(source, "-O1")
    samples = 3.0 * samples_for(model, np.float32, 0) - 1.5
    expected = model.predict_proba(samples)
    for sample, want in zip(samples, expected, strict=True):
        np.testing.assert_allclose(call(functions.f_own, sample, 5)[1], want, atol=1e-5)
    names: dict[str, Any] = {}
    export_numpy(model, tmp_path / "own.py")
    exec((tmp_path / "own.py").read_text(), names)
    found = names["predict"](samples)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    for value, slope, message in (
        (lambda x: np.sin(x), lambda x: np.cos(x), "'0' .*: files for export have no sin of numpy"),
        (lambda x: np.max((x, 0 * x), axis=0), lambda x: 1.0 * (x > 0), "use where, minimum or"),
        (lambda x: (x * x) ** 1.5, lambda x: 3.0 * x * abs(x), "'float' object cannot be"),
    ):
        other = kernel.activation("Other", value, slope)
        with pytest.raises(ConfigurationError, match=message):
            export_c(nn.Sequential(other(), input_shape=(4,)), tmp_path / "other.h")


@needs_gcc
def test_integers_compute_what_numpy_does(tmp_path: Path) -> None:
    """Bit for bit, except the last softmax; and close to the model's predictions."""
    models = networks() | sequence_networks() | with_integers(sample_networks())
    source, made = written(tmp_path, models, integers=True)
    functions = library(source, "-O1")
    for name, model in models.items():
        integers = made[name].integers
        assert integers is not None
        for kind, dtype in (("f", np.float32), ("b", np.uint8)):
            function, samples = functions[f"{kind}_{name}"], samples_for(model, dtype, 0)
            logits = integers.outputs(samples)
            expected = softmax(logits)
            for sample, logit, want in zip(samples, logits, expected, strict=True):
                best, got = call(function, sample, len(want))
                assert best == logit.argmax(), name
                np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-7, err_msg=name)
            spread = np.abs(model.logits(samples)).max()
            assert np.abs(model.logits(samples) - logits).max() < 0.1 * spread, name


@needs_gcc
def test_integer_outputs_are_numpys_bit_for_bit(tmp_path: Path) -> None:
    model = fastcnn.models.lenet5(seed=0)
    calibration = samples_for(model, np.uint8, 1)
    path = tmp_path / "net.h"
    integers = export_c(model, path, is_classifier=False, calibration=calibration).integers
    assert integers is not None
    function = library_of(tmp_path).f
    samples = samples_for(model, np.float32, 2) * 4 - 1.5  # outside of the range of calibration
    for sample, want in zip(samples, integers.outputs(samples), strict=True):
        np.testing.assert_array_equal(call(function, sample, 10)[1], want)


def test_calibration_in_other_units_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2, seed=0), input_shape=(1, 3, 3))
    model.preprocessing = Preprocessing(trained_on="float", bounds=(-200.0, 200.0))
    with pytest.raises(DataError, match=r"calibration: got bytes \(uint8\), but the model was"):
        export_c(model, tmp_path / "net.h", calibration=np.zeros((4, 1, 3, 3), np.uint8))
    assert not (tmp_path / "net.h").exists()


def ending_in_softmax() -> nn.Model:
    layers = (nn.Flatten(), nn.Linear(CASE_CHANNELS * 42, 4, seed=1), nn.Softmax(1))
    return nn.Sequential(*layers, input_shape=(CASE_CHANNELS, 7, 6))


@needs_gcc
@pytest.mark.parametrize("integers", [False, True])
def test_a_network_that_ends_in_a_softmax_has_one(integers: bool, tmp_path: Path) -> None:
    model = ending_in_softmax()
    samples = samples_for(model, np.uint8, 0)
    made = export_c(model, tmp_path / "net.h", calibration=samples if integers else None)
    function = library_of(tmp_path).f
    samples = samples_for(model, np.float32, 0)
    expected = model.predict_proba(samples)
    if made.integers is not None:
        expected = made.integers.outputs(samples)
    for sample, want in zip(samples, expected, strict=True):
        best, got = call(function, sample, 4)
        np.testing.assert_allclose(got, want, atol=1e-6)
        assert best == got.argmax()


def softmax(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def library_of(folder: Path) -> Any:
    """``net.h`` in a library with a function ``f``."""
    (folder / "net.c").write_text(
        '#include "net.h"\nint f(const float *x, float *y);\n'
        "int f(const float *x, float *y) { return net_predict(x, y); }"
    )
    return library(folder / "net.c")


@needs_gcc
@pytest.mark.parametrize("integers", [False, True])
def test_it_stays_inside_its_memory(tmp_path: Path, integers: bool) -> None:
    """Compiled with sanitizers into a program that predicts a sample with every network."""
    models = networks() | sample_networks()
    if integers:
        models = with_integers(models)
    written(tmp_path, models, integers)
    calls = "\n".join(
        f"    {{ static const float x[N_{name.upper()}_INPUT_SIZE] = {{0.5f}};\n"
        f"      float *y = malloc(sizeof(float) * N_{name.upper()}_OUTPUT_SIZE);\n"
        f"      f_{name}(x, y); free(y); }}"
        for name in models
    )
    (tmp_path / "main.c").write_text(
        f'#include <stdlib.h>\n#include "all.c"\nint main(void) {{\n{calls}\n    return 0;\n}}\n'
    )
    command = ["gcc", *STRICT, *SANITIZED, "-o", tmp_path / "main", tmp_path / "main.c", "-lm"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find" in built.stderr:
        pytest.skip("the compiler's sanitizers are not installed")
    assert built.returncode == 0, built.stderr[:3000]
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


def test_memory_is_near_the_largest_pair_of_layers(tmp_path: Path) -> None:
    model = fastcnn.models.report_cnn(seed=0)
    made = export_c(model, tmp_path / "net.h")
    # The image and the first map, which is rectified in place.
    assert made.ram == 4 * (28 * 28 + 4 * 28 * 28)
    # Including the code of five layers' loops.
    assert 0 < made.flash - 4 * model.num_parameters < 300
    assert made.name == "net"
    assert "Working memory: 15,680 bytes" in made.path.read_text()


@needs_gcc
def test_outputs_as_they_are(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3, seed=0), input_shape=(4,))
    export_c(model, tmp_path / "net.h", is_classifier=False)
    x = np.arange(4, dtype=np.float32)
    best, got = call(library_of(tmp_path).f, x, 3)
    assert best == 0
    np.testing.assert_allclose(got, model.logits(x[None])[0], rtol=1e-6)


@needs_gcc
def test_names_of_classes(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3, seed=0), input_shape=(4,))
    labels = ['say "hi"\\', "naïve\n", "??="]
    export_c(model, tmp_path / "net.h", classes=labels)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) {\n'
        '    for (int i = 0; i < 3; i++) printf("%s|", net_class(i));\n    return 0;\n}\n'
    )
    program = tmp_path / "main"
    subprocess.run(["gcc", *STRICT, "-o", program, tmp_path / "main.c", "-lm"], check=True)
    printed = subprocess.run([program], capture_output=True, check=True).stdout
    assert printed.decode() == "|".join([*labels, ""])


@pytest.mark.parametrize(
    ("file", "name"), [("日本", "net___"), ("1a", "net_1a"), ("int", "net_int"), ("a b", "a_b")]
)
def test_any_file_name_gives_an_identifier(tmp_path: Path, file: str, name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, seed=0), input_shape=(1, 2, 2))
    export_c(model, tmp_path / f"{file}.h")
    assert f"{name}_predict(" in (tmp_path / f"{file}.h").read_text(encoding="utf-8")


def test_what_is_refused(tmp_path: Path) -> None:
    linear = nn.Sequential(nn.Linear(4, 3, seed=0), input_shape=(4,))
    for name in ("2net", "a-b", "int", ""):
        with pytest.raises(ConfigurationError, match="name must be a C identifier"):
            export_c(linear, tmp_path / "net.h", name=name)
    with pytest.raises(ConfigurationError, match="the network has 3 outputs, got 2 names"):
        export_c(linear, tmp_path / "net.h", classes=["a", "b"])
    batch = nn.BatchNorm2d(2, track_running_stats=False)
    alone = nn.Sequential(batch, nn.Flatten(), input_shape=(2, 3, 3))
    with pytest.raises(ConfigurationError, match="layer '0' needs the statistics of a batch"):
        export_c(alone, tmp_path / "net.h")
    assert not (tmp_path / "net.h").exists()
    assert export_c(linear, tmp_path / "9 lives.h").name == "net_9_lives"


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Softmax(2), "softmax with dim=2"),
        (nn.AvgPool2d(2, divisor_override=3), "avg_pool2d with divisor_override=3"),
    ],
)
def test_what_has_no_loops_is_refused_by_name(layer: nn.Layer, words: str, tmp_path: Path) -> None:
    model = nn.Sequential({"odd": layer}, input_shape=(4, 6, 6))
    for export, name in ((export_c, "a.h"), (export_numpy, "a.py")):
        with pytest.raises(ConfigurationError, match=rf"layer 'odd': .*{re.escape(words)}"):
            export(model, tmp_path / name)
    with pytest.raises(ConfigurationError, match=r"layer 'odd': .*"):
        export_c(model, tmp_path / "b.h", calibration=np.zeros((2, 4, 6, 6), np.float32))


def test_what_has_no_integers_is_refused_by_name(tmp_path: Path) -> None:
    for name in FLOAT_ONLY:
        model = sample_networks()[name]
        with pytest.raises(ConfigurationError, match=r"layer '1': \w+ has no integer form: .+"):
            export_c(model, tmp_path / "a.h", calibration=samples_for(model, np.uint8, 1))


def test_channels_of_which_only_the_bias_is_left_keep_it(tmp_path: Path) -> None:
    """Weight decay shrinks a channel's weights to zero; its bias keeps its size."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, seed=0),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, seed=1),
        nn.Flatten(),
        nn.Linear(144, 3, seed=2),
        input_shape=(3, 10, 10),
    )
    state = model.state_dict()
    for name, channel, bias in (("0", 1, 0.5), ("2", 2, -0.7)):
        state[f"{name}.weight"][channel] *= 1e-15
        state[f"{name}.bias"][channel] = bias
    samples = samples_for(model, np.float32, 0)
    integers = export_c(model, tmp_path / "a.h", calibration=samples).integers
    assert integers is not None
    wanted = model.logits(samples)
    assert np.abs(integers.outputs(samples) - wanted).max() < 0.03 * np.abs(wanted).max()


def test_sums_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(
        {"flat": nn.Flatten(), "wide": nn.Linear(80_000, 2)}, input_shape=(2, 200, 200)
    )
    model.state_dict()["wide.weight"][...] = 0.01
    samples = np.ones((2, 2, 200, 200), np.float32)
    with pytest.raises(ConfigurationError, match=r"layer 'wide': its sums of 80,000 products"):
        export_c(model, tmp_path / "a.h", calibration=samples)


def test_a_few_far_values_do_not_make_all_coarse(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    samples = generator.standard_normal((1000, 1, 10, 10)).astype(np.float32)
    samples[0, 0, 0, 0] = 40.0
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1, seed=0),
        nn.Conv2d(4, 4, 1, seed=1),
        nn.Flatten(),
        nn.Linear(400, 3, seed=2),
        input_shape=(1, 10, 10),
    )
    integers = export_c(model, tmp_path / "a.h", calibration=samples).integers
    assert integers is not None
    first = integers.steps[0]
    assert first is not None
    values = nn.Sequential(*model.layers.values()).features(samples, "0")
    whole = (max(values.max(), 0.0) - min(values.min(), 0.0)) / 255
    assert first.scale.scale < 0.8 * whole


@needs_gcc
def test_the_networks_of_mlperf_tiny_are_exported(tmp_path: Path) -> None:
    """Keyword spotting (DS-CNN) and image classification (ResNet), with all of gcc's checks."""

    def separable(index: int) -> list[nn.Layer]:
        return [
            nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False, seed=2 * index),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 1, bias=False, seed=2 * index + 1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        ]

    ds_cnn = nn.Sequential(
        nn.Conv2d(1, 64, (10, 4), stride=2, padding=(4, 1), bias=False, seed=9),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        *(layer for index in range(4) for layer in separable(index)),
        nn.GlobalAvgPool2d(),
        nn.Flatten(),
        nn.Linear(64, 12, seed=10),
        input_shape=(1, 49, 10),
    )
    models = {
        "ds_cnn": ds_cnn,
        "resnet8": fastcnn.models.resnet8(seed=0),
        "lenet5": fastcnn.models.lenet5(seed=0),
    }
    for index, model in enumerate(models.values()):
        randomise(model, index)
    source, made = written(tmp_path, models)
    functions = library(source, "-O2")
    for name, model in models.items():
        samples = samples_for(model, np.float32, 0)
        for sample, want in zip(samples, model.predict_proba(samples), strict=True):
            _, got = call(functions[f"f_{name}"], sample, len(want))
            np.testing.assert_allclose(got, want, atol=1e-5, err_msg=name)
    assert made["ds_cnn"].flash < 4 * 26_000


@pytest.mark.mnist
def test_integers_are_as_good_on_real_digits(mnist: None, tmp_path: Path) -> None:
    train, test = fastcnn.data.load("mnist")
    model = fastcnn.models.lenet5(seed=0)
    fastcnn.fit(model, train, epochs=2, verbose=False)
    made = export_c(model, tmp_path / "l.h", calibration=train.images[:500])
    assert made.integers is not None
    images, labels = test.images[:2000], test.labels[:2000]
    whole = np.mean(made.integers.outputs(images).argmax(1) == labels)
    assert whole >= np.mean(model.predict(images) == labels) - 0.005
