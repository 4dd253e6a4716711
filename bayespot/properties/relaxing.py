"""Relaxation of many frames at once: L-BFGS in NumPy around one compiled evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bayespot.evaluate import Labels3
from bayespot.properties.frames import Frames
from bayespot.properties.surfaces import Relaxed, Tolerance, arrived, resisting
from bayespot.units import VOIGT

HISTORY = 12
LONGEST = 0.15
"""Å, the longest step of any coordinate."""
SOFT = 1.0 / 30.0
"""Å²/eV, the first guess of the inverse Hessian."""
STRETCH, FAR = 2.0, 5.0
"""A frame is lost whose cell grows or shrinks by that factor along a direction, or in which an atom
goes that far (Å): forms that have holes collapse into them, and with the cell shrinks what its
neighbour lists must reach over, until they fill the memory of all frames."""


@dataclass
class _History:
    """Steps and changes of the gradient, newest last; unused ones are zero."""

    steps: np.ndarray  # [K, m, D]
    changes: np.ndarray  # [K, m, D]
    inverse: np.ndarray  # [K, m] 1 / (step . change), or zero
    scale: np.ndarray = field(default_factory=lambda: np.zeros(0))  # [K]

    @classmethod
    def empty(cls, k: int, d: int) -> _History:
        return cls(np.zeros((k, HISTORY, d)), np.zeros((k, HISTORY, d)), np.zeros((k, HISTORY)),
                   np.full(k, SOFT))  # fmt: skip

    def add(self, index: np.ndarray, step: np.ndarray, change: np.ndarray) -> None:
        """Take a step of some frames in, where the curvature along it is positive."""
        product = (step * change).sum(axis=1)
        size = np.linalg.norm(step, axis=1) * np.linalg.norm(change, axis=1)
        keep = product > 1e-9 * size
        index, step, change = index[keep], step[keep], change[keep]
        for held, new in ((self.steps, step), (self.changes, change),
                          (self.inverse, 1.0 / product[keep])):  # fmt: skip
            held[index] = np.concatenate([held[index][:, 1:], new[:, None]], axis=1)
        self.scale[index] = product[keep] / (change**2).sum(axis=1)

    def forget(self, index: np.ndarray) -> None:
        """Start again for some frames."""
        self.steps[index], self.changes[index], self.inverse[index] = 0.0, 0.0, 0.0

    def direction(self, index: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Minus the approximate inverse Hessian times the gradient (two loops, Nocedal 1980)."""
        s, y, rho = self.steps[index], self.changes[index], self.inverse[index]
        q, a = gradient.copy(), np.zeros(rho.shape)
        for m in reversed(range(HISTORY)):
            a[:, m] = rho[:, m] * (s[:, m] * q).sum(axis=1)
            q -= a[:, m, None] * y[:, m]
        q *= self.scale[index][:, None]
        for m in range(HISTORY):
            b = rho[:, m] * (y[:, m] * q).sum(axis=1)
            q += (a[:, m] - b)[:, None] * s[:, m]
        return -q


