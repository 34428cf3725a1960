#include "agent/keeper/part.h"

#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"
#include "common/relpath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define NOTE "cloud-dp-agent.etag" /* fs_set_note puts "user." before it */
#define HOST_MAX 256
#define FILE_MODE 0644
#define LARGE_BYTES (1u << 20) /* files above it get their disk blocks at once */
#define FLUSH_BYTES (8u << 20)
#define GAP_UNIT (64u << 10) /* no page is larger */
#define ALIGN 4096u /* of O_DIRECT: no disk here has larger sectors */
#define TRIES 3 /* folders missing, then something in the way */

/* --- the place ------------------------------------------------------------ */

enum err_code part_place_open(struct part_place *place, int dir_fd, struct err *e)
{
	struct stat st;
	struct statfs fs;
	if (fstat(dir_fd, &st) != 0 || fstatfs(dir_fd, &fs) != 0)
		return err_set(e, ERR_FOLDER, "look at the draft: %m");
	place->dir_fd = dir_fd;
	place->device = st.st_dev;
	place->user = geteuid();
	place->is_memory = fs.f_type == TMPFS_MAGIC;
	if (place->copy == NULL)
		place->copy = malloc(PART_COPY_BYTES);
	return place->copy ? ERR_OK :
			     err_set(e, ERR_NOMEM, "receive files: no memory");
}

void part_place_close(struct part_place *place)
{
	while (place->block_count)
		free(place->blocks[--place->block_count]);
	free(place->copy);
	*place = (struct part_place){ 0 };
}

/* Small files, and files beyond what there is memory for, do without. */
static char *take_block(struct part_place *place)
{
	void *made = NULL;
	if (place->block_count)
		return place->blocks[--place->block_count];
	if (place->blocks_made < PART_BLOCKS &&
	    posix_memalign(&made, ALIGN, PART_BLOCK_BYTES) == 0)
		place->blocks_made++;
	return made;
}

/* --- life ----------------------------------------------------------------- */

struct part *part_new(bool needs_sha1, struct err *e)
{
	struct part *p = calloc(1, sizeof(*p));
	if (p == NULL) {
		err_set(e, ERR_NOMEM, "receive a file: no memory");
		return NULL;
	}
	p->fd = -1;
	p->sha256 = digest_new(DIGEST_SHA256, e);
	if (p->sha256 && needs_sha1)
		p->sha1 = digest_new(DIGEST_SHA1, e);
	if (p->sha256 && (p->sha1 || !needs_sha1))
		return p;
	part_free(p, NULL);
	return NULL;
}

void part_free(struct part *p, struct part_place *place)
{
	if (p == NULL)
		return;
	part_close(p, place);
	digest_free(p->sha256);
	digest_free(p->sha1);
	free(p->split);
	free(p);
}

void part_close(struct part *p, struct part_place *place)
{
	own_close(&p->fd);
	p->fd = -1;
	if (p->block)
		place->blocks[place->block_count++] = take_ptr(p->block);
}

/* --- the file ------------------------------------------------------------- */

static bool is_ours(const struct part_place *place, const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_nlink == 1 &&
	       st->st_uid == place->user && st->st_dev == place->device;
}

/* Something other than a file of ours is at `path`, or a file is where a folder
 * of it must be (another source had it so, or somebody planted it). */
static enum err_code clear_way(const struct part_place *place, const char *path,
			       struct err *e)
{
	char at[RELPATH_MAX + 1];
	snprintf(at, sizeof(at), "%s", path);
	for (char *slash = strchr(at, '/'); slash; slash = strchr(slash + 1, '/')) {
		struct stat st;
		*slash = '\0';
		autofd fd = fs_open_at(place->dir_fd, at, O_PATH | O_NOFOLLOW, 0, e);
		if (fd < 0 || fstat(fd, &st) != 0)
			return ERR_OK; /* nothing there */
		if (!S_ISDIR(st.st_mode))
			return folder_remove(place->dir_fd, at, e);
		*slash = '/';
	}
	return folder_remove(place->dir_fd, path, e);
}

/*
 * What came in several streams, to a process that was killed, has gaps: only the
 * bytes before the first count, and not those of the last page or so, which may be
 * written in part. Where a file system knows no holes, the hash will tell.
 */
static uint64_t size_without_gap(int fd, uint64_t size)
{
	off_t hole = lseek(fd, 0, SEEK_HOLE);
	if (hole < 0 || (uint64_t)hole >= size)
		return size;
	return hole ? ((uint64_t)hole - 1) / GAP_UNIT * GAP_UNIT : 0;
}

