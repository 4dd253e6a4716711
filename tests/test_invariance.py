"""What must not change a posterior: the unit of energy, names and order of things, bigger cells.

The unit of energy is fixed in the package. That nothing depends on it is seen by multiplying all
labels, floors, priors and scales of the material by a number: the density in the standard-normal
coordinates changes by a constant, and predictions are multiplied by the number.
"""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from ase.build import bulk

from bayespot.data.dataset import Dataset, Labels
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.inference.assemble import build_posterior
from bayespot.inference.curved import whitening
from bayespot.inference.discrepancy import add_discrepancy
from bayespot.inference.map import climb, value_and_gradient
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.parameters import NOISE_PRIORS
from bayespot.potentials.finnis_sinclair import FinnisSinclair
from bayespot.potentials.morse import Morse
from bayespot.potentials.priors import Reference
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.sutton_chen import SuttonChen
from bayespot.prediction import predict

TOLERANCE = 1e-8
UNIT = 7.3
FLOOR = NoiseFloor(1e-3, 1e-2, 3e-4)
TRUTHS = {"Si": (3.2, 2.35, 1.2), "Cu": (0.35, 2.6, 1.5)}
CASES = {
    "StillingerWeber": (StillingerWeber, ("Si",), {}),
    "FinnisSinclair": (FinnisSinclair, ("Cu",), {}),
}  # fmt: skip


def rattled(symbol, seed, amplitude=0.12):
    """Eight cells, denser and more dilute, in an orthogonal setting."""
    rng, found = np.random.default_rng(seed), []
    form, a = ("diamond", 5.43) if symbol == "Si" else ("fcc", 3.61)
    for k in range(8):
        atoms = bulk(symbol, form, a=a * (0.97 + 0.01 * k), cubic=True)
        atoms.rattle(amplitude, rng=rng)
        found.append(atoms)
    return found


def labelled(structures, species, seed=0):
    """Labels of a Morse potential and noise: none of the forms can be right."""
    rng = np.random.default_rng(seed)
    depth, r0, alpha = TRUTHS[species[0]]
    truth = Morse(species=species, cutoff=4.8)
    truth = truth.replace(**{
        name: np.full_like(np.asarray(getattr(truth, name)), value)
        for name, value in (("D", depth), ("r0", r0), ("alpha", alpha))
    })
    out = evaluate(truth, build_graph(structures, species, 4.8), cutoff=4.8)
    labels, first = [], 0
    for k, atoms in enumerate(structures):
        n = len(atoms)
        labels.append(Labels(
            out.energy[k] + 0.01 * n * rng.normal(),
            out.forces[first : first + n] + 0.05 * rng.normal(size=(n, 3)),
            out.stress[k] + 0.002 * rng.normal(size=6),
        ))
        first += n
    return labels


def data_of(structures, labels):
    families = tuple(("cold", "hot", "pressed")[k % 3] for k in range(len(structures)))
    return Dataset(tuple(structures), tuple(labels), families, "made")


def permuted_atoms(atoms, label, order):
    return atoms[order], replace(label, forces=label.forces[order])


def relabelled(data):
    """Other order of the structures, and of the atoms in each."""
    rng = np.random.default_rng(9)
    order, pairs = rng.permutation(len(data)), []
    for k in order:
        atoms, label = data.structures[k], data.labels[k]
        pairs.append(permuted_atoms(atoms, label, rng.permutation(len(atoms))))
    structures, labels = zip(*pairs, strict=True)
    return Dataset(structures, labels, tuple(data.families[k] for k in order), "relabelled"), order


def doubled(data, times=(2, 1, 1)):
    """Every structure twice as long: twice its energy, its forces twice, its stress."""
    n = int(np.prod(times))
    labels = [replace(label, energy=n * label.energy, forces=np.tile(label.forces, (n, 1)))
              for label in data.labels]
    return Dataset(tuple(a.repeat(times) for a in data.structures), tuple(labels), data.families,
                   "doubled")


def scaled_label(label, by):
    return Labels(by * label.energy, by * label.forces, by * label.stress)


def in_other_units(problem, by=UNIT):
    """The same problem with everything that has a unit of energy multiplied."""
    priors = {}
    for name, unit, prior in zip(problem.space.names, problem.space.units, problem.space.priors,
                                 strict=True):
        if unit.startswith("eV"):
            linear = prior.kind == "normal"
            priors[name] = replace(prior, center=by * prior.center, low=by * prior.low,
                                   high=by * prior.high, sd=prior.sd * (by if linear else 1.0))
    assert set(priors) > {f"sigma_{q}" for q in NOISE_PRIORS}
    data, r, floor = problem.dataset, problem.reference, problem.floor
    return FitProblem(
        problem.initial,
        replace(data, labels=tuple(scaled_label(one, by) for one in data.labels)), priors=priors,
        reference=Reference(r.length, by * r.energy, tuple(by * e for e in r.offset)),
        floor=NoiseFloor(by * floor.energy, by * floor.forces, by * floor.stress),
    )


