#!/usr/bin/env python3
"""A large file in several streams: when, and what servers do to its parts."""

import contextlib
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from bench import OURS, Case, fault                                       # noqa: E402
from harness import *                                               # noqa: E402,F403
from bench import main                                              # noqa: E402,F811

SIZE = 96 << 20
FILES = {"big.bin": SIZE}
LOST = 17 << 20         # what came ahead of its turn and is less than 16 MiB is given up
SLOW = 12 << 20         # bytes a second of each connection: worth several


def parts(log):
    return [r for r in gets(log) if r["status"] == 206]


def ranges(part):
    """[(first, last)] of the requests for a part that a FaultServer was asked."""
    found = []
    for request in part.server.requests:
        said = request.header("Range") if request.method == "GET" else None
        if said:
            first, last = said.split("=")[1].split("-")
            found.append((int(first), int(last) if last else None))
    return found


class Case(Case):
    @staticmethod
    def apart():
        return OURS + ("mp", "dp-nginx")    # the latter has a socket in its folder


@check
def a_fast_server_gets_one_request():
    with Case(files=FILES) as s:
        part = s.lab.dp_nginx()
        s.locate(s.share(part))
        same(s.go().status, 0, "status")
        same(len(gets(web.access_log(part))), 1, "requests")


@check
def a_large_file_of_a_near_server_has_a_connection_of_its_own():
    """HTTP/2 is for the list and the small ones."""
    with Case(files={"big.bin": SIZE, "a.bin": 1000, "b.bin": 2000}) as s:
        part = s.lab.dp_nginx(tls=s.lab.ca.server("127.0.0.1"), http2=True)
        s.locate(s.share(part, scheme="https"))
        same(s.go().status, 0, "status")
        log = {r["uri"].rpartition("/")[2]: r for r in gets(web.access_log(part))}
        same(log["big.bin"]["protocol"], "HTTP/1.1", "protocol of the large file")
        same(log["a.bin"]["protocol"], "HTTP/2.0", "protocol of a small one")
        same(log["a.bin"]["connection"], log["b.bin"]["connection"], "connections")


@check
def a_slow_server_gets_several_and_few_bytes_twice():
    with Case(files=FILES) as s:
        part = s.lab.dp_nginx(rate="%d" % SLOW)
        s.locate(s.share(part))
        run = s.go()
        same(run.status, 0, "status")
        log = web.access_log(part)
        expect(len({r["connection"] for r in parts(log)}) > 1, log)
        same(run.json["bytes_received"], SIZE, "bytes received")
        # of the first stream some were under way when it was cut
        expect(bytes_served(log) < SIZE + (8 << 20), bytes_served(log))


@check
def one_connection_is_one_stream():
    with Case(files=FILES, settings={"transfer.connections": "1"}) as s:
        part = s.lab.dp_nginx(rate="%d" % (3 * SLOW))
        s.locate(s.share(part))
        same(s.go().status, 0, "status")
        same(len(gets(web.access_log(part))), 1, "requests")


@check
def a_small_file_is_one_stream():
    with Case(files={"a.bin": 20 << 20}) as s:
        part = s.lab.dp_nginx(rate="%d" % SLOW)
        s.locate(s.share(part))
        same(s.go().status, 0, "status")
        same(len(gets(web.access_log(part))), 1, "requests")


