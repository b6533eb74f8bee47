"""Complete programs, as users would write them for each library: a fresh process's first gradient.

All of them use report_cnn, with the library's own initial weights, on a batch of 64.
"""

FASTCNN = """
import numpy as np
import fastcnn

model = fastcnn.models.report_cnn(seed=0)
fastcnn.gradients(model, np.ones((64, 1, 28, 28), np.float32), np.zeros(64, np.int64))
"""

_TORCH_NETWORK = """
import torch
from torch import nn

model = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(392, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 3),
)
"""

TORCH = (
    _TORCH_NETWORK
    + """
logits = model(torch.ones(64, 1, 28, 28))
nn.CrossEntropyLoss()(logits, torch.zeros(64, dtype=torch.long)).backward()
"""
)

TORCH_COMPILE = (
    _TORCH_NETWORK
    + """
compiled = torch.compile(model, options={"reorder_for_peak_memory": False})
logits = compiled(torch.ones(64, 1, 28, 28))
nn.CrossEntropyLoss()(logits, torch.zeros(64, dtype=torch.long)).backward()
"""
)

JAX = """
import sys
import jax
import jax.numpy as jnp

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

shapes = [(4, 1, 3, 3), (8, 4, 3, 3), (392, 128), (128, 128), (128, 3)]
keys = jax.random.split(jax.random.key(0), len(shapes))
parameters = [
    (0.1 * jax.random.normal(key, shape), jnp.zeros(shape[0] if len(shape) == 4 else shape[1]))
    for key, shape in zip(keys, shapes)
]

def convolve(x, weight, bias):
    y = jax.lax.conv_general_dilated(
        x, weight, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
    y = jax.nn.relu(y + bias[:, None, None])
    return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

def loss(parameters, x, labels):
    for weight, bias in parameters[:2]:
        x = convolve(x, weight, bias)
    x = x.reshape(len(x), -1)
    for weight, bias in parameters[2:4]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = parameters[4]
    scores = jax.nn.log_softmax(x @ weight + bias)
    return -jnp.take_along_axis(scores, labels[:, None], axis=1).mean()

step = jax.jit(jax.grad(loss))
jax.block_until_ready(step(parameters, jnp.ones((64, 1, 28, 28)), jnp.zeros(64, int)))
"""

TENSORFLOW = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import tensorflow as tf
from tensorflow.keras.layers import Conv2D, Dense, Flatten, MaxPool2D

model = tf.keras.Sequential([
    Conv2D(4, 3, padding="same", activation="relu"), MaxPool2D(),
    Conv2D(8, 3, padding="same", activation="relu"), MaxPool2D(), Flatten(),
    Dense(128, activation="relu"), Dense(128, activation="relu"), Dense(3)])
model.build((None, 28, 28, 1))
criterion = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

@tf.function
def step(x, labels):
    with tf.GradientTape() as tape:
        loss = criterion(labels, model(x, training=True))
    return tape.gradient(loss, model.trainable_variables)

gradients = step(tf.ones((64, 28, 28, 1)), tf.zeros(64, tf.int32))
"""

TINYGRAD = """
from tinygrad import Tensor, dtypes, nn

layers = [
    nn.Conv2d(1, 4, 3, padding=1), Tensor.relu, Tensor.max_pool2d,
    nn.Conv2d(4, 8, 3, padding=1), Tensor.relu, Tensor.max_pool2d, lambda x: x.flatten(1),
    nn.Linear(392, 128), Tensor.relu, nn.Linear(128, 128), Tensor.relu, nn.Linear(128, 3)]
x = Tensor.ones(64, 1, 28, 28).contiguous()
logits = x.sequential(layers)
loss = logits.sparse_categorical_crossentropy(Tensor.zeros(64, dtype=dtypes.int32).contiguous())
gradients = loss.gradient(*nn.state.get_parameters(layers))
gradients[0].realize(*gradients[1:])
gradients = [gradient.numpy() for gradient in gradients]
"""

TORCH_TRAINING = (
    _TORCH_NETWORK
    + """
import sys
from fastcnn.data import load

(train, test), epochs = load(sys.argv[1]), int(sys.argv[2])
x, tests = (
    torch.from_numpy(data.preprocessing.apply(data.images)).contiguous(
        memory_format=torch.channels_last)
    for data in (train, test))
y, expected = torch.from_numpy(train.labels), torch.from_numpy(test.labels)
model = model.to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, fused=True)
for epoch in range(epochs):
    for batch in torch.randperm(len(y)).split(64):
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    with torch.inference_mode():
        hits = sum(
            int((model(a).argmax(1) == b).sum())
            for a, b in zip(tests.split(1000), expected.split(1000)))
torch.save(model.state_dict(), sys.argv[3])
assert hits > 0.9 * len(expected)
"""
)