def polished(problem, u):
    """A mode, by Newton's method in whitened coordinates, and the covariance there."""
    space = problem.space
    for _ in range(12):
        root = whitening(problem, u)
        _, gradient = value_and_gradient(space.layout, space.constants, problem.placed(), u)
        step = root.T @ np.asarray(gradient)
        if np.abs(step).max() < 1e-11:
            break
        u = u + root @ step
    assert np.abs(step).max() < 1e-9, "the mode is found"
    return u, root @ root.T


class Fitted:
    """Mode, covariance and predictions of a problem."""

    def __init__(self, problem, start, new, z, discrepancy=True):
        self.problem = problem
        self.mode, self.covariance = polished(problem, start)
        # Draws along the axes of the coordinates, which do not depend on their order.
        width = np.sqrt(np.diag(self.covariance))
        self.posterior = build_posterior(problem, (self.mode + 0.3 * z * width)[None],
                                         method="laplace")
        self.prediction = predict(self.posterior, new)
        if discrepancy:
            mode = build_posterior(problem, self.mode[None, None], method="map")
            self.with_discrepancy = add_discrepancy(problem, mode, key=jax.random.key(2),
                                                    n_draws=20)
            self.corrected = predict(self.with_discrepancy, new)


def density_differences(problem, points):
    values = np.array([problem.log_posterior(u) for u in points])
    return values[1:] - values[0]


def close(a, b, scale=None):
    a, b = np.asarray(a), np.asarray(b)
    scale = np.abs(b).max() if scale is None else scale
    assert np.abs(a - b).max() <= TOLERANCE * scale, np.abs(a - b).max() / scale


def same_posterior(one, other):
    """Density, mode and Laplace covariance in the standard-normal coordinates."""
    rng = np.random.default_rng(1)
    points = one.mode + 0.3 * rng.standard_normal((4, one.problem.space.size))
    close(density_differences(other.problem, points), density_differences(one.problem, points))
    width = np.sqrt(np.diag(one.covariance))
    close(other.mode / width, one.mode / width, scale=1.0)
    close(other.covariance / np.outer(width, width), one.covariance / np.outer(width, width),
          scale=1.0)


def same_predictions(one, other, *, by=1.0, cells=1, atoms=slice(None)):
    """Means, spreads and noise; energies grow with ``by`` and the number of cells."""
    pairs = [(one.prediction, other.prediction)]
    if hasattr(one, "corrected"):
        pairs.append((one.corrected, other.corrected))
        close(other.with_discrepancy.record["details"]["temperature"],
              one.with_discrepancy.record["details"]["temperature"])
    for a, b in pairs:
        for name in ("energy", "energy_parameter_std", "energy_noise_std"):
            close(getattr(b, name), by * cells * getattr(a, name))
        for name in ("forces", "forces_parameter_std", "forces_noise_std"):
            close(getattr(b, name)[atoms], by * getattr(a, name))
        for name in ("stress", "stress_parameter_std", "stress_noise_std"):
            close(getattr(b, name), by * getattr(a, name))
        close(b.extrapolation, a.extrapolation)


@pytest.fixture(scope="module", params=CASES)
def fitted(request):
    form, species, options = CASES[request.param]
    structures = rattled(species[0], 0)
    problem = FitProblem(form(species=species), data_of(structures, labelled(structures, species)),
                         floor=FLOOR, **options)
    new = rattled(species[0], 5, amplitude=0.2)[2:4]
    z = np.random.default_rng(3).standard_normal((6, problem.space.size))
    start = climb(problem, np.zeros(problem.space.size)).u
    return Fitted(problem, start, new, z), new, z


def again(problem, data):
    return FitProblem(problem.initial, data, reference=problem.reference, floor=problem.floor)


def test_unit_of_energy(fitted):
    one, new, z = fitted
    other = Fitted(in_other_units(one.problem), one.mode, new, z)
    same_posterior(one, other)
    same_predictions(one, other, by=UNIT)
    energy = [k for k, unit in enumerate(one.problem.space.units) if unit.startswith("eV")]
    ratio = other.problem.space.physical(other.mode) / one.problem.space.physical(one.mode)
    np.testing.assert_allclose(ratio[energy], UNIT, rtol=1e-8)
    np.testing.assert_allclose(np.delete(ratio, energy), 1.0, rtol=1e-8)


def test_names_of_atoms_and_structures(fitted):
    one, new, z = fitted
    data, order = relabelled(one.problem.dataset)
    assert (order != np.arange(len(order))).any()
    backwards = [atoms[::-1] for atoms in new]
    other = Fitted(again(one.problem, data), one.mode, backwards, z)
    same_posterior(one, other)
    ends = np.cumsum([0, *map(len, new)])
    atoms = np.concatenate([np.arange(b - 1, a - 1, -1) for a, b in itertools.pairwise(ends)])
    same_predictions(one, other, atoms=atoms)


