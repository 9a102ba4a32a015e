"""Lists the tools of an MCP endpoint and calls one, with PyPI's `mcp`. Arguments: URL TOKEN MODE TOOL ARGUMENTS."""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main(url: str, token: str, mode: str, tool: str, arguments: str) -> None:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            tools = (await client.list_tools()).tools
            result = await client.call_tool(tool, json.loads(arguments))
            print(
                json.dumps(
                    {
                        "revision": str(client.protocol_version),
                        "tools": [each.name for each in tools],
                        "result": result.model_dump(mode="json", by_alias=True),
                    }
                )
            )


asyncio.run(main(*sys.argv[1:]))
