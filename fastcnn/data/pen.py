"""Draws pen paths as anti-aliased strokes."""

import numpy as np

from fastcnn.codegen import compiled


@compiled("float64[:,:,:]", "bool[:,:]", "float64[:]", "float64[:]", "out float32[:,:,:]")
def _draw(
    paths: np.ndarray,
    pen_down: np.ndarray,
    width: np.ndarray,
    softness: np.ndarray,
    images: np.ndarray,
) -> None:
    size = images.shape[1]
    for n in range(len(paths)):
        reach = width[n] + softness[n]
        for p in range(paths.shape[1] - 1):
            if not pen_down[n, p]:
                continue
            ax, ay = paths[n, p]
            bx, by = paths[n, p + 1]
            dx, dy = bx - ax, by - ay
            length = dx * dx + dy * dy
            top = max(0, int(np.floor(min(ay, by) - reach)))
            bottom = min(size, int(np.ceil(max(ay, by) + reach)) + 1)
            left = max(0, int(np.floor(min(ax, bx) - reach)))
            right = min(size, int(np.ceil(max(ax, bx) + reach)) + 1)
            for h in range(top, bottom):
                for w in range(left, right):
                    t = 0.0
                    if length > 0.0:
                        t = min(1.0, max(0.0, ((w - ax) * dx + (h - ay) * dy) / length))
                    across, along = w - ax - t * dx, h - ay - t * dy
                    squared = across * across + along * along
                    if squared >= reach * reach:
                        continue
                    value = min(1.0, (reach - np.sqrt(squared)) / (2.0 * softness[n]))
                    if value > images[n, h, w]:
                        images[n, h, w] = value


def draw_paths(
    paths: np.ndarray, pen_down: np.ndarray, width: np.ndarray, softness: np.ndarray, size: int
) -> np.ndarray:
    """Render paths as images of ink between 0 and 1, float32 of shape (N, size, size).

    Paths are points (x, y) in pixels, of shape (N, points, 2); ``pen_down`` says whether ink leads
    from each to the next. ``width`` and ``softness``, of shape (N,), are half the width of the
    stroke and of its soft edge, in pixels.
    """
    images = np.zeros((len(paths), size, size), np.float32)
    _draw(paths, np.ascontiguousarray(pen_down), width, softness, images)
    return images
