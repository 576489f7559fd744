"""Run the job on this machine and show what came out: ``make demo [IMAGES=/path/to/images]``."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from demo.synthetic import make_batch
from spark_job.contract import CURRENT, IMAGES, VECTORS, results_folder, run_folder

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "out"


def main() -> int:
    """Make or take a batch, run the job on it, and say how to open the vectors."""
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description=main.__doc__,
        allow_abbrev=False,
        epilog="Further arguments are the job's.",
    )
    parser.add_argument("--images", type=Path, help="a folder of LABEL/FILE images")
    arguments, further = parser.parse_known_args()
    if arguments.images is None:
        images, batch = OUTPUT / "synthetic-fruit" / IMAGES, "synthetic-fruit"
        print(f"No IMAGES given: drawing a synthetic batch in {images}")
        make_batch(images)
    else:
        images, batch = arguments.images.expanduser(), _batch_name(arguments.images)
    output = OUTPUT / batch
    command = [sys.executable, "-m", "spark_job", f"--images={images}", f"--output={output}"]
    command += [f"--batch={batch}", "--pca=fit", *further]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code == 0:
        run = json.loads((output / results_folder(batch) / CURRENT).read_text())["run"]
        vectors = os.path.relpath(output / run_folder(batch, run) / VECTORS)
        python = os.path.relpath(sys.executable)
        print("\nTo look at the vectors (path, label, model, vector), for example:")
        print(f"  {python} -c \"import pandas; print(pandas.read_parquet('{vectors}'))\"")
    return code


def _batch_name(images: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", images.expanduser().resolve().name)
    return name.strip("-._")[:64] or "batch"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
