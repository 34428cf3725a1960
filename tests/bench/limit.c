/*
 * The floor: what no client that verifies content over TLS can do without, measured
 * on this machine from the libraries themselves, in processor seconds per GiB.
 *
 *   limit [--mib N] [--rounds N] [--json] DISK-FOLDER TMPFS-FOLDER
 *
 * receive   recv() of 64 KiB from a TCP socket on loopback; the sender's time is not
 *           counted
 * decrypt   AES-128-GCM of OpenSSL over records of 16 KiB, the tag checked
 * hash      SHA-256 of OpenSSL over buffers of 256 KiB that are hot in the cache
 * copy      memcpy of 256 KiB from one hot buffer to another
 * write     write() of 256 KiB to a new file, on the disk (without fsync) and on tmpfs
 *
 * Each is done --rounds times over N MiB, in turn; the median counts. Sums: receive,
 * decrypt, hash, one copy and write.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORD     16384
#define CHUNK      262144
#define MOST_TURNS 25

static size_t total = (size_t)1 << 30;
static const char *folders[2];
static unsigned char one[CHUNK + 16], two[CHUNK + 16];

static void die(const char *what)
{
	fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double cpu_s(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* -- the parts; each returns the processor seconds that `total` bytes cost -------- */

static double do_receive(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&a, length) < 0 ||
	    listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&a, &length) < 0)
		die("listen");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd < 0 || connect(fd, (struct sockaddr *)&a, length) < 0)
			_exit(1);
		for (size_t at = 0; at < total; at += CHUNK) {
			for (size_t done = 0; done < CHUNK;) {
				ssize_t n = write(fd, one + done, CHUNK - done);
				if (n <= 0)
					_exit(1);
				done += (size_t)n;
			}
		}
		_exit(0);
	}
	int fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die("accept");
	double began = cpu_s();
	size_t got = 0;
	ssize_t n;
	while ((n = recv(fd, two, 65536, 0)) > 0)
		got += (size_t)n;
	double took = cpu_s() - began;
	close(fd);
	close(listener);
	if (waitpid(child, NULL, 0) < 0 || got != total)
		die("receive");
	return took;
}

/* One record over and over, with the header that TLS authenticates beside it. */
static double do_decrypt(void)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	unsigned char key[16] = {1}, iv[12] = {2}, tag[16];
	unsigned char head[5] = {23, 3, 3, 64, 17};
	int n;

	if (!ctx || !EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, iv) ||
	    !EVP_EncryptUpdate(ctx, NULL, &n, head, sizeof(head)) ||
	    !EVP_EncryptUpdate(ctx, two, &n, one, RECORD) ||
	    !EVP_EncryptFinal_ex(ctx, two + n, &n) ||
	    !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, tag) ||
	    !EVP_DecryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, iv))
		die("AES-GCM");
	double began = cpu_s();
	for (size_t at = 0; at < total; at += RECORD)
		if (!EVP_DecryptInit_ex(ctx, NULL, NULL, NULL, iv) ||
		    !EVP_DecryptUpdate(ctx, NULL, &n, head, sizeof(head)) ||
		    !EVP_DecryptUpdate(ctx, one, &n, two, RECORD) ||
		    !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, tag) ||
		    EVP_DecryptFinal_ex(ctx, one + n, &n) != 1)
			die("AES-GCM");
	double took = cpu_s() - began;
	EVP_CIPHER_CTX_free(ctx);
	return took;
}

static double do_hash(void)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (!ctx || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL))
		die("SHA-256");
	double began = cpu_s();
	for (size_t at = 0; at < total; at += CHUNK)
		if (!EVP_DigestUpdate(ctx, one, CHUNK))
			die("SHA-256");
	if (!EVP_DigestFinal_ex(ctx, digest, NULL))
		die("SHA-256");
	double took = cpu_s() - began;
	EVP_MD_CTX_free(ctx);
	return took;
}

