"""Runs the experiments of a study, one after the other."""

import time
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from fastcnn.study.page import Drawn, draw_section, write_page
from fastcnn.study.section import Text
from fastcnn.study.setting import Setting
from fastcnn.training.interrupts import DeferredInterrupts

#: Modules of this package with ``run(setting)`` and ``section(result)``.
EXPERIMENTS = (
    "reproduction",
    "gallery",
    "wrong_gradients",
    "activations",
    "underfitting",
    "overfitting",
)


def run_study(
    setting: Setting,
    out: Path,
    *,
    chosen: Iterable[str] = EXPERIMENTS,
    tell: Callable[[str, float], Any] = lambda name, seconds: None,
) -> Path:
    """Run experiments, and write the page after each, so that none is lost; returns its path.

    Parameters
    ----------
    out : Path
        Folder of the page and the figures.
    chosen : iterable of str
        Names of :data:`EXPERIMENTS`.
    tell : callable
        Called with the name and seconds of each finished experiment.

    Raises
    ------
    OSError
        If the folder cannot be written, before anything is measured.
    """
    sections: list[Drawn] = []
    page = write_page(sections, out, _facts(setting))
    for name in chosen:
        began = time.perf_counter()
        experiment: Any = import_module(f"fastcnn.study.{name}")
        result = experiment.run(setting)
        with DeferredInterrupts():  # until the page has what was measured
            sections.append(draw_section(experiment.section(result), out))
            page = write_page(sections, out, _facts(setting))
            tell(name, time.perf_counter() - began)
    return page


def _facts(setting: Setting) -> list[Text]:
    """The basis of the study: data and machine."""
    train, test = setting.train, setting.test
    facts = [
        Text(
            f"Data: {train.name}, {len(train):,} training and {len(test):,} test images of the "
            f"digits {', '.join(train.classes)}. All numbers are measured; where a sentence "
            "judges, the judgement follows from them.",
            f"数据：{train.name}，数字 {'、'.join(train.classes)}，训练图像 {len(train):,} 张，"
            f"测试图像 {len(test):,} 张。所有数字均为实测值，结论由这些数字得出。",
        )
    ]
    if setting.quick:
        facts.append(
            Text(
                "A trial run with few steps: its results mean little.",
                "这是步数很少的试运行，结果仅供参考。",
            )
        )
    return facts
