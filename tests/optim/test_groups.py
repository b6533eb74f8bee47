"""Parameter groups: valid arguments, the parameters they match, and their training."""

import json
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends import BACKENDS
from fastcnn.backends.lanes import Purpose, plan
from fastcnn.data.dataset import ArrayDataset
from fastcnn.errors import ConfigurationError
from fastcnn.execution import make_executor
from fastcnn.execution.assigned import Assigned, frozen_parameters
from fastcnn.execution.engines import parameter_places
from fastcnn.layers import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from fastcnn.optim import SGD, Adam, AdamW, Assignment, Muon, ParameterGroup, as_groups
from fastcnn.training.options import TrainingOptions

COUNT = 24
generator = np.random.default_rng(0)
X = generator.standard_normal((COUNT, 2, 6, 6)).astype(np.float32)
Y = generator.integers(0, 3, COUNT)


def network() -> Sequential:
    return Sequential(
        {
            "stem": Conv2d(2, 4, 3, padding=1, seed=0),
            "bn": BatchNorm2d(4),
            "relu": ReLU(),
            "pool": MaxPool2d(2),
            "conv": Conv2d(4, 5, 3, padding=1, seed=1),
            "bn2": BatchNorm2d(5),
            "flat": Flatten(),
            "head": Linear(45, 3, seed=2),
        },
        input_shape=(2, 6, 6),
    )


def module() -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    nn = torch.nn
    made = nn.Sequential()
    for name, layer in (
        ("stem", nn.Conv2d(2, 4, 3, padding=1)), ("bn", nn.BatchNorm2d(4)), ("relu", nn.ReLU()),
        ("pool", nn.MaxPool2d(2)), ("conv", nn.Conv2d(4, 5, 3, padding=1)),
        ("bn2", nn.BatchNorm2d(5)), ("flat", nn.Flatten()), ("head", nn.Linear(45, 3)),
    ):  # fmt: skip
        made.add_module(name, layer)
    return made


def assigned(groups: Any, optimizer: Any = None) -> Assigned:
    return Assigned(network(), Assignment(optimizer or SGD(0.1), as_groups(groups)))


def factors(groups: Any, optimizer: Any = None, epoch: int = 1) -> dict[str, float]:
    """The learning-rate factors of the trained parameters."""
    found = assigned(groups, optimizer)
    found.start_epoch(epoch, 10)
    places = parameter_places(found.model)
    return {
        name: part.factor
        for name, (offset, _) in places.items()
        for part in found.parts
        if part.first <= offset < part.end
    }


# -- what is accepted -------------------------------------------------------------------------


