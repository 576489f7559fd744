"""Export one of Keras' applications to a network that the job runs.

    python -m spark_job.networks.export MobileNetV2 --weights weights.h5

Without ``--weights`` Keras downloads its own ImageNet weights; ``random`` draws them, which is for
tests. TensorFlow is needed here and nowhere else in the job. Writes ``network.tflite`` and its card
into a folder of this package, of which the job then knows by the folder's name.

The network is the application without its classifier, with its features averaged over the image,
at the application's default size. Scaling and order of channels are found by trying what Keras'
``preprocess_input`` does; the flatbuffer is then held against Keras on random images.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import math
import re
import sys
import warnings
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from spark_job.networks.card import (
    CARD,
    FLATBUFFER,
    RULES,
    Card,
    Scaling,
    format_card,
)
from spark_job.networks.extractor import Extractor, scaler

if TYPE_CHECKING:
    from numpy.typing import NDArray

NETWORKS: Final = Path(__file__).parent

# What Keras' applications do with pixels (keras.applications.imagenet_utils.preprocess_input).
_TF = Scaling(divide_by=(127.5,) * 3, subtract=(1.0,) * 3)
_CAFFE = Scaling(subtract=(103.939, 116.779, 123.68))
_TORCH = Scaling((255.0,) * 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_PREPROCESSING: Final = (("RGB", Scaling()), ("RGB", _TF), ("BGR", _CAFFE), ("RGB", _TORCH))

_PROBES: Final = 8
_PROBE_SEED: Final = 1


class ExportError(Exception):
    """The network cannot be exported; the message is a sentence for a person."""


def main() -> None:
    """Export, write the card, and say where they are."""
    arguments = _parser().parse_args()
    try:
        card = export(
            arguments.network,
            arguments.weights,
            into=arguments.into,
            name=arguments.name,
            seed=arguments.seed,
            licence=arguments.licence,
        )
    except ExportError as error:
        raise SystemExit(f"export: {error}") from error
    print(
        f"{arguments.into / card.name}: {card.features:,} features of {card.width}x{card.height} "
        f"pixels, within {card.tolerance:g} of Keras; extractor {card.extractor}"
    )


def export(
    network: str,
    weights: str = "imagenet",
    *,
    into: Path = NETWORKS,
    name: str | None = None,
    seed: int = 0,
    licence: str = "not stated",
) -> Card:
    """Export an application of Keras into a folder of its own.

    Parameters
    ----------
    network
        Its class, in capitals or not: ``MobileNetV2``.
    weights
        Path of a file that Keras reads, ``imagenet`` for its own download, or ``random``.
    into
        The folder of all networks.
    name
        The network's folder; by default the class in snake case, ``mobilenet_v2``.
    seed
        For random weights.
    licence
        Of the weights, for the card.

    Raises
    ------
    ExportError
        Where there is no such application, its weights do not fit, or what came out is not what
        Keras computes.
    """
    if weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise ExportError(f"there is no weights file at {weights}")
    application = find_application(network)
    name = folder_name(application.__name__) if name is None else name
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name):
        raise ExportError(f"the name {name!r} is not small letters and digits, joined by _")
    preprocess = preprocessing_of(application)
    channels, scaling = find_scaling(preprocess)
    model = build(application, weights, seed=seed)
    content = convert(model)
    _, height, width, _ = model.input_shape
    card = Card(
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        width=width,
        height=height,
        channels=channels,
        scaling=scaling,
        features=model.output_shape[1],
        decode=RULES,
        tolerance=math.inf,
    )
    pixels = random_images(_PROBES, height, width)
    expected = model.predict(preprocess(pixels.astype(np.float32)), verbose=0)
    extract = Extractor(card, content)
    found = np.stack([extract(image) for image in pixels])
    largest, apart = (float(np.abs(a).max()) for a in (expected, found - expected))
    tolerance = tolerance_for(largest, apart)
    provenance = {
        "origin": f"keras.applications.{application.__name__}(include_top=False, pooling='avg')",
        "licence": licence,
        "weights": _describe_weights(weights, seed),
        "exported_with": _versions(),
        "compared_with_keras": {
            "random_images": len(pixels),
            "largest_distance": apart,
            "largest_feature": largest,
        },
    }
    card = replace(card, tolerance=tolerance)
    folder = into / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FLATBUFFER).write_bytes(content)
    (folder / CARD).write_text(format_card(card, provenance), "utf-8")
    return card


def find_application(network: str) -> Any:
    """The class (a function, in Keras) of an application, in capitals or not."""
    import keras

    known = {name.lower(): name for name in dir(keras.applications) if name[0].isupper()}
    if network.lower() not in known:
        similar = [known[name] for name in get_close_matches(network.lower(), known, n=3)]
        raise ExportError(
            f"keras.applications has no {network!r}; "
            + (f"did you mean {' or '.join(similar)}?" if similar else "it has ")
            + ("" if similar else ", ".join(known.values()))
        )
    return getattr(keras.applications, known[network.lower()])


def folder_name(application: str) -> str:
    """Snake case as in Keras' modules: ``EfficientNetV2B0`` is ``efficientnet_v2_b0``."""
    words = application.replace("NeXt", "Next")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])(?!Ne[tx])", "_", words).lower()


