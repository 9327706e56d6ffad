
/*
 * Zip archives.  Sizes are taken from the directory: headers in front of
 * members may have them in zip64 fields or not at all.
 */

#include "ngx_webtorch_zip.h"
#include "ngx_webtorch_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>


#define NGX_WEBTORCH_ZIP_LOCAL       "PK\x03\x04"
#define NGX_WEBTORCH_ZIP_CENTRAL     "PK\x01\x02"
#define NGX_WEBTORCH_ZIP_END         "PK\x05\x06"
#define NGX_WEBTORCH_ZIP_END64       "PK\x06\x06"
#define NGX_WEBTORCH_ZIP_LOCATOR     "PK\x06\x07"
#define NGX_WEBTORCH_ZIP_MAGIC_LEN   4

#define NGX_WEBTORCH_ZIP_VERSION     20

/* flags; the first has all bits of encryption */
#define NGX_WEBTORCH_ZIP_ENCRYPTED   0x2041
#define NGX_WEBTORCH_ZIP_UTF8        0x0800

#define NGX_WEBTORCH_ZIP_STORED      0
#define NGX_WEBTORCH_ZIP_DEFLATED    8

/* 1980-01-01, the first date of the format: answers have no time of change */
#define NGX_WEBTORCH_ZIP_DATE        0x0021

/* bytes of the end of a zip64 archive, and of its locator */
#define NGX_WEBTORCH_ZIP_END64_LEN   56
#define NGX_WEBTORCH_ZIP_LOCATOR_LEN 20

/* the id of an extra field without meaning, the same as in torch */
#define NGX_WEBTORCH_ZIP_FILLER      "FB"

/* bytes that are allocated first for an inflated member */
#define NGX_WEBTORCH_ZIP_INFLATE     4096


static uint32_t ngx_webtorch_zip_get16(const uint8_t *p);
static uint32_t ngx_webtorch_zip_get32(const uint8_t *p);
static uint64_t ngx_webtorch_zip_get64(const uint8_t *p);
static char *ngx_webtorch_zip_write16(char *p, size_t v);
static char *ngx_webtorch_zip_write32(char *p, size_t v);
static char *ngx_webtorch_zip_write(char *p, const char *data, size_t len);
static int ngx_webtorch_zip_error(ngx_webtorch_zip_t *zip, const char *what);
static int ngx_webtorch_zip_error64(ngx_webtorch_zip_t *zip);
static int ngx_webtorch_zip_member_error(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, const char *what);
static int ngx_webtorch_zip_end64(ngx_webtorch_zip_t *zip, const uint8_t **p);
static int ngx_webtorch_zip_data(ngx_webtorch_zip_t *zip,
    ngx_webtorch_zip_member_t *member, size_t offset);
static int ngx_webtorch_zip_grow(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, z_stream *z, char **start);
static int ngx_webtorch_zip_inflate_all(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, z_stream *z, char **start);
static int ngx_webtorch_zip_inflate(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, char **start);
static char *ngx_webtorch_zip_fields(char *p,
    const ngx_webtorch_zip_member_t *member, size_t extra);


static uint32_t
ngx_webtorch_zip_get16(const uint8_t *p)
{
    return (uint32_t) p[0] | (uint32_t) p[1] << 8;
}


static uint32_t
ngx_webtorch_zip_get32(const uint8_t *p)
{
    return ngx_webtorch_zip_get16(p) | ngx_webtorch_zip_get16(p + 2) << 16;
}


static uint64_t
ngx_webtorch_zip_get64(const uint8_t *p)
{
    return ngx_webtorch_zip_get32(p)
           | (uint64_t) ngx_webtorch_zip_get32(p + 4) << 32;
}


static char *
ngx_webtorch_zip_write16(char *p, size_t v)
{
    *p++ = (char) (v & 0xff);
    *p++ = (char) (v >> 8 & 0xff);

    return p;
}


static char *
ngx_webtorch_zip_write32(char *p, size_t v)
{
    return ngx_webtorch_zip_write16(ngx_webtorch_zip_write16(p, v), v >> 16);
}


