"""Priors as maps of a normal variable, the flat vector, and the likelihood written out."""

import numpy as np
import pytest
from ase.build import bulk, diamond100
from scipy import stats

import bayespot
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import LabelError, PriorError
from bayespot.evaluate import evaluate
from bayespot.likelihood import FitProblem, NoiseFloor, reference_from_data
from bayespot.parameters import ParameterSpace, unpack
from bayespot.potentials.priors import LogNormal, Normal, Prior, Reference, transform

REFERENCE = Reference(length=2.35, energy=4.6, offset=(-100.0, -50.0))
U = np.array([-3.0, -1.3, 0.0, 0.4, 2.9])


def of_log(distribution):
    """Density of exp(x) of a distribution of x."""
    return lambda theta: distribution.logpdf(np.log(theta)) - np.log(theta)


def truncated(mean, sd, low, high):
    return stats.truncnorm((low - mean) / sd, (high - mean) / sd, mean, sd)


CASES = {
    "normal": (Normal(1.5, 0.3), stats.norm(1.5, 0.3).logpdf),
    "lognormal": (LogNormal(2.0, 0.4), stats.lognorm(0.4, scale=2.0).logpdf),
    "normal above": (Normal(0.0, 0.5, low=-0.2), truncated(0.0, 0.5, -0.2, np.inf).logpdf),
    "normal below": (Normal(0.0, 0.5, high=2.0), truncated(0.0, 0.5, -np.inf, 2.0).logpdf),
    "normal between": (Normal(-1 / 3, 0.1, low=-0.5, high=1.0),
                       truncated(-1 / 3, 0.1, -0.5, 1.0).logpdf),
    "lognormal above": (LogNormal(4.0, 0.3, low=2.0),
                        of_log(truncated(np.log(4.0), 0.3, np.log(2.0), np.inf))),
    "lognormal between": (LogNormal(3.76, 0.1, low=3.0, high=4.7),
                          of_log(truncated(np.log(3.76), 0.1, np.log(3.0), np.log(4.7)))),
}  # fmt: skip


# --- priors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name):
    prior, _ = CASES[name]
    theta = prior.forward(U)
    np.testing.assert_allclose([prior.inverse(t) for t in theta], U, atol=1e-9)
    kinds = ((prior.kind == "lognormal", prior.bounded),) * len(U)
    compiled = transform(U, kinds, np.tile(prior.constants(), (len(U), 1)))
    np.testing.assert_allclose(compiled, theta, rtol=1e-12)
    assert prior.inverse(prior.center) == pytest.approx(0.0, abs=1e-12) or prior.bounded


@pytest.mark.parametrize("name", CASES)
def test_densities_are_those_of_scipy(name):
    """N(u) du = density(theta) dtheta."""
    prior, logpdf = CASES[name]
    h = 1e-6
    slope = (prior.forward(U + h) - prior.forward(U - h)) / (2 * h)
    np.testing.assert_allclose(stats.norm.logpdf(U) - np.log(slope), logpdf(prior.forward(U)),
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bounds_are_never_left(name):
    prior, _ = CASES[name]
    far = np.array([-40.0, -12.0, -8.0, 8.0, 12.0, 40.0])
    theta = prior.forward(far)
    kinds = ((prior.kind == "lognormal", prior.bounded),) * len(far)
    for values in (theta, transform(far, kinds, np.tile(prior.constants(), (len(far), 1)))):
        assert np.isfinite(values).all()
        assert (np.diff(values) >= 0).all()
        edges = [prior.low, prior.high]
        slack = 1e-12 * np.array([abs(e) if np.isfinite(e) else 1.0 for e in edges])
        assert (values >= prior.low - slack[0]).all()
        assert (values <= prior.high + slack[1]).all()
        if prior.kind == "lognormal":
            assert (values > 0).all()


def test_scales_of_the_material():
    length = LogNormal(1.6, 0.1, low=1.3, high=2.0, scale="length").resolve(REFERENCE)
    assert (length.center, length.sd, length.low, length.high) == pytest.approx(
        (1.6 * 2.35, 0.1, 1.3 * 2.35, 2.0 * 2.35)
    )
    assert Normal(0.5, 0.1, scale="energy").resolve(REFERENCE).sd == pytest.approx(0.46)
    assert Normal(1.0, 10.0, scale="offset").resolve(REFERENCE, 1).center == -49.0
    assert length.resolve(Reference(length=9.0)) == length


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Prior("cauchy", 0.0, 1.0), r"prior kind 'cauchy' is unknown: use 'normal' or 'logn"),
    (lambda: Normal(0.0, 0.0), r"center 0.0 and sd 0.0 is not proper.*flat priors let param"),
    (lambda: Normal(0.0, np.inf), r"sd inf is not proper"),
    (lambda: Normal(np.nan, 1.0), r"center nan and sd 1.0 is not proper"),
    (lambda: LogNormal(-1.0, 0.3), r"the median -1.0 of a lognormal prior must be positive"),
    (lambda: Normal(0.0, 1.0, low=0.5), r"center 0.0 is outside its bounds \(0.5, inf\)"),
    (lambda: Normal(0.0, 1.0, scale="mass"), r"prior scale 'mass' is unknown: use one of"),
    (lambda: Normal(0.0, 1.0, low=-1.0).inverse(-2.0), r"value -2.0 is outside the prior's supp"),
    (lambda: LogNormal(1.0, 1.0).inverse(-2.0), r"value -2.0 is outside .*widen the prior or ch"),
])  # fmt: skip
def test_priors_that_cannot_be(make, message):
    with pytest.raises(PriorError, match=message):
        make()


