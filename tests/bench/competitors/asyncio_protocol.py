"""asyncio with transports and protocols."""

import asyncio

from .exchange import BACKLOG, GREETING, Lines, listener


class Exchange(asyncio.Protocol):
    """The exchange with one client."""

    __slots__ = ("_lines", "_transport")

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self._lines = Lines()
        transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._lines.receive_data(data))

    def eof_received(self) -> None:
        self._transport.write(self._lines.receive_eof())


async def main() -> None:
    """Serve until the process is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Exchange, sock=listener(), backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
