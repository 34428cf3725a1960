"""An HTTP/1.1 server on raw sockets, one thread a connection, that records all.

Raw, because what it serves is meant to be wrong where a test wants it wrong: no
library stands between a fault and the wire.
"""

import collections
import socket
import ssl
import struct
import threading

LIMIT = 1 << 16


class Gone(Exception):
    """The connection is at its end, whoever ended it."""


class Request:
    """One request. target as sent; headers: list of (name, value) as sent."""

    def __init__(self, method, target, headers, body, connection):
        self.method, self.target, self.body = method, target, body
        self.headers = headers
        self.connection = connection.serial
        self.number = connection.served
        self.server_name = connection.server_name
        self.peer = connection.peer
        self.is_tls = connection.is_tls
        self.path, self.mark, self.query = target.partition("?")
        self.fault = None

    def header(self, name, otherwise=None):
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return otherwise

    def __repr__(self):
        return "<%s %s %s>" % (self.method, self.target, self.fault or "")


class Connection:
    """One accepted connection: counted bytes, whole requests, raw answers."""

    def __init__(self, server, sock, peer, serial):
        self.server, self.sock, self.peer, self.serial = server, sock, peer, serial
        self.raw = sock
        self.server_name = None
        self.is_tls = False
        self.served = 0
        self.sent = 0
        self.buffer = b""

    def secure(self, context):
        self.sock = context.wrap_socket(self.sock, server_side=True,
                                        suppress_ragged_eofs=True)
        self.is_tls = True
        self.server_name = getattr(self.sock, "lab_name", None)

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (OSError, ValueError) as error:
            raise Gone from error
        self.sent += len(data)

    def fill(self):
        try:
            more = self.sock.recv(LIMIT)
        except (OSError, ValueError) as error:
            raise Gone from error
        if not more:
            raise Gone
        self.buffer += more

    def read_request(self):
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > LIMIT:
                raise Gone
            self.fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3:
            raise Gone
        headers = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        self.served += 1
        lower = {k.lower(): v for k, v in headers}
        need = int(lower.get("content-length", "0"))
        while len(self.buffer) < need:
            self.fill()
        body, self.buffer = self.buffer[:need], self.buffer[need:]
        return Request(words[0], words[1], headers, body, self)

    def abort(self):
        """RST instead of FIN: what was not yet read is lost to the client."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))
        raise Gone

    def wait_for_peer(self):
        """Say nothing more, until the client or the test gives up."""
        while True:
            self.buffer = b""
            self.fill()

    def close(self):
        for sock in {self.sock, self.raw}:
            try:
                sock.close()
            except OSError:
                pass


class Server:
    """Subclass and give respond(connection, request) -> keep the connection?

    tls        pki.Cert, or None for plain HTTP
    client_ca  file: a client certificate is asked for (and, required=True, needed)
    """

    def __init__(self, tls=None, client_ca=None, required=False,
                 address="127.0.0.1", port=0):
        self.requests = []
        self.connections = 0
        self.bytes_sent = collections.Counter()   # by connection serial
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.open = {}
        self.context = self._context(tls, client_ca, required) if tls else None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(128)
        self.address, self.port = address, self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @staticmethod
    def _context(tls, client_ca, required):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.chain, tls.key)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = (ssl.CERT_REQUIRED if required
                                   else ssl.CERT_OPTIONAL)

        def note_name(sock, name, _):
            sock.lab_name = name
        context.sni_callback = note_name
        return context

    # -- what a subclass may change ------------------------------------------

    def greet(self, connection):
        """Before a byte is read; the TLS handshake happens here."""
        if self.context:
            connection.secure(self.context)

    def respond(self, connection, request):
        raise NotImplementedError

    # -- the loop ------------------------------------------------------------

    def _accept(self):
        while not self.stopping.is_set():
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            # An answer is many small writes here; none may wait for an ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections += 1
                connection = Connection(self, sock, peer, self.connections)
                self.open[connection.serial] = connection
            threading.Thread(target=self._serve, args=(connection,),
                             daemon=True).start()

    def _serve(self, connection):
        try:
            self.greet(connection)
            while not self.stopping.is_set():
                request = connection.read_request()
                with self.lock:
                    self.requests.append(request)
                if not self.respond(connection, request):
                    break
        except (Gone, OSError, ValueError):
            pass
        finally:
            connection.close()
            with self.lock:
                self.bytes_sent[connection.serial] = connection.sent
                self.open.pop(connection.serial, None)

    def pause(self, seconds):
        """Wait, but not longer than the server lives."""
        if self.stopping.wait(seconds):
            raise Gone

    def stop(self):
        self.stopping.set()
        with self.lock:
            connections = list(self.open.values())
        for sock in [self.listener] + [c.raw for c in connections]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.listener.close()

    # -- what a test asks ----------------------------------------------------

    def asked(self, method=None, contains=""):
        with self.lock:
            return [r for r in self.requests
                    if method in (None, r.method) and contains in r.target]

    def saw_header(self, text):
        """Requests with `text` anywhere in a header, in the URL or the body:
        none may be found with a secret that was meant for another host."""
        with self.lock:
            return [r for r in self.requests if text in r.target
                    or text.encode() in r.body
                    or any(text in k + ": " + v for k, v in r.headers)]
