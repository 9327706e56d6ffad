
/*
 * Wire formats.  A format is one file with one ngx_webtorch_codec_t and its
 * row in ngx_webtorch_codecs[].  Like tensors, codecs know neither nginx nor
 * Python; they keep no state between calls and may run in any thread.
 */


#ifndef _NGX_WEBTORCH_CODEC_H_INCLUDED_
#define _NGX_WEBTORCH_CODEC_H_INCLUDED_


#include "ngx_webtorch_tensor.h"


#ifdef __cplusplus
extern "C" {
#endif


/* readable bytes that a parser may touch, but not interpret, after a body */
#define NGX_WEBTORCH_PADDING        64

#define NGX_WEBTORCH_ERROR_LEN      512

/* the batch axis and a row's */
#define NGX_WEBTORCH_ARRAY_DIMS     (WEBTORCH_MAX_DIMS + 1)


/* a shape that is told beside a body, for formats that have none in it */

typedef struct {
    uint32_t      ndim;
    int64_t       sizes[NGX_WEBTORCH_ARRAY_DIMS];
} ngx_webtorch_shape_t;


/* how a request wrote its tensors: its answer is written alike */

typedef struct {
    uint32_t      rows;
    unsigned      single:1;               /* a row, without the batch axis */
    unsigned      named:1;                /* by name, {"x": ...} */

    /* bytes of all strings: of inputs, before their rows are reserved, or of
       outputs, before they are encoded */
    size_t        text;

    /* of variable axes that inputs have, in the order of the schema's */
    int64_t       sizes[WEBTORCH_MAX_AXES];

    /* set before a body is decoded; NULL: none was told */
    const ngx_webtorch_shape_t  *shape;
} ngx_webtorch_layout_t;


typedef struct {
    int           status;                 /* of HTTP */
    const char   *code;                   /* stable, for programs */
    char          text[NGX_WEBTORCH_ERROR_LEN];
} ngx_webtorch_error_t;


/* where decoded rows go */

typedef struct ngx_webtorch_sink_s  ngx_webtorch_sink_t;

struct ngx_webtorch_sink_s {
    /*
     * makes room for the layout's rows of every input, all or none, and sets
     * data[]; -1 and the error set: no room
     */
    int         (*reserve)(ngx_webtorch_sink_t *sink,
                           const ngx_webtorch_layout_t *layout,
                           ngx_webtorch_error_t *err);
    void         *data[WEBTORCH_MAX_TENSORS];

    /* where layout->text bytes of strings go, and where that is in the text */
    char         *text;
    uint64_t      at;

    /* what a body may inflate to, in a format that is compressed itself */
    size_t        limit;
};


#define NGX_WEBTORCH_MAX_TYPES      3


typedef struct {
    const char   *name;
    const char   *types[NGX_WEBTORCH_MAX_TYPES];   /* media types, first ours */
    unsigned      several:1;              /* can hold several tensors */
    unsigned      padded:1;               /* reads NGX_WEBTORCH_PADDING bytes
                                             after a body */
    unsigned      shapeless:1;            /* shapes are told beside a body */
    unsigned      strings:1;              /* can hold tensors of them */

    /*
     * Decodes a body into rows from the sink; -1: err is set.  Never allocates
     * by a length that the body merely claims.  NULL: Python is to load it.
     */
    int         (*decode)(const char *body, size_t len,
                          const webtorch_schema_t *schema,
                          ngx_webtorch_sink_t *sink,
                          ngx_webtorch_layout_t *layout,
                          ngx_webtorch_error_t *err);

    /*
     * an upper bound of what encode() writes for layout->rows rows, or of all
     * that frame() does, in bytes; all axes of specs have sizes here and below
     */
    size_t      (*bound)(const webtorch_spec_t *specs, uint32_t n,
                         const ngx_webtorch_layout_t *layout);

    /* encodes n tensors, whose rows begin at data[i]; returns the end */
    char       *(*encode)(char *p, const webtorch_spec_t *specs, uint32_t n,
                          const void *const *data,
                          const ngx_webtorch_layout_t *layout);

    /*
     * Instead of encode(), where elements are written as they are in memory:
     * what goes in front of tensor i's rows, and with i == n after the last.
     */
    char       *(*frame)(char *p, const webtorch_spec_t *specs, uint32_t n,
                         uint32_t i, const void *const *data,
                         const ngx_webtorch_layout_t *layout);

    /*
     * Instead of decode(): whether a body may be given to Python; -1: err is
     * set.
     */
    int         (*check)(const char *body, size_t len,
                         ngx_webtorch_error_t *err);
} ngx_webtorch_codec_t;


extern const ngx_webtorch_codec_t   ngx_webtorch_codec_json;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_npy;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_npz;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_raw;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_safetensors;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_torch;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_torch7;

/* ends with NULL */
extern const ngx_webtorch_codec_t  *const ngx_webtorch_codecs[];


/* by a Content-Type header; NULL: none */
const ngx_webtorch_codec_t *ngx_webtorch_codec_by_type(const char *type,
    size_t len);

/*
 * by an Accept header, for an answer of n tensors, among them tensors of
 * strings; the request's own format is preferred among equals; NULL: not
 * acceptable
 */
const ngx_webtorch_codec_t *ngx_webtorch_codec_by_accept(const char *accept,
    size_t len, const ngx_webtorch_codec_t *own, uint32_t n, uint32_t strings);

/* whether a format can hold n tensors, among them tensors of strings */
int ngx_webtorch_codec_holds(const ngx_webtorch_codec_t *codec, uint32_t n,
    uint32_t strings);

/* an upper bound of what the next one writes, in bytes */
size_t ngx_webtorch_codec_bound(const ngx_webtorch_codec_t *codec,
    const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout);

/* writes tensors in one piece, in any format; returns the end */
char *ngx_webtorch_codec_encode(const ngx_webtorch_codec_t *codec, char *p,
    const webtorch_spec_t *specs, uint32_t n, const void *const *data,
    const ngx_webtorch_layout_t *layout);

/*
 * Reads "2, 17, 8", or nothing for a shape without axes; -1: malformed.
 * Writes it without spaces, to NGX_WEBTORCH_SHAPE_LEN bytes; returns the end.
 */
int ngx_webtorch_parse_shape(ngx_webtorch_shape_t *shape, const char *text,
    size_t len);
char *ngx_webtorch_write_sizes(char *p, const webtorch_spec_t *spec,
    const ngx_webtorch_layout_t *layout);

/* the shape of an answer's tensor; returns the number of dimensions */
uint32_t ngx_webtorch_array_shape(int64_t *shape, const webtorch_spec_t *spec,
    const ngx_webtorch_layout_t *layout);

/* forgets the sizes of variable axes, before the first input is bound */
void ngx_webtorch_unbind(const webtorch_schema_t *schema,
    ngx_webtorch_layout_t *layout);

/*
 * Sets the sizes of variable axes by the shape of a row of an input, or
 * compares where another has set them; -1: err is set, 1: fixed axes differ.
 */
int ngx_webtorch_bind(const webtorch_schema_t *schema,
    const webtorch_spec_t *spec, const int64_t *shape,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);

/* sets the error, formatted, and returns -1 */
int ngx_webtorch_error(ngx_webtorch_error_t *err, int status, const char *code,
    const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* the error of a tensor that does not fit: status 422 and both signatures */
int ngx_webtorch_error_mismatch(ngx_webtorch_error_t *err, const char *code,
    const webtorch_schema_t *schema, const webtorch_spec_t *spec,
    const char *dtype, const char *shape);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_CODEC_H_INCLUDED_ */
