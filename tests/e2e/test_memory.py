#!/usr/bin/env python3
"""What the agent remembers of a distribution point, from one run to the next."""

import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import *                                               # noqa: E402,F403


def why(s):
    """What the service decided last, and what came of it."""
    return wants(s.run("--why", PACKAGE, "--json"), 0).json


def once(s):
    """The service fetches it anew; the codes of its attempts, and the reasons."""
    shutil.rmtree(s.path("cache"), ignore_errors=True)
    wants(s.run("--once"), 0)
    said = why(s)
    return ([(a["error"] or {}).get("code") for a in said["attempts"]],
            [l["reason"] for l in said["locations"]])


def reasons(s, *args):
    run = wants(s.run("--locate", PACKAGE, "--json", *args), 0)
    return [l["reason"] for l in run.json["locations"]]


@check
def host_without_the_content_comes_after_the_others():
    with Small(files={"a": 10}) as s:
        part, other = s.lab.dp_nginx(), s.lab.dp_nginx()
        s.locate(s.share(other, vdir="no_such_share$"), s.share(part))
        s.policy()
        same(once(s)[0], ["TRANSFER", None], "the first time")
        codes, (first, second) = once(s)
        same(codes, [None], "with what is remembered")
        s.expect_published()
        expect("ago" not in first, first)
        expect("did not have it" in second and "after the others" in second, second)
        # by hand it is the order of the reply
        for reason in reasons(s):
            expect("ago" not in reason, reason)
        shutil.rmtree(s.path("cache"))
        same([code for _, _, code in attempts_of(s.download())], ["TRANSFER", None],
             "by hand")


@check
def host_that_delivers_again_is_forgiven():
    with Small(files={"a": 10}) as s:
        part, other = s.lab.dp_nginx(), s.lab.dp_nginx()
        s.locate(s.share(other, vdir="no_such_share$"), s.share(part))
        s.policy()
        s.download()
        s.locate(s.share(other), s.share(part))
        expect("did not have it" in once(s)[1][1], why(s))
        shutil.rmtree(s.path("cache"))
        s.download("--from", "127.0.0.1:%d" % other.port)
        for reason in once(s)[1]:
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