/* Between units, and without the last page, as above. */
static void keep_extent(struct split *s, uint64_t begin, uint64_t end)
{
	uint64_t first = (begin + GAP_UNIT - 1) / GAP_UNIT * GAP_UNIT;
	uint64_t last = end ? (end - 1) / GAP_UNIT * GAP_UNIT : 0;
	if (first > s->frontier && last > first)
		split_keep(s, first, last);
}

struct split *part_find_ahead(int fd, uint64_t from, uint64_t size)
{
	struct stat st;
	if (fstat(fd, &st) != 0 || (uint64_t)st.st_size > size)
		return NULL;
	off_t end, begin = lseek(fd, (off_t)from, SEEK_DATA);
	struct split *s = begin < 0 ? NULL : malloc(sizeof(*s));
	if (s == NULL)
		return NULL;
	split_resume(s, from, size);
	while (begin >= 0 && s->count < SPLIT_MAX / 2 &&
	       (end = lseek(fd, begin, SEEK_HOLE)) > begin) {
		keep_extent(s, (uint64_t)begin, (uint64_t)end);
		begin = lseek(fd, end, SEEK_DATA);
	}
	if (s->ahead < PART_AHEAD_LEAST)
		free(take_ptr(s));
	return s;
}

enum err_code part_find(const struct part_place *place, const char *path, int *fd,
			uint64_t *size_bytes, struct err *e)
{
	struct err why = { 0 };
	struct stat st;
	autofd found = fs_open_stat(place->dir_fd, path, O_RDWR | O_NOFOLLOW, 0, &st,
				    &why);
	*fd = -1;
	*size_bytes = 0;
	if (found < 0 && errno == ENOENT)
		return ERR_OK;
	if (found < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		return err_set(e, why.code, "%s", why.text);
	if (found < 0 || !is_ours(place, &st))
		return clear_way(place, path, e);
	if ((st.st_mode & 07777) != FILE_MODE && fchmod(found, FILE_MODE) != 0)
		return err_set(e, ERR_FOLDER, "set the mode of %.200s: %m", path);
	*size_bytes = size_without_gap(found, (uint64_t)st.st_size);
	*fd = take_fd(&found);
	return ERR_OK;
}

static enum err_code open_ours(struct part *p, const struct part_place *place,
			       const char *path, struct stat *st, struct err *e)
{
	for (int i = 0; i < TRIES; i++) {
		p->fd = fs_open_stat(place->dir_fd, path,
				     O_RDWR | O_CREAT | O_NOFOLLOW, FILE_MODE, st,
				     e);
		bool is_missing = p->fd < 0 && errno == ENOENT;
		if (p->fd >= 0 && is_ours(place, st))
			return ERR_OK;
		if (p->fd < 0 && e->code == ERR_SPACE_DISK)
			return e->code;
		if (p->fd >= 0)
			err_set(e, ERR_FOLDER, "%.200s is not a file of ours", path);
		own_close(&p->fd);
		p->fd = -1;
		struct err why = { 0 };
		if ((is_missing ? fs_make_parents(place->dir_fd, path, &why) :
				  clear_way(place, path, &why)) != ERR_OK)
			return err_set(e, why.code, "%s", why.text);
	}
	return e->code;
}

static bool is_large(uint64_t size)
{
	return size != UINT64_MAX && size > LARGE_BYTES;
}

static enum err_code allocate(const struct part *p, const char *path,
			      uint64_t size, struct err *e)
{
	if (!is_large(size) || size <= p->stored)
		return ERR_OK;
	/* The length stays what is written: it is what a resume goes by. */
	if (fallocate(p->fd, FALLOC_FL_KEEP_SIZE, (off_t)p->stored,
		      (off_t)(size - p->stored)) == 0 ||
	    (errno != ENOSPC && errno != EDQUOT && errno != EFBIG))
		return ERR_OK;
	return err_set(e, ERR_SPACE_DISK, "reserve %llu bytes for %.200s: %m",
		       (unsigned long long)(size - p->stored), path);
}

enum err_code part_open(struct part *p, struct part_place *place, const char *path,
			uint64_t size, struct err *e)
{
	struct stat st = { 0 };
	struct err own = { 0 };
	if (open_ours(p, place, path, &st, &own) != ERR_OK)
		return err_set(e, own.code, "%s", own.text);
	p->stored = p->flushed = part_length(p);
	if ((uint64_t)st.st_size < p->stored)
		return err_set(e, ERR_FOLDER, "%.200s: somebody cut it off", path);
	if ((uint64_t)st.st_size > p->stored && p->split == NULL &&
	    part_trim(p, p->fd, path, e) != ERR_OK)
		return ERR_FOLDER;
	if (is_large(size) && !place->is_memory && p->block == NULL)
		p->block = take_block(place);
	p->may_direct = p->block != NULL;
	p->is_direct = false;
	/* in memory there are no blocks to be had together */
	return place->is_memory ? ERR_OK : allocate(p, path, size, e);
}

/* What lies between the parts that came becomes a hole. Returns where the last of them
 * ends. */
static uint64_t free_gaps(const struct split *s, int fd, uint64_t size)
{
	for (unsigned i = 0; i < s->count; i++) {
		const struct stream *t = &s->streams[i];
		if (t->state == STREAM_UNWANTED) /* it wrote nothing */
			continue;
		if (t->next > t->asked && t->next > size)
			size = t->next;
		if (t->next < t->end)
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (off_t)t->next, (off_t)(t->end - t->next));
	}
	return size;
}

