"""An exported file, run with LiteRT as a phone does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orchard.phone.fuse import PHOTOGRAPH, SIGNATURE
from spark_job.networks.extractor import without_native_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PhoneModel:
    """One single-threaded interpreter; not for use by several threads at once.

    Parameters
    ----------
    content
        What `fuse` made.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with without_native_stderr():
            self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        self._run: Any = self._interpreter.get_signature_runner(SIGNATURE)

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Vector [k], and probabilities [L] if any, of `pixels`, uint8 [height, width, 3] RGB."""
        outputs = self._run(**{PHOTOGRAPH: pixels[np.newaxis]})
        return {name: values[0] for name, values in outputs.items()}
