"""A hostile name server: raw answers over UDP and TCP, a named kind for each name.

    DnsFault({"a.test": "loop", "b.test": ("chain", {"count": 9}),
              "c.test": ("cname", {"target": "d.test"}), "d.test": "a"})

Names that are not listed get `default` ("nxdomain"). Kinds that follow an alias use
the names of the same table. count(name, type) tells how often a question came.
`python3 tests/lab/dnsfault.py` prints the kinds.
"""

import collections
import ipaddress
import socket
import struct
import threading

import dnsd

KINDS = {}
TYPE_NAMES = {number: name for name, number in dnsd.TYPES.items()}
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
A, CNAME, AAAA, OPT = 1, 5, 28, 41
POINTER = b"\xc0\x0c"                  # to the name in the question


class Question:
    """What was asked: name (as sent), key (lower case), type, id, has_edns."""

    def __init__(self, message):
        (self.id, self.flags, count, _, _, self.extra) = struct.unpack_from(
            "!6H", message)
        if not count:
            raise ValueError("no question")
        self.name, end = dnsd.decode_name(message, 12)
        self.type, self.klass = struct.unpack_from("!HH", message, end)
        self.wire = message[12:end + 4]
        self.key = self.name.lower()
        self.has_edns = self.extra > 0
        self.is_tcp = False
        self.number = 0                # which time this name and type is asked

    def __repr__(self):
        return "<%s %s%s>" % (self.name, TYPE_NAMES.get(self.type, self.type),
                              " tcp" if self.is_tcp else "")


def record(owner, kind, data, ttl=60, klass=1):
    """One record; owner a name or raw bytes, data raw bytes."""
    owner = owner if isinstance(owner, bytes) else dnsd.encode_name(owner)
    return owner + struct.pack("!HHIH", kind, klass, ttl, len(data)) + data


def alias(owner, target, ttl=60):
    """A CNAME record; target a name or raw bytes."""
    return record(owner, CNAME, target if isinstance(target, bytes)
                  else dnsd.encode_name(target), ttl)


def address(owner, text="127.0.0.1", ttl=60):
    packed = ipaddress.ip_address(text).packed
    return record(owner, A if len(packed) == 4 else AAAA, packed, ttl)


def message(q, answers=(), rcode=NOERROR, ident=None, question=None, flags=0x8580,
            count=None):
    """A whole answer; every field can be made wrong."""
    return struct.pack("!6H", q.id if ident is None else ident,
                       (flags | rcode) & 0xFFFF, 1,
                       len(answers) if count is None else count, 0, 0) \
        + (q.wire if question is None else question) + b"".join(answers)