# --- the flat vector ------------------------------------------------------------------------


def space_of(potential=None, **settings):
    return ParameterSpace(potential or bayespot.StillingerWeber(species=("Si", "C")), REFERENCE,
                          **settings)  # fmt: skip


def test_names_and_order():
    space = ParameterSpace(bayespot.StillingerWeber(species=("Si",)), REFERENCE)
    assert space.names == ["D", "r0", "k", "q", "s", "r_c", "gamma", "lam", "cos0", "e0",
                           "sigma_energy", "sigma_forces", "sigma_stress"]  # fmt: skip
    assert space.reach == pytest.approx(2.0 * 2.35)
    two = space_of()
    assert two.names[:3] == ["D[Si-Si]", "D[Si-C]", "D[C-C]"]
    assert two.names[21:24] == ["lam[Si-Si-Si]", "lam[Si-Si-C]", "lam[C-Si-C]"]
    assert two.names[-5:-3] == ["e0[Si]", "e0[C]"]
    assert [two.priors[two.names.index(n)].center for n in ("e0[Si]", "e0[C]")] == [-100, -50]


def test_vector_and_potential_are_two_views():
    space = space_of(fixed={"q": 0.0, "lam[C-Si-C]": 31.0, "sigma_stress": 0.01})
    assert space.fixed == {"q[Si-Si]": 0.0, "q[Si-C]": 0.0, "q[C-C]": 0.0, "lam[C-Si-C]": 31.0,
                           "sigma_stress": 0.01}  # fmt: skip
    rng = np.random.default_rng(0)
    u = rng.standard_normal((3, space.size))
    many, sigma = space.potential(u), space.sigma(u)
    assert many.D.shape == (3, 3)
    assert many.lam.shape == (3, 6)
    assert (many.lam[:, 2] == 31.0).all()
    assert (sigma[:, 2] == 0.01).all()
    for k in range(3):
        one, scales = unpack(space.layout, space.constants, u[k])
        for name in ("D", "q", "lam", "e0"):
            np.testing.assert_allclose(getattr(one, name), getattr(many, name)[k], rtol=1e-12)
        np.testing.assert_allclose(scales.sigma, sigma[k], rtol=1e-12)
        np.testing.assert_allclose(space.inverse(space.potential(u[k]), sigma[k]), u[k], atol=1e-9)


def test_a_prior_can_be_given_for_all_entries_or_one():
    space = space_of(priors={"D": Normal(2.0, 0.1), "D[Si-C]": Normal(3.0, 0.2)})
    assert [p.center for p in space.priors[:3]] == [2.0, 3.0, 2.0]


def test_noise_is_sampled_where_there_are_labels():
    space = space_of(quantities=("forces",))
    assert [n for n in space.names if n.startswith("sigma")] == ["sigma_forces"]
    assert space.fixed["e0[Si]"] == 0.0, "without energies their zero means nothing"


@pytest.mark.parametrize(("settings", "message"), [
    ({"priors": {"gama": Normal(1.0, 1.0)}},
     r"StillingerWeber has no parameter 'gama'; did you mean 'gamma'\?.*It has D"),
    ({"fixed": {"sigma_force": 0.1}}, r"no parameter 'sigma_force'; did you mean 'sigma_forces'"),
    ({"fixed": {"lam[Si-C-Ge]": 1.0}}, r"no parameter 'lam\[Si-C-Ge\]'; did you mean 'lam\["),
    ({"fixed": {"zzz": 1.0}}, r"no parameter 'zzz'\. It has D, "),
])  # fmt: skip
def test_names_that_are_not_there(settings, message):
    with pytest.raises(PriorError, match=message):
        space_of(**settings)


