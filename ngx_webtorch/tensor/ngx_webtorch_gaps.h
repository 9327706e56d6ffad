
/*
 * Gaps in tables: inputs that a body does not have, elements that are missing.
 */


#ifndef _NGX_WEBTORCH_GAPS_H_INCLUDED_
#define _NGX_WEBTORCH_GAPS_H_INCLUDED_


#include "ngx_webtorch_codec.h"


#ifdef __cplusplus
extern "C" {
#endif


/*
 * Sets which inputs are absent by the bits of those that a body has, after
 * ngx_webtorch_unbind(); -1: one that must not be absent is, err is set.
 */
int ngx_webtorch_gaps_absent(const webtorch_schema_t *schema, uint32_t seen,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);

/*
 * Reserves rows for a layout, whose text does not count defaults yet, and
 * writes the defaults of absent inputs; no element is missing then.  -1: err
 * is set.
 */
int ngx_webtorch_gaps_reserve(const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err);

/*
 * Refuses rows whose defaults, which no bytes of a body bound, are larger than
 * the sink's limit; -1: err is set.  "elements" are those that each input that
 * is not absent has in the body at most.
 */
int ngx_webtorch_gaps_limit(const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, const ngx_webtorch_layout_t *layout,
    uint64_t elements, ngx_webtorch_error_t *err);

/*
 * Writes the default of an input to elements from p on, a whole number of rows.
 * The layout's text counts a default string once for each call.
 */
void ngx_webtorch_gaps_fill(const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, uint32_t input, void *p, uint64_t elements);

/*
 * Makes an element of an input, at p in the sink's rows, a missing one; -1:
 * elements of this input must not be missing.
 */
int ngx_webtorch_gaps_set(const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, uint32_t input, void *p);

static inline int
ngx_webtorch_gaps_has(const webtorch_schema_t *schema, uint32_t input,
    uint32_t flags)
{
    return (schema->gaps[input].flags & flags) != 0;
}


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_GAPS_H_INCLUDED_ */
