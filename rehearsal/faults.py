"""Faults that a test puts between a client and the local AWS."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rehearsal.calls import Permission


class Effect(enum.Enum):
    """What the client of a faulty request sees."""

    SLOW_DOWN = "503 SlowDown"
    RESET = "a connection that is reset"
    REFUSED = "400 ValidationException"


@dataclass
class Fault:
    """A fault that the next `times` matching requests meet.

    Parameters
    ----------
    action
        The IAM action that it meets, such as ``s3:GetObject``; ``s3:*`` for the whole service.
    effect
        What the client sees.
    times
        How many requests it meets before it is over.
    principal
        Only this role's requests meet it; everyone's when empty.
    before
        Called in the request's own thread first; the request fails only if `effect` is set, so a
        test can change the world at an exact moment.
    """

    action: str
    effect: Effect | None
    times: int = 1
    principal: str = ""
    before: Callable[[Permission], object] | None = None


class Faults:
    """The faults that are still to be met. Safe to use from several threads."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Let the next matching requests meet `fault`."""
        with self._lock:
            self._pending.append(fault)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._pending.clear()

    @property
    def pending(self) -> int:
        """How many requests would still meet a fault."""
        with self._lock:
            return sum(fault.times for fault in self._pending)

    def meet(self, principal: str, needed: list[Permission]) -> Effect | None:
        """Return what a request that needs `needed` meets, counting it as met."""
        with self._lock:
            fault = self._match(principal, needed)
            if fault is None:
                return None
            fault.times -= 1
            if not fault.times:
                self._pending.remove(fault)
        if fault.before:
            fault.before(needed[0])
        return fault.effect

    def _match(self, principal: str, needed: list[Permission]) -> Fault | None:
        for fault in self._pending:
            if fault.principal and fault.principal != principal:
                continue
            for permission in needed:
                service = permission.action.partition(":")[0]
                if fault.action in (permission.action, f"{service}:*"):
                    return fault
        return None
