"""An MCP server that means harm, by its pipes: `python hostile_mcp.py MANNER`.

It needs no package: what it says is said byte by byte, as no SDK would.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MILLION = 1_000_000


def result(manner: str) -> dict[str, Any]:
    """Of a call."""
    match manner:
        case "parts":
            return {"content": [{"type": "text", "text": "x"}] * 60_000}
        case "pattern":
            return {"content": [text("ok")], "structuredContent": {"x": "a" * 40 + "!"}}
        case "half":
            return {"content": [text("a\ud800b")]}
    return {"content": [text("ok")]}


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def tools(manner: str) -> list[dict[str, Any]]:
    tool: dict[str, Any] = {"name": "do", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
    match manner:
        case "pattern":  # which Python's `re` needs 2 ** 40 steps to see that it does not match
            tool["outputSchema"] = {"properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}
        case "half":
            tool["description"] = "a\ud800b"
        case "deep":
            for _ in range(100):
                tool["inputSchema"] = {"type": "object", "properties": {"a": tool["inputSchema"]}}
        case "nonsense":
            tool["inputSchema"] = {"type": "object", "required": 5}
        case "odd":
            large = {"type": "object", "properties": {f"p{number}": {} for number in range(9_000)}}
            return [
                tool | {"name": "", "description": "nameless"},
                tool | {"name": "n" * MILLION},
                tool | {"name": "large", "inputSchema": large},
                tool,
            ]
    return [tool]


def main(manner: str) -> None:
    out = sys.stdout.buffer

    def send(message: dict[str, Any]) -> None:
        out.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        out.flush()

    def pour(id: int) -> None:
        """A line of 600 MB."""
        out.write(b'{"jsonrpc": "2.0", "id": %d, "result": {"x": "' % id)
        for _ in range(600):
            out.write(b"x" * MILLION)
        out.write(b'"}}\n')
        out.flush()

    for line in sys.stdin:
        asked = json.loads(line)
        id, method = asked.get("id"), asked["method"]
        if id is None or (method, manner) == ("tools/call", "silent"):
            continue
        if (method, manner) in {("tools/list", "list"), ("tools/call", "answer")}:
            pour(id)
        elif method == "initialize":
            about = {"serverInfo": {"name": "hostile", "version": "1"}, "capabilities": {"tools": {}}}
            send({"id": id, "result": {"protocolVersion": "2025-06-18", **about}})
        elif method == "tools/list":
            more = {"nextCursor": asked.get("params", {}).get("cursor", "") + "x"} if manner == "pages" else {}
            send({"id": id, "result": {"tools": tools(manner), **more}})
        elif method == "tools/call":
            if manner == "bytes":
                out.write(b"\xff\xfe\xff\n")
            send({"id": id, "result": result(manner)})
            while manner == "chatter":
                send({"method": "notifications/message", "params": {"level": "info", "data": "x" * 1000}})
        else:
            send({"id": id, "error": {"code": -32601, "message": "There is no such method."}})


if __name__ == "__main__":
    main(sys.argv[1])