static char *
ngx_webtorch_zip_write(char *p, const char *data, size_t len)
{
    memcpy(p, data, len);

    return p + len;
}


static int
ngx_webtorch_zip_error(ngx_webtorch_zip_t *zip, const char *what)
{
    return ngx_webtorch_error(zip->err, 400, "malformed_body",
                              "invalid %s: %s", zip->kind, what);
}


static int
ngx_webtorch_zip_error64(ngx_webtorch_zip_t *zip)
{
    return ngx_webtorch_zip_error(zip, "it needs zip64, which is not read: "
                                       "send application/vnd.safetensors");
}


static int
ngx_webtorch_zip_member_error(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, const char *what)
{
    return ngx_webtorch_error(zip->err, 400, "malformed_body",
                              "invalid %s: member \"%.*s\": %s", zip->kind,
                              (int) (member->name_len < 64 ? member->name_len
                                                           : 64),
                              member->name, what);
}


/*
 * Some clients write a zip64 end in front of the other end, *p: it is moved to
 * the beginning of the former.  Both must agree: readers use either.
 */

static int
ngx_webtorch_zip_end64(ngx_webtorch_zip_t *zip, const uint8_t **p)
{
    size_t          left;
    const uint8_t  *end, *locator, *end64;

    end = *p;
    left = (size_t) (end - zip->start);

    if (left < NGX_WEBTORCH_ZIP_LOCATOR_LEN) {
        return 0;
    }

    locator = end - NGX_WEBTORCH_ZIP_LOCATOR_LEN;

    if (memcmp(locator, NGX_WEBTORCH_ZIP_LOCATOR, NGX_WEBTORCH_ZIP_MAGIC_LEN)
        != 0)
    {
        return 0;
    }

    left -= NGX_WEBTORCH_ZIP_LOCATOR_LEN;
    end64 = locator - NGX_WEBTORCH_ZIP_END64_LEN;

    if (left < NGX_WEBTORCH_ZIP_END64_LEN
        || memcmp(end64, NGX_WEBTORCH_ZIP_END64, NGX_WEBTORCH_ZIP_MAGIC_LEN)
           != 0
        || ngx_webtorch_zip_get64(locator + 8)
           != left - NGX_WEBTORCH_ZIP_END64_LEN
        || ngx_webtorch_zip_get64(end64 + 24)
           != ngx_webtorch_zip_get16(end + 8)
        || ngx_webtorch_zip_get64(end64 + 32)
           != ngx_webtorch_zip_get16(end + 10)
        || ngx_webtorch_zip_get64(end64 + 40)
           != ngx_webtorch_zip_get32(end + 12)
        || ngx_webtorch_zip_get64(end64 + 48)
           != ngx_webtorch_zip_get32(end + 16))
    {
        return ngx_webtorch_zip_error(zip, "its two ends differ");
    }

    *p = end64;

    return 0;
}


int
ngx_webtorch_zip_open(ngx_webtorch_zip_t *zip, const char *kind,
    const char *body, size_t len, ngx_webtorch_error_t *err)
{
    size_t          size, offset;
    const uint8_t  *p;

    zip->kind = kind;
    zip->start = (const uint8_t *) body;
    zip->used = 0;
    zip->err = err;

    if (len < NGX_WEBTORCH_ZIP_END_LEN) {
        return ngx_webtorch_zip_error(zip, "it does not end like an archive");
    }

    p = zip->start + len - NGX_WEBTORCH_ZIP_END_LEN;

    if (memcmp(p, NGX_WEBTORCH_ZIP_END, NGX_WEBTORCH_ZIP_MAGIC_LEN) != 0) {
        return ngx_webtorch_zip_error(zip, "it does not end like an archive");
    }

    zip->left = ngx_webtorch_zip_get16(p + 10);
    size = ngx_webtorch_zip_get32(p + 12);
    offset = ngx_webtorch_zip_get32(p + 16);

    if (zip->left == UINT16_MAX || size == UINT32_MAX || offset == UINT32_MAX) {
        return ngx_webtorch_zip_error64(zip);
    }

    /* numbers of this disk and of the directory's; entries on this disk */

    if (ngx_webtorch_zip_get32(p + 4) != 0
        || ngx_webtorch_zip_get16(p + 8) != zip->left)
    {
        return ngx_webtorch_zip_error(zip, "it has several parts");
    }

    if (ngx_webtorch_zip_end64(zip, &p) != 0) {
        return -1;
    }

    if (offset + size != (size_t) (p - zip->start)) {
        return ngx_webtorch_zip_error(zip, "the directory is not in front "
                                           "of the end");
    }

    zip->directory = zip->start + offset;
    zip->end = p;
    zip->p = zip->directory;

    return 0;
}


