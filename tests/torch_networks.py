"""One training step of a random network in PyTorch, float64, and the permitted float32 error.

The exact step is PyTorch's in float64. The same step is repeated with random errors of the size of
float32's rounding after every operation, forward and backward: their effect, including ReLU's kinks
and ties of pooling, is how far a float32 computation may deviate. A result is right if its
difference from the exact one is at most :data:`MARGIN` times the largest of these deviations.

An exact gradient may be 0, such as that of a bias before batch normalisation: a computed one is
then the rounding error of a sum of cancelling terms, and errors are of the size of these terms.

``python -m tests.torch_networks --first 0 --count 1000`` compares random networks and prints the
differences and the number of comparisons.
"""

import argparse
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from fastcnn.backends.counter_random import drop_threshold, dropout_key, uniform_bits
from fastcnn.backends.graph import Node
from fastcnn.backends.sample_sets import sets_of
from fastcnn.data.dataset import ArrayDataset
from fastcnn.execution import loss_and_gradients, make_executor, predict_logits
from fastcnn.execution.assigned import largest_norms
from fastcnn.execution.step import Step as TakenStep
from fastcnn.losses import JointLoss
from tests.random_networks import BUDGET, Case, random_case

#: Rounding of float32, relative to an operation's largest element.
ROUNDING = 2.0**-24
#: Error of a short sum, or one by Winograd's transforms, in units of the rounding. That of a sum of
#: n terms grows like the square root of n, as each partial sum is rounded.
SHORT_SUM = 4.0
#: Steps with random errors: initially, and before a difference is considered wrong.
FEW, MANY = 4, 60
#: Factor of the deviation by random errors. Actual errors are not all in one direction.
MARGIN = 8.0
#: Operations with non-negligible rounding.
ROUNDS = ("conv2d", "conv_transpose2d", "linear", "batch_norm", "avg_pool2d", "adaptive_avg_pool2d",
          "sigmoid", "tanh", "elu", "gelu", "silu", "softplus", "add", "subtract", "multiply",
          "layer_norm", "rms_norm", "group_norm", "layer_norm2d", "local_response_norm", "softmax",
          "log_softmax", "scale", "interpolate")  # fmt: skip
#: A gradient is considered 0 if it is below this share of its deviation by random errors.
NOTHING = 2.0**-20
#: Operations whose input gradient is a difference, and may be far smaller than its terms.
SAMPLE_NORMS = ("layer_norm", "rms_norm", "group_norm", "layer_norm2d")
SOFTMAXES = ("softmax", "log_softmax")
LR = 0.01

Results = dict[str, np.ndarray]


class _Errors(torch.autograd.Function):
    """Adds errors to a tensor, and to its gradient in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, generator: torch.Generator, size: float) -> torch.Tensor:
        ctx.generator, ctx.size = generator, size
        return _disturbed(x, generator, size)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _disturbed(grads[0], ctx.generator, ctx.size), None, None


class _InputErrors(torch.autograd.Function):
    """Passes a tensor unchanged, and adds errors to its gradient, per element and per channel."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, generator: torch.Generator, sizes: list[tuple[float, float]]
    ) -> torch.Tensor:
        ctx.generator, ctx.sizes = generator, sizes
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        grad, (of_each, of_channels) = grads[0], ctx.sizes[-1]
        errors = of_each * torch.randn(grad.shape, generator=ctx.generator, dtype=grad.dtype)
        shape = (1, grad.shape[1], *(1,) * (grad.ndim - 2))
        common = torch.randn(shape, generator=ctx.generator, dtype=grad.dtype)
        return grad + ROUNDING * (errors + of_channels * common), None, None


