"""Writes tables as Parquet files, reads them back, and refuses those of another kind."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def write_table(
    path: Path, frame: pd.DataFrame, schema: pa.Schema, version: str, metadata: Mapping[str, str]
) -> None:
    """Write the columns of a schema.

    Args:
        path: The file to write.
        frame: Has the columns of the schema. NaN stays NaN and does not become a missing value.
        schema: Names and types of the columns.
        version: Stored as ``schema_version`` with the metadata.
        metadata: Fingerprints and the like.
    """
    arrays = [
        pa.array(
            # A column of text without rows has no type that says so.
            frame[field.name].to_numpy(object if pa.types.is_string(field.type) else None),
            type=field.type,
            from_pandas=False,
        )
        for field in schema
    ]
    stored = {**metadata, "schema_version": version}
    table = pa.Table.from_arrays(arrays, schema=schema.with_metadata(stored))
    pq.write_table(table, path, compression="zstd")


def refuse_twice(frame: pd.DataFrame, key: list[str], what: str) -> None:
    """Refuse a table in which a slice was measured twice.

    Args:
        frame: One row a slice and whatever else is in the key; holds ``case`` and ``slice_index``.
        key: Columns that tell one row from another.
        what: What the table holds, in one word.

    Raises:
        ValueError: If two rows have the same key.
    """
    twice = frame[frame.duplicated(key)]
    if len(twice):
        first = twice.iloc[0]
        others = ", ".join(str(first[name]) for name in key if name not in {"case", "slice_index"})
        msg = (
            f"{what}: slice {first['slice_index']} of {first['case']} was measured more than once "
            f"by {others}, expected each slice in one process"
        )
        raise ValueError(msg)


def read_table(
    path: Path, schema: pa.Schema, version: str, what: str
) -> tuple[pa.Table, dict[str, str]]:
    """Read a table that must have a schema, and its metadata.

    Args:
        path: The file.
        schema: Names and types of the columns.
        version: The ``schema_version`` that the metadata must hold.
        what: What the columns are, in one word, for errors.

    Returns:
        The table and its metadata as text.

    Raises:
        ValueError: If the file is not such a table, or of another schema version.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        msg = f"{path}: not a readable Parquet file ({error})"
        raise ValueError(msg) from error
    metadata = {
        key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()
    }
    if metadata.get("schema_version") != version:
        found = metadata.get("schema_version", "none")
        msg = f"{path}: schema version {found}, expected {version}; evaluate the run again"
        raise ValueError(msg)
    if not table.schema.equals(schema):
        msg = (
            f"{path}: columns {', '.join(table.column_names)}, expected "
            f"{', '.join(schema.names)} with the types of {what}; evaluate the run again"
        )
        raise ValueError(msg)
    return table, metadata
