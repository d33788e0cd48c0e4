"""`python3 -m ackd.ctl` is ackctl."""

import sys

from ackd.ctl.main import main

sys.exit(main())
