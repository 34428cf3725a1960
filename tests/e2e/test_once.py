#!/usr/bin/env python3
"""--once: what is due is done, in its order and at its time, and what fails comes back."""

import datetime
import fcntl
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import *                                               # noqa: E402,F403
from service import faketime_library, moment, rfc3339               # noqa: E402

HOUR = 3600
PLAIN = ("setup.exe", "data/x.bin")
FAR = "2099-01-01T00:00:00Z"


class Depot(Small):
    """A management point and a distribution point, both plain http, and a clock that
    the check moves."""

    def __init__(self, fake=False, **settings):
        values = {k.replace("__", "."): v for k, v in settings.items()}
        super().__init__(PLAIN, 1 << 12, {"transfer.attempts": 1, **values})
        try:
            self.dp = self.lab.dp_nginx(self.path("dp"))
            self.offset, self.env = 0, {"TZ": "UTC"}
            self.conf(report__events_file=self.path("events.jsonl"),
                      report__metrics_file=self.path("agent.prom"), **settings)
            if fake:
                self.clock = self.path("clock")
                self.env.update(LD_PRELOAD=faketime_library(), FAKETIME_NO_CACHE="1",
                                FAKETIME_TIMESTAMP_FILE=self.clock)
                self.jump(0)
        except BaseException:
            self.lab.stop()
            raise

    def jump(self, seconds):
        self.offset += int(seconds)
        with open(self.clock, "w") as stream:
            stream.write("%+d\n" % self.offset)

    def now(self):
        return datetime.datetime.now().timestamp() + self.offset

    def put(self, package, total=1 << 12):
        """New bytes for a package on the distribution point, which everybody finds."""
        content = self.lab.content(package, PLAIN, total, under="dp",
                                   seed=os.urandom(8).hex())
        self.point(package, self.dp)
        return content

    def point(self, package, *parts):
        """Where the management point says it lies; nowhere without parts."""
        self.mp.publish(package, replies.location_reply([labs.World._record(
            "http://127.0.0.1:%d/%s/%s" % (p.port, web.SHARE, package))
            for p in parts]))

    def deploy(self, package, version=1, content=None, total=1 << 12, **how):
        """The content (made here where none is given) with its policy file."""
        content = content or self.put(package, total)
        self.lab.policy(package, version, content, **how)
        return content

    def once(self, *args, status=0, **how):
        run = wants(self.run("--once", "--json", *args, env=self.env, **how), status)
        expect(run.json is not None, "no JSON:", run.out[:500])
        return Result(run)

    def events(self, *kinds):
        """[(event, "ID.VERSION"), ...], of those kinds."""
        return [(e["event"], "%s.%d" % (e["content"], e["version"]))
                for e in self.event_lines() if not kinds or e["event"] in kinds]

    def event_lines(self):
        if not os.path.exists(self.path("events.jsonl")):
            return []
        with open(self.path("events.jsonl")) as stream:
            return [json.loads(line) for line in stream]

    def cached(self):
        return sorted(os.listdir(self.path("cache", "content")))

    def minutes(self):
        """ClientInOperation of each location request."""
        return [r.get("client_in_operation") for r in self.mp.requests()
                if "package_id" in r]


class Result:
    def __init__(self, run):
        self.run, self.json, self.err = run, run.json, run.err

    def job(self, name):
        for job in self.json["jobs"]:
            if "%s.%s" % (job["content"], job["version"]) == name:
                return job
        raise AssertionError("no job %s in %s" % (name, self.json))

    def state(self, name):
        return self.job(name)["state"]

    def due(self, name):
        return moment(self.job(name)["due"])


# -- what is due ------------------------------------------------------------------------

@check
def all_that_is_due_in_its_order():
    with Depot() as d:
        d.deploy("ABC00001")
        d.deploy("ABC00002", deadline="2020-02-02T00:00:00Z")
        d.deploy("ABC00003", deadline="2020-02-01T00:00:00Z")
        d.deploy("ABC00004", priority="high", deadline="2020-03-01T00:00:00Z")
        d.deploy("ABC00005", priority="low", deadline="2020-01-02T00:00:00Z")
        d.deploy("ABC00006", purpose="available")
        d.deploy("ABC00007", available=FAR)
        r = d.once()
        same(d.events("arrived"), [("arrived", "ABC0000%d.1" % n)
                                   for n in (4, 3, 2, 1, 5)], "order")
        same(d.cached(), ["ABC0000%d.1" % n for n in range(1, 6)])
        same([r.state("ABC0000%d.1" % n) for n in (1, 6, 7)],
             ["here", "on request", "waiting"])
        same(r.due("ABC00007.1"), moment(FAR))
        same(r.json["error"], None)
        # nobody asked for what is not due
        asked = {q["package_id"] for q in d.mp.requests() if "package_id" in q}
        same(asked, {"ABC0000%d" % n for n in range(1, 6)})
        # once more: nothing to do, and nobody is asked
        before = len(d.mp.requests())
        d.once()
        same(len(d.mp.requests()), before)
        # on request it comes
        wants(d.run("--download", "ABC00006"), 0)
        expect("ABC00006.1" in d.cached(), d.cached())