/* finds the data of a member, after its header, name and other fields */

static int
ngx_webtorch_zip_data(ngx_webtorch_zip_t *zip,
    ngx_webtorch_zip_member_t *member, size_t offset)
{
    size_t          size, len;
    const uint8_t  *p;

    if (offset < zip->used) {
        return ngx_webtorch_zip_member_error(zip, member,
                                             "it is not after the others");
    }

    len = (size_t) (zip->directory - zip->start);

    if (offset > len || len - offset < NGX_WEBTORCH_ZIP_LOCAL_LEN) {
        return ngx_webtorch_zip_member_error(zip, member,
                                             "it is beyond the archive");
    }

    p = zip->start + offset;

    if (memcmp(p, NGX_WEBTORCH_ZIP_LOCAL, NGX_WEBTORCH_ZIP_MAGIC_LEN) != 0) {
        return ngx_webtorch_zip_member_error(zip, member, "it has no header");
    }

    size = NGX_WEBTORCH_ZIP_LOCAL_LEN + ngx_webtorch_zip_get16(p + 26)
           + ngx_webtorch_zip_get16(p + 28);

    if (size > len - offset || member->len > len - offset - size) {
        return ngx_webtorch_zip_member_error(zip, member, "it is cut off");
    }

    if (ngx_webtorch_zip_get16(p + 26) != member->name_len
        || memcmp(p + NGX_WEBTORCH_ZIP_LOCAL_LEN, member->name,
                  member->name_len)
           != 0)
    {
        return ngx_webtorch_zip_member_error(zip, member,
                                             "its two names differ");
    }

    member->data = (const char *) p + size;
    zip->used = offset + size + member->len;

    return 0;
}


int
ngx_webtorch_zip_next(ngx_webtorch_zip_t *zip,
    ngx_webtorch_zip_member_t *member)
{
    size_t          size;
    uint32_t        flags, method, offset;
    const uint8_t  *p;

    p = zip->p;

    if (zip->end - p < NGX_WEBTORCH_ZIP_CENTRAL_LEN
        || memcmp(p, NGX_WEBTORCH_ZIP_CENTRAL, NGX_WEBTORCH_ZIP_MAGIC_LEN)
           != 0)
    {
        return ngx_webtorch_zip_error(zip, "an entry of the directory is "
                                           "missing");
    }

    flags = ngx_webtorch_zip_get16(p + 8);
    method = ngx_webtorch_zip_get16(p + 10);
    offset = ngx_webtorch_zip_get32(p + 42);

    member->crc = ngx_webtorch_zip_get32(p + 16);
    member->len = ngx_webtorch_zip_get32(p + 20);
    member->size = ngx_webtorch_zip_get32(p + 24);
    member->name = (const char *) p + NGX_WEBTORCH_ZIP_CENTRAL_LEN;
    member->name_len = ngx_webtorch_zip_get16(p + 28);
    member->deflated = (method == NGX_WEBTORCH_ZIP_DEFLATED);

    size = NGX_WEBTORCH_ZIP_CENTRAL_LEN + member->name_len
           + ngx_webtorch_zip_get16(p + 30) + ngx_webtorch_zip_get16(p + 32);

    if (size > (size_t) (zip->end - p)) {
        return ngx_webtorch_zip_error(zip, "an entry of the directory is "
                                           "cut off");
    }

    zip->p = p + size;
    zip->left--;

    if (zip->left == 0 && zip->p != zip->end) {
        return ngx_webtorch_zip_error(zip, "the directory has more than "
                                           "its entries");
    }

    if (flags & NGX_WEBTORCH_ZIP_ENCRYPTED) {
        return ngx_webtorch_zip_member_error(zip, member, "it is encrypted");
    }

    if (method != NGX_WEBTORCH_ZIP_STORED
        && method != NGX_WEBTORCH_ZIP_DEFLATED)
    {
        return ngx_webtorch_zip_member_error(zip, member,
                                             "its compression is not deflate");
    }

    if (member->len == UINT32_MAX || member->size == UINT32_MAX
        || offset == UINT32_MAX)
    {
        return ngx_webtorch_zip_error64(zip);
    }

    if (method == NGX_WEBTORCH_ZIP_STORED && member->len != member->size) {
        return ngx_webtorch_zip_member_error(zip, member,
                                             "it is stored, its sizes differ");
    }

    return ngx_webtorch_zip_data(zip, member, offset);
}


