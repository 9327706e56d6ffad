
/*
 * Files of torch.save(), zip archives: the object as a pickle, which refers to
 * the storages of tensors in other files of the archive.  Requests are only
 * checked here: Python unpickles them after that.
 */

#include "ngx_webtorch_torch_pickle.h"
#include "ngx_webtorch_zip.h"

#include <string.h>
#include <zlib.h>


#define NGX_WEBTORCH_TORCH_PICKLE      "data.pkl"
#define NGX_WEBTORCH_TORCH_DATA        "data/"
#define NGX_WEBTORCH_TORCH_DATA_LEN    (sizeof(NGX_WEBTORCH_TORCH_DATA) - 1)
#define NGX_WEBTORCH_TORCH_DIRECTORY   "archive/"

/* bytes of a request's pickle, which has some hundred for each tensor */
#define NGX_WEBTORCH_TORCH_MAX_PICKLE  65536

/* digits of a storage's number in a request */
#define NGX_WEBTORCH_TORCH_DIGITS      9

/* bytes of the name of an answer's file */
#define NGX_WEBTORCH_TORCH_NAME_LEN    32

/* storages are aligned as in torch's own files, which it can map */
#define NGX_WEBTORCH_TORCH_ALIGNMENT   64

/* files of an answer in front of the storages */
#define NGX_WEBTORCH_TORCH_NFILES      3

/* bytes of an answer's file without its data; it has its name twice */
#define NGX_WEBTORCH_TORCH_FILE_LEN                                           \
    (NGX_WEBTORCH_ZIP_LOCAL_LEN + NGX_WEBTORCH_ZIP_CENTRAL_LEN                \
     + 2 * NGX_WEBTORCH_TORCH_NAME_LEN                                        \
     + NGX_WEBTORCH_TORCH_ALIGNMENT + NGX_WEBTORCH_ZIP_EXTRA_LEN)


/* a file of an answer */

typedef struct {
    ngx_webtorch_zip_member_t   zip;
    char                        name[NGX_WEBTORCH_TORCH_NAME_LEN];
    const void                 *data;
} ngx_webtorch_torch_file_t;


static int ngx_webtorch_torch_member_error(ngx_webtorch_error_t *err,
    const ngx_webtorch_zip_member_t *member, const char *what);
static int ngx_webtorch_torch_name_is(const char *name, size_t len,
    const char *known);
static int ngx_webtorch_torch_name_known(const char *name, size_t len);
static size_t ngx_webtorch_torch_directory_len(
    const ngx_webtorch_zip_member_t *member);
static int ngx_webtorch_torch_check(const char *body, size_t len,
    ngx_webtorch_error_t *err);
static char *ngx_webtorch_torch_write(char *p, const char *data, size_t len);
static void ngx_webtorch_torch_set_file(ngx_webtorch_torch_file_t *file,
    const char *name, const void *data, size_t len);
static void ngx_webtorch_torch_get_file(ngx_webtorch_torch_file_t *file,
    uint32_t k, const ngx_webtorch_torch_pickle_t *pickle);
static void ngx_webtorch_torch_get_storage(ngx_webtorch_torch_file_t *file,
    uint32_t k, size_t offset, const void *data, size_t len);
static char *ngx_webtorch_torch_write_header(char *p,
    ngx_webtorch_torch_file_t *file);
static char *ngx_webtorch_torch_write_file(char *p,
    ngx_webtorch_torch_file_t *file);
static char *ngx_webtorch_torch_write_entry(char *p,
    ngx_webtorch_torch_file_t *file, size_t offset);
static size_t ngx_webtorch_torch_bound(const webtorch_spec_t *specs,
    uint32_t n, const ngx_webtorch_layout_t *layout);
static char *ngx_webtorch_torch_frame(char *p, const webtorch_spec_t *specs,
    uint32_t n, uint32_t i, const void *const *data,
    const ngx_webtorch_layout_t *layout);


/* names of an archive's files besides the storages, in all versions of torch */

static const char  *const ngx_webtorch_torch_names[] = {
    NGX_WEBTORCH_TORCH_PICKLE, "byteorder", "version", ".format_version",
    ".storage_alignment", ".data/serialization_id", NULL
};


const ngx_webtorch_codec_t  ngx_webtorch_codec_torch = {
    .name = "torch",
    .types = { "application/x-pytorch", "application/vnd.pytorch" },
    .several = 1,
    .bound = ngx_webtorch_torch_bound,
    .frame = ngx_webtorch_torch_frame,
    .check = ngx_webtorch_torch_check,
    .summed = 1
};


static int
ngx_webtorch_torch_member_error(ngx_webtorch_error_t *err,
    const ngx_webtorch_zip_member_t *member, const char *what)
{
    return ngx_webtorch_error(err, 400, "malformed_body",
                              "invalid torch.save() file: member \"%.*s\": %s",
                              (int) (member->name_len < 64 ? member->name_len
                                                           : 64),
                              member->name, what);
}


