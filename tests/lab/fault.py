"""A distribution point, storage or web server that lies, stalls and breaks off.

FaultServer(root, script) is an honest IisServer (iis.py) until a Rule of its script
fits a request; then the fault of that name has the wire. So a good client can resume
and end with the right file, wherever the fault leaves it a way.

    FaultServer(root, "early-close")                       every GET, half of it
    FaultServer(root, [Rule("early-close", at=1000, times=1), Rule("range-416")])
    FaultServer(root, Rule("tls-stall"), tls=cert)

FAULTS holds all names; `python3 tests/lab/fault.py` prints them.
"""

import fnmatch
import gzip
import threading

import httpd
import iis

FAULTS = {}
BLOCK = b"All work and no play makes Jack a dull boy.\n" * 1500


class Rule:
    """When a fault applies, and how.

    fault     a name of FAULTS
    path      pattern of the target as sent ("*.msi"), of all by default
    method    "GET", "PROPFIND", ..., or "*"
    on        "range": requests that an honest server answers with 206;
              "fresh": the others; "any". Given by the fault itself by default
    times     so often and then never again; skip: not the first so many
    per_path  times and skip count for each target alone
    **params  go to the fault
    """

    def __init__(self, fault, path="*", method="GET", on=None, times=None, skip=0,
                 per_path=False, **params):
        if fault not in FAULTS:
            raise ValueError("no fault named " + fault)
        self.fault, self.path, self.method = fault, path, method
        self.on = on or FAULTS[fault].on
        self.times, self.skip, self.per_path = times, skip, per_path
        self.params = params
        self.seen = {}

    def applies(self, request, answer):
        if self.method not in ("*", request.method):
            return False
        if not fnmatch.fnmatchcase(request.target, self.path):
            return False
        if self.on == "range" and answer.status != 206:
            return False
        if self.on == "fresh" and answer.status == 206:
            return False
        return self.count(request.target)

    def count(self, key):
        """One more occasion; is it one that the rule is for?"""
        key = key if self.per_path else None
        seen = self.seen[key] = self.seen.get(key, 0) + 1
        return seen > self.skip and (
            self.times is None or seen <= self.skip + self.times)


class FaultServer(iis.IisServer):
    """An IisServer with a script; root is served at / too."""

    def __init__(self, root, script=None, **how):
        how.setdefault("at_root", True)
        self.rules = []
        self.rule_lock = threading.Lock()
        self.set(script)
        super().__init__(root, **how)

    def set(self, script):
        """Another script, from the next request on."""
        if script is None:
            script = []
        if isinstance(script, (str, Rule)):
            script = [script]
        with self.rule_lock:
            self.rules = [Rule(s) if isinstance(s, str) else s for s in script]

    def greet(self, connection):
        with self.rule_lock:
            rule = next((r for r in self.rules if FAULTS[r.fault].on == "connect"
                         and r.count(None)), None)
        if rule:
            FAULTS[rule.fault](connection, None, None, **rule.params)
        super().greet(connection)

    def respond(self, connection, request):
        answer = self.answer(connection, request)
        with self.rule_lock:
            rule = next((r for r in self.rules if r.on != "connect"
                         and r.applies(request, answer)), None)
        if rule is None:
            return self.send(connection, request, answer)
        request.fault = rule.fault
        return FAULTS[rule.fault](connection, answer, request, **rule.params)


def fault(name, on="any"):
    """Enter a function into the table.

    It gets the connection, the honest answer and the request, sends what it wants,
    and returns True where the connection may go on.
    """
    def enter(function):
        function.on = on
        function.text = (function.__doc__ or "").strip()
        FAULTS[name] = function
        return function
    return enter


def whole(c, answer, body, **how):
    """Send an answer with this body and the length that its headers then state."""
    c.send(iis.head(answer, **how) + body)
    return True


