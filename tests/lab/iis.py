"""A distribution point that answers as IIS does: absolute hrefs, `sccm?/` file URLs.

It is honest and complete (HEAD, Range, If-Range, ETag, PROPFIND of depth 0 and 1,
keep-alive); fault.py puts the lies on top of it.
"""

import email.utils
import os
import time
import urllib.parse
from xml.sax.saxutils import escape

import httpd

SHARE = "SMS_DP_SMSPKG$"
REASONS = {200: "OK", 206: "Partial Content", 207: "Multi-Status", 204: "No Content",
           301: "Moved Permanently", 302: "Found", 303: "See Other",
           304: "Not Modified", 307: "Temporary Redirect",
           308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
           403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
           407: "Proxy Authentication Required", 410: "Gone",
           412: "Precondition Failed", 416: "Range Not Satisfiable",
           421: "Misdirected Request", 429: "Too Many Requests",
           500: "Internal Server Error", 503: "Service Unavailable"}


class Answer:
    """An honest answer, not yet sent; a fault changes it on its way out.

    first, last  of the bytes in it, counted in the whole; total: of the whole
    whole()      the whole file (or page), whatever the range was
    """

    def __init__(self, status, body=b"", headers=(), path=None):
        self.status, self.path = status, path
        self.headers = list(headers)
        self.page = body
        self.total = os.path.getsize(path) if path else len(body)
        self.first, self.last = 0, self.total - 1
        self.etag = None

    def body(self):
        return self.read(self.first, self.last + 1 - self.first)

    def whole(self):
        return self.read(0, self.total)

    def read(self, offset, count):
        if not self.path:
            return self.page[offset:offset + count]
        with open(self.path, "rb") as stream:
            stream.seek(offset)
            return stream.read(count)

    def pieces(self, step=1 << 18):
        for at in range(self.first, self.last + 1, step):
            yield self.read(at, min(step, self.last + 1 - at))

    @property
    def length(self):
        return self.last + 1 - self.first

    def with_header(self, name, value):
        """Replace a header, or take it away (None)."""
        self.headers = [h for h in self.headers if h[0].lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))
        return self