static int
ngx_webtorch_torch_name_is(const char *name, size_t len, const char *known)
{
    return len == strlen(known) && memcmp(name, known, len) == 0;
}


/*
 * Returns 1 if torch writes files of this name.  The case of letters counts:
 * torch ignores it when it looks up a file, and could read one many times.
 */

static int
ngx_webtorch_torch_name_known(const char *name, size_t len)
{
    size_t       i;
    const char  *const *known;

    for (known = ngx_webtorch_torch_names; *known; known++) {
        if (ngx_webtorch_torch_name_is(name, len, *known)) {
            return 1;
        }
    }

    if (len <= NGX_WEBTORCH_TORCH_DATA_LEN
        || len > NGX_WEBTORCH_TORCH_DATA_LEN + NGX_WEBTORCH_TORCH_DIGITS
        || memcmp(name, NGX_WEBTORCH_TORCH_DATA, NGX_WEBTORCH_TORCH_DATA_LEN)
           != 0)
    {
        return 0;
    }

    for (i = NGX_WEBTORCH_TORCH_DATA_LEN; i < len; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return 0;
        }
    }

    return 1;
}


/* returns the length of the directory in a name, 0 if there is none */

static size_t
ngx_webtorch_torch_directory_len(const ngx_webtorch_zip_member_t *member)
{
    const char  *slash;

    slash = memchr(member->name, '/', member->name_len);

    return slash ? (size_t) (slash - member->name) + 1 : 0;
}


/*
 * ngx_webtorch_zip_next() refuses members that overlap, and compressed ones are
 * refused here: torch cannot read more bytes than the body has.
 */

static int
ngx_webtorch_torch_check(const char *body, size_t len,
    ngx_webtorch_error_t *err)
{
    size_t                      size;
    uint32_t                    pickles;
    const char                 *name, *directory;
    ngx_webtorch_zip_t          zip;
    ngx_webtorch_zip_member_t   member;

    if (ngx_webtorch_zip_open(&zip, "torch.save() file", body, len, err) != 0) {
        return -1;
    }

    size = 0;
    pickles = 0;
    directory = NULL;

    while (zip.left) {

        if (ngx_webtorch_zip_next(&zip, &member) != 0) {
            return -1;
        }

        if (member.deflated) {
            return ngx_webtorch_torch_member_error(err, &member,
                                                   "it is compressed");
        }

        if (directory == NULL) {
            directory = member.name;
            size = ngx_webtorch_torch_directory_len(&member);
        }

        if (size == 0
            || member.name_len < size
            || memcmp(member.name, directory, size) != 0)
        {
            return ngx_webtorch_torch_member_error(err, &member,
                       "it is not in the same directory as the others");
        }

        name = member.name + size;

        if (!ngx_webtorch_torch_name_known(name, member.name_len - size)) {
            return ngx_webtorch_torch_member_error(err, &member,
                       "torch.save() writes no file of this name");
        }

        if (!ngx_webtorch_torch_name_is(name, member.name_len - size,
                                        NGX_WEBTORCH_TORCH_PICKLE))
        {
            continue;
        }

        pickles++;

        if (member.size > NGX_WEBTORCH_TORCH_MAX_PICKLE) {
            return ngx_webtorch_torch_member_error(err, &member,
                       "it is larger than tensors need");
        }
    }

    if (pickles != 1) {
        return ngx_webtorch_error(err, 400, "malformed_body",
                                  "invalid torch.save() file: it must have "
                                  "one \"%s\"", NGX_WEBTORCH_TORCH_PICKLE);
    }

    return 0;
}


static char *
ngx_webtorch_torch_write(char *p, const char *data, size_t len)
{
    memcpy(p, data, len);

    return p + len;
}


static void
ngx_webtorch_torch_set_file(ngx_webtorch_torch_file_t *file, const char *name,
    const void *data, size_t len)
{
    char  *p;

    p = ngx_webtorch_torch_write(file->name, NGX_WEBTORCH_TORCH_DIRECTORY,
                                 sizeof(NGX_WEBTORCH_TORCH_DIRECTORY) - 1);
    p = ngx_webtorch_torch_write(p, name, strlen(name));

    file->data = data;

    file->zip.name = file->name;
    file->zip.name_len = (size_t) (p - file->name);
    file->zip.extra = 0;
    file->zip.len = (uint32_t) len;
    file->zip.size = (uint32_t) len;
}


/* gets the k-th file of an answer, one of those in front of the storages */

static void
ngx_webtorch_torch_get_file(ngx_webtorch_torch_file_t *file, uint32_t k,
    const ngx_webtorch_torch_pickle_t *pickle)
{
    switch (k) {

    case 0:
        ngx_webtorch_torch_set_file(file, NGX_WEBTORCH_TORCH_PICKLE,
                                    pickle->text, pickle->len);
        return;

    case 1:
        ngx_webtorch_torch_set_file(file, "byteorder", "little", 6);
        return;

    default:
        ngx_webtorch_torch_set_file(file, "version", "3\n", 2);
        return;
    }
}