class DnsFault:
    """The server; names may be changed while it runs (.names)."""

    def __init__(self, names, default="nxdomain", address="127.0.0.1", port=0):
        self.names = {k.lower().rstrip("."): v for k, v in names.items()}
        self.default = default
        self.queries = []
        self.counts = collections.Counter()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for left in range(20, -1, -1):
            self.udp = socket.socket(family, socket.SOCK_DGRAM)
            self.tcp = socket.socket(family, socket.SOCK_STREAM)
            try:
                self.udp.bind((address, port))
                self.address, self.port = address, self.udp.getsockname()[1]
                self.tcp.bind((address, self.port))
                break
            except OSError:
                self.udp.close()
                self.tcp.close()
                if not left:
                    raise
        self.tcp.listen(64)
        # A second socket, for answers from the wrong port.
        self.stranger = socket.socket(family, socket.SOCK_DGRAM)
        self.stranger.bind((address, 0))
        for loop in (self._udp_loop, self._tcp_loop):
            threading.Thread(target=loop, daemon=True).start()

    def __str__(self):
        return "%s:%d" % (self.address, self.port)

    def count(self, name=None, kind=None):
        """How many questions for this name (and type, "A", "CNAME") came."""
        with self.lock:
            return sum(1 for q in self.queries
                       if name in (None, q.key) and kind in (
                           None, TYPE_NAMES.get(q.type, q.type)))

    def pause(self, seconds):
        self.stopping.wait(seconds)

    def stop(self):
        self.stopping.set()
        for sock in (self.udp, self.tcp, self.stranger):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    # -- loops ---------------------------------------------------------------

    def _udp_loop(self):
        while not self.stopping.is_set():
            try:
                data, peer = self.udp.recvfrom(65536)
            except OSError:
                if self.stopping.is_set():
                    return
                continue               # an ICMP error of an earlier answer
            threading.Thread(target=self._serve, daemon=True,
                             args=(data, Udp(self, peer))).start()

    def _tcp_loop(self):
        while not self.stopping.is_set():
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._tcp_serve, args=(sock,),
                             daemon=True).start()

    def _tcp_serve(self, sock):
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(30)
            try:
                stream = sock.makefile("rb")
                while True:
                    size = stream.read(2)
                    if len(size) < 2:
                        return
                    data = stream.read(struct.unpack("!H", size)[0])
                    self._serve(data, Tcp(self, sock))
            except OSError:
                return

    def _serve(self, data, wire):
        try:
            q = Question(data)
        except (ValueError, IndexError, struct.error):
            return
        q.is_tcp = wire.is_tcp
        wire.limit = 1232 if q.has_edns else 512
        with self.lock:
            self.counts[q.key, q.type] += 1
            q.number = self.counts[q.key, q.type]
            self.queries.append(q)
        name, params = self.kind_of(q.key)
        try:
            answer = KINDS[name](self, q, wire, **params)
            if answer is not None:
                wire.send(answer)
        except OSError:
            pass

    def kind_of(self, key):
        entry = self.names.get(key, self.default)
        return (entry, {}) if isinstance(entry, str) else entry

    def follow(self, q, target):
        """Records of a target, where its kind is a plain one."""
        name, params = self.kind_of(target.lower().rstrip("."))
        if name == "a":
            return _addresses(q, target, **params)
        if name == "cname":
            return [alias(target, params["target"])] + self.follow(
                q, params["target"])
        return []


class Udp:
    """One UDP exchange; send() may be called several times or never."""

    is_tcp = False

    def __init__(self, server, peer):
        self.server, self.peer = server, peer

    def send(self, data):
        # What does not fit is cut, with TC, as a real server does.
        if len(data) > self.limit:
            q = Question(data)
            data = message(q, flags=0x8780)
        self.server.udp.sendto(data, self.peer)


class Tcp:
    is_tcp = True

    def __init__(self, server, sock):
        self.server, self.sock = server, sock

    def send(self, data):
        self.sock.sendall(struct.pack("!H", len(data)) + data)


def kind(name):
    """Enter a function into the table: (server, question, wire) -> answer or None."""
    def enter(function):
        function.text = (function.__doc__ or "").strip()
        KINDS[name] = function
        return function
    return enter


# -- honest kinds ---------------------------------------------------------------

def _addresses(q, owner, addresses=("127.0.0.1",), ttl=60):
    return [address(owner, one, ttl) for one in addresses
            if q.type == (AAAA if ":" in one else A)]


@kind("a")
def _(s, q, w, addresses=("127.0.0.1",), ttl=60):
    """addresses=(...), IPv4 and IPv6, ttl="""
    return message(q, _addresses(q, q.name, addresses, ttl))


@kind("cname")
def _(s, q, w, target, ttl=60):
    """an alias (target=), followed as far as the table knows"""
    return message(q, [alias(q.name, target, ttl)] + s.follow(q, target))


@kind("bare-cname")
def _(s, q, w, target, ttl=60):
    """the alias alone: the target must be asked for"""
    return message(q, [alias(q.name, target, ttl)])


