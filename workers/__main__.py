"""`python -m workers`: what `pare-server worker` becomes."""

import sys

import structlog

from compression.errors import CompressionError
from workers.main import main

try:
    sys.exit(main())
except CompressionError as refusal:
    structlog.get_logger().error("the worker does not start", reason=str(refusal))
    sys.exit(1)
