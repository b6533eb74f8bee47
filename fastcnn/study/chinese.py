"""Chinese words in the study's figures."""

import re
from typing import Any

#: Words of figures, in English and Chinese.
WORDS = {
    "accuracy (%)": "准确率 (%)",
    "a fair one": "合适的学习率",
    "a healthy": "正常值",
    "all together": "全部",
    "augmentation": "数据增强",
    "conv ": "卷积 ",
    "conv and ": "卷积和",
    "convolution": "卷积",
    "cross-entropy (nats)": "交叉熵 (nats)",
    "epoch": "轮",
    "FC ": "全连接 ",
    "filter": "滤波器",
    "final accuracy that the report states": "报告给出的最终准确率",
    "fully connected": "全连接",
    "image": "图像",
    "learning rate": "学习率",
    "momentum": "动量",
    "none: right": "无：正确",
    "norm of the weight gradient": "权重梯度的范数",
    "outputs that pass\nno gradient (%)": "不传递梯度的\n输出 (%)",
    "predicted digit": "预测的数字",
    "share of the true digit (%)": "占真实数字的比例 (%)",
    "standard deviation of the initial weights": "初始权重的标准差",
    "standard deviation of the initial weights and biases": "初始权重和偏置的标准差",
    "step": "步数",
    "No mistakes": "没有错误",
    "Surest mistakes": "把握最大的错误",
    "taken for": "误认为",
    "test": "测试",
    "test accuracy": "测试准确率",
    "test accuracy (%)": "测试准确率 (%)",
    "test errors (%)": "测试错误率 (%)",
    "test loss": "测试损失",
    "the report's": "报告的",
    "the report's learning rate": "报告的学习率",
    "train accuracy": "训练准确率",
    "train loss": "训练损失",
    "training": "训练",
    "training images": "训练图像数",
    "training loss at the end (nats)": "训练结束时的损失 (nats)",
    "true digit": "真实数字",
    "update / weight at lr": "更新量 / 权重，学习率",
    "weight decay": "权重衰减",
    "wrong": "个错误",
    "wrong gradients": "错误的梯度",
}
_ENGLISH = re.compile("|".join(map(re.escape, sorted(WORDS, key=len, reverse=True))))


def translate(figure: Any) -> None:
    """Replace the English words of a matplotlib figure."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(_ENGLISH.sub(lambda found: WORDS[found[0]], text.get_text()))
