"""PyTorch's version of a recipe: the same weights, order of samples, augmentation and rates."""

from typing import Any

import numpy as np

from fastcnn.benchmark.pytorch import make_module
from fastcnn.benchmark.work import learned_keys
from fastcnn.data import Dataset
from fastcnn.errors import ConfigurationError
from fastcnn.execution import gradients
from fastcnn.layers import Model
from fastcnn.optim import SGD, Adadelta, Adam, Lookahead, Muon, Optimizer, Part, learning_rates
from fastcnn.recipes import NamedRecipe
from fastcnn.training.evaluation import VIEWS, view

#: Maximum norm of the difference of a parameter's gradients, relative to their own norm, in float64
#: and in float32.
EXACT, CLOSE = 1e-9, 5e-3
#: Relative perturbation of samples, equal to rounding in float64 and in the engine; maximum ratio
#: of the difference of gradients to the effect of this perturbation.
SHAKEN, TIMES = (2.0**-50, 2.0**-20), 10.0
#: Samples of the compared step.
COMPARED = 64


class Twin:
    """PyTorch's training by a recipe, in channels_last."""

    name = "PyTorch channels_last"

    def __init__(self, recipe: NamedRecipe, train: Dataset, test: Dataset, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.recipe, self.tests = recipe, test
        o = self.options = recipe.options
        if isinstance(o.validation, float):
            # The held-out part has the same size, though not the same samples.
            train = train.subset(slice(0, len(train) - round(o.validation * len(train))))
        self.data = train
        self.labels = torch.from_numpy(train.labels)
        augment = o.make_augment()
        assert not isinstance(augment, dict)
        self.augment = augment
        self.images = None
        if augment is None:  # normalised in advance, which is not part of PyTorch's time
            self.images = self._normalised(train.images)
        self.per_epoch = o.steps_per_epoch or -(-len(train) // o.batch_size)

    def warm(self) -> None:
        """Compare the first step's gradients with fastcnn's, and run some steps."""
        check_first_step(self.recipe, self.data)
        self._train(0, 3)

    def train(self, seed: int) -> None:
        """A complete training."""
        self._train(seed, self.options.total_steps(self.per_epoch))

    def _train(self, seed: int, until: int) -> None:
        o = self.options
        model = self.recipe.make_model(self.data, seed)
        self.module, self.parameters = twin_of(model)
        self.module.train()
        total = o.total_steps(self.per_epoch)
        rates = learning_rates(
            o.make_schedule(), o.make_assignment().lr, 0, total, total, self.per_epoch
        )
        steppers, slow = self._steppers(), None
        if o.lookahead is not None:
            slow = SlowWeights(self.module, Lookahead.of(o.lookahead))
        generator, step = np.random.default_rng(seed), 0
        for epoch in range(1, o.epochs + 1):
            order = generator.permutation(len(self.data))
            parts = {name: self._part(name, epoch) for name in self.parameters}
            for name, parameter in self.parameters.items():
                parameter.requires_grad_(parts[name] is not None)
            for batch in range(self.per_epoch):
                if step == until:
                    break
                rows = order[batch * o.batch_size : (batch + 1) * o.batch_size]
                loss = self._loss(self.module(self._batch(rows, seed, epoch)), rows)
                loss.backward()
                for stepper in steppers:
                    stepper.take(rates[step])
                step += 1
                if slow is not None:
                    slow.update(step, step / total)
        if slow is not None:
            slow.finish()

    def test(self) -> float:
        """Accuracy with the recipe's test-time augmentation."""
        import torch

        self.module.eval()
        views = VIEWS[self.recipe.tta] if self.recipe.tta else ((1.0, False, 0, 0),)
        hits = 0
        with torch.inference_mode():
            for start in range(0, len(self.tests), 1000):
                images = self.tests.images[start : start + 1000]
                logits = sum(
                    share * self.module(self._normalised(view(images, mirrored, down, right)))
                    for share, mirrored, down, right in views
                )
                labels = torch.from_numpy(self.tests.labels[start : start + 1000])
                hits += int((logits.argmax(1) == labels).sum())
        return hits / len(self.tests)

    def _part(self, name: str, epoch: int) -> Part | None:
        """The update of a parameter in an epoch; None if it is frozen."""
        shape = tuple(self.parameters[name].shape)
        parts = self.options.make_assignment().parts({name: (0, shape, True)}, epoch)
        return parts[0] if parts else None

    def _steppers(self) -> list["Stepper"]:
        kinds: dict[type[Optimizer], list[tuple[Any, Part]]] = {}
        for name, parameter in self.parameters.items():
            part = self._part(name, 1)
            if part is not None:
                kinds.setdefault(type(part.optimizer), []).append((parameter, part))
        return [Stepper(kind, chosen) for kind, chosen in kinds.items()]

    def _batch(self, rows: np.ndarray, seed: int, epoch: int) -> Any:
        if self.images is not None:
            return self.images[rows]
        assert self.augment is not None
        return self._normalised(self.augment.apply(self.data.images, rows, seed=seed, epoch=epoch))

    def _normalised(self, images: np.ndarray) -> Any:
        return normalised(images, self.data)

    def _loss(self, outputs: Any, rows: np.ndarray) -> Any:
        return twin_loss(self.options.make_loss(), outputs, self.labels[rows])


class Stepper:
    """One of PyTorch's optimisers, over the parameters that use it."""

    def __init__(self, kind: type[Optimizer], chosen: list[tuple[Any, Part]]) -> None:
        import torch

        groups = []
        for parameter, part in chosen:
            o = part.optimizer
            group: dict[str, Any] = {"params": [parameter], "lr": o.lr, "factor": part.factor}
            names = {
                SGD: ("momentum", "nesterov", "weight_decay"),
                Adam: ("betas", "eps", "weight_decay"),
                Adadelta: ("rho", "eps", "weight_decay"),
                Muon: ("momentum", "nesterov", "ns_steps", "ns_coefficients", "eps"),
            }
            if kind not in names:
                raise ConfigurationError(f"the PyTorch twin has no optimiser {kind.__name__}")
            groups.append(group | {name: getattr(o, name) for name in names[kind]})
        makers = {
            SGD: lambda: torch.optim.SGD(groups, fused=True),
            Adam: lambda: torch.optim.Adam(groups, fused=True),
            Adadelta: lambda: torch.optim.Adadelta(groups),
            Muon: lambda: muon(groups),
        }
        self.optimizer = makers[kind]()

    def take(self, rate: float) -> None:
        """One step with a base rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def muon(groups: list[dict[str, Any]]) -> Any:
    """Muon as in airbench: each weight is scaled to the norm sqrt(out) before its step."""
    import torch

    class Airbenchs(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    velocity = state.setdefault("velocity", torch.zeros_like(p.grad))
                    velocity.mul_(group["momentum"]).add_(p.grad)
                    along = p.grad.add(velocity, alpha=group["momentum"])
                    p.mul_(len(p) ** 0.5 / p.norm())
                    p.sub_(group["lr"] * orthogonalised(along, group).view_as(p))

    def orthogonalised(matrix: Any, group: dict[str, Any]) -> Any:
        a, b, c = group["ns_coefficients"]
        x = matrix.reshape(len(matrix), -1)
        wide = len(x) <= x.shape[1]
        x = (x if wide else x.T) / (x.norm() + group["eps"])
        for _ in range(group["ns_steps"]):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x if wide else x.T

    return Airbenchs(groups, {})


class SlowWeights:
    """Lookahead over all floating-point state, as in airbench."""

    def __init__(self, module: Any, lookahead: Lookahead) -> None:
        self.lookahead = lookahead
        self.fast = [value for value in module.state_dict().values() if value.is_floating_point()]
        self.slow = [value.clone() for value in self.fast]

    def update(self, step: int, share: float) -> None:
        """Update the slow weights after every few steps, and restart from them."""
        if step % self.lookahead.every == 0:
            weight = self.lookahead.weight(share)
            for slow, fast in zip(self.slow, self.fast, strict=True):
                fast.copy_(slow.lerp_(fast, weight))

    def finish(self) -> None:
        """Keep the slow weights."""
        for slow, fast in zip(self.slow, self.fast, strict=True):
            fast.copy_(slow)


def twin_of(model: Model) -> tuple[Any, dict[str, Any]]:
    """A module with a model's weights, and its trained parameters by fastcnn's names."""
    import torch

    state = dict(model.state_dict())
    frozen = {name for name, layer in model.named_leaves() if not layer.requires_grad}
    learned = {key for key in learned_keys(model) if key.rpartition(".")[0] not in frozen}
    module = make_module(model.graph(), state, learned).to(memory_format=torch.channels_last)
    return module, {key: getattr(module, module.names[key]) for key in state if key in learned}


def twin_loss(loss: Any, outputs: Any, labels: Any) -> Any:
    """A recipe's cross-entropy loss."""
    import torch.nn.functional as F

    if loss.operation != "cross_entropy":
        raise ConfigurationError(f"the PyTorch twin has no loss {loss.operation}")
    return F.cross_entropy(
        outputs, labels, label_smoothing=loss.label_smoothing or 0.0, reduction=loss.reduction
    )


def normalised(images: np.ndarray, data: Dataset) -> Any:
    """Images in the form that a module in channels_last reads."""
    import torch

    x = torch.from_numpy(np.require(images, requirements="W"))
    if images.dtype == np.uint8:
        x = x.float().div_(255.0)
    p = data.preprocessing
    if p.mean:
        mean, std = (torch.tensor(each)[:, None, None] for each in (p.mean, p.std))
        x = (x - mean) / std
    return x.contiguous(memory_format=torch.channels_last)


def _first_step(recipe: NamedRecipe, data: Dataset, dtype: Any) -> tuple[Model, Any, Any]:
    """The network of the first seed, without dropout, and the samples of its first step."""
    model = recipe.make_model(data, 0).to(dtype)
    for _, layer in model.named_leaves():
        if hasattr(layer, "p"):
            layer.p = 0.0
    rows = np.random.default_rng(0).permutation(len(data))[:COMPARED]
    return model, data.preprocessing.apply(data.images[rows]).astype(dtype), data.labels[rows]


def own_gradients(
    recipe: NamedRecipe, data: Dataset, dtype: Any, backend: str | None, noise: float = 0.0
) -> dict[str, np.ndarray]:
    """The first step's gradients for samples multiplied by random factors close to 1."""
    model, x, y = _first_step(recipe, data, dtype)
    x *= 1 + noise * np.random.default_rng(1).standard_normal(x.shape, dtype)
    loss = recipe.options.make_loss()
    return gradients(model, x, y, loss=loss, training=True, backend=backend)[1]


def torch_gradients(recipe: NamedRecipe, data: Dataset) -> dict[str, np.ndarray]:
    """PyTorch's gradients of the first step, in float64."""
    import torch

    model, x, y = _first_step(recipe, data, np.float64)
    module, parameters = twin_of(model)
    module.train()
    outputs = module(torch.from_numpy(x))
    twin_loss(recipe.options.make_loss(), outputs, torch.from_numpy(y)).backward()
    return {name: value.grad.contiguous().numpy() for name, value in parameters.items()}


def check_first_step(recipe: NamedRecipe, data: Dataset, backend: str | None = None) -> None:
    """Compare the first step's gradients from the same weights on the same samples.

    In float64 they are equal up to rounding, or up to the effect of perturbing samples by their
    rounding, which the batch normalisation of a nearly constant channel amplifies. In float32 a
    unit near its activation's kink, or two nearly equal pixels of a pool, may go either way: the
    backend's gradients are compared as vectors with PyTorch's in float64.

    Raises
    ------
    AssertionError
        If they differ: these twins are not timed.
    """
    theirs = torch_gradients(recipe, data)
    exact, *shaken = (
        own_gradients(recipe, data, np.float64, "im2col", noise) for noise in (0.0, *SHAKEN)
    )
    own = own_gradients(recipe, data, np.float32, backend)
    for name, gradient in theirs.items():
        size = max(float(np.linalg.norm(gradient)), 1e-12)
        for found, bound, changed in zip((exact, own), (EXACT, CLOSE), shaken, strict=True):
            apart = float(np.linalg.norm(found[name] - gradient)) / size
            magnified = float(np.linalg.norm(changed[name] - exact[name])) / size
            limit = max(bound, TIMES * magnified)
            assert apart < limit, f"{recipe.name}: gradients of {name} differ by {apart:.1e}"
