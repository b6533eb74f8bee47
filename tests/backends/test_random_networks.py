"""Random networks: one step of every backend, compared with float64 and with PyTorch."""

from copy import deepcopy

import numpy as np
import pytest

from fastcnn.backends import BACKENDS
from fastcnn.execution import loss_and_gradients
from fastcnn.execution.step import Step as TakenStep
from tests.random_networks import Case, random_case

#: Maximum error of a float32 gradient against float64, relative to the network's largest gradient.
#: The error of a sum of n products is at most n * 2**-24 of the sum of magnitudes; small networks
#: have sums of at most a few hundred terms and 8 layers: 8 * 200 * 6e-8 = 1e-4.
BOUND = 1e-4
#: Multiplications of a batch of the networks that the nested loops run.
FEW_PRODUCTS = 30_000


def gradients(case: Case, backend: str, dtype: type = np.float32) -> tuple[float, np.ndarray]:
    """Loss and gradient of a copy of a network."""
    model = deepcopy(case.model).to(dtype)
    weights = None if case.weights is None else case.weights[: case.batch]
    value, _, gradient = loss_and_gradients(
        model, case.x[: case.batch], case.y[: case.batch], loss=case.loss, sample_weight=weights,
        backend=backend, step=TakenStep(case.training, case.seed)
    )  # fmt: skip
    return value, gradient


@pytest.mark.parametrize("seed", range(40))
def test_backends_agree(seed: int) -> None:
    case = random_case(seed, FEW_PRODUCTS, ("small", "vector", "sequence"))
    value, gradient = gradients(case, "im2col", np.float64)
    largest = max(1e-3, float(np.abs(gradient).max(initial=0)))
    for name in BACKENDS:
        other_value, other = gradients(case, name)
        assert other_value == pytest.approx(value, rel=1e-4, abs=1e-6), f"{name}: {case}"
        assert np.abs(other - gradient).max(initial=0) <= BOUND * largest, f"{name}: {case}"


@pytest.mark.torch
class TestAgainstTorch:
    """Every array that a step computes or changes, within the error of float32."""

    @pytest.fixture(autouse=True)
    def _torch(self) -> None:
        reason = "PyTorch is not installed (make test-all installs it)"
        torch = pytest.importorskip("torch", reason=reason)
        torch.set_num_threads(1)  # its threads would wait for the engine's

    def compare(self, seeds: range, budget: int, backend: str = "lanes", **styles: object) -> None:
        from tests.torch_networks import differences

        wrong, arrays = [], 0
        for seed in seeds:
            case = random_case(seed, budget, **styles)  # type: ignore[arg-type]
            found, compared = differences(case, backend)
            arrays += len(compared)
            wrong += ["\n  ".join([f"{backend}, {case}", *found])] if found else []
        assert not wrong, "\n".join(wrong)
        assert arrays > 5 * len(seeds)

    def test_some_networks(self) -> None:
        self.compare(range(30), 300_000)

    @pytest.mark.parametrize("backend", ["im2col", "reference"])
    def test_other_backends(self, backend: str) -> None:
        self.compare(range(100, 110), FEW_PRODUCTS, backend, styles=("small", "vector", "sequence"))

    @pytest.mark.slow
    @pytest.mark.parametrize("first", range(1000, 2000, 100))
    def test_a_thousand_networks(self, first: int) -> None:
        self.compare(range(first, first + 100), 3_000_000)

    @pytest.mark.parametrize("factor", [1 + 2e-5, 1 - 2e-5])
    def test_a_small_error_is_noticed(self, factor: float) -> None:
        """In some networks a gradient that is wrong by 0.002 % exceeds the error of float32."""
        from tests import torch_networks
        from tests.torch_networks import Step, _wrong, step_of

        noticed = []
        for seed in range(6):
            case = random_case(seed, 300_000, ("small",))
            kept = {key: value.copy() for key, value in case.model.state_dict().items()}
            step, found = Step(case, kept), step_of(case, "lanes")
            true = step.results()
            disturbed = [step.results(errors) for errors in range(torch_networks.FEW)]
            names = [name for name in found if name in true and "gradient" in name]
            changed = {name: value * factor for name, value in found.items()}
            noticed.append(bool(_wrong(changed, true, disturbed, names, kept)))
        # A softmax at the end, for example, makes some gradients too uncertain for this.
        assert sum(noticed) >= 2
