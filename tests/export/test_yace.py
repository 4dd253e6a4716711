"""The .yace file of a linear ACE, read by a small reader of its own and by python-ace."""

import json
import re
from itertools import permutations
from itertools import product as cartesian
from math import factorial, pi, sqrt
from pathlib import Path

import lammps_reference as reference
import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.polynomial.chebyshev import chebval
from scipy.special import lpmv

from bayespot.errors import ConfigError
from bayespot.export.ace_tables import measured, shortest
from bayespot.export.lammps import Manifest, export_lammps
from bayespot.export.styles import write_style
from bayespot.export.yace import products, taken_apart
from bayespot.potentials.ace import ACE
from bayespot.potentials.ace_basis import make_basis
from bayespot.potentials.zbl import ZBL

SMALL = ("triclinic", "two-atom cell, smaller than the cutoff",
         "one-atom cell, smaller than the cutoff", "cluster")  # fmt: skip

CASES = {
    "one species": {"species": ("Si",), "degree_1": 8, "degree_2": 7, "degree_3": 6},
    "two species": {
        "species": ("Si", "Ge"), "degree_1": 6, "degree_2": 5, "degree_3": 4,
        "r0": [2.35, 2.40, 2.50], "cutoff": [5.0, 5.2, 5.5],
    },
    "three species, other powers": {
        "species": ("Si", "C", "Ge"), "degree_1": 3, "degree_2": 3, "degree_3": 2,
        "r0": [2.4, 2.0, 2.45, 1.6, 2.1, 2.5], "map_p": 2.5, "map_q": 5.2,
    },
    "five bodies": {
        "species": ("Si", "Ge"), "degree_1": 4, "degree_2": 4, "degree_3": 2, "degree_4": 2,
        "angular_weight": 0.5,
    },
    "pairs alone": {"species": ("Si", "Ge"), "degree_1": 7, "degree_2": -1, "degree_3": -1},
    "no pairs": {"species": ("Si", "Ge"), "degree_1": -1, "degree_2": 3, "degree_3": -1},
}  # fmt: skip


def drawn(seed=0, core=0.0, **settings):
    """An ACE whose coefficients are a draw from its prior."""
    empty = ACE(core=core, e0=-1.0 - np.arange(len(settings["species"])), **settings)
    item = next(p for p in empty.parameters() if p.name == "c")
    sd = np.array([empty.prior_of(item, k).sd for k in range(len(empty.c))])
    return empty.replace(c=sd * np.random.default_rng(seed).standard_normal(len(sd)))


# --- the published formula, from the file alone ------------------------------------------------


def read(path):
    """The file as nested dictionaries; below the first level every value is JSON."""
    found, section, mine = {}, None, None
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        key, _, value = line.strip().partition(": ")
        if indent == 0:
            section = key.rstrip(":")
            found[section] = json.loads(value) if value else {}
        elif line.lstrip().startswith("- "):
            found[section][mine].append(json.loads(line.strip()[2:]))
        else:
            numbers = tuple(int(k) for k in re.findall(r"\d+", key))
            mine = numbers if len(numbers) > 1 else numbers[0]
            found[section][mine] = json.loads(value) if value else []
    return found


def basis_functions(bond, r):
    """g_k [K, N] and R_nl [n, l, N]: "ChebPow" with power one."""
    assert bond["radbasename"] == "ChebPow"
    assert bond["radparameters"] == [1.0]
    x = 2.0 * r / bond["rcut"] - 1.0
    g = np.stack([0.5 - 0.5 * chebval(x, np.eye(k + 1)[k])
                  for k in range(1, bond["nradbasemax"] + 1)])
    g *= r < bond["rcut"]
    return g, np.einsum("nlk,kr->nlr", np.array(bond["radcoefficients"]), g)


def harmonic(ell, m, unit):
    """sqrt(4 pi) Y_lm with the phase of Condon and Shortley."""
    if m < 0:
        return (-1) ** m * np.conj(harmonic(ell, -m, unit))
    norm = sqrt((2 * ell + 1) / (4 * pi) * factorial(ell - m) / factorial(ell + m))
    azimuth = np.arctan2(unit[:, 1], unit[:, 0])
    return sqrt(4 * pi) * norm * lpmv(m, ell, unit[:, 2]) * np.exp(1j * m * azimuth)