enum err_code part_trim(const struct part *p, int fd, const char *path,
			struct err *e)
{
	uint64_t size = p->block ? p->stored : part_length(p);
	if (p->split && p->split->ahead)
		size = free_gaps(p->split, fd, size);
	if (ftruncate(fd, (off_t)size) != 0)
		return err_set(e, ERR_FOLDER, "cut off %.200s: %m", path);
	return ERR_OK;
}

static void hash(struct part *p, const void *bytes, size_t len)
{
	digest_add(p->sha256, bytes, len);
	if (p->sha1)
		digest_add(p->sha1, bytes, len);
	p->have += len;
}

static enum err_code hash_stored(struct part *p, int fd, struct part_place *place,
				 const char *path, uint64_t until, struct err *e)
{
	while (p->have < until) {
		uint64_t left = until - p->have;
		size_t n = left < PART_COPY_BYTES ? (size_t)left : PART_COPY_BYTES;
		ssize_t got = pread(fd, place->copy, n, (off_t)p->have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return err_set(e, ERR_FOLDER, "read %.200s: %s", path,
				       got < 0 ? strerror(errno) :
						 "somebody cut it off");
		hash(p, place->copy, (size_t)got);
	}
	return ERR_OK;
}

enum err_code part_catch_up(struct part *p, int fd, struct part_place *place,
			    const char *path, uint64_t most, struct err *e)
{
	uint64_t from = p->have, behind = p->stored - from;
	enum err_code rc = hash_stored(p, fd, place, path,
				       from + (behind < most ? behind : most), e);
	posix_fadvise(fd, (off_t)from, (off_t)(p->have - from), POSIX_FADV_DONTNEED);
	return rc;
}

/* Whether the next write goes past the page cache. False: it will not have that. */
static bool set_direct(struct part *p, bool is_wanted)
{
	if (p->is_direct == is_wanted)
		return true;
	int flags = fcntl(p->fd, F_GETFL);
	flags = is_wanted ? flags | O_DIRECT : flags & ~O_DIRECT;
	if (fcntl(p->fd, F_SETFL, flags) != 0) {
		p->may_direct = false;
		return !is_wanted;
	}
	p->is_direct = is_wanted;
	return true;
}

/* The disk begins while the network still brings the rest; else all of it would
 * wait for the sync at the end. */
static void begin_sync(struct part *p)
{
	if (p->stored - p->flushed < FLUSH_BYTES)
		return;
	sync_file_range(p->fd, (off_t)p->flushed, (off_t)(p->stored - p->flushed),
			SYNC_FILE_RANGE_WRITE);
	p->flushed = p->stored;
}

static enum err_code write_on(struct part *p, const char *path, const char *bytes,
			      size_t len, struct err *e)
{
	enum err_code rc = fs_write_at(p->fd, bytes, len, p->stored, path, e);
	if (rc == ERR_OK)
		p->stored += len;
	return rc;
}

enum err_code part_store(struct part *p, const char *path, struct err *e)
{
	size_t len = (size_t)(part_length(p) - p->stored), done = 0;
	struct err own = { 0 };
	/* whole sectors first; what is left is the end of the file, or of this run */
	if (p->may_direct && p->stored % ALIGN == 0 && len >= ALIGN &&
	    set_direct(p, true)) {
		done = len - len % ALIGN;
		if (write_on(p, path, p->block, done, &own) != ERR_OK) {
			if (errno != EINVAL)
				return err_set(e, own.code, "%s", own.text);
			p->may_direct = false; /* it says so only now */
			done = 0;
		}
	}
	if (done == len)
		return ERR_OK;
	set_direct(p, false);
	enum err_code rc = write_on(p, path, p->block + done, len - done, e);
	if (rc == ERR_OK)
		begin_sync(p);
	return rc;
}

/* The block ends where a sector ends, wherever it began. */
static size_t block_room(const struct part *p)
{
	return PART_BLOCK_BYTES - (size_t)(p->stored % ALIGN) -
	       (size_t)(p->have - p->stored);
}

static enum err_code append_block(struct part *p, const char *path, const char *bytes,
				  size_t len, struct err *e)
{
	enum err_code rc = ERR_OK;
	for (size_t n; rc == ERR_OK && len; bytes += n, len -= n) {
		char *to = p->block + (p->have - p->stored);
		n = block_room(p);
		n = len < n ? len : n;
		memcpy(to, bytes, n);
		hash(p, to, n);
		if (block_room(p) == 0)
			rc = part_store(p, path, e);
	}
	return rc;
}

enum err_code part_append(struct part *p, struct part_place *place, const char *path,
			  const void *bytes, size_t len, struct err *e)
{
	bool is_behind = part_is_behind(p);
	if (p->block && !is_behind)
		return append_block(p, path, bytes, len, e);
	set_direct(p, false);
	enum err_code rc = write_on(p, path, bytes, len, e);
	if (rc == ERR_OK && !is_behind)
		rc = hash_stored(p, p->fd, place, path, p->stored, e);
	if (rc == ERR_OK && !place->is_memory)
		begin_sync(p);
	return rc;
}

/* --- several streams ------------------------------------------------------ */

static enum err_code write_ahead(struct part *p, const char *path, uint64_t at,
				 const char *bytes, size_t len, struct err *e)
{
	set_direct(p, false);
	enum err_code rc = fs_write_at(p->fd, bytes, len, at, path, e);
	sync_file_range(p->fd, (off_t)at, (off_t)len, SYNC_FILE_RANGE_WRITE);
	return rc;
}

/* The bytes before `until` are in the file now. */
static enum err_code join(struct part *p, struct part_place *place, const char *path,
			  uint64_t until, struct err *e)
{
	bool is_behind = part_is_behind(p);
	enum err_code rc = part_store(p, path, e);
	if (rc != ERR_OK)
		return rc;
	set_direct(p, false); /* what came ahead is in the page cache */
	p->split->ahead -= until - p->stored;
	p->stored = until;
	return is_behind ? ERR_OK :
			   part_catch_up(p, p->fd, place, path, UINT64_MAX, e);
}

enum err_code part_put(struct part *p, struct part_place *place, const char *path,
		       struct stream *stream, const void *bytes, size_t len,
		       struct err *e)
{
	bool is_next = stream->next == part_length(p);
	enum err_code rc =
		is_next ? part_append(p, place, path, bytes, len, e) :
			  write_ahead(p, path, stream->next, bytes, len, e);
	if (rc != ERR_OK)
		return rc;
	stream->next += len;
	if (!is_next)
		p->split->ahead += len;
	uint64_t reach = split_reach(p->split, part_length(p));
	return reach > part_length(p) ? join(p, place, path, reach, e) : ERR_OK;
}

uint64_t part_unsplit(struct part *p)
{
	uint64_t lost = p->split ? p->split->ahead : 0;
	free(take_ptr(p->split));
	return lost;
}

enum err_code part_restart(struct part *p, const char *path, struct err *e)
{
	part_drop_note(p);
	p->etag[0] = '\0';
	if (ftruncate(p->fd, 0) != 0)
		return err_set(e, ERR_FOLDER, "empty %.200s: %m", path);
	digest_reset(p->sha256);
	if (p->sha1)
		digest_reset(p->sha1);
	p->have = p->stored = p->flushed = 0;
	return ERR_OK;
}

/* --- the note ------------------------------------------------------------- */

void part_read_note(struct part *p, const char *host, int fd)
{
	char text[HOST_MAX + PART_ETAG_SIZE + 2];
	p->etag[0] = '\0';
	/* also one too long to be ours must be gone before publishing */
	p->has_note = true;
	if (!fs_get_note(fd, NOTE, text, sizeof(text)))
		return;
	char *etag = strchr(text, '\n');
	if (etag == NULL)
		return;
	*etag++ = '\0';
	if (strcasecmp(text, host) == 0 && strlen(etag) < sizeof(p->etag))
		snprintf(p->etag, sizeof(p->etag), "%s", etag);
}

void part_write_note(struct part *p, const char *host)
{
	char text[HOST_MAX + PART_ETAG_SIZE + 2];
	if (p->has_note || !p->etag[0] || !host[0] || strlen(host) > HOST_MAX)
		return;
	snprintf(text, sizeof(text), "%s\n%s", host, p->etag);
	p->has_note = fs_set_note(p->fd, NOTE, text);
}

void part_drop_note(struct part *p)
{
	if (p->has_note)
		fs_drop_note(p->fd, NOTE);
	p->has_note = false;
}
