"""Where a set starts: the crystal of an element, of a file, or of species on a prototype."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from bayespot.errors import ConfigError, SpeciesError, StructureError
from bayespot.generate.alloys import decorations, mixed_volume
from bayespot.generate.crystals import primitive
from bayespot.generate.frames import deform, minimum_distance, swell
from bayespot.generate.phases import BINARY, LATTICES, lattice, scaled_ratios

__all__ = ["Parent", "parents_of", "reference_crystal"]

STRETCH = 1.1
"""Nearest distance in a made-up fcc crystal over the sum of covalent radii."""


@dataclass(frozen=True)
class Parent:
    """A crystal that structures are made from.

    Attributes
    ----------
    name : str
        For ``info['parent']``, e.g. ``Al`` or ``AlCu``.
    cell : Atoms
        Primitive cell.
    notes : tuple of str
        What a person should know about it.
    """

    name: str
    cell: Atoms
    notes: tuple[str, ...] = ()


def checked_symbol(symbol: str) -> str:
    """Return the symbol if it is one.

    Raises
    ------
    SpeciesError
        With the nearest symbol if there is one.
    """
    if symbol in chemical_symbols[1:]:
        return symbol
    named = [s for s in chemical_symbols[1:] if s.lower() == symbol.lower()]
    close = named or difflib.get_close_matches(symbol, chemical_symbols[1:], n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "; symbols are Si, Al, ..."
    raise SpeciesError(f"{symbol!r} is no chemical symbol{hint}")


def reference_crystal(symbol: str) -> Parent:
    """Crystal of an element as ASE's table of reference states has it (experiment).

    Elements whose crystal ASE cannot build get an fcc crystal with nearest distances of 1.1 times
    twice the covalent radius (Cordero et al., Dalton Trans. 2832 (2008)), and a note says so.

    Raises
    ------
    SpeciesError
        If there is no such element.
    """
    symbol = checked_symbol(symbol)
    try:
        return Parent(symbol, primitive(bulk(symbol)))
    except (ValueError, RuntimeError, KeyError, NotImplementedError, StructureError):
        bond = STRETCH * 2.0 * float(covalent_radii[atomic_numbers[symbol]])
        note = (f"ASE cannot build the crystal of {symbol}: fcc with nearest distances of "
                f"{bond:.2f} Å took its place (from the covalent radius); a file with the real "
                "crystal is better")
        return Parent(symbol, primitive(bulk(symbol, "fcc", a=bond * np.sqrt(2.0))), (note,))


def _on_prototype(symbol: str, prototype: str) -> Atoms:
    """One element on an elemental prototype, its bonds scaled from the reference crystal."""
    reference = reference_crystal(symbol).cell
    ratio = scaled_ratios(reference, [prototype])[prototype]
    atoms = primitive(lattice(prototype, [symbol]))
    size = reference.cell.volume / len(reference) * ratio
    deform(atoms, swell(size * len(atoms) / atoms.cell.volume - 1.0))
    return atoms


def parents_of(element: str | None = None, structure: str | None = None,
               species: Sequence[str] = (), prototype: str | None = None) -> list[Parent]:
    """Crystals from what a person names; exactly one of the three ways is to be used.

    Parameters
    ----------
    element : str
        A symbol: the element's own crystal, or the prototype if one is named.
    structure : str
        A file that ASE reads, one crystal in it.
    species, prototype
        Several symbols and a prototype. On one of two species (rocksalt, cesiumchloride,
        zincblende) they are a compound, with bonds as long as the mean of the elements' own
        nearest distances; on one of the elements (fcc, bcc, ...) an alloy, whose parents are the
        elements and the ordered cells of two sites; volumes are the mean of the elements'
        (Zen, J. Am. Ceram. Soc. 39 (1956)).

    Raises
    ------
    ConfigError, SpeciesError, StructureError
        For a contradiction, an unknown symbol or prototype, or a file without a crystal.
    """
    given = [name for name, value in (("element", element), ("structure", structure),
                                      ("species", list(species))) if value]
    if len(given) != 1:
        raise ConfigError(f"give one of element, structure and species; got "
                          f"{' and '.join(given) or 'none'}")
    if structure is not None:
        return [_from_file(structure)]
    symbols = [element] if element else list(species)
    for symbol in symbols:
        checked_symbol(symbol)
    if prototype is not None and prototype not in (*LATTICES, *BINARY):
        close = difflib.get_close_matches(prototype, (*LATTICES, *BINARY), n=1)
        raise ConfigError(f"prototype = {prototype!r} is unknown"
                          f"{f'; did you mean {close[0]!r}?' if close else ''} There are: "
                          f"{', '.join((*LATTICES, *BINARY))}; or give a structure file")
    if len(symbols) == 1:
        if prototype is None:
            return [reference_crystal(symbols[0])]
        if prototype in BINARY:
            raise ConfigError(f"prototype = {prototype!r} has two species; got {symbols[0]}")
        return [Parent(symbols[0], _on_prototype(symbols[0], prototype))]
    if prototype is None:
        raise ConfigError(f"species = {symbols} need a prototype (fcc, bcc, rocksalt, ...) or a "
                          "structure file")
    return _compound(symbols, prototype) if prototype in BINARY else _alloy(symbols, prototype)


def _formula(atoms: Atoms) -> str:
    """Smallest formula, metals first."""
    return atoms.get_chemical_formula(mode="metal", empirical=True)


def _from_file(path: str) -> Parent:
    if not Path(path).is_file():
        raise ConfigError(f"structure = {path!r}: there is no such file, and it is no chemical "
                          "symbol")
    try:
        atoms = ase.io.read(path)
    except Exception as error:  # every format has its own way of not being readable
        raise StructureError(f"{path}: ASE cannot read a structure from it ({error})") from error
    if not atoms.pbc.all() or abs(atoms.cell.volume) < 1e-6:
        raise StructureError(f"{path}: {atoms.get_chemical_formula()} is not periodic in three "
                             "directions; a prototype is a crystal")
    small = primitive(atoms)
    return Parent(_formula(small), small)


def _compound(symbols: Sequence[str], prototype: str) -> list[Parent]:
    if len(symbols) != 2:
        raise ConfigError(f"prototype = {prototype!r} has two species; got {', '.join(symbols)}")
    bonds = [minimum_distance(reference_crystal(s).cell, 12.0) for s in symbols]
    atoms = lattice(prototype, symbols)
    atoms.set_cell(atoms.cell.array * np.mean(bonds), scale_atoms=True)
    note = (f"bonds of {np.mean(bonds):.2f} Å, the mean of the elements' nearest distances: a "
            "structure file with the relaxed cell is better")
    return [Parent(_formula(atoms), primitive(atoms), (note,))]


def _alloy(symbols: Sequence[str], prototype: str) -> list[Parent]:
    pure = {symbol: _on_prototype(symbol, prototype) for symbol in symbols}
    volumes = {s: a.cell.volume / len(a) for s, a in pure.items()}
    found = [Parent(symbol, atoms) for symbol, atoms in pure.items()]
    site = pure[symbols[0]]
    for atoms in decorations(site, symbols, 2 * len(site)):
        if len(set(atoms.symbols)) > 1:
            size = mixed_volume(atoms, volumes)
            deform(atoms, swell(size / atoms.cell.volume - 1.0))
            found.append(Parent(_formula(atoms), atoms))
    return found