def energies(file, atoms):
    """Energy of every atom: sums of products of A, Drautz (2019), Lysogorskiy et al. (2021)."""
    kinds = [file["elements"].index(s) for s in atoms.get_chemical_symbols()]
    reach = max(bond["rcut"] for bond in file["bonds"].values())
    center, neighbor, distance, vector = neighbor_list("ijdD", atoms, reach)
    out = np.zeros(len(atoms))
    for i, mine in enumerate(kinds):
        single, moment = {}, {}
        for other in range(len(file["elements"])):
            here = np.flatnonzero((center == i) & (np.array(kinds)[neighbor] == other))
            bond = file["bonds"][mine, other]
            unit = vector[here] / distance[here][:, None]
            g, radial = basis_functions(bond, distance[here])
            single[other] = g.sum(axis=1)
            for ell in range(bond["lmax"] + 1):
                for m in range(-ell, ell + 1):
                    moment[other, ell, m] = radial[:, ell] @ harmonic(ell, m, unit)
        for one in file["functions"][mine]:
            assert one["mu0"] == mine
            if one["rank"] == 1:
                out[i] += one["ctildes"][0] * single[one["mus"][0]][one["ns"][0] - 1]
                continue
            ms = np.reshape(one["ms_combs"], (one["num_ms_combs"], one["rank"]))
            for row, value in zip(ms, one["ctildes"], strict=True):
                factors = [moment[mu, ell, m][n - 1] for mu, n, ell, m in
                           zip(one["mus"], one["ns"], one["ls"], row, strict=True)]
                out[i] += value * np.prod(factors).real
    return out


@pytest.mark.parametrize("case", CASES)
def test_the_file_says_our_energies(case, tmp_path):
    potential = drawn(**CASES[case])
    write_style(potential, tmp_path, "ace")
    file = read(tmp_path / "ace.yace")
    cases = [reference.with_species(reference.structures()[n], potential.species) for n in SMALL]
    for atoms, mine in zip(cases, reference.ours(potential, *cases), strict=True):
        offset = sum(float(potential.e0[potential.species.index(s)]) for s in atoms.symbols)
        assert abs(energies(file, atoms).sum() + offset - mine.energy) / len(atoms) < 1e-10


def test_what_a_reader_of_the_format_relies_on(tmp_path):
    potential = drawn(**CASES["two species"])
    style = write_style(potential, tmp_path, "ace")
    assert style.commands("there") == [
        "pair_style pace product", "pair_coeff * * there/ace.yace Si Ge"
    ]
    assert "ML-PACE" in style.note
    file = read(tmp_path / "ace.yace")
    assert file["elements"] == ["Si", "Ge"]
    assert file["E0"] == [0.0, 0.0]
    assert set(file["bonds"]) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert file["bonds"][0, 1] == file["bonds"][1, 0]
    assert [file["bonds"][k, k]["rcut"] for k in (0, 1)] == [5.0, 5.5]
    for bond in file["bonds"].values():
        shape = (bond["nradmax"], bond["lmax"] + 1, bond["nradbasemax"])
        assert np.shape(bond["radcoefficients"]) == shape
        assert bond["prehc"] == 0.0  # no repulsion that LAMMPS would add
    for center, functions in file["functions"].items():
        assert [f["rank"] for f in functions] == sorted(f["rank"] for f in functions)
        for one in functions:
            assert len(one["mus"]) == len(one["ns"]) == len(one["ls"]) == one["rank"]
            ms = np.reshape(one["ms_combs"], (one["num_ms_combs"], one["rank"]))
            assert not ms.sum(axis=1).any()
            assert (np.abs(ms) <= one["ls"]).all()
            assert len(one["ctildes"]) == one["num_ms_combs"]
            most = file["bonds"][center, 0]["nradbasemax" if one["rank"] == 1 else "nradmax"]
            assert 1 <= min(one["ns"]) <= max(one["ns"]) <= most