@kind("chain")
def _(s, q, w, count=8, bare=False, addresses=("127.0.0.1",)):
    """`count` aliases and then addresses; bare: one hop an answer"""
    base = q.key.split(".hop.", 1)[-1]
    number = int(q.key[3:].split(".")[0]) if ".hop." in q.key else 0
    names = [base if n == 0 else "hop%d.hop.%s" % (n, base) for n in range(count + 1)]
    for one in names[1:]:
        s.names.setdefault(one, ("chain", dict(count=count, bare=bare,
                                               addresses=addresses)))
    hops = [alias(names[n], names[n + 1]) for n in range(number, count)]
    if bare and hops:
        return message(q, hops[:1])
    return message(q, hops + _addresses(q, names[-1], addresses))


# -- aliases --------------------------------------------------------------------

@kind("self")
def _(s, q, w):
    """an alias to itself"""
    return message(q, [alias(q.name, q.name)])


@kind("loop")
def _(s, q, w, length=2):
    """a loop of `length` names, whole in one answer"""
    names = [q.key] + ["loop%d.%s" % (n, q.key) for n in range(1, length)]
    for one in names[1:]:
        s.names.setdefault(one, ("cname", {"target": q.key}))
    return message(q, [alias(names[n], names[(n + 1) % length])
                       for n in range(length)])


@kind("loop-bare")
def _(s, q, w, other):
    """one half of a loop of two names, one alias an answer (other=)"""
    return message(q, [alias(q.name, other)])


@kind("endless-chain")
def _(s, q, w):
    """every target is an alias to another name, for ever"""
    label = "n%d" % (len(s.queries))
    base = q.key.split(".", 1)[1] if q.key.startswith("n") and "." in q.key else q.key
    target = label + "." + base
    s.names[target] = "endless-chain"
    return message(q, [alias(q.name, target)])


@kind("address-first")
def _(s, q, w, target="target.test", addresses=("127.0.0.1",)):
    """the address before the alias that leads to it"""
    return message(q, _addresses(q, target, addresses) + [alias(q.name, target)])


@kind("shuffled")
def _(s, q, w, addresses=("127.0.0.1",)):
    """a chain of three with its records in reverse order"""
    names = [q.name, "one." + q.name, "two." + q.name, "three." + q.name]
    chain = [alias(a, b) for a, b in zip(names, names[1:])]
    return message(q, list(reversed(chain + _addresses(q, names[-1], addresses))))


@kind("two-cnames")
def _(s, q, w, targets=("one.test", "two.test")):
    """two aliases of one name, to different targets"""
    return message(q, [alias(q.name, t) for t in targets])


@kind("cname-and-address")
def _(s, q, w, target="target.test", addresses=("127.0.0.1",)):
    """an alias and addresses for the same owner"""
    return message(q, [alias(q.name, target)] + _addresses(q, q.name, addresses))


@kind("stray-address")
def _(s, q, w, addresses=("127.0.0.1",)):
    """addresses of a name that nobody asked for"""
    return message(q, _addresses(q, "stray.test", addresses))


@kind("to-root")
def _(s, q, w):
    """an alias to the root"""
    return message(q, [alias(q.name, b"\0")])


BAD_LABELS = {"nul": b"a\0b", "slash": b"a/b", "space": b"a b", "newline": b"a\nb",
              "crlf": b"a\r\nX: y", "script": b"<script>", "escape": b"\x1b[31m",
              "dot": b"a.b", "high": b"\xff\xfe", "percent": b"%2e%2e", "at": b"a@b",
              "colon": b"a:80", "star": b"*", "dash": b"-a-", "under": b"_a"}


@kind("bad-label")
def _(s, q, w, label="nul"):
    """an alias whose target has a label that no host has (label= of BAD_LABELS)"""
    raw = BAD_LABELS[label] if isinstance(label, str) else label
    return message(q, [alias(q.name, bytes([len(raw)]) + raw + b"\4test\0")])


