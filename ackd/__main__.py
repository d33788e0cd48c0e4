"""`python3 -m ackd` is the daemon."""

import sys

from ackd.daemon import main

sys.exit(main())
