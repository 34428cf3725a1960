#!/usr/bin/env python3
"""The agent and its peers on the same work, in one run, interleaved.

    python3 tests/bench/bench.py [OPTION...] [WORLD...]

Each round runs every client once, in another order than the round before. Text goes
to standard output, every figure of every run to build/bench/WORLD.json. AGENT names
another binary than build/agent. scripts/bench starts it in namespaces of its own.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import clients as peers                                             # noqa: E402
import links                                                        # noqa: E402
import measure                                                      # noqa: E402
import origin                                                       # noqa: E402
import plots                                                        # noqa: E402
import report                                                       # noqa: E402
import special                                                      # noqa: E402
import worlds as works                                              # noqa: E402

ALL = [special.SPECIAL[0], *works.WORLDS, *special.SPECIAL[1:]]


MANY_FILES = 100


class Failed(Exception):
    pass


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Runner:
    """One world: its site, its link, its folder, its clients."""

    def __init__(self, world, site, folder, options):
        self.world, self.site, self.options = world, site, options
        self.folder, self.runs = folder, 0

    def prepare(self, client):
        """An empty folder, or what an interrupted run has left; not timed.

        Many files on a disk stay until the bench ends: ext4 looks at every inode that
        was freed in the last minutes when it wants a new one, which nobody's first
        download has to pay for. Their pages go, since new ones cost more.
        """
        is_disk = self.world.medium == "disk"
        folder = os.path.join(self.folder, "run")
        if is_disk and len(self.world.files) >= MANY_FILES:
            if self.runs:
                measure.drop_pages(os.path.join(self.folder, "%d" % self.runs))
            self.runs += 1
            folder = os.path.join(self.folder, "%d" % self.runs)
        origin.empty(folder)
        job = peers.Job(self.site, folder, is_disk, self.world.resume)
        if self.world.resume:
            client.seed(job)
        argv = [*self.world.link.prefix, *client.argv(job)]
        if job.is_disk:
            os.sync()
        return job, argv

    def once(self, client):
        """One timed run: a dict of figures."""
        job, argv = self.prepare(client)
        self.site.requests()
        before = self.world.link.bytes()
        usage = measure.run(argv, self.world.limit_s)
        wire = self.world.link.bytes() - before
        requests, connections = self.site.requests()
        self.judge(client, job, usage)
        return {"wall_s": round(usage.wall_s, 4), "cpu_s": round(usage.cpu_s, 4),
                "user_s": round(usage.user_s, 4), "system_s": round(usage.system_s, 4),
                "switches": usage.switches, "requests": requests,
                "connections": connections, "wire_bytes": wire}

    def memory(self, client):
        """An untimed run under observation; its result is checked byte by byte."""
        job, argv = self.prepare(client)
        usage, most = measure.peak(argv, self.world.limit_s)
        self.judge(client, job, usage)
        found = origin.hash_of(client.found(job))
        if found != self.site.content.hash:
            raise Failed("the content is wrong")
        return most

    def judge(self, client, job, usage):
        if usage.is_late:
            raise Failed("not done in %d s" % self.world.limit_s)
        if usage.status != 0:
            words = " ".join((usage.err or usage.out)[-400:].split())
            raise Failed("status %d: %s" % (usage.status, words))
        where = client.found(job)
        for name in job.files:
            if os.path.getsize(os.path.join(where, name)) != \
                    self.site.content.sizes[name]:
                raise Failed("%s is incomplete" % name)

    def run(self):
        """{client: {"runs": [...], "memory": {...}}}, {client: why it is left out}"""
        there, skipped, found = [], {}, {}

        def attempt(client, what):
            try:
                return what(client)
            except Failed as error:
                skipped[client.name] = str(error)
                there.remove(client)
                del found[client.name]

        for client in self.world.clients:
            why = client.lacks()
            if why:
                skipped[client.name] = why
            elif not self.options.clients or any(
                    w in client.name for w in self.options.clients):
                there.append(client)
                found[client.name] = {"runs": []}
        for client in list(there):
            # peers hold the same elsewhere: where nothing is slow will do
            if self.world.watches_peers or client is peers.AGENT:
                most = attempt(client, self.memory)
                if most:
                    found[client.name]["memory"] = most
        rounds = self.options.rounds or self.world.rounds
        for number in range(rounds):
            order = [c for c in there if number < self.world.few.get(c, rounds)]
            shift = number * 2 % max(1, len(order))
            order = order[shift:] + order[:shift]
            for client in order if number % 2 == 0 else reversed(order):
                figures = attempt(client, self.once)
                if figures:
                    found[client.name]["runs"].append(figures)
        return found, skipped


class Sites:
    """The site of the world before is kept where the next one wants the same."""

    def __init__(self, options):
        self.options, self.site, self.wanted = options, None, None

    def get(self, world):
        if self.wanted != (world.files, world.link):
            self.end()
            world.link.start(self.options.ram, self.options.programs)
            try:
                self.site = origin.Site(os.path.join(self.options.ram, "site"),
                                        world.files, world.link)
            except BaseException:
                world.link.stop()
                raise
            self.wanted = (world.files, world.link)
        return self.site

    def end(self):
        if self.site:
            self.site.stop()
            self.wanted[1].stop()
        self.site = self.wanted = None


def measure_world(world, sites, options):
    """The content is in memory, and on tmpfs the copy as well, both a while."""
    if sites.wanted != (world.files, world.link):
        sites.end()
        room = world.bytes * 2 + (1 << 30 if world.bytes > 1 << 28 else 1 << 27)
        have = os.statvfs(options.ram)
        if min(have.f_bavail * have.f_frsize, measure.free_memory()) < room:
            raise links.Missing("needs %.1f GiB of free memory" % (room / (1 << 30)))
    folder = os.path.join(options.disk if world.medium == "disk" else options.ram,
                          world.name)
    try:
        found, skipped = Runner(world, sites.get(world), folder, options).run()
    finally:
        shutil.rmtree(os.path.join(folder, "run"), ignore_errors=True)
    return report.world(world, found, skipped)


def measure_all(chosen, options):
    status, sites = 0, Sites(options)
    try:
        for world in chosen:
            began = time.monotonic()
            try:
                if isinstance(world, works.World):
                    result = measure_world(world, sites, options)
                else:
                    sites.end()
                    result = world.measure(options)
            except links.Missing as error:
                result = {"world": world.name, "title": world.title,
                          "skipped_because": str(error)}
            except special.Lost as error:
                say("bench: %s: %s" % (world.name, error))
                status = 1
                continue
            result["took_s"] = round(time.monotonic() - began, 1)
            say("bench: %s took %.0f s" % (world.name, result["took_s"]))
            if "agent" in result.get("skipped", ()):
                status = 1
            print(report.text(result), flush=True)
            report.write(os.path.join(options.out, world.name + ".json"), result)
    finally:
        sites.end()
    return status


def parse():
    parser = argparse.ArgumentParser(description="the agent beside its peers")
    parser.add_argument("--rounds", type=int, default=0, help="of every world")
    parser.add_argument("--clients", type=lambda text: text.split(","), default=[],
                        metavar="WORD,...", help="only those with one of these words")
    parser.add_argument("--list", action="store_true", help="name the worlds")
    parser.add_argument("--show", action="store_true",
                        help="measure nothing: show what was measured last")
    parser.add_argument("--plots", metavar="DIR", help="draw there what there is")
    parser.add_argument("--refresh", metavar="FILE",
                        help="write all figures there are into that page")
    parser.add_argument("--out", default=os.path.join(origin.TOP, "build", "bench"),
                        metavar="DIR", help="JSON goes there, and the disk under test")
    parser.add_argument("--programs", default=peers.BUILD, help=argparse.SUPPRESS)
    parser.add_argument("--limit-mib", type=int, default=1024, help=argparse.SUPPRESS)
    parser.add_argument("worlds", nargs="*", metavar="WORLD",
                        help="names, or beginnings of names")
    return parser.parse_args()


def measure_in_folders(chosen, options):
    """Folders of its own on the disk and in memory; both go at the end."""
    options.disk = tempfile.mkdtemp(prefix="disk.", dir=options.out)
    options.ram = tempfile.mkdtemp(prefix="agent-bench.", dir="/dev/shm")
    try:
        for path in (options.disk, options.ram):
            os.chmod(path, 0o755)
        return measure_all(chosen, options)
    finally:
        for path in (options.disk, options.ram):
            shutil.rmtree(path, ignore_errors=True)


def main():
    options = parse()
    chosen = ALL if not options.worlds else [
        w for w in [*ALL, works.TINY]
        if any(w.name.startswith(word) for word in options.worlds)]
    if options.list:
        for world in chosen:
            print("%-16s %s" % (world.name, world.title))
        return 0
    if not chosen:
        say("bench: no such world; --list names them")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.makedirs(options.out, exist_ok=True)
    status = 0
    if options.show:
        for result in report.read(options.out, chosen):
            print(report.text(result))
    else:
        began = time.monotonic()
        status = measure_in_folders(chosen, options)
        say("bench: %.0f s" % (time.monotonic() - began))
    print(report.summary(report.read(options.out, chosen), chosen == ALL))
    if options.plots:
        plots.draw(report.read(options.out, ALL), options.plots, report.best)
    if options.refresh:
        report.refresh(options.refresh, report.read(options.out, ALL))
    return status


if __name__ == "__main__":
    sys.exit(main())
