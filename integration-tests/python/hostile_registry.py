"""A registry of npm and PyPI whose packages try to run code while they are fetched. Prints its port; returns the requested paths at /asked."""
import base64, gzip, hashlib, http.server, io, json, tarfile, zipfile

SERVER = """
import json, sys
def main():
    for line in sys.stdin:
        message = json.loads(line)
        result = {"tools": [{"name": "nothing", "inputSchema": {"type": "object"}}]}
        if message["method"] == "initialize":
            version = message["params"]["protocolVersion"]
            result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
        if "id" in message:
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


def wheel():
    """A package with a .pth file, which every interpreter of its environment runs at its start."""
    files = {
        "hostile_wheel.py": SERVER,
        "hostile.pth": "import os; open('pth-ran', 'a').close()\n",
        "hostile_wheel-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: hostile-wheel\nVersion: 1.0\n",
        "hostile_wheel-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "hostile_wheel-1.0.dist-info/entry_points.txt": "[console_scripts]\nhostile-wheel = hostile_wheel:main\n",
    }
    record, content = "", io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
        archive.writestr("hostile_wheel-1.0.dist-info/RECORD", record + "hostile_wheel-1.0.dist-info/RECORD,,\n")
    return content.getvalue()


def package(files):
    content = io.BytesIO()
    # Without a time of compression, so that each response is the same.
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0) as compressed, tarfile.open(fileobj=compressed, mode="w") as archive:
        for name, document in files.items():
            text = json.dumps(document).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return content.getvalue()


def packages(here):
    """Two packages that depend on a git repository: one in its metadata, the other in its own lock file."""
    git = f"git+{here}/dependency.git"
    plain = {"name": "hostile-package", "version": "1.0.0", "dependencies": {"dependency": git}}
    locked = {"name": "hostile-locked", "version": "1.0.0", "dependencies": {"dependency": "1.0.0"}}
    inner = {"version": "1.0.0", "resolved": f"{git}#{'0' * 40}"}
    lock = {"name": "hostile-locked", "version": "1.0.0", "lockfileVersion": 3, "requires": True}
    lock["packages"] = {"": locked, "node_modules/dependency": inner}
    return {
        "hostile-package": (plain, package({"package.json": plain})),
        "hostile-locked": (
            {**locked, "_hasShrinkwrap": True},
            package({"package.json": locked, "npm-shrinkwrap.json": lock}),
        ),
    }


class Registry(http.server.BaseHTTPRequestHandler):
    asked = []

    def do_GET(self):
        here = f"http://127.0.0.1:{self.server.server_port}"
        known = packages(here)
        name = self.path[1:].removesuffix(".tgz")
        kind, content = "application/octet-stream", b""
        if self.path == "/asked":
            content = json.dumps(self.asked).encode()
        elif self.path == "/simple/hostile-wheel/":
            digest = hashlib.sha256(WHEEL).hexdigest()
            file = "hostile_wheel-1.0-py3-none-any.whl"
            kind, content = "text/html", f'<a href="/{file}#sha256={digest}">{file}</a>'.encode()
        elif self.path.endswith(".whl"):
            content = WHEEL
        elif name in known:
            manifest, content = known[name]
            if self.path == f"/{name}":
                integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
                version = {**manifest, "dist": {"tarball": f"{here}/{name}.tgz", "integrity": integrity}}
                document = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
                kind, content = "application/json", json.dumps(document).encode()
        self.asked.append(self.path)
        self.send_response(200 if content else 404)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if self.command == "GET" else b"")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


WHEEL = wheel()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
print(server.server_port, flush=True)
server.serve_forever()
