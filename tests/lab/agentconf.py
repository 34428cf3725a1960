"""agent.conf and policy for a laboratory, and running the agent on them."""

import collections
import json
import os
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
AGENT = os.environ.get("AGENT", os.path.join(TOP, "build", "agent"))

Run = collections.namedtuple("Run", "status out err json")


def write_conf(folder, management_points=(), dns=(), ca_file=None, settings=None,
               client="GUID:4F0E7B1C-0000-4000-8000-123456789ABC"):
    """Write folder/agent.conf with everything inside folder; returns its path.

    settings  {"transfer.connections": 4, "cloud.suffix": ["a.net", "b.net"], ...}
              added to, or put in place of, what stands there; None removes a key
    """
    inside = lambda name: os.path.join(folder, name)
    values = {
        "site.code": "ABC", "site.management_point": list(management_points),
        "client.id": client, "policy.source": inside("policy.d"),
        "cloud.allow": "yes", "dns.server": [str(d) for d in dns],
        "dns.timeout": "1s", "dns.tries": "2", "tls.ca_file": ca_file,
        "proxy.url": "none", "cache.directory": inside("cache"),
        "cache.size": "5G", "cache.min_free": "1M",
        "state.directory": inside("state"), "log.directory": inside("log"),
        "log.level": "debug", "control.socket": inside("control.sock"),
    }
    values.update(settings or {})
    sections = {}
    for key, value in values.items():
        section, name = key.split(".", 1)
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is not None:
                sections.setdefault(section, []).append("%s = %s" % (name, one))
    for name in ("policy.d", "cache", "state", "log"):
        os.makedirs(inside(name), exist_ok=True)
    path = inside("agent.conf")
    with open(path, "w") as stream:
        for section, lines in sections.items():
            stream.write("[%s]\n%s\n\n" % (section, "\n".join(lines)))
    os.chmod(path, 0o644)
    return path


def write_policy(folder, package, version, content=None, file=None,
                 cloud="fallback", files=False, hash=None, size=None,
                 purpose="required", **deployment):
    """Write folder/policy.d/FILE.ini for a content.Content; returns its path.

    content         names hash and size (hash=/size= replace them; "" leaves them out)
    files           also write the file list beside it
    **deployment    further keys of that section: name=, deadline=, ...
    """
    policies = os.path.join(folder, "policy.d")
    os.makedirs(policies, exist_ok=True)
    base = os.path.join(policies, file or package)
    about = {"id": "ABC2%04d" % (len(os.listdir(policies)) + 1), "name": package,
             "package": package, "version": version, "purpose": purpose,
             "available": "2020-01-01T00:00:00Z", **deployment}
    facts = {"hash": content.hash if content and hash is None else hash,
             "size": content.total if content and size is None else size}
    if files:
        facts["files"] = os.path.basename(base) + ".sha256"
        with open(base + ".sha256", "wb") as stream:
            stream.write(content.listing)
    with open(base + ".ini", "w") as stream:
        for section, values in (("deployment", about), ("content", facts),
                                ("sources", {"cloud": cloud})):
            lines = ["%s = %s" % (k, v) for k, v in values.items()
                     if v not in (None, "")]
            stream.write("[%s]\n%s\n\n" % (section, "\n".join(lines)))
    return base + ".ini"


def run_agent(conf, args, timeout=60, env=None, agent=None, popen=False):
    """Run the agent; Run(status, out, err, json), or the Popen itself.

    Status is negative where a signal ended it; json is None where standard output
    is not one JSON document.
    """
    argv = [agent or AGENT, *args]
    if conf:
        argv += ["--config", conf]
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    clean.update(env or {})
    how = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
               stderr=subprocess.PIPE, env=clean)
    if popen:
        return subprocess.Popen(argv, **how)
    done = subprocess.run(argv, timeout=timeout, **how)
    out = done.stdout.decode("utf-8", "replace")
    try:
        parsed = json.loads(out)
    except ValueError:
        parsed = None
    return Run(done.returncode, out, done.stderr.decode("utf-8", "replace"), parsed)
