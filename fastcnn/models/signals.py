"""Networks of sound."""

from fastcnn.layers import Flatten, GlobalAvgPool1d, Input, MaxPool1d, Model
from fastcnn.models.draft import draft


def ds_cnn(
    num_classes: int = 12,
    seed: int | None = None,
    *,
    input_shape: tuple[int, int, int] = (1, 49, 10),
) -> Model:
    """DS-CNN for keywords: a convolution and four depthwise-separable ones of 64 channels.

    Parameters
    ----------
    num_classes : int
    seed : int, optional
        Source of the initial weights.
    input_shape : tuple of int
        ``(1, times, coefficients)``: by default 49 spectra of ten cepstral coefficients.

    References
    ----------
    Zhang, Suda, Lai and Chandra, "Hello Edge: keyword spotting on microcontrollers",
    arXiv:1711.07128; Banbury et al., "MLPerf Tiny benchmark", arXiv:2106.07597. Padding is
    PyTorch's.
    """
    d, x = draft(seed), Input(input_shape)
    y = d.conv_norm(x, 64, (10, 4), stride=2, padding=(4, 1))
    for _ in range(4):
        y = d.separable(y, 64)
    return Model(x, d.mean_head(y, num_classes))


def m5(num_classes: int = 35, seed: int | None = None, *, samples: int = 8000) -> Model:
    """M5: four one-dimensional convolutions on the samples of a sound themselves.

    Parameters
    ----------
    num_classes : int
    seed : int, optional
        Source of the initial weights.
    samples : int
        Shape of one sound, ``(1, samples)``: by default a second at 8 kHz.

    References
    ----------
    Dai, Dai, Qu, Li and Das, "Very deep convolutional neural networks for raw waveforms",
    arXiv:1610.00087.
    """
    d, x = draft(seed), Input((1, samples))
    y = MaxPool1d(4)(d.conv_norm(x, 32, 80, stride=4, padding=38))
    for width in (32, 64, 64):
        y = MaxPool1d(4)(d.conv_norm(y, width))
    return Model(x, d.linear(Flatten()(GlobalAvgPool1d()(y)), num_classes))
