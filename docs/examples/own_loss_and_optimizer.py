"""A loss and an optimiser in plain Python, on the engine's forward and backward passes."""

import numpy as np

import fastcnn


def log_cosh(outputs, targets):
    """Loss of a batch, and its gradient by the outputs."""
    error = outputs - np.eye(outputs.shape[1], dtype=np.float32)[targets]
    return np.log(np.cosh(error)).mean(), np.tanh(error) / error.size


class SignDescent:
    """Steps of one length along the sign of a moving average of the gradient."""

    lr, slots = 0.002, ("average",)

    def update(self, parameters, gradient, slots, lr, step):
        slots["average"] += 0.1 * (gradient - slots["average"])
        parameters -= lr * np.sign(slots["average"])


train, test = fastcnn.data.digits_dataset(2000, 300, classes=(0, 1, 2))
model = fastcnn.models.report_cnn(seed=0)
history = fastcnn.fit(model, train, test, epochs=5, loss=log_cosh, optimizer=SignDescent())
print(f"accuracy {history.final.test_accuracy:.3f}")
