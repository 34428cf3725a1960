#!/usr/bin/env python3
"""The agent and its peers on the same work, in one run, interleaved.

    python3 tests/bench/bench.py [--rounds N] [--clients WORD,...] [--list] [WORLD...]

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

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import clients as peers                                             # noqa: E402
import measure                                                      # noqa: E402
import origin                                                       # noqa: E402
import report                                                       # noqa: E402
import worlds as works                                              # noqa: E402


class Failed(Exception):
    pass


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Runner:
    """One world: its site, its folders, its clients."""

    def __init__(self, world, site, folder, options):
        self.world, self.site, self.options = world, site, options
        self.folder = folder
        self.seed = None

    def job(self):
        """An empty folder, or one that an interrupted run has left."""
        origin.empty(self.folder)
        job = peers.Job(self.site, self.folder, self.world.medium == "disk",
                        self.world.resume)
        return job

    def prepare(self, client):
        job = self.job()
        if self.world.resume:
            client.seed(job, self.seed_file(job))
        argv = client.argv(job)
        if job.is_disk:
            os.sync()
        return job, argv

    def seed_file(self, job):
        """The first bytes of the content's one file, made once."""
        if not self.seed:
            self.seed = self.site.lab.path("seed")
            with open(os.path.join(self.site.content.path, job.only), "rb") as source, \
                    open(self.seed, "wb") as target:
                left = self.world.resume
                while left:
                    left -= os.sendfile(target.fileno(), source.fileno(), None,
                                        min(left, 1 << 26))
        return self.seed

    def once(self, client):
        """One timed run: a dict of figures."""
        job, argv = self.prepare(client)
        self.site.requests()
        before = measure.received_bytes()
        usage = measure.run(argv, self.world.limit_s)
        wire = measure.received_bytes() - before
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
            raise Failed("%s: the content is wrong" % client.name)
        return most

    def judge(self, client, job, usage):
        if usage.is_late:
            raise Failed("%s: not done in %d s" % (client.name, self.world.limit_s))
        if usage.status != 0:
            raise Failed("%s: status %d: %s" % (client.name, usage.status,
                                                (usage.err or usage.out)[-400:].strip()))
        where = client.found(job)
        for name in job.files:
            if os.path.getsize(os.path.join(where, name)) != \
                    self.site.content.sizes[name]:
                raise Failed("%s: %s is incomplete" % (client.name, name))

    def run(self):
        """{client: {"runs": [...], "memory": {...}}}, {client: why it is left out}"""
        there, skipped = [], {}
        for client in self.world.clients:
            why = client.lacks()
            if why:
                skipped[client.name] = why
            elif not self.options.clients or any(
                    w in client.name for w in self.options.clients):
                there.append(client)
        found = {client.name: {"runs": []} for client in there}
        for client in list(there):
            try:
                found[client.name]["memory"] = self.memory(client)
            except Failed as error:
                skipped[client.name] = str(error)
                there.remove(client)
                del found[client.name]
        rounds = self.options.rounds or self.world.rounds
        for number in range(rounds):
            shift = number * 2 % max(1, len(there))
            order = there[shift:] + there[:shift]
            for client in order if number % 2 == 0 else reversed(order):
                found[client.name]["runs"].append(self.once(client))
        return found, skipped


def measure_world(world, options):
    folder = os.path.join(options.disk if world.medium == "disk" else options.ram,
                          "run")
    say("bench: %s" % world.title)
    site = origin.Site(os.path.join(options.ram, "site"), world.files)
    try:
        found, skipped = Runner(world, site, folder, options).run()
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return report.world(world, found, skipped)


def main():
    parser = argparse.ArgumentParser(description="the agent beside its peers")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--clients", type=lambda text: text.split(","), default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--out", default=os.path.join(origin.TOP, "build", "bench"))
    parser.add_argument("worlds", nargs="*", help="names or beginnings of names")
    options = parser.parse_args()
    chosen = [w for w in works.WORLDS if not options.worlds or any(
        w.name.startswith(word) for word in options.worlds)]
    if options.list:
        for world in chosen:
            print("%-14s %s" % (world.name, world.title))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.makedirs(options.out, exist_ok=True)
    options.disk = tempfile.mkdtemp(prefix="disk.", dir=options.out)
    options.ram = tempfile.mkdtemp(prefix="agent-bench.", dir="/dev/shm")
    os.chmod(options.disk, 0o755)
    os.chmod(options.ram, 0o755)
    status = 0
    try:
        for world in chosen:
            try:
                result = measure_world(world, options)
            except Failed as error:
                say("bench: %s: %s" % (world.name, error))
                status = 1
                continue
            print(report.text(result), flush=True)
            report.write(os.path.join(options.out, world.name + ".json"), result)
    finally:
        shutil.rmtree(options.disk, ignore_errors=True)
        shutil.rmtree(options.ram, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