/* gets the file of a tensor's storage, whose header is at this offset */

static void
ngx_webtorch_torch_get_storage(ngx_webtorch_torch_file_t *file, uint32_t k,
    size_t offset, const void *data, size_t len)
{
    char    name[NGX_WEBTORCH_TORCH_DATA_LEN + 4], *p;
    size_t  past;

    p = ngx_webtorch_torch_write(name, NGX_WEBTORCH_TORCH_DATA,
                                 NGX_WEBTORCH_TORCH_DATA_LEN);
    *ngx_webtorch_torch_pickle_key(p, k) = '\0';

    ngx_webtorch_torch_set_file(file, name, data, len);

    offset += NGX_WEBTORCH_ZIP_LOCAL_LEN + file->zip.name_len
              + NGX_WEBTORCH_ZIP_EXTRA_LEN;
    past = offset % NGX_WEBTORCH_TORCH_ALIGNMENT;

    file->zip.extra = NGX_WEBTORCH_ZIP_EXTRA_LEN
                      + (past ? NGX_WEBTORCH_TORCH_ALIGNMENT - past : 0);
}


static char *
ngx_webtorch_torch_write_header(char *p, ngx_webtorch_torch_file_t *file)
{
    file->zip.crc = (uint32_t) crc32_z(0, file->data, file->zip.len);

    return ngx_webtorch_zip_local(p, &file->zip);
}


static char *
ngx_webtorch_torch_write_file(char *p, ngx_webtorch_torch_file_t *file)
{
    p = ngx_webtorch_torch_write_header(p, file);

    return ngx_webtorch_torch_write(p, file->data, file->zip.len);
}


static char *
ngx_webtorch_torch_write_entry(char *p, ngx_webtorch_torch_file_t *file,
    size_t offset)
{
    file->zip.crc = (uint32_t) crc32_z(0, file->data, file->zip.len);

    return ngx_webtorch_zip_central(p, &file->zip, offset);
}


/*
 * For an answer too large for zip the bound is SIZE_MAX / 2, a size that cannot
 * be allocated.
 */

static size_t
ngx_webtorch_torch_bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size, frames;
    uint32_t  i;

    frames = NGX_WEBTORCH_ZIP_END_LEN + ngx_webtorch_torch_pickle_max(n)
             + (NGX_WEBTORCH_TORCH_NFILES + n)
               * (size_t) NGX_WEBTORCH_TORCH_FILE_LEN;
    size = frames;

    for (i = 0; i < n; i++) {
        size += layout->rows * (size_t) specs[i].row_size;
    }

    return (size <= NGX_WEBTORCH_ZIP_MAX) ? frames : SIZE_MAX / 2;
}


/*
 * The other files are in front of the first tensor, the directory is after the
 * last one.  No state is kept between calls: each of them writes the pickle, as
 * offsets depend on its length, and checksums are computed twice.
 */

static char *
ngx_webtorch_torch_frame(char *p, const webtorch_spec_t *specs, uint32_t n,
    uint32_t i, const void *const *data, const ngx_webtorch_layout_t *layout)
{
    char                         *start;
    size_t                        offset;
    uint32_t                      k, tensor;
    ngx_webtorch_torch_file_t     file;
    ngx_webtorch_torch_pickle_t   pickle;

    start = p;
    offset = 0;

    ngx_webtorch_torch_pickle_write(&pickle, specs, n, layout);

    for (k = 0; k < NGX_WEBTORCH_TORCH_NFILES + n; k++) {

        if (k < NGX_WEBTORCH_TORCH_NFILES) {
            ngx_webtorch_torch_get_file(&file, k, &pickle);

        } else {
            tensor = k - NGX_WEBTORCH_TORCH_NFILES;
            ngx_webtorch_torch_get_storage(&file, tensor, offset, data[tensor],
                          layout->rows * (size_t) specs[tensor].row_size);
        }

        if (i == n) {
            p = ngx_webtorch_torch_write_entry(p, &file, offset);

        } else if (k == NGX_WEBTORCH_TORCH_NFILES + i) {
            p = ngx_webtorch_torch_write_header(p, &file);

        } else if (k < NGX_WEBTORCH_TORCH_NFILES && i == 0) {
            p = ngx_webtorch_torch_write_file(p, &file);
        }

        offset += NGX_WEBTORCH_ZIP_LOCAL_LEN + file.zip.name_len
                  + file.zip.extra + file.zip.len;
    }

    if (i == n) {
        p = ngx_webtorch_zip_end(p, NGX_WEBTORCH_TORCH_NFILES + n, offset,
                                 (size_t) (p - start));
    }

    return p;
}
