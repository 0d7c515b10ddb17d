"""Finds faults in a second of audio: stateless arithmetic on samples.

    bad_samples      any piece: samples that are not finite or far out of range
    faults_of        a second: silent, stuck, repeated, clipped, dc, clipping, offset, low
    power_of         a second: its power spectrum, which is averaged over a minute
    spectrum_faults  a minute: nothing in half of the band, nothing but mains hum

A real, quiet recording has noise: of the microphone, of the converter, or dither. What is called
silent here has none, in any sample of the second. A pure tone of a test file repeats itself exactly
as well; it is recognised by having nothing besides a few spectral lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

ABSURD = 4.0  # a larger sample is not audio: full scale is 1
ZERO = 1e-11  # a 24-bit step at the lowest gain is 1.2e-10
FULL_SCALE = 0.999
MOST = 0.5  # share of a second's samples
OFTEN = 0.001
OFFSET, PURE_OFFSET = 0.02, 0.1  # of full scale
STILL = 1e-4  # RMS besides a pure offset, -80 dBFS
LOW_DB = -90.0  # 16 bits with dither alone are at -96
SAME = 2e-6  # of the peak: how equal two equal blocks are after resampling
RAIL = 1e-4  # of the range: distance of clipped samples from its ends
EACH_RAIL = 0.1  # share of samples at either end, if the ends are not full scale
LEAST_RANGE = 2e-3  # 64 steps of 16 bits: a smaller range may have only two values
LINES, BESIDE = 8, 1e-6  # a tone: this many lines have all but this share of the power
DROP_DB, TOP_DB = 40.0, -90.0
LOWEST_EDGE, HIGHEST_EDGE = 0.05, 0.55  # of the Nyquist frequency
MAINS_HZ, MAINS_WIDTH_HZ, MAINS_TOP_HZ = (50.0, 60.0), 6.0, 1000.0
HUM_SHARE, HUM_REST_DB = 0.999, -80.0
HARRIS = (0.35875, 0.48829, 0.14128, 0.01168)


def bad_samples(samples: Samples) -> NDArray[np.bool_]:
    """Return a mask (n,) of samples that are not finite or exceed ``ABSURD`` in magnitude."""
    with np.errstate(invalid="ignore"):
        return ~(np.abs(samples) <= ABSURD)


def faults_of(segment: Samples, before: Samples) -> frozenset[str]:
    """Return the faults of about a second of audio.

    Parameters
    ----------
    segment : array (n,)
        Finite samples, about a second.
    before : array (m,)
        The samples directly before it; a repeated block is searched only if m >= n.

    Returns
    -------
    frozenset of str
        Any of ``silent``, ``stuck``, ``repeated``, ``clipped``, ``dc``, ``clipping``, ``offset``,
        ``low``.

    """
    high, low = float(segment.max()), float(segment.min())
    peak, span = max(high, -low), high - low
    if peak <= ZERO:
        return frozenset({"silent"})
    loud = float(np.mean(np.abs(segment) >= FULL_SCALE))
    mean = float(segment.mean(dtype=np.float64))
    still = float(np.sqrt(np.mean(np.square(segment - mean, dtype=np.float64))))
    level = 10 * np.log10(still**2 + mean**2)
    top = float(np.mean(segment >= high - RAIL * span))
    bottom = float(np.mean(segment <= low + RAIL * span))
    constant = span <= SAME * peak
    pure = abs(mean) >= PURE_OFFSET and still < STILL
    found = {
        "stuck": constant,
        "clipped": loud > MOST
        or (span > LEAST_RANGE and top + bottom > MOST and min(top, bottom) > EACH_RAIL),
        "dc": pure and not constant,
        "clipping": OFTEN < loud <= MOST,
        "offset": abs(mean) >= OFFSET and not constant and not pure,
        "low": level < LOW_DB,
        "repeated": not constant and is_repeated(segment, before),
    }
    return frozenset(kind for kind, bad in found.items() if bad)


def is_repeated(segment: Samples, before: Samples) -> bool:
    """Return whether a segment is one block over and over, as a hung driver delivers it.

    Every sample equals the one a block earlier, for a block not longer than ``before``. After a
    resampler this holds only if the block is a whole number of samples at the new rate as well.
    """
    if len(before) < len(segment):
        return False
    both = np.concatenate([before, segment])
    anchor = len(before) + int(np.abs(segment).argmax())
    allowed = SAME * float(np.abs(segment).max())
    same = np.flatnonzero(np.abs(both[anchor - len(before) : anchor] - both[anchor]) <= allowed)
    lags = (len(before) - same)[::-1]
    for lag in lags[lags <= len(before)][:64].tolist():
        earlier = both[len(before) - lag : len(both) - lag]
        if np.abs(segment[:64] - earlier[:64]).max() <= allowed and (
            np.abs(segment - earlier).max() <= allowed
        ):
            return not _is_tone(segment)
    return False


def _is_tone(segment: Samples) -> bool:
    """Return whether the spectrum has only a few lines: a test signal, not a microphone."""
    power = np.abs(np.fft.rfft(segment * np.hanning(len(segment)))) ** 2
    total = power.sum()
    for _ in range(LINES):
        top = int(power.argmax())
        power[max(0, top - 4) : top + 5] = 0
    return bool(power.sum() <= BESIDE * total)


def power_of(second: Samples) -> NDArray[np.float64]:
    """Return a second's power in each band of 1 Hz; the sum is the mean square.

    The window is that of Harris 1978 (four terms): 5 Hz from a line its leakage is 92 dB lower.

    Parameters
    ----------
    second : array (rate,)

    Returns
    -------
    array (rate // 2 + 1,)
        Power per 1 Hz band, full scale squared.

    """
    turn = 2 * np.pi * np.arange(len(second)) / len(second)
    window = sum((-1) ** k * term * np.cos(k * turn) for k, term in enumerate(HARRIS))
    power = np.square(np.abs(np.fft.rfft((second - second.mean(dtype=np.float64)) * window)))
    return np.asarray(2 * power / (len(second) * np.square(window).sum()))


def spectrum_faults(power: NDArray[np.float64], rate: int) -> frozenset[str]:
    """Return the faults of a minute's spectrum.

    Parameters
    ----------
    power : array (rate // 2 + 1,)
        Mean of ``power_of`` over the minute.
    rate : int
        Sample rate in Hz.

    Returns
    -------
    frozenset of str
        ``narrow``: nothing above a sharp edge in the lower half of the band, such as 4 kHz
        telephone audio from a 24 kHz microphone; ``hum``: nothing but harmonics of the mains
        frequency.

    """
    found = {"narrow": _edge_drop_db(power) >= DROP_DB, "hum": _is_hum(power, rate)}
    return frozenset(kind for kind, bad in found.items() if bad)


def _edge_drop_db(power: NDArray[np.float64]) -> float:
    """Return the largest downward step of the spectrum with nothing above it, in dB."""
    smooth = np.convolve(power, np.full(35, 1 / 35), "same")
    level = 10 * np.log10(smooth + 1e-20)
    count, best = len(power), 0.0
    for edge in np.geomspace(LOWEST_EDGE * count, HIGHEST_EDGE * count, 48).astype(int).tolist():
        above = slice(round(1.15 * edge), round(0.97 * count))
        if edge < 50 or 10 * np.log10(power[above].sum() + 1e-20) > TOP_DB:
            continue
        below = level[round(0.8 * edge) : round(0.95 * edge)].mean()
        best = max(best, float(below - level[above].max()))
    return best


def _is_hum(power: NDArray[np.float64], rate: int) -> bool:
    frequency = np.linspace(0, rate / 2, len(power))
    total = power[frequency >= 20].sum()
    for mains in MAINS_HZ:
        nearest = np.maximum(1, np.round(frequency / mains)) * mains
        line = (np.abs(frequency - nearest) <= MAINS_WIDTH_HZ) & (frequency <= MAINS_TOP_HZ)
        rest = power[(frequency >= 20) & ~line].sum()
        if rest <= (1 - HUM_SHARE) * total and 10 * np.log10(rest + 1e-20) < HUM_REST_DB:
            return True
    return False
