"""A network on LiteRT: the pixels of one image to its features."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_job.errors import JobError
from spark_job.networks.card import load_card, load_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from spark_job.engines import Attempt
    from spark_job.networks.card import Card, PerChannel, Scaling


TIMED = 3
"""Inferences by which a network's rate is told; one before them touches its memory first."""


@cache
def shared_extractor(name: str) -> Extractor:
    """Load an installed network once per process; workers are reused from part to part."""
    card = load_card(name)
    return Extractor(card, load_network(card))


class Extractor:
    """One single-threaded interpreter; not for use by several threads at once.

    Parameters
    ----------
    card
        What the network takes and gives.
    network
        LiteRT flatbuffer, float32 [1, height, width, 3] to [1, features].
    """

    def __init__(self, card: Card, network: bytes) -> None:
        self.card = card
        self._network = network
        self._scale = scaler(card.channels, card.scaling)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features [features] of `pixels`, uint8 [height, width, 3] RGB."""
        interpreter, into, out_of = self._interpreter
        tensor = interpreter.tensor(into)()[0]
        self._scale(pixels, tensor)
        del tensor  # the interpreter refuses to run while a view of its memory lives
        interpreter.invoke()
        features: NDArray[np.float32] = interpreter.get_tensor(out_of)[0]
        return features

    def warm_up(self) -> None:
        """Build the interpreter, which the first image would do otherwise.

        Raises
        ------
        JobError
            Where the flatbuffer is none, or does not take and give what the card says.
        """
        self._interpreter  # noqa: B018

    @cached_property
    def _interpreter(self) -> tuple[Any, int, int]:
        # One image at a time is LiteRT's fastest batch on a CPU core, and one thread per task
        # slot leaves no core contended.
        from ai_edge_litert.interpreter import Interpreter

        try:
            with without_native_stderr():
                interpreter = Interpreter(model_content=self._network, num_threads=1)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise JobError(f"{self._told} cannot be run by LiteRT: {error}") from error
        card = self.card
        expected = [1, card.height, card.width, 3], [1, card.features]
        into = self._tensor("takes", interpreter.get_input_details(), expected[0])
        return (
            interpreter,
            into,
            self._tensor("gives", interpreter.get_output_details(), expected[1]),
        )

    def _tensor(self, verb: str, tensors: list[Mapping[str, Any]], shape: list[int]) -> int:
        found = [f"{np.dtype(tensor['dtype'])} {tensor['shape'].tolist()}" for tensor in tensors]
        if found != [f"float32 {shape}"]:
            raise JobError(
                f"{self._told} does not fit its card: it {verb} {' and '.join(found)}, the card "
                f"says float32 {shape}; correct the card, or export the network again with "
                "`make export-model`"
            )
        index: int = tensors[0]["index"]
        return index

    @property
    def _told(self) -> str:
        return f"the network of spark_job/networks/{self.card.name}"


@dataclass(frozen=True)
class RatePass:
    """How many seconds a worker takes to infer an image, once its network is loaded.

    Attributes
    ----------
    network
        Its name.
    """

    network: str

    def __call__(self, _part: int, _attempt: Attempt) -> float:
        """Infer a black image a few times; the fastest is least disturbed by others."""
        extract = shared_extractor(self.network)
        pixels = np.zeros((extract.card.height, extract.card.width, 3), np.uint8)
        laps = []
        for _ in range(1 + TIMED):
            start = perf_counter()
            extract(pixels)
            laps.append(perf_counter() - start)
        return min(laps[1:])


def scaler(
    channels: str, scaling: Scaling
) -> Callable[[NDArray[np.uint8], NDArray[np.float32]], None]:
    """Make the function that writes scaled RGB pixels straight into a network's input."""
    steps = [
        (operation, _operand(values))
        for operation, values, nothing in (
            (np.divide, scaling.divide_by, 1.0),
            (np.subtract, scaling.subtract, 0.0),
            (np.divide, scaling.then_divide_by, 1.0),
        )
        if set(values) != {nothing}
    ]
    order = slice(None, None, -1) if channels == "BGR" else slice(None)

    def scale(pixels: NDArray[np.uint8], tensor: NDArray[np.float32]) -> None:
        source: NDArray[Any] = pixels[..., order]
        for operation, operand in steps:
            operation(source, operand, out=tensor, dtype=np.float32)
            source = tensor
        if not steps:
            tensor[...] = source

    return scale


def _operand(values: PerChannel) -> NDArray[np.float32] | np.float32:
    """One number where all channels share it, which NumPy is faster with."""
    return np.float32(values[0]) if len(set(values)) == 1 else np.array(values, np.float32)


@contextmanager
def without_native_stderr() -> Iterator[None]:
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