def test_reference_of_a_material_is_the_same_in_any_order(fitted):
    one, *_ = fitted
    data, _ = relabelled(one.problem.dataset)
    found = FitProblem(one.problem.initial, data, floor=FLOOR).reference
    close(found.length, one.problem.reference.length)
    close(found.offset, one.problem.reference.offset)


def test_doubled_cells(fitted):
    """A cell counts as one energy, six forces and one stress, however often it is repeated."""
    one, new, z = fitted
    other = Fitted(again(one.problem, doubled(one.problem.dataset)), one.mode,
                   [atoms.repeat((1, 2, 1)) for atoms in new], z)
    same_posterior(one, other)
    first = np.concatenate([[0], np.cumsum([2 * len(a) for a in new])[:-1]])
    atoms = np.concatenate([f + np.arange(len(a)) for f, a in zip(first, new, strict=True)])
    same_predictions(one, other, cells=2, atoms=atoms)


def test_cells_of_few_forces_count_as_those_few():
    """No force counts more than once: below nu_forces components, twice the cell is twice as much.

    A cell of two atoms has six components; ``nu_forces`` is nine here.
    """
    atoms = bulk("Cu", "fcc", a=3.6).repeat((2, 1, 1))
    atoms.positions[1] += 0.1 * atoms.cell[0] / np.linalg.norm(atoms.cell[0])
    forces = np.zeros((2, 3))
    forces[:] = atoms.cell[0] / np.linalg.norm(atoms.cell[0])
    data = Dataset((atoms,), (Labels(-7.0, forces, np.zeros(6)),), ("",), "made")
    form = SuttonChen(species=("Cu",))

    def counted(dataset):
        problem = FitProblem(form, dataset, reference=Reference(2.55, 3.5, (0.0,)), nu_forces=9.0)
        return problem.misfit_by_structure(np.zeros(problem.space.size)).counts[0]

    single, double, fourfold = (counted(doubled(data, (1, n, 1))) for n in (1, 2, 4))
    np.testing.assert_allclose(double[[0, 2]], single[[0, 2]], rtol=1e-14)
    assert single[1] == 6.0
    np.testing.assert_allclose((double[1], fourfold[1]), 9.0, rtol=1e-14)


# --- species -------------------------------------------------------------------------------------


def alloy(seed):
    rng, found = np.random.default_rng(seed), []
    for k in range(8):
        atoms = bulk("Cu", "fcc", a=3.55 * (0.97 + 0.01 * k), cubic=True)
        symbols = ["Cu", "Ni", "Cu", "Cu"] if k % 2 else ["Ni", "Cu", "Ni", "Ni"]
        atoms.set_chemical_symbols(symbols)
        atoms.rattle(0.12, rng=rng)
        found.append(atoms)
    return found


@pytest.mark.slow
def test_order_of_the_species():
    """Entries by species and pair come in another order; nothing else changes."""
    structures = alloy(0)
    labels = labelled(structures, ("Cu", "Ni"))
    new = alloy(7)[2:4]
    problems = [
        FitProblem(SuttonChen(species=species), data_of(structures, labels), floor=FLOOR)
        for species in (("Cu", "Ni"), ("Ni", "Cu"))
    ]
    names = problems[0].space.names
    swapped = {"Ni-Cu": "Cu-Ni"}
    others = []
    for name in problems[1].space.names:
        short, _, entry = name.rstrip("]").partition("[")
        others.append(f"{short}[{swapped.get(entry, entry)}]" if entry else name)
    assert sorted(others) == sorted(names)
    assert others != names
    place = np.array([names.index(name) for name in others])
    assert problems[1].reference.offset == pytest.approx(problems[0].reference.offset[::-1],
                                                         rel=1e-12)
    z = np.random.default_rng(3).standard_normal((6, len(names)))
    start = climb(problems[0], np.zeros(len(names))).u
    one = Fitted(problems[0], start, new, z, discrepancy=False)
    other = Fitted(problems[1], one.mode[place], new, z[:, place], discrepancy=False)
    points = one.mode + 0.3 * np.random.default_rng(1).standard_normal((4, len(names)))
    close(density_differences(other.problem, points[:, place]),
          density_differences(one.problem, points))
    width = np.sqrt(np.diag(one.covariance))
    close(other.mode / width[place], (one.mode / width)[place], scale=1.0)
    close((other.covariance / np.outer(width[place], width[place])),
          (one.covariance / np.outer(width, width))[np.ix_(place, place)], scale=1.0)
    same_predictions(one, other)
    discrepancies = []
    for fitted in (one, other):
        mode = build_posterior(fitted.problem, fitted.mode[None, None], method="map")
        discrepancies.append(add_discrepancy(fitted.problem, mode, key=jax.random.key(0),
                                             n_draws=4).record["details"])
    for name in ("temperature", "log_evidence", "determined_weights"):
        close(*(details[name] for details in discrepancies))
