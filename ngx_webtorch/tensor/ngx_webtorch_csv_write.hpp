
/*
 * Writes CSV.
 */


#ifndef _NGX_WEBTORCH_CSV_WRITE_HPP_INCLUDED_
#define _NGX_WEBTORCH_CSV_WRITE_HPP_INCLUDED_


#include "ngx_webtorch_codec.h"


namespace webtorch::csv {


/* the codec's bound() and encode() */
size_t bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout);
char *encode(char *p, const webtorch_spec_t *specs, uint32_t n,
    const void *const *data, const ngx_webtorch_layout_t *layout);


} /* namespace webtorch::csv */


#endif /* _NGX_WEBTORCH_CSV_WRITE_HPP_INCLUDED_ */
