
/*
 * Zip archives as Python's zipfile and torch write them, of less than 4 GiB: no
 * comment, nothing in front, members one after the other as the directory lists
 * them.
 */


#ifndef _NGX_WEBTORCH_ZIP_H_INCLUDED_
#define _NGX_WEBTORCH_ZIP_H_INCLUDED_


#include "ngx_webtorch_codec.h"


#ifdef __cplusplus
extern "C" {
#endif


/* of what is written, in bytes; names are not counted */
#define NGX_WEBTORCH_ZIP_LOCAL_LEN    30
#define NGX_WEBTORCH_ZIP_CENTRAL_LEN  46
#define NGX_WEBTORCH_ZIP_END_LEN      22

/* the least of an extra field, which is written to move what comes after it */
#define NGX_WEBTORCH_ZIP_EXTRA_LEN    4

/* sizes and offsets are of 32 bits, and all ones mean "see zip64" */
#define NGX_WEBTORCH_ZIP_MAX          (UINT32_MAX - 1)


typedef struct {
    const char     *name;
    size_t          name_len;
    size_t          extra;                /* written: bytes after the name */

    const char     *data;                 /* as it is in the archive */
    uint32_t        len;

    uint32_t        size;                 /* of the file, a claim */
    uint32_t        crc;                  /* of the file, a claim */
    unsigned        deflated:1;
} ngx_webtorch_zip_member_t;


/* an archive that is read */

typedef struct {
    const char            *kind;          /* for messages */
    const uint8_t         *start;
    const uint8_t         *directory;
    const uint8_t         *end;           /* of the directory */
    const uint8_t         *p;             /* the next entry */
    uint32_t               left;          /* entries */
    size_t                 used;          /* by members, from the start */
    ngx_webtorch_error_t  *err;
} ngx_webtorch_zip_t;


/* -1: err is set, which the calls for its members set too */
int ngx_webtorch_zip_open(ngx_webtorch_zip_t *zip, const char *kind,
    const char *body, size_t len, ngx_webtorch_error_t *err);

/* the next one while zip->left */
int ngx_webtorch_zip_next(ngx_webtorch_zip_t *zip,
    ngx_webtorch_zip_member_t *member);

/*
 * The file of a member, its checksum verified.  One that is deflated goes into
 * memory of its own, *inflated, to be freed in any case, and its size is taken
 * from *limit.
 */
int ngx_webtorch_zip_read(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, size_t *limit, char **inflated,
    const char **file, size_t *len);

/*
 * Writes what is in front of a stored file, its entry in the directory, and
 * the end; p after them is returned.
 */
char *ngx_webtorch_zip_local(char *p, const ngx_webtorch_zip_member_t *member);
char *ngx_webtorch_zip_central(char *p,
    const ngx_webtorch_zip_member_t *member, size_t offset);
char *ngx_webtorch_zip_end(char *p, uint32_t n, size_t offset, size_t len);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_ZIP_H_INCLUDED_ */
