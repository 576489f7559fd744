"""What a cluster runs: the job, its entry point, the bootstrap script and the wheelhouse."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aws_cdk import Annotations, aws_s3_assets
from constructs import Construct

from bootstrap.wheelhouse import ARCHITECTURES, LOCK, WHEELHOUSES, node_pins

if TYPE_CHECKING:
    from stacks.config import OrchardConfig

_REPOSITORY: Final = Path(__file__).resolve().parents[1]
_BUILD: Final = _REPOSITORY / "build"
# The script that makes the model needs TensorFlow, which no cluster has.
_NOT_SHIPPED: Final = ("__pycache__", "export.py")
# Any fixed date will do: the same code must give the same asset, hence no needless deployment.
_ZIP_DATE: Final = (2020, 1, 1, 0, 0, 0)


class Artifacts(Construct):
    """The files that clusters fetch, published by ``cdk deploy`` under the hash of their content.

    Attributes
    ----------
    job_zip_uri
        ``--py-files``: a zip with the package ``spark_job/`` at its root.
    entry_point_uri
        The script that spark-submit runs.
    bootstrap_uri
        The bootstrap action, ``install.sh``.
    wheelhouse_uri
        A zip of the wheels and their hash-locked ``requirements.txt``.
    bucket
        Where they are: the bucket that all stacks of the account share.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: OrchardConfig) -> None:
        super().__init__(scope, construct_id)
        job_zip = self._asset("JobZip", pack_job(_BUILD / "spark_job.zip"))
        entry_point = self._asset("EntryPoint", _REPOSITORY / "spark_job" / "__main__.py")
        bootstrap = self._asset("Bootstrap", _REPOSITORY / "bootstrap" / "install.sh")
        wheelhouse = self._asset("Wheelhouse", self._wheelhouse(config))
        self.job_zip_uri = job_zip.s3_object_url
        self.entry_point_uri = entry_point.s3_object_url
        self.bootstrap_uri = bootstrap.s3_object_url
        self.wheelhouse_uri = wheelhouse.s3_object_url
        self.bucket = job_zip.bucket

    def _asset(self, name: str, path: Path) -> aws_s3_assets.Asset:
        return aws_s3_assets.Asset(self, name, path=str(path))

    def _wheelhouse(self, config: OrchardConfig) -> Path:
        folder = Path(config.wheelhouse or WHEELHOUSES / config.architecture)
        wrong = _what_is_wrong(folder, config)
        if wrong is None:
            return folder
        # An error stops `cdk deploy`, yet lets everything be synthesized and tested without it.
        Annotations.of(self).add_error(
            f"{wrong}, and clusters have no other source of packages; run"
            f" `make wheelhouse ARCH={config.architecture}`."
        )
        return LOCK


def _what_is_wrong(folder: Path, config: OrchardConfig) -> str | None:
    shown = folder.relative_to(_REPOSITORY) if folder.is_relative_to(_REPOSITORY) else folder
    requirements = folder / "requirements.txt"
    if not any(folder.glob("*.whl")) or not requirements.is_file():
        return f"There is no wheelhouse in {shown}"
    if config.wheelhouse is not None:
        return None
    machine = ARCHITECTURES[config.architecture]
    if node_pins(requirements, machine) != node_pins(LOCK, machine):
        return f"The wheelhouse in {shown} is older than {LOCK.relative_to(_REPOSITORY)}"
    return None


def pack_job(target: Path) -> Path:
    """Write the job's package as a zip whose bytes depend on its files alone.

    Parameters
    ----------
    target
        Where the zip goes; its folder is created.

    Returns
    -------
    Path
        The zip.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}.part")
    files = sorted(
        file
        for file in (_REPOSITORY / "spark_job").rglob("*")
        if file.is_file() and not set(file.parts).intersection(_NOT_SHIPPED)
    )
    with zipfile.ZipFile(part, "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(_REPOSITORY).as_posix(), _ZIP_DATE)
            entry.external_attr = 0o644 << 16
            # Weights do not compress, and a node unpacks a stored file faster.
            archive.writestr(entry, file.read_bytes())
    # Several synths may run at once: each writes its own part, and the last rename wins whole.
    return part.replace(target)
