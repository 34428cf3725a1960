"""Pictures of what was measured: SVG by gnuplot, for docs/bench.

Every picture is of horizontal bars, the agent's in one colour and the peers' in
another, the value behind each bar; several panels stand below each other.
"""

import os
import shutil
import subprocess

AGENT, PEER, MARK = "#1f6f8b", "#b8bec4", "#c0392b"
WIDTH, ROW, HEAD = 760, 19, 36


class Panel:
    """rows: [(label, value), ...], top down; mark: (value, what it is) or None."""

    def __init__(self, title, rows, mark=None, form="%.2f", is_ours=False):
        self.is_ours = is_ours
        self.title, self.rows, self.mark, self.form = title, rows, mark, form
        self.foot = 34 if mark else 10
        self.height = HEAD + self.foot + ROW * len(rows)
        self.most = max([value for _, value in rows] + ([mark[0]] if mark else []))


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def script(panels, path):
    """What gnuplot is told."""
    total = sum(panel.height for panel in panels)
    lines = ["set terminal svg size %d,%d dynamic font 'sans,12' background '#ffffff'"
             % (WIDTH, total), "set output " + quoted(path), "set multiplot",
             "set border 0", "set key off", "unset xtics", "set ytics nomirror "
             "scale 0", "set style fill solid 1.0 noborder"]
    top = 0
    for number, panel in enumerate(panels):
        count = len(panel.rows)
        bottom = total - top - panel.height
        lines += ["unset label", "unset arrow", "unset object",
                  "set lmargin at screen 0.32", "set rmargin at screen 0.93",
                  "set bmargin at screen %.5f" % ((bottom + panel.foot) / total),
                  "set tmargin at screen %.5f" % (
                      (bottom + panel.height - HEAD) / total),
                  "set label %s at graph 0, graph 1 left offset 0,0.9 noenhanced"
                  % quoted(panel.title),
                  "set xrange [0:%.6g]" % (panel.most * 1.06),
                  "set yrange [%d.5:0.5]" % count,
                  "set ytics (%s) noenhanced" % ", ".join(
                      "%s %d" % (quoted(label), at + 1)
                      for at, (label, _) in enumerate(panel.rows))]
        if panel.mark:
            value, what = panel.mark
            lines += ["set arrow from %.6g, graph 0 to %.6g, graph 1 nohead back "
                      "dashtype 2 lc rgb '%s'" % (value, value, MARK),
                      "set label %s at %.6g, graph 0 center offset 0,-0.8 "
                      "tc rgb '%s' noenhanced" % (quoted(what), value, MARK)]
        lines.append("$p%d << END" % number)
        for at, (label, value) in enumerate(panel.rows):
            color = AGENT if panel.is_ours or label == "agent" else PEER
            lines.append("%d %.6g %s %s" % (at + 1, value, "0x" + color[1:],
                                            panel.form % value))
        lines += ["END", "plot $p%d using 2:1:(0):2:($1-0.36):($1+0.36):3 with "
                  "boxxyerror lc rgb variable, $p%d using 2:1:4 with labels left "
                  "offset 0.6,0" % (number, number)]
        top += panel.height
    return "\n".join(lines + ["unset multiplot", ""])


def write(path, panels):
    panels = [panel for panel in panels if panel and panel.rows]
    if not panels:
        return
    done = subprocess.run(["gnuplot", "-"], input=script(panels, path), text=True,
                          capture_output=True)
    if done.returncode or done.stderr.strip():
        raise RuntimeError("gnuplot: " + done.stderr.strip())


# -- what is shown -----------------------------------------------------------------

def clients(result, figure, title, mark=None, form="%.2f"):
    """One figure of every client of a world; the agent first."""
    if not result or "clients" not in result:
        return None
    rows = [(name, c[figure]) for name, c in result["clients"].items()
            if c.get(figure) is not None]
    return Panel(title, rows, mark, form)


def against_best(results, best):
    """The agent / the best peer, world by world."""
    panels = []
    for figure, words in (("wall_s", "time"), ("cpu_s", "processor time")):
        rows = []
        for result in results:
            if "clients" in result and result["medium"] in ("tmpfs", "disk"):
                peer, ratio = best(result, figure)
                if peer:
                    rows.append(("%s (%s)" % (result["world"], peer.replace(
                        " connections", "")), ratio))
        if rows:
            panels.append(Panel("agent / best peer, %s: below 1 the agent is ahead"
                                % words, rows, (1, "1"), is_ours=True))
    return panels


def draw(results, folder, best):
    """All pictures that there are figures for."""
    if not shutil.which("gnuplot"):
        print("plots SKIPPED: gnuplot is not installed")
        return
    os.makedirs(folder, exist_ok=True)
    by = {r["world"]: r for r in results}
    limit = by.get("limit")

    def floor(medium):
        return limit and (limit["sum_" + medium], "floor")

    def put(name, panels):
        write(os.path.join(folder, name + ".svg"), panels)

    put("one-file", [
        clients(by.get("1g-tmpfs"), "cpu_s_per_gib",
                "1 GiB verified, tmpfs: processor seconds", floor("tmpfs")),
        clients(by.get("1g-disk"), "cpu_s_per_gib",
                "1 GiB verified and synced, disk: processor seconds", floor("disk")),
        clients(by.get("1g-tmpfs"), "wall_s", "1 GiB verified, tmpfs: seconds"),
        clients(by.get("1g-disk"), "wall_s",
                "1 GiB verified and synced, disk: seconds")])
    put("small-files", [
        clients(by.get("small-tmpfs"), "wall_s",
                "10,000 small files verified, tmpfs: seconds"),
        clients(by.get("small-tmpfs"), "cpu_s",
                "10,000 small files verified, tmpfs: processor seconds"),
        clients(by.get("small-disk"), "wall_s",
                "10,000 small files verified and synced, disk: seconds")])
    put("links", [clients(by.get(name), "wall_s", title + ": seconds")
                  for name, title in (
                      ("file-30ms", "64 MiB, round trip 30 ms"),
                      ("file-150ms", "64 MiB, round trip 150 ms"),
                      ("cap-150ms", "256 MiB, 8 MB/s a connection, 150 ms"),
                      ("small-30ms", "500 small files, round trip 30 ms"),
                      ("small-150ms", "200 small files, round trip 150 ms"))])
    put("memory", [clients(by.get(name), "pss_mib", title + ": peak memory, MiB",
                           form="%.1f")
                   for name, title in (("1g-tmpfs", "1 GiB"),
                                       ("small-tmpfs", "10,000 small files"),
                                       ("mid-tmpfs", "1,000 files of 1 MiB"))])
    put("ratios", against_best(results, best))
