"""Subsets of a folder of labelled images, the same ones each time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from spark_job.listing import list_images
from spark_job.objects import open_folder

if TYPE_CHECKING:
    from collections.abc import Sequence


def list_paths(folder: str) -> list[str]:
    """List the images that the job would find in `folder`: relative paths, sorted."""
    listing = list_images(open_folder(folder))
    paths: list[str] = listing.rows(0, len(listing))["path"].to_pylist()
    return paths


def spread(paths: Sequence[str], size: int) -> list[str]:
    """Choose `size` of `paths` at even distances, so that each label has its share."""
    return [paths[number * len(paths) // size] for number in range(size)]


def copy_subset(images: str, paths: Sequence[str], size: int, into: Path) -> Path:
    """Copy `size` images below `images`, spread over `paths`, into a folder; its path."""
    folder = into / f"images-{size}"
    for path in spread(paths, size):
        copy = folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(images) / path, copy)
    return folder


class Subsets(dict[int, Path]):
    """Folders of `copy_subset` by size; one is copied when it is first asked for."""

    def __init__(self, images: str, paths: Sequence[str], into: Path) -> None:
        super().__init__()
        self._images = images
        self._paths = paths
        self._into = into

    def __missing__(self, size: int) -> Path:
        """Copy a subset of `size` images."""
        self[size] = copy_subset(self._images, self._paths, size, self._into)
        return self[size]
