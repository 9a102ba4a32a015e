"""An MCP server of 2026-07-28 over standard input and output, which its first argument may make an older one."""
import json, os, sys, threading, time

mode = sys.argv[1]
lock = threading.Lock()
calls = [0]
KEY = "io.modelcontextprotocol/"


def send(message):
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def log(text):
    print(text, file=sys.stderr, flush=True)


def discover():
    return {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": True}},
            "instructions": "with " + os.environ.get("KEY", ""), "ttlMs": 1, "cacheScope": "private"}


def call(id, params):
    name, meta = params["name"], params["_meta"]
    if name == "count":
        calls[0] += 1
        send({"id": id, "result": {"calls": calls[0], "client": meta[KEY + "clientCapabilities"]}})
    elif name == "log":
        send({"method": "notifications/message", "params": {"level": "info", "data": 1.0}})
        send({"id": id, "result": {}})
    elif name == "ask":
        send({"id": "mine", "method": "roots/list"})
    elif name == "changed":
        for subscription in list(subscriptions):
            notify(subscription, "notifications/tools/list_changed")
        send({"id": id, "result": {}})
    elif name == "end":
        for subscription in list(subscriptions):
            send({"id": subscription, "result": {"_meta": {KEY + "subscriptionId": subscription}, "n": 1.0}})
        send({"id": id, "result": {}})
    elif name == "exit":
        os._exit(3)
    elif name == "wait":
        log("waiting")


def notify(subscription, method):
    send({"method": method, "params": {"n": 1.0, "_meta": {KEY + "subscriptionId": subscription}}})


subscriptions = []
log("starting")
if mode == "slow":
    while not os.path.exists("go"):
        time.sleep(0.005)
for line in iter(sys.stdin.readline, ""):
    message = json.loads(line)
    method, id, params = message.get("method"), message.get("id"), message.get("params")
    log("got %s" % method)
    if mode == "dies" and method == "server/discover":
        sys.exit(9)
    elif mode in ("dies", "deaf"):
        if method == "initialize":
            send({"id": id, "result": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "m", "version": "1"}}})
        elif method == "tools/call":
            send({"id": id, "result": {}})
    elif method == "server/discover":
        send({"id": id, "result": discover()})
    elif method == "initialize":
        send({"id": id, "error": {"code": -32022, "message": "unsupported"}})
    elif method == "subscriptions/listen":
        subscriptions.append(id)
        notify(id, "notifications/subscriptions/acknowledged")
    elif method == "notifications/cancelled":
        log("cancelled")
        if params["requestId"] in subscriptions:
            subscriptions.remove(params["requestId"])
    elif method == "tools/call":
        call(id, params)
    elif method is None:
        log("answered %s" % line)
