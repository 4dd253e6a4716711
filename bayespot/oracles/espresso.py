"""Quantum ESPRESSO (pw.x) through ASE: its input, where it misleads, how it is retried.

Keywords are those of `ase.calculators.espresso.Espresso`: ``input_data``, ``pseudopotentials``,
``kpts`` or ``kspacing``, ``koffset``. What is not left to ASE:

* the mesh of k-points is worked out here, since ASE 3.29 fails where ``kpts`` is a density, and
  takes Gamma out of even meshes where ``gamma`` asks for it;
* pw.x ends with JOB DONE also where it has not converged, so its output is read for the sentence
  that says so;
* the energy is the one marked ``!``, which is the free energy where there is smearing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import kpts2sizeandoffsets
from ase.calculators.espresso import Espresso, EspressoProfile
from ase.io.espresso import kspacing_to_grid
from ase.io.espresso_namelist.keys import pw_keys
from ase.io.espresso_namelist.namelist import Namelist

from bayespot.errors import ConfigError, OracleError
from bayespot.oracles.codes import Code, without_keys
from bayespot.oracles.failures import tail_of, without_room
from bayespot.oracles.run_settings import Rung, RunSettings

INPUT, OUTPUT, ERRORS = "espresso.pwi", "espresso.pwo", "espresso.err"

_KEYWORDS = ("input_data", "pseudopotentials", "kpts", "kspacing", "koffset", "additional_cards")
_OURS = {
    "control": ("calculation", "restart_mode", "nstep", "outdir", "wfcdir", "prefix", "pseudo_dir",
                "tprnfor", "tstress"),
    "system": ("ibrav", "nat", "ntyp"),
    "electrons": ("startingpot",),
}  # fmt: skip
_PATH = {
    "control": ("title", "verbosity", "wf_collect", "iprint", "disk_io", "max_seconds"),
    "electrons": ("mixing_beta", "mixing_mode", "mixing_ndim", "electron_maxstep",
                  "diagonalization", "diago_thr_init", "diago_cg_maxiter", "diago_ppcg_maxiter",
                  "diago_david_ndim", "startingwfc"),
}  # fmt: skip


def _electrons(**keys: Any) -> dict[str, Any]:
    return {"input_data": {"electrons": keys}}


_WIDER = {"occupations": "smearing", "smearing": "gaussian", "degauss": 0.03}  # Ry


class EspressoCode(Code):
    """pw.x, started by a list of words."""

    path_keys = frozenset(
        f"input_data.{part}.{key}" for part, keys in _PATH.items() for key in keys
    )

    can_start_from_density = True

    ladder = (
        Rung(on=("not_converged", "not_finite", "huge_forces"),
             change=_electrons(mixing_beta=0.3, electron_maxstep=200)),
        Rung(on=("not_converged",),
             change=_electrons(mixing_beta=0.1, mixing_mode="local-TF", electron_maxstep=300)),
        Rung(on=("not_converged",), change=_electrons(mixing_beta=0.3, electron_maxstep=300),
             guess={"input_data": {"system": _WIDER}}),
        Rung(on=("crash", "exit_code", "killed", "truncated", "disk_full", "wrong_atoms",
                 "failed")),
        Rung(on=("crash", "exit_code", "out_of_memory"),
             change=_electrons(diagonalization="cg", mixing_ndim=4)),
        Rung(on=("time_limit",), time_factor=2.0),
    )  # fmt: skip
    """Smaller mixing; a start from the density of a wider smearing; what may have been chance once
    more; the slower diagonalization that needs less memory; twice the time once."""

    def __init__(self, name: str = "espresso") -> None:
        self.name = name

    def identity(self, keywords: dict[str, Any], run: RunSettings) -> dict[str, Any]:
        """Refuse what pw.x would take without a word; hash the pseudopotentials."""
        _check_keywords(keywords)
        data = nested_input(keywords.get("input_data", {}))
        _check_input(data, run.allow_fixed_occupations)
        kept = {k: v for k, v in keywords.items() if k not in ("input_data", "pseudopotentials")}
        kept = without_keys({**kept, "input_data": data}, self.path_keys)
        files = {
            symbol: {"file": name, "sha256": _hash(self._folder(run) / name, symbol)}
            for symbol, name in sorted(keywords["pseudopotentials"].items())
        }
        if run.check_command and shutil.which(_command(run)[0]) is None:
            raise ConfigError(
                f"there is no program {_command(run)[0]!r} to run Quantum ESPRESSO with; install "
                "it, correct [learn.oracle_run] command = ['mpirun', '-np', '4', 'pw.x'], or set "
                "check_command = false where only the machines that calculate have it"
            )
        return {"oracle": self.name, "keywords": kept, "pseudopotentials": files}

    def calculator(
        self,
        keywords: dict[str, Any],
        run: RunSettings,
        folder: Path | None = None,
        structure: Atoms | None = None,
        *,
        saves: bool = False,
        starts: bool = False,
    ) -> Any:
        """Make the calculator: input, mesh, and what belongs to this run alone."""
        data = nested_input(keywords.get("input_data", {}))
        control = data.setdefault("control", {})
        control.setdefault("disk_io", "none")
        control |= {"calculation": "scf", "outdir": ".", "tprnfor": True, "tstress": True}
        if saves:
            control["disk_io"] = "low"
        if starts:
            data.setdefault("electrons", {})["startingpot"] = "file"
        size, offset = [1, 1, 1], [0, 0, 0]
        if structure is not None:
            size, offset = mesh(keywords, structure)
            lacking = sorted(set(structure.symbols) - set(keywords["pseudopotentials"]))
            if lacking:
                raise OracleError(
                    f"there is no pseudopotential for {', '.join(lacking)}; name a file in "
                    "[learn.oracle_settings] pseudopotentials"
                )
        return Espresso(
            profile=EspressoProfile(
                command=shlex.join(_command(run)), pseudo_dir=self._folder(run).resolve()
            ),
            directory=folder or ".",
            input_data=data,
            pseudopotentials=keywords["pseudopotentials"],
            kpts=tuple(size),
            koffset=tuple(offset),
            **{k: keywords[k] for k in ("additional_cards",) if k in keywords},
        )

    def check(self, calculator: Any, folder: Path) -> None:
        """Read the output for what an exit code of 0 and JOB DONE do not say."""
        failure = _failure_in(_text(folder))
        if failure is not None:
            raise failure

    def provenance(self, calculator: Any, folder: Path) -> dict[str, Any]:
        """Version, iterations, the estimated accuracy reached, mesh and number of processes."""
        text = _text(folder)
        version = re.search(r"Program PWSCF v\.(\S+)", text)
        reached = re.search(r"convergence has been achieved in\s+(\d+) iterations", text)
        accuracy = re.findall(r"estimated scf accuracy\s+<\s+(\S+) Ry", text)
        processes = re.search(r"running on\s+(\d+) proc", text)
        mesh_used = re.search(r"K_POINTS automatic\n(.+)", (folder / INPUT).read_text())
        return {
            "version": f"pw.x {version[1] if version else 'unknown'}",
            "iterations": int(reached[1]) if reached else None,
            "converged": f"{reached[0]}; estimated accuracy {accuracy[-1]} Ry"
            if reached and accuracy
            else "unknown",
            "mesh": [int(n) for n in mesh_used[1].split()] if mesh_used else None,
            "processes": int(processes[1]) if processes else None,
        }

    def failure(self, error: BaseException, folder: Path) -> OracleError:
        """Prefer what the output says to what ASE could not read."""
        if not isinstance(error, OracleError):
            found = _failure_in(_text(folder), complete=False)
            if found is not None:
                return without_room(found, folder)
        failure = super().failure(error, folder)
        text = _text(folder)
        if failure.kind == "failed" and text:
            if "JOB DONE" not in text:
                failure = OracleError(f"the output breaks off ({failure})", "truncated")
            elif "***" in text:
                failure = OracleError("a number was too large for the output", "not_finite")
            elif (wrong := _wrong_atoms(folder, text)) is not None:
                failure = wrong
        return without_room(failure, folder)

    def tail(self, folder: Path) -> str:
        """End of the output and of what was said on standard error."""
        return "".join(tail_of(folder / name) for name in ("log", OUTPUT, ERRORS, "CRASH"))

    def _folder(self, run: RunSettings) -> Path:
        given = run.pseudo_dir or os.environ.get("ESPRESSO_PSEUDO")
        if given is None:
            raise ConfigError(
                "the oracle 'espresso' needs [learn.oracle_run] pseudo_dir = '...', the folder of "
                "the pseudopotentials, or the variable ESPRESSO_PSEUDO"
            )
        if not Path(given).is_dir():
            raise ConfigError(f"pseudo_dir = '{given}' is no folder; correct [learn.oracle_run]")
        return Path(given)


def mesh(keywords: Mapping[str, Any], structure: Atoms) -> tuple[list[int], list[int]]:
    """Mesh of k-points of a structure and its offset (0 or 1 half a step), each of three numbers.

    ``kpts`` is a mesh, or a table with ``density`` (points per 1/Å) or ``size``, ``even``, and
    ``gamma``, by default true: whether every mesh contains Gamma. ``kspacing`` is the largest
    distance between points (1/Å, without 2 pi). pw.x has Gamma in every mesh whose offset is 0.
    """
    offset = keywords.get("koffset", 0)
    shift = [int(x) for x in (offset if isinstance(offset, list) else [offset] * 3)]
    if "kspacing" in keywords:
        return [int(n) for n in kspacing_to_grid(structure, keywords["kspacing"])], shift
    kpts = keywords["kpts"]
    if not isinstance(kpts, Mapping):
        return [int(n) for n in kpts], shift
    size, steps = kpts2sizeandoffsets(atoms=structure, **{"gamma": True, **kpts})
    # ASE shifts a Monkhorst-Pack mesh, which contains Γ for odd numbers only; pw.x shifts one that
    # always does
    shifts = [int((n % 2 == 0) == (x == 0)) for n, x in zip(size, np.asarray(steps), strict=True)]
    return [int(n) for n in size], shifts


def nested_input(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``input_data`` by namelist, whether it came so or flat, in lower case.

    Raises
    ------
    ConfigError
        For a key that pw.x does not have.
    """
    nested: dict[str, dict[str, Any]] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            if name.lower() not in pw_keys:
                raise ConfigError(f"input_data.{name} is no namelist of pw.x{_near(name, pw_keys)}")
            for key, item in value.items():
                _place(nested, key, item)
        else:
            _place(nested, name, value)
    return nested