@kind("long-target")
def _(s, q, w):
    """a target of 255 octets, the longest there is"""
    raw = (bytes([63]) + b"a" * 63) * 3 + bytes([61]) + b"b" * 61 + b"\0"
    return message(q, [alias(q.name, raw)])


@kind("too-long-target")
def _(s, q, w):
    """a target of more than 255 octets"""
    return message(q, [alias(q.name, (bytes([63]) + b"a" * 63) * 5 + b"\0")])


@kind("pointer-loop")
def _(s, q, w):
    """a target that is a compression pointer to itself"""
    at = 12 + len(q.wire) + 2 + 10
    return message(q, [record(POINTER, CNAME, struct.pack("!H", 0xC000 | at))])


@kind("pointer-outside")
def _(s, q, w):
    """a compression pointer behind the end of the message"""
    return message(q, [record(POINTER, CNAME, b"\xff\xff")])


@kind("label-type")
def _(s, q, w):
    """a label of a type that there is not"""
    return message(q, [record(POINTER, CNAME, b"\x80abc\0")])


# -- codes and emptiness -----------------------------------------------------------

@kind("empty")
def _(s, q, w):
    """NOERROR without an answer"""
    return message(q)


@kind("nxdomain")
def _(s, q, w):
    """NXDOMAIN"""
    return message(q, rcode=NXDOMAIN)


@kind("dangling")
def _(s, q, w, target="gone.test"):
    """NXDOMAIN behind an alias, both in one answer"""
    return message(q, [alias(q.name, target)], rcode=NXDOMAIN)


@kind("nxdomain-with-address")
def _(s, q, w, addresses=("127.0.0.1",)):
    """NXDOMAIN, and yet an address"""
    return message(q, _addresses(q, q.name, addresses), rcode=NXDOMAIN)


for _name, _code in (("servfail", SERVFAIL), ("refused", REFUSED),
                     ("formerr", FORMERR), ("notimp", NOTIMP), ("badvers", 15)):
    def _coded(s, q, w, code=_code):
        return message(q, rcode=code)
    _coded.__doc__ = _name.upper()
    kind(_name)(_coded)


@kind("lame")
def _(s, q, w):
    """a referral to somebody else, without authority and without answer"""
    ns = record("test", 2, dnsd.encode_name("ns.elsewhere.test"))
    return struct.pack("!6H", q.id, 0x8100, 1, 0, 1, 0) + q.wire + ns


@kind("flap")
def _(s, q, w, kinds=("nxdomain", "a")):
    """another kind each time the question comes (kinds=, then from the start)"""
    name = kinds[(q.number - 1) % len(kinds)]
    return KINDS[name](s, q, w)


@kind("then")
def _(s, q, w, first="servfail", then="a", times=1):
    """kind `first` so many times, then kind `then`"""
    return KINDS[first if q.number <= times else then](s, q, w)


@kind("changing")
def _(s, q, w, first=("127.0.0.1",), then=("127.0.0.2",)):
    """other addresses from the second question on (rebinding)"""
    return message(q, _addresses(q, q.name, first if q.number == 1 else then))


@kind("edns-refused")
def _(s, q, w, addresses=("127.0.0.1",)):
    """FORMERR to a question with EDNS, an answer to one without"""
    if q.has_edns:
        return message(q, rcode=FORMERR)
    return message(q, _addresses(q, q.name, addresses))


@kind("only-a")
def _(s, q, w, addresses=("127.0.0.1",)):
    """an answer for A, silence for everything else"""
    return message(q, _addresses(q, q.name, addresses)) if q.type == A else None


@kind("only-cname-type")
def _(s, q, w, target="target.test"):
    """the alias for a CNAME question, nothing for others"""
    return message(q, [alias(q.name, target)] if q.type == CNAME else [])


# -- datagrams ---------------------------------------------------------------------

@kind("silent")
def _(s, q, w):
    """no answer"""
    return None