@check
def places_between_available_and_deadline_differ_by_client():
    places = set()
    with Depot(fake=True) as d:
        begin = d.now() - HOUR
        d.deploy("ABC00001", available=rfc3339(begin),
                 deadline=rfc3339(begin + 1000 * HOUR))
        for n in range(4):
            client = "GUID:4F0E7B1C-0000-4000-8000-%012X" % n
            r = d.once("--dry-run", "--set", "client.id=" + client)
            places.add(r.due("ABC00001.1") or 0)
        expect(len(places) >= 3, "the fleet comes at once:", places)
        for place in places - {0}:
            expect(begin <= place <= begin + 750 * HOUR + 2, place - begin)
        due = d.once("--dry-run").due("ABC00001.1")
        d.jump(due - d.now() - 60)
        d.once()
        same(d.events("arrived"), [])
        d.jump(61)
        d.once()
        same(d.events("arrived"), [("arrived", "ABC00001.1")])


@check
def windows_hold_up_what_is_not_urgent():
    now = datetime.datetime.now(datetime.timezone.utc)
    closed = "%02d:00-%02d:00" % ((now.hour + 6) % 24, (now.hour + 8) % 24)
    with Depot(schedule__window=closed) as d:
        d.deploy("ABC00001")
        d.deploy("ABC00002", deadline="2020-02-02T00:00:00Z")
        r = d.once()
        same(d.cached(), ["ABC00002.1"])
        same(r.state("ABC00001.1"), "waiting")
        expect("window" in r.job("ABC00001.1")["reason"], r.job("ABC00001.1"))
        left = r.due("ABC00001.1") - now.timestamp()
        expect(4 * HOUR < left <= 6 * HOUR, left)
        # by hand it comes all the same
        wants(d.run("--download", "ABC00001", env=d.env), 0)
        same(d.cached(), ["ABC00001.1", "ABC00002.1"])


# -- what fails ----------------------------------------------------------------------------

@check
def a_failure_backs_off_over_runs():
    with Depot(fake=True) as d:
        content = d.deploy("ABC00001")
        dead = processes.free_port()
        d.mp.publish("ABC00001", replies.location_reply([labs.World._record(
            "http://127.0.0.1:%d/%s/ABC00001" % (dead, web.SHARE))]))
        waits = []
        for n in range(5):
            r = d.once(status=22)
            same(r.job("ABC00001.1")["error"]["code"], "TRANSFER")
            expect("failed %d time" % (n + 1) in r.job("ABC00001.1")["reason"],
                   r.job("ABC00001.1"))
            waits.append(r.due("ABC00001.1") - d.now())
            r = d.once()               # not before its time
            same(r.state("ABC00001.1"), "waiting")
            d.jump(r.due("ABC00001.1") - d.now() + 1)
        for n, wait in enumerate(waits):
            expect(30 * 2 ** n - 3 <= wait <= 60 * 2 ** n + 3, n, waits)
        same(len(d.events("failed")), 5)
        d.point("ABC00001", d.dp)
        d.once()
        same(d.cached(), ["ABC00001.1"])
        same(contents.folder_hash(d.path("cache", "content", "ABC00001.1")),
             content.hash)


@check
def one_that_fails_does_not_hold_up_the_others():
    with Depot() as d:
        d.deploy("ABC00001", priority="high")
        d.deploy("ABC00002")
        d.point("ABC00001")
        r = d.once(status=11)
        same(d.cached(), ["ABC00002.1"])
        same(r.json["error"]["code"], "NO_LOCATION")
        same(r.state("ABC00001.1"), "waiting")


