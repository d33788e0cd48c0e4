"""The protocol of `asyncio_protocol` on the event loop of uvloop."""

import uvloop

from .asyncio_protocol import main

if __name__ == "__main__":
    uvloop.run(main())
