
/*
 * What torch.save() writes, a zip archive: the object as a pickle, in which the
 * storages of tensors are references to the archive's other files.  Nothing is
 * unpickled here: Python does, when the archive has been checked.
 */

#include "ngx_webtorch_array.h"
#include "ngx_webtorch_zip.h"

#include <string.h>
#include <zlib.h>


#define NGX_WEBTORCH_TORCH_PICKLE      "data.pkl"
#define NGX_WEBTORCH_TORCH_DATA        "data/"
#define NGX_WEBTORCH_TORCH_DATA_LEN    (sizeof(NGX_WEBTORCH_TORCH_DATA) - 1)
#define NGX_WEBTORCH_TORCH_DIRECTORY   "archive/"

/* the pickle of a request: some hundred bytes for each tensor */
#define NGX_WEBTORCH_TORCH_MAX_PICKLE  65536

/* digits of a storage's number */
#define NGX_WEBTORCH_TORCH_DIGITS      9

/* of an answer: what a tensor is in the pickle, and the names of files */
#define NGX_WEBTORCH_TORCH_ENTRY_LEN   (512 + WEBTORCH_NAME_LEN)
#define NGX_WEBTORCH_TORCH_NAME_LEN    32

/* so that a file can be mapped */
#define NGX_WEBTORCH_TORCH_ALIGNMENT   64

/* of an answer, in front of the storages */
#define NGX_WEBTORCH_TORCH_NFILES      3

#define NGX_WEBTORCH_TORCH_FILE_LEN                                           \
    (NGX_WEBTORCH_ZIP_LOCAL_LEN + NGX_WEBTORCH_ZIP_CENTRAL_LEN                \
     + 2 * NGX_WEBTORCH_TORCH_NAME_LEN                                        \
     + NGX_WEBTORCH_TORCH_ALIGNMENT + NGX_WEBTORCH_ZIP_EXTRA_LEN)

#define ngx_webtorch_torch_put(p, text)                                       \
    ngx_webtorch_torch_write(p, text, sizeof(text) - 1)


#define ngx_webtorch_torch_pickle_len(n)                                      \
    (16 + (n) * (size_t) NGX_WEBTORCH_TORCH_ENTRY_LEN)


typedef struct {
    size_t  len;
    char    text[ngx_webtorch_torch_pickle_len(WEBTORCH_MAX_TENSORS)];
} ngx_webtorch_torch_pickle_t;


/* a file of an archive that is written */

typedef struct {
    ngx_webtorch_zip_member_t   zip;
    char                        name[NGX_WEBTORCH_TORCH_NAME_LEN];
    const void                 *data;
} ngx_webtorch_torch_file_t;


/* files of an archive besides the storages, as torch has named them so far */

static const char  *const ngx_webtorch_torch_names[] = {
    NGX_WEBTORCH_TORCH_PICKLE, "byteorder", "version", ".format_version",
    ".storage_alignment", ".data/serialization_id", NULL
};


/* torch's classes, by ngx_webtorch_dtypes[]; NULL: newer than those */

static const char  *const ngx_webtorch_torch_storages[NGX_WEBTORCH_NDTYPES] = {
    "BoolStorage", "ByteStorage", NULL, NULL, NULL, "CharStorage",
    "ShortStorage", "IntStorage", "LongStorage", "HalfStorage",
    "BFloat16Storage", "FloatStorage", "DoubleStorage"
};


static int
ngx_webtorch_torch_bad(ngx_webtorch_error_t *err,
    const ngx_webtorch_zip_member_t *member, const char *what)
{
    return ngx_webtorch_error(err, 400, "malformed_body",
                              "invalid torch.save() file: member \"%.*s\": %s",
                              (int) (member->name_len < 64 ? member->name_len
                                                           : 64),
                              member->name, what);
}


static int
ngx_webtorch_torch_is(const char *name, size_t len, const char *known)
{
    return len == strlen(known) && memcmp(name, known, len) == 0;
}


/*
 * Names are what they are in torch's files, because it finds files regardless
 * of case, and might so read one many times.
 */

