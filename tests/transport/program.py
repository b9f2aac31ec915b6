"""A server as a process of its own, which can be frozen and killed."""

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
"""``python -c`` it with a port, 0 for any; prints which it is once it serves."""
