"""A WebSocket server of plain sockets, in a process of its own: it sends what it is told to.

``python sender.py SCENARIO SCALE RECORDINGS`` prints its port, the number of messages, their bytes
and the sum that is expected, as JSON. Each client says ``go`` in a message; then it gets all
messages at once or, under the path ``/pace/RATE/SECONDS``, ticks at that rate, each with the time
of its sending. It ends when its standard input does.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path

from scenarios import TICK_BYTES, expected, frame, messages_of, tick

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def main() -> None:
    scenario, scale, recordings = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    messages = messages_of(scenario, scale, recordings)
    blob = b"".join(frame(message) for message in messages)
    listener = socket.create_server(("127.0.0.1", 0))
    about = {
        "port": listener.getsockname()[1],
        "count": len(messages),
        "bytes": sum(map(len, messages)),
        "expected": expected(scenario, messages),
    }
    print(json.dumps(about), flush=True)
    threading.Thread(target=_serve, args=(listener, blob), daemon=True).start()
    sys.stdin.read()


def _serve(listener: socket.socket, blob: bytes) -> None:
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, contextlib.suppress(ConnectionError):
            _talk(client, blob)


def _talk(client: socket.socket, blob: bytes) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        data = client.recv(65_536)
        if not data:
            return
        request += data
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())  # noqa: S324  # RFC 6455 says so
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    client.recv(65_536)  # go
    pace = re.match(rb"GET /pace/([0-9]+)/([0-9.]+)", request)
    if pace:
        _send_paced(client, int(pace[1]), float(pace[2]))
    else:
        client.sendall(blob)
    client.recv(65_536)  # a Close frame, or the end: nobody has to wait for an answer


def _send_paced(client: socket.socket, rate: int, seconds: float) -> None:
    """Ticks one by one, each at its time; waiting is busy, because a sleep is not that exact."""
    interval_ns = 1_000_000_000 // rate
    due = time.monotonic_ns()
    for sequence in range(int(rate * seconds)):
        while (left := due - time.monotonic_ns()) > 0:
            if left > 2_000_000:
                time.sleep((left - 1_000_000) / 1e9)
        message = tick(
            sequence=sequence, cents=6_508_367, size=5, side="buy", time_ns=time.time_ns()
        )
        assert len(message) == TICK_BYTES
        client.sendall(frame(message))
        due += interval_ns


if __name__ == "__main__":
    main()
