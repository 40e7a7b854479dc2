"""`python -m workers`: what `pare-server worker` becomes."""

import sys

from workers.main import main

sys.exit(main())