def test_a_cutoff_without_an_end_is_refused():
    space = space_of(priors={"r_c": LogNormal(4.0, 0.1)})
    with pytest.raises(PriorError, match=r"prior of r_c has no upper bound: give it one \(high="):
        _ = space.reach


def test_a_value_outside_of_its_prior_is_named():
    space = ParameterSpace(bayespot.StillingerWeber(species=("Si",)), REFERENCE)
    with pytest.raises(PriorError, match=r"r0: the value 1.0 is outside the prior's support"):
        space.inverse(bayespot.StillingerWeber.silicon_1985().replace(r0=1.0))


# --- likelihood -----------------------------------------------------------------------------

FLOOR = NoiseFloor(2e-3, 0.02, 1e-3, families={"hot": (3e-3, 0.1, 4e-3)})
NU = 6.0


def labelled():
    """Five structures: two full, one hot, one with missing labels, one slab, all rattled."""
    rng = np.random.default_rng(8)
    cells = [bulk("Si", "diamond", a=a, cubic=c) for a, c in
             ((5.3, False), (5.5, True), (5.4, True), (5.6, False))]  # fmt: skip
    cells.append(diamond100("Si", (1, 1, 4), a=5.43, vacuum=6.0))
    cells[-1].pbc = True
    labels = []
    for k, atoms in enumerate(cells):
        atoms.rattle(0.1, seed=k)
        labels.append(Labels(
            None if k == 3 else -4.5 * len(atoms) + rng.standard_normal(),
            None if k == 2 else rng.standard_normal((len(atoms), 3)),
            None if k == 3 else 0.05 * rng.standard_normal(6),
        ))
    families = ["cold", "cold", "hot", "hot", "surface"]
    return Dataset.from_atoms(cells, labels, families=families)


@pytest.fixture(scope="module")
def problem():
    return FitProblem(bayespot.Morse(species=("Si",), cutoff=4.5), labelled(), floor=FLOOR,
                      nu_forces=NU)  # fmt: skip


def written_out(problem, u):
    """The log likelihood of every structure as the documentation states it."""
    sigma = problem.space.sigma(u)
    out = evaluate(problem.space.potential(u), problem.graph, cutoff=problem.cutoff)
    values, first = [], 0
    for c, (atoms, label) in enumerate(
        zip(problem.dataset.structures, problem.dataset.labels, strict=True)
    ):
        n = len(atoms)
        variance = sigma**2 + np.square(FLOOR.of(problem.dataset.families[c]))
        slab = c == 4
        terms = [
            (1.0, None if label.energy is None else label.energy / n, out.energy[c] / n),
            (min(1.0, NU / (3 * n)), label.forces, out.forces[first : first + n]),
            (1 / 6, None if slab else label.stress, out.stress[c]),
        ]
        total = 0.0
        for (kappa, truth, found), v in zip(terms, variance, strict=True):
            if truth is not None:
                total -= 0.5 * kappa * np.sum(
                    np.square(truth - found) / v + np.log(2 * np.pi * v)
                )
        values.append(total)
        first += n
    return np.array(values)


def test_the_likelihood_is_the_documented_one(problem):
    rng = np.random.default_rng(2)
    for u in 0.4 * rng.standard_normal((2, problem.space.size)):
        expected = written_out(problem, u)
        np.testing.assert_allclose(problem.log_likelihood_by_structure(u), expected, rtol=1e-11)
        assert problem.log_posterior(u) == pytest.approx(expected.sum() - 0.5 * u @ u, rel=1e-11)


def test_the_stress_of_a_slab_is_left_out_and_counted(problem):
    assert problem.dropped["stress of cells with vacuum"] == 1
    counts = problem.misfit_by_structure(np.zeros(problem.space.size)).counts
    np.testing.assert_allclose(counts[:, 0], [1, 1, 1, 0, 1])
    np.testing.assert_allclose(counts[:, 1], [6, 6, 0, 6, 6])
    np.testing.assert_allclose(counts[:, 2], [1, 1, 1, 0, 0])


