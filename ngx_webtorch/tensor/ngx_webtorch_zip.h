
/*
 * Zip archives as Python's zipfile and torch write them, of less than 4 GiB: no
 * comment, nothing in front of the first member, members in the order of the
 * directory.
 */


#ifndef _NGX_WEBTORCH_ZIP_H_INCLUDED_
#define _NGX_WEBTORCH_ZIP_H_INCLUDED_


#include "ngx_webtorch_codec.h"


#ifdef __cplusplus
extern "C" {
#endif


/* bytes of headers without names */
#define NGX_WEBTORCH_ZIP_LOCAL_LEN    30
#define NGX_WEBTORCH_ZIP_CENTRAL_LEN  46
#define NGX_WEBTORCH_ZIP_END_LEN      22

/* bytes of an empty extra field; fields are written to align the data */
#define NGX_WEBTORCH_ZIP_EXTRA_LEN    4

/* sizes and offsets have 32 bits; all ones mean that zip64 has the value */
#define NGX_WEBTORCH_ZIP_MAX          (UINT32_MAX - 1)


typedef struct {
    const char     *name;
    size_t          name_len;
    size_t          extra;                /* bytes of an extra field that is
                                             written after the name */

    const char     *data;                 /* in the archive */
    uint32_t        len;                  /* bytes in the archive */

    /* claims about the file, which ngx_webtorch_zip_read() checks */
    uint32_t        size;                 /* bytes after inflating */
    uint32_t        crc;
    unsigned        deflated:1;
} ngx_webtorch_zip_member_t;


/* the contents of a member */

typedef struct {
    const char     *data;
    size_t          len;
    char           *inflated;             /* a buffer; NULL: not deflated */
} ngx_webtorch_zip_file_t;


/* an archive that is being read */

typedef struct {
    const char            *kind;          /* ".npz", in messages */
    const uint8_t         *start;
    const uint8_t         *directory;     /* its beginning */
    const uint8_t         *end;           /* the directory's end */
    const uint8_t         *p;             /* the next entry */
    uint32_t               left;          /* entries from p on */
    size_t                 used;          /* offset of the last member's end */
    ngx_webtorch_error_t  *err;
} ngx_webtorch_zip_t;


/* opens an archive; -1: err is set, as by the calls for members below */
int ngx_webtorch_zip_open(ngx_webtorch_zip_t *zip, const char *kind,
    const char *body, size_t len, ngx_webtorch_error_t *err);

/* finds the next member, to be called while zip->left is not 0 */
int ngx_webtorch_zip_next(ngx_webtorch_zip_t *zip,
    ngx_webtorch_zip_member_t *member);

/*
 * Sets the contents of a member, and verifies the checksum.  A deflated member
 * is inflated to allocated memory, file->inflated, which must be NULL before;
 * the caller frees it, on errors, too.  Its size is subtracted from *limit.
 */
int ngx_webtorch_zip_read(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, size_t *limit,
    ngx_webtorch_zip_file_t *file);

/*
 * Write the header in front of a stored file, its entry in the directory, and
 * the end of an archive of n files, whose directory has len bytes at offset;
 * return the end of what was written.
 */
char *ngx_webtorch_zip_local(char *p, const ngx_webtorch_zip_member_t *member);
char *ngx_webtorch_zip_central(char *p,
    const ngx_webtorch_zip_member_t *member, size_t offset);
char *ngx_webtorch_zip_end(char *p, uint32_t n, size_t offset, size_t len);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_ZIP_H_INCLUDED_ */
