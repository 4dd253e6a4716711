r"""Derivatives of relaxed states by parameters, without relaxing again.

At a minimum :math:`x_0(\theta_0)` of the energy over positions and cell, with the Hessian H there,
the implicit function theorem says

.. math:: \frac{dx}{d\theta} = -H^{-1} \frac{\partial^2 E}{\partial x\, \partial\theta},
   \qquad \frac{dE}{d\theta} = \frac{\partial E}{\partial\theta}\Big|_{x_0}

(the latter is the envelope theorem). Here both are taken along the principal directions of the
draws: surfaces stand at :math:`\theta_0` and at :math:`\theta_0 \pm h d_j`, and "relaxing" them is
one Newton step with the centre's H from the centre's minimum, whose gradient on surface
:math:`\theta_0 \pm h d_j` is :math:`\pm h\, (\partial^2 E/\partial x \partial\theta) d_j` and of
order h². Half the differences of whatever a property function makes of these surfaces are its
derivatives, with an error of order h². Second derivatives are not taken from them (one Newton step
does not give them), but from what first order is off at draws that were relaxed.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from scipy.linalg import block_diag, helmert, qr

from bayespot.errors import PropertyError
from bayespot.potentials.base import Potential
from bayespot.properties.draws import DrawSurfaces
from bayespot.properties.frames import Frames
from bayespot.properties.relaxing import Coordinates, minimize
from bayespot.properties.surfaces import Relaxed, Tolerance

STEP = 0.2
"""Standard deviations of the draws; the h of the differences."""

NO_DIRECTION = 1e-8
"""Standard deviations over the largest one, of draws in units of their own spread, below which
draws do not differ along a direction beyond rounding."""

DISPLACEMENT = 1e-3
"""Å, of the differences of gradients that make H; they leave a relative error of about 1e-6."""

SOFT = 1e-4
"""Lowest over highest curvature below which a hundredth of the response would be error of H."""

RELAXATION, LARGEST = 8, 300
"""Evaluations in which a surface relaxes that starts from the minimum of its neighbour; H is made
where it costs less than that for all surfaces, and is no larger than this."""


class NoDerivative(PropertyError):  # noqa: N818  (reads as what it says)
    """The relaxed state has no derivative by parameters that could be trusted."""


class ImplicitSurfaces(DrawSurfaces):
    """The mean of draws and a step to both sides along each of their principal directions.

    Property functions take them as they take draws; `to_draws` makes of what they return what it
    says about the draws.

    Parameters
    ----------
    potentials : Potential
        Draws; its leaves have a leading axis of n.
    tolerance : Tolerance, optional
    step : float
        Standard deviations.

    Attributes
    ----------
    z : ndarray [n, p]
        The draws along the directions, in standard deviations: their covariance is one.
    """

    def __init__(
        self, potentials: Potential, tolerance: Tolerance | None = None, *, step: float = STEP
    ) -> None:
        around, self.z = principal_directions(potentials, step)
        self.step = step
        super().__init__(around, tolerance)

    @property
    def p(self) -> int:
        """Number of directions."""
        return self.z.shape[1]

    def ranks(self, count: int) -> np.ndarray:
        """Draws at even ranks of the distance from the mean, from the nearest to the farthest."""
        order = np.argsort((self.z**2).sum(axis=1), kind="stable")
        places = np.linspace(0.0, len(order) - 1, min(count, len(order)))
        return order[np.rint(places).astype(int)]

    def derivatives(self, values: np.ndarray) -> np.ndarray:
        """Of values [n, ...] on these surfaces by standard deviations, [p, ...]."""
        up, down = values[1 : 1 + self.p], values[1 + self.p :]
        return (up - down) / (2.0 * self.step)

    def to_draws(self, values: np.ndarray) -> np.ndarray:
        """First order: the value at the centre plus derivatives times ``z``, [n, ...]."""
        return values[0] + np.tensordot(self.z, self.derivatives(values), axes=1)

    def to_second_order(
        self, values: np.ndarray, index: np.ndarray, known: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        r"""First order, and the polynomial of second degree that is nearest to what that is off.

        Nearest in the sum of squares over draws that were relaxed. What a fit without draw i would
        be off there is :math:`r_i/(1 - h_i)`, with the residual r and the leverage
        :math:`h = \mathrm{diag}(X X^+)` of the fit with all of them (Allen, Technometrics 16, 125
        (1974)).

        Parameters
        ----------
        values : ndarray [1 + 2 p, ...]
            On these surfaces.
        index : ndarray of int [m]
            More draws than `coefficients`.
        known : ndarray [m, ...]
            Values of these draws.

        Returns
        -------
        values : ndarray [n, ...]
            Of all draws.
        left_out : ndarray [m, ...]
            What each of the known ones would be off.
        """
        first, powers = self.to_draws(values), second_degree(self.z)
        off = (known - first[index]).reshape(len(index), -1)
        missing = ~np.isfinite(off).all(axis=0)  # points of curves at which a draw has nothing
        off[:, missing] = 0.0
        inverse = np.linalg.pinv(powers[index])
        polynomial = inverse @ off
        leverage = np.einsum("ic,ci->i", powers[index], inverse)
        left_out = (off - powers[index] @ polynomial) / (1.0 - leverage)[:, None]
        left_out[:, missing] = np.nan
        return first + (powers @ polynomial).reshape(first.shape), left_out.reshape(known.shape)

    @property
    def coefficients(self) -> int:
        """Of a polynomial of second degree in p directions."""
        return (self.p + 1) * (self.p + 2) // 2

    def outermost(self, count: int, besides: np.ndarray) -> np.ndarray:
        """Draws that span the products of up to two coordinates widest, without some of them.

        They are the first pivots of a QR decomposition of the products, then those of what is left:
        a polynomial that is fitted to them interpolates at the other draws rather than
        extrapolates.
        """
        left, chosen = np.setdiff1d(np.arange(len(self.z)), besides), []
        while len(chosen) < count:
            _, pivots = qr(second_degree(self.z[left]).T, mode="r", pivoting=True)
            some = pivots[: min(count - len(chosen), self.coefficients)]
            chosen += list(left[some])
            left = np.delete(left, some)
        return np.array(chosen)

    def relax(self, frames: Frames, cell: str = "fixed") -> Relaxed:
        """The minimum of the centre; minima of the others to first order, see `Surfaces.relax`.

        Large cells are relaxed on every surface, from where the centre's minimum lies.

        Raises
        ------
        NoDerivative
            If H of the centre is not positive, or nearly singular.
        """
        first = self.of_first(frames)
        if first is None:
            return minimize(self.evaluate, frames, cell, self.tolerance)
        found = minimize(self.evaluate, first, cell, self.tolerance)
        start = self.as_first(frames, found.frames)
        basis = free_directions(frames.n_atoms, cell)
        if basis.shape[1] > min(RELAXATION * self.p, LARGEST):
            return minimize(self.evaluate, start, cell, self.tolerance)
        response = np.zeros((len(start), basis.shape[1]))
        space, everyone = Coordinates(start, cell), np.arange(len(start))
        if found.converged.all():  # else there is no H, and the failure is on all surfaces
            inverse = self._inverse_hessians(found.frames, cell, basis)
            gradient = space.gradient(everyone, space.x, self.evaluate(start)) @ basis
            gradient = gradient.reshape(self.n, len(first), basis.shape[1])
            response = -np.einsum("mab,kmb->kma", inverse, gradient).reshape(response.shape)
        end = space.placed(everyone, space.x + response @ basis.T)
        return Relaxed(end, *self.evaluate(end), np.tile(found.converged, self.n))

    def relax_for_energy(self, frames: Frames) -> Relaxed:
        """Energies at the centre's minimum, which are those of all minima to first order."""
        first = self.of_first(frames)
        if first is None:
            return self.relax(frames)
        found = minimize(self.evaluate, first, "fixed", self.tolerance)
        start = self.as_first(frames, found.frames)
        energy, _, stress = self.evaluate(start)
        # What is left to gain is the centre's, for it is the centre that was relaxed.
        forces = np.tile(found.forces, (self.n, 1, 1))
        return Relaxed(start, energy, forces, stress, np.tile(found.converged, self.n))

    def _inverse_hessians(self, frames: Frames, cell: str, basis: np.ndarray) -> np.ndarray:
        """Inverse Hessians of frames of the centre over ``basis`` [D, r], [m, r, r]."""
        r = basis.shape[1]
        if not r:
            return np.zeros((len(frames), 0, 0))
        space = Coordinates(frames, cell)
        index = np.repeat(np.arange(len(frames)), 2 * r)
        moves = np.tile(np.concatenate([basis.T, -basis.T]) * DISPLACEMENT, (len(frames), 1))
        x = space.x[index] + moves
        slope = space.gradient(index, x, self.evaluate(space.placed(index, x))) @ basis
        sides = slope.reshape(len(frames), 2, r, r)
        hessian = (sides[:, 0] - sides[:, 1]) / (2.0 * DISPLACEMENT)
        hessian = 0.5 * (hessian + hessian.transpose(0, 2, 1))
        curvature, modes = np.linalg.eigh(hessian)
        softest = int(np.argmin(curvature[:, 0] / curvature[:, -1]))
        low, high = curvature[softest, [0, -1]]
        if not low > SOFT * high:
            what = "unstable" if low < -SOFT * high else "nearly singular"
            raise NoDerivative(
                f"the relaxed state of the mean parameters is {what}: its lowest curvature is "
                f"{low:.2g} eV/Å^2, its highest {high:.2g}"
            )
        return np.einsum("mak,mk,mbk->mab", modes, 1.0 / curvature, modes)


