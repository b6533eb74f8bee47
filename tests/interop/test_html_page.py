"""A network's page: it computes the model's predictions, and loads nothing else."""

import base64
import importlib.util
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn.data import Pictures, Preprocessing, digits_dataset
from fastcnn.data.images import read_picture
from fastcnn.errors import ConfigurationError, DataError, NonFiniteError
from fastcnn.interop.html_page import export_html
from fastcnn.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    Model,
    Sequential,
    Sigmoid,
)
from tests.browser import CHROMIUM, Browser
from tests.interop.test_c_export import ending_in_softmax, networks, sample_networks, samples_for

SAMPLES = 10
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None or importlib.util.find_spec("websockets") is None:
        pytest.skip("Chromium or websockets is not installed")
    made = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield made
    made.close()


@pytest.fixture(scope="module")
def digits() -> tuple[Model, tuple[str, ...]]:
    train, _ = digits_dataset(1500, 1, classes=(0, 1, 2))
    model = fastcnn.models.report_cnn(seed=0)
    fastcnn.fit(model, train, epochs=3)
    return model, train.classes


def for_pictures() -> dict[str, Model]:
    """Every kind of layer, with a rule for pictures."""
    found = networks() | sample_networks() | {"ends_in_softmax": ending_in_softmax()}
    for model in found.values():
        assert model.input_shape is not None
        rule = Pictures(tuple(model.input_shape), "stretch")
        model.preprocessing = replace(model.preprocessing, pictures=rule)
    return found


