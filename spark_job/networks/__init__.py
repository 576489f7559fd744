"""The networks that are installed, a folder each, and the script that exports another one."""

from spark_job.networks.card import (
    DEFAULT,
    KNOWN_RULES,
    Card,
    DecodeRules,
    Scaling,
    find_card,
    load_card,
    load_network,
    load_provenance,
    names,
)

__all__ = [
    "DEFAULT",
    "KNOWN_RULES",
    "Card",
    "DecodeRules",
    "Scaling",
    "find_card",
    "load_card",
    "load_network",
    "load_provenance",
    "names",
]