/*
 * Memory grows with the inflated bytes, not by the claimed size alone.  It has
 * one byte more than that size, to detect a larger member.
 */

static int
ngx_webtorch_zip_grow(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, z_stream *z, char **start)
{
    char    *p;
    size_t   size, used;

    used = z->total_out;

    if (used > member->size) {
        return ngx_webtorch_zip_member_error(zip, member,
                                             "it exceeds its size");
    }

    size = (used < NGX_WEBTORCH_ZIP_INFLATE) ? NGX_WEBTORCH_ZIP_INFLATE
                                             : 2 * used;

    if (size > (size_t) member->size + 1) {
        size = (size_t) member->size + 1;
    }

    p = ngx_webtorch_buffer_realloc(*start, size);

    if (p == NULL) {
        return ngx_webtorch_error(zip->err, 500, "no_memory", "no memory");
    }

    *start = p;

    z->next_out = (Bytef *) p + used;
    z->avail_out = (uInt) (size - used);

    return 0;
}


static int
ngx_webtorch_zip_inflate_all(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, z_stream *z, char **start)
{
    int  rc;

    for ( ;; ) {

        if (z->avail_out == 0
            && ngx_webtorch_zip_grow(zip, member, z, start) != 0)
        {
            return -1;
        }

        rc = inflate(z, Z_NO_FLUSH);

        switch (rc) {

        case Z_OK:
            continue;

        case Z_STREAM_END:

            if (z->avail_in != 0) {
                return ngx_webtorch_zip_member_error(zip, member,
                                                     "more data after its end");
            }

            if (z->total_out != member->size) {
                return ngx_webtorch_zip_member_error(zip, member,
                           "it does not inflate to its size");
            }

            return 0;

        case Z_BUF_ERROR:
            return ngx_webtorch_zip_member_error(zip, member, "it is cut off");

        case Z_MEM_ERROR:
            return ngx_webtorch_error(zip->err, 500, "no_memory", "no memory");

        default: /* Z_DATA_ERROR */
            return ngx_webtorch_zip_member_error(zip, member,
                                                 z->msg ? z->msg : zError(rc));
        }
    }
}


static int
ngx_webtorch_zip_inflate(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, char **start)
{
    int       rc;
    z_stream  z;

    memset(&z, 0, sizeof(z));

    z.next_in = (Bytef *) member->data;
    z.avail_in = member->len;

    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) {
        return ngx_webtorch_error(zip->err, 500, "no_memory", "no memory");
    }

    rc = ngx_webtorch_zip_inflate_all(zip, member, &z, start);

    (void) inflateEnd(&z);

    return rc;
}


