"""Distribution points and storage on real web servers: nginx and Apache.

A distribution point has up to three virtual directories over one content tree
(root/<content id>/...):

    ""               /SMS_DP_SMSPKG$/
    "NOCERT_"        /NOCERT_SMS_DP_SMSPKG$/
    "CCMTOKENAUTH_"  /CCMTOKENAUTH_SMS_DP_SMSPKG$/

each "open", "cert" (a client certificate or 403), "token" (the Authorization header
or 401), or a number: that status for everything.
"""

import itertools
import json
import os
import socket
import ssl
import time

SHARE = "SMS_DP_SMSPKG$"
OPEN = {"": "open"}
MODULES = "/usr/lib/nginx/modules"
APACHE_MODULES = "/usr/lib/apache2/modules"


MARK = "/lab-mark-"
_marks = itertools.count()


def _read_log(part):
    with open(os.path.join(part.folder, "access.log"), "rb") as stream:
        lines = stream.read().decode("utf-8", "backslashreplace").split("\n")
    # the last piece is empty, or a line that is still being written
    return [json.loads(line.replace("\\x", "\\\\x")) for line in lines[:-1] if line]


def _settle(part):
    """A server logs after it has answered. A request of our own, and a look until
    that one is logged: then those before it are, too. Stopped or paused servers
    have nothing more to say."""
    if part.process is None or part.process.poll() is not None:
        return
    mark = "%s%d" % (MARK, next(_marks))
    try:
        with socket.create_connection((part.address, part.port), 1) as plain:
            context = ssl._create_unverified_context()
            stream = context.wrap_socket(plain) if part.is_tls else plain
            stream.sendall(("GET %s HTTP/1.1\r\nHost: lab\r\nConnection: close"
                            "\r\n\r\n" % mark).encode())
            while stream.recv(4096):
                pass
    except OSError:
        return
    end = time.monotonic() + 5
    while time.monotonic() < end and not any(
            line["uri"] == mark for line in _read_log(part)):
        time.sleep(0.005)


def access_log(part):
    """What an nginx or Apache of ours was asked, oldest first: list of dict."""
    _settle(part)
    return [line for line in _read_log(part) if not line["uri"].startswith(MARK)]


# -- nginx -------------------------------------------------------------------

# The words of access_log(): one JSON object a line.
NGINX_LOG = ("log_format lab escape=json '{\"method\":\"$request_method\","
             "\"uri\":\"$request_uri\",\"status\":$status,"
             "\"bytes\":$body_bytes_sent,\"range\":\"$http_range\","
             "\"connection\":$connection,\"serial\":$connection_requests,"
             "\"host\":\"$http_host\",\"protocol\":\"$server_protocol\","
             "\"agent\":\"$http_user_agent\",\"if_range\":\"$http_if_range\","
             "\"authorization\":\"$http_authorization\",\"completed\":"
             "\"$request_completion\"}';\n")


