"""GPAW: what its settings mean, where it misleads, how it is retried."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from ase import Atoms

from bayespot.errors import ConfigError
from bayespot.oracles.codes import Code
from bayespot.oracles.failures import tail_of
from bayespot.oracles.run_settings import Rung, RunSettings

TEXT = "gpaw.txt"


def _slower(beta: float, weight: float, maxiter: int) -> dict[str, Any]:
    """Pulay mixing with smaller steps."""
    mixer = {"backend": "pulay", "beta": beta, "nmaxold": 5, "weight": weight}
    return {"mixer": mixer, "maxiter": maxiter}


class GpawCode(Code):
    """GPAW, in the process of the calculation."""

    path_keys = frozenset({"mixer", "maxiter", "eigensolver", "parallel", "random", "txt"})

    ladder = (
        Rung(on=("not_converged", "not_finite", "huge_forces"), change=_slower(0.02, 100.0, 500)),
        Rung(on=("not_converged",), change=_slower(0.01, 200.0, 1000)),
        Rung(on=("crash", "exit_code", "killed", "truncated", "disk_full", "wrong_atoms",
                 "failed")),
        Rung(on=("time_limit",), time_factor=2.0),
    )  # fmt: skip
    """Smaller steps of the density; what may have been chance once more; twice the time once."""

    def __init__(self, name: str = "gpaw") -> None:
        self.name = name
        if importlib.util.find_spec("gpaw") is None:
            raise ConfigError(
                "the oracle 'gpaw' needs GPAW: pip install gpaw (or the archive oracle)"
            )

    def identity(self, keywords: dict[str, Any], run: RunSettings) -> dict[str, Any]:
        """Refuse settings that give labels without convergence or of another state."""
        if "maximum iterations" in keywords.get("convergence", {}):
            raise ConfigError(
                "convergence = {'maximum iterations': ...} makes GPAW stop early and hand out "
                "unconverged labels without a word; use maxiter, which raises instead"
            )
        smearing = keywords.get("occupations", {})
        unsmeared = smearing.get("width") == 0 or "fixed" in str(smearing.get("name", ""))
        if unsmeared and not run.allow_fixed_occupations:
            raise ConfigError(
                f"occupations = {smearing} has no smearing: a strained cell whose gap has closed "
                "then ends in another state without a word. Give a width (0.1 eV is usual), or set "
                "[learn.oracle_run] allow_fixed_occupations = true where every cell has a gap"
            )
        return super().identity(keywords, run)

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
        """Make the calculator; its text goes to the folder."""
        from gpaw import GPAW

        return GPAW(**{**keywords, "txt": None if folder is None else str(folder / TEXT)})

    def check(self, calculator: Any, folder: Path | None) -> None:
        """GPAW raises where it does not converge."""

    def provenance(self, calculator: Any, folder: Path | None) -> dict[str, Any]:
        """Version, iterations, and the PAW data sets by name and GPAW's own fingerprint."""
        used = {
            setup.symbol: {
                "file": Path(setup.filename).name.removesuffix(".gz") if setup.filename else "",
                "md5": str(setup.fingerprint),
            }
            for setup in calculator.setups
        }
        iterations = int(calculator.get_number_of_iterations())
        return {
            "version": self.version(), "iterations": iterations, "pseudopotentials": used,
            "converged": f"in {iterations} iterations",
        }  # fmt: skip

    def tail(self, folder: Path) -> str:
        """End of GPAW's text and of what was printed."""
        return f"{tail_of(folder / 'log')}{tail_of(folder / TEXT)}"