int
ngx_webtorch_zip_read(ngx_webtorch_zip_t *zip,
    const ngx_webtorch_zip_member_t *member, size_t *limit,
    ngx_webtorch_zip_file_t *file)
{
    file->data = member->data;
    file->len = member->size;

    if (member->deflated) {

        if (member->size > *limit) {
            return ngx_webtorch_error(zip->err, 413, "too_large",
                       "the members inflate to more than the body may have");
        }

        *limit -= member->size;

        if (ngx_webtorch_zip_inflate(zip, member, &file->inflated) != 0) {
            return -1;
        }

        file->data = file->inflated;
    }

    if (crc32_z(0, (const Bytef *) file->data, file->len) != member->crc) {
        return ngx_webtorch_zip_member_error(zip, member,
                                             "its checksum is wrong");
    }

    return 0;
}


/* writes the fields that a header and an entry in the directory share */

static char *
ngx_webtorch_zip_fields(char *p, const ngx_webtorch_zip_member_t *member,
    size_t extra)
{
    p = ngx_webtorch_zip_write16(p, NGX_WEBTORCH_ZIP_VERSION);
    p = ngx_webtorch_zip_write16(p, NGX_WEBTORCH_ZIP_UTF8);
    p = ngx_webtorch_zip_write16(p, NGX_WEBTORCH_ZIP_STORED);
    p = ngx_webtorch_zip_write16(p, 0);                  /* time */
    p = ngx_webtorch_zip_write16(p, NGX_WEBTORCH_ZIP_DATE);
    p = ngx_webtorch_zip_write32(p, member->crc);
    p = ngx_webtorch_zip_write32(p, member->len);
    p = ngx_webtorch_zip_write32(p, member->size);
    p = ngx_webtorch_zip_write16(p, member->name_len);

    return ngx_webtorch_zip_write16(p, extra);
}


char *
ngx_webtorch_zip_local(char *p, const ngx_webtorch_zip_member_t *member)
{
    size_t  len;

    p = ngx_webtorch_zip_write(p, NGX_WEBTORCH_ZIP_LOCAL,
                               NGX_WEBTORCH_ZIP_MAGIC_LEN);
    p = ngx_webtorch_zip_fields(p, member, member->extra);
    p = ngx_webtorch_zip_write(p, member->name, member->name_len);

    if (member->extra == 0) {
        return p;
    }

    len = member->extra - NGX_WEBTORCH_ZIP_EXTRA_LEN;

    p = ngx_webtorch_zip_write(p, NGX_WEBTORCH_ZIP_FILLER, 2);
    p = ngx_webtorch_zip_write16(p, len);
    memset(p, 0, len);

    return p + len;
}


char *
ngx_webtorch_zip_central(char *p, const ngx_webtorch_zip_member_t *member,
    size_t offset)
{
    p = ngx_webtorch_zip_write(p, NGX_WEBTORCH_ZIP_CENTRAL,
                               NGX_WEBTORCH_ZIP_MAGIC_LEN);
    p = ngx_webtorch_zip_write16(p, NGX_WEBTORCH_ZIP_VERSION);
    p = ngx_webtorch_zip_fields(p, member, 0);
    p = ngx_webtorch_zip_write16(p, 0);                  /* comment */
    p = ngx_webtorch_zip_write16(p, 0);                  /* disk */
    p = ngx_webtorch_zip_write16(p, 0);                  /* attributes */
    p = ngx_webtorch_zip_write32(p, 0);
    p = ngx_webtorch_zip_write32(p, offset);

    return ngx_webtorch_zip_write(p, member->name, member->name_len);
}


char *
ngx_webtorch_zip_end(char *p, uint32_t n, size_t offset, size_t len)
{
    p = ngx_webtorch_zip_write(p, NGX_WEBTORCH_ZIP_END,
                               NGX_WEBTORCH_ZIP_MAGIC_LEN);
    p = ngx_webtorch_zip_write32(p, 0);                  /* disks */
    p = ngx_webtorch_zip_write16(p, n);
    p = ngx_webtorch_zip_write16(p, n);
    p = ngx_webtorch_zip_write32(p, len);
    p = ngx_webtorch_zip_write32(p, offset);

    return ngx_webtorch_zip_write16(p, 0);               /* comment */
}
