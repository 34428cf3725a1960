#!/usr/bin/env python3
"""The laboratory: a small Configuration Manager world on loopback, of real parts.

    python3 tests/lab/lab.py up DIR [--storage nginx|azurite] [--size N] [--files N]

starts two distribution points (one HTTP, one HTTPS), a name server, a management
point, a cloud service and its storage; writes DIR/lab.env and DIR/agent.conf, prints
`ready` and stays until SIGTERM or SIGINT. As a module: class Lab, one method a part.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import agentconf                                                    # noqa: E402
import content as contents                                          # noqa: E402
import dnsd                                                         # noqa: E402
import dnsfault                                                     # noqa: E402
import fault                                                        # noqa: E402
import iis                                                          # noqa: E402
import parts as processes                                           # noqa: E402
import pki                                                          # noqa: E402
import policy as policies                                           # noqa: E402
import replies                                                      # noqa: E402
import storage as azure                                             # noqa: E402
import web                                                          # noqa: E402

LabError = processes.LabError
TOP = agentconf.TOP
BUILD = os.environ.get("LAB_BUILD", os.path.join(TOP, "build", "lab"))


class Lab:
    """A folder, a CA made when first asked for, and the parts that run.

    Every part is a parts.Part: str(part) is "address:port", .port, .folder, .pid,
    .stop(). Leaving the `with` block ends all of them; a folder that the lab made
    itself goes too, unless keep=True or LAB_KEEP is set.
    """

    def __init__(self, folder=None, keep=False):
        self.is_ours = folder is None and not keep and "LAB_KEEP" not in os.environ
        self.folder = os.path.abspath(folder or tempfile.mkdtemp(prefix="lab."))
        os.makedirs(self.folder, exist_ok=True)
        self.parts = processes.Parts()
        self.numbers = {}
        self._ca = None
        self.conf = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.parts.stop_all()
        if self.is_ours:
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def _own(self, name):
        """A folder for one more part of this name: dp-nginx, dp-nginx2, ..."""
        self.numbers[name] = self.numbers.get(name, 0) + 1
        number = self.numbers[name]
        path = self.path(name + (str(number) if number > 1 else ""))
        os.makedirs(path, exist_ok=True)
        return path

    # -- trust and content ---------------------------------------------------

    @property
    def ca(self):
        if self._ca is None:
            self._ca = pki.Ca(self.path("ca"))
        return self._ca

    def content(self, name="ABC00042", files=contents.AWKWARD, total=1 << 20,
                under="content", seed=None):
        """A content folder DIR/<under>/<name>; content.make() has the details."""
        return contents.make(self.path(under, name), files, total, seed)

    # -- names ---------------------------------------------------------------

    def dns_nsd(self, records, zones=(), **how):
        return dnsd.nsd(self.parts, self._own("nsd"), records, zones, **how)

    def dns_knot(self, records, zones=(), **how):
        return dnsd.knot(self.parts, self._own("knot"), records, zones, **how)

    def dns_unbound(self, upstream, **how):
        return dnsd.unbound(self.parts, self._own("unbound"), upstream, **how)

    def dns_fault(self, names, **how):
        """A hostile name server; the part's .server is the dnsfault.DnsFault."""
        return self.parts.adopt("dns-fault", dnsfault.DnsFault(names, **how))

    # -- distribution points and storage -------------------------------------

    def dp_nginx(self, root=None, **how):
        return web.dp_nginx(self.parts, self._own("dp-nginx"),
                            root or self.path("content"), **how)

    def dp_apache(self, root=None, **how):
        return web.dp_apache(self.parts, self._own("dp-apache"),
                             root or self.path("content"), **how)

    def dp_iis(self, root=None, **how):
        """IIS in the ways that matter; .server.requests is what it was asked."""
        return self.parts.adopt("dp-iis", iis.IisServer(
            root or self.path("content"), **how))

    def fault(self, root=None, script=None, **how):
        """A server that misbehaves as scripted; .server is the FaultServer."""
        return self.parts.adopt("fault", fault.FaultServer(
            root or self.path("content"), script, **how))

    def storage_azurite(self, tls, build=None, **how):
        """The Azure emulator; the part's .storage uploads and signs."""
        main = azure.ensure_azurite(build or os.path.dirname(BUILD))
        return azure.start(self.parts, self._own("azurite"), main, tls,
                           ca=how.pop("ca", self.ca.root), **how)

    def storage_nginx(self, root=None, tls=None, sig=None, **how):
        return web.storage_nginx(self.parts, self._own("storage"),
                                 root or self.path("content"), sig, tls=tls, **how)

    # -- management point and cloud service (the stand-ins in C) --------------

    def mp(self, tls=None, client_ca=None, token=None, address="127.0.0.1",
           more=(), seconds=20.0):
        """A management point.

        .publish(package, reply text)   what it answers to a location request
        .mplist(text)                   what it answers to MPLIST (else 404)
        .deploy(package, version, ...)  a deployment in its policy: policy.deploy()
        .withdraw(policy id)            takes it out again
        .site(text)                     how the site is set (mp_site.h)
        .clients()                      ids of the clients that are registered
        .state_messages()               what clients reported, a dict each
        """
        part = self._standin("mp", tls, client_ca, token, address, more, seconds)
        part.deploy = lambda *names, **how: policies.deploy(part.folder, *names, **how)
        part.withdraw = lambda policy_id: policies.withdraw(part.folder, policy_id)
        part.site = lambda text: _put(os.path.join(part.folder, "site"), text)
        part.clients = lambda: _clients(part.folder)
        part.state_messages = lambda: _json_lines(
            os.path.join(part.folder, "state_messages.jsonl"))
        part.publish = lambda package, text: _put(os.path.join(
            part.folder, "replies", package.replace(":", "_") + ".xml"), text)
        part.mplist = lambda text: _put(os.path.join(part.folder, "mplist.xml"), text)
        return part

    def cloud(self, tls, token=None, address="127.0.0.1", more=(), seconds=20.0):
        """A cloud service.

        .publish(content id, manifest text)
        .serve(content id, path)            files of manifests without Url
        """
        part = self._standin("cloud", tls, None, token, address, more, seconds)
        part.publish = lambda cid, text: _put(
            os.path.join(part.folder, "manifests", cid + ".xml"), text)
        part.serve = lambda cid, path: copy_tree(
            path, os.path.join(part.folder, "files", cid))
        return part

    def _standin(self, name, tls, client_ca, token, address, more, seconds):
        binary = os.path.join(BUILD, name)
        if not os.path.exists(binary):
            raise LabError(binary + " is not built")
        folder = self._own(name)
        for sub in ("replies", "manifests"):
            os.makedirs(os.path.join(folder, sub), exist_ok=True)
        argv = [binary, "--dir", folder, "--port", "0", "--address", address]
        if tls:
            argv += ["--tls", tls.chain, tls.key]
        if client_ca:
            argv += ["--client-ca", client_ca]
        if token:
            argv += ["--token", token]
        part = self.parts.start_ready(name, argv + list(more),
                                      os.path.join(folder, name + ".stderr"),
                                      address, folder, seconds)
        # DIR/script makes a stand-in misbehave (script.h); "" ends that.
        part.script = lambda text: _script(folder, text)
        part.requests = lambda: _json_lines(os.path.join(folder, name + ".log"))
        part.is_tls = bool(tls)
        return part

    # -- the agent -------------------------------------------------------------

    def agent_conf(self, management_points=(), dns=(), settings=None, ca_file=True):
        """Write agent.conf for this lab, used by run_agent() from now on."""
        self.conf = agentconf.write_conf(
            self.folder, management_points, dns,
            self.ca.root if ca_file is True else ca_file or None, settings)
        return self.conf

    def policy(self, package, version, content=None, **how):
        return agentconf.write_policy(self.folder, package, version, content, **how)

    def run_agent(self, *args, timeout=60, env=None, conf=None, popen=False):
        return agentconf.run_agent(conf or self.conf, list(args), timeout, env,
                                   popen=popen)