def test_weights_are_kappa_over_variance(problem):
    """The curvature of the negative log likelihood in a label is w = kappa / (sigma^2 + s^2)."""
    u = np.zeros(problem.space.size)
    sigma, step = problem.space.sigma(u), 0.05

    def shifted(delta):
        labels = list(problem.dataset.labels)
        old = labels[0]
        labels[0] = Labels(old.energy + delta * 2, old.forces, old.stress)
        moved = Dataset.from_atoms(problem.dataset.structures, labels,
                                   families=problem.dataset.families)  # fmt: skip
        other = FitProblem(problem.initial, moved, floor=FLOOR, reference=problem.reference)
        return other.log_likelihood_by_structure(u)[0]

    curvature = -(shifted(step) - 2 * shifted(0.0) + shifted(-step)) / step**2
    assert curvature == pytest.approx(1.0 / (sigma[0] ** 2 + 2e-3**2), rel=1e-6)


def test_components_fixed_by_symmetry_are_left_out_and_counted():
    """Perfect diamond under hydrostatic strain: no force and no shear can be anything but zero."""
    atoms = bulk("Si", "diamond", a=5.3)
    stress = np.array([-0.1, -0.1, -0.1, 0.0, 0.0, 0.0])
    label = Labels(-9.0, np.zeros((2, 3)), stress)
    form = bayespot.Morse(species=("Si",), cutoff=4.5)
    problem = FitProblem(form, Dataset.from_atoms([atoms], [label]))
    assert problem.dropped["symmetry-fixed components"] == 6 + 3
    counts = problem.misfit_by_structure(np.zeros(problem.space.size)).counts[0]
    np.testing.assert_allclose(counts, [1.0, 0.0, 1.0])
    # A label that symmetry forbids is no zero: it stays, and counts against the potential.
    odd = Labels(-9.0, np.array([[0.3, 0, 0], [-0.3, 0, 0]]), stress)
    problem = FitProblem(form, Dataset.from_atoms([atoms], [odd]))
    assert problem.dropped["symmetry-fixed components"] == 4 + 3
    counts = problem.misfit_by_structure(np.zeros(problem.space.size)).counts[0]
    np.testing.assert_allclose(counts, [1.0, 2.0, 1.0])


def test_few_forces_count_in_full_and_many_as_nu():
    form = bayespot.Morse(species=("Si",), cutoff=4.5)
    for nu, expected in ((2.0, 2.0), (6.0, 6.0), (1e9, 24.0)):
        atoms = bulk("Si", "diamond", a=5.4, cubic=True)
        atoms.rattle(0.1, seed=0)
        label = Labels(forces=np.ones((8, 3)))
        problem = FitProblem(form, Dataset.from_atoms([atoms], [label]), nu_forces=nu)
        counts = problem.misfit_by_structure(np.zeros(problem.space.size)).counts
        np.testing.assert_allclose(counts[0], [0.0, expected, 0.0])


def test_a_floor_is_read_from_its_file(tmp_path):
    path = tmp_path / "floor.json"
    path.write_text('{"overall": {"s_energy": 0.001, "s_forces": 0.02, "s_stress": 0.003},'
                    ' "families": {"hot": {"s_energy": 0.002, "s_forces": null}}}')  # fmt: skip
    floor = NoiseFloor.from_json(path)
    assert floor.of("hot") == (0.002, 0.02, 0.003)
    assert floor.of("cold") == (0.001, 0.02, 0.003)


def test_reference_from_data():
    cells = [bulk("Si", "diamond", a=a) for a in (5.0, 5.43, 6.0)]
    dataset = Dataset.from_atoms(cells, [Labels(2 * e) for e in (-104.0, -105.0, -104.6)])
    found = reference_from_data(dataset, ("Si",))
    assert found.length == pytest.approx(5.43 * np.sqrt(3) / 4)
    assert found.offset[0] == pytest.approx(-(104.0 + 105.0 + 104.6) / 3 + found.energy)


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"misfit": "magic"}, PriorError, r"misfit='magic' is unknown: use one of discrepancy"),
    ({"nu_forces": 0.0}, PriorError, r"nu_forces=0.0 must be positive \(6 is the default\)"),
])  # fmt: skip
def test_settings_that_cannot_be(settings, error, message):
    with pytest.raises(error, match=message):
        FitProblem(bayespot.Morse(species=("Si",)), labelled(), **settings)


def test_data_without_labels():
    with pytest.raises(LabelError, match=r"none of the 1 structures of memory has a label: name"):
        FitProblem(bayespot.Morse(species=("Si",)), Dataset.from_atoms([bulk("Si")]))