def test_text_and_dictionaries_are_the_same_groups() -> None:
    text = "*.bias: lr_factor=64 weight_decay=0; stem.*: freeze, bn.*: freeze_after=3"
    text = text.replace(", bn", ";bn") + ";head.*: optimizer=adam,betas=0.5/0.9"
    groups = as_groups(text)
    assert groups == as_groups(
        [
            {"match": "*.bias", "lr_factor": 64, "weight_decay": 0},
            {"match": "stem.*", "freeze": True},
            ParameterGroup("bn.*", freeze_after=3),
            {"match": "head.*", "optimizer": "adam", "betas": [0.5, 0.9]},
        ]
    )
    recorded = json.loads(json.dumps([group.settings() for group in groups]))
    assert as_groups(recorded) == groups
    own = as_groups([{"match": "*", "optimizer": Muon(others=SGD(0.1))}])
    assert as_groups(json.loads(json.dumps([own[0].settings()]))) == own
    options = TrainingOptions(groups=text)
    again = TrainingOptions.from_config(json.loads(json.dumps(options.config())))
    assert again.make_groups() == groups


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("stem", 'groups must be like "'),
        ("*.bias: weight_decay=0 weight_decay=1", "'*.bias': weight_decay is given twice"),
        ("stem.*:", 'groups must be like "'),
        ({"match": "*"}, "groups must be a list"),
        (3, "groups must be a list"),
        (["stem.*"], "groups must be dictionaries"),
        ([{"freeze": True}], "groups must be dictionaries"),
        ([{"match": ""}], "match must be a pattern"),
        ([{"match": "*"}], r"group '\*' sets nothing: it accepts lr_factor, freeze"),
        ([{"match": "*", "freeze": 1}], "freeze must be True or False, got 1"),
        ([{"match": "*", "lr_factor": -1}], "lr_factor must be a finite"),
        ([{"match": "*", "lr_factor": "2"}], "lr_factor must be a finite"),
        ([{"match": "*", "freeze_until": 0}], "freeze_until must be a number of epochs"),
        ([{"match": "*", "freeze": True, "freeze_after": 2}], "freeze and freeze_after exclude"),
        ("*: freeze lr=1 lr_factor=2", "lr, lr_factor has no effect with fr"),
        ([{"match": "*", "optimizer": "lamb"}], "optimizer must be one of"),
        ([{"match": "*", "optimizer": "adam", "momentum": 0.5}], "no effect with the optimizer"),
    ],
)
def test_bad_groups(groups: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        as_groups(groups)


@pytest.mark.parametrize("backend", ["im2col", "lanes"])
@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("stem2.*: freeze", r"group 'stem2.\*' matches no parameter: there are stem.weight, stem"),
        ("*: momentum=0.5", r"group '\*': momentum has no effect with Adam, which has lr, betas"),
        ("*: learning_rate=0.5", "learning_rate has no effect with Adam"),
        ("*: weight_decay=-1", "Adam: weight_decay must be at least 0"),
        ("stem.*: freeze_statistics", "freeze_statistics matches no running statistics: there are"),
        ("*: freeze freeze_statistics", "training would change nothing"),
    ],
)
def test_groups_that_do_not_fit(backend: str, groups: str, message: str) -> None:
    model = network()
    before = model.copy_state()
    with pytest.raises(ConfigurationError, match=message):
        fastcnn.fit(model, (X, Y), optimizer="adam", groups=groups, backend=backend)
    assert all((before[key] == value).all() for key, value in model.state_dict().items())


# -- which parameters are meant ---------------------------------------------------------------


def test_a_later_group_has_the_last_word() -> None:
    groups = as_groups("*: lr_factor=2; *.bias: lr_factor=64; bn.*: freeze")
    found = factors(groups)
    assert found["stem.bias"] == found["head.bias"] == 64.0
    assert found["stem.weight"] == 2.0
    assert "bn.bias" not in found
    assert len(factors("stem.*: freeze; stem.bias: freeze_after=3")) == 10 - 1
    assert factors("head.*: lr=0.01") | {"head.bias": 0, "head.weight": 0} == dict.fromkeys(
        factors("head.*: lr=0.01"), 1.0
    ) | {"head.bias": 0, "head.weight": 0}
    assert factors("head.*: lr=0.01")["head.bias"] == pytest.approx(0.1)


def test_epochs() -> None:
    groups = "stem.*: freeze_until=2; bn.*: freeze_after=2; conv.*: freeze"
    for epoch, frozen in ((1, {"stem"}), (2, {"stem"}), (3, {"bn"}), (9, {"bn"})):
        trained = {name.split(".")[0] for name in factors(groups, epoch=epoch)}
        assert trained == {"stem", "bn", "bn2", "head"} - frozen
    made = assigned(groups)
    made.start_epoch(3, 10)
    assert {part.began for part in made.parts if part.first == 0} == {20}


