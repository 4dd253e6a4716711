r"""What of a potential the data determine, and what its priors hold.

In the standard-normal coordinates u every prior has unit precision, so that the eigenvalues of the
Gauss-Newton information

.. math:: G = \sum_c \sum_{i \in c} \frac{\kappa_i J_i J_i^T}{\sigma^2 + s^2}

at the mode are read against 1: above it the data say more about a direction than the prior, below
it less (Brown and Sethna 2003; Gutenkunst et al. 2007). Beside the spectrum stand what a sloppy
posterior does wrong: parameters that run into their priors, spreads that a linear band misses, and
structures whose labels depend on each other more than they are counted to.

References
----------
K. S. Brown, J. P. Sethna, Phys. Rev. E 68, 021904 (2003), doi:10.1103/PhysRevE.68.021904.
R. N. Gutenkunst et al., PLoS Comput. Biol. 3, e189 (2007), doi:10.1371/journal.pcbi.0030189.
"""

from bayespot.identifiability.analysis import (
    MAX_PARAMETERS,
    fitted_parameters,
    identifiability,
    problem_behind,
)
from bayespot.identifiability.findings import DesignEffect, Direction, Edge, Identifiability

__all__ = [
    "MAX_PARAMETERS",
    "DesignEffect",
    "Direction",
    "Edge",
    "Identifiability",
    "fitted_parameters",
    "identifiability",
    "problem_behind",
]