def nginx(parts, folder, name, locations, tls=None, client_ca=None, http2=False,
          keepalive=True, addresses=("127.0.0.1",), protocols="TLSv1.2 TLSv1.3",
          extra_servers="", settings=""):
    """An nginx of its own with the given location blocks.

    tls  pki.Cert; its chain is served. client_ca: file, asked for but optional.
    """
    os.makedirs(folder, exist_ok=True)
    for sub in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
        os.makedirs(os.path.join(folder, sub), exist_ok=True)

    def begin(port):
        listen = ""
        for address in addresses:
            host = "[%s]" % address if ":" in address else address
            listen += "    listen %s:%d%s%s;\n" % (
                host, port, " ssl" if tls else "", " http2" if http2 else "")
        if tls:
            listen += ("    ssl_certificate %s;\n    ssl_certificate_key %s;\n"
                       "    ssl_protocols %s;\n" % (tls.chain, tls.key, protocols))
        if client_ca:
            listen += ("    ssl_verify_client optional;\n    ssl_verify_depth 3;\n"
                       "    ssl_client_certificate %s;\n" % client_ca)
        conf = os.path.join(folder, "nginx.conf")
        with open(conf, "w") as stream:
            # As root the workers stay root: the lab's folders are private.
            stream.write(
                "%sload_module %s/ngx_http_dav_ext_module.so;\n"
                "daemon off;\nworker_processes 1;\npid %s/nginx.pid;\n"
                "error_log stderr warn;\nevents { worker_connections 1024; }\n"
                "http {\n%s  access_log %s/access.log lab;\n"
                % ("user root;\n" if os.geteuid() == 0 else "", MODULES, folder,
                   NGINX_LOG, folder))
            for key, sub in (("client_body", "body"), ("proxy", "proxy"),
                             ("fastcgi", "fastcgi"), ("uwsgi", "uwsgi"),
                             ("scgi", "scgi")):
                stream.write("  %s_temp_path %s/%s;\n" % (key, folder, sub))
            stream.write(
                "  default_type application/octet-stream;\n  sendfile on;\n"
                "  tcp_nopush on;\n  keepalive_timeout %d;\n"
                "  keepalive_requests 100000;\n  server_tokens off;\n%s%s"
                "  server {\n    server_name _;\n%s%s  }\n}\n"
                % (60 if keepalive else 0, settings, extra_servers, listen,
                   locations))
        part = parts.start(name, ["/usr/sbin/nginx", "-e", "stderr", "-p", folder,
                                  "-c", conf],
                           os.path.join(folder, "error.log"),
                           address=addresses[0], port=port, folder=folder)
        part.is_tls = bool(tls)
        return part

    return parts.start_on_free_port(begin, addresses)


def _guard(rule, token):
    if rule == "open":
        return ""
    if rule == "cert":
        return "      if ($ssl_client_verify != SUCCESS) { return 403; }\n"
    if rule == "token":
        return ("      if ($http_authorization != \"Bearer %s\") { return 401; }\n"
                % token)
    return "      return %d;\n" % rule


def dp_nginx(parts, folder, root, vdirs=None, token="T", rate=None, name="dp-nginx",
             **how):
    """A distribution point. rate: bytes a second of each connection ("200k")."""
    if vdirs is None:
        vdirs = {"": "cert"} if how.get("client_ca") else OPEN
    os.makedirs(folder, exist_ok=True)
    # A file URL carries the name in its query (`sccm?/sub/a%20b`). nginx does not
    # decode a query, but decodes what X-Accel-Redirect names; so a second server
    # on a Unix socket answers every such request with that header.
    inner = os.path.join(folder, "inner.sock")
    if os.path.exists(inner):
        os.unlink(inner)
    extra = ("  server {\n    listen unix:%s;\n    access_log off;\n"
             "    location / {\n      add_header X-Accel-Redirect "
             "/_files$request_uri always;\n      return 204;\n    }\n  }\n" % inner)
    slow = "      limit_rate %s;\n" % rate if rate else ""
    text = ("    location /_files/ {\n      internal;\n      alias %s/;\n%s    }\n"
            "    location / { return 404; }\n" % (root, slow))
    for prefix, rule in vdirs.items():
        guard = _guard(rule, token)
        text += (
            "    location ~ \"^/%sSMS_DP_SMSPKG\\$/(?<cid>[^/]+)/sccm$\" {\n%s"
            "      if ($args !~ \"^/\") { return 404; }\n"
            "      proxy_pass http://unix:%s:/$cid$args;\n    }\n"
            "    location /%s%s/ {\n%s      alias %s/;\n%s"
            "      dav_ext_methods PROPFIND OPTIONS;\n    }\n"
            % (prefix, guard, inner, prefix, SHARE, guard, root, slow))
    part = nginx(parts, folder, name, text, extra_servers=extra, **how)
    part.root = root
    return part


