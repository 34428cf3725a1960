/*
 * A peer: what librepo, the library that dnf downloads packages with, does with the
 * same work. Each file is one target with its SHA-256, which librepo checks.
 *
 *   librepo_get CA BASE-URL FOLDER <LIST
 *
 * LIST: lines of sha256sum, names relative to BASE-URL and to FOLDER, whose folders
 * are there already. Sixteen files at a time; the default is three.
 */
#include <librepo/librepo.h>
#include <stdio.h>
#include <string.h>

static int complain(const char *what, GError *error)
{
	fprintf(stderr, "librepo_get: %s: %s\n", what,
		error ? error->message : "no reason given");
	return 1;
}

int main(int argc, char **argv)
{
	char line[4096];
	GSList *targets = NULL;
	GError *error = NULL;

	if (argc != 4) {
		fprintf(stderr, "usage: librepo_get CA BASE-URL FOLDER <LIST\n");
		return 2;
	}
	LrHandle *handle = lr_handle_init();
	char *urls[] = {argv[2], NULL};
	if (!lr_handle_setopt(handle, &error, LRO_URLS, urls) ||
	    !lr_handle_setopt(handle, &error, LRO_REPOTYPE, LR_YUMREPO) ||
	    !lr_handle_setopt(handle, &error, LRO_SSLCACERT, argv[1]) ||
	    !lr_handle_setopt(handle, &error, LRO_MAXPARALLELDOWNLOADS, 16L) ||
	    !lr_handle_setopt(handle, &error, LRO_MAXDOWNLOADSPERMIRROR, 16L))
		return complain("options", error);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (strlen(line) < 67)
			return complain(line, NULL);
		line[64] = '\0';
		char *name = line + 66, *target = g_build_filename(argv[3], name, NULL);
		LrPackageTarget *one = lr_packagetarget_new_v3(
		    handle, name, target, LR_CHECKSUM_SHA256, line, 0, NULL, FALSE,
		    NULL, NULL, NULL, NULL, 0, 0, &error);
		g_free(target);
		if (!one)
			return complain(name, error);
		targets = g_slist_prepend(targets, one);
	}
	targets = g_slist_reverse(targets);
	if (!lr_download_packages(targets, LR_PACKAGEDOWNLOAD_FAILFAST, &error))
		return complain("download", error);
	for (GSList *at = targets; at; at = at->next) {
		const LrPackageTarget *one = at->data;
		if (one->err)
			return complain(one->relative_url, NULL);
	}
	g_slist_free_full(targets, (GDestroyNotify)lr_packagetarget_free);
	lr_handle_free(handle);
	return 0;
}
