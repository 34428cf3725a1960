"""One run of a client: what it took, and how much memory it held.

Time is of the monotonic clock; processor time, context switches are those of the
client and of every child that was waited for (wait4), so of both processes of the
agent and of each command of a pipeline. Memory is sampled in a run of its own, since
looking at it costs time.
"""

import os
import signal
import subprocess
import tempfile
import threading
import time

SAMPLE_S = 0.01


class Usage:
    """status, wall_s, cpu_s, user_s, system_s, switches; out and err as text."""


def clean_env():
    return {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}


def run(argv, limit_s, on_start=None):
    """Run to the end, or to the limit: then the whole group is killed."""
    usage = Usage()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        usage.started = time.monotonic()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=err, env=clean_env(),
                                   start_new_session=True)
        timer = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        if on_start:
            on_start(process.pid)
        _, status, spent = os.wait4(process.pid, 0)
        usage.wall_s = time.monotonic() - usage.started
        usage.is_late = timer.finished.is_set()
        timer.cancel()
        process.returncode = usage.status = os.waitstatus_to_exitcode(status)
        for name, stream in (("out", out), ("err", err)):
            stream.seek(0)
            setattr(usage, name, stream.read().decode("utf-8", "replace"))
    usage.user_s, usage.system_s = spent.ru_utime, spent.ru_stime
    usage.cpu_s = spent.ru_utime + spent.ru_stime
    usage.switches = spent.ru_nvcsw + spent.ru_nivcsw
    return usage


# -- memory --------------------------------------------------------------------

def tree(pid):
    """The process and all below it."""
    found = [pid]
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as stream:
                for child in stream.read().split():
                    found += tree(int(child))
    except OSError:
        pass            # it has just ended
    return found


def memory_kib(pid):
    """(proportional share, anonymous and shared memory alone) of one process.

    PermissionError: only root may look at a process of another user."""
    words = {}
    try:
        with open("/proc/%d/smaps_rollup" % pid) as stream:
            for line in stream:
                name, _, rest = line.partition(":")
                if rest.endswith("kB\n"):
                    words[name] = int(rest.split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0     # it has just ended
    return words.get("Pss", 0), words.get("Pss_Anon", 0) + words.get("Pss_Shmem", 0)


def peak(argv, limit_s):
    """(Usage, {"pss_mib", "own_mib"}): the largest sums of a look each 10 ms. No
    figures where a part of the tree may not be looked at."""
    most, ended = {"pss_mib": 0.0, "own_mib": 0.0}, threading.Event()
    threads = []

    def watch(pid):
        while not ended.wait(SAMPLE_S):
            try:
                looks = [memory_kib(one) for one in tree(pid)]
            except PermissionError:
                most.clear()
                return
            for name, sums in zip(most, zip(*looks)):
                most[name] = max(most[name], sum(sums) / 1024)

    def begin(pid):
        threads.append(threading.Thread(target=watch, args=(pid,)))
        threads[0].start()

    usage = run(argv, limit_s, begin)
    ended.set()
    threads[0].join()
    return usage, {name: round(mib, 2) for name, mib in most.items()}


# -- the wire --------------------------------------------------------------------

def received_bytes(interface):
    """Bytes that came in by an interface of this network namespace; on `lo` that is
    both directions of every conversation, with TCP/IP headers."""
    return _counter(interface, 0)


def sent_bytes(interface):
    return _counter(interface, 8)


def _counter(interface, column):
    with open("/proc/self/net/dev") as stream:
        for line in stream:
            name, _, rest = line.partition(":")
            if name.strip() == interface:
                return int(rest.split()[column])
    return 0


def free_memory():
    with open("/proc/meminfo") as stream:
        for line in stream:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0


# -- files ----------------------------------------------------------------------

def drop_pages(folder):
    """Out of the page cache; they must be on the disk."""
    for where, _, names in os.walk(folder):
        for name in names:
            fd = os.open(os.path.join(where, name), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