@check
def retry_after_is_honoured_and_not_waited_for():
    with Depot(fake=True) as d:
        d.deploy("ABC00001")
        bad = d.lab.fault(d.path("dp"), labs.fault.Rule("busy", method="GET",
                                                        retry_after=5000))
        d.point("ABC00001", bad)
        began = time.monotonic()
        r = d.once(status=22)
        expect(time.monotonic() - began < 20, "it waited")
        left = r.due("ABC00001.1") - d.now()
        expect(4990 <= left <= 5001, left)
        d.point("ABC00001", d.dp)
        d.jump(4900)
        d.once()
        same(d.cached(), [])
        d.jump(101)
        d.once()
        same(d.cached(), ["ABC00001.1"])
        # a person would wait these few seconds
        d.deploy("ABC00002")
        bad.server.set(labs.fault.Rule("busy", method="GET", retry_after=9))
        d.point("ABC00002", bad)
        began = time.monotonic()
        r = d.once(status=22)
        expect(time.monotonic() - began < 8, "it waited")
        expect(25 <= r.due("ABC00002.1") - d.now() <= 61, r.job("ABC00002.1"))


@check
def the_search_lasts_eight_hours():
    with Depot(fake=True) as d:
        d.deploy("ABC00001")
        d.point("ABC00001")
        began, ends = d.now(), set()
        while True:
            r = d.once(status=11)
            reason = r.job("ABC00001.1")["reason"]
            wait = r.due("ABC00001.1") - d.now()
            if "searches again" in reason:
                break
            expect("gives up at" in reason, reason)
            ends.add(moment(reason.rsplit(" ", 1)[1]))
            expect(wait <= HOUR + 2, wait)
            expect(d.now() - began < 9 * HOUR, "it never gives up")
            d.jump(wait + 1)
        expect(8 * HOUR - 60 <= d.now() - began <= 8 * HOUR + 300, d.now() - began)
        expect(max(ends) - min(ends) <= 1, "the end moves:", ends)
        expect(abs(min(ends) - began - 8 * HOUR) < 10, min(ends) - began)
        expect(3.9 * HOUR <= wait <= 4 * HOUR + 2, wait)
        told = [int(m[2:-1]) for m in d.minutes()]
        same(told[0], 0)
        expect(told == sorted(told) and told[-1] >= 479, "ClientInOperation:", told)
        # the next search begins anew, after four hours
        d.once()
        d.jump(wait + 1)
        r = d.once(status=11)
        same(int(d.minutes()[-1][2:-1]), 0, "ClientInOperation of a new search")
        expect("gives up at" in r.job("ABC00001.1")["reason"], r.job("ABC00001.1"))
        d.point("ABC00001", d.dp)
        d.jump(HOUR)
        d.once()
        same(d.cached(), ["ABC00001.1"])


# -- policy changes --------------------------------------------------------------------------

@check
def a_newer_version_replaces_the_older():
    with Depot() as d:
        d.deploy("ABC00001", 3)
        d.once()
        same(d.cached(), ["ABC00001.3"])
        d.deploy("ABC00001", 4, file="newer")
        r = d.once()
        same(d.cached(), ["ABC00001.3", "ABC00001.4"])
        same([r.state("ABC00001.%d" % n) for n in (3, 4)], ["here", "here"])
        listing = d.path("cache", "listing", "ABC00001.%d.sha256")
        same(os.stat(listing % 3).st_mtime, 1, "last use of the older")
        expect(os.stat(listing % 4).st_mtime > 1e9, "last use of the newer")
        # where both are missing, only the newer one is fetched
        wants(d.run("--cache", "remove", "ABC00001"), 0)
        r = d.once()
        same(d.cached(), ["ABC00001.4"])
        same(r.state("ABC00001.3"), "superseded")


@check
def withdrawn_deployments_stop():
    with Depot(fake=True) as d:
        d.deploy("ABC00001")
        d.deploy("ABC00002")
        d.point("ABC00001")
        d.once(status=11)
        os.unlink(d.path("policy.d", "ABC00001.ini"))
        d.point("ABC00001", d.dp)
        d.jump(HOUR)
        r = d.once()
        same([j["content"] for j in r.json["jobs"]], ["ABC00002"])
        d.once()
        same(d.cached(), ["ABC00002.1"])
        same(d.events("waiting", "withdrawn"),
             [("waiting", "ABC00001.1"), ("waiting", "ABC00002.1"),
              ("withdrawn", "ABC00001.1")])


@check
def a_corrected_hash_is_tried_at_once():
    with Depot() as d:
        content = d.put("ABC00001")
        d.deploy("ABC00001", content=content, hash="sha256:" + "0" * 64, size="")
        d.once(status=23)
        same(d.once().state("ABC00001.1"), "waiting")
        d.deploy("ABC00001", content=content)
        d.once()
        same(d.cached(), ["ABC00001.1"])


