"""A thread for each client."""

from threading import Thread

from .exchange import listener, serve

if __name__ == "__main__":
    with listener() as opened:
        while True:
            client, _ = opened.accept()
            Thread(target=serve, args=(client,), daemon=True).start()
