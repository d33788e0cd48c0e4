"""`python3 -m ackd` runs the daemon."""

import sys

from ackd.service.main import main

sys.exit(main())
