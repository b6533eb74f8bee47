"""Each network with its task: loss, batch size and source."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.networks import classic, games, mobile, pictures, residual, sequences
from fastcnn import losses
from fastcnn.benchmark import zoo
from fastcnn.benchmark.work import make_model
from fastcnn.layers import Model
from fastcnn.models.draft import Draft

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Goal:
    """A loss, random targets for it, and the same loss in PyTorch.

    Attributes
    ----------
    loss : function
        Creates the loss.
    targets : function of Generator, int, tuple of int
        Targets of some samples for outputs of a given shape, and their weights, or None.
    torch_loss : function of Tensor, Tensor, Tensor
        Function of outputs, targets and weights.
    """

    name: str
    loss: Callable[[], losses.Loss]
    targets: Callable[[np.random.Generator, int, Shape], tuple[Any, np.ndarray | None]]
    torch_loss: Callable[[Any, Any, Any], Any]


def _classes(generator: np.random.Generator, count: int, shape: Shape) -> tuple[Any, None]:
    return generator.integers(0, shape[0], (count, *shape[1:])), None


def _values(generator: np.random.Generator, count: int, shape: Shape) -> tuple[Any, None]:
    return generator.random((count, *shape), np.float32), None


def _yes_or_no(generator: np.random.Generator, count: int, shape: Shape) -> tuple[Any, None]:
    return generator.integers(0, 2, (count, *shape)).astype(np.float32), None


def _of_chosen(generator: np.random.Generator, count: int, shape: Shape) -> tuple[Any, np.ndarray]:
    """Values, of which only those of the chosen actions count."""
    target = 3 * generator.standard_normal((count, *shape)).astype(np.float32)
    chosen = np.zeros((count, *shape))
    chosen[np.arange(count), generator.integers(0, shape[0], count)] = 1.0
    return target, chosen


def _torch(name: str) -> Callable[[Any, Any, Any], Any]:
    def loss(output: Any, target: Any, weight: Any) -> Any:
        from torch.nn import functional as F

        return getattr(F, name)(output, target)

    return loss


def _masked_huber(output: Any, target: Any, weight: Any) -> Any:
    from torch.nn import functional as F

    each = F.huber_loss(output, target, reduction="none")
    return (weight * each).sum() / weight.sum()


def _moves_and_outcome(
    generator: np.random.Generator, count: int, shape: Shape
) -> tuple[Any, None]:
    moves = generator.integers(0, shape[0] - 1, count)
    return {"policy": moves, "value": generator.uniform(-1, 1, (count, 1))}, None


def _two_heads(output: Any, target: Any, weight: Any) -> Any:
    from torch.nn import functional as F

    policy = F.cross_entropy(output[:, :-1], target[:, 0].long())
    return policy + F.mse_loss(output[:, -1:], target[:, -1:])


def evidence_bound(outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """The negative evidence lower bound of a variational autoencoder, and its gradient.

    Outputs are mean and deviation of the latent variables and the logits of the pixels.
    """
    count, n = len(outputs), pictures.LATENT
    mean, deviation, logits = outputs[:, :n], outputs[:, n : 2 * n], outputs[:, 2 * n :]
    pixels = targets[:, 2 * n :]
    surprise = np.logaddexp(0, logits) - pixels * logits
    variance = deviation * deviation
    divergence = 0.5 * (mean * mean + variance - 1.0 - np.log(variance))
    gradient = np.empty_like(outputs)
    gradient[:, :n] = mean
    gradient[:, n : 2 * n] = deviation - 1.0 / deviation
    gradient[:, 2 * n :] = 0.5 * (1.0 + np.tanh(0.5 * logits)) - pixels
    gradient /= count
    return float(surprise.sum() + divergence.sum()) / count, gradient


def _evidence_bound_of_torch(output: Any, target: Any, weight: Any) -> Any:
    from torch.nn import functional as F

    n = pictures.LATENT
    mean, variance = output[:, :n], output[:, n : 2 * n] ** 2
    surprise = F.binary_cross_entropy_with_logits(
        output[:, 2 * n :], target[:, 2 * n :], reduction="sum"
    )
    divergence = 0.5 * (mean**2 + variance - 1.0 - variance.log()).sum()
    return (surprise + divergence) / len(output)


CLASSES = Goal("cross-entropy", losses.CrossEntropyLoss, _classes, _torch("cross_entropy"))
VALUES = Goal("mean square", losses.MSELoss, _values, _torch("mse_loss"))
YES_OR_NO = Goal(
    "binary cross-entropy",
    losses.BCEWithLogitsLoss,
    _yes_or_no,
    _torch("binary_cross_entropy_with_logits"),
)
CHOSEN = Goal("Huber of the chosen action", losses.HuberLoss, _of_chosen, _masked_huber)
TWO_HEADS = Goal(
    "cross-entropy and mean square",
    lambda: losses.JointLoss(
        (losses.CrossEntropyLoss(), losses.MSELoss()), names=("policy", "value")
    ),
    _moves_and_outcome,
    _two_heads,
)
EVIDENCE = Goal(
    "evidence bound in Python",
    lambda: losses.PythonLoss(evidence_bound),
    _yes_or_no,
    _evidence_bound_of_torch,
)


@dataclass(frozen=True)
class Task:
    """A network with its training task.

    Attributes
    ----------
    title : str
        Its common name.
    source : str
        Where it was published; an arXiv number, or authors and year.
    note : str
        Differences from the publication.
    """

    title: str
    source: str
    make: Callable[[Draft], Model]
    batch: int
    goal: Goal = CLASSES
    note: str = ""

    @property
    def name(self) -> str:
        """The function's name."""
        return self.make.__name__

    def model(self) -> Model:
        """The network with weights of a fixed seed."""
        return self.make(Draft(np.random.default_rng(0), of_layers=True))

    def samples(
        self, model: Model, loss: losses.Loss, count: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Random samples and targets, with the targets' weights or None."""
        generator = np.random.default_rng(1)
        assert model.input_shape is not None
        x = generator.standard_normal((count, *model.input_shape)).astype(np.float32)
        y, weight = self.goal.targets(generator, count, model.graph().output_shape)
        return x, loss.pack(y, np.float32) if isinstance(loss, losses.JointLoss) else y, weight


SMALL = "for 32x32 pictures"
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("LeNet-5 (1998)", "LeCun et al. 1998", classic.lenet5_1998, 64),
        Task("AlexNet for CIFAR", "Krizhevsky 2012", classic.alexnet_cifar, 64),
        Task("NiN", "arXiv:1312.4400", classic.nin, 32),
        Task("All-CNN-C", "arXiv:1412.6806", classic.all_cnn, 32),
        Task("VGG16-BN", "arXiv:1409.1556", zoo.vgg16_bn, 32, note=SMALL),
        Task("SqueezeNet 1.1", "arXiv:1602.07360", classic.squeezenet, 32, note=SMALL),
        Task("Inception", "arXiv:1409.4842", classic.inception, 32, note="five modules"),
        Task("ResNet-20", "arXiv:1512.03385", zoo.resnet20, 64),
        Task("ResNet-56", "arXiv:1512.03385", residual.resnet56, 32),
        Task("WRN-16-4", "arXiv:1605.07146", residual.wrn_16_4, 16),
        Task("PreAct-ResNet-20", "arXiv:1603.05027", residual.preact_resnet20, 64),
        Task("DenseNet-BC-40", "arXiv:1608.06993", residual.densenet_bc_40, 32),
        Task("RepVGG-A0", "arXiv:2101.03697", residual.repvgg, 32, note=SMALL),
        Task("ConvNeXt-femto", "arXiv:2201.03545", residual.convnext_femto, 32, note=SMALL),
        Task("MobileNetV1", "arXiv:1704.04861", mobile.mobilenet_v1, 32, note=SMALL),
        Task("MobileNetV2", "arXiv:1801.04381", mobile.mobilenet_v2, 32, note=SMALL),
        Task("MobileNetV3-small", "arXiv:1905.02244", mobile.mobilenet_v3_small, 32, note=SMALL),
        Task("ShuffleNetV2", "arXiv:1807.11164", mobile.shufflenet_v2, 32, note=SMALL),
        Task("EfficientNet-lite0", "arXiv:1905.11946", mobile.efficientnet_lite0, 32, note=SMALL),
        Task("U-Net", "arXiv:1505.04597", pictures.unet, 8, note="16 to 128 channels, padded"),
        Task("Autoencoder", "", pictures.autoencoder, 64, VALUES),
        Task("VAE", "arXiv:1312.6114", pictures.vae, 64, EVIDENCE, "its noise is an input"),
        Task(
            "DCGAN, discriminator", "arXiv:1511.06434", pictures.dcgan_discriminator, 64, YES_OR_NO
        ),
        Task(
            "DCGAN, generator",
            "arXiv:1511.06434",
            pictures.dcgan_generator,
            64,
            YES_OR_NO,
            "through a frozen discriminator",
        ),
        Task("DnCNN-S", "arXiv:1608.03981", pictures.dncnn, 16, VALUES),
        Task("ESPCN", "arXiv:1609.05158", pictures.espcn, 64, VALUES),
        Task("FSRCNN", "arXiv:1608.00367", pictures.fsrcnn, 64, VALUES),
        Task("Siamese", "Koch et al. 2015", games.siamese, 64, YES_OR_NO, "squared differences"),
        Task("AlphaZero", "arXiv:1712.01815", games.alphazero, 64, TWO_HEADS, "four blocks"),
        Task("DQN", "Mnih et al. 2015", games.dqn_atari, 32, CHOSEN),
        Task("EEGNet-8,2", "arXiv:1611.08024", sequences.eegnet, 64),
        Task("UCI-HAR CNN", "Brownlee 2018", sequences.har_cnn, 32),
        Task("ECG", "arXiv:1805.00794", sequences.kachuee_ecg, 64),
        Task("M5", "arXiv:1610.00087", sequences.m5, 64, note="padded to 2000 points"),
        Task("TCN", "arXiv:1803.01271", sequences.tcn, 32, VALUES),
        Task("Text-CNN", "arXiv:1408.5882", sequences.text_cnn, 50, note="of word vectors"),
        Task("MLPerf Tiny: keyword spotting", "arXiv:2106.07597", mobile.keyword_spotting, 64),
        Task("MLPerf Tiny: visual wake words", "arXiv:2106.07597", mobile.visual_wake_words, 16),
        Task(
            "MLPerf Tiny: image classification", "arXiv:2106.07597", mobile.image_classification, 64
        ),
        Task(
            "MLPerf Tiny: anomaly detection",
            "arXiv:2106.07597",
            mobile.anomaly_detection,
            64,
            VALUES,
        ),
    )
}


def network_of(name: str) -> Model:
    """A network of these tasks, of the benchmark or of the zoo."""
    return TASKS[name].model() if name in TASKS else make_model(name)
