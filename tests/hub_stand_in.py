"""The part of a Hugging Face hub's HTTP interface that pushing and pulling files needs, in memory."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """Repositories by name: name of a file -> bytes; with it whether all can read them, and the commits'
    number.

    Large files (.safetensors) are uploaded by LFS, as the hub asks for.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[str] = []
        self.large: dict[str, bytes] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"


def _sha(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, hub = self.path.split("?")[0], self.server
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":  # of the card
            header = json.loads(body)["content"].split("---")[1]
            if "library_name: vindr_det" not in header:
                return self.answer({"errors": [{"message": "no such library"}], "warnings": []}, 400)
            return self.answer({"errors": [], "warnings": []})
        if match := re.fullmatch(r"/api/models/(.+)/preupload/.+", path):
            files = [{"path": file["path"], "shouldIgnore": False,
                      "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
                     for file in json.loads(body)["files"]]
            return self.answer({"files": files})
        if match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            return self.answer({"transfer": "basic", "objects": [
                {**wanted, "actions": {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]]})
        if match := re.fullmatch(r"/api/models/(.+)/commit/.+", path):
            for line in map(json.loads, body.decode().splitlines()):
                self.commit(match[1], line["key"], line["value"])
            hub.commits.append(match[1])
            return self.answer({"commitUrl": f"{hub.url}/{match[1]}/commit/{_sha(match[1])}",
                                "commitOid": _sha(match[1])})
        return self.answer({"error": f"no such address: {path}"}, 404)

    def create(self, wanted: dict) -> None:
        name = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
        hub = self.server
        if self.headers.get("Authorization") != "Bearer right":
            return self.answer({"error": "Invalid credentials"}, 401)
        if name in hub.repositories:
            return self.answer({"error": "it is there already", "url": f"{hub.url}/{name}"}, 409)
        hub.repositories[name] = {}
        hub.private[name] = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        return self.answer({"url": f"{hub.url}/{name}", "id": name})

    def commit(self, repository: str, key: str, value: dict) -> None:
        files = self.server.repositories[repository]
        if key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = self.server.large[value["oid"]]

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.large[hashlib.sha256(data).hexdigest()] = data
        self.answer({})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, hub = self.path.split("?")[0], self.server
        match = (re.fullmatch(r"/api/models/([^/]+/[^/]+)(/tree/.+|/revision/.+)?", path)
                 or re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path))
        if match is None or match[1] not in hub.repositories:
            return self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = hub.repositories[match[1]]
        if not path.startswith("/api/"):
            return self.file(match[1], files, match[2])
        if (match[2] or "").startswith("/tree/"):
            return self.answer([{"type": "file", "path": name, "size": len(data), "oid": _sha(name)}
                                for name, data in files.items()])
        return self.answer({"id": match[1], "sha": _sha(match[1]), "siblings": [
            {"rfilename": name} for name in files]})

    def file(self, repository: str, files: dict[str, bytes], name: str) -> None:
        if name not in files:
            return self.answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        return self.send(files[name], 200, {"ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"',
                                            "X-Repo-Commit": _sha(repository)})

    def answer(self, value, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
