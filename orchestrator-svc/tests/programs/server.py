"""A well-behaved MCP server whose only tool answers with its environment, arguments and folder."""
import json, os, sys, time

# Tells processes apart: each is the second in a namespace of its own.
STARTED = time.monotonic_ns()

print("started with", os.environ.get("TOKEN", "nothing"), file=sys.stderr, flush=True)
if "--fail" in sys.argv or os.path.exists("broken"):
    print("cannot reach the database", file=sys.stderr, flush=True)
    sys.exit(4)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
    else:
        written = ""
        try:
            path = (message.get("params") or {}).get("arguments", {}).get("write")
            if path:
                open(path, "a").close()
        except OSError as error:
            written = str(error)
        read = ""
        try:
            path = (message.get("params") or {}).get("arguments", {}).get("read")
            if path:
                read = open(path).read()
        except OSError:
            pass
        time.sleep(((message.get("params") or {}).get("arguments") or {}).get("sleep", 0))
        result = {"written": written, "read": read, "environment": dict(os.environ), "arguments": sys.argv[1:], "folder": os.getcwd(), "started": STARTED}
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
if "--linger" in sys.argv:
    # Until somebody writes to this pipe, if there is one.
    open(sys.argv[sys.argv.index("--linger") + 1]).read()
