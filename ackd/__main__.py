"""`python3 -m ackd` is the daemon."""

import sys

from ackd.service.main import main

sys.exit(main())
