"""What a configuration key is made of: a default, a meaning, a check, and how it is read."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from constructs import Node

CONTEXT_KEY: Final = "orchard"
# JSON has no comments; a key of two slashes is the customary stand-in.
_COMMENT: Final = "//"


class ConfigError(ValueError):
    """A configuration value that cannot be deployed; the message is one sentence."""


@dataclass(frozen=True)
class Check:
    """What a knob accepts: in words, for the error, and as a predicate."""

    allowed: str
    accepts: Callable[[Any], bool]


def knob(default: Any, doc: str, check: Check) -> Any:
    """Declare a dataclass field with what it is for and what it accepts."""
    return dataclasses.field(default=default, metadata={"doc": doc, "check": check})


def whole(low: int, high: int) -> Check:
    """Accept an integer between two, both included."""
    return Check(
        f"a whole number from {low:,} to {high:,}",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high,
    )


def number(low: float, high: float, *, above: bool = False) -> Check:
    """Accept a number between two, the lower one excluded when it must be above it."""
    return Check(
        f"a number {'above' if above else 'from'} {low:g} {'and up ' if above else ''}to {high:g}",
        lambda v: (
            isinstance(v, (int, float))
            and not isinstance(v, bool)
            and (low < v if above else low <= v)
            and v <= high
        ),
    )


def one_of(*values: str | int) -> Check:
    """Accept any of a few values."""
    return Check("one of " + ", ".join(map(str, values)), lambda v: v in values)


def text(pattern: str, allowed: str) -> Check:
    """Accept a string that a regular expression matches as a whole."""
    return Check(allowed, lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None)


def list_of(check: Check, *, empty: bool = False) -> Check:
    """Accept a tuple of accepted values."""
    return Check(
        f"a list of {'at least one value' if not empty else 'values'}, each {check.allowed}",
        lambda v: isinstance(v, tuple) and (empty or len(v) > 0) and all(map(check.accepts, v)),
    )


def or_none(check: Check) -> Check:
    """Accept None as well."""
    return Check(f"{check.allowed}, or nothing at all", lambda v: v is None or check.accepts(v))


def refusal(key: str, value: object, allowed: str) -> ConfigError:
    """Return the error that says which key has which value, and what is allowed."""
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return ConfigError(
        f"{CONTEXT_KEY}.{key} is {json.dumps(shown, default=str)}; allowed is {allowed}."
    )


def check_each(config: Any) -> None:
    """Check every knob of a configuration by itself.

    Raises
    ------
    ConfigError
        For the first value that its knob does not accept.
    """
    for field in dataclasses.fields(config):
        check: Check = field.metadata["check"]
        if not check.accepts(getattr(config, field.name)):
            raise refusal(field.name, getattr(config, field.name), check.allowed)


def read_context(node: Node, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Read the ``orchard`` block and the command line's overrides from a construct's context.

    Parameters
    ----------
    node
        The app's node.
    kinds
        The type of each knob, by its key.

    Raises
    ------
    ConfigError
        For a key that no knob has.
    """
    block = node.try_get_context(CONTEXT_KEY) or {}
    if not isinstance(block, Mapping):
        raise refusal(CONTEXT_KEY, block, "a block of keys and values")
    block = {key: value for key, value in block.items() if key != _COMMENT}
    for key in block:
        if key not in kinds:
            raise _unknown(key, kinds)
    everything = node.get_all_context()
    for key in everything:
        # The others are CDK's own, so that only a near miss of one of ours is an error.
        if key not in kinds and difflib.get_close_matches(key, kinds, n=1, cutoff=0.85):
            raise _unknown(key, kinds)
    overrides = {key: value for key, value in everything.items() if key in kinds}
    return {key: _parse(str(kinds[key]), value) for key, value in {**block, **overrides}.items()}


def _unknown(key: str, kinds: Mapping[str, Any]) -> ConfigError:
    near = difflib.get_close_matches(key, kinds, n=1)
    hint = f"did you mean {near[0]}?" if near else "python -m stacks.config lists the keys."
    return ConfigError(f"{CONTEXT_KEY}.{key} is not a configuration key; {hint}")


def _parse(kind: str, value: object) -> object:
    """Give a JSON value or a command line's text the knob's type; leave the rest to its check."""
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, str):
        return value
    given = value.strip()
    if "tuple" in kind:
        return tuple(part.strip() for part in given.split(",") if part.strip())
    if "None" in kind and not given:
        return None
    if "bool" in kind and given.lower() in ("true", "false"):
        return given.lower() == "true"
    for numeric in (int, float):
        if numeric.__name__ in kind:
            try:
                return numeric(given)
            except ValueError:
                continue
    return given


def keep(file: Path, cls: type, choices: Sequence[str]) -> None:
    """Write choices into the ``orchard`` block of a `cdk.json`, so that they need be said once.

    Parameters
    ----------
    file
        The `cdk.json`.
    cls
        The configuration's class, by which the whole block is checked first.
    choices
        As ``key=value``, lists as ``a,b,c``; without a value the key's default is chosen.

    Raises
    ------
    ConfigError
        For what is no key, or a value that cannot be deployed; nothing is written then.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    block = content["context"].setdefault(CONTEXT_KEY, {})
    kinds = get_type_hints(cls)
    for choice in choices:
        key, equals, given = choice.partition("=")
        if key not in kinds:
            raise _unknown(key, kinds)
        if not equals:
            raise ConfigError(f"{choice} says nothing of {key}; say {key}=value.")
        value = _parse(str(kinds[key]), given)
        if value in (None, (), ""):
            block.pop(key, None)
        else:
            block[key] = list(value) if isinstance(value, tuple) else value
    cls(**{key: _parse(str(kinds[key]), value) for key, value in block.items() if key != _COMMENT})
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(file)


def describe(cls: type) -> str:
    """Return a Markdown table of a configuration's knobs."""
    rows = ["| Key | Default | Meaning | Allowed |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        shown = "" if default in (None, "") else f"`{json.dumps(default).strip(chr(34))}`"
        check: Check = field.metadata["check"]
        rows.append(f"| `{field.name}` | {shown} | {field.metadata['doc']} | {check.allowed} |")
    return "\n".join(rows)
