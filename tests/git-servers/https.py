"""A git server over https for tests: git's own http-backend behind TLS, with a token.

    https.py FOLDER CERTIFICATE KEY TOKEN LOG

Serves the repositories of FOLDER on a free port of this machine, and prints the port once it listens. The first part of
the path says how the server behaves:

    /token/REPO      asks for TOKEN as the password of basic authentication
    /open/REPO       asks for nothing
    /silent/REPO     takes the request and never answers
    /slow/REPO       answers the first request, and is silent in the one that carries the objects
    /lost/REPO       takes a push, and hangs up instead of saying so
    /readonly/REPO   forbids every push
    /moved/HOST:PORT/REPO   redirects to https://HOST:PORT/REPO

Each request is a line in LOG: method, path, and the password that came with it (- without one).
"""

import base64
import gzip
import http.server
import os
import ssl
import subprocess
import sys
import threading

FOLDER, CERTIFICATE, KEY, TOKEN, LOG = sys.argv[1:]
FOREVER = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.serve(b"")

    def do_POST(self):
        self.serve(self.body())

    def serve(self, body):
        password = self.password()
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {password or '-'}\n")
        path, _, query = self.path.partition("?")
        _, behaviour, *rest = path.split("/")
        if behaviour == "token" and password != TOKEN:
            return self.answer(401, {"WWW-Authenticate": 'Basic realm="drover tests"'}, b"")
        if behaviour == "silent" or (behaviour == "slow" and self.command == "POST"):
            FOREVER.wait()
        if behaviour == "readonly" and "git-receive-pack" in self.path:
            return self.answer(403, {}, b"")
        if behaviour == "moved":
            to = f"https://{rest[0]}/{'/'.join(rest[1:])}" + (f"?{query}" if query else "")
            return self.answer(302, {"Location": to}, b"")
        self.backend("/" + "/".join(rest), query, body, behaviour == "lost" and path.endswith("/git-receive-pack"))

    def backend(self, path, query, body, lost=False):
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": FOLDER,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": FOLDER,
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
        }
        ran = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        if lost:
            self.close_connection = True
            return
        head, _, content = ran.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        self.answer(status, headers, content)

    def answer(self, status, headers, content):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def password(self):
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(value).decode().partition(":")[2] if scheme.lower() == "basic" else ""

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        else:
            body = b""
            while size := int(self.rfile.readline().strip(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that hangs up is what some tests are about

    def finish_request(self, request, client_address):  # in the thread of the connection, so that no client blocks another
        super().finish_request(context.wrap_socket(request, server_side=True), client_address)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