def test_muon_leaves_biases_to_others() -> None:
    made = assigned("head.*: optimizer=sgd lr=0.04 momentum=0.9", Muon(lr=0.02, others=Adam(0.01)))
    kinds = {type(part.optimizer).__name__ for part in made.parts}
    assert kinds == {"Muon", "Adam", "SGD"}
    places = parameter_places(made.model)
    for part in made.parts:
        if isinstance(part.optimizer, Muon):
            assert part.shape == next(s for o, s in places.values() if o == part.first)
    assert made.names == ("momentum_buffer/exp_avg", "exp_avg_sq")
    assert [part.factor for part in made.parts][-1] == 2.0


# -- training ---------------------------------------------------------------------------------

CASES: dict[str, tuple[Any, str]] = {
    "factor": (SGD(0.1, momentum=0.9), "*.bias: lr_factor=4 weight_decay=0.1"),
    "decay": (AdamW(0.01, weight_decay=0.3, eps=1e-4), "*.bias: weight_decay=0; bn*.*: lr=0.05"),
    "decoupled": (
        Adam(0.01, weight_decay=0.3, eps=1e-4),
        "conv.weight: decoupled_weight_decay=true; stem.*: freeze",
    ),
    "frozen below": (SGD(0.1), "stem.*: freeze; bn.*: freeze freeze_statistics; conv.bias: lr=0.2"),
    "frozen between": (SGD(0.1, momentum=0.5), "conv.*: freeze; bn.weight: freeze"),
    "weight alone": (SGD(0.1), "*.weight: freeze"),
    "bias alone": (SGD(0.1), "*.bias: freeze; bn*: freeze_statistics"),
    "head alone": (Adam(0.01, eps=1e-4), "stem.*: freeze; bn*: freeze; conv.*: freeze"),
}


def torch_groups(optimizer: Any, groups: Any, other: Any, torch: Any) -> Any:
    """PyTorch's optimiser with the same settings."""
    made = Assignment(optimizer, as_groups(groups))
    parameters = []
    for name, value in other.named_parameters():
        chosen, factor = made._optimizer(name, tuple(value.shape))
        frozen = any(group.freeze for group in made._of(name))
        value.requires_grad_(not frozen)
        arguments = {"lr": made.lr * factor, "weight_decay": chosen.weight_decay}
        if isinstance(chosen, Adam):
            arguments |= {"eps": chosen.eps, "decoupled_weight_decay":
                          chosen.decoupled_weight_decay}  # fmt: skip
        else:
            arguments |= {"momentum": chosen.momentum}
        if not frozen:
            parameters.append({"params": [value], **arguments})
    return (torch.optim.Adam if isinstance(optimizer, Adam) else torch.optim.SGD)(parameters)


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_pytorchs(backend: str, case: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    optimizer, groups = CASES[case]
    model, other = network(), module()
    other.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in model.state_dict().items()})
    theirs = torch_groups(optimizer, groups, other, torch)
    executor = make_executor(
        model, loss=fastcnn.CrossEntropyLoss(), backend=backend, batch_size=COUNT, threads=2,
        optimizer=Assignment(optimizer, as_groups(groups)),
    )  # fmt: skip
    frozen = {name for name in ("bn", "bn2") for group in as_groups(groups)
              if group.freeze_statistics and group.match[:2] == "bn"
              and (name == "bn" or group.match == "bn*")}  # fmt: skip
    for _ in range(3):
        executor.train_steps(ArrayDataset(X, Y), np.arange(COUNT), np.full(1, optimizer.lr))
        other.train()
        for name in frozen:
            getattr(other, name).eval()
        theirs.zero_grad()
        loss = torch.nn.functional.cross_entropy(other(torch.from_numpy(X)), torch.from_numpy(Y))
        loss.backward()
        theirs.step()
    for key, value in model.state_dict().items():
        assert value == pytest.approx(other.state_dict()[key].numpy(), rel=2e-3, abs=2e-4), key


