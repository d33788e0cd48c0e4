"""The protocol of asyncio's competitor, on uvloop's loop."""

import uvloop

from .asyncio_protocol import main

if __name__ == "__main__":
    uvloop.run(main())