def _place(nested: dict[str, dict[str, Any]], key: str, value: Any) -> None:
    part = Namelist.search_key(key.lower(), pw_keys)
    if part is None:
        known = [name for names in pw_keys.values() for name in names]
        raise ConfigError(f"input_data: pw.x has no key {key}{_near(key, known)}")
    nested.setdefault(part, {})[key.lower()] = value


def _near(name: str, known: Any) -> str:
    close = get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _command(run: RunSettings) -> list[str]:
    return list(run.command or ("pw.x",))


def _check_keywords(keywords: Mapping[str, Any]) -> None:
    for name in keywords:
        if name not in _KEYWORDS:
            raise ConfigError(
                f"the oracle 'espresso' takes no {name}{_near(name, _KEYWORDS)}; known: "
                f"{', '.join(_KEYWORDS)}. Keys of pw.x go into input_data"
            )
    if not keywords.get("pseudopotentials"):
        raise ConfigError("the oracle 'espresso' needs pseudopotentials = {Si = 'file.UPF', ...}")
    if ("kpts" in keywords) == ("kspacing" in keywords):
        raise ConfigError(
            "the oracle 'espresso' needs one of kpts = {density = 3.0, gamma = true} (points per "
            "1/Å), kpts = [4, 4, 4] and kspacing = 0.2 (1/Å); without one pw.x takes Gamma alone"
        )
    kpts = keywords.get("kpts")
    if isinstance(kpts, Mapping):
        unknown = sorted(set(kpts) - {"density", "size", "gamma", "even"})
        if unknown or ("density" in kpts) == ("size" in kpts):
            raise ConfigError(
                f"kpts = {dict(kpts)} needs density or size, and may have gamma and even"
            )


