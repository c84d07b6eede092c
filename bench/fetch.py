"""A client that only takes bytes, many connections at once; and nginx on a folder, to compare with."""

from __future__ import annotations

import selectors
import shutil
import socket
import subprocess
import time
from pathlib import Path

_BUFFER_BYTES = 1 << 20


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def drain(port: int, path: str, clients: int) -> int:
    """GET `path` over `clients` connections at once, to their ends; bytes received, heads included."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(request)
        one.setblocking(False)
        selector.register(one, selectors.EVENT_READ)
    buffer, total = bytearray(_BUFFER_BYTES), 0
    while selector.get_map():
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            count = key.fileobj.recv_into(buffer)
            total += count
            if not count:
                selector.unregister(key.fileobj)
                key.fileobj.close()
    return total


class Nginx:
    """nginx on a folder, one process."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        conf = folder / "nginx.conf"
        conf.write_text(
            f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {folder}/t1;\n"
            f"proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;\n"
            f"scgi_temp_path {folder}/t5; server {{ listen 127.0.0.1:{self.port}; root {folder}; }} }}\n"
        )
        self.process = subprocess.Popen([str(shutil.which("nginx")), "-c", str(conf)], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("nginx does not answer")

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(10)


def installed() -> bool:
    """nginx is here."""
    return shutil.which("nginx") is not None
