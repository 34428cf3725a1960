"""Real DNS servers (nsd, unbound, knot) from a list of records, and a small query.

Records are tuples (owner, type, data[, ttl]); names are absolute, with or without
the last dot. The zone of a record is the longest of `zones` that it lies under, or
else its last two labels, so that a chain of aliases crosses zones by itself.
"""

import os
import random
import socket
import struct

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "TXT": 16, "AAAA": 28, "ANY": 255}


# -- zone files --------------------------------------------------------------

def write_zones(folder, records, zones=()):
    """Write one file a zone; returns {apex: path}."""
    os.makedirs(folder, exist_ok=True)
    lines = {z.lower().rstrip("."): [] for z in zones}
    for record in records:
        owner, kind, data = record[:3]
        ttl = record[3] if len(record) > 3 else 60
        if kind in ("CNAME", "NS"):
            data = data.rstrip(".") + "."
        lines.setdefault(_zone_of(owner, lines, zones), []).append(
            "%s. %d IN %s %s" % (owner.rstrip("."), ttl, kind, data))
    paths = {}
    for apex, texts in lines.items():
        paths[apex or "."] = os.path.join(folder, (apex or "root") + ".zone")
        under = "." + apex + "." if apex else "."
        with open(paths[apex or "."], "w") as stream:
            stream.write("%s. 60 IN SOA ns%s admin%s 1 3600 600 86400 5\n"
                         "%s. 60 IN NS ns%s\nns%s 60 IN A 127.0.0.1\n"
                         % (apex, under, under, apex, under, under)
                         + "\n".join(texts) + "\n")
    return paths


def _zone_of(owner, known, zones):
    name = owner.lower().rstrip(".")
    fit = [z for z in known if z in [y.lower().rstrip(".") for y in zones]
           and (name == z or name.endswith("." + z))]
    return max(fit, key=len) if fit else ".".join(name.split(".")[-2:])


# -- servers -----------------------------------------------------------------

def nsd(parts, folder, records, zones=(), address="127.0.0.1"):
    """Authoritative; answers a chain over several of its zones in one answer."""
    # With a root zone a name of nobody is NXDOMAIN, as in the world, and unbound
    # (which insists on the root's NS records) can stand in front.
    files = write_zones(folder, records, [*zones, "."])

    def begin(port):
        conf = os.path.join(folder, "nsd.conf")
        with open(conf, "w") as stream:
            stream.write(
                "server:\n  ip-address: %s@%d\n  username: \"\"\n  chroot: \"\"\n"
                "  zonesdir: \"%s\"\n  database: \"\"\n  pidfile: \"%s/nsd.pid\"\n"
                "  xfrdfile: \"%s/xfrd.state\"\n  zonelistfile: \"%s/zone.list\"\n"
                "  logfile: \"\"\n  server-count: 1\n  rrl-ratelimit: 0\n"
                "remote-control:\n  control-enable: no\n"
                % ((address, port) + (folder,) * 4))
            for apex, path in files.items():
                stream.write("zone:\n  name: \"%s\"\n  zonefile: \"%s\"\n"
                             % (apex, path))
        apex = max(files, key=len)
        part = parts.start("nsd", ["/usr/sbin/nsd", "-d", "-c", conf],
                           os.path.join(folder, "nsd.log"),
                           probe=answers(address, port, apex, "SOA"),
                           address=address, port=port, folder=folder)
        part.zones = files
        return part

    return parts.start_on_free_port(begin, (address,), udp=True)


def knot(parts, folder, records, zones=(), address="127.0.0.1"):
    """Authoritative; answers an alias into another zone with the bare CNAME."""
    files = write_zones(folder, records, zones)

    def begin(port):
        conf = os.path.join(folder, "knot.conf")
        with open(conf, "w") as stream:
            stream.write(
                "server:\n  rundir: \"%s\"\n  listen: %s@%d\n"
                "  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n"
                "control:\n  listen: \"%s/knot.sock\"\n"
                "log:\n - target: stderr\n   any: info\n"
                "database:\n  storage: \"%s\"\nzone:\n"
                % (folder, address, port, folder, folder))
            for apex, path in files.items():
                stream.write(" - domain: \"%s\"\n   file: \"%s\"\n"
                             "   zonefile-sync: -1\n" % (apex, path))
        apex = next(iter(files))
        return parts.start("knot", ["/usr/sbin/knotd", "-c", conf],
                           os.path.join(folder, "knot.log"),
                           probe=answers(address, port, apex, "SOA"),
                           address=address, port=port, folder=folder)

    return parts.start_on_free_port(begin, (address,), udp=True)


