"""`python3 -m ackd.ctl` is ackctl."""

import sys

from ackd.ctl import main

sys.exit(main())
