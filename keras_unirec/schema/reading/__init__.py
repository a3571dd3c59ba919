"""User data as checked columns, from frames and from Parquet files.

Everything that reads user data goes through `read`, so that an error about a
value always names the column, the row, what was expected and what was found.
"""

from keras_unirec.schema.reading.arrow import (
    UNITS_PER_SECOND as UNITS_PER_SECOND,
)
from keras_unirec.schema.reading.arrow import read as read
from keras_unirec.schema.reading.arrow import time_unit as time_unit
from keras_unirec.schema.reading.arrow_types import is_list as is_list
from keras_unirec.schema.reading.arrow_types import is_null as is_null
from keras_unirec.schema.reading.arrow_types import is_string as is_string
from keras_unirec.schema.reading.arrow_types import list_depth as list_depth
from keras_unirec.schema.reading.checks import check_columns as check_columns
from keras_unirec.schema.reading.checks import check_finite as check_finite
from keras_unirec.schema.reading.checks import check_frame as check_frame
from keras_unirec.schema.reading.chunks import chunks as chunks
from keras_unirec.schema.reading.column import MISSING as MISSING
from keras_unirec.schema.reading.column import MISSING_STRING as MISSING_STRING
from keras_unirec.schema.reading.column import Column as Column
from keras_unirec.schema.reading.column import concatenate as concatenate
from keras_unirec.schema.reading.column import positions as positions
from keras_unirec.schema.reading.column import to_offsets as to_offsets
from keras_unirec.schema.reading.frames import from_frame as from_frame
from keras_unirec.schema.reading.parquet import is_path as is_path
from keras_unirec.schema.reading.parquet import open_files as open_files
from keras_unirec.schema.reading.parquet import read_group as read_group
from keras_unirec.schema.reading.rows import JoinedRows as JoinedRows
from keras_unirec.schema.reading.rows import Rows as Rows
from keras_unirec.schema.reading.rows import row_of_index as row_of_index
