"""A WebSocket server, and a client that speaks with it.

    websocket.py serve PORT
    websocket.py talk URL MESSAGE...

The server echoes. The client prints one line of JSON: the answers, or {"status": N} where there
was no upgrade.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidStatus


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def listen(port):
    async with serve(echo, "", int(port)) as server:
        print("ready", flush=True)
        await server.serve_forever()


async def talk(url, *messages):
    try:
        async with connect(url, open_timeout=20, proxy=None) as connection:
            answers = []
            for message in messages:
                await connection.send(message)
                answers.append(await connection.recv())
            return {"answers": answers}
    except InvalidStatus as refused:
        return {"status": refused.response.status_code}


def main(command, *arguments):
    if command == "serve":
        asyncio.run(listen(*arguments))
    else:
        print(json.dumps(asyncio.run(talk(*arguments))))


main(*sys.argv[1:])