def shifted(answer, first, last, body, total=None):
    """A 206 that claims first-last/total and carries body, with a true length."""
    answer.with_header("Content-Range", "bytes %d-%d/%s" % (
        first, last, answer.total if total is None else total))
    answer.page, answer.path = body, None
    answer.first, answer.last = 0, len(body) - 1
    return answer


def other(data):
    """The same length, other bytes."""
    return bytes(255 - b for b in data)


# -- lies about ranges ---------------------------------------------------------

@fault("range-empty", "range")
def _(c, a, r):
    """206 with the right Content-Range and not one byte"""
    return whole(c, shifted(a, a.first, a.last, b""), b"")


@fault("range-short", "range")
def _(c, a, r, keep=0.5):
    """206 that claims all that was asked for, with a part of it"""
    body = a.body()[:int(a.length * keep)]
    return whole(c, shifted(a, a.first, a.last, body), body)


@fault("range-less", "range")
def _(c, a, r, keep=0.5):
    """206 with less than asked for, and saying so (legal; the rest is still to ask)"""
    body = a.body()[:max(1, int(a.length * keep))]
    return whole(c, shifted(a, a.first, a.first + len(body) - 1, body), body)


@fault("range-more", "range")
def _(c, a, r, extra=100):
    """206 with bytes behind the last one claimed"""
    body = a.body() + b"x" * extra
    return whole(c, shifted(a, a.first, a.last, body), body)


@fault("range-wrong-start", "range")
def _(c, a, r, by=1):
    """206 that starts later than asked for, and says so"""
    body = a.body()[by:]
    return whole(c, shifted(a, a.first + by, a.last, body), body)


@fault("range-earlier-start", "range")
def _(c, a, r, by=1):
    """206 that starts earlier than asked for, and says so"""
    first = max(0, a.first - by)
    body = a.read(first, a.last + 1 - first)
    return whole(c, shifted(a, first, a.last, body), body)


@fault("range-from-zero", "range")
def _(c, a, r):
    """206 with the whole file from 0, and saying so"""
    body = a.whole()
    return whole(c, shifted(a, 0, a.total - 1, body), body)


@fault("range-false-bytes", "range")
def _(c, a, r):
    """206 that claims the right range with the first bytes of the file in it"""
    body = a.read(0, a.length)
    return whole(c, shifted(a, a.first, a.last, body), body)


@fault("range-wrong-total", "range")
def _(c, a, r, by=1):
    """206 with another total size"""
    body = a.body()
    return whole(c, shifted(a, a.first, a.last, body, a.total + by), body)


@fault("range-unknown-total", "range")
def _(c, a, r):
    """206 with `*` for the total (legal)"""
    body = a.body()
    return whole(c, shifted(a, a.first, a.last, body, "*"), body)


@fault("range-no-header", "range")
def _(c, a, r):
    """206 without Content-Range"""
    return whole(c, a.with_header("Content-Range", None), a.body())


@fault("range-garbled", "range")
def _(c, a, r, text="bytes 0x10-1e9/+7"):
    """206 with a Content-Range that is none"""
    return whole(c, a.with_header("Content-Range", text), a.body())


@fault("range-two-headers", "range")
def _(c, a, r):
    """206 with two Content-Range that differ"""
    a.headers.append(("Content-Range", "bytes 0-%d/%d" % (a.length - 1, a.total)))
    return whole(c, a, a.body())


@fault("range-other-unit", "range")
def _(c, a, r):
    """206 in items instead of bytes"""
    text = iis.content_range(a).replace("bytes", "items")
    return whole(c, a.with_header("Content-Range", text), a.body())


@fault("range-backwards", "range")
def _(c, a, r):
    """206 whose last byte lies before its first"""
    text = "bytes %d-%d/%d" % (a.last, a.first - 1, a.total)
    return whole(c, a.with_header("Content-Range", text), a.body())


