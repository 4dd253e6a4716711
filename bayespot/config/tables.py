"""The tables of a run's TOML file: keys, types, ranges and defaults in one place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from bayespot.units import QUANTITIES

__all__ = ["RunConfig"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A table of the file: no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ReadTable(Table):
    """How labels are written in a file, see `bayespot.read`; not needed for the usual keys."""

    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    virial_key: str | None = None
    family_key: str = "config_type"
    energy_per_atom: bool = False
    stress_unit: Literal["eV/A^3", "GPa", "kbar"] = "eV/A^3"
    stress_sign: Literal[1, -1] = 1
    stress_order: Literal["ase", "vasp", "lammps"] = "ase"
    check: bool = True
    skip: list[str] = []


class FloorTable(Table):
    """Convergence error of the DFT labels: eV/atom, eV/Å and GPa."""

    energy: Positive
    forces: Positive
    stress_GPa: Positive  # noqa: N815  (the key carries its unit)


def _kind_of_floor(value: Any) -> str:
    return "table" if isinstance(value, (dict, FloorTable)) else "name"


Floor = Annotated[
    Annotated[str, Tag("name")] | Annotated[FloorTable, Tag("table")],
    Discriminator(_kind_of_floor),
]


class DataTable(Table):
    """Labelled structures: what `fit` fits to, what `learn` starts with.

    ``floor`` is "archive" (measured, beside a built-in archive), "default", a JSON file, or a
    table. Left out it is the measured one where there is one: of the archive, or a floor.json
    beside the file of the labels; and "default" otherwise.
    """

    source: str | None = None
    families: list[str] = []
    floor: Floor | None = None
    read: ReadTable = ReadTable()


class PotentialTable(Table):
    """The functional form, its species in order, fixed parameters and settings."""

    form: str
    species: list[str] = Field(min_length=1)
    fixed: dict[str, Number] = {}
    hyper: dict[str, float | int | str] = {}


class NormalTable(Table):
    """Normal prior, truncated where bounds are given."""

    kind: Literal["normal"]
    mean: Number
    sd: Positive
    low: Number | None = None
    high: Number | None = None
    scale: Literal["length", "energy", "offset"] | None = None


class LogNormalTable(Table):
    """Lognormal prior by its median and the standard deviation of the logarithm."""

    kind: Literal["lognormal"]
    median: Positive
    sd: Positive
    low: Number | None = None
    high: Number | None = None
    scale: Literal["length", "energy", "offset"] | None = None


PriorTable = Annotated[NormalTable | LogNormalTable, Field(discriminator="kind")]


def _kind_of_temperature(value: Any) -> str:
    return "rule" if isinstance(value, str) else "number"


Temperature = Annotated[
    Annotated[Literal["families", "frederiksen"], Tag("rule")] | Annotated[Positive, Tag("number")],
    Discriminator(_kind_of_temperature),
]


def _kind_of_tails(value: Any) -> str:
    return "word" if isinstance(value, str) else "number"


Tails = Annotated[
    Annotated[Literal["normal", "student"], Tag("word")] | Annotated[Positive, Tag("number")],
    Discriminator(_kind_of_tails),
]


class NoiseTable(Table):
    """The noise of the labels, and how misfit is treated.

    ``nu_forces`` is how many independent forces a structure counts as. ``scales`` = "family" lets
    families of structures have noise scales of their own, ``tails`` = "student" (or degrees of
    freedom) makes the noise a Student t distribution, which only misfit = "none" allows.
    ``temperature`` is that of misfit = "tempered" alone, "families" if left out.
    """

    nu_forces: Positive = 6.0
    misfit: Literal["discrepancy", "tempered", "pro", "none"] = "discrepancy"
    temperature: Temperature | None = None
    scales: Literal["common", "family"] = "common"
    tails: Tails = "normal"


class FitTable(Table):
    """The inference method and its numbers; ``devices`` of JAX share the data, one if left out.

    "linear_gaussian" is the closed form of linear potentials.
    """

    method: Literal["nuts", "laplace", "map", "linear_gaussian"] = "nuts"
    chains: Annotated[int, Field(ge=1, le=64)] = 4
    warmup: Annotated[int, Field(ge=10)] = 300
    draws: Annotated[int, Field(ge=10)] = 500
    starts: Count = 16
    devices: Count | None = None


class RungTable(Table):
    """One more attempt at a calculation that failed, see `bayespot.oracles.Rung`."""

    on: list[str] = Field(min_length=1)
    change: dict[str, Any] = {}
    guess: dict[str, Any] = {}
    time_factor: Positive = 1.0


class OracleRunTable(Table):
    """How calculations are run, see `bayespot.oracles.RunSettings`; changes no label.

    ``command`` is a list of words, never given to a shell; ``time_limit`` is in s, ``memory_limit``
    in MB, ``max_force`` in eV/Å. ``ladder`` takes the place of that of the code.
    """

    command: list[str] = []
    check_command: bool = True
    pseudo_dir: str | None = None
    isolate: bool | None = None
    time_limit: Positive | None = None
    memory_limit: Positive | None = None
    scratch: str | None = None
    keep_failed: bool = False
    environment: dict[str, str] = {}
    max_force: Positive = 100.0
    allow_fixed_occupations: bool = False
    ladder: list[RungTable] | None = None


class WorkersTable(Table):
    """Where calculations run: in this process, in others, with Dask or with Parsl.

    ``n`` are processes, with a batch system jobs. ``options`` are keywords of Dask's cluster or of
    Parsl's executor.
    """

    kind: Literal["none", "processes", "dask", "parsl"] = "none"
    n: Count = 1
    address: str | None = None
    cluster: Literal["local", "slurm", "pbs", "sge", "lsf", "oar", "moab", "htcondor"] = "local"
    executor: str = "HighThroughputExecutor"
    provider: str = "LocalProvider"
    options: dict[str, Any] = {}
    provider_options: dict[str, Any] = {}


class LearnTable(Table):
    """The active-learning campaign.

    ``oracle_settings`` are keywords of the calculator. Left out for GPAW on a built-in archive,
    they are those of the archive: other settings would be another potential-energy surface.
    ``ledger`` is the address of a PostgreSQL database in place of a file in the folder.
    """

    pool: str
    initial: Count = 5
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    acquisition: Literal[
        "information_gain", "information_matching", "max_std", "random"
    ] = "information_gain"
    batch: Count = 5
    rounds: Annotated[int, Field(ge=0)] = 6
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.95
    n_draws: Annotated[int, Field(ge=2)] = 100
    allow_unconverged: bool = False
    oracle: str = "archive"
    oracle_settings: dict[str, Any] = {}
    oracle_run: OracleRunTable = OracleRunTable()
    ledger: str | None = None
    max_attempts: Count = 20
    workers: WorkersTable = WorkersTable()
    read: ReadTable = ReadTable()


class RunConfig(Table):
    """A whole run. ``name`` names its folder of results."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "run"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: DataTable = DataTable()
    potential: PotentialTable
    priors: dict[str, PriorTable] = {}
    noise: NoiseTable = NoiseTable()
    fit: FitTable = FitTable()
    learn: LearnTable | None = None

    def cautions(self) -> list[str]:
        """Say what is allowed but will disappoint, in sentences."""
        fit, found = self.fit, []
        if self.noise.misfit == "none":
            found.append(
                'noise.misfit = "none": bars of a form that cannot be right will be too narrow, '
                "the more so the more data there are; the default is \"discrepancy\""
            )
        if fit.method == "nuts" and fit.chains * fit.draws < 400:
            found.append(
                f"fit.chains x fit.draws = {fit.chains * fit.draws}: an effective sample size of "
                "400 is out of reach, the posterior will be marked as not converged"
            )
        if fit.method == "nuts" and fit.chains == 1:
            found.append("fit.chains = 1: R-hat compares chains; take 4")
        if fit.method == "laplace":
            found.append(
                'fit.method = "laplace" is quick and often wrong for nonlinear forms (energies '
                "spread 3 to 14 times too far): look with it, publish with nuts"
            )
        return found


NOISE_NAMES = tuple(
    f"{word}_{quantity}" for word in ("sigma", "tail", "spread") for quantity in QUANTITIES
)
