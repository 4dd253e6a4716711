r"""Prior distributions as maps of a standard normal variable.

Every prior is :math:`\theta = T(u)` with :math:`u \sim N(0, 1)`. The log prior of the flat vector
``u`` is then :math:`-\tfrac12 |u|^2` for every potential, in every unit, and prior draws, starting
points (Sobol points through the normal quantile) and bounds come from the same map. A bound is the
support of the prior: the map never leaves it.

The centre of a prior may be given relative to a scale of the material (its bond length, its
cohesive energy), see `Reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from scipy import special

from bayespot.errors import PriorError

SCALES = (None, "length", "energy", "offset")

PROBABILITIES = (1e-300, 1.0 - 2.0**-53)
"""Quantiles stay between these: rounding to 0 or 1 far out in ``u`` would give infinities."""


@dataclass(frozen=True)
class Reference:
    """What is known of a material before the fit; prior centres are set from it.

    Attributes
    ----------
    length : float
        Nearest-neighbour distance, Å.
    energy : float
        Cohesive energy, eV/atom (positive).
    offset : tuple of float
        Energy of one atom of each species in the data's own reference, eV. DFT codes count from
        different zeros, so this is a gauge and not physics.
    """

    length: float = 2.5
    energy: float = 4.0
    offset: tuple[float, ...] = ()


@dataclass(frozen=True)
class Prior:
    r"""A prior of one number.

    ``kind="normal"``: :math:`\theta = c + s u`; ``kind="lognormal"``: :math:`\theta = c\,e^{s u}`
    with the median ``c``. With bounds, ``u`` is first mapped by
    :math:`\Phi^{-1}[\Phi(a) + (\Phi(b) - \Phi(a))\,\Phi(u)]`, which is the truncated distribution.

    Attributes
    ----------
    kind : {"normal", "lognormal"}
    center : float
        Mean or median, in units of ``scale``.
    sd : float
        Standard deviation of theta (normal, in units of ``scale``) or of ln theta (lognormal).
    low, high : float
        Bounds of theta, in units of ``scale``.
    scale : {None, "length", "energy", "offset"}
        What ``center`` and the bounds are multiplied by (for "offset": shifted by).
    """

    kind: str
    center: float
    sd: float
    low: float = -np.inf
    high: float = np.inf
    scale: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("normal", "lognormal"):
            raise PriorError(f"prior kind {self.kind!r} is unknown: use 'normal' or 'lognormal'")
        if self.scale not in SCALES:
            raise PriorError(f"prior scale {self.scale!r} is unknown: use one of {SCALES}")
        if not (np.isfinite(self.sd) and self.sd > 0 and np.isfinite(self.center)):
            raise PriorError(
                f"a prior with center {self.center} and sd {self.sd} is not proper: both must be "
                "finite and sd positive (flat priors let parameters evaporate)"
            )
        if self.kind == "lognormal" and self.center <= 0:
            raise PriorError(f"the median {self.center} of a lognormal prior must be positive")
        if not (self.low <= self.center <= self.high and self.low < self.high):
            raise PriorError(
                f"the prior's center {self.center} is outside its bounds ({self.low}, {self.high})"
            )

    def resolve(self, reference: Reference, species: int = 0) -> Prior:
        """The same prior in absolute units, for the material of ``reference``."""
        if self.scale is None:
            return self
        if self.scale == "offset":
            shift = reference.offset[species] if reference.offset else 0.0
            return replace(self, center=self.center + shift, scale=None)
        factor = getattr(reference, self.scale)
        sd = self.sd * factor if self.kind == "normal" else self.sd
        return replace(
            self,
            center=self.center * factor,
            sd=sd,
            low=self.low * factor,
            high=self.high * factor,
            scale=None,
        )

    @property
    def bounded(self) -> bool:
        """Whether the prior has a bound of its own."""
        return bool(np.isfinite(self.low) or np.isfinite(self.high))

    def constants(self) -> tuple[float, float, float, float]:
        """Centre, sd and the normal probabilities below and between the bounds."""
        p_low, p_high = special.ndtr(self._standard(self.low)), special.ndtr(
            self._standard(self.high)
        )
        return self.center, self.sd, float(p_low), float(p_high - p_low)

    def _standard(self, theta: float) -> float:
        """Untruncated standard-normal coordinate of ``theta``."""
        if self.kind == "lognormal":
            if theta <= 0:
                return -np.inf
            return (np.log(theta) - np.log(self.center)) / self.sd
        return (theta - self.center) / self.sd

    def inverse(self, theta: float) -> float:
        """The ``u`` that maps to ``theta``.

        Raises
        ------
        PriorError
            If ``theta`` is outside the prior's support.
        """
        if not self.low < theta < self.high or (self.kind == "lognormal" and theta <= 0):
            raise PriorError(
                f"the value {theta} is outside the prior's support ({self.low}, {self.high}): "
                "widen the prior or change the value"
            )
        z = self._standard(theta)
        if not self.bounded:
            return float(z)
        _, _, p_low, width = self.constants()
        return float(special.ndtri((special.ndtr(z) - p_low) / width))

    def forward(self, u: np.ndarray | float) -> np.ndarray:
        """``theta`` of the standard normal ``u``; NumPy twin of `transform`."""
        center, sd, p_low, width = self.constants()
        z = np.asarray(u)
        if self.bounded:
            z = special.ndtri(np.clip(p_low + width * special.ndtr(u), *PROBABILITIES))
        return center * np.exp(sd * z) if self.kind == "lognormal" else center + sd * z

    def describe(self) -> str:
        """One line for tables."""
        name = "LogNormal" if self.kind == "lognormal" else "Normal"
        unit = {None: "", "length": " r_nn", "energy": " E_coh", "offset": " + E_ref"}[self.scale]
        text = f"{name}({self.center:.4g}{unit}, {self.sd:.3g})"
        if self.bounded:
            text += f" in ({self.low:.4g}, {self.high:.4g})"
        return text


def Normal(  # noqa: N802  (reads as the distribution it makes)
    mean: float, sd: float, low: float = -np.inf, high: float = np.inf, scale: str | None = None
) -> Prior:
    """Normal prior, truncated if bounds are given."""
    return Prior("normal", mean, sd, low, high, scale)


def LogNormal(  # noqa: N802
    median: float, sd: float, low: float = 0.0, high: float = np.inf, scale: str | None = None
) -> Prior:
    """Lognormal prior by its median and the standard deviation of the logarithm."""
    return Prior("lognormal", median, sd, low if low > 0 else -np.inf, high, scale)


def transform(u: Any, kinds: tuple[tuple[bool, bool], ...], constants: Any) -> Any:
    """Map standard normals to parameters, [p] to [p], differentiable.

    ``kinds`` holds (is lognormal, is bounded) of every entry and is static; ``constants`` [p, 4]
    are the numbers of `Prior.constants`, arguments of the compiled program, so that another prior
    centre needs no new compilation.
    """
    if not kinds:
        return jnp.zeros((0,))
    is_log, bounded = np.array(kinds, dtype=bool).T
    center, sd, p_low, width = (jnp.asarray(constants)[:, c] for c in range(4))
    z = jnp.asarray(u)
    if bounded.any():
        k = np.flatnonzero(bounded)
        z = z.at[k].set(ndtri(jnp.clip(p_low[k] + width[k] * ndtr(z[k]), *PROBABILITIES)))
    # The exponential of what is not in use must not overflow: its gradient would be 0 times inf.
    grown = center * jnp.exp(jnp.where(is_log, sd * z, 0.0))
    return jnp.where(is_log, grown, center + sd * z)


def largest(priors: Sequence[Prior], name: str) -> float:
    """Upper bound of the priors of a cutoff: how far the neighbour list must go, Å.

    Raises
    ------
    PriorError
        If there is none.
    """
    bound = max(prior.high for prior in priors)
    if not np.isfinite(bound):
        raise PriorError(
            f"the prior of {name} has no upper bound: give it one (high=...), the neighbour list "
            "must be longer than every cutoff that can be drawn"
        )
    return float(bound)
