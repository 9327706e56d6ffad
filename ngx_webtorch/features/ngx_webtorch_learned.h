
/*
 * What a site's fields hold, as a model has learned it: how the logits of a
 * request's windows change there, and at which logit it is denied.  The tables
 * are those of webtorch.detect.SiteGuard, whose _seen.py and _site.py have the
 * same formulas.
 */


#ifndef _NGX_WEBTORCH_LEARNED_H_INCLUDED_
#define _NGX_WEBTORCH_LEARNED_H_INCLUDED_


#include "ngx_webtorch_api.h"


/* places for marks of operators, a power of two; half of them are used */
#define NGX_WEBTORCH_LEARNED_MARKS  8192


/* operators' marks, indexed for lookups by window */

typedef struct {
    int64_t   holders[NGX_WEBTORCH_LEARNED_MARKS];   /* fields that may hold more;
                                                        0: none */
    uint8_t   levels[NGX_WEBTORCH_LEARNED_MARKS];    /* up to this bin of logits */
} ngx_webtorch_learned_marks_t;


/* a window, as its site is asked about it */

typedef struct {
    int64_t   key;                        /* of the field at its address */
    int64_t   field;                      /* at any address */
    int64_t   address;
    int32_t   len;                        /* of the value, in bytes */
    uint32_t  alphabet;
    int64_t   print;                      /* of the window's numbers */
    float     logit;
} ngx_webtorch_learned_window_t;


/* reads the marks; returns 0 if there are none */
int ngx_webtorch_learned_read_marks(const webtorch_learned_t *learned,
    ngx_webtorch_learned_marks_t *marks);

/* whether a field is in the table */
int ngx_webtorch_learned_has(const webtorch_learned_t *learned, int64_t key);

/* the logit of a window on this site; marks: NULL if there are none */
float ngx_webtorch_learned_logit(const webtorch_learned_t *learned,
    const ngx_webtorch_learned_marks_t *marks,
    const ngx_webtorch_learned_window_t *window);

/* the logit at which a location's requests are denied; target 0: its default */
float ngx_webtorch_learned_threshold(const webtorch_learned_t *learned,
    int64_t location, float target);


#endif /* _NGX_WEBTORCH_LEARNED_H_INCLUDED_ */