def run_in_node(asked: Sequence[tuple[Path, str]]) -> list[Any]:
    """The values of expressions, each evaluated in a page's script."""
    texts = []
    for path, expression in asked:
        scripts = re.findall(r"<script[^>]*>(.*?)</script>", path.read_text(), re.DOTALL)
        assert len(scripts) == 3
        weights, network, _ = scripts
        texts.append(
            f"{{ {network}\nconst network = makeNetwork(decodeWeights({json.dumps(weights)}));\n"
            f"console.log(JSON.stringify({expression})); }}"
        )
    text, command = "\n".join(texts), ["node", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def predictions(samples: np.ndarray) -> str:
    rows = samples.reshape(len(samples), -1).tolist()
    return f"{rows}.map((row) => predict(network, Uint8Array.from(row)))"


@needs_node
def test_it_computes_what_the_model_predicts(tmp_path: Path) -> None:
    asked, expected = [], {}
    for name, model in for_pictures().items():
        samples = samples_for(model, np.uint8, 0)[:SAMPLES]
        asked.append((export_html(model, tmp_path / f"{name}.html"), predictions(samples)))
        expected[name] = model.predict_proba(samples, backend="im2col")
    for got, (name, want) in zip(run_in_node(asked), expected.items(), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5, err_msg=name)


def test_a_browser_computes_what_the_model_predicts(browser: Browser, tmp_path: Path) -> None:
    for name, model in for_pictures().items():
        path = export_html(model, tmp_path / f"{name}.html")
        open_page(browser, path)
        samples = samples_for(model, np.uint8, 0)[:SAMPLES]
        got = json.loads(browser.evaluate(f"JSON.stringify({predictions(samples)})"))
        expected = model.predict_proba(samples, backend="im2col")
        np.testing.assert_allclose(got, expected, atol=1e-5, err_msg=name)
        assert browser.problems() == []


RULES = {
    "ink_on_dark": Pictures((1, 28, 28), "ink", "dark", True, 0.71),
    "ink_on_bright": Pictures((1, 20, 28), "ink", "bright", True, 0.9),
    "crop": Pictures((1, 24, 32), "crop"),
    "stretch": Pictures((1, 28, 20), "stretch", "dark"),
    "colour_crop": Pictures((3, 32, 24), "crop", "dark", True),
    "colour_stretch": Pictures((3, 16, 16), "stretch"),
}
#: Small, of the network's size, wide, and so large that they are downscaled first.
SIZES = ((5, 9), (28, 28), (60, 200), (400, 300), (130, 2300))


def picture(kind: str, size: tuple[int, int], seed: int) -> np.ndarray:
    """Pixels (H, W, 3): noise, or a few strokes on bright or dark paper."""
    generator, (height, width) = np.random.default_rng(seed), size
    if kind == "noise":
        return generator.integers(0, 256, (height, width, 3), np.uint8)
    made = np.full((height, width, 3), 250 if kind == "bright" else 3, np.uint8)
    for _ in range(3):
        top, left = (int(generator.integers(0, side - side // 3)) for side in size)
        colour = generator.integers(0, 256, 3)
        made[top : top + height // 3, left : left + max(1, width // 9)] = colour
    return made


def model_for(rule: Pictures) -> Model:
    model = Sequential(
        GlobalAvgPool2d(), Flatten(), Linear(rule.shape[0], 2, seed=0), input_shape=rule.shape
    )
    model.preprocessing = Preprocessing(pictures=rule)
    return model


@needs_node
@pytest.mark.parametrize("name", RULES)
def test_pixels_become_the_same_sample(name: str, tmp_path: Path) -> None:
    """Bit for bit the samples of fastcnn predict, described in the same words."""
    rule = RULES[name]
    kinds = [(kind, size) for kind in ("noise", "bright", "dark") for size in SIZES]
    pictures = [picture(kind, size, index) for index, (kind, size) in enumerate(kinds)]
    calls = []
    for pixels in pictures:
        opaque = np.dstack((pixels, np.full(pixels.shape[:2], 255, np.uint8)))
        text = base64.b64encode(opaque.tobytes()).decode()
        height, width = pixels.shape[:2]
        calls.append(f'of(Buffer.from("{text}", "base64"), {width}, {height})')
    path = export_html(model_for(rule), tmp_path / "net.html")
    code = "((of) => [" + ", ".join(calls) + "])((...given) => {"
    code += "const { sample, done } = sampleOf(...given); return [Array.from(sample), done]; })"
    (found,) = run_in_node([(path, code)])
    for (kind, size), pixels, (sample, done) in zip(kinds, pictures, found, strict=True):
        want = read_picture(png(pixels), rule)
        got = np.array(sample, np.uint8).reshape(rule.shape)
        np.testing.assert_array_equal(got, want.pixels, err_msg=f"{kind} {size}")
        assert tuple(done) == want.done


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# -- in a browser ------------------------------------------------------------------------------


def open_page(browser: Browser, path: Path) -> None:
    browser.events.clear()
    browser.call("Page.navigate", url=path.as_uri())
    ready = "document.readyState === 'complete' && typeof network === 'object'"
    browser.wait_for(f"location.href === {json.dumps(path.as_uri())} && {ready}")


def test_drawing(browser: Browser, digits: Any, tmp_path: Path) -> None:
    model, classes = digits
    path = export_html(model, tmp_path / "digit.html", classes=classes)
    open_page(browser, path)
    assert browser.evaluate("document.title") == "Draw a digit"
    box = json.loads(browser.evaluate("JSON.stringify(paper.getBoundingClientRect())"))
    across, down = box["left"] + box["width"] / 2, box["top"] + box["height"] / 6
    browser.mouse("mousePressed", across, down)
    for step in range(1, 21):
        browser.mouse("mouseMoved", across, down + step * box["height"] / 30)
    browser.mouse("mouseReleased", across, down + 20 * box["height"] / 30)
    browser.wait_for_answer("It is 1")
    assert browser.evaluate("document.querySelector('.best span').textContent") == "1"
    assert browser.evaluate("document.querySelectorAll('#layers canvas').length") > 20
    lit = "shown[0].canvases[0].getContext('2d').getImageData(0, 0, 28, 28).data"
    assert browser.evaluate(f"new Set({lit}).size") > 5
    browser.check_widths(tmp_path)
    browser.evaluate("document.getElementById('clear').click()")
    browser.wait_for_answer("Nothing drawn yet")
    assert browser.evaluate("document.getElementById('layers').hidden")
    assert browser.problems() == []
    assert set(browser.requests()) <= {path.as_uri(), "data:,"}


def press(browser: Browser, key: str, times: int = 1) -> None:
    for _ in range(times):
        text = {"text": key} if key == " " else {}
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        browser.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def test_drawing_by_keyboard(browser: Browser, digits: Any, tmp_path: Path) -> None:
    model, classes = digits
    open_page(browser, export_html(model, tmp_path / "digit.html", classes=classes))
    press_tab = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **press_tab)
    browser.wait_for("document.activeElement === paper")
    press(browser, "ArrowUp", 8)
    assert browser.evaluate("document.getElementById('answer').textContent") == "Nothing drawn yet"
    press(browser, " ")
    press(browser, "ArrowDown", 16)
    browser.wait_for_answer("It is 1")
    assert browser.evaluate("document.getElementById('pen').textContent") == "Pen down"
    assert not browser.evaluate("document.getElementById('cursor').hidden")
    press(browser, "Delete")
    browser.wait_for_answer("Nothing drawn yet")
    assert browser.problems() == []


def seen(browser: Browser, shape: tuple[int, int, int]) -> np.ndarray:
    """The network's input, as displayed on the page."""
    channels, height, width = shape
    numbers = browser.evaluate(
        "Array.from(document.getElementById('seen').getContext('2d')"
        f".getImageData(0, 0, {width}, {height}).data)"
    )
    return np.array(numbers, np.uint8).reshape(height, width, 4)[..., :channels].transpose(2, 0, 1)


def test_dropping_pasting_and_choosing(browser: Browser, digits: Any, tmp_path: Path) -> None:
    model, classes = digits
    open_page(browser, export_html(model, tmp_path / "digit.html", classes=classes))
    _, test = digits_dataset(10, 60, classes=(0, 1, 2))
    drawn = [test.images[int(np.nonzero(test.labels == label)[0][0]), 0] for label in range(3)]
    files = [png(255 - np.kron(image, np.ones((9, 8), np.uint8))) for image in drawn]
    rule = model.preprocessing.rule_for_pictures(model.input_shape)
    browser.give(files[0])
    browser.wait_for_answer("It is 0")
    np.testing.assert_array_equal(seen(browser, rule.shape), read_picture(files[0], rule).pixels)
    browser.give(b"no picture at all")
    browser.wait_for_answer("That is not a picture that this browser can read")
    browser.give(files[2], paste=True)
    browser.wait_for_answer("It is 2")
    (tmp_path / "one.png").write_bytes(files[1])
    browser.choose(tmp_path / "one.png")
    browser.wait_for_answer("It is 1")
    assert browser.problems() == []


def test_coloured_pictures_and_upright_ones(browser: Browser, tmp_path: Path) -> None:
    rule = Pictures((3, 32, 24), "crop")
    path = export_html(model_for(rule), tmp_path / "net.html", classes=("a", "</script>"))
    open_page(browser, path)
    assert not browser.evaluate("document.getElementById('colour').hidden")
    names = "[...document.querySelectorAll('#bars li span:first-child')].map((n) => n.textContent)"
    assert browser.evaluate(names) == ["a", "</script>"]
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turned
    image = Image.fromarray(picture("noise", (50, 80), 0))
    image.save(buffer, "PNG", exif=exif)
    browser.give(buffer.getvalue())
    browser.wait_for("!document.getElementById('layers').hidden")
    want = read_picture(buffer.getvalue(), rule)
    np.testing.assert_array_equal(seen(browser, rule.shape), want.pixels)
    assert browser.problems() == []


def test_the_browsers_decoder_is_near_to_ours(browser: Browser, tmp_path: Path) -> None:
    """Half-transparent and 16-bit pictures differ by a level or two, JPEG files by a few."""
    rule = Pictures((3, 16, 24), "stretch")
    y, x = np.mgrid[:16, :24]
    smooth = np.dstack((10 * x, 15 * y, 128 + 4 * x + 2 * y)).astype(np.uint8)
    alpha = np.dstack((smooth, (255 - 9 * x).astype(np.uint8)))
    deep = (smooth[..., 0].astype(np.uint16) * 257) + 20
    jpeg = io.BytesIO()
    Image.fromarray(smooth).save(jpeg, "JPEG", quality=90)
    open_page(browser, export_html(model_for(rule), tmp_path / "net.html"))
    for content, most in ((png(alpha), 2), (png(deep), 1), (jpeg.getvalue(), 8)):
        browser.give(content)
        browser.wait_for("!document.getElementById('layers').hidden")
        distance = seen(browser, rule.shape) - read_picture(content, rule).pixels.astype(int)
        assert np.abs(distance).max() <= most
        browser.evaluate("clearAll()")
    assert browser.problems() == []


def test_networks_that_give_values_or_pictures(browser: Browser, tmp_path: Path) -> None:
    rule = Preprocessing(pictures=Pictures((1, 8, 8), "stretch"))
    value = Sequential(Flatten(), Linear(64, 1, seed=0), input_shape=(1, 8, 8))
    coder = Sequential(Conv2d(1, 1, 3, padding=1, seed=0), Sigmoid(), input_shape=(1, 8, 8))
    for name, model in (("value", value), ("coder", coder)):
        model.preprocessing = rule
        pixels = picture("noise", (8, 8), 1)[..., 0]
        wanted = model.logits(pixels[None, None])
        open_page(browser, export_html(model, tmp_path / f"{name}.html"))
        browser.give(png(pixels))
        browser.wait_for("!document.getElementById('layers').hidden")
        got = browser.evaluate("Array.from(network[network.length - 1].output)")
        np.testing.assert_allclose(got, wanted.ravel(), atol=1e-5)
        answer = browser.evaluate("document.getElementById('answer').textContent")
        if model is value:
            assert float(answer.removeprefix("It is ")) == pytest.approx(wanted.item(), rel=1e-4)
        else:
            assert answer == "The network's picture"
            assert not browser.evaluate("document.getElementById('map').hidden")
        assert browser.problems() == []


def test_the_page_may_ask_for_nothing(browser: Browser, tmp_path: Path) -> None:
    path = export_html(model_for(RULES["crop"]), tmp_path / "net.html")
    assert not re.search(r"https?://|@import|url\(", path.read_text())
    open_page(browser, path)
    browser.evaluate("window.blocked = []; document.addEventListener('securitypolicyviolation', "
                     "(event) => window.blocked.push(event.effectiveDirective))")  # fmt: skip
    browser.evaluate("fetch('http://127.0.0.1:9/').catch(() => null)")
    browser.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://[::1]/'}))")
    browser.evaluate("document.body.append(Object.assign(document.createElement('script'), "
                     "{textContent: 'window.blocked.push(0)'}))")  # fmt: skip
    browser.wait_for("window.blocked.length === 3")
    found = browser.evaluate("window.blocked.sort().join()")
    assert found == "connect-src,img-src,script-src-elem"


# -- what is refused ---------------------------------------------------------------------------


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.html"
    vector = Sequential(Linear(4, 3, seed=0), input_shape=(4,))
    with pytest.raises(DataError, match=r"takes samples of shape \(4,\), which are not pictures"):
        export_html(vector, path)
    model = fastcnn.models.report_cnn(seed=0)
    with pytest.raises(DataError, match="it is unknown how pictures become its input"):
        export_html(model, path)
    model.preprocessing = Preprocessing(pictures=Pictures((1, 20, 20)))
    with pytest.raises(DataError, match=r"takes \(1, 28, 28\), its preprocessing makes pictures"):
        export_html(model, path)
    model.preprocessing = Preprocessing(pictures=Pictures((1, 28, 28)))
    with pytest.raises(ConfigurationError, match="the network has 3 outputs, got 2 names"):
        export_html(model, path, classes=("0", "1"))
    model.parameter_vector[7] = np.nan
    with pytest.raises(NonFiniteError, match="NaN or infinity: 1 of 36 values of conv1"):
        export_html(model, path)
    batch = Sequential(BatchNorm2d(1, track_running_stats=False), input_shape=(1, 3, 3))
    with pytest.raises(ConfigurationError, match="layer '0' needs the statistics of a batch"):
        export_html(batch, path)
    coder = Sequential(Conv2d(1, 1, 3, seed=0), input_shape=(1, 8, 8))
    coder.preprocessing = Preprocessing(pictures=Pictures((1, 8, 8)))
    with pytest.raises(ConfigurationError, match=r"gives arrays of shape \(1, 6, 6\)"):
        export_html(coder, path, is_classifier=True)
    assert not path.exists()