@pytest.mark.parametrize("case", CASES)
def test_gradients_that_are_not_wanted_are_not_computed(case: str) -> None:
    """No row of the program computes them, and no pass goes below the lowest trained layer."""
    optimizer, groups = CASES[case]
    made = assigned(groups, optimizer)
    frozen = frozen_parameters(made.model, made.parts)
    build = {"loss": fastcnn.CrossEntropyLoss().engine_key, "training": True}
    whole, less = (
        plan(made.graph(), COUNT, parameter_places(made.model), 2, Purpose(**build, frozen=names))
        for names in ((), frozen)
    )
    kept = less.names[less.forward_rows :]
    for layer in ("stem", "conv", "head"):
        for what in ("weight", "bias"):
            rows = [name for name in kept if name.startswith(f"{layer}: {what} gradient")]
            if f"{layer}.{what}" in frozen:
                assert not rows
    assert len(less.rows) + (not frozen) <= len(whole.rows) + (not frozen)
    if case == "frozen below":
        assert not any(name.startswith(("stem", "bn:", "pool")) for name in kept)
        assert not any(name.startswith("conv: input gradient") for name in kept)
    if case == "head alone":
        assert not any(name.startswith(("stem", "bn", "conv", "pool")) for name in kept)


def test_frozen_in_some_epochs() -> None:
    """The same as a run whose parts are frozen by hand, on both backends."""
    groups = "stem.*: freeze_until=1; head.bias: freeze_after=1"
    for backend in ("im2col", "lanes"):
        states: list[dict[str, np.ndarray]] = []

        class Keep(fastcnn.training.Callback):
            def on_epoch_end(self, epoch: Any, model: Any, kept: Any = states) -> None:
                kept.append(model.copy_state())

        model = network()
        first = model.copy_state()
        fastcnn.fit(
            model, (X, Y), epochs=2, batch_size=8, optimizer="adam", groups=groups,
            backend=backend, callbacks=[Keep()], diagnose=False,
        )  # fmt: skip
        assert (states[0]["stem.weight"] == first["stem.weight"]).all()
        assert (states[1]["stem.weight"] != first["stem.weight"]).any()
        assert (states[0]["head.bias"] != first["head.bias"]).any()
        assert (states[1]["head.bias"] == states[0]["head.bias"]).all()
        # Adam's first step has the size of the learning rate, whenever it is taken.
        change = np.abs(states[1]["stem.weight"] - first["stem.weight"]).max()
        assert change < 3.01 * 1e-3


def test_im2col_computes_wanted_gradients_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastcnn.backends import im2col

    masks: list[Any] = []
    backward = im2col.conv2d_backward

    def watched(*arguments: Any, **options: Any) -> Any:
        masks.append(options["output_mask"])
        return backward(*arguments, **options)

    monkeypatch.setattr(im2col, "conv2d_backward", watched)
    for groups, expected in (
        ("conv.weight: freeze", [(True, False, True), (False, True, True)]),
        ("stem.*: freeze; bn.*: freeze", [(False, True, True)]),
        ("stem.bias: freeze", [(True, True, True), (False, True, False)]),
    ):
        masks.clear()
        executor = make_executor(
            network(), loss=fastcnn.CrossEntropyLoss(), backend="im2col", batch_size=8,
            optimizer=Assignment(SGD(0.1), as_groups(groups)),
        )  # fmt: skip
        executor.train_steps(ArrayDataset(X, Y), np.arange(8), np.full(1, 0.1))
        assert masks == expected


@pytest.mark.parametrize("case", CASES)
def test_bits_do_not_depend_on_threads(case: str) -> None:
    optimizer, groups = CASES[case]
    found = []
    for threads in (1, 2, 3):
        model = network()
        executor = make_executor(
            model, loss=fastcnn.CrossEntropyLoss(), batch_size=COUNT, threads=threads,
            optimizer=Assignment(optimizer, as_groups(groups)),
        )  # fmt: skip
        executor.train_steps(
            ArrayDataset(X, Y), np.tile(np.arange(COUNT), 3), np.full(3, optimizer.lr)
        )
        found.append(model.parameter_vector.copy())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
