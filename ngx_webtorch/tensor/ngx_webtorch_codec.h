
/*
 * Formats of bodies.  A format is one ngx_webtorch_codec_t in a file of its own
 * and its row in ngx_webtorch_codecs[].
 */


#ifndef _NGX_WEBTORCH_CODEC_H_INCLUDED_
#define _NGX_WEBTORCH_CODEC_H_INCLUDED_


#include "ngx_webtorch_layout.h"


#ifdef __cplusplus
extern "C" {
#endif


/*
 * Bytes after a body that a parser may read, but must not interpret; see the
 * flag "padded".
 */
#define NGX_WEBTORCH_PADDING        64

#define NGX_WEBTORCH_MAX_TYPES      3

/*
 * Bytes that are decoded in less than a millisecond: of text or of what is
 * inflated, and of compressed data, where a block of 12 bytes may take 2
 * microseconds and inflate to nothing.
 */
#define NGX_WEBTORCH_LARGE_TEXT     (128 * 1024)
#define NGX_WEBTORCH_LARGE_DEFLATED (4 * 1024)


/* the destination of decoded rows */

typedef struct ngx_webtorch_sink_s  ngx_webtorch_sink_t;

struct ngx_webtorch_sink_s {
    /*
     * Makes room for the layout's rows of every input, all or none, and sets
     * data[]; -1: no room, err is set.
     */
    int         (*reserve)(ngx_webtorch_sink_t *sink,
                           const ngx_webtorch_layout_t *layout,
                           ngx_webtorch_error_t *err);
    void         *data[WEBTORCH_MAX_BUFFERS];

    /* layout->text bytes for strings, and their offset in the batch's text */
    char         *text;
    uint64_t      at;

    /*
     * Bytes that the compressed members of a body may inflate to, and defaults
     * may be filled in for.
     */
    size_t        limit;

    /*
     * Called before a member inflates to so many bytes, which are free when the
     * body is decoded; -1: no room, err is set.  NULL: there is always room.
     */
    int         (*inflate)(ngx_webtorch_sink_t *sink, size_t size,
                           ngx_webtorch_error_t *err);
};


typedef struct {
    const char   *name;
    const char   *types[NGX_WEBTORCH_MAX_TYPES];   /* media types; answers have
                                                      the first */
    unsigned      several:1;              /* can hold several tensors */
    unsigned      padded:1;               /* reads NGX_WEBTORCH_PADDING bytes
                                             after a body */
    unsigned      shapeless:1;            /* shapes are in a header */
    unsigned      strings:1;              /* can hold tensors of strings */

    /*
     * Decodes a body into rows from the sink; -1: err is set.  Lengths that the
     * body claims must be checked before memory is allocated for them.  NULL:
     * Python loads the body.
     */
    int         (*decode)(const char *body, size_t len,
                          const webtorch_schema_t *schema,
                          ngx_webtorch_sink_t *sink,
                          ngx_webtorch_layout_t *layout,
                          ngx_webtorch_error_t *err);

    /*
     * Returns an upper bound, in bytes, of what encode(), or frame() in all
     * calls, writes for layout->rows rows.  Here and below all axes of specs
     * have sizes.
     */
    size_t      (*bound)(const webtorch_spec_t *specs, uint32_t n,
                         const ngx_webtorch_layout_t *layout);

    /* encodes n tensors, whose rows begin at data[i]; returns the end */
    char       *(*encode)(char *p, const webtorch_spec_t *specs, uint32_t n,
                          const void *const *data,
                          const ngx_webtorch_layout_t *layout);

    /*
     * Replaces encode() in formats whose elements are as in memory: writes the
     * bytes in front of tensor i's rows, and with i == n those after the last
     * rows; returns the end.
     */
    char       *(*frame)(char *p, const webtorch_spec_t *specs, uint32_t n,
                         uint32_t i, const void *const *data,
                         const ngx_webtorch_layout_t *layout);

    /*
     * Replaces decode() in formats that Python loads: returns 0 if the body may
     * be given to Python; -1: err is set.
     */
    int         (*check)(const char *body, size_t len,
                         ngx_webtorch_error_t *err);

    /*
     * Returns 1 if a short body takes as long to decode as one of
     * NGX_WEBTORCH_LARGE_TEXT bytes of text.  NULL: no body does.
     */
    int         (*slow)(const char *body, size_t len);

    /*
     * Returns the bytes of a binary body that are parsed as text.  NULL: none
     * are.
     */
    size_t      (*text)(const char *body, size_t len);

    /* frame() computes checksums of all elements */
    unsigned      summed:1;

    unsigned      binary:1;               /* encode() and no text */
} ngx_webtorch_codec_t;


extern const ngx_webtorch_codec_t   ngx_webtorch_codec_arrow;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_csv;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_json;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_npy;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_npz;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_raw;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_safetensors;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_torch;
extern const ngx_webtorch_codec_t   ngx_webtorch_codec_torch7;

/* ends with NULL */
extern const ngx_webtorch_codec_t  *const ngx_webtorch_codecs[];


/* returns the length of "type/subtype", without parameters */
size_t ngx_webtorch_type_len(const char *type, size_t len);

/*
 * Returns the parameter "q=0.75" of a media range in thousandths; 1000 if there
 * is none, or a malformed one.
 */
unsigned ngx_webtorch_range_quality(const char *p, const char *end);

/* finds a format by a Content-Type header; NULL: none */
const ngx_webtorch_codec_t *ngx_webtorch_codec_by_type(const char *type,
    size_t len);

/*
 * Finds a format by an Accept header, for n tensors, of which "strings" are
 * tensors of strings.  The request's own format is preferred to others of equal
 * quality.  NULL: none is acceptable.
 */
const ngx_webtorch_codec_t *ngx_webtorch_codec_by_accept(const char *accept,
    size_t len, const ngx_webtorch_codec_t *own, uint32_t n, uint32_t strings);

/* returns 1 if a format can hold n tensors, of which "strings" are strings */
int ngx_webtorch_codec_holds(const ngx_webtorch_codec_t *codec, uint32_t n,
    uint32_t strings);

/* returns an upper bound of what the next function writes, in bytes */
size_t ngx_webtorch_codec_bound(const ngx_webtorch_codec_t *codec,
    const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout);

/*
 * Checks a text that becomes a part of one, which is followed by
 * NGX_WEBTORCH_PADDING bytes that may be read.  -1: it is not JSON, err says
 * why.
 */
int ngx_webtorch_codec_check_json(const char *text, size_t len,
    ngx_webtorch_error_t *err);

/* writes tensors in one piece, in any format; returns the end */
char *ngx_webtorch_codec_encode(const ngx_webtorch_codec_t *codec, char *p,
    const webtorch_spec_t *specs, uint32_t n, const void *const *data,
    const ngx_webtorch_layout_t *layout);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_CODEC_H_INCLUDED_ */
