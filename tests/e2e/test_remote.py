#!/usr/bin/env python3
"""The service with policy that comes over the network: when it polls, what becomes of
a poll that fails, reports that wait; windows that close; policy that cannot be read."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness                                                      # noqa: E402
import test_policy                                                  # noqa: E402
import test_site                                                    # noqa: E402

del harness.CHECKS[:]     # of those two the sites are wanted, not the checks

import httpd                                                        # noqa: E402
from harness import (NAME, PACKAGE, VERSION, Small, check, expect,  # noqa: E402
                     main, processes, replies, same, skip, wants, web)
from service import Service, moment                                 # noqa: E402

MINUTE, HOUR, DAY = 60, 3600, 86400
INNER = "REMOTE_NETWORK_OF_ITS_OWN"
OTHER = "ABC00043"


class Upstream(httpd.Server):
    """A policy server: .body with an ETag made of it, or what .trouble says:
    (status, Retry-After or None), or "close"."""

    def __init__(self, tls, read):
        self.read, self.trouble, self.answers = read, None, []
        super().__init__(tls=tls)

    def respond(self, connection, request):
        if self.trouble == "close":
            self.answers.append("close")
            connection.abort()
        body, headers = b"", []
        if self.trouble:
            status, after = self.trouble
            headers += [("Retry-After", after)] if after is not None else []
        else:
            body = self.read()
            etag = '"%x"' % hash(body)
            status = 304 if request.header("If-None-Match") == etag else 200
            headers.append(("ETag", etag))
        self.answers.append(status)
        body = body if status == 200 else b""
        connection.send(("HTTP/1.1 %d X\r\nContent-Length: %d\r\n" % (
            status, len(body))).encode() + b"".join(
                ("%s: %s\r\n" % h).encode() for h in headers) + b"\r\n" + body)
        return True


class Remote(test_policy.PolicySite):
    """Signed policy by https, of nginx or (upstream=True) of a server whose moods the
    check sets; polled each hour."""

    def __init__(self, upstream=False, **settings):
        super().__init__(**{"policy.poll_interval": "60m",
                            **{k.replace("__", "."): v for k, v in settings.items()}})
        if upstream:
            self.upstream = Upstream(self.tls, self.read)
            self.lab.parts.adopt("upstream", self.upstream)
            self.settings["policy.source"] = ("https://127.0.0.1:%d/all.cms"
                                              % self.upstream.port)
            self.conf()

    def read(self):
        with open(os.path.join(self.www, "all.cms"), "rb") as stream:
            return stream.read()

    def statuses(self):
        return [r["status"] for r in web.access_log(self.web)]

    def serve(self, *words):
        """Our content is deployed."""
        self.deploy(VERSION, *words)
        self.bundle()


def next_poll(service):
    """Seconds from the last poll to the next."""
    status = service.status()
    return moment(status["service"]["next_poll"]) - moment(status["policy"]["last_poll"])


def left(service):
    """Seconds from now to the next poll."""
    return moment(service.status()["service"]["next_poll"]) - service.now()


def until_polled(service):
    """To the next poll, and through it; the status after it."""
    before = service.status()["policy"]["last_poll"]
    wait = left(service)
    service.jump(max(wait, 0) + 2)

    def good(status):
        return (status["policy"]["last_poll"] != before and status["service"]["next_poll"]
                and not status["service"]["polling"] and status)
    return service.until(good, "a poll")


# -- when it polls --------------------------------------------------------------------

@check
def the_first_poll_is_at_a_random_point():
    """each start another one, and nobody is asked before"""
    with Remote(policy__poll_interval="10h") as s:
        s.serve()
        waits = []
        for _ in range(6):
            with Service(s) as service:
                waits.append(left(service))
                same(service.status()["policy"]["last_poll"], None, "last poll")
                service.stop()
        expect(all(-2 <= wait <= 10 * HOUR for wait in waits), waits)
        expect(max(waits) - min(waits) > HOUR / 2, "all at once:", waits)
        same(s.statuses(), [], "requests")


@check
def polls_come_at_the_interval_and_cost_little():
    """ten per cent sooner or later, each another time; 304 where nothing changed"""
    with Remote() as s:
        s.serve()
        with Service(s, fake=True) as service:
            until_polled(service)
            service.until_state(NAME, "here")
            s.expect_published()
            waits = []
            for _ in range(8):
                waits.append(next_poll(service))
                status = until_polled(service)
                same(status["policy"]["error"], None, "error")
            expect(all(0.9 * HOUR - 2 <= wait <= 1.1 * HOUR + 2 for wait in waits),
                   waits)
            expect(max(waits) - min(waits) > 30, "no jitter:", waits)
            same(s.statuses(), [200] + 8 * [304], "answers")
            same(service.job(NAME)["state"], "here")


@check
def poll_by_hand_is_at_once():
    with Remote() as s:
        s.serve()
        with Service(s) as service:
            wants(s.run("--poll"), 0)
            service.until_state(NAME, "here")
            same(s.statuses(), [200], "answers")
            wants(s.run("--poll"), 0)
            same(s.statuses(), [200, 304], "answers")
            s.web.stop()
            run = s.run("--poll", "--json")
            expect(run.status not in (0, 1), "a poll that fails:", run)
            same(service.job(NAME)["state"], "here")


# -- polls that fail ------------------------------------------------------------------

@check
def retry_after_is_honoured_and_bounded():
    with Remote(upstream=True) as s:
        s.serve()
        with Service(s, fake=True) as service:
            for asked, least, most in ((1200, 1199, 1260), (None, 55, 122),
                                       (99999999, HOUR - 2, HOUR + 2), (7, 235, 482)):
                s.upstream.trouble = (503, asked)
                status = until_polled(service)
                same(status["policy"]["error"]["detail"], "BUSY", "error")
                wait = next_poll(service)
                expect(least <= wait <= most, "asked for", asked, "it waits", wait)
                same(status["policy"]["last_good_poll"], None, "good poll")
            s.upstream.trouble = None
            status = until_polled(service)
            same(status["policy"]["error"], None, "error")
            expect(0.9 * HOUR - 2 <= next_poll(service) <= 1.1 * HOUR + 2, "interval")
            service.until_state(NAME, "here")


@check
def failed_polls_back_off_and_the_old_policy_counts():
    with Remote(upstream=True) as s:
        s.serve()
        with Service(s, fake=True) as service:
            status = until_polled(service)
            good = status["policy"]["last_good_poll"]
            service.until_state(NAME, "here")
            before = s.state()
            s.upstream.trouble = "close"
            for n in range(9):
                status = until_polled(service)
                expect(status["policy"]["error"], "no error", status["policy"])
                same(status["policy"]["last_good_poll"], good, "good poll")
                wait, most = next_poll(service), min(MINUTE * 2 ** n, HOUR)
                expect(most / 2 - 2 <= wait <= most + 2, n, "it waits", wait)
            same(s.state(), before, "kept")
            wants(s.run("--cache", "remove", NAME, env=service.env), 0)
            until_polled(service)          # which fails, too
            service.until_state(NAME, "here")
            s.expect_published()
            service.stop()                 # nor does a restart forget it
            s.forget()
            service.start()
            service.until_state(NAME, "here")
            s.upstream.trouble = None
            status = until_polled(service)
            same(status["policy"]["error"], None, "error")
            expect(moment(status["policy"]["last_good_poll"]) > moment(good), status)
            same(s.upstream.answers[-1], 304, "answer")


@check
def rollback_is_refused_and_named():
    with Remote() as s:
        s.serve()
        old = s.path("old.cms")
        shutil.copy(s.path("signed"), old)
        s.deploy(VERSION, "--name", "newer")
        s.bundle(at=600)
        with Service(s, fake=True) as service:
            service.jump(900)
            wants(s.run("--poll"), 0)
            service.until_state(NAME, "here")
            before = s.state()
            s.publish(old, "all.cms")
            run = wants(s.run("--poll", "--json"), 3)
            expect("older" in run.out + run.err, run)
            error = service.status()["policy"]["error"]
            same(error["detail"], "ROLLBACK", "error")
            same(s.state(), before, "kept")
            same(service.job(NAME)["name"], "newer")
            text = wants(s.run("--status"), 0).out
            expect("older" in text, text)


# -- policy that changes upstream -------------------------------------------------------

@check
def changed_upstream():
    """what is deployed there arrives at the next poll"""
    with Remote() as s:
        s.serve("--purpose", "available")
        with Service(s, fake=True) as service:
            until_polled(service)
            same(service.job(NAME)["state"], "on request")
            s.expect_nothing()
            s.serve("--purpose", "required")
            until_polled(service)
            service.until_state(NAME, "here")
            s.expect_published()
            same(s.statuses(), [200, 200], "answers")


@check
def withdrawn_upstream_in_mid_transfer():
    with Remote(transfer__rate_limit="16k") as s:
        path = s.deploy()
        s.bundle()
        with Service(s) as service:
            wants(s.run("--poll"), 0)
            service.until(lambda st: [j for j in st["jobs"] if j["progress"]],
                          "a transfer")
            os.rename(path, path + ".gone")
            test_policy.make_policy(s.path("content", PACKAGE), "--package", OTHER,
                                    "--version", "1", "--purpose", "available",
                                    "--out", s.dir)
            s.bundle()
            wants(s.run("--poll"), 0)
            service.until(lambda st: not any(j["progress"] for j in st["jobs"]),
                          "the transfer to stop")
            same([j["content"] for j in service.status()["jobs"]], [OTHER], "jobs")
            service.until(lambda _: not service.children(), "the job's end")
            expect(s.partial(), "nothing is kept")
            s.expect_nothing()


# -- the site -----------------------------------------------------------------------------

@check
def site_registers_once_over_restarts():
    with test_site.Mp() as s:
        s.serve()
        s.mp.deploy(PACKAGE, VERSION)
        with Service(s, fake=True) as service:
            for n in range(3):
                wants(s.run("--poll"), 0)
                service.until_state(NAME, "here")
                same(len(s.asked("MP_ClientRegistration")), 1, "registrations")
                same(service.stop(), 0, "exit status")
                service.start()
            same(s.mp.clients(), [s.smsid()], "clients")
            same(len(s.asked("MP_PolicyManager")), 3, "assignments")


def outbox(s):
    """How many state messages wait."""
    path = "file:%s?mode=ro" % s.path("state", "state.db")
    with contextlib.closing(sqlite3.connect(path, uri=True)) as base:
        return base.execute("SELECT count(*) FROM outbox").fetchone()[0]


def told(s, name=NAME):
    return [int(m["state"]) for m in s.mp.state_messages() if m["topic"] == name]


@check
def state_messages_arrive_and_wait():
    """sent when the content is here; while no answer comes they wait, then they come in
    their order; what was taken is not sent again"""
    with test_site.Mp() as s:
        s.serve()
        s.mp.deploy(PACKAGE, VERSION)
        with Service(s, fake=True) as service:
            wants(s.run("--poll"), 0)
            service.until(lambda _: told(s) == [1, 2, 3], "the reports")
            same({m["signed_by"] for m in s.mp.state_messages()}, {s.smsid()})
            service.until(lambda _: outbox(s) == 0, "an empty outbox")
            s.mp.script("on relay\nclose\n")
            made = s.lab.content(OTHER, 2, 1 << 12)
            s.mp.publish(OTHER, replies.location_reply([replies.record(
                "http://127.0.0.1:%d/%s/%s" % (s.dp.port, web.SHARE, OTHER))]))
            s.lab.policy(OTHER, 1, made)
            wants(s.run("--poll"), 0)
            service.until_state(OTHER + ".1", "here")
            service.until(lambda _: outbox(s) == 3 and not service.children(),
                          "reports that wait")
            service.stop()
            service.start()                # nor does a restart lose them
            same(outbox(s), 3, "reports that wait")
            # the stand-in has heard the first one each time, and did not say so
            same(set(told(s, OTHER + ".1")), {1}, "heard so far")
            s.mp.script("")
            wants(s.run("--poll"), 0)
            service.until(lambda _: outbox(s) == 0, "an empty outbox")
            same(told(s, OTHER + ".1")[-3:], [1, 2, 3], "reports")
            same(told(s), [1, 2, 3], "reports of before")


@check
def an_outbox_that_is_full_loses_the_oldest():
    with test_site.Mp() as s:
        s.serve()
        s.mp.script("on relay\nclose\n")
        s.mp.deploy(PACKAGE, VERSION)
        with Service(s) as service:
            wants(s.run("--poll"), 0)
            service.until_state(NAME, "here")
            service.until(lambda _: not service.children(), "all work to end")
            service.stop()
            with contextlib.closing(sqlite3.connect(s.path("state", "state.db"))) as b:
                b.executemany("INSERT INTO outbox (at, topic, state, details)"
                              " VALUES (1, ?, 1, '')",
                              [("ABC10000.%d" % n,) for n in range(5000)])
                b.commit()
            made = s.lab.content(OTHER, 2, 1 << 12)
            s.lab.policy(OTHER, 1, made, purpose="available")
            service.start()
            service.until(lambda _: outbox(s) == 2000, "the oldest to go")
            with contextlib.closing(sqlite3.connect(s.path("state", "state.db"))) as b:
                names = [row[0] for row in b.execute("SELECT topic FROM outbox"
                                                     " ORDER BY id")]
            same(names[-2:], ["ABC10000.4999", OTHER + ".1"], "the newest")


# -- the network comes back -----------------------------------------------------------------

def ip(*words):
    done = subprocess.run(["ip", *words], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.strip()


def network_comes_back():
    """in a network of its own: an address appears, and the overdue poll is made"""
    same(ip("link", "set", "lo", "up")[0], 0, "lo up")
    with Remote(upstream=True) as s:
        s.serve()
        with Service(s, fake=True) as service:
            s.upstream.trouble = "close"
            until_polled(service)
            until_polled(service)
            expect(left(service) > 40, "it waits", left(service))
            s.upstream.trouble = None
            before = len(s.upstream.answers)
            # one that leads nowhere
            ip("addr", "add", "127.1.2.3/8", "dev", "lo")
            expect(left(service) > 30, "loopback is no network")
            ip("addr", "add", "10.9.8.7/24", "dev", "link0")
            ip("link", "set", "link0", "up")
            service.until(lambda _: left(service) <= 10, "the poll to be sooner")
            same(len(s.upstream.answers), before, "not at once: a whole site is back")
            service.jump(11)
            service.until_state(NAME, "here")
            same(service.status()["policy"]["error"], None, "error")
            with open(s.path("log", "PolicyAgent.log")) as stream:
                expect("the network is back" in stream.read(), "in the log")
            # when all is well, nobody cares
            wait = left(service)
            ip("addr", "add", "10.9.9.9/24", "dev", "link0")
            expect(left(service) > wait - 60, "polled without need")


@check
def a_network_that_comes_back():
    """rtnetlink: a poll that failed is repeated within ten seconds"""
    if os.geteuid() != 0:
        skip("a network namespace needs root")
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        skip("unshare or ip is not installed")
    inner = ["unshare", "--net", "sh", "-c",
             "ip link add link0 type dummy || ip link add link0 type veth peer name "
             "link1 && ip link set link1 up"]
    done = subprocess.run(inner, capture_output=True, text=True)
    if done.returncode:
        skip("no network of its own here: " + done.stderr.strip())
    inner[-1] = "{ %s; } && exec \"$@\"" % inner[-1]
    run = subprocess.run(
        [*inner, "sh", sys.executable, "-B", os.path.abspath(__file__), "--agent",
         harness._shared["built"]], env={**os.environ, INNER: "1"}, text=True,
        capture_output=True, timeout=300)
    if "SKIPPED" in run.stdout:
        skip(run.stdout.strip())
    expect(run.returncode == 0 and "1 passed, 0 failed" in run.stdout, run.stdout,
           run.stderr)


# -- windows that close ---------------------------------------------------------------------

def clock_text(at):
    return "%02d:%02d" % (at // HOUR % 24, at // MINUTE % 60)


class Windowed(Small):
    """Content that takes some seconds, and a window that is open now, in UTC: it ends
    in three to four minutes."""

    def __init__(self, **policy):
        super().__init__(files={"big.bin": 8 << 20},
                         settings={"transfer.rate_limit": "1M"})
        self.dp = self.lab.dp_nginx()
        self.locate(self.share(self.dp))
        self.policy(**policy)

    def open(self, now):
        self.end = (now // MINUTE + 4) * MINUTE
        self.conf(schedule__window="%s-%s" % (clock_text(now - HOUR),
                                              clock_text(self.end)))

    def begin(self):
        service = Service(self, fake=True, env={"TZ": "UTC"}, start=False)
        self.open(service.now())
        return service.start()


def in_transfer(service):
    def good(status):
        for job in status["jobs"]:
            if job["progress"] and job["progress"]["bytes_done"] > 1 << 20:
                return job
        return None
    return service.until(good, "a transfer")


@check
def a_window_that_closes_in_mid_transfer():
    """the transfer is stopped, what came is kept, and the next window goes on with it"""
    with Windowed() as s, s.begin() as service:
        in_transfer(service)
        service.jump(s.end - service.now() - 20)
        expect(service.job(NAME)["progress"], "stopped too early")
        service.jump(21)
        job = service.until_state(NAME, "waiting")
        expect("window" in job["reason"], job["reason"])
        service.until(lambda _: not service.children(), "the job's end")
        expect(s.partial(), "nothing is kept")
        s.expect_nothing()
        opens = moment(service.job(NAME)["next_try"])
        expect(22 * HOUR < opens - service.now() < 24 * HOUR, "opens", opens)
        service.jump(opens - service.now() - 60)
        same(service.job(NAME)["state"], "waiting", "before the window")
        service.jump(62)
        service.until_state(NAME, "here")
        s.expect_published()
        transfers = service.ask("--history", "--json").json["transfers"]
        expect(transfers[0]["bytes_resumed"] >= 1 << 20, "begun anew:", transfers[0])


@check
def urgent_content_does_not_mind_windows():
    """past the deadline a transfer goes on when the window closes"""
    with Windowed(deadline="2021-01-01T00:00:00Z") as s, s.begin() as service:
        in_transfer(service)
        service.jump(s.end - service.now() + 60)
        expect(service.job(NAME)["progress"], "it was stopped")
        service.until_state(NAME, "here")
        s.expect_published()
        same(len(service.ask("--history", "--json").json["transfers"]), 1, "transfers")


@check
def by_hand_does_not_mind_windows():
    with Windowed(purpose="available") as s, s.begin() as service:
        with harness.Running(s) as running:
            running.until_bytes(1 << 20)
            service.jump(s.end - service.now() + 60)
            wants(running.finish(), 0)
        s.expect_published()


@check
def a_clock_that_goes_back_stops_no_second_try():
    """what has begun does not wait for its delay again"""
    with Windowed() as s:
        s.locate()                         # nobody has it
        with Service(s, fake=True) as service:
            job = service.until_state(NAME, "waiting")
            s.locate(s.share(s.dp))
            service.jump(moment(job["next_try"]) - service.now() + 1)
            in_transfer(service)
            service.jump(-10)
            wants(s.run("--poll"), 0)      # all is decided anew
            expect(service.job(NAME)["progress"], "it was stopped")
            service.until_state(NAME, "here")
            same(len([t for t in service.ask("--history", "--json").json["transfers"]
                      if t["bytes_received"]]), 1, "transfers")


# -- policy that cannot be read --------------------------------------------------------------

class Broken(Small):
    """A job that failed once, and whose policy file is half written then."""

    def __init__(self):
        super().__init__(settings={"policy.poll_interval": "30d"})
        self.settings["report.events_file"] = self.path("events.jsonl")
        self.conf()
        self.locate("http://127.0.0.1:%d/%s/%s" % (processes.free_port(), web.SHARE,
                                                   PACKAGE))
        self.file = self.policy()
        wants(self.run("--once"), 22)
        with open(self.file) as stream:
            self.text = stream.read()
        self.write(self.text[:len(self.text) // 3])

    def write(self, text):
        with open(self.file, "w") as stream:
            stream.write(text)

    def events(self):
        with open(self.path("events.jsonl")) as stream:
            return [json.loads(line)["event"] for line in stream]


@check
def once_with_a_file_that_cannot_be_read():
    """it withdraws nothing, and what was tried is remembered"""
    with Broken() as s:
        for _ in range(2):
            wants(s.run("--once"), 3)
        s.write(s.text)
        run = wants(s.run("--once", "--json"), 0)
        job = run.json["jobs"][0]
        expect(job["state"] == "waiting" and "failed 1 time" in job["reason"], job)
        same(s.events(), ["waiting", "failed"], "events")
        os.unlink(s.file)                  # this is what a withdrawal looks like
        wants(s.run("--once"), 0)
        same(s.events(), ["waiting", "failed", "withdrawn"], "events")


@check
def a_service_that_begins_with_a_file_that_cannot_be_read():
    with Broken() as s, Service(s) as service:
        expect(service.status()["policy"]["error"], "no error is shown")
        s.write(s.text)
        job = service.until_state(NAME, "waiting")
        same((job["tries"], s.events()), (1, ["waiting", "failed"]))


@check
def a_bundle_that_is_damaged_withdraws_nothing():
    """what is kept of the network's policy is damaged: the next poll mends it"""
    with Remote(upstream=True) as s:
        events = s.path("events.jsonl")
        s.settings["report.events_file"] = events
        s.conf()
        s.serve()
        s.once()
        with open(s.path("state", "policy.bundle"), "ab") as stream:
            stream.write(b"x")
        s.upstream.trouble = "close"
        expect(s.run("--once").status != 0, "the poll fails")
        s.upstream.trouble = None
        s.once()
        same(s.upstream.answers, [200, "close", 200], "answers")
        with open(events) as stream:
            same([json.loads(line)["event"] for line in stream],
                 ["waiting", "transfer", "arrived"], "events")


if os.environ.get(INNER):
    harness.CHECKS[:] = [network_comes_back]

if __name__ == "__main__":
    sys.exit(main())
