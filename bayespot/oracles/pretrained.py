"""A pretrained potential in place of DFT: for laptops, tutorials and tests of a campaign.

CHGNet, because its weights are in its package: nothing is downloaded. Its labels are those of a
neural network that was trained on PBE(+U) calculations, good to some ten meV/atom: a surface to
practise on, not a reference to publish.
"""

from __future__ import annotations

import importlib.util
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from ase import Atoms

from bayespot.errors import ConfigError
from bayespot.oracles.codes import Code
from bayespot.oracles.run_settings import Rung, RunSettings

_KEYWORDS = ("model_name",)


class ChgnetCode(Code):
    """CHGNet on the processor, by the name of its weights."""

    ladder: tuple[Rung, ...] = ()
    """The same network gives the same again."""

    def __init__(self, name: str = "chgnet") -> None:
        self.name = name
        if importlib.util.find_spec("chgnet") is None:
            raise ConfigError("the oracle 'chgnet' needs CHGNet: pip install chgnet")

    @property
    def writes(self) -> bool:
        """False: it stays in memory."""
        return False

    @property
    def isolated(self) -> bool:
        """False: loading the network takes longer than using it."""
        return False

    def identity(self, keywords: dict[str, Any], run: RunSettings) -> dict[str, Any]:
        """The weights are named, also where the default is taken."""
        for key in keywords:
            if key not in _KEYWORDS:
                raise ConfigError(f"the oracle 'chgnet' takes no {key}; known: model_name")
        return {"oracle": self.name, "keywords": {"model_name": _name(keywords)}}

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
        """Return the calculator, made once a thread."""
        return _calculator(_name(keywords), threading.get_ident())


def _name(keywords: dict[str, Any]) -> str:
    return str(keywords.get("model_name", "0.3.0"))


@lru_cache(maxsize=8)
def _calculator(name: str, thread: int) -> Any:
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator

    try:
        network = CHGNet.load(model_name=name, use_device="cpu", verbose=False)
    except (ValueError, FileNotFoundError, KeyError) as error:
        raise ConfigError(f"model_name = '{name}' are no weights of CHGNet: {error}") from None
    return CHGNetCalculator(network, use_device="cpu")