def principal_directions(potentials: Potential, step: float) -> tuple[Potential, np.ndarray]:
    r"""The mean of draws, steps along their principal directions, and the draws along these.

    With the singular values of the draws in units of their spread,
    :math:`(\theta_k - \theta_0)/s = \sum_j \sqrt{n-1}\, U_{kj}\; S_j V_j / \sqrt{n-1}`, the
    directions are :math:`d_j = s S_j V_j/\sqrt{n-1}` in physical units: whatever is linear in the
    parameters is exact for every draw.

    Parameters
    ----------
    potentials : Potential
        With a leading axis of n draws.
    step : float
        h, standard deviations.

    Returns
    -------
    around : Potential
        With a leading axis of 1 + 2 p: the mean, p steps up, p steps down.
    z : ndarray [n, p]
        :math:`\sqrt{n-1}\, U`.

    Raises
    ------
    PropertyError
        If the draws do not differ.
    """
    leaves, tree = jax.tree.flatten(potentials)
    n = len(np.asarray(leaves[0]))
    theta = np.concatenate([np.asarray(leaf).reshape(n, -1) for leaf in leaves], axis=1)
    center = theta.mean(axis=0)
    spread = theta.std(axis=0, ddof=1) if n > 1 else np.zeros_like(center)
    sampled = spread > NO_DIRECTION * np.abs(center)
    if not sampled.any():
        raise PropertyError("the draws do not differ: there is nothing to propagate")
    u, s, v = np.linalg.svd((theta - center)[:, sampled] / spread[sampled], full_matrices=False)
    kept = s > NO_DIRECTION * s[0]
    directions = np.zeros((int(kept.sum()), theta.shape[1]))
    directions[:, sampled] = s[kept, None] * v[kept] * spread[sampled] / np.sqrt(n - 1)
    around = center + step * np.concatenate([np.zeros((1, len(center))), directions, -directions])
    ends = np.cumsum([np.asarray(leaf)[0].size for leaf in leaves])[:-1]
    made: list[Any] = [
        part.reshape(len(around), *np.asarray(leaf).shape[1:])
        for part, leaf in zip(np.split(around, ends, axis=1), leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, made), np.sqrt(n - 1) * u[:, kept]


def second_degree(z: np.ndarray) -> np.ndarray:
    """The products of up to two of the columns of ``z`` [n, p], [n, (p + 1)(p + 2)/2]."""
    whole = np.concatenate([np.ones((len(z), 1)), z], axis=1)
    a, b = np.triu_indices(whole.shape[1])
    return whole[:, a] * whole[:, b]


def free_directions(n_atoms: int, cell: str) -> np.ndarray:
    """Orthonormal directions of `Coordinates` that change the energy, [3 N + 9, r].

    Translations are left out, and of the deformation what ``cell`` holds and rotations.
    """
    inner = np.kron(helmert(n_atoms).T, np.eye(3)) if n_atoms > 1 else np.zeros((3, 0))
    pairs = ((0, 1), (0, 2), (1, 2))
    tensors = [np.eye(3) / np.sqrt(3.0)] if cell in ("volume", "all") else []
    if cell in ("shape", "all"):
        tensors += [np.diag([1.0, -1.0, 0.0]) / np.sqrt(2.0),
                    np.diag([1.0, 1.0, -2.0]) / np.sqrt(6.0)]  # fmt: skip
        for a, b in pairs:
            shear = np.zeros((3, 3))
            shear[a, b] = shear[b, a] = np.sqrt(0.5)
            tensors.append(shear)
    outer = np.array([t.ravel() for t in tensors]).reshape(len(tensors), 9).T
    return block_diag(inner, outer)