def _put(path, text):
    """Replace a file at once: a server never reads half of it."""
    with open(path + ".new", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(path + ".new", path)


def _json_lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", errors="backslashreplace") as stream:
        return [json.loads(line) for line in stream if line.strip()]


def _clients(folder):
    """Ids of the clients whose certificate the stand-in keeps."""
    names = os.listdir(os.path.join(folder, "clients")) if os.path.isdir(
        os.path.join(folder, "clients")) else []
    return sorted("GUID:" + name[:-4] for name in names
                  if name.endswith(".der") and name.count(".") == 1)


def _script(folder, text):
    path = os.path.join(folder, "script")
    if text:
        _put(path, text)
    elif os.path.exists(path):
        os.unlink(path)


# -- the world of the README ---------------------------------------------------

SERVICE = "WallaceFalls.Contoso.com"
ALIAS = "wallacefalls.cloudapp.net"
STORE = azure.ACCOUNT + ".blob.core.windows.net"
HOSTS = ("mp01.example.net", "dp01.example.net", "dp02.example.net")
ZONES = ("example.net", "contoso.com", "cloudapp.net", "core.windows.net")


def records(address="127.0.0.1"):
    return ([(host, "A", address) for host in HOSTS]
            + [(SERVICE, "CNAME", ALIAS, 300), (ALIAS, "A", address, 60),
               (STORE, "A", address)])


class World:
    """All of it, wired together; package ABC00042, version 3."""

    def __init__(self, lab, storage="nginx", files=contents.AWKWARD, total=1 << 20,
                 package="ABC00042", version=3, token="lab-token", settings=None):
        self.lab, self.package, self.version = lab, package, version
        # The copies that the servers give out are folders of their own (links to
        # the same bytes), so that one can be taken away or tampered with alone.
        for name in ("source", "dp01", "dp02", "store"):
            shutil.rmtree(lab.path(name), ignore_errors=True)
        self.content = lab.content(package, files, total, under="source")
        for name in ("dp01", "dp02", "store/content"):
            copy_tree(self.content.path, lab.path(name, package))
        self.dp1 = lab.dp_nginx(lab.path("dp01"))
        self.dp2 = lab.dp_nginx(lab.path("dp02"), tls=lab.ca.server(HOSTS[2]))
        self.dns = lab.dns_nsd(records(), ZONES)
        tls = lab.ca.server("*.blob.core.windows.net", file="storage")
        if storage == "azurite":
            self.storage = lab.storage_azurite(tls)
            self.storage.storage.upload("content", self.content, package + "/")
        else:
            self.storage = lab.storage_nginx(lab.path("store"), tls, sig="lab%2Bsig")
        self.mp = lab.mp(tls=lab.ca.server(HOSTS[0]), token=token)
        self.cloud = lab.cloud(lab.ca.server(SERVICE), token=token)
        self.mp_url = "https://%s:%d" % (HOSTS[0], self.mp.port)
        self.dp1_url = self._share("http", HOSTS[1], self.dp1)
        self.dp2_url = self._share("https", HOSTS[2], self.dp2)
        self.cloud_url = replies.cloud_url(SERVICE, self.cloud.port, package)
        self.locate(self.dp1_url, self.dp2_url, self.cloud_url)
        self.cloud.publish(package, self.manifest())
        self.cloud.serve(package, self.content.path)
        self.mp.mplist(replies.mp_list([(HOSTS[0], True)]))
        token_file = lab.path("token")
        with open(os.open(token_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as out:
            out.write(token + "\n")
        self.conf = lab.agent_conf(
            [self.mp_url], [self.dns],
            {"cloud.suffix": ["cloudapp.net", "blob.core.windows.net"],
             "client.token_file": token_file, **(settings or {})})
        self.policy = lab.policy(package, version, self.content,
                                 name="Contoso VPN client 4.2")

    def _share(self, scheme, host, part):
        return "%s://%s:%d/%s/%s" % (scheme, host, part.port, web.SHARE, self.package)

    def mp_policy(self, package=None, version=None, **how):
        """Deploy content by the site's policy instead of a file; the policy's id.

        With settings={"policy.source": "mp"} the agent reads it. Such a policy names
        no hash that counts: that comes from the folder of [policy] local.
        """
        return self.mp.deploy(package or self.package, version or self.version, **how)

    def locate(self, *sources, **how):
        """Let the management point name these, in this order: URLs or records."""
        self.mp.publish(self.package, replies.location_reply(
            [self._record(s) if isinstance(s, str) else s for s in sources], **how))

    @staticmethod
    def _record(url):
        # No word for the locality of a cloud source is on record; any may come.
        is_cloud = "downloadrestservice.svc" in url
        return replies.record(
            url, locality="BOUNDARYGROUP" if is_cloud else "SUBNET",
            capabilities={"SSLState": "63" if url.startswith("https") else "0"})

    def blob_url(self, name, seconds=8 * 3600):
        blob = self.package + "/" + name
        if hasattr(self.storage, "storage"):
            return self.storage.storage.sas_url("content", blob, seconds)
        link = azure.Storage(STORE, self.storage.port).url("content", blob)
        return link + "?sv=2020-12-06&sr=b&sp=r&sig=lab%2Bsig"

    def manifest(self, seconds=8 * 3600, **how):
        """The true manifest; its links hold for `seconds` (azurite checks them)."""
        how.setdefault("url", lambda name: self.blob_url(name, seconds))
        return replies.manifest(self.package, self.version, self.content, **how)

    def env(self):
        return {
            "LAB_DIR": self.lab.folder, "LAB_PID": os.getpid(),
            "AGENT_CONF": self.conf, "LAB_CA": self.lab.ca.root,
            "LAB_DNS": self.dns, "LAB_MP_URL": self.mp_url, "LAB_MP_DIR":
            self.mp.folder, "LAB_DP1_URL": self.dp1_url, "LAB_DP2_URL": self.dp2_url,
            "LAB_DP1_ROOT": self.lab.path("dp01"), "LAB_DP2_ROOT":
            self.lab.path("dp02"), "LAB_CLOUD_URL": self.cloud_url,
            "LAB_CLOUD_DIR": self.cloud.folder, "LAB_SERVICE":
            "%s:%d" % (SERVICE, self.cloud.port), "LAB_STORAGE": self.storage,
            "LAB_STORE_ROOT": self.lab.path("store"), "LAB_CONTENT":
            self.package, "LAB_VERSION": self.version, "LAB_SOURCE":
            self.content.path, "LAB_HASH": self.content.hash,
            "LAB_BYTES": self.content.total, "LAB_FILES": len(self.content.files),
        }


def copy_tree(source, target):
    """The same tree by hard links; break a link before changing a file."""
    if not os.path.exists(target):
        shutil.copytree(source, target, copy_function=os.link)


def size(text):
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(text[-1:].lower(), 0)
    return int(text[:-1]) * factor if factor else int(text)


def main():
    parser = argparse.ArgumentParser(description="a Configuration Manager world "
                                     "on loopback")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("up", help="start it, print `ready`, stay")
    verb.add_argument("folder")
    verb.add_argument("--storage", choices=("nginx", "azurite"), default="nginx")
    verb.add_argument("--size", type=size, default="1M", help="content, e.g. 300M")
    verb.add_argument("--files", type=int, help="number of files")
    options = parser.parse_args()

    def leave(*_):
        # Once: a second signal must not break off the tidying.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    try:
        with Lab(options.folder) as lab:
            world = World(lab, options.storage, options.files or contents.AWKWARD,
                          options.size)
            _put(lab.path("lab.env"), "".join(
                "%s=%s\n" % (k, shlex.quote(str(v))) for k, v in world.env().items()))
            print("ready", flush=True)
            while True:
                signal.pause()
    except LabError as error:
        print("lab: %s" % error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
