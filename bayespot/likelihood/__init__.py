r"""From labels to a posterior density: noise, weights, and the problem that inference solves.

For structure :math:`c` and kind of label :math:`k` (energy per atom, forces, stress)

.. math::
   \ln L(\theta, \sigma) = -\tfrac12 \sum_c \sum_k \kappa_{ck} \sum_{i \in (c,k)} \left[
     \frac{(y_i - f_i(\theta))^2}{\sigma_k^2 + s_{ck}^2}
     + \ln 2\pi(\sigma_k^2 + s_{ck}^2) \right]

:math:`\sigma_k` is inferred, :math:`s` is the measured convergence floor of the DFT, and
:math:`\kappa` the effective-sample-size weight: the force errors of one cell are not independent,
so a structure counts as one energy, :math:`\nu_F` forces and one stress. The loss weights of a
least-squares fit follow, :math:`w = \kappa / (\sigma^2 + s^2)`; nobody types them. Families of
structures may have scales of their own (`bayespot.parameters`), and the noise the tails of a
Student t distribution (`bayespot.likelihood.student`).
"""

from bayespot.likelihood.density import (
    FitData,
    GaussNewton,
    Misfit,
    gauss_newton,
    log_likelihood,
    log_likelihood_by_structure,
    log_posterior,
    misfit_by_structure,
)
from bayespot.likelihood.floor import NoiseFloor
from bayespot.likelihood.problem import MISFITS, TEMPERATURES, FitProblem
from bayespot.likelihood.reference import (
    energies_and_counts,
    lowest_bond,
    reference_from_data,
    reference_of,
)

__all__ = [
    "MISFITS",
    "TEMPERATURES",
    "FitData",
    "FitProblem",
    "GaussNewton",
    "Misfit",
    "NoiseFloor",
    "energies_and_counts",
    "gauss_newton",
    "log_likelihood",
    "log_likelihood_by_structure",
    "log_posterior",
    "lowest_bond",
    "misfit_by_structure",
    "reference_from_data",
    "reference_of",
]
