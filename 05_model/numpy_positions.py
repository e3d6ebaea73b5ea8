"""The position schemes of lesson 04 in NumPy, for numpy_forward.py; float32 throughout.

Dimensions: T positions 0 to T - 1, d_model features, d_head features per head.
"""

import math

import numpy as np

from attention_numpy import Array, causal_mask


def angles(T: int, width: int) -> Array:
    """t * 10000^(-2i / width) for each position t and pair of features i: (T, ceil(width / 2))."""
    return np.arange(T)[:, None] * 10_000.0 ** (-np.arange(0, width, 2) / width)


def sinusoidal_encoding(T: int, d_model: int) -> Array:
    """Sines in the even features, cosines in the odd: (T, d_model)."""
    waves = np.stack((np.sin(angles(T, d_model)), np.cos(angles(T, d_model))), axis=-1)
    return waves.reshape(T, -1)[:, :d_model].astype(np.float32)


def apply_rotary(x: Array) -> Array:
    """RoPE: rotate each pair (x[i], x[i + d_head / 2]) by its angle; x (B, n_heads, T, d_head)."""
    T, d_head = x.shape[-2:]
    cos = np.cos(angles(T, d_head))  # (T, d_head / 2)
    sin = np.sin(angles(T, d_head))
    first, second = np.split(x, 2, axis=-1)
    rotated = np.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)
    return rotated.astype(np.float32)  # the angles are float64


def alibi_slopes(n_heads: int) -> Array:
    """2^(-8h / p) for the first p heads, p a power of two; then every other slope of 2p heads."""
    p = 2 ** int(math.log2(n_heads))
    exponents = [8 * h / p for h in range(1, p + 1)]
    exponents += [4 * h / p for h in range(1, 2 * (n_heads - p), 2)]
    return 2.0 ** -np.array(exponents)


def alibi_mask(T: int, n_heads: int) -> Array:
    """Minus slope times distance where a query may attend, else -inf: (1, n_heads, T, T)."""
    distance = np.abs(np.arange(T)[:, None] - np.arange(T))  # |i - j|  (T, T)
    bias = -alibi_slopes(n_heads)[:, None, None] * distance  # (n_heads, T, T)
    return np.where(causal_mask(T), bias, -np.inf)[None]
