r"""Noise with the tails of a Student t distribution: labels that are wrong have little say.

Errors that belong together share one scale. With the sum q of the squares of d components, the
variance :math:`v = \sigma^2 + s^2` and :math:`\nu` degrees of freedom,

.. math::
   \ln t_\nu(q, d) = \ln \frac{\Gamma(\frac{\nu + d}2)}{\Gamma(\frac\nu2) (\pi \nu v)^{d/2}}
     - \frac{\nu + d}2 \ln\Big(1 + \frac{q}{\nu v}\Big)

What belongs together is the energy of a structure (d = 1), the force on an atom (its components
that symmetry lets move, d up to 3), and the stress of a structure (d up to 6). A broken label
breaks a force as a whole, and the norm of a vector is the same in every coordinate system; one t
for every component would give a rotated structure another likelihood. One t for all forces of a
structure would give up hundreds of good forces for one that is wrong. The weight :math:`\kappa` of
the components multiplies the logarithm.

The derivative of the logarithm by a component r is :math:`-r\,(\nu + d)/(\nu v + q)`: a label that
is missed by far pulls as 1/r. Its expected square, the Fisher information, is
:math:`(\nu + d)/(v\,(\nu + d + 2))`.

References
----------
K. L. Lange, R. J. A. Little, J. M. G. Taylor, J. Am. Stat. Assoc. 84, 881 (1989),
doi:10.1080/01621459.1989.10478852.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from numpy.typing import NDArray
from scipy import optimize, special

LEVEL = 0.9
"""Of the central interval by which noise with tails is given a width."""


def log_density(q: Any, d: Any, variance: Any, nu: Any) -> Any:
    """The formula of the module; zero where d is zero."""
    return (
        gammaln(0.5 * (nu + d)) - gammaln(0.5 * nu) - 0.5 * d * jnp.log(jnp.pi * nu * variance)
        - 0.5 * (nu + d) * jnp.log1p(q / (nu * variance))
    )


def pull(q: Any, d: Any, variance: Any, nu: Any) -> Any:
    """Minus the derivative by a component, over the component."""
    return (nu + d) / (nu * variance + q)


def information(d: Any, variance: Any, nu: Any) -> Any:
    """Expected square of the derivative by a component."""
    return (nu + d) / (variance * (nu + d + 2.0))


def information_of_scale(d: Any, nu: Any) -> Any:
    """Expected square of the derivative by ln v; d / 2 for normal noise."""
    return 0.5 * d * nu / (nu + d + 2.0)


def information_of_tail(d: Any, nu: Any) -> Any:
    """Expected square of the derivative by nu."""
    trigamma = special.polygamma(1, 0.5 * nu) - special.polygamma(1, 0.5 * (nu + d))
    return 0.25 * trigamma - 0.5 * d * (nu + d + 4.0) / (nu * (nu + d) * (nu + d + 2.0))


def width(scales: NDArray, nu: NDArray | None) -> float:
    """Standard deviation of the normal distribution with the same central 90 % interval.

    Of the noise with one of ``scales`` [n], each as probable, and degrees of freedom ``nu`` [n];
    None for normal noise. A standard deviation of its own would be ruled by the far tail, and there
    is none where the degrees of freedom may be two or less.
    """
    quantile = special.ndtri(0.5 + LEVEL / 2)

    def excess(log_x: float) -> float:
        x = np.exp(log_x) / scales
        inside = special.ndtr(x) if nu is None else special.stdtr(nu, x)
        return float(inside.mean()) - (0.5 + LEVEL / 2)

    each = scales * (quantile if nu is None else special.stdtrit(nu, 0.5 + LEVEL / 2))
    low, high = np.log(each.min()), np.log(each.max())
    if high - low < 1e-12:
        return float(each[0] / quantile)
    return float(np.exp(optimize.brentq(excess, low - 1e-9, high + 1e-9, xtol=1e-12)) / quantile)