def storage_nginx(parts, folder, root, sig=None, name="storage-nginx", **how):
    """Blob storage for those in a hurry: root/<container>/<blob>.

    sig  the only `sig=` that is accepted; any other gets Azure's 403.
    """
    refusal = os.path.join(folder, "refusal.xml")
    os.makedirs(folder, exist_ok=True)
    with open(refusal, "w") as stream:
        stream.write("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error>"
                     "<Code>AuthenticationFailed</Code><Message>Server failed to "
                     "authenticate the request.</Message></Error>")
    text = ("    error_page 403 /_refusal;\n    location = /_refusal {\n"
            "      internal;\n      types { }\n      default_type application/xml;\n"
            "      alias %s;\n    }\n    location / {\n" % refusal)
    if sig:
        text += "      if ($arg_sig != \"%s\") { return 403; }\n" % sig
    text += "      alias %s/;\n    }\n" % root
    part = nginx(parts, folder, name, text, **how)
    part.root = root
    return part


# -- Apache ------------------------------------------------------------------

def dp_apache(parts, folder, root, tls=None, address="127.0.0.1", name="dp-apache"):
    """A WebDAV server that is no distribution point: split propstats, and 404 for
    the `sccm?/` form, so that the plain file URL must be tried."""
    os.makedirs(folder, exist_ok=True)
    modules = ["mpm_event", "authn_core", "authz_core", "alias", "mime",
               "dav", "dav_fs"] + (["socache_shmcb", "ssl"] if tls else [])

    def begin(port):
        conf = os.path.join(folder, "apache.conf")
        with open(conf, "w") as stream:
            for module in modules:
                stream.write("LoadModule %s_module %s/mod_%s.so\n"
                             % (module, APACHE_MODULES, module))
            stream.write(
                "ServerName localhost\nServerRoot %s\nPidFile %s/apache.pid\n"
                "Listen %s:%d\nErrorLog %s/error.log\nLogLevel warn\n"
                "DefaultRuntimeDir %s\nDocumentRoot %s\nTypesConfig /dev/null\n"
                "DavLockDB %s/davlock\nStartServers 1\nKeepAlive On\n"
                "MaxKeepAliveRequests 0\nEnableSendfile Off\n"
                "LogFormat \"{\\\"method\\\":\\\"%%m\\\",\\\"uri\\\":\\\"%%U%%q\\\","
                "\\\"status\\\":%%>s,\\\"bytes\\\":%%B,\\\"range\\\":"
                "\\\"%%{Range}i\\\",\\\"serial\\\":%%k,\\\"host\\\":"
                "\\\"%%{Host}i\\\",\\\"authorization\\\":"
                "\\\"%%{Authorization}i\\\"}\" lab\n"
                "CustomLog %s/access.log lab\n"
                "<Directory \"%s\">\n  Dav On\n  Options FollowSymLinks\n"
                "  AllowOverride None\n  <Limit GET HEAD PROPFIND OPTIONS>\n"
                "    Require all granted\n  </Limit>\n"
                "  <LimitExcept GET HEAD PROPFIND OPTIONS>\n"
                "    Require all denied\n  </LimitExcept>\n</Directory>\n"
                "Alias \"/%s/\" \"%s/\"\n"
                % (folder, folder, address, port, folder, folder, root, folder,
                   folder, root, SHARE, root))
            if tls:
                stream.write("SSLEngine on\nSSLCertificateFile %s\n"
                             "SSLCertificateKeyFile %s\n" % (tls.chain, tls.key))
        part = parts.start(name, _unprivileged() + ["/usr/sbin/apache2", "-f", conf,
                                                    "-DFOREGROUND"],
                           os.path.join(folder, "error.log"),
                           address=address, port=port, folder=folder)
        part.root = root
        part.is_tls = bool(tls)
        return part

    return parts.start_on_free_port(begin, (address,))


def _unprivileged():
    """Apache will not serve as root, and another user cannot enter the lab's
    private folders: so another user, who may read and write what is ours."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
            "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