@kind("silent-udp")
def _(s, q, w, addresses=("127.0.0.1",)):
    """an answer over TCP only, without saying so"""
    return message(q, _addresses(q, q.name, addresses)) if w.is_tcp else None


@kind("zero")
def _(s, q, w):
    """an answer of no bytes"""
    return b""


@kind("short")
def _(s, q, w, size=11):
    """the first bytes of an answer"""
    return message(q)[:size]


@kind("cut-record")
def _(s, q, w):
    """an answer that ends amid a record"""
    return message(q, [address(q.name)])[:-3]


@kind("wrong-id")
def _(s, q, w):
    """an answer with another id"""
    return message(q, [address(q.name)], ident=q.id ^ 0x5555)


@kind("wrong-question")
def _(s, q, w):
    """an answer to another question"""
    wire = dnsd.encode_name("other.test") + struct.pack("!HH", q.type, 1)
    return message(q, [address("other.test")], question=wire)


@kind("wrong-type")
def _(s, q, w):
    """an answer to a question of another type"""
    wire = q.wire[:-4] + struct.pack("!HH", 16, 1)
    return message(q, [address(q.name)], question=wire)


@kind("no-question")
def _(s, q, w):
    """an answer without the question"""
    data = message(q, [address(q.name)], question=b"")
    return data[:4] + b"\0\0" + data[6:]


@kind("wrong-port")
def _(s, q, w):
    """an answer from another port"""
    if not w.is_tcp:
        s.stranger.sendto(message(q, [address(q.name)]), w.peer)


@kind("spoofed")
def _(s, q, w, addresses=("127.0.0.1",), false="127.0.0.66"):
    """answers with wrong ids and from a wrong port before the right one"""
    if not w.is_tcp:
        lie = [address(q.name, false)]
        for n in range(1, 20):
            w.send(message(q, lie, ident=(q.id + n) & 0xFFFF))
        s.stranger.sendto(message(q, lie), w.peer)
    return message(q, _addresses(q, q.name, addresses))


@kind("is-a-query")
def _(s, q, w):
    """an answer whose QR bit says that it is a question"""
    return message(q, [address(q.name)], flags=0x0100)


@kind("late")
def _(s, q, w, seconds=3.0, addresses=("127.0.0.1",)):
    """the right answer, some seconds late"""
    s.pause(seconds)
    return message(q, _addresses(q, q.name, addresses))


@kind("duplicate")
def _(s, q, w, times=5, addresses=("127.0.0.1",)):
    """the right answer several times"""
    for _ in range(times):
        w.send(message(q, _addresses(q, q.name, addresses)))


@kind("case")
def _(s, q, w, target="TARGET.Test", addresses=("127.0.0.1",)):
    """names in another case than they were asked in"""
    wire = dnsd.encode_name(q.name.swapcase()) + q.wire[-4:]
    return message(q, [alias(q.name.upper(), target)]
                   + _addresses(q, target.lower(), addresses), question=wire)


# -- counts and records --------------------------------------------------------------

@kind("count-lie")
def _(s, q, w, count=65535):
    """a header that promises 65,535 answers, and one follows"""
    return message(q, [address(q.name)], count=count)


@kind("length-lie")
def _(s, q, w):
    """a record whose length reaches behind the message"""
    return message(q, [POINTER + struct.pack("!HHIH", A, 1, 60, 60000) + b"\x7f\0\0\1"])


@kind("short-address")
def _(s, q, w, size=3):
    """an address of three bytes"""
    return message(q, [record(q.name, q.type, b"\x7f\0\0\1"[:size])])


@kind("long-address")
def _(s, q, w):
    """an address of seventeen bytes"""
    return message(q, [record(q.name, q.type, bytes(17))])


@kind("wrong-class")
def _(s, q, w):
    """a record of class CHAOS"""
    return message(q, [record(q.name, A, b"\x7f\0\0\1", klass=3)])


