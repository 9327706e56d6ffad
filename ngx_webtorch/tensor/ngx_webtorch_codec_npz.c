
/*
 * .npz: arrays by name as numpy.savez() and numpy.savez_compressed() write
 * them, a zip archive with a .npy file for each.  Answers are not compressed.
 */

#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_npy.h"
#include "ngx_webtorch_zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>


#define NGX_WEBTORCH_NPZ_SUFFIX      ".npy"
#define NGX_WEBTORCH_NPZ_SUFFIX_LEN  4

/* bytes of an answer's tensor without its rows; it has its name twice */
#define NGX_WEBTORCH_NPZ_LEN                                                  \
    (NGX_WEBTORCH_ZIP_LOCAL_LEN + NGX_WEBTORCH_ZIP_CENTRAL_LEN                \
     + NGX_WEBTORCH_NPY_LEN                                                   \
     + 2 * (WEBTORCH_NAME_LEN + NGX_WEBTORCH_NPZ_SUFFIX_LEN))


/* the inputs that a body has */

typedef struct {
    uint32_t                    seen;     /* bits of inputs */
    ngx_webtorch_array_t        arrays[WEBTORCH_MAX_TENSORS];
    ngx_webtorch_zip_file_t     files[WEBTORCH_MAX_TENSORS];
} ngx_webtorch_npz_inputs_t;


/* a member of an answer */

typedef struct {
    ngx_webtorch_zip_member_t   zip;
    char                        name[WEBTORCH_NAME_LEN
                                     + NGX_WEBTORCH_NPZ_SUFFIX_LEN];
    char                        header[NGX_WEBTORCH_NPY_LEN];
    size_t                      len;      /* bytes of the header */
} ngx_webtorch_npz_t;


static size_t ngx_webtorch_npz_len(const ngx_webtorch_zip_member_t *member);
static int ngx_webtorch_npz_read(ngx_webtorch_zip_t *zip,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_npz_inputs_t *inputs);
static int ngx_webtorch_npz_slow(const char *body, size_t len);
static int ngx_webtorch_npz_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static size_t ngx_webtorch_npz_bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout);
static void ngx_webtorch_npz_member(ngx_webtorch_npz_t *npz,
    const webtorch_spec_t *spec, const void *data,
    const ngx_webtorch_layout_t *layout);
static char *ngx_webtorch_npz_directory(char *p, const webtorch_spec_t *specs,
    uint32_t n, const void *const *data, const ngx_webtorch_layout_t *layout);
static char *ngx_webtorch_npz_frame(char *p, const webtorch_spec_t *specs,
    uint32_t n, uint32_t i, const void *const *data,
    const ngx_webtorch_layout_t *layout);


const ngx_webtorch_codec_t  ngx_webtorch_codec_npz = {
    .name = "npz",
    .types = { "application/x-npz", "application/npz" },
    .several = 1,
    .decode = ngx_webtorch_npz_decode,
    .bound = ngx_webtorch_npz_bound,
    .frame = ngx_webtorch_npz_frame,
    .slow = ngx_webtorch_npz_slow,
    .summed = 1
};


/* returns the length of an array's name; as for NumPy, there may be no suffix */

static size_t
ngx_webtorch_npz_len(const ngx_webtorch_zip_member_t *member)
{
    size_t  len;

    len = member->name_len;

    if (len >= NGX_WEBTORCH_NPZ_SUFFIX_LEN
        && memcmp(member->name + len - NGX_WEBTORCH_NPZ_SUFFIX_LEN,
                  NGX_WEBTORCH_NPZ_SUFFIX, NGX_WEBTORCH_NPZ_SUFFIX_LEN)
           == 0)
    {
        len -= NGX_WEBTORCH_NPZ_SUFFIX_LEN;
    }

    return len;
}


static int
ngx_webtorch_npz_read(ngx_webtorch_zip_t *zip, const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_npz_inputs_t *inputs)
{
    size_t                      limit;
    uint32_t                    i;
    ngx_webtorch_zip_file_t    *file;
    ngx_webtorch_zip_member_t   member;

    limit = sink->limit;

    while (zip->left) {

        if (ngx_webtorch_zip_next(zip, &member) != 0) {
            return -1;
        }

        i = ngx_webtorch_find_input(schema, member.name,
                                    ngx_webtorch_npz_len(&member));

        if (i == schema->ninputs) {
            return ngx_webtorch_error_unknown(zip->err, member.name,
                                              ngx_webtorch_npz_len(&member),
                                              schema->inputs,
                                              schema->ninputs);
        }

        if (inputs->seen & (1u << i)) {
            return ngx_webtorch_error_duplicate(zip->err, &schema->inputs[i]);
        }

        inputs->seen |= 1u << i;
        file = &inputs->files[i];

        if (member.deflated && member.size <= limit && sink->inflate
            && sink->inflate(sink, member.size, zip->err) != 0)
        {
            return -1;
        }

        if (ngx_webtorch_zip_read(zip, &member, &limit, file) != 0) {
            return -1;
        }

        if (ngx_webtorch_npy_parse(file->data, file->len,
                                   schema->inputs[i].name, &inputs->arrays[i],
                                   zip->err)
            != 0)
        {
            return -1;
        }
    }

    return 0;
}


