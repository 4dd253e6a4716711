"""Process-wide settings of JAX, made once and on request: importing bayespot changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bayespot.errors import PrecisionError

_WAY_OUT = "call bayespot.configure() before anything else"


def configure(
    *, cache: str | Path | None = None, hosts: bool | Mapping[str, Any] = False
) -> None:
    """Switch JAX to what bayespot needs.

    Double precision; one thread in the linear algebra of jaxlib (its threads were seen to stall
    small Cholesky factorisations); a compilation cache that outlives the process, since compiling
    NUTS takes longer than a small fit.

    Parameters
    ----------
    cache : path, optional
        Folder of compiled programs. Default: ``$BAYESPOT_CACHE`` or ``~/.cache/bayespot/jax``;
        the empty string switches the cache off.
    hosts : bool or mapping
        Work on several hosts, one process on each, all of which run the same program: True finds
        them where a scheduler that JAX knows (SLURM, Open MPI, ...) has started the processes; a
        mapping has the keywords of ``jax.distributed.initialize`` (``coordinator_address``,
        ``num_processes``, ``process_id``). A problem with ``devices=len(jax.devices())`` then
        shares its data among all of them, and every process gets the same posterior: let
        ``jax.process_index() == 0`` write files.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import jax

    jax.config.update("jax_enable_x64", True)
    if hosts:
        jax.distributed.initialize(**({} if hosts is True else hosts))
    if cache is None:
        cache = os.environ.get("BAYESPOT_CACHE", Path.home() / ".cache" / "bayespot" / "jax")
    if str(cache):
        Path(cache).mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def require_x64() -> None:
    """Raise `PrecisionError` unless JAX works in double precision."""
    import jax

    if not jax.config.jax_enable_x64:
        raise PrecisionError(
            "jax_enable_x64 is off: forces and posteriors need double precision; " + _WAY_OUT
        )
