"""Smooth ends of interactions."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def switch(r: Any, cutoff: Any, width: Any) -> Any:
    r"""Factor that takes a function to zero at the cutoff, twice continuously differentiable.

    .. math::
       S(r) = 1 - 10 x^3 + 15 x^4 - 6 x^5, \qquad x = \frac{r - (r_c - w)}{w} \in [0, 1]

    One below :math:`r_c - w`, zero above :math:`r_c`; the first and second derivatives vanish at
    both ends. ``width = 0`` truncates, as LAMMPS' ``lj/cut`` does: for comparisons only.
    """
    smooth = width > 0
    x = jnp.clip((r - (cutoff - width)) / jnp.where(smooth, width, 1.0), 0.0, 1.0)
    polynomial = 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
    return jnp.where(smooth, polynomial, jnp.where(r < cutoff, 1.0, 0.0))