class Coordinates:
    r"""Positions and deformation of frames as one vector each.

    Positions are :math:`r = u G` and cells :math:`c = c_0 G` (rows), so

    .. math:: \partial E/\partial u = -F G^T, \qquad \partial E/\partial G = V G^{-T} \sigma

    With a fixed volume :math:`G` is divided by :math:`\det(G)^{1/3}` and the stress is its
    deviatoric part.
    """

    def __init__(self, frames: Frames, cell: str) -> None:
        self.frames, self.cell = frames, cell
        self.factor = np.sqrt(frames.n_atoms)
        k = len(frames)
        self.x = np.concatenate(
            [frames.positions.reshape(k, -1), np.tile(self.factor * np.eye(3).ravel(), (k, 1))],
            axis=1,
        )

    def deformation(self, x: np.ndarray) -> np.ndarray:
        """G of each row, [K, 3, 3]."""
        return x[:, -9:].reshape(-1, 3, 3) / self.factor

    def placed(self, index: np.ndarray, x: np.ndarray) -> Frames:
        """Frames at the coordinates ``x`` of the frames ``index``."""
        start, g = self.frames.select(index), self.deformation(x)
        if self.cell == "shape":
            g = g / np.cbrt(np.linalg.det(g))[:, None, None]
        positions = x[:, :-9].reshape(len(x), -1, 3) @ g
        return start.moved(positions, start.cells @ g)

    def lost(self, index: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Whether frames are another structure by now, see `STRETCH`, [K]."""
        g = self.deformation(x)
        if self.cell == "shape":
            g = g / np.cbrt(np.linalg.det(g))[:, None, None]
        stretch = np.linalg.svd(g, compute_uv=False)
        u = x[:, :-9].reshape(len(x), -1, 3) - self.frames.positions[index]
        u -= u.mean(axis=1, keepdims=True)
        away = np.sqrt((u**2).sum(axis=2)).max(axis=1)
        return (stretch[:, 0] > STRETCH) | (stretch[:, -1] < 1.0 / STRETCH) | (away > FAR)

    def gradient(self, index: np.ndarray, x: np.ndarray, out: Labels3) -> np.ndarray:
        """Derivative of the energy with respect to the coordinates, [K, D]."""
        g = self.deformation(x)
        scaled = g / np.cbrt(np.linalg.det(g))[:, None, None] if self.cell == "shape" else g
        du = -out.forces @ scaled.transpose(0, 2, 1)
        tensor = np.zeros((len(x), 3, 3))
        for c, (a, b) in enumerate(VOIGT):
            tensor[:, a, b] = tensor[:, b, a] = resisting(out.stress, self.cell)[:, c]
        volume = self.placed(index, x).volumes
        dg = volume[:, None, None] * np.linalg.inv(g).transpose(0, 2, 1) @ tensor
        if self.cell == "volume":
            dg = np.trace(dg, axis1=1, axis2=2)[:, None, None] / 3.0 * np.eye(3)
        return np.concatenate([du.reshape(len(x), -1), dg.reshape(-1, 9) / self.factor], axis=1)


def minimize(
    evaluate: Callable[[Frames], Labels3], frames: Frames, cell: str, tolerance: Tolerance
) -> Relaxed:
    """Relax frames side by side; those that have arrived are no longer evaluated.

    L-BFGS (Liu and Nocedal, Math. Program. 45, 503 (1989)) with a longest step; a step that raises
    the energy is taken back, shortened, and what was learned about the curvature is forgotten.
    Frames that become another structure (see `STRETCH`) are left where they are, not converged.

    Parameters
    ----------
    evaluate : callable
        Frames to their labels.
    frames : Frames
    cell : str
        One of `bayespot.properties.surfaces.CELLS`.
    tolerance : Tolerance
    """
    space = Coordinates(frames, cell)
    x, everyone = space.x, np.arange(len(frames))
    best = Labels3(*(np.array(values) for values in evaluate(frames)))
    gradient = space.gradient(everyone, x, best)
    history = _History.empty(*x.shape)
    done = arrived(tolerance, best, cell)
    lost = ~np.isfinite(best.energy)
    length = np.ones(len(frames))
    step = np.zeros_like(x)
    step[everyone] = _limited(history.direction(everyone, gradient))
    for _ in range(tolerance.steps):
        active = everyone[~done & ~lost]
        if not active.size:
            break
        trial = x[active] + length[active, None] * step[active]
        gone = space.lost(active, trial)
        lost[active[gone]] = True
        active, trial = active[~gone], trial[~gone]
        if not active.size:
            break
        out = evaluate(space.placed(active, trial))
        slope = space.gradient(active, trial, out)
        noise = 1e-8 + 1e-12 * np.abs(best.energy[active])
        lower = np.isfinite(out.energy) & (out.energy <= best.energy[active] + noise)
        # Near the minimum the energy is flat to rounding; a smaller gradient says it better.
        up, kept = active[~lower], active[lower]
        length[up] *= 0.25
        history.forget(up)
        step[up] = _limited(history.direction(up, gradient[up]))
        lost[up] |= length[up] < 1e-9
        history.add(kept, trial[lower] - x[kept], slope[lower] - gradient[kept])
        x[kept], gradient[kept] = trial[lower], slope[lower]
        for held, new in zip(best, out, strict=True):
            held[kept] = new[lower]
        length[kept] = 1.0
        done[kept] = arrived(tolerance, Labels3(*(v[kept] for v in best)), cell)
        ahead = history.direction(kept, gradient[kept])
        uphill = (ahead * gradient[kept]).sum(axis=1) >= 0
        ahead[uphill] = -SOFT * gradient[kept[uphill]]
        step[kept] = _limited(ahead)
    return Relaxed(space.placed(everyone, x), *best, done)


def _limited(step: np.ndarray) -> np.ndarray:
    """Shorten steps with a coordinate that goes farther than `LONGEST`."""
    largest = np.abs(step).max(axis=1, initial=1e-300, keepdims=True)
    return step * np.minimum(1.0, LONGEST / largest)