def _normalised_with_errors(
    node: Node,
    x: torch.Tensor,
    p: dict[str, Any],
    training: bool,
    generator: torch.Generator,
    cancels: bool,
) -> torch.Tensor:
    """A batch normalisation whose output and input gradient have errors of their terms' size.

    The output is a scaled input minus the scaled mean, which may be far larger than their
    difference; all elements of a channel share the rounding of the mean. The gradient is a similar
    difference: for two samples, it nearly vanishes. Two of its terms have a coefficient per
    channel.
    """
    sizes: list[tuple[float, float]] = []
    axes = [axis for axis in range(x.ndim) if axis != 1]
    of_batch = training or p.get("running_var") is None
    variance = x.detach().var(axes, unbiased=False) if of_batch else p["running_var"]
    factor = torch.ones_like(variance) if p.get("weight") is None else p["weight"].detach()
    stretch = float((factor / torch.sqrt(variance + node.arguments["eps"])).abs().max())
    mean = x.detach().mean(axes) if of_batch else p["running_mean"]
    shared = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
    shared *= ROUNDING * mean.abs() * factor.abs() / torch.sqrt(variance + node.arguments["eps"])
    made = _layer(node, [_InputErrors.apply(x, generator, sizes)], p, training, None)
    made = made + shared.reshape(-1, *(1,) * (x.ndim - 2))
    if made.requires_grad:

        def note(grad: torch.Tensor) -> None:
            level = float(grad.mean(axes).abs().max())
            if cancels:  # over the samples, whose sums are rounded first
                of_samples = grad.reshape(*grad.shape[:2], -1).mean(2)
                level = float(of_samples.abs().mean(0).max())
            sizes.append((SHORT_SUM * stretch * float(grad.abs().max()), 2 * stretch * level))

        made.register_hook(note)
    return made


def _normalised_samples_with_errors(
    node: Node, x: torch.Tensor, p: dict[str, Any], generator: torch.Generator
) -> torch.Tensor:
    """The same for a normalisation within samples."""
    sizes: list[tuple[float, float]] = []
    of_weights: list[float] = []
    sets = sets_of(node.operation, node.arguments, tuple(x.shape[1:]))
    axes = [axis + 1 for axis in sets.axes]
    view = x.detach().reshape(len(x), *sets.view)
    if node.operation != "rms_norm":
        view = view - view.mean(axes, keepdim=True)
    deviation = torch.sqrt(view.square().mean(axes) + node.arguments["eps"])
    factor = 1.0 if p.get("weight") is None else float(p["weight"].detach().abs().max())
    stretch = factor / float(deviation.min())
    made = _layer(node, [_InputErrors.apply(x, generator, sizes)], p, False, None)
    if made.requires_grad:

        def note(grad: torch.Tensor) -> None:
            of_weights.append(SHORT_SUM * float(grad.abs().sum()) / sets.weights)
            of_sets = grad.reshape(len(grad), *sets.view).mean(axes).abs()
            each = 2 * SHORT_SUM * stretch * float(grad.abs().max())
            sizes.append((each, 2 * SHORT_SUM * stretch * float(of_sets.max())))

        made.register_hook(note)
        if p.get("weight") is not None:
            # A sum of products with values of mean 0, up to rounding.
            p["weight"].register_hook(
                lambda grad: (
                    grad
                    + ROUNDING
                    * of_weights[-1]
                    * torch.randn(grad.shape, generator=generator, dtype=grad.dtype)
                )
            )
    return made


