#include "tests/unit/test.h"

#include "agent/keeper/hooks.h"
#include "agent/keeper/ledger.h"
#include "common/clock.h"
#include "common/own.h"
#include "tests/unit/stage.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* A stage with hooks, and what they found. */
struct scene {
	struct stage stage;
	struct content content;
	char path[300];
};

static void set_scene(struct scene *s, const char *timeout)
{
	const char *set[] = { timeout, NULL };
	struct err e = { 0 };
	stage_open(&s->stage, timeout ? set : NULL);
	assert_ok(content_parse("ABC00042.3", &s->content, &e));
	snprintf(s->path, sizeof(s->path), "%s/content folder", s->stage.folder);
	assert_int_equal(mkdir(stage_path(&s->stage, "hooks.d"), 0755), 0);
}

static void put(const struct scene *s, const char *name, mode_t mode,
		const char *text)
{
	autofd fd = open(stage_path(&s->stage, name), O_WRONLY | O_CREAT | O_TRUNC,
			 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
}

/* A hook that writes what `say` prints to out.NAME below the stage. */
static void put_hook(const struct scene *s, const char *name, const char *say)
{
	char text[1200], path[100];
	snprintf(path, sizeof(path), "hooks.d/%s", name);
	snprintf(text, sizeof(text), "#!/bin/sh\n{ %s\n} >>%s/out\n", say,
		 s->stage.folder);
	put(s, path, 0755, text);
}

/* The ledger must have a transfer that hooks belong to. */
static void add_transfer(struct scene *s)
{
	struct job_report report = { .content = s->content,
				     .result = JOB_VERIFIED,
				     .delivered = -1 };
	struct err none = { 0 }, e = { 0 };
	assert_ok(ledger_add_run(s->stage.record, &report, &none, "hand",
				 clock_wall_s(), &e));
}

static void run_hooks(struct scene *s)
{
	static const char *const folders[] = { "/nonexistent", NULL };
	struct hooks_places nowhere = { NULL, folders, "/nonexistent" };
	struct err e = { 0 };
	assert_ok(hooks_run_at(&nowhere, &s->stage.settings, s->stage.record,
			       &s->content, s->path, &e));
}

static void strike(struct scene *s)
{
	stage_close(&s->stage);
}

/* What the ledger says, "program=status;" each. */
static bool on_transfer(void *arg, const struct ledger_transfer *t)
{
	struct buf *out = arg;
	for (size_t i = 0; i < t->hook_count; i++)
		buf_print(out, "%s=%d;", t->hooks[i].program, t->hooks[i].status);
	return true;
}

static void assert_ledger(struct scene *s, const char *want)
{
	autobuf have = { 0 };
	struct err e = { 0 };
	assert_ok(ledger_each_transfer(s->stage.record, NULL, 10, on_transfer, &have,
				       &e));
	assert_string_equal(have.at ? have.at : "", want);
}

static void assert_out(const struct scene *s, const char *want)
{
	autofree char *have = stage_read(&s->stage, "out");
	assert_string_equal(have ? have : "", want);
}

TEST(hooks__several__in_order_with_arguments_and_environment)
{
	struct scene s;
	char want[2000];
	set_scene(&s, NULL);
	add_transfer(&s);
	put_hook(&s, "20-b", "echo b \"$#\"; exit 3");
	put_hook(&s, "10-a", "echo \"$1|$2|$3\"; echo \"$CONTENT_ID|"
		 "$CONTENT_VERSION|$CONTENT_PATH\"; env | cut -d= -f1 | sort |"
		 " grep -v -e '^_$' -e PWD -e SHLVL | tr '\\n' ' '; echo; cat; pwd");
	put_hook(&s, "Z", "echo z");
	run_hooks(&s);
	snprintf(want, sizeof(want), "ABC00042|3|%s\nABC00042|3|%s\n"
		 "CONTENT_ID CONTENT_PATH CONTENT_VERSION PATH \n/\nb 3\nz\n",
		 s.path, s.path);
	assert_out(&s, want);
	assert_ledger(&s, "10-a=0;20-b=3;Z=0;");
	strike(&s);
}

TEST(hooks__what_is_no_program__left_alone)
{
	struct scene s;
	set_scene(&s, NULL);
	put_hook(&s, ".hidden", "echo hidden");
	put_hook(&s, "a~", "echo backup");
	put(&s, "hooks.d/README", 0644, "no program\n");
	put(&s, "hooks.d/others", 0777, "#!/bin/sh\necho bad >&2\n");
	assert_int_equal(mkdir(stage_path(&s.stage, "hooks.d/folder"), 0755), 0);
	put_hook(&s, "real", "echo real");
	char link[600];
	snprintf(link, sizeof(link), "%s", stage_path(&s.stage, "hooks.d/link"));
	assert_int_equal(symlink("real", link), 0);
	run_hooks(&s);
	assert_out(&s, "real\n");
	strike(&s);
}

TEST(hooks__folder_that_others_can_write_to__nothing_is_run)
{
	struct scene s;
	set_scene(&s, NULL);
	put_hook(&s, "a", "echo a");
	chmod(stage_path(&s.stage, "hooks.d"), 0777);
	run_hooks(&s);
	assert_out(&s, "");
	strike(&s);
}

TEST(hooks__no_folder__nothing_to_do)
{
	struct scene s;
	set_scene(&s, NULL);
	assert_int_equal(rmdir(stage_path(&s.stage, "hooks.d")), 0);
	run_hooks(&s);
	strike(&s);
}

TEST(hooks__cannot_be_executed__recorded)
{
	struct scene s;
	set_scene(&s, NULL);
	add_transfer(&s);
	put(&s, "hooks.d/bad", 0755, "#!/nonexistent/interpreter\n");
	put_hook(&s, "good", "echo good");
	run_hooks(&s);
	assert_out(&s, "good\n");
	assert_ledger(&s, "bad=127;good=0;");
	strike(&s);
}

TEST(hooks__killed__recorded)
{
	struct scene s;
	set_scene(&s, NULL);
	add_transfer(&s);
	put_hook(&s, "a", "kill -9 $$");
	run_hooks(&s);
	assert_ledger(&s, "a=-1;");
	strike(&s);
}

/* The pid that a hook wrote as the first line of out. */
static pid_t pid_of(const struct scene *s)
{
	autofree char *text = stage_read(&s->stage, "out");
	pid_t pid = 0;
	for (const char *at = text ? text : ""; *at >= '0' && *at <= '9'; at++)
		pid = pid * 10 + (*at - '0');
	return pid;
}

/* Wait until it is gone. */
static bool dies(pid_t pid)
{
	autofd fd = pidfd_open(pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return fd < 0 || poll(&p, 1, 20000) == 1;
}

TEST(hooks__too_long__ended_with_its_children)
{
	struct scene s;
	set_scene(&s, "hooks.timeout=1s");
	add_transfer(&s);
	put_hook(&s, "a", "sleep 600 & echo $!; wait");
	put_hook(&s, "b", "echo b");
	int64_t began = clock_now_ms();
	run_hooks(&s);
	int64_t took = clock_now_ms() - began;
	assert_in_range(took, 900, 20000);
	assert_ledger(&s, "a=-1;b=0;");
	pid_t pid = pid_of(&s);
	assert_true(pid > 1);
	assert_true(dies(pid));
	strike(&s);
}

TEST(hooks__ends_while_a_child_keeps_its_output_open__not_waited_for)
{
	struct scene s;
	set_scene(&s, NULL);
	put(&s, "hooks.d/a", 0755,
	    "#!/bin/sh\nsleep 600 &\necho $! >\"${0%/*}/../out\"\n");
	int64_t began = clock_now_ms();
	run_hooks(&s);
	assert_true(clock_now_ms() - began < 60000);
	pid_t pid = pid_of(&s);
	assert_true(pid > 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	strike(&s);
}

TEST(hooks__much_output__bounded)
{
	struct scene s;
	set_scene(&s, NULL);
	add_transfer(&s);
	put(&s, "hooks.d/a", 0755,
	    "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x\nexit 5\n");
	run_hooks(&s);
	assert_ledger(&s, "a=5;");
	strike(&s);
}

static void run_unit(struct scene *s, bool with_template, bool with_systemd)
{
	char systemctl[600], units[600], running[600];
	const char *folders[] = { "/nonexistent", units, NULL };
	struct hooks_places places = { systemctl, folders, running };
	struct err e = { 0 };
	put(s, "systemctl", 0755,
	    "#!/bin/sh\necho \"$@\" >>\"${0%/*}/out\"\nexit 4\n");
	snprintf(systemctl, sizeof(systemctl), "%s/systemctl", s->stage.folder);
	snprintf(units, sizeof(units), "%s/units", s->stage.folder);
	snprintf(running, sizeof(running), "%s/running", s->stage.folder);
	mkdir(units, 0755);
	if (with_template)
		put(s, "units/cloud-dp-content@.service", 0644, "[Service]\n");
	if (with_systemd)
		mkdir(running, 0755);
	add_transfer(s);
	assert_ok(hooks_run_at(&places, &s->stage.settings, s->stage.record,
			       &s->content, s->path, &e));
}

TEST(hooks__unit_template__instance_is_started)
{
	struct scene s;
	struct err e = { 0 };
	set_scene(&s, NULL);
	assert_ok(content_parse("Content_0f-3.7", &s.content, &e));
	run_unit(&s, true, true);
	assert_out(&s, "start --no-ask-password "
		   "cloud-dp-content@Content_0f\\x2d3.7.service\n");
	assert_ledger(&s, "cloud-dp-content@Content_0f\\x2d3.7.service=4;");
	strike(&s);
}

TEST(hooks__no_unit_template__systemctl_is_not_called)
{
	struct scene s;
	set_scene(&s, NULL);
	run_unit(&s, false, true);
	assert_out(&s, "");
	strike(&s);
}

TEST(hooks__systemd_does_not_run__systemctl_is_not_called)
{
	struct scene s;
	set_scene(&s, NULL);
	run_unit(&s, true, false);
	assert_out(&s, "");
	strike(&s);
}