def preprocessing_of(application: Any) -> Any:
    """What Keras does to pixels of 0 to 255 before they enter an application."""
    return sys.modules[application.__module__].preprocess_input


def find_scaling(preprocess: Any) -> tuple[str, Scaling]:
    """Order of channels and scaling that give what `preprocess` gives, exactly.

    Raises
    ------
    ExportError
        Where none that is known does.
    """
    values = np.arange(256, dtype=np.uint8)
    pixels = np.stack([values, values[::-1], np.roll(values, 99)], axis=-1)[None]
    expected = np.asarray(preprocess(pixels[None].astype(np.float32)))[0]
    found = np.empty_like(expected)
    for channels, scaling in _PREPROCESSING:
        scaler(channels, scaling)(pixels, found)
        if np.array_equal(found, expected):
            return channels, scaling
    raise ExportError(
        f"what {preprocess.__module__}.preprocess_input does to pixels is none of the scalings "
        "that are known here; add it to _PREPROCESSING in spark_job/networks/export.py"
    )


def build(application: Any, weights: str, *, seed: int = 0) -> Any:
    """The application up to its averaged features: float32 [n, height, width, 3] to [n, d].

    Parameters
    ----------
    application
        As `find_application` gives it.
    weights, seed
        As of `export`.
    """
    import keras

    drawn = weights == "random"
    # An application knows its default size only where it has its classifier, and MobileNetV3,
    # which takes any, not even there.
    height, width = (size or 224 for size in application(weights=None).input_shape[1:3])
    keras.backend.clear_session()  # numbers of layers begin anew, and so the file is the same
    if drawn:
        keras.utils.set_random_seed(seed)
    try:
        with warnings.catch_warnings():
            # Keras leaves a layer that a file lacks as it was drawn, and only warns of it.
            warnings.simplefilter("error", UserWarning)
            model = application(
                include_top=False,
                pooling="avg",
                input_shape=(height, width, 3),
                weights=None if drawn else weights,
            )
    except Exception as error:  # Keras raises bare Exceptions, too
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"{application.__name__} without its classifier does not take the weights {weights}: "
            f"{reason}"
        ) from error
    if drawn:
        _normalize(model, preprocessing_of(application))
    return model


def _normalize(model: Any, preprocess: Any) -> None:
    """Give batch normalization the statistics of random images.

    With the initial ones the signal of random weights fades from layer to layer, until all images
    have nearly the same features.
    """
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    _, height, width, _ = model.input_shape
    model(preprocess(random_images(_PROBES, height, width).astype(np.float32)), training=True)


def convert(model: Any) -> bytes:
    """LiteRT flatbuffer of `model` with its batch fixed to one image, float32 throughout."""
    import keras
    import tensorflow as tf

    one_image = keras.Input(batch_shape=(1, *model.input_shape[1:]))
    fixed = keras.Model(one_image, model(one_image))
    with contextlib.redirect_stdout(io.StringIO()):  # it lists the network's variables
        return bytes(tf.lite.TFLiteConverter.from_keras_model(fixed).convert())


def random_images(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Blocks of colour under noise, another mixture for each image: uint8 [n, height, width, 3]."""
    random = np.random.default_rng(_PROBE_SEED)
    coarse = random.integers(0, 256, (count, 8, 8, 3))
    rows, columns = (np.arange(size) * 8 // size for size in (height, width))
    blocks = coarse[:, rows][:, :, columns]
    noise = random.integers(0, 256, blocks.shape)
    share = np.linspace(0, 1, count)[:, None, None, None]
    return (share * noise + (1 - share) * blocks).astype(np.uint8)


def tolerance_for(largest: float, apart: float) -> float:
    """The power of ten from three times how far the flatbuffer is from Keras on random images.

    Raises
    ------
    ExportError
        Where it is further away than rounding to float32 explains: 1e-3 of the largest feature.
    """
    if not 0 < largest < math.inf:
        raise ExportError(f"the largest feature of random images is {largest}; check the weights")
    if not apart <= 1e-3 * largest:
        raise ExportError(
            f"the flatbuffer is up to {apart:.2g} from Keras on the same pixels, with features up "
            f"to {largest:.2g}; nothing was written"
        )
    return float(f"1e{math.ceil(math.log10(max(3 * apart, 1e-7 * largest)))}")


def _describe_weights(weights: str, seed: int) -> dict[str, Any]:
    if weights == "random":
        return {"random_seed": seed}
    if weights == "imagenet":
        return {"download": "imagenet, by Keras"}
    file = Path(weights)
    return {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _versions() -> dict[str, str]:
    import keras
    import tensorflow

    return {"tensorflow": tensorflow.__version__, "keras": keras.__version__}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spark_job.networks.export")
    add = parser.add_argument
    add("network", metavar="NETWORK", help="a class of keras.applications: MobileNetV2")
    add(
        "--weights",
        default="imagenet",
        help="path of a file without classifier, `imagenet` for Keras' download (default; the only "
        "way to ImageNet for EfficientNetB0 to B7, which Keras builds otherwise from a file), or "
        "`random`",
    )
    add("--seed", type=int, default=0, help="of random weights")
    add("--name", help="the network's folder; default: the class in snake case")
    add("--licence", default="not stated", help="of the weights, for the card")
    add("--into", type=Path, default=NETWORKS, help="folder of all networks")
    return parser


if __name__ == "__main__":
    main()