static int
ngx_webtorch_torch_known(const char *name, size_t len)
{
    size_t       i;
    const char  *const *known;

    for (known = ngx_webtorch_torch_names; *known; known++) {
        if (ngx_webtorch_torch_is(name, len, *known)) {
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


/* the length of the name of the directory that all files are in */

static size_t
ngx_webtorch_torch_directory(const ngx_webtorch_zip_member_t *member)
{
    const char  *slash;

    slash = memchr(member->name, '/', member->name_len);

    return slash ? (size_t) (slash - member->name) + 1 : 0;
}


/*
 * Members of an archive that is opened do not overlap, and here none is
 * compressed: all that torch may read of it is no more than the body.
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
            return ngx_webtorch_torch_bad(err, &member, "it is compressed");
        }

        if (directory == NULL) {
            directory = member.name;
            size = ngx_webtorch_torch_directory(&member);
        }

        if (size == 0
            || member.name_len < size
            || memcmp(member.name, directory, size) != 0)
        {
            return ngx_webtorch_torch_bad(err, &member,
                                          "it is in no directory, or another "
                                          "than the others");
        }

        name = member.name + size;

        if (!ngx_webtorch_torch_known(name, member.name_len - size)) {
            return ngx_webtorch_torch_bad(err, &member,
                                          "it is not of such a file");
        }

        if (!ngx_webtorch_torch_is(name, member.name_len - size,
                                   NGX_WEBTORCH_TORCH_PICKLE))
        {
            continue;
        }

        pickles++;

        if (member.size > NGX_WEBTORCH_TORCH_MAX_PICKLE) {
            return ngx_webtorch_torch_bad(err, &member,
                                          "it is larger than tensors need");
        }
    }

    if (pickles != 1) {
        return ngx_webtorch_error(err, 400, "malformed_body",
                                  "invalid torch.save() file: not one "
                                  "\"%s\"", NGX_WEBTORCH_TORCH_PICKLE);
    }

    return 0;
}


/* the pickle of an answer, in protocol 2, as torch has it */

static char *
ngx_webtorch_torch_write(char *p, const char *data, size_t len)
{
    memcpy(p, data, len);

    return p + len;
}


/* BINUNICODE */

static char *
ngx_webtorch_torch_string(char *p, const char *text)
{
    uint32_t  len;

    len = (uint32_t) strlen(text);

    *p++ = 'X';
    memcpy(p, &len, sizeof(uint32_t));

    return ngx_webtorch_torch_write(p + sizeof(uint32_t), text, len);
}


/* LONG1 */

static char *
ngx_webtorch_torch_number(char *p, int64_t n)
{
    *p++ = '\x8a';
    *p++ = (char) sizeof(int64_t);
    memcpy(p, &n, sizeof(int64_t));

    return p + sizeof(int64_t);
}


/* GLOBAL */

static char *
ngx_webtorch_torch_global(char *p, const char *module, const char *name)
{
    *p++ = 'c';
    p = ngx_webtorch_torch_write(p, module, strlen(module));
    *p++ = '\n';
    p = ngx_webtorch_torch_write(p, name, strlen(name));
    *p++ = '\n';

    return p;
}


/* digits of a number below 100 */

static char *
ngx_webtorch_torch_digits(char *p, uint32_t i)
{
    if (i > 9) {
        *p++ = (char) ('0' + i / 10);
    }

    *p++ = (char) ('0' + i % 10);

    return p;
}


/* a call of the function that torch calls for it, with MARK ... TUPLE REDUCE */

static char *
ngx_webtorch_torch_tensor(char *p, const webtorch_spec_t *spec, uint32_t i,
    const ngx_webtorch_layout_t *layout)
{
    char         key[4];
    int64_t      shape[NGX_WEBTORCH_ARRAY_DIMS];
    int64_t      strides[NGX_WEBTORCH_ARRAY_DIMS];
    int64_t      elements;
    uint32_t     ndim, k;
    const char  *storage;

    ndim = ngx_webtorch_array_shape(shape, spec, layout);
    storage = ngx_webtorch_torch_storages[spec->dtype];
    *ngx_webtorch_torch_digits(key, i) = '\0';

    for (elements = 1, k = ndim; k > 0; k--) {
        strides[k - 1] = elements;
        elements *= shape[k - 1];
    }

    p = ngx_webtorch_torch_global(p, "torch._utils",
                                  storage ? "_rebuild_tensor_v2"
                                          : "_rebuild_tensor_v3");
    p = ngx_webtorch_torch_put(p, "((");

    /* a persistent id: the storage */

    p = ngx_webtorch_torch_string(p, "storage");

    if (storage) {
        p = ngx_webtorch_torch_global(p, "torch", storage);

    } else {
        p = ngx_webtorch_torch_global(p, "torch.storage", "UntypedStorage");
        elements *= ngx_webtorch_dtypes[spec->dtype].size;
    }

    p = ngx_webtorch_torch_string(p, key);
    p = ngx_webtorch_torch_string(p, "cpu");
    p = ngx_webtorch_torch_number(p, elements);
    p = ngx_webtorch_torch_put(p, "tQ");

    /* offset, sizes, strides, requires_grad, hooks */

    p = ngx_webtorch_torch_number(p, 0);
    *p++ = '(';

    for (k = 0; k < ndim; k++) {
        p = ngx_webtorch_torch_number(p, shape[k]);
    }

    p = ngx_webtorch_torch_put(p, "t(");

    for (k = 0; k < ndim; k++) {
        p = ngx_webtorch_torch_number(p, strides[k]);
    }

    p = ngx_webtorch_torch_put(p, "t\x89");
    p = ngx_webtorch_torch_global(p, "collections", "OrderedDict");
    p = ngx_webtorch_torch_put(p, ")R");

    if (storage == NULL) {
        p = ngx_webtorch_torch_global(p, "torch",
                                      ngx_webtorch_dtypes[spec->dtype].name);
    }

    return ngx_webtorch_torch_put(p, "tR");
}


/* a tensor, or a dict of tensors */

static void
ngx_webtorch_torch_write_pickle(ngx_webtorch_torch_pickle_t *pickle,
    const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    char      *p;
    uint32_t   i, named;

    named = layout->named || n != 1;
    p = ngx_webtorch_torch_put(pickle->text, "\x80\x02");

    if (named) {
        p = ngx_webtorch_torch_put(p, "}(");
    }

    for (i = 0; i < n; i++) {
        if (named) {
            p = ngx_webtorch_torch_string(p, specs[i].name);
        }

        p = ngx_webtorch_torch_tensor(p, &specs[i], i, layout);
    }

    if (named) {
        *p++ = 'u';
    }

    *p++ = '.';

    pickle->len = (size_t) (p - pickle->text);
}


static void
ngx_webtorch_torch_file(ngx_webtorch_torch_file_t *file, const char *name,
    const void *data, size_t len)
{
    char  *p;

    p = ngx_webtorch_torch_put(file->name, NGX_WEBTORCH_TORCH_DIRECTORY);
    p = ngx_webtorch_torch_write(p, name, strlen(name));

    file->data = data;

    file->zip.name = file->name;
    file->zip.name_len = (size_t) (p - file->name);
    file->zip.extra = 0;
    file->zip.len = (uint32_t) len;
    file->zip.size = (uint32_t) len;
}


/* the k-th file of an archive, at an offset in it */

static void
ngx_webtorch_torch_nth(ngx_webtorch_torch_file_t *file, uint32_t k,
    size_t offset, const ngx_webtorch_torch_pickle_t *pickle,
    const webtorch_spec_t *specs, const void *const *data,
    const ngx_webtorch_layout_t *layout)
{
    char    name[NGX_WEBTORCH_TORCH_DATA_LEN + 4];
    size_t  past;

    switch (k) {

    case 0:
        ngx_webtorch_torch_file(file, NGX_WEBTORCH_TORCH_PICKLE, pickle->text,
                                pickle->len);
        return;

    case 1:
        ngx_webtorch_torch_file(file, "byteorder", "little", 6);
        return;

    case 2:
        ngx_webtorch_torch_file(file, "version", "3\n", 2);
        return;
    }

    k -= NGX_WEBTORCH_TORCH_NFILES;

    *ngx_webtorch_torch_digits(ngx_webtorch_torch_put(name,
                                                     NGX_WEBTORCH_TORCH_DATA),
                               k) = '\0';

    ngx_webtorch_torch_file(file, name, data[k],
                            layout->rows * (size_t) specs[k].row_size);

    offset += NGX_WEBTORCH_ZIP_LOCAL_LEN + file->zip.name_len
              + NGX_WEBTORCH_ZIP_EXTRA_LEN;
    past = offset % NGX_WEBTORCH_TORCH_ALIGNMENT;

    file->zip.extra = NGX_WEBTORCH_ZIP_EXTRA_LEN
                      + (past ? NGX_WEBTORCH_TORCH_ALIGNMENT - past : 0);
}


static char *
ngx_webtorch_torch_header(char *p, ngx_webtorch_torch_file_t *file)
{
    file->zip.crc = (uint32_t) crc32_z(0, file->data, file->zip.len);

    return ngx_webtorch_zip_local(p, &file->zip);
}


static char *
ngx_webtorch_torch_whole(char *p, ngx_webtorch_torch_file_t *file)
{
    p = ngx_webtorch_torch_header(p, file);

    return ngx_webtorch_torch_write(p, file->data, file->zip.len);
}


static char *
ngx_webtorch_torch_entry(char *p, ngx_webtorch_torch_file_t *file,
    size_t offset)
{
    file->zip.crc = (uint32_t) crc32_z(0, file->data, file->zip.len);

    return ngx_webtorch_zip_central(p, &file->zip, offset);
}


/* there is no memory of the size that is said of an answer too large for zip */

static size_t
ngx_webtorch_torch_bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size, frames;
    uint32_t  i;

    frames = NGX_WEBTORCH_ZIP_END_LEN + ngx_webtorch_torch_pickle_len(n)
             + (NGX_WEBTORCH_TORCH_NFILES + n)
               * (size_t) NGX_WEBTORCH_TORCH_FILE_LEN;
    size = frames;

    for (i = 0; i < n; i++) {
        size += layout->rows * (size_t) specs[i].row_size;
    }

    return (size <= NGX_WEBTORCH_ZIP_MAX) ? frames : SIZE_MAX / 2;
}


/*
 * In front of the first tensor are the other files, too, and after the last
 * one is the directory.  Nothing is kept between calls: the pickle is written
 * for each, as the offsets need its length, and checksums are computed twice.
 */

static char *
ngx_webtorch_torch_frame(char *p, const webtorch_spec_t *specs, uint32_t n,
    uint32_t i, const void *const *data, const ngx_webtorch_layout_t *layout)
{
    char                         *start;
    size_t                        offset;
    uint32_t                      k;
    ngx_webtorch_torch_file_t     file;
    ngx_webtorch_torch_pickle_t   pickle;

    start = p;
    offset = 0;

    ngx_webtorch_torch_write_pickle(&pickle, specs, n, layout);

    for (k = 0; k < NGX_WEBTORCH_TORCH_NFILES + n; k++) {
        ngx_webtorch_torch_nth(&file, k, offset, &pickle, specs, data, layout);

        if (i == n) {
            p = ngx_webtorch_torch_entry(p, &file, offset);

        } else if (k == NGX_WEBTORCH_TORCH_NFILES + i) {
            p = ngx_webtorch_torch_header(p, &file);

        } else if (k < NGX_WEBTORCH_TORCH_NFILES && i == 0) {
            p = ngx_webtorch_torch_whole(p, &file);
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


const ngx_webtorch_codec_t  ngx_webtorch_codec_torch = {
    .name = "torch",
    .types = { "application/x-pytorch", "application/vnd.pytorch" },
    .several = 1,
    .bound = ngx_webtorch_torch_bound,
    .frame = ngx_webtorch_torch_frame,
    .check = ngx_webtorch_torch_check
};