@contextlib.contextmanager
def in_the_midst():
    """(case, server, agent): half of it is there, in several streams."""
    with Case(files=FILES) as s:
        part = s.lab.dp_nginx(rate="%d" % SLOW)
        s.locate(s.share(part))
        s.policy()
        with Running(s) as running:
            running.until_bytes(SIZE // 2)
            yield s, part, running


def goes_on(s):
    run = s.go()
    same(run.status, 0, "status")
    expect(SIZE // 2 - LOST < run.json["bytes_resumed"] < SIZE, run.json)
    same(run.json["bytes_resumed"] + run.json["bytes_received"], SIZE, "bytes")


@check
def killed_in_the_midst_what_came_counts():
    with in_the_midst() as (s, part, running):
        running.signal(signal.SIGKILL)
        running.process.wait()
        expect(len(parts(web.access_log(part))) > 1, "it came in one stream")
        goes_on(s)


@check
def interrupted_the_rest_comes_later():
    with in_the_midst() as (s, _, running):
        running.signal(signal.SIGTERM)
        same(running.finish().status, 143, "status")
        expect(running.took < 1.5, running.took)
        goes_on(s)


@check
def interrupted_and_then_a_server_that_gives_no_parts():
    """What lies there in parts is of no use with it."""
    with in_the_midst() as (s, _, running):
        running.signal(signal.SIGTERM)
        running.finish()
        whole = s.faulty(fault.Rule("range-ignored", on="range", path="*big.bin*"))
        s.sources(whole)
        run = s.go()
        same(run.status, 0, "status")
        expect(ranges(whole), "no part was asked for")
        same(run.json["result"], "verified", "result")


def cached_bytes(path):
    """Of the file, in the page cache."""
    said = subprocess.run(["fincore", "--bytes", "--noheadings", "--output", "RES", path],
                          stdout=subprocess.PIPE, text=True, check=True)
    return int(said.stdout)


def page_cache(name, rate, **settings):
    def run():
        with Case(files=FILES, settings=settings) as s:
            kind = subprocess.run(["stat", "-f", "-c", "%T", s.path()],
                                  stdout=subprocess.PIPE, text=True, check=True)
            if kind.stdout.strip() == "tmpfs":
                skip("the folder of the tests is in memory")
            part = s.lab.dp_nginx(**({"rate": "%d" % rate} if rate else {}))
            s.locate(s.share(part))
            s.policy()
            wants(s.run("--download", PACKAGE, "--json"), 0)    # go() reads it all
            left = cached_bytes(os.path.join(s.published(), "big.bin"))
            expect(left < 8 << 20, "%d bytes are in the page cache" % left)
    run.__name__ = "the page cache is left alone by " + name
    return run


check(page_cache("one stream", 0))
check(page_cache("several", SLOW))


def from_cloud(storage):
    with Site(files=FILES, storage=storage) as s:
        s.without("dp01", "dp02")
        run = s.download()
        same(run.json["source"]["kind"], "cloud")
        same(run.json["bytes_received"], SIZE, "bytes received")
        s.expect_published()
        return web.access_log(s.world.storage) if storage == "nginx" else None


@check
def cloud_storage_gets_several_at_once():
    """Without a trial, however fast it is."""
    log = from_cloud("nginx")
    expect(len(parts(log)) > 1, log)


@check
def azurite_gives_parts():
    from_cloud("azurite")


@check
def kept_bytes_are_hashed_while_the_rest_comes():
    """And no stop in between costs one of them."""
    with Case(files=FILES) as s:
        part = s.lab.dp_nginx(rate="%d" % (SLOW // 4))  # progress comes twice a second
        s.locate(s.share(part))
        s.policy()
        done = 0
        for more in (24 << 20, 12 << 20, 12 << 20):
            with Running(s) as running:
                first = running.until(lambda p: p["step"] == "transfer")
                expect(first["bytes_resumed"] > done - LOST, first, done)
                done = running.until_bytes(first["bytes_resumed"] + more)["bytes_done"]
                running.signal(signal.SIGINT)
                same(running.finish().status, 130, "status")
        run = s.go()
        same(run.status, 0, "status")
        expect(run.json["bytes_resumed"] > done - LOST, run.json)
        same(run.json["bytes_resumed"] + run.json["bytes_received"], SIZE, "bytes")


# What a server may do to a request for a part, and content arrives all the same:
# either it comes in one stream then, or the part is asked for again.
HARMLESS = ("range-ignored", "range-200-tail", "range-multipart", "range-416",
            "range-416-false", "range-304", "range-no-header", "range-garbled",
            "range-empty", "range-short", "range-less", "range-wrong-start",
            "range-wrong-total", "range-unknown-total", "range-weak-etag",
            "range-no-etag", "close")
# A lie that only the hash finds out, or another version.
LIES = ("range-false-bytes", "range-changed-silently", "range-new-etag",
        "range-changed", "range-412")


def under_fault(name, **rule):
    # a slow server on a busy machine is not a silent one
    with Case(files=FILES, settings={"transfer.stall_timeout": "20s"}) as s:
        part = s.faulty(fault.Rule(name, on="range", path="*big.bin*", **rule),
                        rate=SLOW)
        s.sources(part)
        run = s.go(bound=60)
        return run, ranges(part)


def always(name, **rule):
    def run():
        got, asked = under_fault(name, **rule)
        same(got.status, 0, name)
        expect(asked, "no part was asked for")
    run.__name__ = "always " + name
    return run


def twice(name):
    """After the server had agreed to give parts."""
    def run():
        got, asked = under_fault(name, skip=1, times=2)
        same(got.status, 0, name)
        expect(len(asked) > 2, asked)
    run.__name__ = "twice " + name
    return run


def lie(name):
    def run():
        got, asked = under_fault(name, times=1)
        expect(got.status in (0, 22, 23), got.status)
        expect(asked, "no part was asked for")
    run.__name__ = "lie " + name
    return run


for fault_name in HARMLESS:
    check(always(fault_name))
for fault_name in ("early-close", "reset-at"):
    check(always(fault_name, at=3 << 20))
for fault_name in ("early-close", "reset-at", "close", "range-short", "range-ignored"):
    check(twice(fault_name))
for fault_name in LIES:
    check(lie(fault_name))


if __name__ == "__main__":
    sys.exit(main())