@fault("range-huge", "range")
def _(c, a, r):
    """206 with numbers beyond 64 bits"""
    text = "bytes %d-%d/%d" % (2 ** 64 + a.first, 2 ** 64 + a.last, 2 ** 64 + a.total)
    return whole(c, a.with_header("Content-Range", text), a.body())


@fault("range-ignored", "range")
def _(c, a, r):
    """200 with the whole file for a range (legal: start over)"""
    a.status, a.first, a.last = 200, 0, a.total - 1
    return whole(c, a.with_header("Content-Range", None), a.body())


@fault("range-200-tail", "range")
def _(c, a, r):
    """200 with only the bytes of the range"""
    a.status = 200
    return whole(c, a.with_header("Content-Range", None), a.body())


@fault("range-multipart", "range")
def _(c, a, r):
    """206 as multipart/byteranges, though one range was asked for"""
    body = (b"--cut\r\nContent-Type: application/octet-stream\r\nContent-Range: "
            + iis.content_range(a).encode() + b"\r\n\r\n" + a.body()
            + b"\r\n--cut--\r\n")
    a.with_header("Content-Range", None)
    a.with_header("Content-Type", "multipart/byteranges; boundary=cut")
    a.page, a.path, a.first, a.last = body, None, 0, len(body) - 1
    return whole(c, a, body)


@fault("range-changed", "range")
def _(c, a, r):
    """206 of another version: other ETag, other bytes"""
    return whole(c, a.with_header("ETag", '"another"'), other(a.body()))


@fault("range-changed-silently", "range")
def _(c, a, r):
    """206 with other bytes under the same ETag"""
    return whole(c, a, other(a.body()))


@fault("range-new-etag", "range")
def _(c, a, r):
    """206 with the right bytes under another ETag"""
    return whole(c, a.with_header("ETag", '"another"'), a.body())


@fault("range-weak-etag", "range")
def _(c, a, r):
    """206 whose ETag has become weak"""
    return whole(c, a.with_header("ETag", 'W/"x"'), a.body())


@fault("range-no-etag", "range")
def _(c, a, r):
    """206 without the ETag"""
    return whole(c, a.with_header("ETag", None), a.body())


@fault("range-416", "range")
def _(c, a, r):
    """416 though there is more to get, with the true total"""
    return whole(c, *_with_body(iis.page(
        416, [("Content-Range", "bytes */%d" % a.total)])))


@fault("range-416-false", "range")
def _(c, a, r, total=None):
    """416 that states the size the client has as the total"""
    return whole(c, *_with_body(iis.page(
        416, [("Content-Range", "bytes */%d" % (total or a.first))])))


@fault("range-412", "range")
def _(c, a, r):
    """412 for the condition of a range"""
    return whole(c, *_with_body(iis.page(412)))


@fault("range-304", "range")
def _(c, a, r):
    """304 for a range"""
    a.status = 304
    c.send(iis.head(a, length=False))
    return True


@fault("unasked-206", "fresh")
def _(c, a, r, first=100):
    """206 from the middle, though no range was asked for"""
    first = min(first, a.total)
    a.status = 206
    body = a.read(first, a.total - first)
    return whole(c, shifted(a, first, a.total - 1, body), body)


def _with_body(answer):
    return answer, answer.body()


# -- lies about the length -----------------------------------------------------

def raw(c, a, lengths, body):
    """An answer with these Content-Length lines, then body, then the end."""
    for text in lengths:
        a.headers.append(("Content-Length", text))
    c.send(iis.head(a, length=False) + body)
    return False


@fault("length-short")
def _(c, a, r, by=10):
    """Content-Length smaller than the body that follows"""
    return raw(c, a, [str(max(0, a.length - by))], a.body())


@fault("length-long")
def _(c, a, r, by=10):
    """Content-Length larger than the body; then the end"""
    return raw(c, a, [str(a.length + by)], a.body())


