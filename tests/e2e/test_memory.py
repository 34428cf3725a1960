#!/usr/bin/env python3
"""What the agent remembers of a distribution point, from one run to the next."""

import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import *                                               # noqa: E402,F403


def codes(run):
    return [code for _, _, code in attempts_of(run)]


def reasons(s, *args):
    run = wants(s.run("--locate", PACKAGE, "--json", *args), 0)
    return [l["reason"] for l in run.json["locations"]]


@check
def host_without_the_content_comes_after_the_others():
    with Small(files={"a": 10}) as s:
        part, other = s.lab.dp_nginx(), s.lab.dp_nginx()
        lacking = s.share(other, vdir="no_such_share$")
        s.locate(lacking, s.share(part))
        s.policy()
        same(codes(s.download()), ["TRANSFER", None], "the first time")
        shutil.rmtree(s.path("cache"))
        same(codes(s.download()), [None], "with what is remembered")
        s.expect_published()
        first, second = reasons(s)
        expect("ago" not in first, first)
        expect("did not have it" in second and "after the others" in second, second)
        # who names a host means it
        for reason in reasons(s, "--from", "127.0.0.1:%d" % other.port):
            expect("ago" not in reason, reason)


@check
def host_that_delivers_again_is_forgiven():
    with Small(files={"a": 10}) as s:
        part, other = s.lab.dp_nginx(), s.lab.dp_nginx()
        lacking = s.share(other, vdir="no_such_share$")
        s.locate(lacking, s.share(part))
        s.policy()
        s.download()
        shutil.rmtree(s.path("cache"))
        s.locate(s.share(other), s.share(part))
        expect("did not have it" in reasons(s)[1], reasons(s))
        s.download("--from", "127.0.0.1:%d" % other.port)
        for reason in reasons(s):
            expect("ago" not in reason, reason)


@check
def replay_remembers_nothing():
    with Small(files={"a": 10}) as s:
        part, other = s.lab.dp_nginx(), s.lab.dp_nginx()
        sources = s.share(other, vdir="no_such_share$"), s.share(part)
        s.locate(*sources)
        s.policy()
        reply = s.path("reply.xml")
        with open(reply, "w") as out:
            out.write(replies.location_reply(
                [labs.World._record(source) for source in sources]))
        before = wants(s.run("--replay", reply, "--json"), 0).out
        s.download()
        same(wants(s.run("--replay", reply, "--json"), 0).out, before)


if __name__ == "__main__":
    sys.exit(main())