@pytest.mark.parametrize(("equal", "orders"), [
    ((False, False, False), [(0, 1, 2)]),
    ((False, True, False), [(0, 1, 2), (1, 0, 2)]),
    ((False, False, True), [(0, 1, 2), (0, 2, 1)]),
    ((False, True, True), list(permutations(range(3)))),
])  # fmt: skip
def test_conjugates_and_exchanged_factors_are_one_entry(equal, orders):
    """Of every product, its conjugate (-m) and its exchanges of equal factors, one is kept."""
    group = next(g for g in make_basis(1, (-1, -1, 6), 1.0).groups if g.ls == (2, 2, 2))
    ms, _ = products(group, equal)
    classes = {
        frozenset(tuple(sign * one[k] for k in order) for order in orders for sign in (1, -1))
        for one in cartesian(range(-2, 3), repeat=3) if sum(one) == 0
    }
    assert len(classes) == len(ms)
    assert all(len(set(ms) & one) == 1 for one in classes)


# --- tables --------------------------------------------------------------------------------


def test_the_error_that_is_reported_is_that_of_the_tables():
    """Of cubics through exact slopes: energies fall with the fourth power of the step."""
    potential = drawn(**CASES["one species"])
    radials = shortest(potential)
    errors = np.array([measured(potential, radials, step) for step in (0.02, 0.01)])
    assert errors[0, 0] / errors[1, 0] == pytest.approx(16.0, rel=0.3)
    assert errors[0, 1] / errors[1, 1] == pytest.approx(8.0, rel=0.5)


def test_a_map_that_no_table_holds_is_refused(tmp_path):
    steep = drawn(species=("Si",), degree_1=20, degree_2=3, degree_3=-1, map_p=2.0, map_q=400.0)
    with pytest.raises(ConfigError, match=r"map_q=400.*eV/Å a bond"):
        write_style(steep, tmp_path, "ace")
    assert not list(tmp_path.iterdir())


def test_what_is_no_element_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not Xx"):
        write_style(drawn(species=("Si", "Xx")), tmp_path, "ace")


# --- the core ------------------------------------------------------------------------------


def test_a_core_goes_beside_the_file_as_a_table(tmp_path):
    potential = drawn(species=("Si", "Ge"), core=0.9)
    style = write_style(potential, tmp_path, "ace")
    assert style.files == ("ace.yace", "ace.table")
    assert style.commands() == [
        f"pair_style hybrid/overlay {style.settings}",
        "pair_coeff * * pace ace.yace Si Ge",
        *(f"pair_coeff {k} table ace.table {pair} {0.9 * 2.5:.17g}"
          for k, pair in (("1 1", "Si-Si"), ("1 2", "Si-Ge"), ("2 2", "Ge-Ge"))),
    ]  # fmt: skip
    assert re.fullmatch(r"pace product table spline \d+", style.settings)


def test_the_parts_are_the_whole():
    potential = drawn(species=("Si", "Ge"), core=1.1, r0=[2.35, 2.40, 2.50])
    apart = taken_apart(potential)
    assert taken_apart(apart[0]) == [apart[0]]
    close = Atoms("SiGeSi", positions=[[0, 0, 0], [1.4, 0, 0], [0, 1.9, 0]])
    whole, *parts = (reference.ours(p, close)[0] for p in (potential, *apart))
    assert parts[1].energy > 1.0
    for name in ("energy", "forces"):
        together = sum(getattr(part, name) for part in parts)
        np.testing.assert_allclose(getattr(whole, name), together, rtol=1e-13, atol=1e-12)


def test_a_core_in_a_sum_stays_one_overlay(tmp_path):
    style = write_style(drawn(species=("Si",), core=0.8) + ZBL(species=("Si",)), tmp_path, "sum")
    assert [line.split()[2] for line in style.coeffs] == ["pace", "table", "zbl"]
    assert style.files == ("sum-ace.yace", "sum-ace.table")


def test_a_sum_of_two_expansions_is_two_files(tmp_path):
    """LAMMPS tells two styles of a kind apart by a number."""
    far = {"species": ("Si",), "cutoff": 7.0, "degree_3": -1}
    style = write_style(drawn(species=("Si",), core=0.8) + drawn(seed=1, **far), tmp_path, "sum")
    assert [line.split()[2:4] for line in style.coeffs] == [
        ["pace", "1"], ["table", "sum-ace.table"], ["pace", "2"]
    ]
    assert style.files == ("sum-ace.yace", "sum-ace.table", "sum-ace2.yace")
    species, entries = read(tmp_path / "sum-ace2.yace")["elements"], read(
        tmp_path / "sum-ace2.yace")["functions"][0]
    assert species == ["Si"]
    assert max(entry["rank"] for entry in entries) == 2