@check
def policy_problems_and_missing_hashes():
    with Depot() as d:
        d.deploy("ABC00001")
        with open(d.path("policy.d", "half.ini"), "w") as out:
            out.write("[deployment]\nid = X\npackage = ABC0")
        r = d.once(status=3)
        same(d.cached(), ["ABC00001.1"])
        expect(any("half.ini" in p for p in r.json["problems"]), r.json["problems"])
        d.deploy("ABC00002", hash="", size="")
        r = d.once(status=4)
        same(r.job("ABC00002.1")["error"]["code"], "NO_HASH")
        same(r.state("ABC00002.1"), "no hash")
        asked = {q["package_id"] for q in d.mp.requests() if "package_id" in q}
        same(asked, {"ABC00001"})
        # what was tried and failed weighs more
        d.deploy("ABC00003")
        d.point("ABC00003")
        d.once(status=11)


# -- traces ------------------------------------------------------------------------------------

def snapshot(d):
    found = {}
    for base, _, names in os.walk(d.lab.folder):
        for name in names:
            path = os.path.join(base, name)
            if not path.startswith((d.path("mp"), d.path("log"), d.path("dp"))):
                found[path] = os.stat(path).st_mtime_ns
    return found


@check
def dry_run_writes_nothing_and_asks_nobody():
    with Depot() as d:
        d.deploy("ABC00001")
        before = snapshot(d)
        r = d.once("--dry-run")
        same(r.state("ABC00001.1"), "due now")
        same(snapshot(d), before)
        same(d.mp.requests(), [])


@check
def hooks_hear_of_new_content():
    with Depot(hooks__timeout="1s") as d:
        hooks = d.path("hooks.d")
        os.mkdir(hooks, 0o755)
        d.settings["hooks.on_content"] = hooks
        d.conf(hooks__on_content=hooks)

        def hook(name, text):
            path = os.path.join(hooks, name)
            with open(path, "w") as out:
                out.write("#!/bin/sh\n" + text)
            os.chmod(path, 0o755)

        hook("10-note", 'echo "$@" "$CONTENT_PATH" >>%s\n' % d.path("heard"))
        hook("20-slow", "sleep 600\n")
        hook("30-bad", "echo something is wrong\nexit 3\n")
        d.deploy("ABC00001")
        d.once()
        path = d.path("cache", "content", "ABC00001.1")

        def heard():
            with open(d.path("heard")) as stream:
                return stream.read()

        same(heard(), "ABC00001 1 %s %s\n" % (path, path))
        with open(d.path("log", "agent.log"), errors="replace") as stream:
            log = stream.read()
        for words in ("hook 30-bad: something is wrong",
                      "hook 30-bad for ABC00001.1 ended with status 3",
                      "hook 20-slow for ABC00001.1 was stopped"):
            expect(words in log, words, "is not in", log)
        # what is there already is no news
        wants(d.run("--download", "ABC00001", env=d.env), 0)
        same(heard().count("\n"), 1)
        # by hand they hear of it, too
        d.deploy("ABC00002", purpose="available")
        wants(d.run("--download", "ABC00002", env=d.env), 0)
        same(heard().count("\n"), 2)
        run = wants(d.run("--history", "--json", env=d.env), 0)
        statuses = {(h["program"], h["status"]) for t in run.json["transfers"]
                    for h in t["hooks"]}
        same(statuses, {("10-note", 0), ("20-slow", -1), ("30-bad", 3)})


def metric(d, line):
    with open(d.path("agent.prom")) as stream:
        return "\ncloud_dp_agent_%s\n" % line in "\n" + stream.read()


@check
def events_and_metrics():
    with Depot() as d:
        content = d.deploy("ABC00001")
        d.deploy("ABC00002", priority="low")
        d.point("ABC00002")
        d.once(status=11)
        same(d.events(), [("waiting", "ABC00001.1"), ("waiting", "ABC00002.1"),
                          ("transfer", "ABC00001.1"), ("arrived", "ABC00001.1"),
                          ("failed", "ABC00002.1")])
        arrived, failed = d.event_lines()[3:]
        same(arrived["result"], "verified")
        same(arrived["path"], d.path("cache", "content", "ABC00001.1"))
        same(arrived["source"]["kind"], "on-prem")
        same(arrived["bytes_total"], content.total)
        same(failed["error"]["code"], "NO_LOCATION")
        for line in ('jobs{state="here"} 1', 'jobs{state="waiting"} 1', "arrivals_total 1",
                     'received_bytes_total{source="on-prem"} %d' % content.total,
                     'failures_total{class="NO_LOCATION"} 1', "poll_success 1",
                     "cache_contents 1",
                     'cache_bytes{kind="published"} %d' % content.total):
            expect(metric(d, line), line, open(d.path("agent.prom")).read())
        same(os.stat(d.path("agent.prom")).st_mode & 0o777, 0o644)
        same(os.stat(d.path("events.jsonl")).st_mode & 0o777, 0o640)
        expect(open(d.path("agent.prom")).read().endswith("# EOF\n"), "no end")