def _softmax_with_errors(node: Node, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A softmax, or its logarithm, whose input gradient has errors of its terms' size."""
    sizes: list[tuple[float, float]] = []
    made = _layer(node, [_InputErrors.apply(x, generator, sizes)], {}, False, None)
    if made.requires_grad:

        def note(grad: torch.Tensor) -> None:
            terms = grad if node.operation == "log_softmax" else grad * made.detach()
            sizes.append((SHORT_SUM * float(terms.abs().max()), 0.0))

        made.register_hook(note)
    return made


def _disturbed(
    x: torch.Tensor, generator: torch.Generator, size: float = SHORT_SUM
) -> torch.Tensor:
    if not x.numel():
        return x
    errors = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x + size * ROUNDING * x.abs().max() * errors


def _error_size(node: Node, inputs: list[Any], p: dict[str, Any]) -> float:
    """The error of an operation's sums, in units of the rounding."""
    terms = inputs[0][0].numel() / np.prod(node.output_shape)
    if node.operation == "batch_norm":
        terms = inputs[0].numel() / inputs[0].shape[1]
    elif "weight" in p:
        terms = p["weight"][0].numel()
    return max(SHORT_SUM, float(np.sqrt(terms)))


def _layer(node: Node, inputs: list[Any], p: dict[str, Any], training: bool, mask: Any) -> Any:
    """A node's output; ``p`` has its parameters and buffers."""
    x, a, name = inputs[0], node.arguments, node.operation
    of_maps = name in ("pad", "interpolate") or (name.endswith("2d") and name != "dropout2d")
    if x.ndim == 3 and of_maps:
        p = p | ({"weight": p["weight"][:, :, None]} if "weight" in p else {})
        return _layer(node, [x[:, :, None]], p, training, mask)[:, :, 0]
    if name == "conv2d":
        (top, bottom), (left, right) = a["padding"]
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(
            x, p["weight"], p.get("bias"), a["stride"], 0, a["dilation"], a["groups"]
        )  # fmt: skip
    if name == "conv_transpose2d":
        padding = tuple(before for before, _ in a["padding"])
        return F.conv_transpose2d(
            x, p["weight"], p.get("bias"), a["stride"], padding, a["output_padding"], a["groups"],
            a["dilation"],
        )  # fmt: skip
    if name == "linear":
        return F.linear(x, p["weight"], p.get("bias"))
    if name == "batch_norm":
        running = p.get("running_mean"), p.get("running_var")
        momentum = a["momentum"]
        if momentum is None:
            momentum = 1.0 / float(p.get("num_batches_tracked", 0) + 1)
        if training and "num_batches_tracked" in p:
            # A layer that is used twice counts both uses.
            p["num_batches_tracked"].add_(1)
        of_batch = training or running[0] is None
        return F.batch_norm(
            x, *running, p.get("weight"), p.get("bias"), of_batch, momentum, a["eps"]
        )
    if name in ("dropout", "dropout2d"):
        return x * mask / (1.0 - a["p"]) if training else x
    if name in ("layer_norm", "rms_norm", "group_norm"):
        shape = a.get("normalized_shape", a.get("num_groups"))
        weights = [p.get("weight"), p.get("bias")][: 1 if name == "rms_norm" else 2]
        return getattr(F, name)(x, shape, *weights, a["eps"])
    if name == "layer_norm2d":
        last = x.permute(0, 2, 3, 1)
        made = F.layer_norm(last, last.shape[3:], p.get("weight"), p.get("bias"), a["eps"])
        return made.permute(0, 3, 1, 2)
    if name == "scale":
        return x * p["weight"].reshape(-1, *(1,) * (x.ndim - 2))
    if name == "flatten":
        return x.flatten(1)
    if name == "unflatten":
        return x.reshape(len(x), *a["shape"])
    if name == "channel_shuffle":
        return x.unflatten(1, (a["groups"], -1)).transpose(1, 2).flatten(1, 2)
    if name == "pad":
        (top, bottom), (left, right) = a["padding"]
        return F.pad(x, (left, right, top, bottom), a["mode"])
    if name == "interpolate":
        corners = a["align_corners"] if a["mode"] == "bilinear" else None
        return F.interpolate(x, a["size"], a["scale_factor"], a["mode"], corners)
    if name == "add":
        return inputs[0] + inputs[1]
    if name == "subtract":
        return inputs[0] - inputs[1]
    if name == "multiply":
        return inputs[0] * inputs[1]
    if name == "input_part":
        first, shape = a["start"], a["shape"]
        return x[:, first : first + int(np.prod(shape))].reshape(-1, *shape)
    if name == "narrow":
        return x.narrow(1, a["start"], a["length"])
    if name == "concat":
        return torch.cat(inputs, 1)
    if name in ("sigmoid", "tanh"):
        return getattr(torch, name)(x)
    return getattr(F, name)(x, **a)


def _mask(node: Node, index: int, count: int, seed: int) -> torch.Tensor | None:
    """The elements, or channels, that a dropout keeps in a first step."""
    if node.operation not in ("dropout", "dropout2d"):
        return None
    shape = (count, *node.output_shape)
    if node.operation == "dropout2d":
        shape = (*shape[:2], 1, 1)
    bits = uniform_bits(dropout_key(seed, 0, index), 0, int(np.prod(shape)))
    kept = bits >= np.uint32(drop_threshold(node.arguments["p"]))
    return torch.from_numpy(kept.reshape(shape).astype(np.float64))


def _class_loss(loss: Any, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The loss of each sample, times the weight of its class."""
    arguments = loss.arguments
    weight = None if arguments["weight"] is None else torch.from_numpy(arguments["weight"])
    if loss.operation == "cross_entropy":
        return F.cross_entropy(
            output,
            target,
            weight,
            reduction="none",
            ignore_index=-100 if loss.ignore_index is None else loss.ignore_index,
            label_smoothing=arguments["label_smoothing"],
        )
    if loss.operation == "nll":
        return F.nll_loss(output, target, weight, reduction="none")
    surprise = F.cross_entropy(output, target, reduction="none")
    assert weight is not None
    return weight[target] * (1.0 - torch.exp(-surprise)) ** arguments["gamma"] * surprise


def _element_loss(loss: Any, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if loss.operation == "mse":
        return F.mse_loss(output, target, reduction="none")
    if loss.operation == "huber":
        return F.huber_loss(output, target, reduction="none", delta=loss.delta)
    return F.smooth_l1_loss(output, target, reduction="none", beta=loss.beta)


@dataclass
class Step:
    """The data of a case for one step, in float64."""

    case: Case
    state: dict[str, np.ndarray]

    def results(self, errors: int | None = None, cancels: bool = False) -> Results:
        """Run the step, with random errors from a seed, or with errors of sums that cancel."""
        case, graph = self.case, self.case.model.graph(self.case.x.shape[1:])
        generator = None if errors is None else torch.Generator().manual_seed(errors)
        state = {
            key: torch.from_numpy(np.array(value, np.float64)) for key, value in self.state.items()
        }
        keys = list(case.model.named_parameters())
        for key in keys:
            state[key].requires_grad_()
        x = case.model.preprocessing.apply(case.x[: case.batch], np.float64)
        outputs: dict[int, Any] = {-1: torch.from_numpy(x)}
        if generator is not None:
            outputs[-1] = _disturbed(outputs[-1], generator, 1.0)
        for index, node in enumerate(graph.nodes):
            p = {name: state[key] for name, key in (node.parameters | node.buffers).items()}
            mask = _mask(node, index, case.batch, case.seed)
            inputs = [outputs[source] for source in node.inputs]
            if generator is not None and node.operation in SAMPLE_NORMS:
                made = _normalised_samples_with_errors(node, inputs[0], p, generator)
            elif generator is not None and node.operation == "batch_norm":
                made = _normalised_with_errors(
                    node, inputs[0], p, case.training, generator, cancels
                )
            elif cancels and generator is not None and node.operation in SOFTMAXES:
                made = _softmax_with_errors(node, inputs[0], generator)
            else:
                made = _layer(node, inputs, p, case.training, mask)
            if generator is not None and node.operation in ROUNDS:
                made = _Errors.apply(made, generator, _error_size(node, inputs, p))
            outputs[index] = made
        output = outputs[len(graph.nodes) - 1]
        loss = self._loss(output)
        if loss.requires_grad:
            loss.backward()
        found = {"loss": loss.detach().numpy(), "logits": output.detach().numpy()}
        grads = {key: state[key].grad for key in keys}
        for key, grad in grads.items():
            grads[key] = torch.zeros_like(state[key]) if grad is None else grad
            if generator is not None:
                grads[key] = _disturbed(grads[key], generator)
            found[f"gradient of {key}"] = grads[key].numpy().copy()
        self._update({key: state[key] for key in keys}, grads, found)
        for key in state:
            if key not in keys and not key.endswith("num_batches_tracked"):
                found[f"state {key}"] = state[key].detach().numpy()
        return found

    def _loss(self, output: torch.Tensor) -> torch.Tensor:
        case = self.case
        y = torch.from_numpy(case.y[: case.batch])
        counts = torch.ones(case.batch, dtype=torch.float64)
        if case.weights is not None:
            counts = torch.from_numpy(case.weights[: case.batch])
        if isinstance(case.loss, JointLoss):
            return self._joint_loss(output, counts)
        if case.loss.classes:
            target = y if case.kind == "classes" else y.double()
            each = _class_loss(case.loss, output, target)
            weight = case.loss.arguments["weight"]
            sizes = counts if weight is None else counts * torch.from_numpy(weight)[target]
            return (each * counts).sum() / sizes.sum()
        if case.kind == "classes":
            # With one output, integers are values.
            y = F.one_hot(y, output.shape[1]) if output.shape[1] > 1 else y[:, None]
        each = _element_loss(case.loss, output, y.double()).flatten(1).mean(1)
        return (each * counts).sum() / counts.sum()

    def _joint_loss(self, output: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the outputs' losses."""
        case, total = self.case, torch.zeros((), dtype=torch.float64)
        assert isinstance(case.loss, JointLoss)
        for loss, part in zip(case.loss.losses, case.loss.parts, strict=True):
            own = output[:, part.places].reshape(len(output), *part.shape)
            target = torch.from_numpy(part.target_of(case.y[: case.batch]))
            if loss.classes:
                each = _class_loss(loss, own, target)
            else:
                each = _element_loss(loss, own, target.double())
            each = each.reshape(len(output), -1).mean(1)
            weighs = loss.target_weight(target.numpy(), counts.numpy())
            size = float(weighs.sum())
            if size > 0.0:
                total = total + part.weight * (each * counts).sum() / size
        return total

    def _update(
        self, parameters: dict[str, torch.Tensor], grads: dict[str, torch.Tensor], found: Results
    ) -> None:
        """PyTorch's own optimiser in float64."""
        if not parameters:
            return
        o: Any = self.case.optimizer
        tensors = [value.detach().clone() for value in parameters.values()]
        for tensor, grad in zip(tensors, grads.values(), strict=True):
            tensor.grad = grad.clone()
        if self.case.clip_norm is not None:
            # Without the 1e-6 that PyTorch's clip_grad_norm_ adds to the norm.
            norm = float(torch.cat([tensor.grad.flatten() for tensor in tensors]).norm())
            for tensor in tensors:
                tensor.grad *= min(1.0, self.case.clip_norm / norm) if norm else 1.0
        options = {"lr": LR, "weight_decay": o.weight_decay}
        if o.kind == "sgd":
            options |= {"momentum": o.momentum, "nesterov": o.nesterov}
            made: Any = torch.optim.SGD(tensors, **options)
        elif o.kind == "rmsprop":
            made = torch.optim.RMSprop(
                tensors, **options, alpha=o.alpha, eps=o.eps, momentum=o.momentum,
                centered=o.centered,
            )  # fmt: skip
        else:
            kind = torch.optim.Adam if o.kind == "adam" else torch.optim.AdamW
            made = kind(tensors, **options, betas=o.betas, eps=o.eps)
        made.step()
        largest = largest_norms(self.case.model)
        for key, tensor in zip(parameters, tensors, strict=True):
            if key in largest:
                # Without the 1e-7 that torch.renorm adds to the norm.
                norms = tensor.detach().flatten(1).norm(dim=1).clamp(min=largest[key])
                tensor = tensor * (largest[key] / norms).reshape(-1, *(1,) * (tensor.ndim - 1))
            found[f"parameter {key}"] = tensor.detach().numpy()
        for key, tensor in zip(parameters, tensors, strict=True):
            for slot in o.slots:
                found[f"{slot} of {key}"] = made.state[tensor][slot].numpy()


def step_of(case: Case, backend: str) -> Results:
    """The same step on a backend; changes the case's model."""
    model, batch = case.model, case.batch
    names = list(model.named_parameters())
    places = np.cumsum([0, *(value.size for value in model.named_parameters().values())])
    shapes = [value.shape for value in model.named_parameters().values()]

    def parts(vector: np.ndarray, what: str) -> Results:
        return {
            f"{what} {name}": vector[first:last].reshape(shape).astype(np.float64)
            for name, first, last, shape in zip(names, places, places[1:], shapes, strict=False)
        }

    kept = {key: value.copy() for key, value in model.state_dict().items()}
    weights = None if case.weights is None else case.weights[:batch]
    value, logits, gradient = loss_and_gradients(
        model, case.x[:batch], case.y[:batch], loss=case.loss, sample_weight=weights,
        backend=backend, step=TakenStep(case.training, case.seed)
    )  # fmt: skip
    found = {"loss": np.array(value), "logits": logits} | parts(gradient, "gradient of")
    if not case.training:
        output = predict_logits(model, case.x[:batch], backend=backend, threads=case.threads)
        return found | {"logits": output}
    model.load_state_dict(kept)
    executor = make_executor(
        model, loss=case.loss, optimizer=case.optimizer, backend=backend, batch_size=batch,
        seed=case.seed, threads=case.threads, clip_norm=case.clip_norm,
    )  # fmt: skip
    executor.train_steps(
        ArrayDataset(case.x, case.y, case.weights), np.arange(batch), np.full(1, LR)
    )
    found |= parts(model.parameter_vector, "parameter")
    for slot, vector in executor.optimizer_state().items():
        found |= parts(vector, f"{slot} of")
    state = model.state_dict()
    return found | {
        f"state {key}": value.copy() for key, value in state.items()
        if key not in names and not key.endswith("num_batches_tracked")
    }  # fmt: skip


def differences(case: Case, backend: str = "lanes") -> tuple[list[str], list[float]]:
    """Errors of a step, as text; and each array's difference, relative to float32's own."""
    kept = {key: value.copy() for key, value in case.model.state_dict().items()}
    step = Step(case, kept)
    found = step_of(case, backend)
    case.model.load_state_dict(kept)
    true = step.results()
    # A layer that is used twice has its arrays under two names, one of which is in the graph.
    buffers = {
        f"state {key}"
        for node in case.model.graph(case.x.shape[1:]).nodes
        for key in node.buffers.values()
    }
    names = [name for name in found if name in true and (name[:6] != "state " or name in buffers)]
    disturbed = [step.results(errors) for errors in range(FEW)]
    wrong = _wrong(found, true, disturbed, names, kept)
    if wrong:
        disturbed += [step.results(errors) for errors in range(FEW, MANY)]
        wrong = _wrong(found, true, disturbed, list(wrong), kept)
    nothing = [name for name in wrong if _is_nothing(name.split(" ")[-1], true, disturbed)]
    if nothing:
        disturbed = [step.results(errors, cancels=True) for errors in range(MANY)]
        right = set(nothing) - set(_wrong(found, true, disturbed, nothing, kept))
        wrong = {name: words for name, words in wrong.items() if name not in right}
    return list(wrong.values()), [
        difference / (bound / MARGIN)
        for difference, _, bound in _bounds(found, true, disturbed, names, kept).values()
        if bound
    ]


def _is_nothing(key: str, true: Results, disturbed: list[Results]) -> bool:
    """Whether the exact gradient of a parameter is 0 up to rounding."""
    name = f"gradient of {key}"
    if name not in true:
        return False
    most = max(float(np.abs(other[name] - true[name]).max()) for other in disturbed)
    return float(np.abs(true[name]).max()) <= NOTHING * most


def _wrong(
    found: Results, true: Results, disturbed: list[Results], names: list[str], kept: Results
) -> dict[str, str]:
    return {
        name: f"{name} {true[name].shape} differs by {difference:.2e} of {largest:.2e}, "
        f"float32 by {bound:.2e}"
        for name, (difference, largest, bound) in _bounds(
            found, true, disturbed, names, kept
        ).items()
        if not difference <= bound
    }


def _bounds(
    found: Results, true: Results, disturbed: list[Results], names: list[str], kept: Results
) -> dict[str, tuple[float, float, float]]:
    """For each array: its difference from the exact one, its largest element, and the bound."""
    bounds = {}
    for name in names:
        if not true[name].size:
            continue
        difference = float(np.abs(found[name] - true[name]).max())
        largest = float(np.abs(true[name]).max())
        if name.startswith("parameter"):
            # It may nearly vanish after the step.
            largest = max(largest, float(np.abs(kept[name.partition(" ")[2]]).max()))
        bound = max(float(np.abs(other[name] - true[name]).max()) for other in disturbed)
        # The array itself is rounded, too.
        bounds[name] = difference, largest, MARGIN * (bound + ROUNDING * largest)
    return bounds


def main() -> None:
    """Compare random networks."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--budget", type=int, default=BUDGET // 10)
    parser.add_argument("--backend", default="lanes")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    total: Counter[str] = Counter()
    shares: list[float] = []
    for seed in range(options.first, options.first + options.count):
        case = random_case(seed, options.budget)
        wrong, differing = differences(case, options.backend)
        shares += differing
        total += Counter({
            "networks": 1, "arrays": len(differing), "wrong networks": bool(wrong),
            "training" if case.training else "evaluation": 1,
        })  # fmt: skip
        if wrong:
            print("\n  ".join([str(case), *wrong]), flush=True)
    print(dict(total))
    if shares:
        median, most, all_ = np.quantile(shares, [0.5, 0.99, 1])
        print(
            f"differences, as a part of what float32 may differ by: median {median:.2f}, "
            f"of 99 % at most {most:.2f}, largest {all_:.2f}; wrong is more than {MARGIN:g}"
        )


if __name__ == "__main__":
    main()