@fault("length-more")
def _(c, a, r, by=10):
    """a longer file: Content-Length and body larger than the content has"""
    return raw(c, a, [str(a.length + by)], a.body() + b"x" * by)


@fault("length-less")
def _(c, a, r, by=10):
    """a shorter file: Content-Length and body smaller than the content has"""
    body = a.body()[:-by]
    return raw(c, a, [str(len(body))], body)


@fault("length-two")
def _(c, a, r):
    """two Content-Length that differ"""
    return raw(c, a, [str(a.length), str(a.length // 2)], a.body())


@fault("length-two-reversed")
def _(c, a, r):
    """two Content-Length that differ, the smaller one first"""
    return raw(c, a, [str(a.length // 2), str(a.length)], a.body())


@fault("length-list")
def _(c, a, r):
    """Content-Length: N, N"""
    return raw(c, a, ["%d, %d" % (a.length, a.length)], a.body())


@fault("length-bad")
def _(c, a, r, text="-1"):
    """a Content-Length that is no length (text=)"""
    return raw(c, a, [text], a.body())


@fault("length-huge")
def _(c, a, r, text="99999999999999999999"):
    """Content-Length of 20 digits"""
    return raw(c, a, [text], a.body())


@fault("length-max")
def _(c, a, r):
    """Content-Length 2^63-1"""
    return raw(c, a, [str(2 ** 63 - 1)], a.body())


@fault("length-zero")
def _(c, a, r):
    """Content-Length: 0, then the body"""
    return raw(c, a, ["0"], a.body())


@fault("length-none")
def _(c, a, r):
    """no length at all; the end of the connection ends the body (legal)"""
    return raw(c, a, [], a.body())


@fault("length-none-early")
def _(c, a, r, keep=0.5):
    """no length, and the connection ends too early"""
    return raw(c, a, [], a.body()[:int(a.length * keep)])


@fault("early-close")
def _(c, a, r, at=None):
    """the connection ends after `at` bytes (half of the body)"""
    return raw(c, a, [str(a.length)], a.body()[:a.length // 2 if at is None else at])


@fault("endless")
def _(c, a, r):
    """a body without length and without end"""
    c.send(iis.head(a, length=False))
    while True:
        c.send(BLOCK)


@fault("endless-chunked")
def _(c, a, r):
    """chunks without end"""
    a.headers.append(("Transfer-Encoding", "chunked"))
    c.send(iis.head(a, length=False))
    while True:
        c.send(b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK))


@fault("endless-after")
def _(c, a, r):
    """the whole body, then junk without end on the same connection"""
    c.send(iis.head(a) + a.body())
    while True:
        c.send(BLOCK)


# -- chunks ---------------------------------------------------------------------

def chunked(c, a, tail, sizes=None):
    a.headers.append(("Transfer-Encoding", "chunked"))
    c.send(iis.head(a, length=False) + (sizes or b"%x" % a.length) + b"\r\n"
           + a.body() + b"\r\n" + tail)


@fault("chunked")
def _(c, a, r):
    """chunked, without Content-Length (legal)"""
    if a.length:
        chunked(c, a, b"0\r\n\r\n")
        return True
    return whole(c, a, b"")


@fault("chunked-and-length")
def _(c, a, r):
    """Transfer-Encoding and a Content-Length that differs"""
    a.headers.append(("Content-Length", str(a.length // 2)))
    chunked(c, a, b"0\r\n\r\n")
    return False


@fault("chunked-cut")
def _(c, a, r):
    """the end of the connection in place of the last chunk"""
    chunked(c, a, b"")
    return False


@fault("chunked-short")
def _(c, a, r):
    """a proper last chunk after half of the body"""
    half = a.body()[:a.length // 2]
    a.headers.append(("Transfer-Encoding", "chunked"))
    c.send(iis.head(a, length=False) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(half), half))
    return True


@fault("chunked-negative")
def _(c, a, r):
    """a chunk of size -1"""
    chunked(c, a, b"0\r\n\r\n", b"-1")
    return False


@fault("chunked-huge")
def _(c, a, r):
    """a chunk size beyond 64 bits"""
    chunked(c, a, b"0\r\n\r\n", b"1" + b"0" * 17)
    return False


@fault("chunked-letters")
def _(c, a, r):
    """a chunk size that is no number"""
    chunked(c, a, b"0\r\n\r\n", b"many")
    return False


@fault("chunked-extension")
def _(c, a, r, size=1 << 20):
    """a chunk extension of a megabyte"""
    chunked(c, a, b"0\r\n\r\n", b"%x;%s" % (a.length, b"x" * size))
    return False


@fault("chunked-trailer")
def _(c, a, r):
    """trailers that contradict the headers, without end"""
    chunked(c, a, b"0\r\nContent-Length: 1\r\nETag: \"t\"\r\n")
    while True:
        c.send(b"X-Trailer: 1234567890\r\n" * 100)


# -- encodings -------------------------------------------------------------------

def encoded(c, a, body, names):
    for name in names:
        a.headers.append(("Content-Encoding", name))
    return raw(c, a, [str(len(body))], body)


@fault("gzip")
def _(c, a, r):
    """a body in gzip that nobody asked for"""
    return encoded(c, a, gzip.compress(a.body()), ["gzip"])


@fault("gzip-lie")
def _(c, a, r):
    """Content-Encoding: gzip over the plain bytes"""
    return encoded(c, a, a.body(), ["gzip"])


@fault("gzip-bomb")
def _(c, a, r, size=1 << 28):
    """a few hundred KB of gzip that become 256 MB"""
    return encoded(c, a, gzip.compress(bytes(size), 9), ["gzip"])


@fault("gzip-1000")
def _(c, a, r):
    """Content-Encoding: gzip, a thousand times"""
    return encoded(c, a, a.body(), ["gzip"] * 1000)


@fault("encoding-unknown")
def _(c, a, r):
    """Content-Encoding of a kind that there is not"""
    return encoded(c, a, a.body(), ["x-laboratory"])


# -- time --------------------------------------------------------------------------

@fault("drip")
def _(c, a, r, interval=1.0, step=1):
    """the body in `step` bytes every `interval` seconds"""
    c.send(iis.head(a))
    body = a.body()
    for at in range(0, len(body), step):
        c.send(body[at:at + step])
        c.server.pause(interval)
    return True


@fault("drip-headers")
def _(c, a, r, interval=1.0):
    """the headers byte by byte"""
    for byte in iis.head(a):
        c.send(bytes([byte]))
        c.server.pause(interval)
    c.send(a.body())
    return True


@fault("drip-forever")
def _(c, a, r, interval=1.0):
    """headers that go on, one line every interval"""
    c.send(iis.head(a)[:-2])
    while True:
        c.send(b"X-More: 1\r\n")
        c.server.pause(interval)


@fault("slow")
def _(c, a, r, rate=100000):
    """the body at `rate` bytes a second"""
    c.send(iis.head(a))
    step = max(1, rate // 20)
    body = a.body()
    for at in range(0, len(body), step):
        c.send(body[at:at + step])
        c.server.pause(step / rate)
    return True


@fault("late")
def _(c, a, r, seconds=1.0):
    """nothing for some seconds, then the honest answer"""
    c.server.pause(seconds)
    return whole(c, a, a.body())


@fault("stall")
def _(c, a, r, at=None):
    """silence after `at` bytes (half of the body), the connection open"""
    c.send(iis.head(a) + a.body()[:a.length // 2 if at is None else at])
    c.wait_for_peer()


@fault("stall-headers")
def _(c, a, r):
    """silence after half of the headers"""
    text = iis.head(a)
    c.send(text[:len(text) // 2])
    c.wait_for_peer()


@fault("silence")
def _(c, a, r):
    """the request is read, and nothing is said"""
    c.wait_for_peer()


# -- ends ---------------------------------------------------------------------------

@fault("close")
def _(c, a, r):
    """the connection ends without an answer"""
    return False


@fault("close-headers")
def _(c, a, r):
    """the connection ends amid the headers"""
    c.send(iis.head(a)[:40])
    return False


@fault("reset")
def _(c, a, r):
    """RST without an answer"""
    c.abort()


@fault("reset-at")
def _(c, a, r, at=None):
    """RST after `at` bytes (half of the body)"""
    c.send(iis.head(a) + a.body()[:a.length // 2 if at is None else at])
    c.abort()


# -- headers ------------------------------------------------------------------------

@fault("endless-headers")
def _(c, a, r):
    """header lines without end"""
    c.send(iis.head(a)[:-2])
    while True:
        c.send(b"".join(b"X-Line-%d: %s\r\n" % (n, b"y" * 80) for n in range(500)))


@fault("endless-header")
def _(c, a, r):
    """one header line without end"""
    c.send(iis.head(a)[:-2] + b"X-Long: ")
    while True:
        c.send(b"y" * 65536)


@fault("big-header")
def _(c, a, r, size=300 * 1024):
    """one header of 300 KB"""
    a.headers.append(("X-Big", "y" * size))
    return whole(c, a, a.body())


@fault("many-headers")
def _(c, a, r, count=10000):
    """ten thousand headers"""
    a.headers += [("X-%d" % n, "y") for n in range(count)]
    return whole(c, a, a.body())


@fault("interim-flood")
def _(c, a, r, count=1000):
    """a thousand 1xx answers before the honest one"""
    c.send(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * count)
    return whole(c, a, a.body())


@fault("interim-endless")
def _(c, a, r):
    """1xx answers without end"""
    while True:
        c.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@fault("http09")
def _(c, a, r):
    """the bare body, as HTTP/0.9 had it"""
    c.send(a.body() or b"empty")
    return False


@fault("bare-lf")
def _(c, a, r):
    """LF in place of CRLF"""
    c.send(iis.head(a).replace(b"\r\n", b"\n") + a.body())
    return True


@fault("bare-cr")
def _(c, a, r):
    """a CR alone within a header"""
    a.headers.append(("X-Split", "a\rContent-Length: 1"))
    return whole(c, a, a.body())


@fault("folded")
def _(c, a, r):
    """a Content-Length folded over two lines"""
    a.headers.append(("Content-Length", "\r\n %d" % a.length))
    c.send(iis.head(a, length=False) + a.body())
    return True


@fault("nul-header")
def _(c, a, r):
    """a NUL, an escape sequence and the top half of Latin-1 in headers"""
    a.headers.append(("X-Nul", "a\0b\x1b[31mred\x7f\xff"))
    return whole(c, a, a.body())


@fault("no-colon")
def _(c, a, r):
    """a header line without a colon"""
    c.send(iis.head(a)[:-2] + b"what is this\r\n\r\n" + a.body())
    return True


@fault("space-colon")
def _(c, a, r):
    """`Content-Length : N`"""
    a.headers.append(("Content-Length ", str(a.length)))
    c.send(iis.head(a, length=False) + a.body())
    return False


@fault("garbage")
def _(c, a, r):
    """no HTTP at all"""
    c.send(bytes(range(256)) * 16)
    return False


@fault("version")
def _(c, a, r, version="HTTP/3.7"):
    """a version of HTTP that there is not"""
    return whole(c, a, a.body(), version=version)


@fault("reason")
def _(c, a, r, status=500, text="\x1b[2Jx\x07<script>%s%n" + "A" * 5000):
    """a status with a hostile reason phrase"""
    answer = iis.page(status)
    return whole(c, answer, answer.body(), reason=text)


@fault("second-answer")
def _(c, a, r):
    """a second answer that nobody asked for, behind the first"""
    c.send((iis.head(a) + a.body()) + iis.head(iis.page(200)) + iis.page(200).body())
    return True


# -- statuses -----------------------------------------------------------------------

@fault("status")
def _(c, a, r, status=500, retry_after=None, headers=()):
    """status=N, with a Retry-After where one is given"""
    answer = iis.page(status, headers)
    if retry_after is not None:
        answer.headers.append(("Retry-After", str(retry_after)))
    body = b"" if r.method == "HEAD" or status in (204, 304) else answer.body()
    c.send(iis.head(answer, length=status not in (204, 304)) + body)
    return True


@fault("busy")
def _(c, a, r, retry_after=1):
    """503 with Retry-After"""
    return FAULTS["status"](c, a, r, 503, retry_after)


@fault("azure-expired")
def _(c, a, r, code="AuthenticationFailed"):
    """403 as Azure Storage says that a signature has expired"""
    text = ("\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code>"
            "<Message>Server failed to authenticate the request.\n</Message>"
            "<AuthenticationErrorDetail>Signature not valid in the specified time "
            "frame</AuthenticationErrorDetail></Error>" % code)
    return whole(c, *_with_body(iis.Answer(
        403, text.encode(), [("Content-Type", "application/xml"),
                             ("x-ms-error-code", code)])))


@fault("login-page")
def _(c, a, r):
    """200 with the login page of somebody's hotel"""
    return whole(c, *_with_body(iis.Answer(
        200, b"<html><body><form>Room number: <input></form></body></html>",
        [("Content-Type", "text/html")])))


@fault("other-file")
def _(c, a, r):
    """200, right length, other bytes, no range ever"""
    if a.status == 206:
        a.status, a.first, a.last = 200, 0, a.total - 1
        a.with_header("Content-Range", None)
    return whole(c, a, other(a.body()))


@fault("replace")
def _(c, a, r, status=200, body=b"", headers=()):
    """status=, body=, headers= of the test's own"""
    return whole(c, *_with_body(iis.Answer(status, body, headers)))


@fault("raw")
def _(c, a, r, data=b""):
    """data=: exactly these bytes, then the end"""
    c.send(data)
    return False


# -- redirects ----------------------------------------------------------------------

def redirect(c, location, status=302, extra=()):
    headers = [] if location is None else [("Location", location)]
    answer = iis.page(status, headers + list(extra))
    return whole(c, answer, answer.body())


def _host(r):
    return "%s://%s" % ("https" if r.is_tls else "http", r.header("Host", ""))


@fault("redirect")
def _(c, a, r, to="/", status=302):
    """to another URL (to=, status=)"""
    return redirect(c, to, status)


@fault("redirect-other-host")
def _(c, a, r, host="elsewhere.example.net", status=302):
    """to the same path on another host (host= may name a port)"""
    return redirect(c, "%s://%s%s" % ("https" if r.is_tls else "http", host,
                                      r.target), status)


@fault("redirect-http")
def _(c, a, r, host=None):
    """to plain http"""
    return redirect(c, "http://%s%s" % (host or r.header("Host"), r.target))


@fault("redirect-scheme")
def _(c, a, r, to="file:///etc/passwd"):
    """to file, ftp, gopher, data, ... (to=)"""
    return redirect(c, to)


@fault("redirect-user")
def _(c, a, r):
    """to a URL with a user and a password"""
    return redirect(c, _host(r).replace("://", "://root:secret@") + r.target)


@fault("redirect-loop")
def _(c, a, r):
    """to itself"""
    return redirect(c, _host(r) + r.target)


@fault("redirect-hops")
def _(c, a, r, hops=1000):
    """a thousand redirects in a row, each to another URL"""
    number = int(r.query.rpartition("hop=")[2] or 0) if "hop=" in r.query else 0
    if number >= hops:
        return whole(c, a, a.body())
    base = r.target.split("&hop=")[0].split("?hop=")[0]
    return redirect(c, "%s%shop=%d" % (base, "&" if "?" in base else "?", number + 1))


@fault("redirect-once")
def _(c, a, r, status=307):
    """once, on the same host: a good client follows"""
    if r.target.endswith("&again"):
        return whole(c, a, a.body())
    return redirect(c, r.target + ("&" if "?" in r.target else "?") + "again", status)


@fault("redirect-slashes")
def _(c, a, r, host="elsewhere.example.net"):
    """to //host/path, a host hidden in a relative URL"""
    return redirect(c, "//%s%s" % (host, r.target))


@fault("redirect-backslash")
def _(c, a, r, host="elsewhere.example.net"):
    r"""to /\host/path, which some take for //host"""
    return redirect(c, "/\\%s%s" % (host, r.target))


@fault("redirect-crlf")
def _(c, a, r):
    """to a URL with encoded line ends and a header behind them"""
    return redirect(c, _host(r) + "/x%0d%0aX-Injected:%20yes%0d%0a")


@fault("redirect-control")
def _(c, a, r):
    """to a URL with raw control characters"""
    return redirect(c, _host(r) + "/x\x01\x1b[31m\ty")


@fault("redirect-empty")
def _(c, a, r):
    """an empty Location"""
    return redirect(c, "")


@fault("redirect-nowhere")
def _(c, a, r):
    """302 without Location"""
    return redirect(c, None)


@fault("redirect-two")
def _(c, a, r):
    """two Location headers"""
    return redirect(c, r.target, extra=[("Location", "http://elsewhere.example.net/")])


@fault("redirect-huge")
def _(c, a, r, size=1 << 20):
    """a Location of a megabyte"""
    return redirect(c, "/" + "a" * size)


@fault("redirect-metadata")
def _(c, a, r, address="169.254.169.254"):
    """to an address that only the machine itself can reach"""
    return redirect(c, "http://%s/latest/meta-data/" % address)


# -- before the first request ---------------------------------------------------------

@fault("connect-close", "connect")
def _(c, a, r):
    """accepted and closed"""
    raise httpd.Gone


@fault("connect-reset", "connect")
def _(c, a, r):
    """accepted and reset"""
    c.abort()


@fault("connect-stall", "connect")
def _(c, a, r):
    """accepted, and not a word"""
    while True:
        c.server.pause(3600)


@fault("tls-stall", "connect")
def _(c, a, r):
    """the client's hello is read, and not answered"""
    c.fill()
    c.wait_for_peer()


@fault("tls-close", "connect")
def _(c, a, r):
    """the end of the connection after the client's hello"""
    c.fill()
    raise httpd.Gone


@fault("tls-garbage", "connect")
def _(c, a, r):
    """garbage in answer to the client's hello"""
    c.fill()
    c.send(b"\x16\x03\x03\xff\xff" + bytes(range(256)) * 8)
    raise httpd.Gone


@fault("tls-alert", "connect")
def _(c, a, r, code=40):
    """a fatal alert (handshake_failure) in answer to the client's hello"""
    c.fill()
    c.send(bytes([21, 3, 3, 0, 2, 2, code]))
    raise httpd.Gone


@fault("tls-plain", "connect")
def _(c, a, r):
    """an HTTP answer in clear text in answer to the client's hello"""
    c.fill()
    c.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    raise httpd.Gone


@fault("tls-drip", "connect")
def _(c, a, r, interval=1.0):
    """a TLS record that comes byte by byte"""
    c.fill()
    for byte in b"\x16\x03\x03\x40\x00\x02" + bytes(0x4000):
        c.send(bytes([byte]))
        c.server.pause(interval)


if __name__ == "__main__":
    for fault_name, function in FAULTS.items():
        print("%-24s %-8s %s" % (fault_name, function.on, function.text))
