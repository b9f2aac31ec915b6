"""A server in a process of its own, to freeze or kill."""

SERVER = """
import asyncio, sys
from lab.transport import listen, new_server

async def main():
    server, _ = new_server()
    port = listen(server, f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
"""For ``python -c``, with a port, 0 for a free one; prints the port once it serves."""
