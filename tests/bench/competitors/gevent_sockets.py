"""gevent: a greenlet for each client, with calls that block only the greenlet."""

from gevent import monkey

monkey.patch_all()

from gevent.server import StreamServer  # noqa: E402

from .exchange import listener, serve  # noqa: E402

if __name__ == "__main__":
    StreamServer(listener(), lambda client, _: serve(client)).serve_forever()
