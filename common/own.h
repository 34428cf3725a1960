#ifndef COMMON_OWN_H
#define COMMON_OWN_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Scope cleanup and *take*: a variable declared `autofd` or `autofree` gives
 * back what it holds when the scope ends; take_fd() and take_ptr() hand it to
 * somebody else and leave the variable empty.
 */
static inline void own_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void own_free(void *p)
{
	free(*(void **)p);
}

static inline void own_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define autofd __attribute__((cleanup(own_close))) int
#define autofree __attribute__((cleanup(own_free)))
#define autofile __attribute__((cleanup(own_fclose))) FILE *

static inline int take_fd(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

#define take_ptr(p)                          \
	({                                   \
		__typeof__(p) taken_ = (p);  \
		(p) = NULL;                  \
		taken_;                      \
	})

#endif
