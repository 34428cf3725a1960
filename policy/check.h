#ifndef POLICY_CHECK_H
#define POLICY_CHECK_H

#include "common/err.h"

/*
 * What a text in settings or policy may be. Each returns ERR_OK, or ERR_CONFIG
 * with *e saying "must be ..."; the caller says where it stands. `value` is
 * never empty and holds no control characters.
 */
enum err_code check_site_code(const char *value, struct err *e);  /* ABC */
enum err_code check_client_id(const char *value, struct err *e);  /* GUID:... */
enum err_code check_header(const char *value, struct err *e);     /* Name: x */
enum err_code check_web(const char *value, struct err *e);   /* http(s) base URL */
enum err_code check_host(const char *value, struct err *e);  /* DNS host name */
enum err_code check_label(const char *value, struct err *e); /* 1..64 bytes */
/* Host name, address, ".suffix" or "*", as in no_proxy. */
enum err_code check_bypass(const char *value, struct err *e);
/* "none" or the URL of a proxy. */
enum err_code check_proxy(const char *value, struct err *e);
/* IP, IP:port, [IPv6]:port. */
enum err_code check_dns_server(const char *value, struct err *e);
/* A path, or an https URL. */
enum err_code check_policy_source(const char *value, struct err *e);
/* A path that fits into a socket address. */
enum err_code check_socket(const char *value, struct err *e);
/* A file name without folder, fit for relpath. */
enum err_code check_file_name(const char *value, struct err *e);

#endif
