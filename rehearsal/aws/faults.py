"""Faults that a test puts between a client and the local AWS."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rehearsal.aws.calls import Permission


class Effect(enum.Enum):
    """What the client of a faulty request sees."""

    SLOW_DOWN = "503 SlowDown"
    RESET = "a connection that is reset"
    CONFLICT = "409 ConditionalRequestConflict"
    REFUSED = "400 ValidationException"
    THROTTLED = "400 ThrottlingException"
    EXPIRED = "400 ExpiredTokenException"


@dataclass
class Fault:
    """A fault that matching requests meet.

    Parameters
    ----------
    action
        The IAM action that it meets, such as ``s3:GetObject``; ``s3:*`` for the whole service.
    effect
        What the client sees; None if the request is answered after all.
    resource
        Only requests whose resource's ARN contains this meet it.
    principal
        Only this role's requests meet it; everyone's when empty.
    after
        How many matching requests are let through first.
    every
        Of those that follow, only every so many meet it.
    times
        How many requests it meets before it is over.
    before
        Called in the request's own thread before the request is answered, so that a test can
        change the world at an exact moment.
    """

    action: str
    effect: Effect | None = None
    resource: str = ""
    principal: str = ""
    after: int = 0
    every: int = 1
    times: int = 1
    before: Callable[[Permission], object] | None = None
    seen: int = field(default=0, init=False)

    def matches(self, principal: str, needed: list[Permission]) -> bool:
        """Return whether a request of `principal` that needs `needed` is one that it meets."""
        return self.principal in ("", principal) and any(
            self.action in (needs.action, f"{needs.action.partition(':')[0]}:*")
            and self.resource in needs.resource
            for needs in needed
        )


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
            fault = next((f for f in self._pending if f.matches(principal, needed)), None)
            if fault is None:
                return None
            fault.seen += 1
            if fault.seen <= fault.after or (fault.seen - fault.after) % fault.every:
                return None
            fault.times -= 1
            if not fault.times:
                self._pending.remove(fault)
        if fault.before:
            fault.before(needed[0])
        return fault.effect