def _check_input(data: Mapping[str, Mapping[str, Any]], allow_fixed: bool) -> None:
    for part, keys in _OURS.items():
        for key in keys:
            if key in data.get(part, {}):
                raise ConfigError(
                    f"input_data.{part}.{key} is set for each calculation; leave it out"
                    + (" and use [learn.oracle_run] pseudo_dir" if key == "pseudo_dir" else "")
                )
    if data.get("electrons", {}).get("scf_must_converge") is False:
        raise ConfigError(
            "input_data.electrons.scf_must_converge = false hands out unconverged labels; raise "
            "electron_maxstep"
        )
    system = data.get("system", {})
    if "ecutwfc" not in system:
        raise ConfigError("the oracle 'espresso' needs input_data.system.ecutwfc, in Ry")
    occupations = system.get("occupations", "fixed")
    if occupations == "fixed" and not allow_fixed:
        raise ConfigError(
            "input_data.system.occupations = 'fixed' (also what pw.x takes if it is left out): a "
            "strained cell whose gap has closed then ends in another state without a word. Use "
            "occupations = 'smearing', smearing = 'fermi-dirac', degauss = 0.00735 (0.1 eV), or "
            "set [learn.oracle_run] allow_fixed_occupations = true where every cell has a gap"
        )


def _hash(path: Path, symbol: str) -> str:
    if not path.is_file():
        near = [p.name for p in path.parent.glob(f"{symbol}[._-]*")]
        raise ConfigError(
            f"there is no pseudopotential {path.name!r} of {symbol} in {path.parent}; there are "
            f"{', '.join(sorted(near)) or 'none of that element'}"
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _text(folder: Path) -> str:
    path = folder / OUTPUT
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _wrong_atoms(folder: Path, text: str) -> OracleError | None:
    """Whether the output says another number of atoms than the input."""
    asked = re.search(r"\bnat\s*=\s*(\d+)", (folder / INPUT).read_text(encoding="utf-8"))
    found = re.search(r"number of atoms/cell\s*=\s*(\d+)", text)
    if asked is None or found is None or int(asked[1]) == int(found[1]):
        return None
    return OracleError(f"wrong number of atoms: pw.x says {found[1]}, asked for {asked[1]}",
                       "wrong_atoms")  # fmt: skip


def _failure_in(text: str, *, complete: bool = True) -> OracleError | None:
    """What the output says went wrong; `complete` if it should be that of a good calculation."""
    missed = re.search(r"convergence NOT achieved(?: after\s+(\d+) iterations)?", text)
    if missed:
        return OracleError(f"not converged: pw.x says '{' '.join(missed[0].split())}'",
                           "not_converged")  # fmt: skip
    if "Maximum CPU time exceeded" in text:
        return OracleError("pw.x reached its own max_seconds", "time_limit")
    stopped = re.search(r"Error in routine (.+?)\s*:\s*\n\s*(.+)", text)
    if stopped:
        said = " ".join(f"{stopped[1]}: {stopped[2]}".split())
        return OracleError(f"pw.x stopped in {said}", "exit_code")
    if complete and "JOB DONE" not in text:
        return OracleError("the output breaks off before JOB DONE", "truncated")
    if complete and "convergence has been achieved" not in text:
        return OracleError("not converged: pw.x does not say that it has", "not_converged")
    return None
