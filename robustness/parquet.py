"""Reads tables back from Parquet files and refuses those of another kind."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


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
