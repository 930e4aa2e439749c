"""server.py NAME ADDRESS PORT: a WebSocket server that echoes messages and obeys some."""

import asyncio
import sys

import websockets


async def serve_one(socket):
    try:
        async for message in socket:
            if message == "who":
                await socket.send(f"{NAME} {socket.request_headers.get('X-Forwarded-For')}")
            elif message == "ping":
                await (await socket.ping("from the server"))
                await socket.send("pong")
            elif isinstance(message, str) and message.startswith("close "):
                _, code, reason = message.split(" ", 2)
                await socket.close(int(code), reason)
            else:
                await socket.send(message)
    finally:
        print(f"closed {socket.close_code} {socket.close_reason}", flush=True)


async def main(address, port):
    # No pings but those that are asked for: they would keep idle tunnels open.
    options = {"subprotocols": ["chat"], "max_size": None, "ping_interval": None}
    async with websockets.serve(serve_one, address, port, **options):
        print("listening", flush=True)
        await asyncio.Future()


NAME = sys.argv[1]
asyncio.run(main(sys.argv[2], int(sys.argv[3])))