class IisServer(httpd.Server):
    """root/<content id>/... below each virtual directory that exists.

    vdirs      {prefix: "open" | "cert" | "token" | status}, as in web.py
    href       "absolute", "path", or "sccm": how PROPFIND names the entries
    prefix     of the DAV namespace; lengths: getcontentlength for files?
    etags      "strong", "weak" or "none"
    token      what Authorization must be where the rule is "token"
    plain      are file URLs without `sccm?/` served too?
    rate       bytes a second of each connection, about; 0 = all it can
    at_root    also serve root itself at `/`, as plain storage would
    """

    def __init__(self, root, vdirs=None, token="T", href="absolute", prefix="a",
                 etags="strong", plain=True, lengths=True, at_root=False, rate=0,
                 **how):
        self.root, self.token, self.href = root, token, href
        self.vdirs = {"": "open"} if vdirs is None else vdirs
        self.prefix, self.etags, self.plain = prefix, etags, plain
        self.lengths, self.at_root, self.rate = lengths, at_root, rate
        super().__init__(**how)

    def respond(self, connection, request):
        return self.send(connection, request, self.answer(connection, request))

    def send(self, connection, request, answer):
        connection.send(head(answer))
        if request.method != "HEAD":
            for piece in answer.pieces():
                connection.send(piece)
                if self.rate:
                    time.sleep(len(piece) / self.rate)
        return (request.header("Connection") or "").lower() != "close"

    # -- the honest answer ---------------------------------------------------

    def answer(self, connection, request):
        where = self.find(connection, request)
        if isinstance(where, int):
            extra = [("WWW-Authenticate", "Negotiate")] if where == 401 else []
            return page(where, extra)
        if request.method == "PROPFIND":
            return self.listing(request, where)
        if request.method not in ("GET", "HEAD"):
            return page(405, [("Allow", "GET, HEAD, PROPFIND")])
        if not os.path.isfile(where):
            return page(403 if os.path.isdir(where) else 404)
        return self.file(request, where)

    def find(self, connection, request):
        """The path that a URL means, or the status that refuses it."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(request.target).path)
        for prefix, rule in self.vdirs.items():
            start = "/%s%s/" % (prefix, SHARE)
            if path.lower().startswith(start.lower()):
                refused = self._refused(connection, request, rule)
                return refused or self._inside(request, path[len(start):])
        return self._beneath(path.lstrip("/")) if self.at_root else 404

    def _refused(self, connection, request, rule):
        if isinstance(rule, int):
            return rule
        if rule == "token" and request.header(
                "Authorization") != "Bearer " + self.token:
            return 401
        if rule == "cert" and not (connection.is_tls
                                   and connection.sock.getpeercert()):
            return 403
        return None

    def _inside(self, request, relative):
        folder, _, last = relative.partition("/")
        if last == "sccm" and request.query.startswith("/"):
            name = urllib.parse.unquote(request.query.split("#")[0])
            return self._beneath(folder + name)
        if not self.plain and request.method != "PROPFIND":
            return 404
        return self._beneath(relative)

    def _beneath(self, relative):
        parts = [p for p in relative.split("/") if p]
        if any(p in (".", "..") or "\0" in p for p in parts):
            return 400
        path = os.path.join(self.root, *parts)
        return path if os.path.exists(path) else 404

    def etag(self, path):
        about = os.stat(path)
        text = '"%x%x:0"' % (about.st_mtime_ns, about.st_size)
        return {"strong": text, "weak": "W/" + text, "none": None}[self.etags]

    def file(self, request, path):
        etag = self.etag(path)
        changed = email.utils.formatdate(os.path.getmtime(path), usegmt=True)
        answer = Answer(200, path=path)
        answer.etag = etag
        answer.headers = [("Content-Type", "application/octet-stream"),
                          ("Last-Modified", changed), ("Accept-Ranges", "bytes")]
        if etag:
            answer.headers.append(("ETag", etag))
        match = request.header("If-Match")
        if match and match not in ("*", etag):
            return page(412)
        asked = request.header("Range", "")
        condition = request.header("If-Range")
        if asked.startswith("bytes=") and "," not in asked and (
                condition in (None, changed)
                or (condition == etag and self.etags == "strong")):
            return self.range(answer, asked[6:])
        return answer

    @staticmethod
    def range(answer, text):
        first, _, last = text.partition("-")
        try:
            if first:
                begin = int(first)
                end = min(int(last) if last else answer.total, answer.total - 1)
            else:
                begin, end = max(0, answer.total - int(last)), answer.total - 1
        except ValueError:
            return answer
        if begin >= answer.total or end < begin:
            return page(416, [("Content-Range", "bytes */%d" % answer.total)])
        answer.status, answer.first, answer.last = 206, begin, end
        answer.headers.append(("Content-Range", content_range(answer)))
        return answer

    # -- PROPFIND ------------------------------------------------------------

    def listing(self, request, where):
        depth = request.header("Depth", "1")
        if depth == "infinity":
            return page(403)
        scheme = "https" if request.is_tls else "http"
        origin = "%s://%s" % (scheme, request.header("Host", "%s:%d" % (
            self.address, self.port)))
        base = request.path.rstrip("/")
        entries = [(base, where)]
        if depth != "0" and os.path.isdir(where):
            entries += [(base + "/" + urllib.parse.quote(name),
                         os.path.join(where, name))
                        for name in sorted(os.listdir(where))]
        return Answer(207, multistatus(
            [(self._href(origin, href, path), None if os.path.isdir(path) else
              os.path.getsize(path), os.path.getmtime(path))
             for href, path in entries], self.prefix, self.lengths),
            [("Content-Type", "text/xml"), ("DAV", "1,2,3")])

    def _href(self, origin, href, path):
        if os.path.isdir(path):
            href += "/"
        elif self.href == "sccm":
            start = href.index(SHARE) + len(SHARE) + 1
            content, _, name = href[start:].partition("/")
            href = "%s%s/sccm?/%s" % (href[:start], content, name)
        return href if self.href == "path" else origin + href


def multistatus(entries, prefix="a", lengths=True):
    """A PROPFIND answer as IIS words it; a test may list what it likes.

    entries  (href, size[, time of change]); the size of a folder is None
    """
    p = prefix
    text = ("<?xml version=\"1.0\" encoding=\"utf-8\"?><%s:multistatus "
            "xmlns:b=\"urn:uuid:c2f41010-65b3-11d1-a29f-00aa00c14882/\" "
            "xmlns:%s=\"DAV:\">" % (p, p))
    for href, size, *changed in entries:
        name = urllib.parse.unquote(href.rstrip("/").rpartition("/")[2])
        name = "".join(c for c in name if c >= " ")
        fields = [("displayname", name),
                  ("getlastmodified", email.utils.formatdate(
                      changed[0] if changed else 0, usegmt=True))]
        kind = "<%s:resourcetype/>" % p
        if size is None:
            kind = "<%s:resourcetype><%s:collection/></%s:resourcetype>" % (p, p, p)
        if size is None or lengths:
            fields.append(("getcontentlength", str(size or 0)))
        inner = kind + "".join("<%s:%s>%s</%s:%s>" % (p, k, escape(v), p, k)
                               for k, v in fields)
        text += ("<{0}:response><{0}:href>{1}</{0}:href><{0}:propstat><{0}:status>"
                 "HTTP/1.1 200 OK</{0}:status><{0}:prop>{2}</{0}:prop>"
                 "</{0}:propstat></{0}:response>").format(p, escape(href), inner)
    return (text + "</%s:multistatus>" % p).encode()


def content_range(answer):
    return "bytes %d-%d/%d" % (answer.first, answer.last, answer.total)


def page(status, headers=()):
    text = "<html><title>%d</title><h1>%s</h1></html>" % (
        status, REASONS.get(status, "?"))
    return Answer(status, text.encode(), [("Content-Type", "text/html"), *headers])


def head(answer, length=True, reason=None, version="HTTP/1.1"):
    """Status line and headers as bytes; length=False leaves Content-Length out."""
    lines = ["%s %d %s" % (version, answer.status,
                           reason or REASONS.get(answer.status, "Something"))]
    lines += ["Server: Microsoft-IIS/10.0"]
    lines += ["%s: %s" % header for header in answer.headers]
    if length:
        lines.append("Content-Length: %d" % answer.length)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
