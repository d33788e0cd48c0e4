"""asyncio with streams."""

import asyncio
import contextlib

from .exchange import BACKLOG, CHUNK, GREETING, Lines, listener


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client."""
    lines = Lines()
    writer.write(GREETING)
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            writer.write(lines.receive_data(data))
            await writer.drain()
        writer.write(lines.receive_eof())
    writer.close()


async def main() -> None:
    """Serve until the process is killed."""
    server = await asyncio.start_server(serve, sock=listener(), backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
