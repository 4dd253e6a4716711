r"""Embedded-atom potentials as LAMMPS' setfl tables, eam/alloy and eam/fs, and back.

A table holds F on a grid of densities, and rho and :math:`r\phi` on a grid of distances. LAMMPS
goes through them with cubics whose slopes are five-point differences; `interpolated` is the same
formula. The writer refines both grids until these cubics agree with the potential, measures how
well, and says so (F errs most at atoms that have lost all but a twentieth of a bond). It does not
know the structures, so it covers every crystal down to `COMPRESSED` of the natural bond length;
beyond that LAMMPS continues F by a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_masses, atomic_numbers

from bayespot.errors import ConfigError
from bayespot.export.styles import LammpsStyle, register, write_new
from bayespot.potentials.base import hyper
from bayespot.potentials.embedded import EmbeddedSum
from bayespot.potentials.finnis_sinclair import FinnisSinclair
from bayespot.potentials.spline_eam import SplineEAM, shells
from bayespot.potentials.sutton_chen import SuttonChen
from bayespot.potentials.zhou_johnson import ZhouJohnson

COMPRESSED = 0.7
"""Shortest bond, in natural ones, of the close-packed crystal whose density is still tabulated."""

CORE = 0.5
"""Å; the functions are constant (and LAMMPS' forces wrong) below. No atoms come that close."""

GRID_R, GRID_RHO = (2500, 5000, 10000, 20000, 40000), (5000, 10000, 20000, 40000)
"""Numbers of points that are tried, fewest first."""

VALUE, SLOPE = 2e-8, 2e-7
"""Errors of one function at one point that end the refinement, eV and eV/Å: some ten neighbours add
up to less than 1e-6 eV/atom and 1e-5 eV/Å."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The content of a setfl file; distances from 0 by ``dr``, densities from 0 by ``drho``."""

    species: tuple[str, ...]
    density: str  # "species" (eam/alloy) or "pair" (eam/fs)
    cutoff: float  # Å
    dr: float  # Å
    drho: float
    embedding: np.ndarray  # [n, n_rho], eV
    rho: np.ndarray  # [density entries, n_r], in the order of `EmbeddedSum.density_entry`
    r_phi: np.ndarray  # [pairs, n_r], eV Å, pairs A-A, A-B, ..., B-B, ...
    lattice: tuple[tuple[int, float, float, str], ...]  # atomic number, mass, constant (Å), name


def slopes(values: np.ndarray) -> np.ndarray:
    """LAMMPS' derivatives at the points of a table, per step, [..., N]."""
    f = values
    inner = (f[..., :-4] - f[..., 4:] + 8.0 * (f[..., 3:-1] - f[..., 1:-3])) / 12.0
    return np.concatenate([
        f[..., 1:2] - f[..., :1], 0.5 * (f[..., 2:3] - f[..., :1]), inner,
        0.5 * (f[..., -1:] - f[..., -3:-2]), f[..., -1:] - f[..., -2:-1],
    ], axis=-1)  # fmt: skip


def interpolated(values: np.ndarray, step: float, x: Any, entry: Any, xp: Any = jnp) -> Any:
    """Tables [entries, N] at ``x`` as LAMMPS interpolates them; straight beyond the last point.

    ``xp`` is the array library, jax.numpy or numpy.
    """
    table = xp.asarray(np.stack([values, slopes(values)], axis=-1))
    last = values.shape[-1] - 1
    p = xp.asarray(x) / step
    m = xp.clip(p.astype(int), 0, last - 1)
    here, there = table[entry, m], table[entry, m + 1]
    t = xp.minimum(p - m, 1.0)
    rise = there[..., 0] - here[..., 0]
    c2 = 3.0 * rise - 2.0 * here[..., 1] - there[..., 1]
    c3 = here[..., 1] + there[..., 1] - 2.0 * rise
    beyond = xp.maximum(p - last, 0.0) * there[..., 1]
    return here[..., 0] + t * (here[..., 1] + t * (c2 + t * c3)) + beyond


class TabulatedEAM(EmbeddedSum):
    """A setfl file as a potential: the numbers of the file between which LAMMPS interpolates.

    Nothing of it is sampled but ``e0``. For a fit start from `SplineEAM.approximating`.
    """

    tables: Any = hyper(None, doc="what the file holds")

    abstract: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.tables is None:
            raise ConfigError("a tabulated potential needs its tables: use read_setfl(path)")
        super().__post_init__()

    def coordinates(self, per: str) -> list[str]:
        """As `EmbeddedSum.coordinates`; the tables are absolute, there are no ratios."""
        return [] if per == "relative" else super().coordinates(per)

    def ratios(self) -> Any:
        """One everywhere."""
        return jnp.ones((len(self.species),) * 2)

    def pair_energy(self, r: Any, entry: Any) -> Any:
        """See `EmbeddedSum.pair_energy`."""
        value = interpolated(self.tables.r_phi, self.tables.dr, r, entry) / r
        return jnp.where(r < self.tables.cutoff, value, 0.0)

    def density_at(self, r: Any, entry: Any) -> Any:
        """See `EmbeddedSum.density_at`."""
        value = interpolated(self.tables.rho, self.tables.dr, r, entry)
        return jnp.where(r < self.tables.cutoff, value, 0.0)

    def embedding(self, rhobar: Any, kind: Any) -> Any:
        """See `EmbeddedSum.embedding`."""
        return interpolated(self.tables.embedding, self.tables.drho, rhobar, kind)


# --- from a potential to tables -------------------------------------------------------------


BLOCK = 4096
"""Points per call: one shape, so that a form is compiled once for all its draws."""

_PAIR, _DENSITY, _EMBEDDING = (
    jax.jit(lambda potential, x, entry, name=name: getattr(potential, name)(x, entry))
    for name in ("pair_energy", "density_at", "embedding")
)


def _blockwise(function: Any, potential: EmbeddedSum, x: np.ndarray, entry: int) -> np.ndarray:
    """A function at all of ``x``, in blocks of one size."""
    found = []
    for k in range(0, len(x), BLOCK):
        part = x[k : k + BLOCK]
        padded = np.concatenate([part, np.full(BLOCK - len(part), part[-1])])
        values = function(potential, padded, np.full(BLOCK, entry))
        found.append(np.asarray(values)[: len(part)])
    return np.concatenate(found)


class _Functions:
    """Functions of a potential in the units of a file, where densities are absolute."""

    def __init__(self, potential: EmbeddedSum) -> None:
        self.potential, self.n = potential, len(potential.species)
        ratios = np.asarray(potential.ratios())
        fs = potential.density == "pair"
        self.unit = np.ones(self.n) if fs else ratios[0]
        self.factor = ratios.ravel() if fs else ratios[0]

    def r_phi(self, r: np.ndarray, entry: int) -> np.ndarray:
        return r * _blockwise(_PAIR, self.potential, self._inside(r), entry)

    def rho(self, r: np.ndarray, entry: int) -> np.ndarray:
        values = _blockwise(_DENSITY, self.potential, self._inside(r), entry)
        return self.factor[entry] * values

    def embedding(self, rhobar: np.ndarray, kind: int) -> np.ndarray:
        return _blockwise(_EMBEDDING, self.potential, rhobar / self.unit[kind], kind)

    def _inside(self, r: np.ndarray) -> np.ndarray:
        """Not in the core; at the cutoff the limit from below, of forms that are truncated."""
        return np.clip(r, CORE, self.potential.reach * (1.0 - 1e-13))

    def crystals(self, lengths: np.ndarray, center: int, neighbor: int
                 ) -> tuple[np.ndarray, np.ndarray]:
        """Density of ``neighbor`` at ``center`` (and pair term) in fcc with these bond lengths."""
        reach = self.potential.reach
        unit, number = shells("fcc", 1.0, reach / lengths.min())
        r = lengths[:, None] * unit
        number = np.where(r < reach, number, 0.0)
        r = np.minimum(r, reach)
        entry = int(self.potential.density_entry(center, neighbor))
        pair = self.potential.pair_number(center, neighbor)
        density = self.rho(r.ravel(), entry).reshape(r.shape)
        phi = self.r_phi(r.ravel(), pair).reshape(r.shape) / r
        return (number * density).sum(axis=1), (number * phi).sum(axis=1)

    def bond_length(self, kind: int) -> float:
        """Bond length of the fcc crystal with the least energy, Å."""
        lengths = np.linspace(0.2, 0.7, 51) * self.potential.reach
        density, pairs = self.crystals(lengths, kind, kind)
        best = int(np.argmin(self.embedding(density, kind) + 0.5 * pairs))
        inside = 0 < best < len(lengths) - 1
        return float(lengths[best] if inside else 0.45 * self.potential.reach)


def tabulate(potential: EmbeddedSum) -> tuple[Tables, str]:
    """Tables of a potential and how well LAMMPS' interpolation of them agrees with it.

    Raises
    ------
    ConfigError
        If a value is not finite.
    """
    own, n = _Functions(potential), len(potential.species)
    bonds = [own.bond_length(k) for k in range(n)]
    short = COMPRESSED * min(bonds)
    top = max(own.crystals(np.array([short]), i, j)[0][0] for i in range(n) for j in range(n))
    dense = potential.coordinates("density")
    radial = [(own.rho, k) for k in range(len(dense))]
    radial += [(own.r_phi, k) for k in range(n * (n + 1) // 2)]
    embedding = [(own.embedding, k) for k in range(n)]
    force = max(1e-6, *(_steepness(own, k, bonds[k]) for k in range(n)))
    scale = np.array([force] * len(dense) + [1.0 / short] * (len(radial) - len(dense)))
    kinks = np.unique([*potential.cutoff, *potential.density_cutoff])
    on_r, dr, radial_error = _refined(
        radial, GRID_R, potential.reach, 0.8 * min(bonds), scale, kinks)
    on_rho, drho, embedding_error = _refined(embedding, GRID_RHO, top, 0.0, np.ones(n), ())
    if not (np.isfinite(on_r).all() and np.isfinite(on_rho).all()):
        raise ConfigError(f"{type(potential).__name__} is not finite everywhere: it has no table")
    lattice = tuple(
        (atomic_numbers.get(s, 0), float(atomic_masses[atomic_numbers.get(s, 0)]),
         float(np.sqrt(2.0) * bond), "fcc")
        for s, bond in zip(potential.species, bonds, strict=True)
    )  # fmt: skip
    tables = Tables(
        species=potential.species, density=potential.density, cutoff=potential.reach, dr=dr,
        drho=drho, embedding=on_rho, rho=on_r[: len(dense)], r_phi=on_r[len(dense):],
        lattice=lattice,
    )  # fmt: skip
    precision = (
        f"table: a bond <= {radial_error[0]:.1g} eV, {radial_error[1]:.1g} eV/Å beyond "
        f"{0.8 * min(bonds):.2f} Å; an embedding <= {embedding_error[0]:.1g} eV"
    )
    return tables, precision


def _steepness(own: _Functions, kind: int, bond: float) -> float:
    """Largest slope of F, either sign, between a loose and a compressed crystal, eV."""
    loose, tight = own.crystals(bond * np.array([1.2, 0.85]), kind, kind)[0]
    grid = np.linspace(loose, tight, 50)
    return float(np.abs(np.gradient(own.embedding(grid, kind), grid)).max())


def _refined(
    functions: list, sizes: tuple[int, ...], end: float, start: float, scale: np.ndarray,
    kinks: Any,
) -> tuple[np.ndarray, float, tuple[float, float]]:
    """Tables [functions, N], their step, and the errors (value, slope) of the coarsest good grid.

    Errors count in units of ``1 / scale``, from ``start``. The error of a slope is taken relative
    to the place (per x) where x starts at zero: a density is zero where its slope is. Around the
    ``kinks`` one looks closely.
    """
    rng = np.random.default_rng(0)
    # Midpoints err most in value, other places in slope.
    test = np.concatenate([rng.uniform(start, end, 4000), start + (end - start) *
                           rng.uniform(0.0, 1.0, 2000) ** 3])
    near = np.geomspace(1e-6, 1e-3, 40) * end
    test = np.concatenate([test, *(kink + sign * near for kink in kinks for sign in (-1, 1))])
    h = 1e-5 * end
    test = np.clip(test, max(start, 2.0 * h), end - 2.0 * h)
    exact = [np.stack([function(test + d, k) for d in (-h, 0.0, h)]) for function, k in functions]
    weight = test if start == 0.0 else np.ones_like(test)
    for size in sizes:
        step = end / (size - 1)
        grid = step * np.arange(size)
        tables = np.stack([function(grid, k) for function, k in functions])
        value = slope = 0.0
        for row, (truth, factor) in enumerate(zip(exact, scale, strict=True)):
            found = np.stack([
                interpolated(tables[row : row + 1], step, test + d, 0, np) for d in (-h, 0.0, h)
            ])
            error = factor * (found - truth)
            value = max(value, float(np.abs(error[1]).max()))
            slope = max(slope, float(np.abs(weight * (error[2] - error[0]) / (2.0 * h)).max()))
        if value <= VALUE and slope <= SLOPE:
            break
    return tables, step, (value, slope)


# --- files ----------------------------------------------------------------------------------


@register(SuttonChen, FinnisSinclair, ZhouJohnson, SplineEAM, TabulatedEAM, EmbeddedSum)
def write_setfl(potential: EmbeddedSum, folder: Path, stem: str) -> LammpsStyle:
    """Write ``stem.eam.alloy``, or ``stem.eam.fs`` where densities belong to pairs.

    Raises
    ------
    ConfigError
        If the file is there already.
    """
    if isinstance(potential, TabulatedEAM):
        tables, precision = potential.tables, "exact"
    else:
        tables, precision = tabulate(potential)
    style = "eam/alloy" if tables.density == "species" else "eam/fs"
    name = write_new(Path(folder) / f"{stem}.{style.replace('/', '.')}", setfl_text(
        tables, f"{type(potential).__name__} {' '.join(tables.species)}, {precision}"))
    top = tables.drho * (tables.embedding.shape[1] - 1)
    return LammpsStyle(
        pair_style=style, coeffs=(f"* * {name} {' '.join(tables.species)}",), files=(name,),
        precision=precision,
        note=f"densities to {top:.4g} (close packed at {COMPRESSED} of the bond length), above "
        f"that F is a straight line; functions are constant below {CORE} Å",
    )  # fmt: skip


def setfl_text(tables: Tables, comment: str) -> str:
    """The file; numbers with seventeen digits."""
    n = len(tables.species)
    lines = [f"bayespot UNITS: metal {comment}", "", "",
             f"{n} {' '.join(tables.species)}",
             f"{tables.embedding.shape[1]} {tables.drho:.17g} {tables.rho.shape[1]} "
             f"{tables.dr:.17g} {tables.cutoff:.17g}"]

    def block(values: np.ndarray) -> None:
        text = [f"{v:.16e}" for v in values]
        lines.extend(" ".join(text[k : k + 5]) for k in range(0, len(text), 5))

    for i in range(n):
        number, mass, constant, name = tables.lattice[i]
        lines.append(f"{number} {mass:.17g} {constant:.17g} {name}")
        block(tables.embedding[i])
        # LAMMPS wants what element i gives: to all alike, or to each in turn.
        for k in [i] if tables.density == "species" else [j * n + i for j in range(n)]:
            block(tables.rho[k])
    for i in range(n):
        for j in range(i + 1):
            block(tables.r_phi[j * n - j * (j - 1) // 2 + i - j])
    return "\n".join(lines) + "\n"


def read_setfl(path: str | Path) -> TabulatedEAM:
    """The potential in an eam/alloy or eam/fs file, as LAMMPS computes it.

    Raises
    ------
    ConfigError
        If the file is neither.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        words = " ".join(lines[3:]).split()
        n = int(words[0])
        species = tuple(words[1 : n + 1])
        n_rho, drho, n_r, dr, cutoff = words[n + 1 : n + 6]
        sizes, words = (int(n_rho), int(n_r)), words[n + 6 :]
        pairs = n * (n + 1) // 2
        left = len(words) - n * (4 + sizes[0]) - pairs * sizes[1]
        kinds = {n * n * sizes[1]: "pair", n * sizes[1]: "species"}  # alike for one element
        if left not in kinds:
            raise ValueError(f"{len(words)} words do not make {n} elements")
        tables = _parsed(words, species, sizes, kinds[left])
        tables = replace(tables, drho=_number(drho), dr=_number(dr), cutoff=_number(cutoff))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{path} is no setfl file (eam/alloy or eam/fs): {error}") from None
    return TabulatedEAM(species=species, density=tables.density, tables=tables,
                        cutoff=tables.cutoff, density_cutoff=tables.cutoff)


def _number(word: str) -> float:
    """A number, also with Fortran's D for the exponent."""
    return float(word.replace("D", "E").replace("d", "e"))


def _parsed(words: list[str], species: tuple[str, ...], sizes: tuple[int, int], density: str
            ) -> Tables:
    """Tables from the words after the line of grids; the grids are filled in by the caller."""
    n, (n_rho, n_r), position = len(species), sizes, 0

    def take(count: int) -> np.ndarray:
        nonlocal position
        position += count
        return np.array([_number(w) for w in words[position - count : position]])

    embedding, given, lattice = [], [], []
    for _ in range(n):
        number, mass, constant, name = words[position : position + 4]
        position += 4
        lattice.append((int(float(number)), _number(mass), _number(constant), name))
        embedding.append(take(n_rho))
        given.append([take(n_r) for _ in range(n if density == "pair" else 1)])
    r_phi = np.zeros((n * (n + 1) // 2, n_r))
    for i in range(n):
        for j in range(i + 1):
            r_phi[j * n - j * (j - 1) // 2 + i - j] = take(n_r)
    rho = [given[j][i] for i in range(n) for j in range(n)] if density == "pair" else [
        rows[0] for rows in given]
    return Tables(species, density, 0.0, 0.0, 0.0, np.array(embedding), np.array(rho), r_phi,
                  tuple(lattice))
