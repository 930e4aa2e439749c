"""client.py SCENARIO URL ADDRESS PORT [CA]: a WebSocket client; it says what comes of SCENARIO, and fails where that is wrong."""

import asyncio
import ssl
import sys

import websockets
from websockets.exceptions import ConnectionClosed

SIZES = [0, 1, 125, 126, 16_384, 65_535, 65_536, 1_048_576, 8 * 1_048_576]


def say(text):
    print(text, flush=True)


async def echo(connect):
    """Messages of all sizes come back, with compression and without."""
    for compression in ["deflate", None]:
        async with connect(compression=compression, subprotocols=["other", "chat"]) as socket:
            assert socket.subprotocol == "chat", socket.subprotocol
            assert bool(socket.extensions) == bool(compression), socket.extensions
            for size in SIZES:
                octets = bytes((at * 2654435761 >> 13) & 0xFF for at in range(min(size, 4096)))
                octets = (octets * (size // 4096 + 1))[:size]
                for message in [octets, "ü" * (size // 2)]:
                    await socket.send(message)
                    assert await socket.recv() == message, size


async def many(connect):
    """Messages under way both ways at one time keep their order."""
    async with connect() as socket:
        sending = asyncio.create_task(send_numbers(socket))
        for number in range(2000):
            assert await socket.recv() == f"{number} " + "x" * (number * 7 % 3000)
        await sending


async def send_numbers(socket):
    for number in range(2000):
        await socket.send(f"{number} " + "x" * (number * 7 % 3000))


async def ping(connect):
    """Pings are answered from either side."""
    async with connect() as socket:
        await (await socket.ping("from the client"))
        await socket.send("ping")
        assert await socket.recv() == "pong"


async def codes(connect):
    """The codes and reasons with which the server closes arrive."""
    for code, reason in [(1000, "over"), (1001, "away"), (1008, "not you"), (1011, ""), (3000, "x" * 100), (4999, "own")]:
        async with connect() as socket:
            await socket.send(f"close {code} {reason}")
            await expect_close(socket, code, reason)
    async with connect() as socket:
        await socket.close(4002, "bye")


async def expect_close(socket, code, reason):
    try:
        message = await socket.recv()
    except ConnectionClosed as closed:
        assert (closed.rcvd.code, closed.rcvd.reason) == (code, reason), closed
    else:
        raise AssertionError(message)


async def chat(connect):
    """Echoes until it is cut off."""
    async with connect() as socket:
        await socket.send("who")
        say(f"with {await socket.recv()}")
        try:
            for number in range(10_000):
                await socket.send(f"{number}")
                assert await socket.recv() == f"{number}"
                say(f"echo {number}")
                await asyncio.sleep(0.02)
        except ConnectionClosed:
            say(f"closed {socket.close_code}")


async def idle(connect):
    """Pings for a while, then says nothing until it is cut off."""
    async with connect() as socket:
        for _ in range(30):
            await (await socket.ping())
            await asyncio.sleep(0.1)
        say("silent")
        await socket.wait_closed()
        say(f"closed {socket.close_code}")


async def main(scenario, url, address, port, authority=None):
    tls = {}
    if authority:
        tls = {"ssl": ssl.create_default_context(cafile=authority), "server_hostname": "www.gslb.test"}

    def connect(**options):
        # Whoever waits for longer waits for what does not come.
        return websockets.connect(
            url, host=address, port=int(port), max_size=None, ping_interval=None, close_timeout=20, **tls, **options
        )

    await asyncio.wait_for(scenario(connect), 60)
    say("held")


SCENARIOS = [echo, many, ping, codes, chat, idle]
asyncio.run(main(next(one for one in SCENARIOS if one.__name__ == sys.argv[1]), *sys.argv[2:]))
