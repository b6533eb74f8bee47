"""Drawings of networks."""

from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import fastcnn
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers import Conv2d, Sequential
from tests.layers.test_graph_models import MODELS

SVG = "{http://www.w3.org/2000/svg}"


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, width and height of each box by its title."""
    root = ElementTree.fromstring(svg)
    found = {}
    for group in root.iter(f"{SVG}g"):
        rectangle, texts = group.find(f"{SVG}rect"), group.findall(f"{SVG}text")
        if rectangle is not None and texts[0].text is not None:
            x, y, width, height = (
                float(rectangle.attrib[key]) for key in ("x", "y", "width", "height")
            )
            found[texts[0].text] = x, y, width, height
    return found


@pytest.mark.parametrize("name", [*MODELS, "resnet8", "report_cnn"])
def test_boxes_stand_apart_and_below_what_they_read(name: str) -> None:
    model: Any = MODELS[name]() if name in MODELS else getattr(fastcnn.models, name)(seed=0)
    svg = model.draw()._repr_svg_()
    found, root = boxes(svg), ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for (x, y, w, h), (x2, y2, w2, _) in combinations(found.values(), 2):
        assert y != y2 or x + w < x2 or x2 + w2 < x
        assert x >= 0
        assert x + w <= width + 1
        assert y + h <= height
    graph = model.graph()
    for node in graph.nodes:
        for source in node.inputs:
            if source >= 0 and node.name in found and graph.nodes[source].name in found:
                assert found[graph.nodes[source].name][1] < found[node.name][1]
    edges = len(root.findall(f".//{SVG}path"))
    assert edges >= len(found) - max(1, len(graph.inputs))


def test_it_is_written_to_a_file(tmp_path: Path) -> None:
    drawing = MODELS["unet"]().draw(tmp_path / "net.svg")
    assert (tmp_path / "net.svg").read_text(encoding="utf-8") == drawing.svg
    assert {"input", "near", "concat_1", "output"} <= set(boxes(drawing.svg))
    with pytest.raises(ConfigurationError, match=r"net\.png: .*\.svg"):
        MODELS["unet"]().draw(tmp_path / "net.png")
    assert not (tmp_path / "net.png").exists()


def test_names_are_text_whatever_they_hold() -> None:
    model = Sequential({"<a&b>": Conv2d(1, 2, 3, seed=0)})
    with pytest.raises(ShapeError, match="input shape is not known"):
        model.draw()
    assert "<a&b>" in boxes(model.draw(input_shape=(1, 8, 8)).svg)
