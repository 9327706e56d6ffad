
/*
 * A request's windows as a net scores them.  What is read of a request is its
 * headers, parameters and other parts, most of which were in requests before:
 * the windows of these are in a memo.
 */


#ifndef _NGX_WEBTORCH_SCORED_H_INCLUDED_
#define _NGX_WEBTORCH_SCORED_H_INCLUDED_


#include "ngx_webtorch_fields.h"
#include "ngx_webtorch_learned.h"
#include "ngx_webtorch_memo.h"
#include "ngx_webtorch_net.h"
#include "ngx_webtorch_traits.h"


/*
 * Numbers of a request.  Windows that repeat themselves depend on those before
 * only beyond that, so each field can be read by itself.
 */
#define NGX_WEBTORCH_SCORED_NUMBERS  (NGX_WEBTORCH_MAX_NUMBERS / 2)

/* windows of the shortest row */
#define NGX_WEBTORCH_MIN_WINDOWS     16


typedef struct {
    float                           logit;
    uint32_t                        kind;
    uint32_t                        trait;     /* a hash of its field */
    int32_t                         len;       /* of the value, in bytes */
    int32_t                         alphabet;
    uint32_t                        nnumbers;
    uint64_t                        print;     /* of its numbers, not 0 */
} ngx_webtorch_scored_window_t;


/* memo entry: the windows that a part or a field adds to a request */

#define NGX_WEBTORCH_SCORED_KEPT     255

typedef struct {
    uint32_t                        flaws;     /* NGX_WEBTORCH_FLAW_... */
    uint32_t                        unread;
    ngx_webtorch_scored_window_t    windows[NGX_WEBTORCH_SCORED_KEPT];
} ngx_webtorch_scored_kept_t;


/* the windows of a request, as a row of features or a score needs them */

typedef struct {
    float                           shift;     /* of the net */
    uint32_t                        address;   /* a hash of the path */
    uint32_t                        nwindows;
    ngx_webtorch_scored_window_t   *windows;
} ngx_webtorch_scored_list_t;


typedef struct {
    ngx_webtorch_part_t             name;
    ngx_webtorch_part_t             value;
} ngx_webtorch_scored_header_t;


typedef struct {
    const ngx_webtorch_net_t       *net;
    ngx_webtorch_memo_t            *memo;
    ngx_webtorch_fields_t          *fields;

    ngx_webtorch_scored_list_t      found;
    uint32_t                        nnumbers;
    uint32_t                        full;      /* it has more numbers or
                                                  windows than there is room */
    uint32_t                        within;    /* a part that is kept */

    ngx_webtorch_memo_key_t         key;       /* of a part, and of a field */
    ngx_webtorch_memo_key_t         field_key;
    ngx_webtorch_memo_key_t         headers_key;
    ngx_webtorch_scored_kept_t      kept;

    /* windows of one field */
    ngx_webtorch_windows_t          windows;
    int32_t                         numbers[NGX_WEBTORCH_MAX_NUMBERS];
    int32_t                         rows[NGX_WEBTORCH_MAX_NUMBERS];

    ngx_webtorch_scored_window_t    memory[NGX_WEBTORCH_MAX_TRAITS];
} ngx_webtorch_scored_t;


/* inputs of the score other than the request */

typedef struct {
    const webtorch_learned_t            *learned;  /* NULL: no tables of a
                                                      site */
    const ngx_webtorch_learned_marks_t  *marks;    /* NULL: none */
    int64_t                              location;
    float                                target;
} ngx_webtorch_scored_site_t;


/* a score, and where it comes from */

typedef struct {
    double                          score;
    uint32_t                        window;    /* the worst one */
    char                            kind[WEBTORCH_KIND_LEN];
} ngx_webtorch_scored_result_t;


/* begins a request; the fields were initialized by it, and have work memory */
void ngx_webtorch_scored_init(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_net_t *net, ngx_webtorch_memo_t *memo,
    ngx_webtorch_fields_t *fields);

/* the parts of a request in this order, as the functions of fields have them */
void ngx_webtorch_scored_path(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *path);
void ngx_webtorch_scored_query(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *query);
void ngx_webtorch_scored_headers(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_scored_header_t *headers, uint32_t n);
void ngx_webtorch_scored_body(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *type, const ngx_webtorch_part_t *body);
void ngx_webtorch_scored_request(ngx_webtorch_scored_t *scored,
    const ngx_webtorch_part_t *method);

void ngx_webtorch_scored_result(const ngx_webtorch_net_t *net,
    const ngx_webtorch_scored_list_t *list,
    const ngx_webtorch_scored_site_t *site,
    ngx_webtorch_scored_result_t *result);


/* whether fields or the address are in no table yet; learned: or NULL */
int ngx_webtorch_scored_is_new(const ngx_webtorch_scored_list_t *list,
    const webtorch_learned_t *learned);

/* length of a row with room for all; one of few, so that batches are large */
uint32_t ngx_webtorch_scored_size(const ngx_webtorch_scored_list_t *list);

/* rows of n elements; of windows that are not there: minus infinity, and 0 */
void ngx_webtorch_features_logits(float *row, uint32_t n,
    const ngx_webtorch_scored_list_t *list);
void ngx_webtorch_features_prints(int64_t *row, uint32_t n,
    const ngx_webtorch_scored_list_t *list);

/* NGX_WEBTORCH_TRAIT times n elements */
void ngx_webtorch_features_scored_traits(int32_t *row, uint32_t n,
    const ngx_webtorch_scored_list_t *list);


#endif /* _NGX_WEBTORCH_SCORED_H_INCLUDED_ */