/* members are not inflated to more than their sizes in the directory */

static int
ngx_webtorch_npz_slow(const char *body, size_t len)
{
    size_t                     size, deflated;
    uint32_t                   n;
    ngx_webtorch_zip_t         zip;
    ngx_webtorch_error_t       err;
    ngx_webtorch_zip_member_t  member;

    if (len >= NGX_WEBTORCH_LARGE_TEXT) {
        /* the checksums of the members */
        return 1;
    }

    if (ngx_webtorch_zip_open(&zip, ".npz", body, len, &err) != 0) {
        return 0;
    }

    size = 0;
    deflated = 0;

    /* decoding ends at the first member that is not an input */

    for (n = 0; n < WEBTORCH_MAX_TENSORS && zip.left; n++) {

        if (ngx_webtorch_zip_next(&zip, &member) != 0) {
            break;
        }

        if (member.deflated) {
            size += member.size;
            deflated += member.len;
        }
    }

    return size >= NGX_WEBTORCH_LARGE_TEXT
           || deflated >= NGX_WEBTORCH_LARGE_DEFLATED;
}


static int
ngx_webtorch_npz_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    int                        rc;
    uint32_t                   i;
    ngx_webtorch_zip_t         zip;
    ngx_webtorch_npz_inputs_t  inputs;

    if (ngx_webtorch_zip_open(&zip, ".npz", body, len, err) != 0) {
        return -1;
    }

    layout->named = 1;

    inputs.seen = 0;
    memset(inputs.files, 0, sizeof(inputs.files));

    rc = ngx_webtorch_npz_read(&zip, schema, sink, &inputs);

    if (rc == 0) {
        rc = ngx_webtorch_arrays_read(inputs.arrays, inputs.seen, schema, sink,
                                      layout, err);
    }

    for (i = 0; i < schema->ninputs; i++) {
        ngx_webtorch_buffer_free(inputs.files[i].inflated);
    }

    return rc;
}


/*
 * For an answer too large for zip the bound is SIZE_MAX / 2, a size that cannot
 * be allocated.
 */

static size_t
ngx_webtorch_npz_bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size, frames;
    uint32_t  i;

    frames = NGX_WEBTORCH_ZIP_END_LEN + n * (size_t) NGX_WEBTORCH_NPZ_LEN;
    size = frames;

    for (i = 0; i < n; i++) {
        size += layout->rows * (size_t) specs[i].row_size;
    }

    return (size <= NGX_WEBTORCH_ZIP_MAX) ? frames : SIZE_MAX / 2;
}


static void
ngx_webtorch_npz_member(ngx_webtorch_npz_t *npz, const webtorch_spec_t *spec,
    const void *data, const ngx_webtorch_layout_t *layout)
{
    size_t  len, size;
    uLong   crc;

    len = strlen(spec->name);
    memcpy(npz->name, spec->name, len);
    memcpy(npz->name + len, NGX_WEBTORCH_NPZ_SUFFIX,
           NGX_WEBTORCH_NPZ_SUFFIX_LEN);

    npz->len = (size_t) (ngx_webtorch_npy_header(npz->header, spec, layout)
                         - npz->header);

    size = layout->rows * (size_t) spec->row_size;

    crc = crc32_z(0, (const Bytef *) npz->header, npz->len);
    crc = crc32_z(crc, data, size);

    npz->zip.name = npz->name;
    npz->zip.name_len = len + NGX_WEBTORCH_NPZ_SUFFIX_LEN;
    npz->zip.extra = 0;
    npz->zip.len = (uint32_t) (npz->len + size);
    npz->zip.size = npz->zip.len;
    npz->zip.crc = (uint32_t) crc;
}


static char *
ngx_webtorch_npz_directory(char *p, const webtorch_spec_t *specs, uint32_t n,
    const void *const *data, const ngx_webtorch_layout_t *layout)
{
    char                *start;
    size_t               offset;
    uint32_t             i;
    ngx_webtorch_npz_t   npz;

    start = p;
    offset = 0;

    for (i = 0; i < n; i++) {
        ngx_webtorch_npz_member(&npz, &specs[i], data[i], layout);

        p = ngx_webtorch_zip_central(p, &npz.zip, offset);
        offset += NGX_WEBTORCH_ZIP_LOCAL_LEN + npz.zip.name_len + npz.zip.len;
    }

    return ngx_webtorch_zip_end(p, n, offset, (size_t) (p - start));
}


/*
 * A checksum is both in a member's header and in the directory.  No state is
 * kept between calls, so it is computed twice.
 */

static char *
ngx_webtorch_npz_frame(char *p, const webtorch_spec_t *specs, uint32_t n,
    uint32_t i, const void *const *data, const ngx_webtorch_layout_t *layout)
{
    ngx_webtorch_npz_t  npz;

    if (i == n) {
        return ngx_webtorch_npz_directory(p, specs, n, data, layout);
    }

    ngx_webtorch_npz_member(&npz, &specs[i], data[i], layout);

    p = ngx_webtorch_zip_local(p, &npz.zip);
    memcpy(p, npz.header, npz.len);

    return p + npz.len;
}
