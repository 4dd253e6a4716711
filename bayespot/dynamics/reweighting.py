r"""One canonical trajectory reweighted to every draw.

.. math::
   w_t \propto e^{-(E_k(x_t) - E_0(x_t))/k_B T}, \qquad
   \langle a \rangle_k = \frac{\sum_t w_t a_t}{\sum_t w_t}, \qquad
   n_k = \frac{(\sum_t w_t)^2}{\sum_t w_t^2}

with :math:`E_0` the energy that drove the atoms and Kish's effective sample size :math:`n_k`
(Survey Sampling, 1965). Frames of a trajectory are correlated, and :math:`n_k` counts them as if
they were not; how many independent ones stand behind a draw is
:math:`n_k \, n_\mathrm{ind} / n`, with :math:`n_\mathrm{ind}` the effective size of the series of
:math:`E_k - E_0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units

from bayespot.correlation import effective_size
from bayespot.errors import PropertyError

ENOUGH = 20.0
"""Independent frames behind a draw below which its averages are not given."""


@dataclass(frozen=True)
class Averages:
    """Averages over a trajectory for every draw; NaN for draws that it says too little about.

    Attributes
    ----------
    value, error : ndarray [n_draws, ...]
        Average and its statistical error.
    reference, reference_error : ndarray [...]
        The same on the surface that drove.
    """

    value: np.ndarray
    error: np.ndarray
    reference: np.ndarray
    reference_error: np.ndarray


@dataclass(frozen=True)
class Reweighting:
    """Weights of the frames of one trajectory for every draw.

    Attributes
    ----------
    weights : ndarray [n_draws, n_frames]
        Each row sums to one.
    ess : ndarray [n_draws]
        Kish's effective sample size.
    independent : ndarray [n_draws]
        The same, in independent frames.
    enough : float
        Independent frames below which a draw is not answered for.
    """

    weights: np.ndarray
    ess: np.ndarray
    independent: np.ndarray
    enough: float

    @property
    def usable(self) -> np.ndarray:
        """Draws that the trajectory says enough about, [n_draws]."""
        return self.independent >= self.enough

    @property
    def problems(self) -> list[str]:
        """Which draws are left without an answer, in sentences; empty if none."""
        poor = np.flatnonzero(~self.usable)
        if not poor.size:
            return []
        worst = poor[np.argsort(self.independent[poor])]
        return [
            f"{len(poor)} of {len(self.ess)} draws have fewer than {self.enough:g} independent "
            f"frames behind them and no averages ("
            + ", ".join(f"draw {k}: {self.independent[k]:.2g}" for k in worst[:8])
            + (", ..." if len(poor) > 8 else "")
            + "): run longer, drive with a surface closer to them, or run them by themselves"
        ]

    def average(self, values: np.ndarray, *, of_draws: bool = False) -> Averages:
        r"""Averages of an observable for every draw.

        The error is that of the ratio to first order: of the series
        :math:`z_t = n\, w_t (a_t - \langle a \rangle)`, with its autocorrelation.

        Parameters
        ----------
        values : ndarray [n_frames, ...]
            The observable in every frame.
        of_draws : bool
            It depends on the draw, as its own energy does: [n_draws, n_frames, ...]. The
            reference is then the unweighted mean over frames and draws.

        Raises
        ------
        PropertyError
            If there is not one value for each frame.
        """
        values = np.asarray(values, dtype=float)
        n_draws, n = self.weights.shape
        frames = (n_draws, n) if of_draws else (n,)
        if values.shape[: len(frames)] != frames:
            raise PropertyError(
                f"observable of shape {values.shape}: it begins with {frames}, one value for each "
                "frame that has weights"
            )
        shape = values.shape[len(frames):]
        flat = values.reshape(*frames, -1)
        mean = np.full((n_draws, flat.shape[-1]), np.nan)
        error = mean.copy()
        for k in np.flatnonzero(self.usable):
            mean[k], error[k] = _ratio(self.weights[k], flat[k] if of_draws else flat)
        base = flat.mean(axis=0) if of_draws else flat
        center, center_error = _ratio(np.full(n, 1.0 / n), base)
        return Averages(
            mean.reshape(n_draws, *shape), error.reshape(n_draws, *shape),
            center.reshape(shape), center_error.reshape(shape),
        )  # fmt: skip


def reweight(
    energy_draws: np.ndarray, energy: np.ndarray, temperature_K: float, *, enough: float = ENOUGH
) -> Reweighting:
    """Weights for every draw.

    Parameters
    ----------
    energy_draws : ndarray [n_frames, n_draws]
        eV.
    energy : ndarray [n_frames]
        Of the surface that drove, eV.
    temperature_K : float
        Of the thermostat.
    enough : float
        Independent frames that a draw needs.

    Raises
    ------
    PropertyError
        If shapes do not agree, energies are not finite, or the temperature is not positive.
    """
    energy_draws, energy = np.asarray(energy_draws, dtype=float), np.asarray(energy, dtype=float)
    if energy_draws.ndim != 2 or energy.shape != energy_draws.shape[:1] or not len(energy):
        raise PropertyError(
            f"energies of shapes {energy_draws.shape} and {energy.shape}: give [n_frames, n_draws] "
            "and [n_frames]"
        )
    if not (np.isfinite(energy_draws).all() and np.isfinite(energy).all()):
        lost = np.flatnonzero(~np.isfinite(energy_draws).all(axis=0))
        raise PropertyError(
            f"energies are not finite (draws {lost.tolist()}): leave these draws out"
        )
    if not (np.isfinite(temperature_K) and temperature_K > 0):
        raise PropertyError(f"temperature_K={temperature_K!r}: give a positive number")
    difference = (energy_draws - energy[:, None]).T
    exponent = -difference / (units.kB * temperature_K)
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    ess = 1.0 / (weights**2).sum(axis=1)
    n = len(energy)
    worth = np.array([effective_size(one) for one in difference])
    independent = np.nan_to_num(ess * worth / n, nan=0.0)
    return Reweighting(weights, ess, independent, float(enough))


def _ratio(weights: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means of the columns of ``values`` [n, m], and their errors."""
    mean = weights @ values
    z = len(weights) * weights[:, None] * (values - mean)
    sizes = np.array([effective_size(column) for column in z.T])
    return mean, z.std(axis=0) / np.sqrt(sizes)