def unbound(parts, folder, upstream, address="127.0.0.1", probe="."):
    """A resolver whose whole world is `upstream` ("127.0.0.1:PORT")."""
    os.makedirs(folder, exist_ok=True)
    host, upstream_port = str(upstream).rsplit(":", 1)

    def begin(port):
        conf = os.path.join(folder, "unbound.conf")
        with open(conf, "w") as stream:
            # Confined to loopback: nothing may ever be asked of the world.
            stream.write(
                "server:\n  interface: %s@%d\n  username: \"\"\n  chroot: \"\"\n"
                "  directory: \"%s\"\n  pidfile: \"%s/unbound.pid\"\n"
                "  use-syslog: no\n  logfile: \"\"\n  do-daemonize: no\n"
                "  outgoing-interface: 127.0.0.1\n  do-not-query-localhost: no\n"
                "  module-config: \"iterator\"\n  do-ip6: no\n  num-threads: 1\n"
                "  access-control: 127.0.0.0/8 allow\n  qname-minimisation: no\n"
                "  trust-anchor-signaling: no\n  root-key-sentinel: no\n"
                "  local-zone: \"test.\" nodefault\n"
                "  local-zone: \"invalid.\" nodefault\n"
                "remote-control:\n  control-enable: no\n"
                "stub-zone:\n  name: \".\"\n  stub-addr: %s@%s\n  stub-prime: no\n"
                % (address, port, folder, folder, host, upstream_port))
        return parts.start("unbound", ["/usr/sbin/unbound", "-d", "-c", conf],
                           os.path.join(folder, "unbound.log"),
                           probe=answers(address, port, probe, "SOA"),
                           address=address, port=port, folder=folder)

    return parts.start_on_free_port(begin, (address,), udp=True)


# -- a query of our own, for probes and tests --------------------------------

def encode_name(name):
    wire = b""
    for label in name.rstrip(".").split("."):
        raw = label.encode("idna") if not label.isascii() else label.encode()
        wire += bytes([len(raw)]) + raw if raw else b""
    return wire + b"\0"


def decode_name(message, at):
    """(name, offset behind it); follows compression, with a limit."""
    labels, behind = [], None
    for _ in range(300):
        size = message[at]
        if size >= 0xC0:
            behind = at + 2 if behind is None else behind
            at = struct.unpack_from("!H", message, at)[0] & 0x3FFF
        elif size:
            labels.append(message[at + 1:at + 1 + size].decode("latin-1"))
            at += 1 + size
        else:
            return ".".join(labels) or ".", behind or at + 1
    raise ValueError("name too long")


class Reply:
    """rcode, flags and answers: list of (owner, type, ttl, data)."""

    def __init__(self, message):
        (self.id, self.flags, questions, count, _, _) = struct.unpack_from(
            "!6H", message)
        self.rcode, self.truncated = self.flags & 15, bool(self.flags & 0x200)
        names, at = {v: k for k, v in TYPES.items()}, 12
        for _ in range(questions):
            at = decode_name(message, at)[1] + 4
        self.answers = []
        for _ in range(count):
            owner, at = decode_name(message, at)
            kind, _, ttl, size = struct.unpack_from("!HHIH", message, at)
            at += 10
            data = message[at:at + size]
            if kind in (TYPES["CNAME"], TYPES["NS"]):
                data = decode_name(message, at)[0]
            elif kind in (TYPES["A"], TYPES["AAAA"]) and size in (4, 16):
                data = socket.inet_ntop(
                    socket.AF_INET if size == 4 else socket.AF_INET6, data)
            self.answers.append((owner, names.get(kind, kind), ttl, data))
            at += size

    def data(self, kind):
        return [a[3] for a in self.answers if a[1] == kind]


def query(server, name, kind="A", tcp=False, timeout=2.0, recurse=True):
    """Ask `server` ("address:port"); a Reply, or OSError when none came."""
    host, port = str(server).rsplit(":", 1)
    ident = random.randrange(1, 65536)
    message = struct.pack("!6H", ident, 0x100 if recurse else 0, 1, 0, 0, 0)
    message += encode_name(name) + struct.pack("!HH", TYPES[kind], 1)
    if tcp:
        with socket.create_connection((host, int(port)), timeout) as sock:
            sock.sendall(struct.pack("!H", len(message)) + message)
            sock.settimeout(timeout)
            stream = sock.makefile("rb")
            size = stream.read(2)
            if len(size) < 2:
                raise OSError("no answer over TCP")
            return Reply(stream.read(struct.unpack("!H", size)[0]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((host, int(port)))
        sock.send(message)
        while True:
            got = sock.recv(65536)
            if len(got) >= 12 and got[:2] == message[:2]:
                return Reply(got)


def answers(address, port, name, kind):
    """A probe: does the server there answer, and without an error?"""
    def probe():
        where = "%s:%d" % (address, port)
        return query(where, name, kind, timeout=0.3).rcode == 0
    return probe
