"""A registry of npm and PyPI whose packages would run code where they are fetched. Writes its port; answers /asked with what was asked for."""
import base64, hashlib, http.server, io, json, tarfile, zipfile

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
    """One with a .pth file, which every interpreter of its environment runs as it starts."""
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


def package(manifest):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        text = json.dumps(manifest).encode()
        member = tarfile.TarInfo("package/package.json")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return content.getvalue()


class Registry(http.server.BaseHTTPRequestHandler):
    asked = []

    def do_GET(self):
        here = f"http://127.0.0.1:{self.server.server_port}"
        manifest = {"name": "hostile-package", "version": "1.0.0", "dependencies": {"dependency": f"git+{here}/dependency.git"}}
        kind, content = "application/octet-stream", b""
        if self.path == "/asked":
            content = json.dumps(self.asked).encode()
        elif self.path == "/simple/hostile-wheel/":
            digest = hashlib.sha256(WHEEL).hexdigest()
            name = "hostile_wheel-1.0-py3-none-any.whl"
            kind, content = "text/html", f'<a href="/{name}#sha256={digest}">{name}</a>'.encode()
        elif self.path.endswith(".whl"):
            content = WHEEL
        elif self.path == "/hostile-package":
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(package(manifest)).digest()).decode()
            version = {**manifest, "dist": {"tarball": f"{here}/hostile-package.tgz", "integrity": integrity}}
            document = {"name": "hostile-package", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
            kind, content = "application/json", json.dumps(document).encode()
        elif self.path == "/hostile-package.tgz":
            content = package(manifest)
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
