"""An MCP server that misbehaves as its first argument says."""
import json, os, signal, subprocess, sys, threading, time

mode = sys.argv[1] if len(sys.argv) > 1 else "good"
lock = threading.Lock()
cancelled = {}
meetings = {}
counted = [0]


def send(message):
    with lock:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def log(text):
    with lock:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def answer(id, result):
    send({"jsonrpc": "2.0", "id": id, "result": result})


def call(message):
    id, params = message["id"], message.get("params", {})
    name, arguments = params.get("name"), params.get("arguments", {})
    if name == "echo":
        answer(id, {"echo": arguments, "id": id, "_meta": {"kept": True}})
    elif name == "count":
        with lock:
            counted[0] += 1
        answer(id, {"calls": counted[0], "pid": os.getpid()})
    elif name == "slow":
        log("sleeping")
        time.sleep(arguments["seconds"])
        answer(id, {"slept": arguments["seconds"]})
    elif name == "meet":
        # Answers once this number of calls has arrived.
        log("arrived")
        meetings.setdefault("all", threading.Barrier(arguments["calls"])).wait(60)
        answer(id, {"met": True})
    elif name == "progress":
        token = params["_meta"]["progressToken"]
        for i in range(3):
            send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": i}})
        answer(id, {"done": True})
    elif name == "flood":
        token = params["_meta"]["progressToken"]
        for size in [1] + [arguments["bytes"]] * arguments["count"]:
            send({"jsonrpc": "2.0", "method": "notifications/progress",
                  "params": {"progressToken": token, "progress": 1, "message": "x" * size}})
        log("flooded")
        answer(id, {})
    elif name == "wait":
        gone = cancelled.setdefault(id, threading.Event())
        log("waiting")
        if gone.wait(30):
            log("cancelled")
    elif name == "changed":
        send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        answer(id, {})
    elif name == "ask":
        asked[arguments.get("as", "mine")] = id
        send({"jsonrpc": "2.0", "id": arguments.get("as", "mine"), "method": arguments["method"], "params": {"n": 1.0}})
    elif name == "send":
        send(arguments["message"])
        answer(id, {})
    elif name == "finish":
        answer(awaited.pop(arguments["task"]), {"finished": True})
        answer(id, {})
    elif name == "exit":
        os._exit(arguments.get("code", 3))
    elif name == "signal":
        os.kill(os.getpid(), arguments["signal"])
    elif name == "never":
        pass
    elif name == "raw":
        with lock:
            sys.stdout.buffer.write((arguments["text"].replace("ID", str(id)).replace("LONG", "x" * 150_000) + arguments.get("end", "\n")).encode(arguments.get("encoding", "utf-8")))
            sys.stdout.flush()
    elif name == "large":
        answer(id, {"text": "x" * arguments["bytes"]})
    elif name == "environment":
        answer(id, dict(os.environ))
    elif name == "noise":
        stream = getattr(sys, arguments["stream"])
        for i in range(arguments["lines"]):
            with lock:
                stream.write("noise %d\n" % i)
        stream.flush()
        answer(id, {})
    elif name == "say":
        print(arguments["text"], file=sys.stderr, flush=True)
        answer(id, {})
    elif name == "read":
        with open(arguments["path"]) as f:
            answer(id, {"text": f.read(), "mode": oct(os.stat(arguments["path"]).st_mode & 0o777)})


def take_turn():
    """Waits until the test allows one more process to start, by a file in the folder `turns`."""
    while True:
        for name in os.listdir("turns"):
            try:
                return os.unlink(os.path.join("turns", name))
            except FileNotFoundError:
                pass
        time.sleep(0.005)


# Calls that are answered with the client's answer, by the ids of the requests.
asked = {}
# Requests for the results of tasks, by their ids.
awaited = {}
if mode == "gated":
    log("starting")
    take_turn()
if mode == "exit" or mode == "breakable" and os.path.exists("broken"):
    print("no configuration found", file=sys.stderr, flush=True)
    sys.exit(7)
if mode == "garbage":
    for i in range(5000):
        print("this is no JSON", i, flush=True)
    time.sleep(60)
if mode == "banner":
    print("Welcome!", flush=True)
    time.sleep(60)
if mode == "chatty":
    print("Server starting…", flush=True)
    print("[1, 2]", flush=True)
if mode == "silent":
    print("I never answer", file=sys.stderr, flush=True)
    time.sleep(600)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, lambda *_: log("SIGTERM ignored"))
if mode in ("family", "stubborn"):
    # A grandchild in a session of its own, whose parent has ended.
    script = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready, tell = os.pipe()
if os.fork():
    os.read(ready, 1)
    os._exit(0)
os.setsid()
os.write(tell, b"1")
time.sleep(600)
"""
    subprocess.run([sys.executable, "-c", script])

for line in iter(sys.stdin.readline, ""):
    message = json.loads(line)
    method = message.get("method")
    if method == "initialize":
        print("initialize", json.dumps(message["params"]), file=sys.stderr, flush=True)
        version = "2024-11-05" if mode == "old" else message["params"].get("protocolVersion", "2025-11-25")
        answer(message["id"], {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}, "unknown": {"n": 1.0}},
                               "serverInfo": {"name": "fixture", "version": "1"}, "instructions": "kept"})
    elif method == "tasks/result":
        awaited[message["params"]["taskId"]] = message["id"]
        log("awaited " + message["params"]["taskId"])
    elif method == "tools/call":
        threading.Thread(target=call, args=(message,), daemon=True).start()
    elif method == "prompts/list":
        answer(message["id"], {"prompts": [{"name": "greet", "description": "with " + os.environ.get("KEY", "")}]})
    elif method == "notifications/cancelled":
        cancelled.setdefault(message["params"]["requestId"], threading.Event()).set()
    elif method is None and message.get("id") in asked:
        if "error" in message:
            log("refused %s" % message["id"])
        answer(asked.pop(message["id"]), message)
    elif method is None:
        log("answered again: %s" % json.dumps(message))
    elif method.startswith("notifications/"):
        log("%s %s" % (method, json.dumps(message.get("params"))))
    elif "id" in message:
        answer(message["id"], {"method": method})
if mode == "stubborn":
    while True:
        time.sleep(60)
