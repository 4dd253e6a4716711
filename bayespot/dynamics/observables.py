r"""What trajectories tell: radial distribution, mean square displacement, diffusion.

.. math::
   g(r) = \frac{V}{N_a N_b'} \frac{n_{ab}(r)}{4\pi (r_2^3 - r_1^3)/3}, \qquad
   \mathrm{MSD}(t) = \langle |r_i(s + t) - r_i(s)|^2 \rangle_{i, s}, \qquad
   D = \frac{1}{6} \frac{d\, \mathrm{MSD}}{dt}

with :math:`N_b' = N_b - 1` partners where both kinds are the same, so that an ideal gas has
:math:`g = 1` whatever its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from vesin import NeighborList

from bayespot.correlation import mean_error
from bayespot.dynamics.reweighting import Averages, Reweighting
from bayespot.errors import PropertyError, SpeciesError


@dataclass(frozen=True)
class RadialDistribution:
    """Radial distribution function.

    Attributes
    ----------
    edges : ndarray [n_bins + 1]
        Å.
    frames : ndarray [n_frames, n_bins]
        That of every frame: an observable for `Reweighting.average`.
    value, error : ndarray [n_bins]
        Mean over frames, and its standard error with the autocorrelation.
    """

    edges: np.ndarray
    frames: np.ndarray
    value: np.ndarray
    error: np.ndarray

    @property
    def r(self) -> np.ndarray:
        """Middles of the bins, Å."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def of_draws(self, reweighting: Reweighting) -> Averages:
        """For every draw, by the weights of the same frames."""
        return reweighting.average(self.frames)


def radial_distribution(
    frames: Iterable[Atoms], *, r_max: float, bins: int = 200, pair: tuple[str, str] | None = None
) -> RadialDistribution:
    """Radial distribution function of frames with the same atoms.

    Parameters
    ----------
    frames : iterable of Atoms
        Periodic in three directions.
    r_max : float
        Å; at most half of the smallest distance between opposite faces of the cell.
    bins : int
    pair : (str, str), optional
        Species around which, and of which; all atoms without.

    Raises
    ------
    PropertyError
        If there is no frame, the cell is too small for ``r_max``, or has no volume.
    SpeciesError
        If a species of the pair is not there.
    """
    if not (np.isfinite(r_max) and r_max > 0 and bins >= 1):
        raise PropertyError(f"r_max={r_max!r} Å in {bins} bins: give positive numbers")
    edges = np.linspace(0.0, r_max, bins + 1)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    rows = []
    lists = NeighborList(cutoff=float(r_max), full_list=True)
    for atoms in frames:
        around, of, partners = _kinds(atoms, pair)
        _check_cell(atoms, r_max)
        i, j, d = lists.compute(
            points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ijd"
        )
        counted = around[i] & of[j]
        number = np.histogram(d[counted], bins=edges)[0]
        rows.append(number * atoms.get_volume() / (around.sum() * partners * shells))
    if not rows:
        raise PropertyError("a radial distribution needs at least one frame")
    values = np.array(rows)
    error = np.array([mean_error(column)[1] for column in values.T])
    return RadialDistribution(edges, values, values.mean(axis=0), error)


