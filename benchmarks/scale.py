"""A thousand connections in one process: ``python benchmarks/scale.py [CONNECTIONS]``.

The server runs in a process of its own. Told are: the time until all are connected, the memory of
an idle connection, the processor's time while all are idle, and, when the server drops all of
them at once, the time until all are back and how the attempts were spread.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from feedhandler import BackoffConfig, ConnectionConfig, WebSocketClient
from feedhandler_testing import MockWebSocketServer

IDLE_S = 5.0
SLICE_S = 0.05


def resident_bytes() -> int:
    """The memory of this process, as the operating system counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def serve() -> None:
    """The server's process: prints its URL, and drops everybody for each line of input."""
    async with MockWebSocketServer(tcp=True) as server:
        print(server.url, flush=True)
        stdin = trio.wrap_file(sys.stdin)
        while await stdin.readline():
            for number in list(server.connections):
                server.simulate_drop(number)


async def connect_all(url: str, count: int, process: Any) -> dict[str, Any]:
    """Connect `count` clients, watch them idle, and have them all dropped at once."""
    config = ConnectionConfig(heartbeat_interval_s=20)
    backoff = BackoffConfig(base_s=0.5, max_retries=0)
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(WebSocketClient(url, config=config, backoff=backoff))
            for _ in range(count)
        ]
        empty = resident_bytes()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.connect)
        connected_s = trio.current_time() - began
        each = (resident_bytes() - empty) / count

        cpu, began = time.process_time(), trio.current_time()
        await trio.sleep(IDLE_S)
        idle_cpu = (time.process_time() - cpu) / (trio.current_time() - began)

        attempts: Counter[int] = Counter()
        back: list[float] = []
        began = trio.current_time()

        async def follow(client: WebSocketClient, steps: Any) -> None:
            async for step in steps:
                if step.next_attempt_at is not None:
                    attempts[int((step.next_attempt_at - began) / SLICE_S)] += 1
                if step.new.name == "CONNECTED":
                    back.append(step.at - began)
                    return

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(follow, client, client.transitions())
            process.stdin.write("drop\n")
            process.stdin.flush()
        back.sort()
        result = {
            "connections": count,
            "connect_all_s": round(connected_s, 3),
            "bytes_each": round(each),
            "idle_cpu_percent": round(idle_cpu * 100, 2),
            "recover_p50_s": round(back[len(back) // 2], 3),
            "recover_all_s": round(back[-1], 3),
            "attempts_most_in_50_ms": max(attempts.values()),
        }
        async with trio.open_nursery() as nursery:  # all at once, not one after the other
            for client in clients:
                nursery.start_soon(client.disconnect)
    return result


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.argv[1:] == ["serve"]:
        trio.run(serve)
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with subprocess.Popen(
        [sys.executable, __file__, "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            result = trio.run(connect_all, url, count, process)
        finally:
            process.kill()
    for name, value in result.items():
        print(f"{name:24} {value:>12,}")
    out = Path(__file__).resolve().parents[1] / "bench-results"
    out.mkdir(exist_ok=True)
    (out / "scale.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
