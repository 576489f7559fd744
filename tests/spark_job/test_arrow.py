"""A process of the job does not pay for pandas, and one that wants pandas has it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import pyarrow as pa
from spark_job.arrow import spare_pandas
spare_pandas()
table = pa.table({"number": pa.array([1, 2])})
assert "pandas" not in sys.modules, "an array imported pandas"
assert table.to_pandas()["number"].sum() == 3
import pandas
assert len(pa.array(pandas.Series([1, None]))) == 2
"""


def test_arrays_do_not_import_pandas_and_frames_do() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
