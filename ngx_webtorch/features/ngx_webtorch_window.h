
/*
 * Windows: a field as short runs of tokens, each of which has numbers that a
 * model looks up.  A long text has many windows, so that an attack in it weighs
 * as much as one that is alone.
 */


#ifndef _NGX_WEBTORCH_WINDOW_H_INCLUDED_
#define _NGX_WEBTORCH_WINDOW_H_INCLUDED_


#include "ngx_webtorch_fields.h"
#include "ngx_webtorch_traits.h"


/* numbers are 1 to this, 0 stands for none */
#define NGX_WEBTORCH_WINDOW_NUMBERS  ((1 << 20) - 1)

/* numbers of a request, and of its shortest row */
#define NGX_WEBTORCH_MAX_NUMBERS     65536
#define NGX_WEBTORCH_MIN_NUMBERS     256

/* tokens of a window, and those that the next one repeats */
#define NGX_WEBTORCH_WINDOW_TOKENS   24
#define NGX_WEBTORCH_WINDOW_REPEAT   8

/* a text that repeats itself after as many tokens has no other windows */
#define NGX_WEBTORCH_WINDOW_HASHES   32

/* numbers of a token at most, and those that a window has besides */
#define NGX_WEBTORCH_WINDOW_TOKEN    7
#define NGX_WEBTORCH_WINDOW_CONTEXT  64


typedef struct {
    uint32_t   shape;
    uint32_t   word;
    uint32_t   begin;                     /* in the value, bytes */
    uint32_t   run;                       /* bytes */
    uint32_t   prefix;                    /* of two letters; 0: none */
    uint32_t   nnumbers;
    int32_t    numbers[NGX_WEBTORCH_WINDOW_TOKEN];
} ngx_webtorch_window_token_t;


/* where the token of a number is in the value of its field */

typedef struct {
    int32_t    begin;
    int32_t    len;                       /* 0: the number is of no token */
} ngx_webtorch_window_span_t;


/* rows of a request, which the caller has set to its memory */

typedef struct {
    int32_t                      *numbers;
    int32_t                      *windows;   /* the window of each number */
    uint32_t                      size;      /* of both */
    uint32_t                      count;     /* numbers in them */
    uint32_t                      nwindows;
    uint32_t                      nfields;

    /* the field of each window; NULL: not needed */
    int32_t                      *fields;
    uint32_t                      fields_size;

    /* traits of the field of each window, and names; NULL: not needed */
    ngx_webtorch_traits_t        *traits;
    ngx_webtorch_names_t         *names;

    /* the token of each number; NULL: not needed */
    ngx_webtorch_window_span_t   *spans;

    /* not all fields are in the rows, or not all windows have traits */
    uint32_t                      full;

    /* hashes of the field's last windows, and positions of their numbers */
    uint32_t                      nhashes;
    uint32_t                      hashes[NGX_WEBTORCH_WINDOW_HASHES];
    uint32_t                      places[NGX_WEBTORCH_WINDOW_HASHES];

    uint32_t                      ntokens;
    ngx_webtorch_window_token_t   tokens[NGX_WEBTORCH_WINDOW_TOKENS];
} ngx_webtorch_windows_t;


void ngx_webtorch_windows_init(ngx_webtorch_windows_t *windows,
    int32_t *numbers, int32_t *rows, uint32_t size);

/* a handler of fields, whose data are windows */
void ngx_webtorch_windows_field(void *data, const ngx_webtorch_field_t *field);

/* the last window, of the request as a whole */
void ngx_webtorch_windows_request(ngx_webtorch_windows_t *windows,
    const ngx_webtorch_fields_t *fields, const ngx_webtorch_part_t *method);

/* length of a row with room for all; one of few, so that batches are large */
uint32_t ngx_webtorch_windows_size(const ngx_webtorch_windows_t *windows);

/* rows of n elements: numbers, then 0; and the window of each, then the last */
void ngx_webtorch_features_numbers(int32_t *row, uint32_t n,
    const ngx_webtorch_windows_t *windows);
void ngx_webtorch_features_windows(int64_t *row, uint32_t n,
    const ngx_webtorch_windows_t *windows);


#endif /* _NGX_WEBTORCH_WINDOW_H_INCLUDED_ */