static double do_copy(void)
{
	double began = cpu_s();

	for (size_t at = 0; at < total; at += CHUNK) {
		memcpy(two, one, CHUNK);
		/* or the compiler would find out that once is enough */
		__asm__ volatile("" : : "r"(two) : "memory");
	}
	return cpu_s() - began;
}

static double do_write(const char *folder)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/limit.%ld", folder, (long)getpid());
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		die(path);
	unlink(path);
	double began = cpu_s();
	for (size_t at = 0; at < total; at += CHUNK)
		if (write(fd, one, CHUNK) != CHUNK)
			die("write");
	double took = cpu_s() - began;
	close(fd);
	return took;
}

static double do_write_disk(void)
{
	return do_write(folders[0]);
}

static double do_write_tmpfs(void)
{
	return do_write(folders[1]);
}

static const struct part {
	const char *name, *about;
	double (*run)(void);
} parts[] = {
    {"receive", "recv() of 64 KiB from loopback TCP", do_receive},
    {"decrypt", "AES-128-GCM, records of 16 KiB", do_decrypt},
    {"hash", "SHA-256, buffers of 256 KiB", do_hash},
    {"copy", "memcpy, hot in the cache", do_copy},
    {"write_disk", "write() of 256 KiB to a new file, disk", do_write_disk},
    {"write_tmpfs", "write() of 256 KiB to a new file, tmpfs", do_write_tmpfs},
};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

/* -- and how it is told ---------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(const double *per_gib, bool is_json)
{
	double shared = per_gib[0] + per_gib[1] + per_gib[2] + per_gib[3];
	double sums[] = {shared + per_gib[4], shared + per_gib[5]};

	if (is_json) {
		printf("{");
		for (size_t i = 0; i < PARTS; i++)
			printf("\"%s\": %.4f, ", parts[i].name, per_gib[i]);
		printf("\"sum_disk\": %.4f, \"sum_tmpfs\": %.4f}\n", sums[0], sums[1]);
		return;
	}
	printf("the floor, processor seconds per GiB\n");
	for (size_t i = 0; i < PARTS; i++)
		printf("  %-12s %6.3f   %s\n", parts[i].name, per_gib[i],
		       parts[i].about);
	printf("  %-12s %6.3f   of all with write_disk\n", "sum_disk", sums[0]);
	printf("  %-12s %6.3f   of all with write_tmpfs\n", "sum_tmpfs", sums[1]);
}

int main(int argc, char **argv)
{
	double took[PARTS][MOST_TURNS], per_gib[PARTS];
	long mib = 1024, rounds = 5;
	bool is_json = false;
	int at = 1;

	for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
		if (strcmp(argv[at], "--json") == 0)
			is_json = true;
		else if (strcmp(argv[at], "--mib") == 0 && at + 1 < argc)
			mib = strtol(argv[++at], NULL, 10);
		else if (strcmp(argv[at], "--rounds") == 0 && at + 1 < argc)
			rounds = strtol(argv[++at], NULL, 10);
	}
	if (argc - at != 2 || mib < 1 || mib > 65536 || rounds < 1 ||
	    rounds > MOST_TURNS) {
		fprintf(stderr, "usage: limit [--mib N] [--rounds N] [--json] "
				"DISK-FOLDER TMPFS-FOLDER\n");
		return 2;
	}
	folders[0] = argv[at];
	folders[1] = argv[at + 1];
	total = (size_t)mib << 20;
	signal(SIGPIPE, SIG_IGN);
	memset(one, 0x5a, sizeof(one));
	for (long i = 0; i < rounds; i++)
		for (size_t p = 0; p < PARTS; p++)
			took[p][i] = parts[p].run();
	for (size_t p = 0; p < PARTS; p++) {
		qsort(took[p], (size_t)rounds, sizeof(took[p][0]), compare);
		per_gib[p] = took[p][rounds / 2] * 1024 / (double)mib;
	}
	print(per_gib, is_json);
	return 0;
}
