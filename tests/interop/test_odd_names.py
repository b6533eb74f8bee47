"""Layer names with a meaning in the formats to which networks are exported."""

import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastcnn.data.preprocessing import Preprocessing
from fastcnn.errors import ConfigurationError
from fastcnn.interop import export_onnx, import_onnx
from fastcnn.interop.c import export_c
from fastcnn.interop.html_page import export_html
from fastcnn.interop.numpy_source import export_numpy
from fastcnn.layers import Conv2d, Flatten, Input, Linear, Model, ReLU, Sequential
from tests.interop.test_interop import run

NAMES = [
    ("a b", "relu", "a_b"),  # one identifier in C
    ("images", "logits", "v1"),
    ("preprocessing/Sub", "preprocessing/Div", "preprocessing/mean"),
    ("a", "a/out", "a.weight".replace(".", "/")),
    ("a*/int x;/*", "</script>", "b\\"),
    ('"];boom();W["', "'''", '"""'),
    ("line\nbreak()", "tab\t", "\u2028\u202e"),
    ("Ünïcode ☃", "名前", "ж"),
]


def network(names: tuple[str, str, str]) -> Sequential:
    first, second, third = names
    model = Sequential(
        {
            first: Conv2d(3, 4, 3, seed=0),
            second: ReLU(),
            third: Conv2d(4, 2, 3, seed=1),
            "flat": Flatten(),
            "last": Linear(32, 3, seed=2),
        },
        input_shape=(3, 8, 8),
    )
    model.preprocessing = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "uint8")
    return model


SAMPLES = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), np.uint8)


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_onnx_and_back(names: tuple[str, str, str], tmp_path: Path) -> None:
    model = network(names)
    export_onnx(model, tmp_path / "m.onnx")
    expected = model.logits(SAMPLES)
    found = run(tmp_path / "m.onnx", (SAMPLES / 255.0).astype(np.float32))
    assert found == pytest.approx(expected, abs=1e-5)
    back = import_onnx(tmp_path / "m.onnx")
    assert back.preprocessing == model.preprocessing
    assert (back.logits(SAMPLES) == expected).all()


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_numpy_file(names: tuple[str, str, str], tmp_path: Path) -> None:
    model = network(names)
    text = export_numpy(model, tmp_path / "net.py").read_text(encoding="utf-8")
    module = ModuleType("net")
    exec(compile(text, "net.py", "exec"), module.__dict__)
    assert module.predict(SAMPLES) == pytest.approx(model.predict_proba(SAMPLES), abs=1e-5)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("is_integer", [False, True])
def test_c_files(is_integer: bool, tmp_path: Path) -> None:
    """Of all names in one program, which prints each network's output for one sample."""
    rows, expected = [], []
    for place, names in enumerate(NAMES):
        model = network(names)
        calibration = SAMPLES if is_integer else None
        made = export_c(model, tmp_path / f"n{place}.h", calibration=calibration)
        logits = model.logits(SAMPLES[:1])
        if made.integers is not None:
            logits = made.integers.outputs(SAMPLES[:1])
        shares = np.exp(logits - logits.max())
        expected.append((shares / shares.sum()).ravel())
        rows.append(f"n{place}_predict_bytes(x, y); "
                    'printf("%.9g %.9g %.9g\\n", y[0], y[1], y[2]);')  # fmt: skip
    pixels = ", ".join(map(str, SAMPLES[0].ravel()))
    includes = "\n".join(f'#include "n{place}.h"' for place in range(len(NAMES)))
    source = (
        f"#include <stdio.h>\n{includes}\nint main(void) {{ float y[3];\n"
        f"static const uint8_t x[] = {{{pixels}}};\n{chr(10).join(rows)}\nreturn 0; }}\n"
    )
    (tmp_path / "main.c").write_text(source)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-unused-function"]
    command = ["gcc", *flags, "main.c", "-lm", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    found = np.array([line.split() for line in printed.stdout.splitlines()], float)
    assert found == pytest.approx(np.array(expected), abs=1e-5)


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_a_page_has_three_scripts(names: tuple[str, str, str], tmp_path: Path) -> None:
    from fastcnn.data.pictures import Pictures

    model = network(names)
    rule = Pictures((3, 8, 8), "stretch")
    pixels = model.preprocessing
    model.preprocessing = Preprocessing(pixels.mean, pixels.std, pictures=rule)
    text = export_html(model, tmp_path / "net.html").read_text(encoding="utf-8")
    assert text.count("</script>") == text.count("<script") == 3


def test_an_input_and_an_output_of_one_name(tmp_path: Path) -> None:
    left, right = Input((2,), "left"), Input((2,), "right")
    model = Model((left, right), {"left": Linear(2, 3)(left), "sum": left + right})
    with pytest.raises(ConfigurationError, match="'left' is an input and an output"):
        export_onnx(model, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
