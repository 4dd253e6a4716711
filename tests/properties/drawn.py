"""Potentials with draws of their parameters, and crystals of theirs."""

import jax
import numpy as np
from ase.build import bulk
from closed_forms import lennard_jones_fcc

from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.stillinger_weber import StillingerWeber

EPSILON, SIGMA, SHELLS = 0.0104, 3.4, 0.5 * (2.0 + np.sqrt(5.0))
ARGON = bulk("Ar", "fcc", a=5.2)
SILICON = bulk("Si", "diamond", a=5.45)


def with_draws(potential, **values):
    """A potential with draws of some parameters; the others are the same in all."""
    n = len(next(iter(values.values())))

    def leaf(path, value):
        drawn = values.get(path[0].name)
        return np.tile(value, (n, 1)) if drawn is None else np.asarray(drawn)[:, None]

    return jax.tree_util.tree_map_with_path(leaf, potential)


def argon(n=48, sd=0.01):
    """Draws of epsilon and sigma, correlated; the cutoff lies between shells of all crystals."""
    normal = np.random.default_rng(7).normal(size=(n, 2))
    epsilon = EPSILON * (1.0 + 4.0 * sd * normal[:, 0])
    sigma = SIGMA * (1.0 + sd * (0.6 * normal[:, 0] + 0.8 * normal[:, 1]))
    distance = lennard_jones_fcc(EPSILON, SIGMA, SHELLS)["distance"]
    form = LennardJones(species=("Ar",), switch_width=0.0, cutoff=SHELLS * distance)
    return with_draws(form, epsilon=epsilon, sigma=sigma), epsilon, sigma


def silicon(n, sd):
    """Draws around Stillinger and Weber's silicon."""
    form, rng = StillingerWeber.silicon_1985(), np.random.default_rng(3)
    names = ("D", "r0", "lam", "cos0")
    drawn = {name: getattr(form, name)[0] * (1.0 + sd * rng.normal(size=n)) for name in names}
    return with_draws(form, **drawn)
