"""MobileNetV2 on LiteRT: the pixels of one image to its 1,280 features."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import contextmanager
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_job.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def load_card() -> dict[str, Any]:
    """Read the network's card: origin, licence, checksums, preprocessing, tolerance."""
    text = (resources.files("spark_job.networks") / "mobilenet_v2" / "card.json").read_text("utf-8")
    card: dict[str, Any] = json.loads(text)
    return card


def extractor_id(card: dict[str, Any]) -> str:
    """Name what determines a feature: the source weights and the preprocessing."""
    determined_by = json.dumps([card["source"]["sha256"], card["preprocessing"]])
    return f"{card['name']}-{hashlib.sha256(determined_by.encode()).hexdigest()[:16]}"


def load_network(card: dict[str, Any]) -> bytes:
    """Read the LiteRT flatbuffer that `card` describes.

    Raises
    ------
    JobError
        Where the file is not the one that the card was written for.
    """
    folder = resources.files("spark_job.networks") / "mobilenet_v2"
    content: bytes = (folder / card["file"]).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != card["sha256"]:
        raise JobError(
            f"the network spark_job/networks/mobilenet_v2/{card['file']} is damaged: its sha256 is "
            f"{found}, its card says {card['sha256']}; restore the file, or export it again with "
            "`make export-model`"
        )
    return content


@lru_cache(maxsize=1)
def shared_extractor() -> Extractor:
    """Load the network once per process; Spark reuses its Python workers from task to task."""
    return Extractor(load_network(load_card()))


class Extractor:
    """One single-threaded interpreter; not for use by several threads at once.

    Parameters
    ----------
    network
        LiteRT flatbuffer, float32 [1, 224, 224, 3] to [1, 1280].
    """

    def __init__(self, network: bytes) -> None:
        self._network = network

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features [1280] of `pixels`, uint8 [224, 224, 3] RGB.

        Scaling is Keras' ``mobilenet_v2.preprocess_input``, x / 127.5 - 1, written straight into
        the network's input.
        """
        interpreter, into, out_of = self._interpreter
        tensor = interpreter.tensor(into)()[0]
        np.divide(pixels, np.float32(127.5), out=tensor, dtype=np.float32)
        np.subtract(tensor, np.float32(1), out=tensor)
        del tensor  # the interpreter refuses to run while a view of its memory lives
        interpreter.invoke()
        features: NDArray[np.float32] = interpreter.get_tensor(out_of)[0]
        return features

    @cached_property
    def _interpreter(self) -> tuple[Any, int, int]:
        # One image at a time is LiteRT's fastest batch on a CPU core, and one thread per task
        # slot leaves no core contended.
        from ai_edge_litert.interpreter import Interpreter

        with _without_native_stderr():
            interpreter = Interpreter(model_content=self._network, num_threads=1)
            interpreter.allocate_tensors()
        return (
            interpreter,
            interpreter.get_input_details()[0]["index"],
            interpreter.get_output_details()[0]["index"],
        )


@contextmanager
def _without_native_stderr() -> Iterator[None]:
    """Keep LiteRT from announcing its delegate on stderr once per worker; errors are raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
