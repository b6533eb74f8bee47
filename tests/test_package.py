"""Files read by other tools: the package's metadata, the citation, the release."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastcnn

ROOT = Path(__file__).parent.parent


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_one_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {fastcnn.__version__}\n" in citation


def test_the_package_says_that_it_is_typed():
    assert Path(fastcnn.__file__).with_name("py.typed").is_file()
    assert "Typing :: Typed" in project()["project"]["classifiers"]


def test_python_versions_agree():
    description = project()["project"]
    named = [
        name.rsplit(" ", 1)[1]
        for name in description["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)
    ]
    assert description["requires-python"] == f">={named[0]},<3.{int(named[-1][2:]) + 1}"
    release = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    assert "python: [" + ", ".join(f'"{name}"' for name in named) + "]" in release


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "![a](docs/a.png)",
            "![a](https://raw.githubusercontent.com/fastcnn/fastcnn/main/docs/a.png)",
        ),
        ("see [b](docs/b.md)", "see [b](https://github.com/fastcnn/fastcnn/blob/main/docs/b.md)"),
        ("[c](https://keepachangelog.com)", "[c](https://keepachangelog.com)"),
        ("![d](https://example.org/d.png)", "![d](https://example.org/d.png)"),
    ],
)
def test_the_index_gets_whole_addresses(text, expected):
    hook = project()["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for rule in hook["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert text == expected


def test_what_readme_links_to_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", readme)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_workflows_and_templates_are_yaml():
    yaml = pytest.importorskip("yaml")
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / "CITATION.cff"]
    assert len(files) > 4
    for file in files:
        assert isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict), file


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (2, "epoch", "2 epochs"),
        (1, "epoch", "1 epoch"),
        (0, "class", "0 classes"),
        (1_024, "batch", "1,024 batches"),
    ],
)
def test_counts_in_messages(count: int, noun: str, said: str) -> None:
    assert fastcnn.errors.counted(count, noun) == said


def test_the_package_works_without_docstrings_and_assertions() -> None:
    """As python -OO, or PYTHONOPTIMIZE=2, runs it."""
    code = """
import pkgutil
from importlib import import_module
for module in pkgutil.walk_packages(import_module("fastcnn").__path__, "fastcnn."):
    if module.name != "fastcnn.__main__":
        import_module(module.name)
from fastcnn.cli.app import COMMANDS, application
for name in COMMANDS:
    application([name])
import fastcnn
import numpy as np
x, y = np.zeros((6, 4), np.float32), np.arange(6) % 3
model = fastcnn.Sequential(fastcnn.Linear(4, 3, seed=0), fastcnn.Softmax(), input_shape=(4,))
for backend in ("reference", "im2col"):
    fastcnn.evaluate(model, (x, y), loss="nll", backend=backend)
"""
    subprocess.run([sys.executable, "-OO", "-c", code], check=True)
