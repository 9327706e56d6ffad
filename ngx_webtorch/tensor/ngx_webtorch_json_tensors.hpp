
/*
 * Tensors of a JSON document, one value each: the format JSON and the inference
 * protocol find them in different members.
 */


#ifndef _NGX_WEBTORCH_JSON_TENSORS_HPP_INCLUDED_
#define _NGX_WEBTORCH_JSON_TENSORS_HPP_INCLUDED_


#include "ngx_webtorch_json_read.hpp"


namespace webtorch::json {


/* an input as the document has it */

struct Found {
    element   value;
    uint32_t  rows;
    bool      single;
};


/*
 * Adds the value of input i, and its bit to *seen.  A null of an optional input
 * counts as missing.  -1: it was found before, err is set.
 */
int add_found(const Decoder &d, uint32_t i, const element &value, Found *found,
    uint32_t *seen);

/* decodes the inputs whose bits are in seen as a codec does */
int decode_tensors(const Decoder &d, Found *found, uint32_t seen);


} /* namespace webtorch::json */


#endif /* _NGX_WEBTORCH_JSON_TENSORS_HPP_INCLUDED_ */
