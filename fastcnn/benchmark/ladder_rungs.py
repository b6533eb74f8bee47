"""Gradients of a convolution of stride 1, each function faster than the one before.

Arguments are dy of shape (N, O, H, W), x of shape (N, C, H, W), w of shape (O, C, K, K) and the
padding (K - 1) / 2; results are dx, dw and db.
"""

import numpy as np
from numba import njit
from numpy.lib.stride_tricks import sliding_window_view

#: The gradients of the input, the weights and the bias.
Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]


def loops(dy: np.ndarray, x: np.ndarray, w: np.ndarray, p: int) -> Gradients:
    N, O, H, W = dy.shape
    C, K = w.shape[1:3]
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros(O, x.dtype)
    for n in range(N):
        for o in range(O):
            for i in range(H):
                for j in range(W):
                    g = dy[n, o, i, j]
                    db[o] += g
                    for c in range(C):
                        for k in range(K):
                            for l in range(K):
                                h, v = i + k - p, j + l - p
                                if 0 <= h < H and 0 <= v < W:
                                    dw[o, c, k, l] += g * x[n, c, h, v]
                                    dx[n, c, h, v] += g * w[o, c, k, l]
    return dx, dw, db


jitted_loops = njit(loops)


def im2col_in_numpy(dy: np.ndarray, x: np.ndarray, w: np.ndarray, p: int) -> Gradients:
    N, O, H, W = dy.shape
    C, K = w.shape[1:3]
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    # Windows have the shape (N, C, H, W, K, K).
    windows = sliding_window_view(padded, (K, K), (2, 3))
    columns = windows.transpose(1, 4, 5, 0, 2, 3).reshape(C * K * K, -1)
    rows = dy.swapaxes(0, 1).reshape(O, -1)
    dw = (rows @ columns.T).reshape(w.shape)
    back = (w.reshape(O, -1).T @ rows).reshape(C, K, K, N, H, W)
    dx = np.zeros((C, N, H + 2 * p, W + 2 * p), x.dtype)
    for k in range(K):
        for l in range(K):
            dx[:, :, k : k + H, l : l + W] += back[:, k, l]
    dx = dx[:, :, p : p + H, p : p + W].swapaxes(0, 1)
    return dx, dw, rows.sum(axis=1)


def im2col_with_numba(dy: np.ndarray, x: np.ndarray, w: np.ndarray, p: int) -> Gradients:
    N, O, H, W = dy.shape
    C, K = w.shape[1:3]
    matrix = w.reshape(O, -1)
    dx, dw = np.zeros_like(x), np.zeros_like(matrix)
    db = np.zeros(O, x.dtype)
    # The columns of a block stay in the cache.
    block = max(1, 2**18 // (4 * C * K * K * H * W))
    for first in range(0, N, block):
        part = slice(first, first + block)
        rows = np.ascontiguousarray(dy[part].swapaxes(0, 1)).reshape(O, -1)
        samples = rows.shape[1] // (H * W)
        columns = np.zeros((C, K, K, samples, H, W), x.dtype)
        move(columns, x[part], p, False)
        dw += rows @ columns.reshape(C * K * K, -1).T
        np.matmul(matrix.T, rows, out=columns.reshape(C * K * K, -1))
        move(columns, dx[part], p, True)
        db += rows.sum(axis=1)
    return dx, dw.reshape(w.shape), db


@njit
def move(columns: np.ndarray, x: np.ndarray, p: int, back: bool) -> None:
    C, K, _, N, H, W = columns.shape
    for c in range(C):
        for k in range(K):
            for l in range(K):
                for n in range(N):
                    for i in range(max(0, p - k), min(H, H + p - k)):
                        # Row i, and the corresponding pixels of the image.
                        a, b = max(0, p - l), min(W, W + p - l)
                        column = columns[c, k, l, n, i, a:b]
                        pixels = x[n, c, i + k - p, a + l - p : b + l - p]
                        for j in range(b - a):
                            if back:
                                pixels[j] += column[j]
                            else:
                                column[j] = pixels[j]
