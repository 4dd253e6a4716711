"""From files, databases and lists of Atoms to a checked :class:`~bayespot.data.dataset.Dataset`.

The reader never guesses: what it cannot decide is an error that names the argument to decide it
with, and everything it found stands in ``Dataset.summary()``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from ase import Atoms

from bayespot.data.checks import CHECKS, run_checks
from bayespot.data.dataset import Dataset, bare, family_of
from bayespot.data.frames import Frame, frames_of
from bayespot.data.labels import Conventions, Tally, check_geometry, read_labels
from bayespot.errors import LabelError


def read(source: str | os.PathLike[str] | Atoms | Sequence[Atoms], *,
         energy_key: str | None = None, forces_key: str | None = None,
         stress_key: str | None = None, virial_key: str | None = None,
         family_key: str = "config_type", energy_per_atom: bool = False,
         stress_unit: str = "eV/A^3", stress_sign: int = 1, stress_order: str = "ase",
         check: bool = True, skip: Collection[str] = (),
         require_labels: bool = True) -> Dataset:
    """Read structures with their energies, forces and stresses.

    Parameters
    ----------
    source : str, Path, Atoms or sequence of Atoms
        An extended XYZ file (plain, .xz, .gz, .bz2), an ASE database (.db, .json), any file that
        ASE reads (vasprun.xml, OUTCAR, GPAW or pw.x output, .traj ...), a glob over such files,
        the name of a built-in archive, or structures in memory.
    energy_key, forces_key, stress_key, virial_key : str, optional
        Where the labels are. By default ``REF_energy``, ``REF_forces``, ``REF_stress`` or
        ``REF_virial(s)``, then results of a calculator (its ``free_energy`` before its
        ``energy``, because forces are the derivative of the former), then plain ``energy``,
        ``forces`` or ``force``, ``stress``, ``virial(s)``. Virials are -volume times stress, eV.
    family_key : str
        Key of the family in ``info``.
    energy_per_atom : bool
        True if the energies are per atom; they are multiplied by the number of atoms.
    stress_unit : {"eV/A^3", "GPa", "kbar"}
        Unit of stresses (not of virials).
    stress_sign : {1, -1}
        -1 if compression is positive in the source; applies to stresses and virials.
    stress_order : {"ase", "vasp", "lammps"}
        Order of six numbers: xx yy zz then yz xz xy (ase), xy yz xz (vasp), xy xz yz (lammps).
        Nine numbers or a matrix are taken as made from six that were believed in ASE's order.
    check : bool
        Whether the labels are checked against physics; see :mod:`bayespot.data.checks`.
    skip : collection of str
        Names of single checks to leave out; every message of a check gives its name.
    require_labels : bool
        False for structures that may have no labels at all: what is to be predicted or calculated.

    Returns
    -------
    Dataset
        In eV, Å, eV/Å and eV/Å^3. ``summary()`` tells what was found.

    Raises
    ------
    LabelError, UnitError, StructureError, SpeciesError
        If something is missing, malformed or suspicious; the message has the way out.
    """
    conventions = Conventions(energy_key, forces_key, stress_key, virial_key, energy_per_atom,
                              stress_unit, stress_sign, stress_order)
    skip = known_checks(skip)
    name, frames = frames_of(source)
    reading = Reading(conventions, family_key)
    dataset, places = reading.gather(name, frames)
    reading.check_found(name, len(dataset), require_labels)
    dataset = reading.described(dataset)
    if check:
        dataset = run_checks(dataset, places, skip)
    return dataset


@dataclass
class Reading:
    """What turns frames into structures and labels, and what it has come across.

    Attributes
    ----------
    conventions : Conventions
        Where labels are and in which units.
    family_key : str
        Key of the family in ``info``.
    tally : Tally
        Keys found so far.
    """

    conventions: Conventions
    family_key: str = "config_type"
    tally: Tally = field(default_factory=Tally)

    def gather(self, name: str, frames: Iterable[Frame]) -> tuple[Dataset, list[str]]:
        """Read frames into one set; with it comes the place of every structure."""
        structures, labels, families, places = [], [], [], []
        for where, load in frames:
            atoms = load()
            check_geometry(atoms, where)
            labels.append(read_labels(atoms, where, self.conventions, self.tally))
            structures.append(bare(atoms, self.conventions.explicit.values()))
            families.append(family_of(atoms, self.family_key))
            places.append(where)
        return Dataset(tuple(structures), tuple(labels), tuple(families), name), places

    def described(self, dataset: Dataset) -> Dataset:
        """The same set with what the look-up of keys found so far."""
        return replace(dataset, findings=tuple(_findings(self.tally)),
                       label_keys=tuple(self.tally.label_keys()))

    def check_found(self, name: str, n: int, require: bool) -> None:
        """Check that there is something, and something under every key the caller named.

        Raises
        ------
        LabelError
            If there is not.
        """
        tally = self.tally
        if n == 0:
            raise LabelError(f"{name}: no structures in it; check that the file was written "
                             "completely")
        shown = ", ".join(sorted(map(str, tally.seen - {"numbers", "positions"}))) or "none"
        used = {key for _, key in tally.used}
        for argument, key in self.conventions.explicit.items():
            if key not in used and not (
                tally.no_volume and argument in ("stress_key", "virial_key")
            ):
                near = get_close_matches(key, [str(k) for k in tally.seen], 1)
                raise LabelError(f"{name}: no frame has {argument}={key!r}"
                                 + (f"; did you mean {near[0]!r}?" if near else ";")
                                 + f" Keys found: {shown}")
        if require and not used:
            raise LabelError(
                f"{name}: no energies, forces or stresses in any of {n} frames. Keys found: "
                f"{shown}. Name them: read(..., energy_key=..., forces_key=..., stress_key=... "
                "or virial_key=...)")


def known_checks(skip: Collection[str]) -> frozenset[str]:
    """Return the names of checks to skip, or raise LabelError for one that is no check."""
    names = frozenset({skip} if isinstance(skip, str) else skip)
    for name in sorted(names - set(CHECKS)):
        near = get_close_matches(name, CHECKS, 1)
        raise LabelError(f"skip={name!r} is no check"
                         + (f"; did you mean {near[0]!r}?" if near else "")
                         + f" There are: {', '.join(CHECKS)}")
    return names


def _findings(tally: Tally) -> Iterator[str]:
    """Tell what the look-up of keys noticed."""
    gaps = [gap for gap in tally.free_energy_differs if abs(gap) > 1e-7]
    if gaps:
        worst = 1e3 * max(abs(gap) for gap in gaps)
        yield (f"free_energy taken, not energy(sigma->0), on {len(gaps)} structures (up to "
               f"{worst:.3g} meV/atom apart): forces are the derivative of the free energy")
    if tally.no_volume:
        yield f"stress left out on {tally.no_volume} structures whose cell has no volume"