@kind("ttl")
def _(s, q, w, ttl=0xFFFFFFFF):
    """a time to live with the top bit set (ttl=)"""
    return message(q, [address(q.name, ttl=ttl)])


@kind("trailing")
def _(s, q, w, addresses=("127.0.0.1",)):
    """bytes behind the last record"""
    return message(q, _addresses(q, q.name, addresses)) + b"and more"


@kind("many")
def _(s, q, w, count=4000):
    """as many addresses as fit into an answer over TCP (4,000)"""
    one = POINTER + struct.pack("!HHIH", A, 1, 60, 4)
    return message(q, [one + struct.pack("!I", 0x7F000001 + n)
                       for n in range(count)])


@kind("many-cnames")
def _(s, q, w, count=10000):
    """10,000 of the shortest records, aliases to the root, over TCP"""
    # 13 bytes each would be 130 KB; as many as a message can carry are sent.
    one = POINTER + struct.pack("!HHIH", CNAME, 1, 60, 1) + b"\0"
    return message(q, [one] * min(count, 5000), count=count)


# -- TCP -------------------------------------------------------------------------------

def over_tcp(function):
    """A kind that says TC over UDP and shows itself over TCP."""
    def outer(s, q, w, **params):
        if not w.is_tcp:
            return message(q, flags=0x8780)
        return function(s, q, w, **params)
    outer.__doc__ = function.__doc__
    return outer


@kind("tc")
@over_tcp
def _(s, q, w, addresses=("127.0.0.1",)):
    """truncated over UDP, right over TCP"""
    return message(q, _addresses(q, q.name, addresses))


@kind("tc-partial")
def _(s, q, w, false="127.0.0.66", addresses=("127.0.0.1",)):
    """truncated over UDP with a false address in it, right over TCP"""
    if not w.is_tcp:
        return message(q, [address(q.name, false)], flags=0x8780)
    return message(q, _addresses(q, q.name, addresses))


@kind("tc-twice")
def _(s, q, w):
    """truncated over TCP too"""
    return message(q, flags=0x8780)


@kind("tcp-close")
@over_tcp
def _(s, q, w):
    """TCP, closed without an answer"""
    w.sock.shutdown(socket.SHUT_RDWR)


@kind("tcp-reset")
@over_tcp
def _(s, q, w):
    """TCP, reset without an answer"""
    w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    w.sock.close()


@kind("tcp-silent")
@over_tcp
def _(s, q, w):
    """TCP, and no answer"""
    return None


@kind("tcp-short-frame")
@over_tcp
def _(s, q, w):
    """TCP, half of the frame, then the end"""
    data = message(q, [address(q.name)])
    w.sock.sendall(struct.pack("!H", len(data)) + data[:len(data) // 2])
    w.sock.shutdown(socket.SHUT_RDWR)


@kind("tcp-bytes")
@over_tcp
def _(s, q, w, interval=0.005, addresses=("127.0.0.1",)):
    """TCP, the right answer byte by byte"""
    data = message(q, _addresses(q, q.name, addresses))
    for byte in struct.pack("!H", len(data)) + data:
        w.sock.sendall(bytes([byte]))
        s.pause(interval)


@kind("tcp-huge")
@over_tcp
def _(s, q, w):
    """TCP, a frame of 65,535 bytes that never comes whole"""
    w.sock.sendall(b"\xff\xff" + message(q, [address(q.name)]))


@kind("tcp-zero")
@over_tcp
def _(s, q, w):
    """TCP, a frame of no bytes"""
    w.sock.sendall(b"\0\0")


@kind("tcp-wrong-id")
@over_tcp
def _(s, q, w):
    """TCP, another id"""
    return message(q, [address(q.name)], ident=q.id ^ 1)


if __name__ == "__main__":
    for kind_name, function in KINDS.items():
        print("%-24s %s" % (kind_name, function.text))