@check
def the_truth_lies_in_the_cache():
    with Depot() as d:
        d.deploy("ABC00001")
        d.once()
        shutil.rmtree(d.path("state"))
        before = len(d.mp.requests())
        r = d.once()
        same(r.state("ABC00001.1"), "here")
        same(len(d.mp.requests()), before)
        shutil.rmtree(d.path("cache"))
        d.once()
        same(d.cached(), ["ABC00001.1"])


@check
def state_messages_reach_the_management_point():
    with Depot(report__state_messages="yes") as d:
        d.deploy("ABC00001")
        d.once()     # registers, and so waits with them
        d.once()
        have = [(m.get("topic"), int(m.get("state", 0))) for m in d.mp.state_messages()]
        same(have, [("ABC00001.1", 1), ("ABC00001.1", 2), ("ABC00001.1", 3)])
        expect(metric(d, "outbox_messages 0"), open(d.path("agent.prom")).read())


# -- alone, and stopped ----------------------------------------------------------------------------

@check
def one_at_a_time():
    with Depot() as d:
        d.deploy("ABC00001")
        os.makedirs(d.path("state"), exist_ok=True)
        with open(d.path("state", "service.lock"), "w") as lock:
            lock.write("4711\n")
            lock.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
            run = d.once(status=40)
            expect("4711" in run.json["error"]["text"], run.json)
            same(d.mp.requests(), [])
        d.once()


@check
def sigterm_ends_it_and_the_next_run_goes_on():
    with Depot(transfer__rate_limit="200k") as d:
        d.deploy("ABC00001", total=4 << 20)
        d.deploy("ABC00002", priority="low")
        p = d.run("--once", "--json", "--progress", "json", env=d.env, popen=True)
        try:
            for line in p.stderr:
                if json.loads(line).get("bytes_done", 0) > 300000:
                    break
            began = time.monotonic()
            p.send_signal(signal.SIGTERM)
            out, _ = p.communicate(timeout=20)
            took = time.monotonic() - began
        finally:
            p.kill()
            p.communicate()
        same(p.returncode, 143)
        expect(took < 2, took)
        same(json.loads(out)["error"]["code"], "TERMINATED")
        same(d.cached(), [])
        same(d.events("failed"), [])
        d.settings.pop("transfer.rate_limit")
        d.conf(report__events_file=d.path("events.jsonl"))
        wants(d.run("--download", "ABC00001", "--json", env=d.env), 0)
        arrived = [e for e in d.event_lines() if e["event"] == "arrived"][0]
        expect(arrived["bytes_received"] < arrived["bytes_total"] - 200000, arrived)


@check
def sigterm_ends_a_hook_with_it():
    with Depot() as d:
        hooks = d.path("hooks.d")
        os.mkdir(hooks, 0o755)
        d.conf(hooks__on_content=hooks)
        pipe = d.path("pipe")
        os.mkfifo(pipe)
        with open(os.path.join(hooks, "slow"), "w") as out:
            out.write("#!/bin/sh\ntrap '' TERM\necho $$ >%s\nsleep 600\n" % pipe)
        os.chmod(os.path.join(hooks, "slow"), 0o755)
        d.deploy("ABC00001")
        d.deploy("ABC00002", priority="low")
        p = d.run("--once", "--json", env=d.env, popen=True)
        try:
            with open(pipe) as stream:
                hook = int(stream.read())
            began = time.monotonic()
            p.send_signal(signal.SIGTERM)
            out, _ = p.communicate(timeout=20)
            took = time.monotonic() - began
        finally:
            p.kill()
            p.communicate()
        same(p.returncode, 143)
        expect(took < 2, took)
        expect(not is_alive(hook), "the hook goes on")
        same(d.cached(), ["ABC00001.1"])
        # it is told anew, by the next run, once; not one byte comes again
        with open(os.path.join(hooks, "slow"), "w") as out:
            out.write("#!/bin/sh\necho $1 >>%s\n" % d.path("heard"))
        for _ in range(2):
            wants(d.run("--once", "--json", env=d.env), 0)
        with open(d.path("heard")) as stream:
            same(sorted(stream.read().split()), ["ABC00001", "ABC00002"])
        run = wants(d.run("--history", "--json", env=d.env), 0)
        same([(t["result"], t["bytes_received"]) for t in run.json["transfers"]
              if t["content"] == "ABC00001"][0], ("cached", 0))


if __name__ == "__main__":
    sys.exit(main())