def _kinds(atoms: Atoms, pair: tuple[str, str] | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Atoms around which, atoms of which, and how many of the latter each sees."""
    symbols = np.array(atoms.get_chemical_symbols())
    if pair is None:
        around = of = np.ones(len(atoms), dtype=bool)
    else:
        missing = sorted(set(pair) - set(symbols))
        if missing:
            raise SpeciesError(
                f"pair={pair}: {', '.join(missing)} is not in {atoms.get_chemical_formula()}"
            )
        around, of = symbols == pair[0], symbols == pair[1]
    partners = int(of.sum()) - int((around & of).any())
    if partners < 1:
        raise PropertyError(f"{atoms.get_chemical_formula()} has no such pair of atoms")
    return around, of, partners


def _check_cell(atoms: Atoms, r_max: float) -> None:
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise PropertyError(
            f"{atoms.get_chemical_formula()} is not periodic in three directions: its density, "
            "and so a radial distribution, is not defined"
        )
    narrow = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0).max()
    if r_max > 0.5 * narrow * (1.0 + 1e-9):
        raise PropertyError(
            f"r_max={r_max:.3f} Å is more than half of the cell's width of {narrow:.3f} Å: atoms "
            "would be counted with their own images; take a smaller r_max or a larger cell"
        )


def mean_square_displacement(positions: np.ndarray, *, remove_drift: bool = True) -> np.ndarray:
    """Mean over atoms and over all starting frames, by the fast Fourier transform.

    Calandrini, Pellegrini, Calligari, Hinsen and Kneller, Collection SFN 12, 201 (2011).

    Parameters
    ----------
    positions : ndarray [n_frames, n_atoms, 3]
        Å, unwrapped, at equal distances in time.
    remove_drift : bool
        Take out the motion of the mean position.

    Returns
    -------
    ndarray [n_frames]
        Å^2, by the number of frames between.

    Raises
    ------
    PropertyError
        If the shape is another, or a position is not finite.
    """
    x = np.asarray(positions, dtype=float)
    if x.ndim != 3 or x.shape[2] != 3 or len(x) < 2 or not np.isfinite(x).all():
        raise PropertyError(
            f"positions of shape {x.shape}: give [n_frames, n_atoms, 3], finite, of two frames or "
            "more"
        )
    if remove_drift:
        x = x - x.mean(axis=1, keepdims=True)
    x = x - x[0]
    n = len(x)
    left = n - np.arange(n)  # pairs of frames at each distance
    transformed = np.fft.rfft(x, n=2 * n, axis=0)
    products = np.fft.irfft(np.abs(transformed) ** 2, n=2 * n, axis=0)[:n].sum(axis=2)
    square = (x**2).sum(axis=2)
    head = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(square, axis=0)])
    # sum over s of |x(s + m)|^2 + |x(s)|^2 = (all but the first m) + (all but the last m)
    sums = (head[n] - head[:n]) + head[n - np.arange(n)]
    msd = ((sums - 2.0 * products) / left[:, None]).mean(axis=1)
    msd[0] = 0.0
    return msd


@dataclass(frozen=True)
class Diffusion:
    """A diffusion coefficient.

    Attributes
    ----------
    value, error : float
        Å^2/fs, standard error over the parts.
    parts : ndarray [n_parts]
        That of every block or trajectory.
    lags : ndarray [n]
        fs.
    msd : ndarray [n]
        Å^2, mean over parts.
    """

    value: float
    error: float
    parts: np.ndarray
    lags: np.ndarray
    msd: np.ndarray

    @property
    def cm2_per_s(self) -> float:
        """The value in cm^2/s."""
        return 0.1 * self.value


def diffusion(
    positions: np.ndarray | Sequence[np.ndarray], *, frame_fs: float,
    window_fs: tuple[float, float], blocks: int = 5, remove_drift: bool = True,
) -> Diffusion:
    """Diffusion coefficient by the slope of the mean square displacement.

    Parameters
    ----------
    positions : ndarray [n_frames, n_atoms, 3], or several
        Å, unwrapped. One trajectory is cut into blocks; several are the parts as they are.
    frame_fs : float
        Time from one frame to the next.
    window_fs : (float, float)
        Times between which the line is fitted: past the ballistic beginning, and short enough that
        each part holds them several times.
    blocks : int
        Parts of a single trajectory.
    remove_drift : bool
        See `mean_square_displacement`.

    Raises
    ------
    PropertyError
        If a part is shorter than the window, the window has fewer than three frames, or there are
        fewer than two parts and so no error bar.
    """
    single = isinstance(positions, np.ndarray) and positions.ndim == 3
    parts = np.array_split(positions, blocks) if single else [np.asarray(p) for p in positions]
    if len(parts) < 2:
        raise PropertyError("one part has no error bar: give blocks >= 2 or several trajectories")
    low, high = window_fs
    shortest = min(len(part) for part in parts)
    if not 0 <= low < high or high > (shortest - 1) * frame_fs * (1 + 1e-9):
        raise PropertyError(
            f"window_fs={window_fs}: it lies between 0 and {(shortest - 1) * frame_fs:g} fs, the "
            "length of the shortest part; run longer, or take fewer blocks"
        )
    lags = frame_fs * np.arange(shortest)
    inside = (lags >= low * (1 - 1e-9)) & (lags <= high * (1 + 1e-9))
    if inside.sum() < 3:
        raise PropertyError(
            f"window_fs={window_fs} holds {int(inside.sum())} frames of {frame_fs:g} fs: a line "
            "needs three"
        )
    msd = np.array([
        mean_square_displacement(part[:shortest], remove_drift=remove_drift) for part in parts
    ])
    slopes = np.array([np.polyfit(lags[inside], row[inside], 1)[0] / 6.0 for row in msd])
    return Diffusion(
        float(slopes.mean()), float(slopes.std(ddof=1) / np.sqrt(len(slopes))), slopes, lags,
        msd.mean(axis=0),
    )  # fmt: skip
