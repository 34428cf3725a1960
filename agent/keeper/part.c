#include "agent/keeper/part.h"

#include "common/folder.h"
#include "common/fs.h"
#include "common/own.h"
#include "common/relpath.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NOTE "cloud-dp-agent.etag" /* fs_set_note puts "user." before it */
#define HOST_MAX 256
#define FILE_MODE 0644
#define ALLOCATE_BYTES (1u << 20) /* files above it get their blocks at once */
#define FLUSH_BYTES (8u << 20)
#define TRIES 3 /* folders missing, then something in the way */

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
	part_free(p);
	return NULL;
}

void part_free(struct part *p)
{
	if (p == NULL)
		return;
	part_close(p);
	digest_free(p->sha256);
	digest_free(p->sha1);
	free(p);
}

void part_close(struct part *p)
{
	own_close(&p->fd);
	p->fd = -1;
}

/* --- the file ------------------------------------------------------------- */

static bool is_ours(const struct part_place *place, int fd, struct stat *st)
{
	return fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_nlink == 1 &&
	       st->st_uid == geteuid() && st->st_dev == place->device;
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

enum err_code part_find(const struct part_place *place, const char *path, int *fd,
			uint64_t *size_bytes, struct err *e)
{
	struct err why = { 0 };
	struct stat st;
	autofd found = fs_open_at(place->dir_fd, path, O_RDWR | O_NOFOLLOW, 0, &why);
	*fd = -1;
	*size_bytes = 0;
	if (found < 0 && errno == ENOENT)
		return ERR_OK;
	if (found < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		return err_set(e, why.code, "%s", why.text);
	if (found < 0 || !is_ours(place, found, &st))
		return clear_way(place, path, e);
	if ((st.st_mode & 07777) != FILE_MODE && fchmod(found, FILE_MODE) != 0)
		return err_set(e, ERR_FOLDER, "set the mode of %.200s: %m", path);
	*size_bytes = (uint64_t)st.st_size;
	*fd = take_fd(&found);
	return ERR_OK;
}

static enum err_code open_ours(struct part *p, const struct part_place *place,
			       const char *path, struct stat *st, struct err *e)
{
	for (int i = 0; i < TRIES; i++) {
		p->fd = fs_open_at(place->dir_fd, path,
				   O_RDWR | O_CREAT | O_NOFOLLOW, FILE_MODE, e);
		bool is_missing = p->fd < 0 && errno == ENOENT;
		if (p->fd >= 0 && is_ours(place, p->fd, st))
			return ERR_OK;
		if (p->fd < 0 && e->code == ERR_SPACE_DISK)
			return e->code;
		if (p->fd >= 0)
			err_set(e, ERR_FOLDER, "%.200s is not a file of ours", path);
		part_close(p);
		struct err why = { 0 };
		if ((is_missing ? fs_make_parents(place->dir_fd, path, &why) :
				  clear_way(place, path, &why)) != ERR_OK)
			return err_set(e, why.code, "%s", why.text);
	}
	return e->code;
}

static enum err_code allocate(const struct part *p, const char *path,
			      uint64_t size, struct err *e)
{
	if (size == UINT64_MAX || size <= ALLOCATE_BYTES || size <= p->have)
		return ERR_OK;
	/* The length stays what is written: it is what a resume goes by. */
	if (fallocate(p->fd, FALLOC_FL_KEEP_SIZE, (off_t)p->have,
		      (off_t)(size - p->have)) == 0 ||
	    (errno != ENOSPC && errno != EDQUOT && errno != EFBIG))
		return ERR_OK;
	return err_set(e, ERR_SPACE_DISK, "reserve %llu bytes for %.200s: %m",
		       (unsigned long long)(size - p->have), path);
}

enum err_code part_open(struct part *p, const struct part_place *place,
			const char *path, uint64_t size, struct err *e)
{
	struct stat st = { 0 };
	struct err own = { 0 };
	if (open_ours(p, place, path, &st, &own) != ERR_OK)
		return err_set(e, own.code, "%s", own.text);
	if ((uint64_t)st.st_size < p->have)
		return err_set(e, ERR_FOLDER, "%.200s: somebody cut it off", path);
	if ((uint64_t)st.st_size > p->have &&
	    part_trim(p, p->fd, path, e) != ERR_OK)
		return ERR_FOLDER;
	return allocate(p, path, size, e);
}

enum err_code part_trim(const struct part *p, int fd, const char *path,
			struct err *e)
{
	if (ftruncate(fd, (off_t)p->have) != 0)
		return err_set(e, ERR_FOLDER, "cut off %.200s: %m", path);
	return ERR_OK;
}

void part_hash(struct part *p, const void *bytes, size_t len)
{
	digest_add(p->sha256, bytes, len);
	if (p->sha1)
		digest_add(p->sha1, bytes, len);
	p->have += len;
}

enum err_code part_append(struct part *p, const char *path, const void *bytes,
			  size_t len, struct err *e)
{
	enum err_code rc = fs_write_at(p->fd, bytes, len, p->have, path, e);
	if (rc != ERR_OK)
		return rc;
	part_hash(p, bytes, len);
	/* The disk begins while the network still brings the rest; else all of
	 * it would wait for the sync at the end. */
	if (p->have - p->flushed >= FLUSH_BYTES) {
		sync_file_range(p->fd, (off_t)p->flushed,
				(off_t)(p->have - p->flushed),
				SYNC_FILE_RANGE_WRITE);
		p->flushed = p->have;
	}
	return ERR_OK;
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
	p->have = p->flushed = 0;
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
