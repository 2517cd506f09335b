"""Fourier transforms and what goes with them.

Source: ONNX operators of these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from normswap.semantics.operators.casting import cast
from normswap.semantics.registry import operator

if TYPE_CHECKING:
    from collections.abc import Sequence


@operator("DFT", since=(17, 20))
def dft(
    x: np.ndarray,
    dft_length: np.ndarray | None = None,
    along: np.ndarray | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
    opset: int,
) -> np.ndarray:
    """Return the transform along an axis; the last axis holds the real and imaginary parts."""
    if opset >= 20:
        axis = -2 if along is None else int(along.reshape(()))
    axis %= x.ndim
    values = x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0].astype(complex)
    length = None if dft_length is None else int(dft_length.reshape(()))
    if inverse and onesided:
        return np.fft.irfft(values, length, axis=axis)[..., None]
    y = (np.fft.ifft if inverse else np.fft.fft)(values, length, axis=axis)
    if onesided:
        y = np.take(y, np.arange(y.shape[axis] // 2 + 1), axis=axis)
    return np.stack([y.real, y.imag], axis=-1)


@operator("STFT", since=(17,))
def stft(
    x: np.ndarray,
    frame_step: np.ndarray,
    window: np.ndarray | None = None,
    frame_length: np.ndarray | None = None,
    *,
    onesided: int = 1,
) -> np.ndarray:
    """Return (batch, frames, bins, 2): the transform of every frame that fits, windowed."""
    if frame_length is not None:
        length = int(frame_length.reshape(()))
    else:
        length = x.shape[1] if window is None else len(window)
    step = int(frame_step.reshape(()))
    values = x.reshape(*x.shape[:2], -1)
    signal = values[..., 0] + 1j * values[..., 1] if values.shape[-1] == 2 else values[..., 0]
    starts = range(0, signal.shape[1] - length + 1, step)
    frames = np.stack([signal[:, start : start + length] for start in starts], axis=1)
    y = np.fft.fft(frames if window is None else frames * window, axis=-1)
    if onesided:
        y = y[..., : length // 2 + 1]
    return np.stack([y.real, y.imag], axis=-1)


def _window(
    size: np.ndarray, weights: Sequence[float], periodic: int, output_datatype: int
) -> np.ndarray:
    """Return a sum of cosines over a window."""
    length = int(np.asarray(size).reshape(()))
    phase = 2 * np.pi * np.arange(length) / (length if periodic else length - 1)
    y = sum(w * np.cos(k * phase) for k, w in enumerate(weights))
    return cast(np.asarray(y), to=output_datatype)


@operator("BlackmanWindow", since=(17,))
def blackman_window(
    size: np.ndarray, *, output_datatype: int = onnx.TensorProto.FLOAT, periodic: int = 1
) -> np.ndarray:
    """Return Blackman's window."""
    return _window(size, (0.42, -0.5, 0.08), periodic, output_datatype)


@operator("HannWindow", since=(17,))
def hann_window(
    size: np.ndarray, *, output_datatype: int = onnx.TensorProto.FLOAT, periodic: int = 1
) -> np.ndarray:
    """Return Hann's window."""
    return _window(size, (0.5, -0.5), periodic, output_datatype)


@operator("HammingWindow", since=(17,))
def hamming_window(
    size: np.ndarray, *, output_datatype: int = onnx.TensorProto.FLOAT, periodic: int = 1
) -> np.ndarray:
    """Return Hamming's window, with the coefficients 25/46 and 21/46."""
    return _window(size, (25 / 46, -21 / 46), periodic, output_datatype)


@operator("MelWeightMatrix", since=(17,))
def mel_weight_matrix(
    bins: np.ndarray,
    dft_length: np.ndarray,
    sample_rate: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    output_datatype: int = onnx.TensorProto.FLOAT,
) -> np.ndarray:
    """Return (dft_length // 2 + 1, bins): triangles that overlap, evenly spaced in mel.

    Their corners are whole bins of the spectrum.
    """
    count, length = int(bins.reshape(())), int(dft_length.reshape(()))
    low, high = (2595 * np.log10(1 + float(f.reshape(())) / 700) for f in (lower, upper))
    mel = low + np.arange(count + 2) * (high - low) / (count + 2)
    hertz = 700 * (10 ** (mel / 2595) - 1)
    corners = ((length + 1) * hertz // float(sample_rate.reshape(()))).astype(int)
    y = np.zeros((length // 2 + 1, count))
    for column in range(count):
        left, middle, right = corners[column : column + 3]
        if left == middle:
            y[middle, column] = 1
        else:
            rising = np.arange(left, middle + 1)
            y[rising, column] = (rising - left) / (middle - left)
        falling = np.arange(middle, right)
        if right > middle:
            y[falling, column] = (right - falling) / (right - middle)
    return cast(y, to=output_datatype)
