"""How much of a machine user code may use. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY = "memory"
CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much user code of one worker may take; 0 for any amount."""

    memory_bytes: int = 0
    cpu: float = 0.0
    """Seconds of processor time a second."""

    def controllers(self) -> list[str]:
        """The controllers that enforce them."""
        return [name for name, given in ((MEMORY, self.memory_bytes), (CPU, self.cpu)) if given]
