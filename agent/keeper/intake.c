#include "agent/keeper/intake.h"

#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_COST (4u << 10)    /* what a file counts beside its bytes */
#define STOP_BYTES (4u << 20)   /* hashed between two questions for a stop */
#define SYNC_ALONE (8u << 20)   /* files from it on are synced one by one */
#define SYNC_BATCH (64u << 20)  /* smaller ones when so much has come */

enum err_code intake_ask_stop(struct receive *r, uint64_t bytes, struct err *e)
{
	r->since_stop += bytes;
	if (r->since_stop < STOP_BYTES || r->o.stop == NULL)
		return ERR_OK;
	r->since_stop = 0;
	return r->o.stop(r->o.stop_arg, e);
}

enum err_code intake_catch_up(struct receive *r, struct roster_file *f, int fd,
			      struct err *e)
{
	enum err_code rc = ERR_OK;
	while (rc == ERR_OK && part_is_behind(f->part)) {
		rc = part_catch_up(f->part, fd, &r->place, f->path, STOP_BYTES, e);
		if (rc == ERR_OK)
			rc = intake_ask_stop(r, STOP_BYTES, e);
	}
	return rc;
}

void intake_reopen(struct receive *r, struct roster_file *f)
{
	size_t place = (size_t)(f - r->list.files);
	f->state = FILE_IDLE;
	if (place < r->cursor)
		r->cursor = place;
}

/* Its bytes go, from the disk and from the figures. */
void intake_forget(struct receive *r, struct roster_file *f)
{
	struct err ignored;
	r->bytes_done -= roster_have(f);
	if (f->part)
		r->bytes_done -= part_unsplit(f->part);
	if (f->state == FILE_DONE)
		r->done--;
	part_free(take_ptr(f->part), &r->place);
	folder_remove(r->o.dir_fd, f->path, &ignored);
	f->is_old = false;
	f->sha256[0] = '\0';
	intake_reopen(r, f);
}

/* What came but could not be written is not there, or what is there is not hashed:
 * the next plan looks at what is. */
static void intake_keep_stored(struct receive *r, struct roster_file *f)
{
	struct err ignored;
	r->bytes_done -= part_length(f->part) - f->part->stored;
	if (f->part->fd >= 0)
		part_trim(f->part, f->part->fd, f->path, &ignored);
	part_free(take_ptr(f->part), &r->place);
	intake_reopen(r, f);
}

/* The hash of the whole file, against all that is known of it. */
static enum err_code judge(struct receive *r, struct roster_file *f,
			   struct err *e)
{
	char sha1[DIGEST_HEX_SIZE] = "";
	enum err_code rc = digest_hex(f->part->sha256, f->sha256, e);
	if (rc == ERR_OK && f->part->sha1)
		rc = digest_hex(f->part->sha1, sha1, e);
	return rc == ERR_OK ? roster_judge_hash(&r->list, f, sha1, e) : rc;
}

/* What fsync is for a file, for the whole file system of the draft: thousands
 * of small files wait for the disk once, not one after the other. */
enum err_code intake_sync(struct receive *r, struct err *e)
{
	if (r->unsynced && syncfs(r->o.dir_fd) != 0)
		return err_set(e, errno == ENOSPC || errno == EDQUOT ?
					  ERR_SPACE_DISK : ERR_FOLDER,
			       "write the draft to the disk: %m");
	r->unsynced = 0;
	return ERR_OK;
}

static enum err_code sync_file(struct receive *r, const struct roster_file *f,
			       struct err *e)
{
	if (f->size >= SYNC_ALONE) {
		enum err_code rc = fs_sync(f->part->fd, f->path, e);
		/* what could not be written past the page cache leaves it now */
		posix_fadvise(f->part->fd, 0, 0, POSIX_FADV_DONTNEED);
		return rc;
	}
	r->unsynced += f->size + FILE_COST;
	return r->unsynced > SYNC_BATCH ? intake_sync(r, e) : ERR_OK;
}

enum err_code intake_complete(struct receive *r, struct roster_file *f,
			      struct err *e)
{
	if (intake_catch_up(r, f, f->part->fd, e) != ERR_OK) {
		intake_keep_stored(r, f);
		return e->code;
	}
	enum err_code rc = judge(r, f, e);
	if (rc == ERR_OK && part_store(f->part, f->path, e) != ERR_OK) {
		intake_keep_stored(r, f);
		return e->code;
	}
	if (rc == ERR_OK) {
		part_drop_note(f->part);
		rc = sync_file(r, f, e);
	}
	if (rc != ERR_OK) {
		intake_forget(r, f);
		return rc;
	}
	part_free(take_ptr(f->part), &r->place);
	f->state = FILE_DONE;
	r->done++;
	return ERR_OK;
}

enum err_code intake_open(struct receive *r, struct roster_file *f,
			       struct err *e)
{
	if (f->part == NULL)
		f->part = part_new(roster_says_sha1(f), e);
	if (f->part == NULL)
		return e ? e->code : ERR_NOMEM;
	if (f->part->fd >= 0)
		return ERR_OK;
	return part_open(f->part, &r->place, f->path, f->size, e);
}

static bool is_etag(const char *text)
{
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			return false;
	return strlen(text) < PART_ETAG_SIZE;
}

/* Which version of the file are the bytes of? */
enum err_code intake_take_etag(struct roster_file *f, uint64_t offset,
			       const char *etag, struct err *e)
{
	struct part *p = f->part;
	if (!is_etag(etag))
		etag = "";
	if (offset == 0) {
		part_drop_note(p);
		snprintf(p->etag, sizeof(p->etag), "%s", etag);
	} else if (p->etag[0] && etag[0] && strcmp(p->etag, etag) != 0) {
		return err_set(e, ERR_CHANGED, "%.200s: the server has another "
			       "version now, %.80s instead of %.80s", f->path, etag,
			       p->etag);
	} else if (!p->etag[0]) {
		part_drop_note(p); /* of two hosts: no etag is of all */
	}
	return ERR_OK;
}

/* In the draft, hashed or not. */
uint64_t intake_bytes(const struct part *p)
{
	return part_length(p) + (p->split ? p->split->ahead : 0);
}

bool intake_is_pending(const struct roster_file *f)
{
	return f->state == FILE_ASKED || f->state == FILE_COMING;
}

void intake_end_badly(struct receive *r, struct roster_file *f)
{
	struct err ignored;
	struct part *p = f->part;
	bool has_ahead = p && p->split && p->split->ahead >= PART_AHEAD_LEAST &&
			 part_store(p, f->path, &ignored) == ERR_OK;
	if (p && (has_ahead || part_is_behind(p))) {
		intake_keep_stored(r, f);
		return;
	}
	if (p)
		r->bytes_done -= part_unsplit(p);
	uint64_t have = roster_have(f);
	intake_reopen(r, f);
	/* The last byte came, the end did not: nothing is left to ask for. */
	if (have && have == f->size) {
		if (intake_open(r, f, &ignored) == ERR_OK)
			intake_complete(r, f, &ignored);
		return;
	}
	if (f->part && f->part->fd >= 0) {
		if (part_store(f->part, f->path, &ignored) != ERR_OK) {
			intake_keep_stored(r, f);
			return;
		}
		part_trim(f->part, f->part->fd, f->path, &ignored);
		part_close(f->part, &r->place);
	}
	if (have == 0 && f->part)
		part_free(take_ptr(f->part), &r->place);
}