@pytest.mark.reference
@pytest.mark.skipif(reference.missing() is not None, reason=str(reference.missing()))
def test_lammps_finds_the_core_in_the_table(tmp_path):
    potential = drawn(species=("Si", "Ge"), core=1.1)
    core = taken_apart(potential)[1]
    style = write_style(core, tmp_path, "core")
    atoms = reference.with_species(reference.structures()["liquid-like"], core.species)
    program = reference.Lammps()
    try:
        theirs = program.run(atoms, core.species, style.commands(tmp_path))
    finally:
        program.close()
    mine = reference.ours(core, atoms)[0]
    assert mine.energy > 1.0
    energy, force, _ = reference.differences(mine, theirs)
    assert energy < 1e-6
    assert force < 1e-5


# --- a folder ------------------------------------------------------------------------------


def test_a_folder_says_what_it_needs(tmp_path):
    potential = drawn(species=("Si",), core=0.8)
    manifest = export_lammps(potential, tmp_path / "out")
    assert Manifest.load(manifest.folder) == manifest
    assert manifest.draws[0].e0 == {"Si": -1.0}
    text = (manifest.folder / "draw_0.in").read_text(encoding="utf-8")
    assert "needs a LAMMPS with the package ML-PACE" in text
    assert "pair_coeff * * pace ${here}/draw_0.yace Si" in text
    assert "table ${here}/draw_0.table Si-Si" in text


# --- python-ace: the evaluators of LAMMPS' package ------------------------------------------------


EVALUATORS = {
    "products": {}, "LAMMPS, product": {"recursive_evaluator": True, "recursive": False},
    "LAMMPS, recursive": {"recursive_evaluator": True, "recursive": True},
}  # fmt: skip


def python_ace(path, **settings):
    """Its calculator, which gives energies, forces and stresses of a file."""
    pyace = pytest.importorskip("pyace", reason="needs python-ace (pip install python-ace)")
    return pyace.PyACECalculator(str(path), **settings)


def periodic(atoms):
    """Where it is open, a cell beyond the cutoff: python-ace wants all or nothing periodic."""
    atoms = atoms.copy()
    atoms.center(vacuum=8.0, axis=np.flatnonzero(~atoms.pbc))
    atoms.pbc = True
    return atoms


def differences(calculator, potential, names):
    """Largest |dE|/atom, |dF| and |dS| over the structures of these names."""
    cases = [reference.with_species(reference.structures()[n], potential.species) for n in names]
    found = []
    for atoms, mine in zip(cases, reference.ours(potential, *cases), strict=True):
        offset = sum(float(potential.e0[potential.species.index(s)]) for s in atoms.symbols)
        other = periodic(atoms)
        other.calc = calculator
        theirs = mine._replace(
            energy=np.ravel(other.get_potential_energy())[0] + offset, forces=other.get_forces(),
            stress=other.get_stress() if atoms.pbc.all() else mine.stress,
        )  # fmt: skip
        found.append(reference.differences(mine, theirs))
    return np.max(found, axis=0)


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES)
def test_python_ace_finds_our_numbers(case, tmp_path):
    potential = drawn(**CASES[case])
    style = write_style(potential, tmp_path, "ace")
    for name, settings in EVALUATORS.items():
        calculator = python_ace(tmp_path / style.files[0], **settings)
        energy, force, stress = differences(calculator, potential, reference.structures())
        assert energy < 1e-10, name
        assert force < 1e-7, name
        assert stress < 1e-8, name


@pytest.mark.reference
@pytest.mark.parametrize("species", [("Si",), ("Si", "Ge")], ids="-".join)
def test_twenty_draws_in_python_ace(species, tmp_path):
    names = ("vacancy", "liquid-like", "slab, open", "two-atom cell, smaller than the cutoff")
    for k in range(20):
        potential = drawn(seed=k, species=species, degree_1=6, degree_2=5, degree_3=4)
        write_style(potential, tmp_path, f"draw_{k}")
        calculator = python_ace(tmp_path / f"draw_{k}.yace", **EVALUATORS["LAMMPS, product"])
        energy, force, stress = differences(calculator, potential, names)
        assert energy < 1e-10
        assert force < 1e-7
        assert stress < 1e-8
