"""How much of a hostile file is looked at. All are checked before the work they bound."""

MAX_BYTES = 2**31 - 1
"""Of one protobuf file, and of all weights of a model: more cannot be written as one ONNX file."""
MAX_FIELDS = 2_000_000
"""Protobuf fields of a file. Each may cost its reader a hundred times its bytes."""
MAX_NODES = 50_000
"""With every call of a function counted as the nodes it stands for."""
MAX_TENSORS = 100_000
MAX_GRAPH_DEPTH = 16
"""Graphs within graphs: bodies of If, Loop and Scan."""
MAX_CALL_DEPTH = 32
"""Functions that call functions."""
MAX_SHARING = 16
"""How often external bytes may be read: decoded bytes over bytes of the files."""

MAX_MEMBERS = 10_000
"""Of an archive: a model's external data may be a file for each tensor."""
MAX_IMAGES = 200_000
"""Members of an archive of images; MAX_DIRECTORY_BYTES bounds their names."""
MAX_DIRECTORY_BYTES = 16 << 20
MAX_RATIO = 200
"""Decoded over stored bytes of an archive, from `RATIO_FROM` on."""
RATIO_FROM = 64 << 20
MAX_ARCHIVE_BYTES = 4 << 30
MAX_DATASET_BYTES = 32 << 30
MAX_DATASET_RATIO = 100

MAX_PIXELS = 64 << 20
"""Of one image, told by its header."""
MAX_IMAGE_BYTES = 64 << 20
"""Of one encoded image."""
MAX_COLUMNS = 4_096
MAX_CLASSES = 20_000
MAX_ROWS = 10_000_000
"""Of a table: the splits keep some numbers for each row in memory."""
MAX_LINE_BYTES = 8 << 20
"""Of one row of JSON lines."""
MAX_PIECE_BYTES = 256 << 20
"""Decoded, of the rows of a table that are looked at together."""
MAX_TOKENIZER_BYTES = 64 << 20
MAX_FOOTER_BYTES = 16 << 20
"""Of a Parquet file, whose reader takes a hundred times as much."""
