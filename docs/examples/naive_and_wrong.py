"""The report's questions: how slow are nested loops, and is a gradient right?

python docs/examples/naive_and_wrong.py
"""

import time

import numpy as np

from fastcnn import functional as F
from fastcnn.analysis import check_gradient


def milliseconds(backend: str, *arguments: np.ndarray) -> float:
    F.conv2d_backward(*arguments, padding=1, backend=backend)
    began = time.perf_counter()
    F.conv2d_backward(*arguments, padding=1, backend=backend)
    return 1e3 * (time.perf_counter() - began)


def main() -> None:
    generator = np.random.default_rng(0)
    x, weight, dy = (
        generator.standard_normal(shape).astype(np.float32)
        for shape in ((4, 4, 14, 14), (8, 4, 3, 3), (4, 8, 14, 14))
    )
    print("backward pass of the report's second convolution, 4 samples")
    for backend in ("reference", "im2col", "lanes"):
        print(f"  {backend:9s} {milliseconds(backend, dy, x, weight):8.3f} ms")

    # The report's code multiplies dy by (1 - dy), and ignores the activation.
    y = generator.standard_normal((3, 5))
    right = check_gradient(F.sigmoid, F.sigmoid_backward, y)
    wrong = check_gradient(F.sigmoid, lambda dy, x: dy * (1 - dy), y)
    print(f"error of the sigmoid's gradient: {right.error:.0e}; the report's: {wrong.error:.1f}")


if __name__ == "__main__":
    main()
